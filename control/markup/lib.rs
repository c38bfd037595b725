//! Parses the XML verbs of TwiML, TeXML and cXML. All three languages have one grammar. For each language, a table (a
//! flavour) describes the differences.
//!
//! ```text
//!   bytes ──element──► tree ──verb/*──► Program        and warnings. An error inside a document is not fatal.
//!                        ▲                             An answer that is not a document is fatal.
//!                  flavour table
//! ```
#![forbid(unsafe_code)]

mod attribute;
pub mod code;
pub mod element;
pub mod flavour;
pub mod party;
pub mod reader;
pub mod speech;
pub mod verb;

use std::borrow::Cow;

use encoding_rs::Encoding;
use tandem_call::Method;
use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::program::instruction::{AudioSource, Instruction, Play, Program, Speech};
use url::Url;

pub use self::element::Element;
use self::flavour::Flavour;
use self::reader::Reader;

/// Maximum size of a document, in octets.
pub const MAX_DOCUMENT: usize = 64 * 1024;

/// The source of a document. The source decides which URLs the document may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// The URL of the document, after redirects. `None` for an inline document. Every URL in an inline document must be
    /// absolute.
    pub base: Option<&'a Url>,
    /// Whether the document may use `file:` URLs. Only documents in the server's own configuration may use these URLs.
    /// Such documents have no `base`.
    pub local_files: bool,
    /// The method of the application's first document request.
    pub first_method: Method,
}

/// Parses an application's answer in any form: a document, a text to speak, or audio to play.
///
/// # Errors
/// The function returns only fatal errors: the answer is larger than [`MAX_DOCUMENT`], is empty, has an unusable
/// content type, is not XML, has the wrong root element, or has a relative URL and no base URL. Every other problem
/// becomes a warning in the program.
pub fn answer(
    flavour: &'static Flavour,
    origin: Origin<'_>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Program, FetchFailure> {
    let essence = content_type.map(|text| text.split(';').next().unwrap_or(text).trim().to_ascii_lowercase());
    let charset = content_type.and_then(charset);
    match (essence.as_deref(), origin.base) {
        // An empty answer usually has the status 204.
        (None, Some(_)) if body.is_empty() => Err(failure(FailureKind::Empty, "the answer is empty")),
        (Some(audio), Some(base)) if audio.starts_with("audio/") => Ok(Program {
            instructions: vec![Instruction::Play(Play::once(AudioSource::Url(base.as_str().into())))],
            warnings: Vec::new(),
        }),
        (Some("text/plain"), _) => spoken(&text_of(body, charset)?),
        (Some("text/xml" | "application/xml" | "text/html"), _) | (None, None) => read(flavour, origin, body, charset),
        (Some(xml), _) if xml.starts_with("application/") && xml.ends_with("+xml") => {
            read(flavour, origin, body, charset)
        }
        (Some(other), _) => Err(failure(FailureKind::ContentType, format!("content type {other} is not a document"))),
        (None, Some(_)) => Err(failure(FailureKind::ContentType, "the answer has no content type")),
    }
}

/// Parses a document.
///
/// # Errors
/// The function returns the same errors as [`answer`].
pub fn document(flavour: &'static Flavour, origin: Origin<'_>, body: &[u8]) -> Result<Program, FetchFailure> {
    read(flavour, origin, body, None)
}

fn read(
    flavour: &'static Flavour,
    origin: Origin<'_>,
    body: &[u8],
    charset: Option<&str>,
) -> Result<Program, FetchFailure> {
    let text = text_of(body, charset)?;
    let not_xml = |detail: String| failure(FailureKind::Document(code::NOT_XML), detail);
    let mistaken = mistaken(&text);
    let root = Element::parse(&text).map_err(|error| not_xml(mistaken.map_or(error.0, str::to_owned)))?;
    if root.name != flavour.root {
        let detail = mistaken.map_or_else(|| wrong_root(flavour, &root.name), str::to_owned);
        return Err(failure(FailureKind::Document(code::WRONG_ROOT), detail));
    }
    Reader::new(flavour, origin).program(&root)
}

fn wrong_root(flavour: &Flavour, name: &str) -> String {
    let near = if name.eq_ignore_ascii_case(flavour.root) { "; names are case-sensitive" } else { "" };
    format!("the root element is <{name}>, not <{}>{near}", flavour.root)
}
/// Error detail for an answer that is a web page.
pub const WEB_PAGE: &str = "the answer is a web page (HTML), not a document";
/// Error detail for an answer that is JSON.
pub const JSON: &str = "the answer is JSON, not a document";

/// Whether a text begins as HTML.
pub fn is_web_page(text: &str) -> bool {
    let begins = |with: &str| text.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    begins("<!doctype html") || begins("<html")
}

/// Recognises HTML and JSON by the beginning of the text.
fn mistaken(text: &str) -> Option<&'static str> {
    if is_web_page(text) {
        return Some(WEB_PAGE);
    }
    text.starts_with(['{', '[']).then_some(JSON)
}

/// The entry point for fuzz tests. Parses any bytes as a document of this flavour, with and without a base URL.
pub fn fuzz_markup(flavour: &'static flavour::Flavour, data: &[u8]) {
    if let Ok(base) = Url::parse("https://app.example/voice?x=1") {
        let _ = document(flavour, Origin { base: Some(&base), local_files: false, ..Default::default() }, data);
    }
    let _ = document(flavour, Origin { base: None, local_files: true, ..Default::default() }, data);
}

/// Returns the body as text, without a byte order mark and without white space at both ends. UTF-8 is tried first,
/// because many applications declare another charset and write UTF-8. Otherwise the charset is that of the byte order mark
/// (XML 1.0, appendix F), or else that of the content type, or else that of the XML declaration. As in web browsers, ISO 8859-1 means windows-1252, which has curly quotes where
/// ISO 8859-1 has control characters.
fn text_of<'a>(body: &'a [u8], charset: Option<&str>) -> Result<Cow<'a, str>, FetchFailure> {
    if body.len() > MAX_DOCUMENT {
        return Err(failure(
            FailureKind::TooLarge,
            format!("the document has {} octets; at most {MAX_DOCUMENT} are allowed", body.len()),
        ));
    }
    let text = match std::str::from_utf8(body) {
        Ok(text) => Cow::Borrowed(text.trim_start_matches('\u{feff}').trim()),
        Err(_) => {
            let not_text = |why: &str| failure(FailureKind::Document(code::NOT_XML), why);
            let named = || charset.or_else(|| declared(body)).and_then(|name| Encoding::for_label(name.as_bytes()));
            let encoding = Encoding::for_bom(body).map(|(encoding, _)| encoding).or_else(named);
            let encoding = encoding.ok_or_else(|| not_text("the document is not UTF-8"))?;
            let text = encoding.decode_without_bom_handling_and_without_replacement(body);
            let text = text.ok_or_else(|| not_text(&format!("the document is not {}", encoding.name())))?;
            Cow::Owned(text.trim_start_matches('\u{feff}').trim().to_owned())
        }
    };
    if text.is_empty() { Err(failure(FailureKind::Empty, "the document is empty")) } else { Ok(text) }
}

/// Returns the charset of a content type such as `text/xml; charset="ISO-8859-1"`.
fn charset(content_type: &str) -> Option<&str> {
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Some(value.trim().trim_matches('"'))
}

/// Returns the encoding of an XML declaration such as `<?xml version="1.0" encoding="ISO-8859-1"?>`.
fn declared(body: &[u8]) -> Option<&str> {
    let body = body.trim_ascii_start();
    let head = body.get(..body.iter().position(|&octet| octet == b'>')?)?;
    let head = std::str::from_utf8(head).ok()?.strip_prefix("<?xml")?;
    let (_, value) = head.split_once("encoding")?.1.split_once(['"', '\''])?;
    value.split(['"', '\'']).next()
}

fn spoken(text: &str) -> Result<Program, FetchFailure> {
    let speech = Speech { text: text.into(), ssml: false, voice: None, language: None };
    let play = Play::once(AudioSource::Speech(speech));
    Ok(Program { instructions: vec![Instruction::Play(play)], warnings: Vec::new() })
}

fn failure(kind: FailureKind, detail: impl Into<String>) -> FetchFailure {
    FetchFailure { kind, detail: detail.into() }
}
