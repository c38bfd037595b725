//! Header fields and bodies, asked for what is in them.

use bytes::Bytes;
use sipx_sip::headers::ContentType;
use sipx_sip::{Address, HeaderName, Headers};

use super::{Contact, Contacts, Uri, list, lossy, multipart};
use crate::header;
use crate::leg::Header;

/// What requests and responses carry alike.
#[derive(Debug)]
pub(crate) struct Content {
    pub(super) headers: Headers,
    pub(crate) body: Bytes,
}

impl Content {
    /// First Contact URI.
    pub(crate) fn contact(&self) -> Option<Uri> {
        let value = self.headers.value(&HeaderName::Contact)?;
        let first = Address::parse_list(&value, "Contact").ok()?.into_iter().next()?;
        Some(Uri { inner: first.uri })
    }

    /// What a REGISTER binds; `None` if that cannot be read.
    pub(crate) fn contacts(&self) -> Option<Contacts> {
        let values = list(&self.headers, &HeaderName::Contact);
        if values.iter().any(|value| value.as_ref() == b"*") {
            return (values.len() == 1).then_some(Contacts::All);
        }
        values.iter().map(|value| Contact::parse(value)).collect::<Option<_>>().map(Contacts::Listed)
    }

    /// Record-Route values, top first.
    pub(crate) fn record_routes(&self) -> Vec<Bytes> {
        list(&self.headers, &HeaderName::RecordRoute)
    }

    /// What the application sees of the header.
    pub(crate) fn application_headers(&self) -> Vec<Header> {
        self.headers
            .iter()
            .filter_map(|header| {
                let name = String::from_utf8_lossy(header.name().canonical());
                (!header::is_core(&name)).then(|| Header { name: name.into_owned(), value: lossy(&header.value()) })
            })
            .collect()
    }

    /// First value of a header field by name.
    pub(crate) fn value(&self, name: &'static str) -> Option<String> {
        let name = HeaderName::parse(&Bytes::from_static(name.as_bytes()));
        self.headers.value(&name).map(|value| lossy(&value))
    }

    /// User of P-Called-Party-ID (RFC 7315 §4.2).
    pub(crate) fn called_party(&self) -> Option<String> {
        Uri::of_route(self.value("P-Called-Party-ID")?.as_bytes()).map(|uri| uri.user())
    }

    /// All values of a header field by name, one a line, not split at commas.
    pub(crate) fn values(&self, name: &'static str) -> Vec<String> {
        let name = HeaderName::parse(&Bytes::from_static(name.as_bytes()));
        self.headers.get_all(&name).map(|header| lossy(&header.value())).collect()
    }

    /// The values of a comma-separated header over all its lines.
    pub(crate) fn list(&self, name: &'static str) -> Vec<String> {
        let name = HeaderName::parse(&Bytes::from_static(name.as_bytes()));
        list(&self.headers, &name).iter().map(|value| lossy(value)).collect()
    }

    /// Whether a comma-separated header has this token, in any case.
    pub(crate) fn has_token(&self, name: &'static str, token: &str) -> bool {
        self.list(name).iter().any(|value| value.eq_ignore_ascii_case(token))
    }

    /// The option tags of Require that are not in `supported`.
    pub(crate) fn unsupported(&self, supported: &[&str]) -> Vec<String> {
        list(&self.headers, &HeaderName::Require)
            .iter()
            .map(|tag| lossy(tag))
            .filter(|tag| !supported.iter().any(|known| known.eq_ignore_ascii_case(tag)))
            .collect()
    }

    /// Content-Type, parameters included; empty if absent.
    pub(crate) fn content_type(&self) -> String {
        self.value("Content-Type").unwrap_or_default()
    }

    /// Whether there is SDP in the body.
    pub(crate) fn has_sdp(&self) -> bool {
        self.sdp().is_some()
    }

    /// Whether the body may be passed over by whoever does not know it (RFC 3261 §20.11).
    pub(crate) fn is_optional(&self) -> bool {
        self.value("Content-Disposition").is_some_and(|disposition| {
            let mut parameters = disposition.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
            parameters.any(|(name, value)| {
                name.trim().eq_ignore_ascii_case("handling") && value.trim().eq_ignore_ascii_case("optional")
            })
        })
    }

    /// The SDP: the body, or a part of it. A body without Content-Type counts: old gateways forget it.
    pub(crate) fn sdp(&self) -> Option<Bytes> {
        if self.body.is_empty() {
            return None;
        }
        let is_sdp = match self.headers.typed::<ContentType>() {
            Some(Ok(content_type)) => content_type.is("application", "sdp"),
            Some(Err(_)) => false,
            None => self.body.starts_with(b"v="),
        };
        if is_sdp {
            return Some(self.body.clone());
        }
        let content_type = self.content_type();
        multipart::is_multipart(&content_type).then(|| multipart::sdp(&content_type, &self.body))?
    }

    /// A Content-Encoding other than identity, which we cannot undo.
    pub(crate) fn encoded(&self) -> bool {
        !self.body.is_empty()
            && list(&self.headers, &HeaderName::ContentEncoding)
                .iter()
                .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    }
}
