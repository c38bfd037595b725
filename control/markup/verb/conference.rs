//! The element `Conference` in a `Dial`.

use std::sync::Arc;

use tandem_call::conference::{Beep, Coaching, ConferenceSettings, Participation};
use tandem_call::fetch::FetchFailure;
use tandem_call::recording::{RecordingSource, RecordingSpec};
use tandem_call::{Method, StatusEvent};

use super::record;
use crate::code;
use crate::element::Element;
use crate::reader::Reader;

const MUTED: u32 = 13230;
const END: u32 = 13231;
const START: u32 = 13232;
const WAIT_URL: u32 = 13233;
const WAIT_METHOD: u32 = 13234;
const BEEP: u32 = 13235;
const NO_COACHED_CALL: u32 = 13236;
const NAME: u32 = 13237;
const TRIM: u32 = 13239;
/// Maximum length of the name of a conference and of the label of a participant, in characters.
const MAX_NAME: usize = 128;
/// Maximum length of the name of a region, in characters.
const MAX_REGION: usize = 32;

/// The events that the status callback of a conference can report.
pub const STATUS_EVENTS: [(&str, StatusEvent); 9] = [
    ("start", StatusEvent::Started),
    ("end", StatusEvent::Over),
    ("join", StatusEvent::Joined),
    ("leave", StatusEvent::Left),
    ("mute", StatusEvent::Muted),
    ("hold", StatusEvent::Held),
    ("modify", StatusEvent::Modified),
    ("speaker", StatusEvent::Speaks),
    ("announcement", StatusEvent::Announced),
];
/// The events that the status callback of a conference reports if the document lists no events.
pub const USUAL: [StatusEvent; 2] = [StatusEvent::Started, StatusEvent::Over];

/// The words for `beep`, with the beeps that they select.
pub const BEEPS: [(&str, Beep); 4] =
    [("true", Beep::Both), ("false", Beep::None), ("onEnter", Beep::Enter), ("onExit", Beep::Exit)];

/// Reads a `Conference`. The text of the element is the name of the conference. If the name is missing or invalid,
/// warns and returns `None`.
pub(super) fn read(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Participation>, FetchFailure> {
    let name = element.text();
    if !is_name(&name) {
        reader.warn(NAME, format!("a conference must have a name of at most {MAX_NAME} characters"));
        return Ok(None);
    }
    let max_participants = reader.number(element, "maxParticipants", 2..=250, code::SCHEMA).unwrap_or(250);
    Ok(Some(Participation {
        label: label(reader, element),
        muted: reader.flag(element, "muted", false, MUTED),
        hold: None,
        wait: reader.wait(element, "waitMethod", (WAIT_URL, WAIT_METHOD))?,
        waits: !reader.flag(element, "startConferenceOnEnter", true, START),
        ends: reader.flag(element, "endConferenceOnExit", false, END),
        clears: false,
        beep: reader.word(element, "beep", &BEEPS, Beep::Both, BEEP),
        coach: coach(reader, element),
        max_participants: u16::try_from(max_participants).unwrap_or(250),
        opening: Some(opening(reader, element)?).filter(|one| *one != ConferenceSettings::default()).map(Arc::new),
        conference: name.into(),
    }))
}

/// Whether a text is a valid name of a conference.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= MAX_NAME && !text.chars().any(char::is_control)
}

/// Whether a text is a valid label of a participant. A label must not look like a call id. A label must not contain
/// `/`, because the label is one segment of a URL path.
pub fn is_label(text: &str, is_call: impl Fn(&str) -> bool) -> bool {
    is_name(text) && !text.contains('/') && !is_call(text)
}

fn label(reader: &mut Reader<'_>, element: &Element) -> Option<Arc<str>> {
    let text = element.attribute("participantLabel")?.trim();
    let is_call = reader.flavour.call_id;
    if is_label(text, |text| is_call(text).is_some()) {
        return Some(text.into());
    }
    reader.bad_value(element, "participantLabel", code::SCHEMA);
    None
}

fn coach(reader: &mut Reader<'_>, element: &Element) -> Option<Coaching> {
    let text = element.attribute("coach").map(str::trim).filter(|text| !text.is_empty())?;
    let leg = (reader.flavour.call_id)(text);
    if leg.is_none() {
        reader.bad_value(element, "coach", NO_COACHED_CALL);
    }
    leg.map(|leg| Coaching::of(vec![leg]))
}

fn opening(reader: &mut Reader<'_>, element: &Element) -> Result<ConferenceSettings, FetchFailure> {
    let callback = reader.callback(element, "statusCallback", &STATUS_EVENTS, &USUAL, code::SCHEMA)?;
    let region = element.attribute("region").map(str::trim);
    let fits = |text: &&str| (1..=MAX_REGION).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    Ok(ConferenceSettings {
        callback,
        record: recorded(reader, element)?,
        recorded: reader.target(element.attribute("eventCallbackUrl"), Method::Post, code::BAD_URL)?,
        region: region.filter(fits).map(Into::into),
        ..ConferenceSettings::default()
    })
}

fn recorded(reader: &mut Reader<'_>, element: &Element) -> Result<Option<RecordingSpec>, FetchFailure> {
    let words = [("do-not-record", false), ("false", false), ("record-from-start", true), ("true", true)];
    if !reader.word(element, "record", &words, false, code::SCHEMA) {
        return Ok(None);
    }
    record::common(reader, element, RecordingSource::Conference, true, (TRIM, code::SCHEMA)).map(Some)
}
