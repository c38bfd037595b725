//! `tandem-speech`: recognises and synthesises speech on this computer. The server starts the program as a child process, so a
//! crash or a busy core in a model never touches a call.
//!
//! - [`recognise`]: Whisper, from the files of CTranslate2.
//! - [`voice`]: the voices of Piper and Kokoro, with phonemes from espeak-ng.
//! - [`turn`]: Silero (does the caller speak?) and smart-turn (has the caller finished?).
//! - [`http`]: the HTTP API and the WebSocket on a loopback address.
//! - [`install`]: fetches the models.
//!
//! This crate depends on no other crate of the workspace, and no other crate depends on it.

pub mod http;
pub mod install;
mod load;
pub mod recognise;
mod resample;
pub mod turn;
pub mod voice;
