//! The verbs `Say`, `Play` and `Pause`.

use std::time::Duration;

use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::{AudioSource, Instruction, Play, SendDigits, Speech};

use crate::element::Element;
use crate::flavour::{Meaning, Rule};
use crate::reader::Reader;
use crate::{code, party};

/// Duration of each DTMF tone that a document sends.
pub(crate) const TONE: Duration = Duration::from_millis(200);
/// Maximum length of a `Say`, in characters.
const MAX_TEXT: usize = 4096;
const SAY_LOOP: u32 = 13510;
const SAY_TEXT: u32 = 13520;
const SAY_TOO_LONG: u32 = 13521;
const PLAY_LOOP: u32 = 13410;
const PLAY_DIGITS: u32 = 13430;
const PAUSE_LENGTH: u32 = 13910;

/// Reads the element as instructions of the program.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    rule: &Rule,
    element: &Element,
    out: &mut Vec<Instruction>,
) -> Result<(), FetchFailure> {
    if rule.meaning == Meaning::Pause {
        out.push(Instruction::Pause(pause(reader, element)));
        return Ok(());
    }
    if rule.meaning == Meaning::Play {
        out.extend(digits(reader, element).map(Instruction::SendDigits));
    }
    out.extend(prompt(reader, rule, element)?.map(Instruction::Play));
    Ok(())
}

/// Reads a verb, or a prompt of a `Gather`, as audio to play. Returns `None` if there is nothing to play.
pub(crate) fn prompt(reader: &mut Reader<'_>, rule: &Rule, element: &Element) -> Result<Option<Play>, FetchFailure> {
    match rule.meaning {
        Meaning::Say => Ok(say(reader, element)),
        Meaning::Play => play(reader, element),
        Meaning::Pause => {
            let silence = AudioSource::Silence(pause(reader, element));
            Ok(Some(Play::once(silence)))
        }
        _ => Ok(None),
    }
}

fn say(reader: &mut Reader<'_>, element: &Element) -> Option<Play> {
    let loops = reader.loops(element, SAY_LOOP);
    let ssml = element.elements().next().is_some();
    marks(reader, element);
    let text = if ssml { format!("<speak>{}</speak>", element.inner_xml()) } else { element.text() };
    if text.is_empty() {
        reader.warn(SAY_TEXT, "<Say> without text was skipped");
        return None;
    }
    if text.chars().count() > MAX_TEXT {
        reader.warn(SAY_TOO_LONG, format!("<Say> with more than {MAX_TEXT} characters was skipped"));
        return None;
    }
    let own = |name| element.attribute(name).map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned);
    let speech = Speech { text, ssml, voice: own("voice"), language: own("language") };
    Some(Play::new(AudioSource::Speech(speech), loops))
}

/// Warns about children that are not speech markup. The recursion has a limit, because the parser limits the nesting of
/// documents.
fn marks(reader: &mut Reader<'_>, element: &Element) {
    for child in element.elements() {
        if reader.rule(child).is_some_and(|rule| rule.meaning != Meaning::Speech) {
            reader.misplaced(child, element);
        }
        marks(reader, child);
    }
}

fn play(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Play>, FetchFailure> {
    let loops = reader.loops(element, PLAY_LOOP);
    let text = element.text();
    if text.is_empty() {
        if element.attribute("digits").is_none() {
            reader.warn(code::BAD_URL, "<Play> without a URL was skipped");
        }
        return Ok(None);
    }
    Ok(reader.audio_url(&text)?.map(|url| Play::new(AudioSource::Url(url.as_ref().into()), loops)))
}

fn digits(reader: &mut Reader<'_>, element: &Element) -> Option<SendDigits> {
    let digits = party::send_digits(element.attribute("digits")?.trim());
    if digits.is_none() {
        reader.warn(PLAY_DIGITS, "<Play> digits may contain 0-9 A-D # * w W only; they were skipped");
    }
    digits.map(|digits| SendDigits { digits, tone: TONE })
}

fn pause(reader: &mut Reader<'_>, element: &Element) -> Duration {
    reader.seconds(element, "length", 0..=86_400, PAUSE_LENGTH).unwrap_or(Duration::from_secs(1))
}
