//! Audio to and from a WebSocket application.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Callback;
use crate::id::StreamId;
use crate::leg::Hearers;
use crate::recording::Track;

/// A stream as asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct StreamSpec {
    /// `ws:` or `wss:`, absolute.
    pub url: String,
    /// The application's name for it.
    pub name: Option<String>,
    /// Directions sent to the application.
    pub track: Track,
    /// Codec of what is sent; `None`: the leg's own.
    pub codec: Option<StreamCodec>,
    /// Whether the application may speak to the leg, and how.
    pub playout: Option<Playout>,
    /// Passed to the application in the first message.
    pub parameters: Vec<(String, String)>,
    /// Told of its progress.
    pub callback: Option<Callback>,
    /// Who hears the application; the leg itself for as long as it is joined to none.
    pub hearers: Hearers,
    /// Shown to the application in the handshake.
    pub auth_token: Option<String>,
    /// When its socket opens, of a stream that was asked for with its leg.
    pub opens: Opens,
    /// What carries the audio.
    pub form: Form,
}

/// What carries a stream's audio to the application. Without messages it cannot speak, and `codec` is of G.711.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// The provider's messages on a WebSocket.
    #[default]
    Messages,
    /// Binary messages of a WebSocket, each the octets of 20 ms and nothing else; both directions are mixed.
    Octets,
    /// RTP over UDP (RFC 3550), as payload type 0 or 8.
    Rtp(RtpForm),
}

/// Where RTP goes. Directions with the same address are mixed into one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtpForm {
    /// What the leg's party says.
    pub inbound: Option<SocketAddr>,
    /// What it hears.
    pub outbound: Option<SocketAddr>,
    /// Frames of 20 ms in a packet, 1 to 6.
    pub frames: u8,
}

/// When the socket of a stream opens that was asked for with an outbound leg. Its audio begins with the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Opens {
    /// With the answer.
    #[default]
    AtAnswer,
    /// At once, while the leg is called.
    WhileCalling,
    /// Before the leg is called, which waits until the socket is open or cannot be.
    BeforeCalling,
}

/// Codecs of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamCodec {
    /// ITU-T G.711 µ-law, 8 kHz.
    Pcmu,
    /// ITU-T G.711 A-law, 8 kHz.
    Pcma,
    /// Linear samples of 16 bits.
    L16(SampleRate, ByteOrder),
}

impl StreamCodec {
    /// Samples a second.
    pub fn hertz(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::L16(SampleRate::Hz8000, _) => 8_000,
            Self::L16(SampleRate::Hz16000, _) => 16_000,
            Self::L16(SampleRate::Hz24000, _) => 24_000,
        }
    }

    /// Octets of a sample.
    pub fn sample_octets(self) -> u32 {
        if matches!(self, Self::L16(..)) { 2 } else { 1 }
    }
}

/// How many samples a second a stream's linear audio has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SampleRate {
    /// Narrowband.
    Hz8000,
    /// Wideband.
    Hz16000,
    /// What many voices are made at; only towards the leg.
    Hz24000,
}

/// How linear samples lie in octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteOrder {
    /// The upper octet first (RFC 3551 §4.5.11).
    Big,
    /// The lower octet first, as in WAV files.
    Little,
}

/// How an application's audio is to be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Playout {
    /// Raw payload of this codec, any length a message.
    Payload(StreamCodec),
    /// Each message is a whole audio file (MP3 or WAV).
    Files,
}

/// A stream's life, told by the shell.
#[derive(Clone, PartialEq, Debug)]
pub struct StreamFacts {
    /// Its id.
    pub id: StreamId,
    /// As asked for.
    pub spec: StreamSpec,
    /// What happened.
    pub status: StreamStatus,
}

/// What happened to a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamStatus {
    /// The handshake is done, audio flows.
    Started,
    /// It ended as it should.
    Stopped,
    /// The application could not be reached or broke off.
    Failed(StreamFailure),
}

/// Why a stream to an application failed. Dialects number the kinds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StreamFailure {
    /// What kind of failure.
    pub fault: StreamFault,
    /// In words, without credentials.
    pub detail: String,
    /// Whether the call ends because of it: its document waited for the stream, names no action, and has nothing after it.
    #[serde(default)]
    pub is_fatal: bool,
}

/// Kinds of failure of a WebSocket to an application.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StreamFault {
    /// The URL is no URL.
    Url,
    /// It is neither `ws:` nor `wss:`.
    Scheme,
    /// The name has no address, or one that may not be reached.
    Unreachable,
    /// Nobody listens there.
    Refused,
    /// Nothing came in time: no connection, no handshake, or no sign of life later on.
    Timeout,
    /// TLS failed.
    Tls,
    /// The handshake was answered with something else than 101.
    Handshake,
    /// What came is no WebSocket protocol.
    Protocol,
    /// The connection broke.
    Broken,
    /// The application closed with a code that says that something is wrong.
    Closed,
    /// Something of ours.
    Internal,
}

impl StreamFault {
    /// A failure of this kind.
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
