//! `Dial`: calls parties, a queue or a conference, and bridges the caller with them.

use tandem_call::address::Address;
use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::{AfterBridge, Conference, Dial, DialRecord, Instruction};
use tandem_call::recording::{RecordingChannels, RecordingSource, Track};

use super::{conference, noun, queue, record};
use crate::element::Element;
use crate::flavour::Meaning;
use crate::reader::{Reader, refusal};
use crate::{code, party};

/// Error number for a `Dial` that has a `Conference` and other parties. This is the general error number of `Dial`,
/// because there is no more specific error number.
const CONFERENCE_ALONE: u32 = 13000;
const METHOD: u32 = 13210;
const TIMEOUT: u32 = 13212;
const HANGUP_ON_STAR: u32 = 13213;
const CALLER_ID: u32 = 13214;
const TIME_LIMIT: u32 = 13216;
const RECORD: u32 = 13217;
const SEQUENTIAL: u32 = 13218;
const ANSWER_ON_BRIDGE: u32 = 13219;
const RING_TONE: u32 = 13220;
const NOT_CALLABLE: u32 = 13224;
/// Maximum length of the caller's display name, in characters.
const MAX_DISPLAY_NAME: usize = 128;
/// Maximum number of parties that a `Dial` calls at the same time.
const MAX_TARGETS: usize = 10;

const RING_TONES: [&str; 40] = [
    "at", "au", "bg", "br", "be", "ch", "cl", "cn", "cz", "de", "dk", "ee", "es", "fi", "fr", "gr", "hu", "il", "in",
    "it", "lt", "jp", "mx", "my", "nl", "no", "nz", "ph", "pl", "pt", "ru", "se", "sg", "th", "uk", "us", "us-old",
    "tw", "ve", "za",
];

#[derive(Clone, Copy)]
enum Recorded {
    No,
    Yes { from_ringing: bool, channels: RecordingChannels },
}

/// Reads a `Dial` with its called parties, queue or conference. If there is no party to call, the function warns. If
/// the `Dial` also has no `action`, the result is then `None`.
pub(crate) fn read(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Instruction>, FetchFailure> {
    let defaults = &reader.flavour.defaults;
    let method = reader.method(element, "method", METHOD);
    let action = reader.target(element.attribute("action"), method, code::BAD_URL)?;
    let refer_method = reader.method(element, "referMethod", METHOD);
    let refer = reader.target(element.attribute("referUrl"), refer_method, code::BAD_URL)?;
    let timeout = reader.seconds(element, "timeout", 1..=600, TIMEOUT).unwrap_or(defaults.dial_timeout);
    let time_limit = reader.seconds(element, "timeLimit", 1..=86_400, TIME_LIMIT).unwrap_or(defaults.dial_time_limit);
    let mut targets = Vec::new();
    let mut conference = None;
    let mut dequeue = None;
    let mut refused = None;
    let text = element.text();
    if !text.is_empty() {
        targets.extend(noun::bare(reader, &text));
    }
    for child in element.elements() {
        let Some(rule) = reader.rule(child) else { continue };
        match rule.meaning {
            Meaning::Number => targets.extend(noun::number(reader, child)?),
            Meaning::Sip => noun::sip(reader, child, &mut targets)?,
            Meaning::Client => targets.extend(noun::client(reader, child)?),
            Meaning::Application => targets.extend(noun::application(reader, child)?),
            Meaning::Queue if dequeue.is_none() && conference.is_none() && targets.is_empty() => {
                dequeue = queue::dequeue(reader, child)?;
            }
            Meaning::Conference if conference.is_none() && dequeue.is_none() && targets.is_empty() => {
                conference = conference::read(reader, child)?;
            }
            Meaning::Unsupported(code) => {
                reader.unserved(child, code);
                refused = refused.or_else(|| refusal(child));
            }
            _ => reader.misplaced(child, element),
        }
    }
    let hangup_on_star = reader.flag(element, "hangupOnStar", false, HANGUP_ON_STAR);
    if let Some(participation) = conference {
        if !targets.is_empty() {
            reader.warn(CONFERENCE_ALONE, "<Dial> with a <Conference> calls no other party; the rest was skipped");
        }
        let time_limit = Some(time_limit);
        return Ok(Some(Instruction::Conference(Conference { participation, time_limit, hangup_on_star, action })));
    }
    if targets.len() > MAX_TARGETS {
        reader.warn(code::SCHEMA, format!("<Dial> with more than {MAX_TARGETS} parties; the rest was skipped"));
        targets.truncate(MAX_TARGETS);
    }
    // An application must be the only target. Otherwise, applications that call many other applications could make an
    // endless number of calls.
    if targets.len() > 1
        && let Some(alone) = targets.iter().position(|target| matches!(target.to, Address::Application(_)))
    {
        reader.warn(code::SCHEMA, "<Dial> with an <Application> calls no other party; the rest was skipped");
        targets = targets.drain(alone..=alone).collect();
    }
    if let Some(reason) = element.attribute("callReason").filter(|text| !text.is_empty()) {
        match party::call_reason(reason) {
            Some(header) => targets.iter_mut().for_each(|target| target.headers.push(header.clone())),
            None => reader.bad_value(element, "callReason", code::SCHEMA),
        }
    }
    if dequeue.is_some() && !targets.is_empty() {
        reader.warn(code::SCHEMA, "<Dial> with a <Queue> calls no other party; the rest was skipped");
        targets.clear();
    }
    let dial = Dial {
        targets,
        queue: dequeue,
        sequential: reader.flag(element, "sequential", false, SEQUENTIAL),
        timeout,
        time_limit: Some(time_limit),
        caller_id: caller_id(reader, element),
        caller_name: caller_name(reader, element),
        answer_on_bridge: reader.flag(element, "answerOnBridge", false, ANSWER_ON_BRIDGE),
        ring_tone: Some(ring_tone(reader, element)),
        hangup_on_star,
        record: recorded(reader, element)?,
        action,
        after: AfterBridge::Continue,
        pass_failure: false,
        refer,
    };
    if dial.targets.is_empty() && dial.queue.is_none() {
        reader.warn(NOT_CALLABLE, "<Dial> without a party to call");
        // If there is an `action` URL, this URL receives the failure of the dial.
        return Ok(if dial.action.is_some() { Some(Instruction::Dial(dial)) } else { refused });
    }
    Ok(Some(Instruction::Dial(dial)))
}

fn caller_id(reader: &mut Reader<'_>, element: &Element) -> Option<Address> {
    let text = element.attribute("callerId")?.trim();
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        reader.bad_value(element, "callerId", CALLER_ID);
        return None;
    }
    Some((reader.flavour.phone)(text).unwrap_or_else(|| Address::from(text)))
}

/// Reads the caller's display name.
fn caller_name(reader: &mut Reader<'_>, element: &Element) -> Option<String> {
    let name = ["callerName", "fromDisplayName"].into_iter().find(|name| reader.honours(element, name))?;
    let text = element.attribute(name).map(str::trim).filter(|text| !text.is_empty())?;
    if text.chars().count() > MAX_DISPLAY_NAME || text.chars().any(char::is_control) {
        reader.bad_value(element, name, code::SCHEMA);
        return None;
    }
    Some(text.to_owned())
}

fn ring_tone(reader: &mut Reader<'_>, element: &Element) -> String {
    let default = reader.flavour.defaults.ring_tone;
    let Some(text) = element.attribute("ringTone").map(str::trim) else { return default.to_owned() };
    if RING_TONES.contains(&text) {
        return text.to_owned();
    }
    reader.bad_value(element, "ringTone", RING_TONE);
    default.to_owned()
}

fn recorded(reader: &mut Reader<'_>, element: &Element) -> Result<Option<DialRecord>, FetchFailure> {
    let yes = |from_ringing, channels| Recorded::Yes { from_ringing, channels };
    let words = [
        ("do-not-record", Recorded::No),
        ("false", Recorded::No),
        ("true", yes(false, RecordingChannels::Mono)),
        ("record-from-answer", yes(false, RecordingChannels::Mono)),
        ("record-from-ringing", yes(true, RecordingChannels::Mono)),
        ("record-from-answer-dual", yes(false, RecordingChannels::Dual)),
        ("record-from-ringing-dual", yes(true, RecordingChannels::Dual)),
    ];
    let Recorded::Yes { from_ringing, channels } = reader.word(element, "record", &words, Recorded::No, RECORD) else {
        return Ok(None);
    };
    let mut spec = record::common(reader, element, RecordingSource::Dial, false, (code::SCHEMA, code::SCHEMA))?;
    spec.channels = channels;
    if element.attribute("recordingChannels").is_some() && reader.honours(element, "recordingChannels") {
        spec.channels = reader.word(element, "recordingChannels", &record::CHANNELS, channels, code::SCHEMA);
    }
    if reader.honours(element, "recordMaxLength") {
        let max = reader.seconds(element, "recordMaxLength", 0..=14_400, code::SCHEMA);
        spec.max_length = max.filter(|max| !max.is_zero());
    }
    spec.track = reader.word(element, "recordingTrack", &record::TRACKS, Track::Both, code::SCHEMA);
    Ok(Some(DialRecord { from_ringing, spec }))
}
