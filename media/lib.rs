//! Tandem's media engine: RTP sessions on worker threads. The application sends commands and receives events.
//!
//! ```text
//!   Engine::open -> Session --offer/answer/accept--> sdp::MediaPlan --\
//!                      \------command (inbox + eventfd)-------------> worker thread: engine::Core
//!   EventSink <-----------------------------------------------------/   |  session -> recorder -> writer thread
//!   TapReader <- ring <- tap        StreamWriter -> ring -> source -----/
//! ```
//!
//! The shell (I/O and threads) is `handle`, `worker`, `kernel`, `ports`, `ice_port`, `writer` and `recorded`. Every other module is
//! pure: its input is packets, commands and times.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod addresses;
mod answering;
mod audio;
mod codec;
mod command;
mod config;
mod dtmf;
mod encrypted;
mod engine;
mod event;
mod event_queue;
#[cfg(any(test, feature = "fuzz"))]
mod fuzz;
mod handle;
mod ice_port;
mod kernel;
mod mixer;
#[cfg(feature = "mp3")]
mod mp3;
mod music;
mod network;
mod offload;
mod peaks;
mod player;
mod ports;
mod quality;
mod recorded;
mod recorder;
mod recorders;
#[cfg(any(test, feature = "bench"))]
mod relay_bench;
mod resample;
mod room;
mod rtp;
mod sdp;
mod session;
mod silence_trim;
mod snapshot;
mod source;
mod suppress;
mod tap;
#[cfg(test)]
mod testing;
mod thread_load;
mod timeline;
mod tone;
mod track_frame;
mod transport;
mod vad;
mod wav;
mod worker;
mod writer;

pub use addresses::{Addresses, MediaPlace};
pub use answering::{DetectionResult, GreetingEnd, MachineDetection, Until};
pub use audio::{Audio, AudioError, To8000, decode, read_wav};
pub use codec::{Codec, Decoder, Encoder, LONGEST_FRAME, LONGEST_PACKET, LONGEST_PAYLOAD, Malformed, SampleRate, g711};
pub use command::{Channels, Command, LegId, OpId, RecordSpec, RecordingCommand, Track, Tracks};
pub use config::{CodecName, Config, PortRange, UseKernel};
pub use dtmf::{DtmfMethod, ToneDetector, frequencies as dtmf_frequencies};
pub use encrypted::{EncryptedWriter, RecordingKey};
pub use event::{BACKLOG, Event, EventSink, FinishReason, Full, QualityPoint, RecordingReason, Stats};
#[cfg(feature = "fuzz")]
pub use fuzz::{fuzz_codec, fuzz_rtp, fuzz_sdp};
pub use handle::{
    Busy, Engine, FarEnd, Load, OpenError, OpenSpec, ResumeSpec, RoomHandle, Session, Shortage, StartError,
};
pub use mixer::{Mix, Mixer};
#[cfg(feature = "mp3")]
pub use mp3::{encode_mp3, mp3_octets};
pub use music::hold_music;
pub use peaks::Peaks;
pub use quality::Impairment;
pub use recorded::{RecordedFile, repair_recording, unfinished};
pub use recorder::RecordingPosition;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use relay_bench::RelayBench;
pub use resample::Resampler;
pub use room::{
    Beep, Hold, NotJoined, Participation, Role, RoomCommand, RoomEnd, RoomEvent, RoomKey, RoomSink, RoomSpec,
};
pub use sdp::{
    MediaSource, Preference, SdpError, Srtp, combine_descriptions, offered_address, offered_codecs, split_description,
};
pub use session::RunningOperations;
pub use snapshot::{SessionSnapshot, SessionSnapshotError};
pub use source::{Overflow, SourceCodec, SourceRate, StreamSource, StreamWriter, Underruns, source};
pub use suppress::Suppressor;
pub use tandem_webrtc::{CertificateKind, Failure as TransportFailure};
pub use tap::{ByteOrder, TapCodec, TapFrame, TapReader, TapSink, tap};
pub use timeline::{Assembly, FrameComposition, Quality, Reader, Stamp, Timeline};
pub use tone::{Country, Tone};
pub use transport::DtlsSrtp;
pub use vad::{Activity, VoiceActivity};
pub use wav::WavCoding;

/// A map with a fast hash function. The function does not protect against keys that an attacker chooses. Use this map
/// for keys that the engine makes itself, or for keys that are already hashed with a secret. The fast hash function
/// costs several times less CPU time than the hash function of the standard library.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
