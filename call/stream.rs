//! Streams: audio in both directions between a leg and an application over a WebSocket, or audio to an application over
//! RTP.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Callback;
use crate::leg::TargetLegs;
use crate::recording::Track;
use tandem_id::{OpId, StreamId};

/// Parameters of a stream.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StreamSpec {
    /// Absolute URL of the application. The scheme is `ws:` or `wss:`.
    pub url: String,
    /// The name that the application uses for the stream.
    pub name: Option<String>,
    /// The directions whose audio is sent to the application.
    pub track: Track,
    /// Codec of the audio that is sent to the application. If `None`, the codec of the leg is used.
    pub codec: Option<StreamCodec>,
    /// Format of the audio that the application may send to the leg. `None` if the application may not send audio.
    pub bidirectional_mode: Option<BidirectionalMode>,
    /// Names and values that are sent to the application in the first message.
    pub parameters: Vec<(String, String)>,
    /// The callback that receives the stream's status events.
    pub callback: Option<Callback>,
    /// Legs that hear the application's audio. If this leg is not bridged, only this leg hears the audio.
    pub target_legs: TargetLegs,
    /// Token that is sent to the application in the WebSocket handshake.
    pub auth_token: Option<String>,
    /// Moment at which the stream connects, if the stream was requested together with its leg.
    pub connect_timing: ConnectTiming,
    /// Transport of the audio to the application.
    pub transport: StreamTransport,
}

/// Transport of a stream's audio to the application. The application can send audio only with `Messages`. The other
/// transports carry only G.711.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum StreamTransport {
    /// The provider's JSON messages over a WebSocket.
    #[default]
    Messages,
    /// Binary WebSocket messages. Each message has the octets of 20 ms of audio and nothing else. Both directions are
    /// mixed.
    Octets,
    /// RTP over UDP (RFC 3550), with payload type 0 or 8.
    Rtp(RtpParameters),
}

/// Destinations and packet size of an RTP stream. If both directions have the same destination, the server mixes both
/// directions into one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RtpParameters {
    /// Destination of the audio from the leg's far end.
    pub inbound: Option<SocketAddr>,
    /// Destination of the audio to the leg's far end.
    pub outbound: Option<SocketAddr>,
    /// Number of frames (of 20 ms each) per packet, 1 to 6.
    pub frames: u8,
}

/// Moment at which a stream connects, if the stream was requested together with an outbound leg. The audio of the
/// stream always starts with the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum ConnectTiming {
    /// The stream connects at the answer.
    #[default]
    AtAnswer,
    /// The stream connects at once, while the leg is being called.
    WhileCalling,
    /// The stream connects before the leg is called. The INVITE waits until the stream is connected or has failed.
    BeforeCalling,
}

/// Audio codecs of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StreamCodec {
    /// ITU-T G.711 µ-law, 8 kHz.
    Pcmu,
    /// ITU-T G.711 A-law, 8 kHz.
    Pcma,
    /// Linear PCM with 16-bit samples. The server has one byte order for all streams.
    L16(SampleRate),
}

impl StreamCodec {
    /// Returns the sample rate of the codec in Hz.
    pub fn hertz(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::L16(SampleRate::Hz8000) => 8_000,
            Self::L16(SampleRate::Hz16000) => 16_000,
            Self::L16(SampleRate::Hz22050) => 22_050,
            Self::L16(SampleRate::Hz24000) => 24_000,
            Self::L16(SampleRate::Hz48000) => 48_000,
        }
    }

    /// Returns the size of one sample in octets.
    pub fn sample_octets(self) -> u32 {
        if matches!(self, Self::L16(..)) { 2 } else { 1 }
    }
}

/// Sample rates of linear PCM in a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SampleRate {
    /// 8 kHz: narrowband.
    Hz8000,
    /// 16 kHz: wideband.
    Hz16000,
    /// 22.05 kHz: the rate of some speech synthesisers. This rate is possible only for audio to the leg.
    Hz22050,
    /// 24 kHz: the native rate of many speech synthesisers. This rate is possible only for audio to the leg.
    Hz24000,
    /// 48 kHz: fullband. This rate is possible only for audio to the leg.
    Hz48000,
}

impl SampleRate {
    /// Returns the rate with this number of samples per second, if there is such a rate.
    pub fn of_hertz(hertz: u32) -> Option<Self> {
        [Self::Hz8000, Self::Hz16000, Self::Hz22050, Self::Hz24000, Self::Hz48000]
            .into_iter()
            .find(|rate| StreamCodec::L16(*rate).hertz() == hertz)
    }
}

/// Format of the audio that an application sends to the leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BidirectionalMode {
    /// Audio data in this codec, without headers. A message may have any length.
    Payload(StreamCodec),
    /// Complete audio files (MP3 or WAV), one file per message.
    Files,
}

/// Facts about a stream when its status changes. The shell reports these facts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StreamFacts {
    /// Id of the stream.
    pub id: StreamId,
    /// Parameters of the stream.
    pub spec: StreamSpec,
    /// The new status.
    pub status: StreamStatus,
}

/// Status changes of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StreamStatus {
    /// The handshake succeeded, and audio flows.
    Started,
    /// The stream ended normally.
    Stopped,
    /// The application could not be reached, or the connection was lost.
    Failed(StreamFailure),
}

/// The failure of a stream. Each dialect has its own error number for each kind of failure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StreamFailure {
    /// Kind of the failure.
    pub fault: StreamFault,
    /// Details in words, without credentials.
    pub detail: String,
    /// Whether the leg ends because of the failure. The leg ends if its document waited for the stream and has neither
    /// an action URL nor a further instruction.
    #[serde(default)]
    pub is_fatal: bool,
}

/// A stream that runs on a leg.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ActiveStream {
    pub(crate) op: OpId,
    pub(crate) id: StreamId,
    pub(crate) spec: StreamSpec,
}

/// The error for a report about a stream or conversation whose call is over. The call accepts no more reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallOver;

impl From<CallOver> for StreamFailure {
    fn from(_: CallOver) -> Self {
        StreamFault::Internal.because("the call is over")
    }
}

/// Kinds of failure of a WebSocket connection to an application.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StreamFault {
    /// The URL is invalid.
    Url,
    /// The scheme is neither `ws:` nor `wss:`.
    Scheme,
    /// The host name has no address, or has only an address that is not allowed.
    Unreachable,
    /// The connection was refused.
    Refused,
    /// The connection or the handshake was not complete in time. Or the application sent nothing for too long after
    /// that.
    Timeout,
    /// The TLS handshake failed.
    Tls,
    /// The response to the WebSocket handshake did not have status 101.
    Handshake,
    /// The application violated the WebSocket protocol (RFC 6455).
    Protocol,
    /// The connection was lost.
    Broken,
    /// The application closed the connection with a status code for an error.
    Closed,
    /// The stream failed because of an error in this server.
    Internal,
}

impl StreamFault {
    /// Creates a failure of this kind with details in words.
    pub fn because(self, detail: impl Into<String>) -> StreamFailure {
        StreamFailure { fault: self, detail: detail.into(), is_fatal: false }
    }
}

impl fmt::Display for StreamStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(why) => write!(f, "failed: {}", why.detail),
        }
    }
}
