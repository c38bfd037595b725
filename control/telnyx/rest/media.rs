//! `record_*`, `stream_*` and similar parameters for media. Dial, answer, transfer and the media actions all have these
//! parameters.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tandem_call::leg::{LegInfo, TargetLegs};
use tandem_call::recognition::RecognitionSpec;
use tandem_call::recording::{RecordingChannels, RecordingFormat, RecordingSource, RecordingSpec, Track};
use tandem_call::siprec::SiprecSpec;
use tandem_call::stream::{
    BidirectionalMode, ConnectTiming, RtpParameters, SampleRate, StreamCodec, StreamSpec, StreamTransport,
};
use tandem_call::transcription::TranscriptionSpec;

use super::error::ApiError;
use super::parameters::Parameters;

/// The name of the stream that `fork_start` starts. A call has at most one stream with this name.
pub(super) const FORK: &str = "fork";
pub(super) const TRANSCRIPTION: &str = "transcription";
pub(super) const SIPREC: &str = "siprec";
/// Maximum number of hints that a request may give to a recogniser.
const MAX_HINTS: usize = 500;
const FORMATS: &[(&str, RecordingFormat)] = &[("mp3", RecordingFormat::Mp3), ("wav", RecordingFormat::Wav)];
const CHANNELS: &[(&str, RecordingChannels)] =
    &[("dual", RecordingChannels::Dual), ("single", RecordingChannels::Mono)];
const TRACKS: &[(&str, Track)] = &[("both", Track::Both), ("inbound", Track::Inbound), ("outbound", Track::Outbound)];
/// The codecs of this server's streams. Telnyx also has G722, OPUS and AMR-WB. The L16 of Telnyx has 16,000 samples per
/// second in the direction to the application.
const CODECS: &[(&str, StreamCodec)] = &[("PCMU", StreamCodec::Pcmu), ("PCMA", StreamCodec::Pcma), ("L16", LINEAR)];
const LINEAR: StreamCodec = StreamCodec::L16(SampleRate::Hz16000);

/// Parses `record: "record-from-answer"` and the parameters `record_*`.
pub(super) fn record(parameters: Parameters<'_>, source: RecordingSource) -> Result<Option<RecordingSpec>, ApiError> {
    let spec = RecordingSpec {
        source,
        transcribe: false,
        channels: parameters.word("record_channels", CHANNELS)?.unwrap_or(RecordingChannels::Dual),
        track: parameters.word("record_track", TRACKS)?.unwrap_or(Track::Both),
        format: parameters.word("record_format", FORMATS)?.unwrap_or(RecordingFormat::Mp3),
        trim: parameters.check("record_trim", &["trim-silence"])?.is_some(),
        max_length: limit(parameters.seconds("record_max_length", 0..=43_200)?),
        silence_timeout: limit(parameters.seconds("record_timeout_secs", 0..=43_200)?),
        beep: false,
        callback: None,
    };
    parameters.sized("record_custom_file_name", 1..=40)?;
    Ok(parameters.check("record", &["record-from-answer"])?.map(|_| spec))
}

/// The parameters of `record_start`.
pub(super) fn record_start(parameters: Parameters<'_>) -> Result<RecordingSpec, ApiError> {
    parameters.required("format")?;
    parameters.required("channels")?;
    parameters.sized("custom_file_name", 1..=40)?;
    Ok(RecordingSpec {
        transcribe: parameters.flag("transcription")?,
        source: RecordingSource::Request,
        channels: parameters.word("channels", CHANNELS)?.unwrap_or(RecordingChannels::Dual),
        track: parameters.word("recording_track", TRACKS)?.unwrap_or(Track::Both),
        format: parameters.word("format", FORMATS)?.unwrap_or(RecordingFormat::Mp3),
        trim: parameters.check("trim", &["trim-silence"])?.is_some(),
        max_length: limit(parameters.seconds("max_length", 0..=14_400)?),
        silence_timeout: limit(parameters.seconds("timeout_secs", 0..=14_400)?),
        beep: parameters.flag("play_beep")?,
        callback: None,
    })
}

/// The parameters of `record_start` for a conference. The recording has one channel. The server plays no beep.
pub(super) fn conference_record_start(parameters: Parameters<'_>) -> Result<RecordingSpec, ApiError> {
    parameters.required("format")?;
    parameters.word("channels", CHANNELS)?;
    parameters.flag("play_beep")?;
    parameters.sized("custom_file_name", 1..=40)?;
    Ok(RecordingSpec {
        format: parameters.word("format", FORMATS)?.unwrap_or(RecordingFormat::Mp3),
        trim: parameters.check("trim", &["trim-silence"])?.is_some(),
        ..RecordingSpec::new(RecordingSource::ConferenceRequest, RecordingChannels::Mono)
    })
}

/// The parameters of `fork_start`. The server sends the audio from the far end to the address `rx`, and the audio to
/// the far end to the address `tx`. Both are sent as RTP.
pub(super) fn fork(parameters: Parameters<'_>, leg: &LegInfo) -> Result<StreamSpec, ApiError> {
    parameters.check("stream_type", &["decrypted"])?;
    let inbound = target(parameters, "rx")?;
    let outbound = target(parameters, "tx")?;
    let track = match (inbound, outbound) {
        (Some(_), Some(_)) => Track::Both,
        (Some(_), None) => Track::Inbound,
        (None, Some(_)) => Track::Outbound,
        (None, None) => return Err(ApiError::missing("rx")),
    };
    let codec = if leg.sip.codec.as_deref() == Some("PCMA") { StreamCodec::Pcma } else { StreamCodec::Pcmu };
    Ok(StreamSpec {
        url: inbound.or(outbound).map(|address| format!("rtp://{address}")).unwrap_or_default(),
        name: Some(FORK.to_owned()),
        track,
        codec: Some(codec),
        bidirectional_mode: None,
        parameters: Vec::new(),
        callback: None,
        target_legs: TargetLegs::Own,
        auth_token: None,
        connect_timing: ConnectTiming::default(),
        transport: StreamTransport::Rtp(RtpParameters { inbound, outbound, frames: 1 }),
    })
}

/// An address in the form `udp:address:port`.
fn target(parameters: Parameters<'_>, name: &str) -> Result<Option<SocketAddr>, ApiError> {
    let Some(text) = parameters.text(name)? else { return Ok(None) };
    let address = text.strip_prefix("udp:").and_then(|address| address.parse().ok());
    let wrong = || ApiError::bad_value(name, format!("The '{name}' parameter must be udp:ip_address:port."));
    address.map(Some).ok_or_else(wrong)
}

/// The parameters of `transcription_start`.
pub(super) fn transcription(parameters: Parameters<'_>) -> Result<TranscriptionSpec, ApiError> {
    const ENGINES: &[&str] =
        &["Google", "Telnyx", "Deepgram", "Azure", "xAI", "AssemblyAI", "Speechmatics", "Soniox", "Parakeet", "A", "B"];
    let engine = parameters.check("transcription_engine", ENGINES)?.unwrap_or("Google");
    let config = parameters.object("transcription_engine_config")?;
    let hints = config.get("hints").and_then(Value::as_array).into_iter().flatten();
    let model = config.text("transcription_model")?.or(config.text("model")?);
    // Only the model names of Deepgram are used. The model names of other providers do not apply to this server's
    // recogniser.
    let own = model.filter(|_| engine == "Deepgram").map(|model| model.trim_start_matches("deepgram/"));
    Ok(TranscriptionSpec {
        name: Some(TRANSCRIPTION.to_owned()),
        track: parameters.word("transcription_tracks", TRACKS)?.unwrap_or(Track::Inbound),
        recognition: RecognitionSpec {
            language: Some(config.text("language")?.unwrap_or("en").to_owned()),
            hints: hints.filter_map(Value::as_str).take(MAX_HINTS).map(str::to_owned).collect(),
            model: own.map(str::to_owned),
            partials: config.flag("interim_results")?,
            no_profanity: config.flag("profanity_filter")?,
            punctuation: true,
            ..RecognitionSpec::default()
        },
        labels: (None, None),
        engine: (engine.to_owned(), model.unwrap_or_default().to_owned()),
        at_end: false,
        if_none_runs: true,
        callback: None,
    })
}

/// The parameters of `siprec_start`.
pub(super) fn siprec(parameters: Parameters<'_>) -> Result<SiprecSpec, ApiError> {
    let tracks = [("inbound_track", Track::Inbound), ("outbound_track", Track::Outbound), ("both_tracks", Track::Both)];
    parameters.flag("include_metadata_custom_headers")?;
    parameters.flag("secure")?;
    parameters.check("sip_transport", &["udp", "tcp", "tls"])?;
    parameters.integer("session_timeout_secs", 0..=86_400)?;
    Ok(SiprecSpec {
        connector: parameters.required("connector_name")?.to_owned(),
        name: Some(SIPREC.to_owned()),
        track: parameters.word("siprec_track", &tracks)?.unwrap_or(Track::Both),
        parameters: Vec::new(),
        callback: None,
    })
}

/// The stream that `stream_url` and the other parameters of the stream describe. `None` if there is no URL.
pub(super) fn stream(parameters: Parameters<'_>) -> Result<Option<StreamSpec>, ApiError> {
    let tracks = [("inbound_track", Track::Inbound), ("outbound_track", Track::Outbound), ("both_tracks", Track::Both)];
    let track = parameters.word("stream_track", &tracks)?.unwrap_or(Track::Inbound);
    let codec = match parameters.text("stream_codec")? {
        None | Some("default") => None,
        Some(_) => parameters.word("stream_codec", CODECS)?,
    };
    let mode = parameters.check("stream_bidirectional_mode", &["mp3", "rtp"])?;
    let spoken = spoken(parameters)?;
    let target_legs = parameters.target_legs("stream_bidirectional_target_legs")?.unwrap_or(TargetLegs::Bridged);
    let auth_token = parameters.sized("stream_auth_token", 1..=4_000)?;
    if auth_token.is_some_and(|token| token.chars().any(char::is_control)) {
        return Err(ApiError::bad_value("stream_auth_token", "The token has invalid characters."));
    }
    let custom = parameters.pairs("custom_parameters")?;
    let Some(url) = parameters.url("stream_url", &["ws", "wss"])? else { return Ok(None) };
    let bidirectional_mode =
        if mode == Some("rtp") { BidirectionalMode::Payload(spoken) } else { BidirectionalMode::Files };
    Ok(Some(StreamSpec {
        url,
        name: None,
        track,
        codec,
        bidirectional_mode: Some(bidirectional_mode),
        parameters: custom,
        callback: None,
        target_legs,
        auth_token: auth_token.map(Into::into),
        connect_timing: ConnectTiming::default(),
        transport: StreamTransport::Messages,
    }))
}

/// The codec of the payload that the application sends. The default rate is 8,000 Hz.
fn spoken(parameters: Parameters<'_>) -> Result<StreamCodec, ApiError> {
    const RATE: &str = "stream_bidirectional_sampling_rate";
    let codec = parameters.word("stream_bidirectional_codec", CODECS)?.unwrap_or(StreamCodec::Pcmu);
    let hertz = parameters.integer(RATE, 1..=u32::MAX)?.unwrap_or(8_000);
    match (codec, SampleRate::of_hertz(hertz)) {
        (StreamCodec::L16(_), Some(rate)) => Ok(StreamCodec::L16(rate)),
        (StreamCodec::L16(_), None) => Err(ApiError::not_one_of(RATE, &["8000", "16000", "22050", "24000", "48000"])),
        // G.711 has only the sampling rate of 8,000 Hz (RFC 3551 §4.5.14).
        (StreamCodec::Pcmu | StreamCodec::Pcma, Some(SampleRate::Hz8000)) => Ok(codec),
        (StreamCodec::Pcmu | StreamCodec::Pcma, _) => Err(ApiError::not_one_of(RATE, &["8000"])),
    }
}

/// Converts a duration of zero to `None`, because `None` means no limit.
fn limit(time: Option<Duration>) -> Option<Duration> {
    time.filter(|time| !time.is_zero())
}
