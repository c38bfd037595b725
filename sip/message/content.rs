//! Read access to the header fields and the body of a message.

use bytes::Bytes;

use super::grammar::{Parameters, TOKEN, leading, skip_space};
use super::head::Head;
use super::{Contact, Contacts, Uri, contact, lossy, multipart, name};
use crate::header;
use crate::header::Header;

/// The header fields and the body of a request or response.
#[derive(Debug)]
pub(crate) struct Content {
    pub(super) head: Head,
    pub(crate) body: Bytes,
}

impl Content {
    /// Returns a copy of the first Contact URI.
    pub(crate) fn contact(&self) -> Option<Uri> {
        contact::first(self.head.value("Contact")?).map(|address| Uri::copied(address.uri))
    }

    /// Returns the Contacts of a REGISTER. Returns `None` if a Contact is malformed.
    pub(crate) fn contacts(&self) -> Option<Contacts> {
        let values = || self.head.list("Contact");
        if values().any(|value| value == b"*") {
            return (values().count() == 1).then_some(Contacts::All);
        }
        values().map(Contact::parse).collect::<Option<_>>().map(Contacts::Listed)
    }

    /// Returns copies of the Record-Route values, topmost first.
    pub(crate) fn record_routes(&self) -> Vec<Bytes> {
        self.head.list("Record-Route").map(Bytes::copy_from_slice).collect()
    }

    /// Returns whether a request must make a dialog with `sips:` Contacts, even if its Request-URI has another scheme: the
    /// top Record-Route has a `sips:` URI, or without Record-Route the Contact (RFC 3261 §12.1.1).
    pub(crate) fn makes_secure_dialog(&self) -> bool {
        let uri = match self.head.list("Record-Route").next() {
            Some(route) => Uri::of_address(route),
            None => self.contact(),
        };
        uri.is_some_and(|uri| uri.is_secure())
    }

    /// Returns the header fields for the application: all fields, except the fields that SIP itself needs.
    pub(crate) fn application_headers(&self) -> Vec<Header> {
        let ours = |&(name, _): &(&[u8], _)| !header::is_core(name);
        let seen = |(name, value): (&[u8], &[u8])| {
            let name = if header::is_titled(name) { name } else { name::usual(name) };
            Header { name: lossy(name), value: lossy(value) }
        };
        self.head.iter().filter(ours).map(seen).collect()
    }

    /// Returns the first value of a header field.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        self.head.value(name).map(lossy)
    }

    /// Returns the user part of P-Called-Party-ID (RFC 7315 §4.2).
    pub(crate) fn called_party(&self) -> Option<String> {
        Uri::of_address(self.value("P-Called-Party-ID")?.as_bytes()).map(|uri| uri.user())
    }

    /// Returns the values of all lines of a header field. The values are not split at commas.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        self.head.values(name).map(lossy).collect()
    }

    /// Returns all values of a comma-separated header field, from all its lines.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.head.list(name).map(lossy).collect()
    }

    /// Returns whether a comma-separated header field contains this token. Case is ignored.
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.head.list(name).any(|value| value.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Returns the option tags in Require that are missing in `supported`.
    pub(crate) fn unsupported(&self, supported: &[&str]) -> Vec<String> {
        let is_known = |tag: &[u8]| supported.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(tag));
        self.head.list("Require").filter(|tag| !is_known(tag)).map(lossy).collect()
    }

    /// Returns the Content-Type with its parameters. The result is empty if the message has no Content-Type.
    pub(crate) fn content_type(&self) -> String {
        self.value("Content-Type").unwrap_or_default()
    }

    /// Returns whether the body contains SDP.
    pub(crate) fn has_sdp(&self) -> bool {
        self.sdp().is_some()
    }

    /// Returns whether a receiver may ignore the body if the receiver does not know the type of the body (RFC 3261
    /// §20.11).
    pub(crate) fn is_optional(&self) -> bool {
        self.value("Content-Disposition").is_some_and(|disposition| {
            let mut parameters = disposition.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
            parameters.any(|(name, value)| {
                name.trim().eq_ignore_ascii_case("handling") && value.trim().eq_ignore_ascii_case("optional")
            })
        })
    }

    /// Returns the SDP from the body, or from a part of a multipart body. A body that looks like SDP needs no
    /// Content-Type, because old gateways omit the Content-Type.
    pub(crate) fn sdp(&self) -> Option<Bytes> {
        if self.body.is_empty() {
            return None;
        }
        let is_sdp = match self.head.value("Content-Type") {
            Some(value) if value.eq_ignore_ascii_case(b"application/sdp") => true,
            Some(value) => is_media_type(value, b"application", b"sdp"),
            None => self.body.starts_with(b"v="),
        };
        if is_sdp {
            return Some(self.body.clone());
        }
        let content_type = self.content_type();
        multipart::is_multipart(&content_type).then(|| multipart::sdp(&content_type, &self.body))?
    }

    /// Returns whether the body has a Content-Encoding other than `identity`. The server cannot decode such a body.
    pub(crate) fn encoded(&self) -> bool {
        let is_coding = |coding: &[u8]| !coding.eq_ignore_ascii_case(b"identity");
        !self.body.is_empty() && self.head.list("Content-Encoding").any(is_coding)
    }
}

/// Returns whether the Content-Type `value` has this type (`kind`) and this subtype. The Content-Type may have any
/// well-formed parameters (RFC 3261 §20.15).
fn is_media_type(value: &[u8], kind: &[u8], subtype: &[u8]) -> bool {
    let (found, rest) = leading(value, TOKEN);
    let Some(rest) = skip_space(rest).strip_prefix(b"/") else { return false };
    let (found_subtype, parameters) = leading(skip_space(rest), TOKEN);
    found.eq_ignore_ascii_case(kind)
        && found_subtype.eq_ignore_ascii_case(subtype)
        && Parameters::of(parameters).are_sound()
}
