//! The kinds of failure of a request. Each failure that providers treat differently has its own kind.

use std::error::Error;
use std::io;

/// The reason why there is no answer. The text is for the call's event log and contains no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL is invalid or not supported.
    #[error("bad URL: {0}")]
    Url(String),
    /// The network policy does not allow the address.
    #[error("refused: {0}")]
    Refused(String),
    /// The host name has no address.
    #[error("name not resolved: {0}")]
    Dns(String),
    /// There was no connection within the time limit. The limit includes name resolution, TCP and TLS.
    #[error("connect timeout: {0}")]
    ConnectTimeout(String),
    /// The connection was refused or reset, or there is no route to the address.
    #[error("not connected: {0}")]
    ConnectRefused(String),
    /// The TLS handshake failed, for example because of the certificate.
    #[error("TLS: {0}")]
    Tls(String),
    /// There is a connection, but the complete answer did not arrive within the time limit.
    #[error("timeout: {0}")]
    Timeout(String),
    /// The body is longer than the limit.
    #[error("answer {status} is longer than {limit} octets")]
    TooLarge {
        /// The answer's HTTP status.
        status: u16,
        /// The maximum number of octets.
        limit: usize,
    },
    /// There are more redirects than this maximum number.
    #[error("more than {0} redirects")]
    TooManyRedirects(u32),
    /// The connection broke before the answer was complete.
    #[error("connection lost: {0}")]
    Broken(String),
    /// The answer is not HTTP, or the request cannot be written as HTTP.
    #[error("protocol: {0}")]
    Protocol(String),
}

impl FetchError {
    /// Appends text to the error. An error without its own text is unchanged.
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

    /// The word for this kind of error in metrics.
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

/// Converts an error of the HTTP library. The function also reads the errors that caused this error. An error of this
/// client's own network policy comes from the resolver. The function returns such an error unchanged.
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
        // If a server closes the connection during the handshake, tokio-rustls reports this only with this text.
        tls |= text == "tls handshake eof";
        // The `source` of an I/O error is the source of the inner error and not the inner error itself.
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
