//! Why a request failed, in kinds that providers tell apart.

use std::error::Error;
use std::io;

/// Why there is no answer. The text is for the call's event log and has no credentials in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL is not one for us.
    #[error("bad URL: {0}")]
    Url(String),
    /// The policy does not allow the address.
    #[error("refused: {0}")]
    Refused(String),
    /// The name has no address.
    #[error("name not resolved: {0}")]
    Dns(String),
    /// No connection in time (names, TCP or TLS).
    #[error("connect timeout: {0}")]
    ConnectTimeout(String),
    /// The connection was refused, reset or has no route.
    #[error("not connected: {0}")]
    ConnectRefused(String),
    /// The certificate or the handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// Connected, but no complete answer in time.
    #[error("timeout: {0}")]
    Timeout(String),
    /// The body is longer than allowed.
    #[error("answer {status} is longer than {limit} octets")]
    TooLarge {
        /// The answer's HTTP status.
        status: u16,
        /// Octets allowed.
        limit: usize,
    },
    /// More redirects than this.
    #[error("more than {0} redirects")]
    TooManyRedirects(u32),
    /// The connection broke before the answer was complete.
    #[error("connection lost: {0}")]
    Broken(String),
    /// The answer is not HTTP; or the request cannot be written as HTTP.
    #[error("protocol: {0}")]
    Protocol(String),
}

impl FetchError {
    /// The same error with more text behind it; kinds without text of their own stay as they are.
    pub(super) fn add(mut self, more: &str) -> FetchError {
        match &mut self {
            FetchError::Url(text)
            | FetchError::Refused(text)
            | FetchError::Dns(text)
            | FetchError::ConnectTimeout(text)
            | FetchError::ConnectRefused(text)
            | FetchError::Tls(text)
            | FetchError::Timeout(text)
            | FetchError::Broken(text)
            | FetchError::Protocol(text) => text.push_str(more),
            FetchError::TooLarge { .. } | FetchError::TooManyRedirects(_) => {}
        }
        self
    }

    /// One word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            FetchError::Url(_) => "url",
            FetchError::Refused(_) => "refused",
            FetchError::Dns(_) => "dns",
            FetchError::ConnectTimeout(_) => "connect_timeout",
            FetchError::ConnectRefused(_) => "connect_refused",
            FetchError::Tls(_) => "tls",
            FetchError::Timeout(_) => "timeout",
            FetchError::TooLarge { .. } => "too_large",
            FetchError::TooManyRedirects(_) => "too_many_redirects",
            FetchError::Broken(_) => "broken",
            FetchError::Protocol(_) => "protocol",
        }
    }
}

/// The library's error, by its causes: our own refusal from inside its resolver comes back as it was.
pub(super) fn classify(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    let (mut tls, mut broken) = (false, false);
    while let Some(cause) = source {
        if let Some(ours) = cause.downcast_ref::<FetchError>() {
            return ours.clone();
        }
        tls |= cause.is::<rustls::Error>();
        broken |= cause.downcast_ref().is_some_and(hyper::Error::is_incomplete_message)
            || cause.downcast_ref().is_some_and(is_broken);
        text = cause.to_string();
        // tokio-rustls tells a peer that leaves within the handshake by this text alone.
        tls |= text == "tls handshake eof";
        // An I/O error names its content's source as its own, so the content itself would be passed over.
        source = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(content) => Some(content),
            None => cause.source(),
        };
    }
    match (error.is_connect(), error.is_timeout()) {
        _ if tls => FetchError::Tls(text),
        (true, true) => FetchError::ConnectTimeout(text),
        (false, true) => FetchError::Timeout(text),
        (true, false) => FetchError::ConnectRefused(text),
        (false, false) if broken => FetchError::Broken(text),
        (false, false) => FetchError::Protocol(text),
    }
}

fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
