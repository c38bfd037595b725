//! The verbs `Connect`, `Start` and `Stop` with their children.

use tandem_call::StatusEvent;
use tandem_call::command::Command;
use tandem_call::fetch::FetchFailure;
use tandem_call::leg::TargetLegs;
use tandem_call::program::instruction::{Connect, Converse, ExecuteCommand, Instruction};
use tandem_call::recording::Track;
use tandem_call::stream::{BidirectionalMode, ConnectTiming, SampleRate, StreamCodec, StreamSpec, StreamTransport};

use super::{agent, conversation, record, siprec, speech};
use crate::code;
use crate::element::Element;
use crate::flavour::Meaning;
use crate::reader::{Reader, refusal};

const NESTED: u32 = 14300;
pub(super) const CONNECTOR: u32 = 31940;
pub(super) const TRACK: u32 = 31941;
const MALFORMED_URL: u32 = 31923;
/// Limit for the length of a parameter in characters. The name and the value of the parameter together must be shorter
/// than this limit.
const MAX_PARAMETER: usize = 500;
/// Names of the directions (tracks) in streams.
pub const TRACKS: [(&str, Track); 3] =
    [("inbound_track", Track::Inbound), ("outbound_track", Track::Outbound), ("both_tracks", Track::Both)];

/// The values of the attribute `codec` (SignalWire). Upper and lower case are equal.
pub const CODECS: [(&str, StreamCodec); 8] = [
    ("PCMU", StreamCodec::Pcmu),
    ("PCMU@8000h", StreamCodec::Pcmu),
    ("PCMA", StreamCodec::Pcma),
    ("PCMA@8000h", StreamCodec::Pcma),
    ("L16", StreamCodec::L16(SampleRate::Hz8000)),
    ("L16@8000h", StreamCodec::L16(SampleRate::Hz8000)),
    ("L16@16000h", StreamCodec::L16(SampleRate::Hz16000)),
    ("L16@24000h", StreamCodec::L16(SampleRate::Hz24000)),
];

/// The published sample rates of the audio that an application sends (Telnyx), in Hz.
const BIDIRECTIONAL_RATES: [(&str, SampleRate); 5] = [
    ("8000", SampleRate::Hz8000),
    ("16000", SampleRate::Hz16000),
    ("22050", SampleRate::Hz22050),
    ("24000", SampleRate::Hz24000),
    ("48000", SampleRate::Hz48000),
];

/// Reads a `Connect`: a stream or a conversation that takes over the call. If there is no usable child, warns and
/// returns the refusal of the first child that this server does not support, or `None`.
pub fn connect(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Instruction>, FetchFailure> {
    let method = reader.method(element, "method", code::SCHEMA);
    let action = reader.target(element.attribute("action"), method, code::BAD_URL)?;
    let (mut connected, mut refused) = (None, None);
    for child in element.elements() {
        let Some(rule) = reader.rule_in(child, element) else { continue };
        match rule.meaning {
            Meaning::Stream if connected.is_none() => {
                let stream = stream(reader, child, true)?;
                connected = stream.map(|stream| {
                    Instruction::Connect(Connect { stream, action: action.clone(), outlives_failure: false })
                });
            }
            Meaning::Conversation if connected.is_none() => {
                let spec = conversation::read(reader, child)?.map(Box::new);
                connected = spec.map(|spec| Instruction::Converse(Converse { spec, action: action.clone() }));
            }
            Meaning::Agent if connected.is_none() => {
                let spec = agent::agent(reader, child).map(Box::new);
                connected = spec.map(|spec| Instruction::Converse(Converse { spec, action: action.clone() }));
            }
            Meaning::Assistant if connected.is_none() => {
                let spec = agent::assistant(reader, child).map(Box::new);
                connected = spec.map(|spec| Instruction::Converse(Converse { spec, action: action.clone() }));
                if connected.is_none() {
                    refused = refused.or_else(|| refusal(child));
                }
            }
            Meaning::Unsupported(code) => {
                reader.unserved(child, code);
                refused = refused.or_else(|| refusal(child));
            }
            _ => reader.misplaced(child, element),
        }
    }
    let connected = connected.or(refused);
    if connected.is_none() {
        reader.warn(code::SCHEMA, format!("<{}> without anything to connect to was skipped", element.name));
    }
    Ok(connected)
}

/// Reads a `Stream` that is a verb itself, as SignalWire's Go client writes it. The call lasts as long as the stream.
/// If the stream fails, the call continues, because no other verb follows.
pub fn alone(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Instruction>, FetchFailure> {
    let stream = stream(reader, element, true)?;
    Ok(stream.map(|stream| Instruction::Connect(Connect { stream, action: None, outlives_failure: true })))
}

/// Reads a `Start`. The children of this element run in the background. Meanwhile the call runs the following verbs.
pub fn start(reader: &mut Reader<'_>, element: &Element, out: &mut Vec<Instruction>) -> Result<(), FetchFailure> {
    let mut empty = true;
    for child in element.elements() {
        empty = false;
        let Some(rule) = reader.rule_in(child, element) else { continue };
        match rule.meaning {
            Meaning::Stream => out.extend(stream(reader, child, false)?.map(Instruction::StartStream)),
            Meaning::Siprec => out.extend(siprec::read(reader, child)?.map(Instruction::StartSiprec)),
            Meaning::Transcription => {
                let spec = speech::transcription(reader, child)?;
                out.push(Instruction::StartTranscription(Box::new(spec)));
            }
            Meaning::Recording => out.push(Instruction::StartRecording(record::start(reader, child)?)),
            Meaning::Suppression => {
                let track = reader.word(child, "direction", &record::TRACKS, Track::Inbound, code::SCHEMA);
                out.push(suppression(track, true));
            }
            Meaning::Unsupported(code) => reader.unserved(child, code),
            _ => reader.warn(NESTED, format!("<{}> does not belong in <Start> and was skipped", child.name)),
        }
    }
    if empty {
        reader.warn(NESTED, "<Start> without anything to start was skipped");
    }
    Ok(())
}

/// Reads a `Stop`. A `Stop` ends streams, SIPREC sessions and transcriptions by name, and ends noise suppression.
pub fn stop(reader: &mut Reader<'_>, element: &Element, out: &mut Vec<Instruction>) {
    for child in element.elements() {
        let Some(rule) = reader.rule_in(child, element) else { continue };
        match rule.meaning {
            Meaning::Stream => {
                let name = name(child);
                if name.is_none() {
                    reader.warn(code::SCHEMA, "<Stop><Stream> without a name stops every stream of the call");
                }
                out.push(Instruction::StopStream(name));
            }
            Meaning::Siprec => out.push(Instruction::StopSiprec(name(child))),
            Meaning::Transcription => out.push(Instruction::StopTranscription(name(child))),
            Meaning::Suppression => out.push(suppression(Track::Both, false)),
            Meaning::Unsupported(code) => reader.unserved(child, code),
            _ => reader.misplaced(child, element),
        }
    }
}

fn suppression(track: Track, on: bool) -> Instruction {
    Instruction::ExecuteCommand(Box::new(ExecuteCommand {
        command: Command::SuppressNoise { track, on },
        action: None,
    }))
}

/// Reads a `Stream`. `may_send_audio` says whether the application may send audio. If the stream has no usable URL,
/// warns and returns `None`.
fn stream(
    reader: &mut Reader<'_>,
    element: &Element,
    may_send_audio: bool,
) -> Result<Option<StreamSpec>, FetchFailure> {
    let text = element.attribute("url").map(str::trim).unwrap_or_default();
    if text.is_empty() {
        match element.attribute("connectorName") {
            Some(name) => reader.warn(CONNECTOR, format!("<Stream>: unknown connector {name:?}; it was skipped")),
            None => reader.warn(MALFORMED_URL, "<Stream> without a url was skipped"),
        }
        return Ok(None);
    }
    let Some(url) = reader.websocket_url(text)? else { return Ok(None) };
    // Only the flavour without both attributes has a provider that drops the query.
    let passes_query = reader.honours(element, "codec") || reader.honours(element, "bidirectionalMode");
    if !passes_query && url.contains('?') {
        reader.warn(MALFORMED_URL, "<Stream>: Twilio does not pass on the query of the url; use <Parameter>");
    }
    let track = reader.word(element, "track", reader.tracks(), Track::Inbound, TRACK);
    let (codec, bidirectional_mode) = match reader.honours(element, "bidirectionalMode") {
        true => bidirectional(reader, element, may_send_audio),
        false => {
            let codec = codec(reader, element);
            (Some(codec), may_send_audio.then_some(BidirectionalMode::Payload(codec)))
        }
    };
    parts(reader, element);
    let parameters = parameters(reader, element);
    let bearer = element.attribute("authBearerToken").filter(|_| reader.honours(element, "authBearerToken"));
    let auth_token = bearer.map(str::to_owned);
    // A document cannot choose the events. `Completed` means all events of a stream.
    let callback = reader.callback(element, "statusCallback", &[], &[StatusEvent::Completed], code::SCHEMA)?;
    Ok(Some(StreamSpec {
        url,
        name: name(element),
        track,
        codec,
        bidirectional_mode,
        parameters,
        callback,
        target_legs: TargetLegs::Own,
        auth_token,
        connect_timing: ConnectTiming::default(),
        transport: StreamTransport::Messages,
    }))
}

/// Reads the codec of the audio to the application, and the form of the audio from the application (Telnyx). The codec
/// `None` means the codec of the call. The application sends either payload in the codec of `bidirectionalCodec`, or
/// audio files.
fn bidirectional(
    reader: &mut Reader<'_>,
    element: &Element,
    may_send_audio: bool,
) -> (Option<StreamCodec>, Option<BidirectionalMode>) {
    let codecs = [
        ("default", None),
        ("PCMU", Some(StreamCodec::Pcmu)),
        ("PCMA", Some(StreamCodec::Pcma)),
        ("L16", Some(StreamCodec::L16(SampleRate::Hz16000))),
    ];
    let codec = reader.word(element, "codec", &codecs, None, code::SCHEMA);
    let rates = &BIDIRECTIONAL_RATES;
    let rate = reader.word(element, "bidirectionalSamplingRate", rates, SampleRate::Hz8000, code::SCHEMA);
    let spoken = [("PCMU", StreamCodec::Pcmu), ("PCMA", StreamCodec::Pcma), ("L16", StreamCodec::L16(rate))];
    let spoken = reader.word(element, "bidirectionalCodec", &spoken, StreamCodec::Pcmu, code::SCHEMA);
    let modes = [("rtp", BidirectionalMode::Payload(spoken)), ("mp3", BidirectionalMode::Files)];
    let mode = reader.word(element, "bidirectionalMode", &modes, BidirectionalMode::Files, code::SCHEMA);
    let may_send_audio = may_send_audio || element.attribute("bidirectionalMode").is_some();
    (codec, may_send_audio.then_some(mode))
}

/// Reads the name that the application gives to the stream.
pub(super) fn name(element: &Element) -> Option<String> {
    element.attribute("name").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Warns about children other than `Parameter`.
pub(super) fn parts(reader: &mut Reader<'_>, element: &Element) {
    for child in element.elements() {
        match reader.rule(child) {
            Some(rule) if rule.meaning == Meaning::Part && child.name == "Parameter" => {}
            Some(_) => reader.misplaced(child, element),
            None => {}
        }
    }
}

/// Reads the parameters that the application receives with the first message.
pub(super) fn parameters(reader: &mut Reader<'_>, element: &Element) -> Vec<(String, String)> {
    let mut parameters = reader.parameters(element);
    let all = parameters.len();
    parameters.retain(|(name, value)| name.chars().count() + value.chars().count() < MAX_PARAMETER);
    if parameters.len() < all {
        reader.warn(code::SCHEMA, format!("a <Parameter> of {MAX_PARAMETER} characters or more was skipped"));
    }
    parameters
}

/// Reads the codec of a stream. If the flavour has `audioFormat` and `sampleRate` instead of `codec`, the default is
/// µ-law. In this case, linear samples have 16,000 Hz unless the document requests 8,000 Hz.
fn codec(reader: &mut Reader<'_>, element: &Element) -> StreamCodec {
    if reader.honours(element, "codec") {
        return reader.word(element, "codec", &CODECS, StreamCodec::Pcmu, code::SCHEMA);
    }
    let formats = [("audio/x-mulaw", false), ("mulaw", false), ("audio/x-l16", true), ("l16", true)];
    let linear = reader.word(element, "audioFormat", &formats, false, code::SCHEMA);
    if !linear {
        reader.word(element, "sampleRate", &[("8000", ())], (), code::SCHEMA);
        return StreamCodec::Pcmu;
    }
    let rates = [("8000", SampleRate::Hz8000), ("16000", SampleRate::Hz16000)];
    let rate = reader.word(element, "sampleRate", &rates, SampleRate::Hz16000, code::SCHEMA);
    StreamCodec::L16(rate)
}
