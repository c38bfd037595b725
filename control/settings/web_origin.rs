//! Web origins: the values of the header field `Origin` (RFC 6454), with which a browser says which page sends a request.

use std::net::IpAddr;

/// Returns the host of an origin, without port and brackets. Returns `None` if the text is not `SCHEME://HOST[:PORT]`,
/// for example for the origin `null` of a local file.
pub fn host(origin: &str) -> Option<&str> {
    let (scheme, rest) = origin.split_once("://")?;
    let host = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => rest.split(':').next()?,
    };
    (!scheme.is_empty() && !host.is_empty() && !rest.contains(['/', '@', '?', '#'])).then_some(host)
}

/// Whether a host name or address always means the machine of the browser itself.
pub fn is_loopback(host: &str) -> bool {
    let name = host.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_origin_has_neither_port_nor_brackets() {
        for (origin, expected) in [
            ("https://app.example.com", Some("app.example.com")),
            ("http://localhost:3000", Some("localhost")),
            ("http://[::1]:8080", Some("::1")),
            ("null", None),
            ("https://", None),
            ("https://a@localhost", None),
            ("http://localhost/x", None),
            ("http://[::1", None),
        ] {
            assert_eq!(host(origin), expected, "{origin}");
        }
    }

    #[test]
    fn a_host_name_that_begins_with_localhost_is_not_loopback() {
        for (name, expected) in [
            ("localhost", true),
            ("LOCALHOST", true),
            ("app.localhost", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evillocalhost", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(name), expected, "{name}");
        }
    }
}
