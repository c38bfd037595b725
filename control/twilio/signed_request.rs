//! Encodes and signs one attempt of a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tandem_call::Method;
use tandem_dialect::form::{encoded, with_query};
use tandem_webhooks::{Body, SignInput, SignedRequest};

use super::{sid, sign};

/// The `User-Agent` of Twilio's own requests.
const USER_AGENT: &str = "TwilioProxy/1.1";

/// Encodes and signs one attempt. The user name and password in the URL become HTTP Basic credentials. The signed URL
/// has no user name and password, because a validator rebuilds the URL from a request whose URL has none.
pub(super) fn sign(
    auth_token: &str,
    signature_headers: &[&str],
    notice: &SignInput<'_>,
    strip_https_port: bool,
) -> SignedRequest {
    let url = notice.url.split('#').next().unwrap_or(notice.url);
    let (url, credentials) = split_credentials(url);
    let sign = |url: &str, pairs: &[(String, String)]| {
        let bare = if strip_https_port { without_https_port(url) } else { None };
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        sign::signature(auth_token, bare.as_deref().unwrap_or(url), pairs)
    };
    let mut headers: Vec<(String, String)> = [("User-Agent", USER_AGENT), ("Accept", "*/*")].map(owned).into();
    let (url, body, signature) = match (notice.body, notice.method) {
        (Body::Form(parameters), Method::Get) => {
            let url = with_query(&url, parameters);
            let signature = sign(&url, &[]);
            (url, Bytes::new(), signature)
        }
        (Body::Form(parameters), Method::Post) => {
            headers.push(owned(("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")));
            let signature = sign(&url, parameters);
            (url, encoded(parameters).into(), signature)
        }
        (Body::Json(value), _) => {
            headers.push(owned(("Content-Type", "application/json")));
            let body = Bytes::from(value.to_string());
            let url = sign::url_for_json(&url, &body);
            let signature = sign(&url, &[]);
            (url, body, signature)
        }
    };
    if let Some(credentials) = credentials {
        headers.push(("Authorization".into(), format!("Basic {}", STANDARD.encode(credentials))));
    }
    headers.extend(signature_headers.iter().map(|name| ((*name).to_owned(), signature.clone())));
    headers.push(("I-Twilio-Idempotency-Token".into(), sid::uuid(notice.id)));
    SignedRequest { url, headers, body }
}

/// An `https` URL without its port. `None` if the URL has no port.
fn without_https_port(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = authority.rsplit_once(':')?;
    port.bytes().all(|octet| octet.is_ascii_digit()).then(|| format!("https://{host}{path}"))
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.into(), value.into())
}

/// The URL without `user:password@`, and the percent-decoded user name and password.
pub fn split_credentials(url: &str) -> (String, Option<Vec<u8>>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.into(), None) };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    match authority.rsplit_once('@') {
        Some((credentials, host)) => {
            let decoded = percent_encoding::percent_decode_str(credentials).collect();
            (format!("{scheme}://{host}{path}"), Some(decoded))
        }
        None => (url.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn signed(url: &str, method: Method, body: &Body) -> SignedRequest {
        let now = Timestamp::UNIX_EPOCH;
        sign(
            "12345",
            &["X-Twilio-Signature"],
            &SignInput { url, method, body, id: 0x1234_5678, attempt: 1, now },
            false,
        )
    }

    #[test]
    fn the_port_of_an_https_url_is_signed_unless_the_setting_strips_it() {
        let (now, body) = (Timestamp::UNIX_EPOCH, form());
        let signed = |url, strip| {
            let input = SignInput { url, method: Method::Post, body: &body, id: 1, attempt: 1, now };
            let signed = sign("12345", &["X-Twilio-Signature"], &input, strip);
            assert_eq!(signed.url, url);
            header(&signed, "X-Twilio-Signature").unwrap().to_owned()
        };
        assert_eq!(signed("https://h:8443/a?b=:1", true), signed("https://h/a?b=:1", false));
        assert_eq!(signed("https://[::1]:8443/a", true), signed("https://[::1]/a", false));
        assert_eq!(signed("https://[::1]/a", true), signed("https://[::1]/a", false));
        assert_eq!(signed("http://h:80/a", true), signed("http://h:80/a", false));
        assert_ne!(signed("https://h:443/a", false), signed("https://h/a", false));
    }

    fn header<'a>(signed: &'a SignedRequest, name: &str) -> Option<&'a str> {
        signed.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn form() -> Body {
        Body::Form(vec![("To".into(), "+1 5".into()), ("Empty".into(), String::new())])
    }

    #[test]
    fn a_post_has_a_form_body_and_signs_its_parameters() {
        let signed = signed("http://127.0.0.1:5000/voice?x=1#rc=2", Method::Post, &form());
        assert_eq!(signed.url, "http://127.0.0.1:5000/voice?x=1");
        assert_eq!(&signed.body[..], b"To=%2B1+5&Empty=");
        let expected = sign::signature("12345", "http://127.0.0.1:5000/voice?x=1EmptyTo+1 5", []);
        assert_eq!(header(&signed, "X-Twilio-Signature"), Some(expected.as_str()));
        assert_eq!(header(&signed, "I-Twilio-Idempotency-Token"), Some("00000000-0000-0000-0000-000012345678"));
        assert_eq!(header(&signed, "Content-Type"), Some("application/x-www-form-urlencoded; charset=UTF-8"));
    }

    #[test]
    fn a_get_has_the_parameters_in_its_query_and_signs_the_whole_url() {
        let signed = signed("http://h/voice?x=1", Method::Get, &form());
        assert_eq!(signed.url, "http://h/voice?x=1&To=%2B1+5&Empty=");
        assert_eq!(header(&signed, "X-Twilio-Signature"), Some(sign::signature("12345", &signed.url, []).as_str()));
        assert!(signed.body.is_empty() && header(&signed, "Content-Type").is_none());
    }

    #[test]
    fn a_get_without_parameters_keeps_and_signs_the_exact_url() {
        for url in ["http://h/voice", "http://h/voice?", "http://h/voice?x=1"] {
            let signed = signed(url, Method::Get, &Body::Form(Vec::new()));
            assert_eq!(signed.url, url);
            assert_eq!(header(&signed, "X-Twilio-Signature"), Some(sign::signature("12345", url, []).as_str()));
        }
    }

    #[test]
    fn the_url_of_a_json_request_gets_the_hash_of_the_body() {
        let signed = signed("https://example.com/cb", Method::Post, &Body::Json(serde_json::json!({"a": 1})));
        assert_eq!(header(&signed, "X-Twilio-Signature"), Some("1GgN8nEpt8zPd8zDAaVw1GrLTTo="));
        assert!(signed.url.ends_with("7f862"));
    }

    #[test]
    fn credentials_in_the_url_become_an_authorization_header() {
        let signed = signed("https://user:p%40ss@h/x?mail=a@b", Method::Post, &form());
        assert_eq!(signed.url, "https://h/x?mail=a@b");
        assert_eq!(header(&signed, "Authorization"), Some("Basic dXNlcjpwQHNz"));
    }
}
