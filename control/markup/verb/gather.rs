//! The verb `Gather`, for digits and speech.

use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::Gather;
use tandem_call::{Method, Target};

use super::{sound, speech};
use crate::attribute::METHODS;
use crate::code;
use crate::element::Element;
use crate::flavour::Meaning;
use crate::reader::Reader;

const FINISH_ON_KEY: u32 = 13310;
const METHOD: u32 = 13312;
const TIMEOUT: u32 = 13313;
const NUM_DIGITS: u32 = 13314;
const NESTED: u32 = 13320;
const INPUT: u32 = 13326;
const BARGE_IN: u32 = 13332;
const ACTION_ON_EMPTY: u32 = 13338;

/// The keys of a telephone.
const KEYS: &str = "0123456789*#";

pub(crate) fn read(reader: &mut Reader<'_>, element: &Element) -> Result<Gather, FetchFailure> {
    let defaults = &reader.flavour.defaults;
    let timeout = reader.seconds(element, "timeout", 0..=3600, TIMEOUT).unwrap_or(defaults.gather_timeout);
    let method = match defaults.gather_by_application {
        true => reader.word(element, "method", &METHODS, reader.origin.first_method, METHOD),
        false => reader.method(element, "method", METHOD),
    };
    let (dtmf, words) = input(reader, element);
    let speech = if words { Some(speech::gather(reader, element, timeout, dtmf)?) } else { None };
    let (default, max) = (defaults.gather_finish_on_key, defaults.gather_finish_keys);
    let finish_on = reader.digits(element, "finishOnKey", KEYS, default, max, FINISH_ON_KEY);
    let mut max_digits = digits(reader, element, "numDigits");
    let (mut min_digits, mut valid_digits) = (1, None);
    if reader.honours(element, "minDigits") {
        max_digits = max_digits.or_else(|| digits(reader, element, "maxDigits"));
        min_digits = digits(reader, element, "minDigits").unwrap_or(1);
        let valid = reader.digits(element, "validDigits", KEYS, "", 12, NUM_DIGITS);
        valid_digits = (!valid.is_empty()).then(|| valid.to_owned());
    }
    reader.only_elements(element);
    let mut prompts = Vec::new();
    for child in element.elements() {
        let Some(rule) = reader.rule(child) else { continue };
        match rule.meaning {
            Meaning::Say | Meaning::Play | Meaning::Pause => prompts.extend(sound::prompt(reader, rule, child)?),
            Meaning::Unsupported(code) => reader.unserved(child, code),
            _ => reader.warn(NESTED, format!("<{}> does not belong in <Gather> and was skipped", child.name)),
        }
    }
    Ok(Gather {
        prompts,
        retry_prompts: Vec::new(),
        tries: 1,
        min_digits,
        max_digits,
        terminators: finish_on.to_owned(),
        valid_digits,
        first_digit_timeout: timeout,
        holds_timers: false,
        inter_digit_timeout: timeout,
        total_timeout: None,
        barge_in: reader.flag(element, "bargeIn", true, BARGE_IN),
        action: action_or_current(reader, element, method)?,
        action_on_empty: reader.flag(element, "actionOnEmptyResult", false, ACTION_ON_EMPTY),
        id: None,
        speech,
        callback: None,
    })
}

fn digits(reader: &mut Reader<'_>, element: &Element, name: &str) -> Option<u32> {
    reader.number(element, name, 1..=1000, NUM_DIGITS).and_then(|number| u32::try_from(number).ok())
}

/// Returns the target for a result: the URL in `action`. If there is no `action`, and the flavour has
/// `action_is_current_document`, the target is the URL of the document. If there is no such URL, returns `None`. The
/// call then continues with the next verb.
pub(super) fn action_or_current(
    reader: &mut Reader<'_>,
    element: &Element,
    method: Method,
) -> Result<Option<Target>, FetchFailure> {
    if let Some(target) = reader.target(element.attribute("action"), method, code::BAD_URL)? {
        return Ok(Some(target));
    }
    let current = reader.flavour.defaults.action_is_current_document.then(|| reader.current()).flatten();
    Ok(current.map(|url| Target { url, method }))
}

/// Returns two flags. The first flag says whether the `Gather` collects digits. The second flag says whether the
/// `Gather` collects speech.
fn input(reader: &mut Reader<'_>, element: &Element) -> (bool, bool) {
    let (mut dtmf, mut words) = (false, false);
    for word in element.attribute("input").unwrap_or_default().split([' ', ',']).filter(|word| !word.is_empty()) {
        match word {
            "dtmf" => dtmf = true,
            "speech" => words = true,
            "both" if reader.honours(element, "minDigits") => (dtmf, words) = (true, true),
            _ => reader.bad_value(element, "input", INPUT),
        }
    }
    (dtmf || !words, words)
}
