//! Streams: audio to and from an application over a WebSocket, or to it over RTP.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Callback;
use crate::id::StreamId;
use crate::leg::TargetLegs;
use crate::recording::Track;

/// Parameters of a stream.
#[derive(Clone, PartialEq, Debug)]
pub struct StreamSpec {
    /// Absolute URL with the scheme `ws:` or `wss:`.
    pub url: String,
    /// The application's name of the stream.
    pub name: Option<String>,
    /// Directions that are sent to the application.
    pub track: Track,
    /// Codec of the audio that is sent; the leg's own codec if `None`.
    pub codec: Option<StreamCodec>,
    /// Format of the audio that the application may send to the leg; `None` if it may not send any.
    pub playout: Option<BidirectionalMode>,
    /// Names and values that are sent to the application in the first message.
    pub parameters: Vec<(String, String)>,
    /// The callback that receives the stream's status events.
    pub callback: Option<Callback>,
    /// Legs that hear the application's audio. While the leg is not bridged, it alone hears the audio.
    pub hearers: TargetLegs,
    /// Token that is sent to the application in the WebSocket handshake.
    pub auth_token: Option<String>,
    /// When the connection is made, for a stream that was requested together with its leg.
    pub opens: ConnectTiming,
    /// Transport of the audio.
    pub form: StreamTransport,
}

/// Transport of a stream's audio to the application. Only with `Messages` can the application send audio. The other
/// transports carry G.711 only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StreamTransport {
    /// The provider's JSON messages on a WebSocket.
    #[default]
    Messages,
    /// Binary WebSocket messages, each with the octets of 20 ms of audio and nothing else; both directions are mixed.
    Octets,
    /// RTP over UDP (RFC 3550), with payload type 0 or 8.
    Rtp(RtpForm),
}

/// Destinations and packet size of an RTP stream. Directions with the same destination are mixed into one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtpForm {
    /// Destination of the audio from the leg's far end.
    pub inbound: Option<SocketAddr>,
    /// Destination of the audio to the leg's far end.
    pub outbound: Option<SocketAddr>,
    /// Frames of 20 ms per packet, 1 to 6.
    pub frames: u8,
}

/// When a stream connects that was requested together with an outbound leg. Its audio starts with the answer in every
/// case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConnectTiming {
    /// At the answer.
    #[default]
    AtAnswer,
    /// At once, while the leg is being called.
    WhileCalling,
    /// Before the leg is called: the INVITE waits until the stream is connected or has failed.
    BeforeCalling,
}

/// Audio codecs of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamCodec {
    /// ITU-T G.711 µ-law, 8 kHz.
    Pcmu,
    /// ITU-T G.711 A-law, 8 kHz.
    Pcma,
    /// Linear PCM with 16-bit samples.
    L16(SampleRate, ByteOrder),
}

impl StreamCodec {
    /// Returns the sample rate, in Hz.
    pub fn hertz(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::L16(SampleRate::Hz8000, _) => 8_000,
            Self::L16(SampleRate::Hz16000, _) => 16_000,
            Self::L16(SampleRate::Hz24000, _) => 24_000,
        }
    }

    /// Returns the size of a sample, in octets.
    pub fn sample_octets(self) -> u32 {
        if matches!(self, Self::L16(..)) { 2 } else { 1 }
    }
}

/// Sample rates of a stream's linear PCM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SampleRate {
    /// 8 kHz, narrowband.
    Hz8000,
    /// 16 kHz, wideband.
    Hz16000,
    /// 24 kHz, the native rate of many speech synthesisers; only for audio to the leg.
    Hz24000,
}

/// Byte order of linear samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteOrder {
    /// Most significant octet first (RFC 3551 §4.5.11).
    Big,
    /// Least significant octet first, as in WAV files.
    Little,
}

/// Format of the audio that an application sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BidirectionalMode {
    /// Payload of this codec without headers; a message may have any length.
    Payload(StreamCodec),
    /// A complete audio file (MP3 or WAV) in each message.
    Files,
}

/// Facts about a stream at a status change, reported by the shell.
#[derive(Clone, PartialEq, Debug)]
pub struct StreamFacts {
    /// Id of the stream.
    pub id: StreamId,
    /// Parameters of the stream.
    pub spec: StreamSpec,
    /// The new status.
    pub status: StreamStatus,
}

/// Status changes of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamStatus {
    /// The handshake succeeded; audio flows.
    Started,
    /// The stream ended normally.
    Stopped,
    /// The application could not be reached, or the connection was lost.
    Failed(StreamFailure),
}

/// Why a stream failed. Dialects have an error number for each kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StreamFailure {
    /// Kind of the failure.
    pub fault: StreamFault,
    /// Details in words, without credentials.
    pub detail: String,
    /// Whether the leg ends because of the failure: its document waited for the stream, has no action URL, and has no
    /// further instruction.
    #[serde(default)]
    pub is_fatal: bool,
}

/// The call of a stream or conversation is over and takes no more reports.
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
    /// The host name has no address, or one that is not allowed.
    Unreachable,
    /// The connection was refused.
    Refused,
    /// No connection or handshake in time, or no sign of life from the application later.
    Timeout,
    /// The TLS handshake failed.
    Tls,
    /// The response to the WebSocket handshake was not 101.
    Handshake,
    /// The application violated the WebSocket protocol (RFC 6455).
    Protocol,
    /// The connection was lost.
    Broken,
    /// The application closed the connection with a status code that means an error.
    Closed,
    /// A failure in this server.
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
