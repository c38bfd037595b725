//! What applications answer: TwiML, words or audio.

use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::Program;
use url::Url;

use crate::markup::flavour::TWIML;
use crate::markup::{self, Origin};

/// An application's answer.
pub(super) fn reply(base: Option<&Url>, content_type: Option<&str>, body: &[u8]) -> Result<Program, FetchFailure> {
    markup::answer(&TWIML, Origin { base, local_files: false }, content_type, body)
}

/// A document given inline: by the `Twiml` parameter, or by the configuration, whose own documents may also play
/// `local_files` by `file:` URLs.
///
/// # Errors
/// As [`markup::document`]; every URL in it must be absolute.
pub fn inline_program(twiml: &str, local_files: bool) -> Result<Program, FetchFailure> {
    markup::document(&TWIML, Origin { base: None, local_files }, twiml.as_bytes())
}
