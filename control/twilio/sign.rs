//! `X-Twilio-Signature`: the HMAC-SHA1 of the URL and the sorted form parameters, in base64. The key is the account's
//! auth token.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tandem_host::hash;

/// Signs a request. `url` is the requested URL without its fragment. `parameters` are the decoded form parameters.
/// There are no parameters for a GET, a JSON body or a WebSocket handshake.
pub fn signature<'a>(auth_token: &str, url: &str, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut sorted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in parameters {
        sorted.entry(name).or_default().insert(value);
    }
    let pairs = sorted.into_iter().flat_map(|(name, values)| values.into_iter().flat_map(move |value| [name, value]));
    let parts = std::iter::once(url).chain(pairs).map(str::as_bytes);
    STANDARD.encode(hash::hmac_sha1(auth_token.as_bytes(), parts))
}

/// The URL of a request with a JSON body. The request and the signature both use this URL. The URL's query has the
/// parameter `bodySHA256`.
pub(crate) fn url_for_json(url: &str, body: &[u8]) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}bodySHA256={}", hash::hex(&hash::sha256([body])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "12345";

    #[test]
    fn a_form_is_signed_as_the_official_validator_expects() {
        let parameters = [
            ("To", "+18005551212"),
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+12349013030"),
            ("Digits", "1234"),
            ("From", "+12349013030"),
        ];
        let signed = signature(TOKEN, "https://example.com/myapp.php?foo=1&bar=2", parameters);
        assert_eq!(signed, "vNe7KK2kJwCsxc9K3OLkkKB3qqI=");
    }

    #[test]
    fn the_port_of_the_url_is_part_of_the_signature() {
        let parameters =
            [("CallSid", "CA00000000000000000000000000000001"), ("From", "+15550001111"), ("To", "+15550002222")];
        assert_eq!(signature(TOKEN, "http://127.0.0.1:5000/voice", parameters), "Srcl0Cs/xNlr86Jw2kikOqceA+s=");
    }

    #[test]
    fn the_signature_of_a_websocket_covers_its_url_only() {
        assert_eq!(signature(TOKEN, "wss://127.0.0.1:5000/media", []), "vpxf0v2dd7/HzhiIw0qU9UREaYw=");
    }

    #[test]
    fn the_signature_of_a_json_body_covers_its_hash_in_the_url() {
        let url = url_for_json("https://example.com/cb", br#"{"a":1}"#);
        let hash = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862";
        assert_eq!(url, format!("https://example.com/cb?bodySHA256={hash}"));
        assert_eq!(signature(TOKEN, &url, []), "1GgN8nEpt8zPd8zDAaVw1GrLTTo=");
    }

    #[test]
    fn distinct_values_of_a_repeated_parameter_are_signed_sorted() {
        let many = signature(TOKEN, "http://x/", [("A", "2"), ("A", "1"), ("A", "2")]);
        assert_eq!(many, signature(TOKEN, "http://x/A1A2", []));
    }
}
