//! The URL of the application: its short forms, its origin, and whether something listens there.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Time limit for the connection that shows whether the application is running.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// Completes a short form of a URL, for example `5000/voice`. A complete URL stays unchanged.
pub(super) fn complete(text: &str) -> Result<String, String> {
    let wrong =
        || format!("{text:?} is not the URL of an application; write http://127.0.0.1:5000/voice or 5000/voice");
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(text.to_owned());
    }
    if text.is_empty() || text.contains("://") || text.contains(char::is_whitespace) {
        return Err(wrong());
    }
    let (host, path) = text.split_once('/').map_or((text, ""), |(host, path)| (host, path));
    let port = host.strip_prefix(':').unwrap_or(host);
    let host = match port.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) if host.starts_with(':') || host.is_empty() => return Err(wrong()),
        // The text is a host with a port, or only a host. Without a port, the URL means port 80.
        Err(_) => host.to_owned(),
    };
    Ok(format!("http://{host}/{path}"))
}

/// Splits a URL into its origin and its path.
pub(super) fn split(url: &str) -> (&str, &str) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| start + at);
    url.split_at(end)
}

/// Splits an origin into the origin without `USER:PASSWORD@` and the text before the `@`.
pub(super) fn without_user(origin: &str) -> (String, Option<&str>) {
    let (scheme, authority) = origin.split_once("://").unwrap_or(("http", origin));
    match authority.rsplit_once('@') {
        Some((user, host)) => (format!("{scheme}://{host}"), Some(user)),
        None => (origin.to_owned(), None),
    }
}

/// Adds `USER:PASSWORD@` to a URL.
pub(super) fn with_user(url: &str, user: Option<&str>) -> String {
    match (user, url.split_once("://")) {
        (Some(user), Some((scheme, rest))) => format!("{scheme}://{user}@{rest}"),
        _ => url.to_owned(),
    }
}

/// Returns whether the host of the URL accepts a TCP connection.
pub(super) fn is_there(url: &str) -> bool {
    let (origin, _) = split(url);
    let (origin, _) = without_user(origin);
    let (scheme, host) = origin.split_once("://").unwrap_or(("http", &origin));
    let with_port = match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
        _ => format!("{host}:{}", if scheme == "https" { 443 } else { 80 }),
    };
    let found = with_port.to_socket_addrs().into_iter().flatten();
    found.into_iter().any(|address| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_be_abbreviated() {
        for (text, whole) in [
            ("http://127.0.0.1:5000/voice", "http://127.0.0.1:5000/voice"),
            ("https://app.example/voice", "https://app.example/voice"),
            ("127.0.0.1:5000/voice", "http://127.0.0.1:5000/voice"),
            ("localhost:5000", "http://localhost:5000/"),
            (":5000/voice", "http://127.0.0.1:5000/voice"),
            ("5000/voice?a=b", "http://127.0.0.1:5000/voice?a=b"),
            ("5000", "http://127.0.0.1:5000/"),
        ] {
            assert_eq!(complete(text).as_deref(), Ok(whole), "{text}");
        }
        for text in ["", ":", "/voice", "ftp://a/b", "a b", ":x/voice"] {
            assert!(complete(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reachable_application_with_a_password_in_its_url_is_detected() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_there(&format!("http://swml:secret@{address}/ivr")) && is_there(&format!("http://{address}")));
        drop(listener);
        assert!(!is_there(&format!("http://swml:secret@{address}/ivr")));
    }

    #[test]
    fn a_url_has_an_origin_and_a_path() {
        assert_eq!(split("http://127.0.0.1:5000/voice?a"), ("http://127.0.0.1:5000", "/voice?a"));
        assert_eq!(split("https://app.example"), ("https://app.example", ""));
    }
}
