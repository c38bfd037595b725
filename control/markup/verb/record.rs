//! The verb `Record`, and the attributes that all recordings share.

use std::time::Duration;

use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::Record;
use tandem_call::recording::{RecordingChannels, RecordingFormat, RecordingSource, RecordingSpec, Track};
use tandem_call::transcription::TranscriptionOrder;
use tandem_call::{Callback, Method, StatusEvent};

use super::gather::action_or_current;
use crate::code;
use crate::element::Element;
use crate::reader::Reader;

const METHOD: u32 = 13610;
const TIMEOUT: u32 = 13611;
const MAX_LENGTH: u32 = 13612;
const FINISH_ON_KEY: u32 = 13613;
const TRANSCRIBE: u32 = 13614;
const PLAY_BEEP: u32 = 13616;
const EVENT: u32 = 13621;
const TRIM: u32 = 13699;

/// The events that the status callback of a recording can report. `failed` and `absent` are synonyms.
pub const STATUS_EVENTS: [(&str, StatusEvent); 4] = [
    ("in-progress", StatusEvent::InProgress),
    ("completed", StatusEvent::Completed),
    ("absent", StatusEvent::Absent),
    ("failed", StatusEvent::Absent),
];
const TRIMS: [(&str, bool); 2] = [("trim-silence", true), ("do-not-trim", false)];
/// Names of the directions (tracks) in recordings.
pub(crate) const TRACKS: [(&str, Track); 3] =
    [("inbound", Track::Inbound), ("outbound", Track::Outbound), ("both", Track::Both)];

/// Names of the channel layouts of a recording.
pub(super) const CHANNELS: [(&str, RecordingChannels); 3] =
    [("single", RecordingChannels::Mono), ("mono", RecordingChannels::Mono), ("dual", RecordingChannels::Dual)];

pub(crate) fn read(reader: &mut Reader<'_>, element: &Element) -> Result<Record, FetchFailure> {
    let defaults = &reader.flavour.defaults;
    let method = reader.method(element, "method", METHOD);
    let action = action_or_current(reader, element, method)?;
    // A document of the configuration has no application that could receive the recording. This is intended, so there
    // is no warning.
    let nobody = action.is_none() && reader.current().is_none() && !reader.origin.local_files;
    if nobody && reader.flavour.defaults.action_is_current_document {
        reader.warn(
            code::BAD_URL,
            "<Record> has no action and its document has no URL: the recording is reported to no one",
        );
    }
    let timeout = reader.seconds(element, "timeout", 0..=86_400, TIMEOUT).unwrap_or(defaults.record_timeout);
    let transcribe = transcribe(reader, element)?;
    let longest =
        if transcribe.is_some() { defaults.record_transcribed_max_length } else { defaults.record_max_length };
    let max_length = reader.seconds(element, "maxLength", 1..=86_400, MAX_LENGTH).unwrap_or(longest);
    let finish_on = reader
        .digits(element, "finishOnKey", "0123456789*#", defaults.record_finish_on_key, 12, FINISH_ON_KEY)
        .to_owned();
    let beep = reader.flag(element, "playBeep", true, PLAY_BEEP);
    let mut spec = common(reader, element, RecordingSource::Record, defaults.record_trim, (TRIM, EVENT))?;
    // The recording has only the caller, on one channel, because the prompt is not part of a message.
    spec.track = Track::Inbound;
    if reader.honours(element, "channels") {
        // With `channels`, the recording has both directions.
        spec.track = Track::Both;
        spec.channels = reader.word(element, "channels", &CHANNELS, RecordingChannels::Dual, code::SCHEMA);
    }
    spec.max_length = Some(max_length);
    spec.silence_timeout = (timeout > Duration::ZERO).then_some(timeout);
    Ok(Record { spec, finish_on, beep, action, transcribe })
}

/// Reads whether the recording must be transcribed. A callback alone also requests a transcription.
fn transcribe(reader: &mut Reader<'_>, element: &Element) -> Result<Option<TranscriptionOrder>, FetchFailure> {
    let (name, callback) = match reader.honours(element, "transcription") {
        true => ("transcription", "transcriptionCallback"),
        false => ("transcribe", "transcribeCallback"),
    };
    let transcribe = reader.flag(element, name, false, TRANSCRIBE);
    let callback = reader.target(element.attribute(callback), Method::Post, code::BAD_URL)?;
    let events = vec![StatusEvent::Completed];
    let callback = callback.map(|target| Callback::new(target, events));
    Ok((transcribe || callback.is_some()).then_some(TranscriptionOrder { callback }))
}

/// Reads the attributes that all recordings share: `trim` and the status callback. The other settings have their
/// defaults: a recording of both directions on one channel, without limits.
pub(super) fn common(
    reader: &mut Reader<'_>,
    element: &Element,
    source: RecordingSource,
    trim: bool,
    (trim_code, event_code): (u32, u32),
) -> Result<RecordingSpec, FetchFailure> {
    Ok(RecordingSpec {
        transcribe: false,
        source,
        channels: RecordingChannels::Mono,
        track: Track::Both,
        format: RecordingFormat::Wav,
        trim: reader.word(element, "trim", &TRIMS, trim, trim_code),
        max_length: None,
        silence_timeout: None,
        beep: false,
        callback: reader.callback(
            element,
            "recordingStatusCallback",
            &STATUS_EVENTS,
            &[StatusEvent::Completed],
            event_code,
        )?,
    })
}

/// Reads a `Recording` in a `Start`.
pub(super) fn start(reader: &mut Reader<'_>, element: &Element) -> Result<RecordingSpec, FetchFailure> {
    let mut spec = common(reader, element, RecordingSource::Start, false, (code::SCHEMA, code::SCHEMA))?;
    spec.track = reader.word(element, "track", &TRACKS, Track::Both, code::SCHEMA);
    let channels = [("mono", RecordingChannels::Mono), ("dual", RecordingChannels::Dual)];
    spec.channels = reader.word(element, "channels", &channels, RecordingChannels::Dual, code::SCHEMA);
    Ok(spec)
}
