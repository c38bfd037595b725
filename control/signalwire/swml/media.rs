//! Parameters of recordings, streams and machine detection. Documents and commands share these parameters.

use std::num::NonZeroU32;
use std::time::Duration;

use tandem_call::leg::TargetLegs;
use tandem_call::machine_detection::{MachineDetection, Until};
use tandem_call::program::instruction::GatherSpeech;
use tandem_call::recognition::RecognitionSpec;
use tandem_call::recording::{RecordingChannels, RecordingFormat, RecordingSource, RecordingSpec, Track};
use tandem_call::stream::{BidirectionalMode, ConnectTiming, RtpParameters, StreamCodec, StreamSpec, StreamTransport};
use tandem_call::transcription::TranscriptionSpec;
use tandem_call::{Callback, StatusEvent};
use tandem_markup::verb::stream::CODECS;

use super::parameters::{Parameters, is_url};

/// Maximum value of most durations, in seconds.
pub(crate) const DAY: f64 = 86_400.0;
/// The events of a recording for which the callback of the recording gets notices.
pub(crate) const RECORDING_EVENTS: [StatusEvent; 3] =
    [StatusEvent::InProgress, StatusEvent::Completed, StatusEvent::Absent];

const DIRECTIONS: [(&str, Track); 3] = [("speak", Track::Inbound), ("listen", Track::Outbound), ("both", Track::Both)];
const TRACKS: [(&str, Track); 3] =
    [("inbound_track", Track::Inbound), ("outbound_track", Track::Outbound), ("both_tracks", Track::Both)];

/// Default settings of a recording.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordingDefaults {
    pub(crate) source: RecordingSource,
    pub(crate) track: Track,
    pub(crate) format: RecordingFormat,
    pub(crate) end_silence: f64,
}

/// The settings of a recording. `end_silence_timeout` limits the silence at the beginning of the recording and at the
/// end of the recording. `initial_timeout` has no effect.
pub(crate) fn recording(
    parameters: &Parameters<'_>,
    defaults: RecordingDefaults,
    callback: Option<Callback>,
) -> RecordingSpec {
    let silence = parameters.seconds("end_silence_timeout", 0.0..=DAY);
    let silence = silence.unwrap_or(Duration::from_secs_f64(defaults.end_silence));
    let formats = [("wav", RecordingFormat::Wav), ("mp3", RecordingFormat::Mp3), ("mp4", RecordingFormat::Wav)];
    if parameters.text("format").as_deref() == Some("mp4") {
        parameters.note("format", "mp4 is not supported: the recording is a WAV file");
    }
    let stereo = parameters.flag("stereo").unwrap_or(false);
    RecordingSpec {
        transcribe: false,
        source: defaults.source,
        channels: if stereo { RecordingChannels::Dual } else { RecordingChannels::Mono },
        track: parameters.word("direction", &DIRECTIONS).unwrap_or(defaults.track),
        format: parameters.word("format", &formats).unwrap_or(defaults.format),
        trim: false,
        max_length: parameters.seconds("max_length", 0.0..=DAY).filter(|length| !length.is_zero()),
        silence_timeout: (!silence.is_zero()).then_some(silence),
        beep: parameters.flag("beep").unwrap_or(false),
        callback,
    }
}

/// The word for a recording's direction.
pub(crate) fn direction(track: Track) -> &'static str {
    DIRECTIONS.iter().find(|(_, one)| *one == track).map_or("both", |(word, _)| word)
}

/// The settings of a stream to a URL. `speaks` says whether the application at this URL may send audio.
pub(crate) fn stream(parameters: &Parameters<'_>, url: String, speaks: bool, callback: Option<Callback>) -> StreamSpec {
    let codec = codec(parameters);
    StreamSpec {
        url,
        name: parameters.text("name"),
        track: parameters.word("track", &TRACKS).unwrap_or(Track::Inbound),
        codec: Some(codec),
        bidirectional_mode: speaks.then_some(BidirectionalMode::Payload(codec)),
        parameters: parameters.pairs("custom_parameters"),
        callback,
        target_legs: TargetLegs::Own,
        auth_token: parameters.text("authorization_bearer_token"),
        connect_timing: ConnectTiming::default(),
        transport: StreamTransport::Messages,
    }
}

/// The settings of a tap. A tap sends plain audio to `rtp://ADDRESS:PORT`, `ws://` or `wss://`. Returns `None` for any
/// other `uri`.
pub(crate) fn tap(
    parameters: &Parameters<'_>,
    uri: &str,
    ptime: &str,
    callback: Option<Callback>,
) -> Option<StreamSpec> {
    let track = parameters.word("direction", &DIRECTIONS).unwrap_or(Track::Inbound);
    let transport = match uri.strip_prefix("rtp://") {
        None if is_url(uri, &["ws", "wss"]) => StreamTransport::Octets,
        None => return None,
        Some(to) => {
            let to = to.parse().ok();
            let inbound = to.filter(|_| track != Track::Outbound);
            let outbound = to.filter(|_| track != Track::Inbound);
            inbound.or(outbound)?;
            StreamTransport::Rtp(RtpParameters { inbound, outbound, frames: frames(parameters, ptime) })
        }
    };
    let codecs = [("PCMU", StreamCodec::Pcmu), ("PCMA", StreamCodec::Pcma)];
    Some(StreamSpec {
        url: uri.to_owned(),
        name: None,
        track,
        codec: Some(parameters.word("codec", &codecs).unwrap_or(StreamCodec::Pcmu)),
        bidirectional_mode: None,
        parameters: Vec::new(),
        callback,
        target_legs: TargetLegs::Own,
        auth_token: None,
        connect_timing: ConnectTiming::default(),
        transport,
    })
}

/// The script variables that describe a tap, without the prefix `tap_`.
pub(crate) fn tap_facts(spec: &StreamSpec) -> [(&'static str, String); 4] {
    let (codec, milliseconds) = tap_codec(spec);
    [
        ("codec", codec.to_owned()),
        ("rate", "8000".to_owned()),
        ("ptime", milliseconds.to_string()),
        ("direction", direction(spec.track).to_owned()),
    ]
}

/// The codec of a tap, and the packet time of the tap in ms.
pub(crate) fn tap_codec(spec: &StreamSpec) -> (&'static str, u32) {
    let codec = if spec.codec == Some(StreamCodec::Pcma) { "PCMA" } else { "PCMU" };
    let frames = if let StreamTransport::Rtp(rtp) = spec.transport { rtp.frames } else { 1 };
    (codec, 20 * u32::from(frames))
}

/// The number of 20 ms frames in a packet, rounded up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 1 to 6")]
fn frames(parameters: &Parameters<'_>, name: &str) -> u8 {
    parameters.number(name, 10.0..=120.0).map_or(1, |milliseconds| (milliseconds / 20.0).ceil() as u8)
}

/// Parses a codec such as `L16@24000h@40i`. The packet time after the second `@` is ignored, because this server
/// chooses the packet time.
fn codec(parameters: &Parameters<'_>) -> StreamCodec {
    let Some(text) = parameters.text("codec") else { return StreamCodec::Pcmu };
    let mut parts = text.split('@');
    let name = parts.next().unwrap_or_default();
    let rate = parts.find(|part| part.ends_with('h'));
    let codec_name = rate.map_or_else(|| name.to_owned(), |rate| format!("{name}@{rate}"));
    let found = CODECS.iter().find(|(word, _)| word.eq_ignore_ascii_case(&codec_name));
    if found.is_none() {
        parameters.note("codec", format!("{text} is not supported: PCMU is used"));
    }
    found.map_or(StreamCodec::Pcmu, |(_, codec)| *codec)
}

/// The settings of machine detection. `message_end` is the default of `detect_message_end`.
pub(crate) fn detection(
    parameters: &Parameters<'_>,
    message_end: bool,
    callback: Option<Callback>,
) -> MachineDetection {
    let seconds =
        |name, default: f64| parameters.seconds(name, 0.0..=600.0).unwrap_or(Duration::from_secs_f64(default));
    let to_end = parameters.flag("detect_message_end").unwrap_or(message_end);
    let end_silence = seconds("end_silence_timeout", 1.0);
    let until = if to_end { Until::GreetingEnd } else { Until::FirstResult };
    let spec = MachineDetection::new(
        until,
        seconds("timeout", 30.0),
        seconds("machine_voice_threshold", 1.25),
        end_silence,
        seconds("initial_timeout", 4.5),
    );
    let words = parameters.number("machine_words_threshold", 1.0..=1_000.0).unwrap_or(6.0);
    MachineDetection {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 1 to 1,000")]
        words: Some(words as u16),
        greeting_end_silence: parameters.seconds("machine_ready_timeout", 0.0..=600.0).unwrap_or(end_silence),
        callback,
        ..spec
    }
}

/// The settings of speech recognition in a gather. `digits` says whether the gather also accepts digits.
pub(crate) fn listening(
    language: Option<String>,
    hints: Vec<String>,
    model: Option<String>,
    (pause, max_duration): (Option<Duration>, Option<Duration>),
    digits: bool,
) -> GatherSpeech {
    GatherSpeech {
        recognition: RecognitionSpec { language, hints, model, partials: true, ..RecognitionSpec::default() },
        pause,
        max_duration: max_duration.unwrap_or(Duration::from_secs(60)),
        partials: None,
        digits,
    }
}

/// The name that this server gives to the live transcription of a call. A call has at most one live transcription.
pub(crate) const LIVE: &str = "live_transcribe";

/// The settings of a live transcription, from the parameters of `start`.
pub(crate) fn transcription(own: &Parameters<'_>) -> TranscriptionSpec {
    let directions = own.texts("direction");
    let has = |word: &str| directions.is_empty() || directions.iter().any(|one| one == word);
    // The audio of the remote caller is the inbound audio of the leg.
    let track = match (has("remote-caller"), has("local-caller")) {
        (true, false) => Track::Inbound,
        (false, true) => Track::Outbound,
        _ => Track::Both,
    };
    TranscriptionSpec {
        name: Some(LIVE.to_owned()),
        track,
        recognition: RecognitionSpec {
            language: own.text("lang"),
            partials: own.flag("live_events").unwrap_or(false),
            ..Default::default()
        },
        labels: (Some("remote-caller".to_owned()), Some("local-caller".to_owned())),
        engine: (own.text("speech_engine").unwrap_or_default(), String::new()),
        at_end: false,
        if_none_runs: false,
        callback: own.callback("webhook", None, &[StatusEvent::Completed]),
    }
}

/// The name that this server gives to the transcription of a whole call. A call has at most one such transcription.
pub(crate) const WHOLE: &str = "transcribe";

/// The settings of a transcription of the whole call. The application gets the transcription at the end of the call.
pub(crate) fn whole_transcription(callback: Option<Callback>) -> TranscriptionSpec {
    TranscriptionSpec {
        name: Some(WHOLE.to_owned()),
        track: Track::Both,
        recognition: RecognitionSpec::default(),
        labels: (None, None),
        engine: (String::new(), String::new()),
        at_end: true,
        if_none_runs: true,
        callback,
    }
}

/// The value of a parameter that is a number from 1 to `max`.
pub(crate) fn count(parameters: &Parameters<'_>, name: &str, max: u32) -> Option<NonZeroU32> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in this range")]
    parameters.number(name, 1.0..=f64::from(max)).and_then(|number| NonZeroU32::new(number as u32))
}
