//! The XML verbs that TwiML, TeXML and cXML share: one grammar, and a table of differences per flavour.
//!
//! ```text
//!   bytes ──element──► tree ──verb/*──► Program        warnings beside it: nothing odd in a document is fatal, only
//!                        ▲                             a document that is none
//!                  flavour table
//! ```

mod attribute;
pub mod code;
pub(crate) mod element;
pub mod flavour;
pub(crate) mod party;
mod reader;
pub(crate) mod speech;
pub(crate) mod verb;

#[cfg(test)]
mod tests;

use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::program::instruction::{AudioSource, Instruction, Play, Program, Speech};
use url::Url;

use self::element::Element;
use self::flavour::Flavour;
use self::reader::Reader;

/// Largest document, octets.
pub const MAX_DOCUMENT: usize = 64 * 1024;

/// Where a document came from, which decides what its URLs may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// The URL it was fetched from, after redirects; `None` for one given inline, where every URL must be absolute.
    pub base: Option<&'a Url>,
    /// Whether `file:` URLs are taken: only for the server's own configuration, and never together with `base`.
    pub local_files: bool,
}

/// Reads what an application answered, whatever its form: a document, words to be said or audio to be played.
///
/// # Errors
/// Fatal ones only: larger than [`MAX_DOCUMENT`], empty, of no usable type, not XML, another root, a relative URL where there
/// is nothing to resolve it against. Everything else becomes a warning in the program.
pub fn answer(
    flavour: &'static Flavour,
    origin: Origin<'_>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Program, FetchFailure> {
    let essence = content_type.map(|text| text.split(';').next().unwrap_or(text).trim().to_ascii_lowercase());
    match (essence.as_deref(), origin.base) {
        (Some(audio), Some(base)) if audio.starts_with("audio/") => Ok(Program {
            instructions: vec![Instruction::Play(Play {
                source: AudioSource::Url(base.as_str().into()),
                loops: Some(std::num::NonZeroU32::MIN),
            })],
            warnings: Vec::new(),
        }),
        (Some("text/plain"), _) => spoken(text_of(body)?),
        (Some("text/xml" | "application/xml" | "text/html"), _) | (None, None) => document(flavour, origin, body),
        (Some(xml), _) if xml.starts_with("application/") && xml.ends_with("+xml") => document(flavour, origin, body),
        (Some(other), _) => Err(failure(FailureKind::ContentType, format!("content type {other} is no document"))),
        (None, Some(_)) => Err(failure(FailureKind::ContentType, "the answer has no content type")),
    }
}

/// Reads a document.
///
/// # Errors
/// As [`answer`].
pub fn document(flavour: &'static Flavour, origin: Origin<'_>, body: &[u8]) -> Result<Program, FetchFailure> {
    let text = text_of(body)?;
    let not_xml = |detail: String| failure(FailureKind::Document(code::NOT_XML), detail);
    let root = Element::parse(text).map_err(|error| not_xml(error.0))?;
    if root.name != flavour.root {
        let detail = format!("the root element is <{}>, not <{}>", root.name, flavour.root);
        return Err(failure(FailureKind::Document(code::WRONG_ROOT), detail));
    }
    Reader::new(flavour, origin).program(&root)
}

/// Entry for fuzzing: any bytes as a document, with and without a URL of its own.
pub fn fuzz_markup(data: &[u8]) {
    if let Ok(base) = Url::parse("https://app.example/voice?x=1") {
        let _ = document(&flavour::TWIML, Origin { base: Some(&base), local_files: false }, data);
    }
    let _ = document(&flavour::TWIML, Origin { base: None, local_files: true }, data);
}

/// The body as text, with what people leave in front of `<?xml` taken away.
fn text_of(body: &[u8]) -> Result<&str, FetchFailure> {
    if body.len() > MAX_DOCUMENT {
        return Err(failure(FailureKind::TooLarge, format!("{} octets, at most {MAX_DOCUMENT}", body.len())));
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| failure(FailureKind::Document(code::NOT_XML), "the document is not UTF-8"))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() { Err(failure(FailureKind::Empty, "the document is empty")) } else { Ok(text) }
}

fn spoken(text: &str) -> Result<Program, FetchFailure> {
    let speech = Speech { text: text.into(), ssml: false, voice: None, language: None };
    let play = Play { source: AudioSource::Speech(speech), loops: Some(std::num::NonZeroU32::MIN) };
    Ok(Program { instructions: vec![Instruction::Play(play)], warnings: Vec::new() })
}

fn failure(kind: FailureKind, detail: impl Into<String>) -> FetchFailure {
    FetchFailure { kind, detail: detail.into() }
}
