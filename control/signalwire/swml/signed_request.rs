//! Signs one attempt of a request with SignalWire's signatures for JSON. The signatures are the HMAC-SHA1 and the
//! HMAC-SHA256 of the URL and the body, in hex.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value as Json;
use tandem_call::Method;
use tandem_dialect::form::with_query;
use tandem_host::hash::{hex, hmac_sha1, hmac_sha256};
use tandem_webhooks::{Body, SignInput, SignedRequest};

use super::super::signed_request::split_credentials;

/// The `User-Agent` of this server's requests.
const USER_AGENT: &str = "SignalWire";

/// Encodes and signs one attempt. The user name and password in the URL become Basic credentials. The signature is for
/// the URL without user name and password.
pub(in super::super) fn sign(key: &str, notice: &SignInput<'_>) -> SignedRequest {
    let url = notice.url.split('#').next().unwrap_or(notice.url);
    let (url, credentials) = split_credentials(url);
    let (url, body) = match (notice.method, notice.body) {
        (Method::Post, Body::Json(body)) => (url, Bytes::from(body.to_string())),
        (Method::Get, Body::Json(body)) => (with_query(&url, &few(body)), Bytes::new()),
        (_, Body::Form(pairs)) => (with_query(&url, pairs), Bytes::new()),
    };
    let mut headers = vec![
        ("User-Agent".to_owned(), USER_AGENT.to_owned()),
        ("Accept".to_owned(), "application/json, application/yaml, text/x-yaml, */*;q=0.1".to_owned()),
    ];
    if !body.is_empty() {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    if let Some(credentials) = credentials {
        headers.push(("Authorization".to_owned(), format!("Basic {}", STANDARD.encode(credentials))));
    }
    let signed = [url.as_bytes(), &body[..]];
    headers.push(("X-SignalWire-Signature".to_owned(), hex(&hmac_sha1(key.as_bytes(), signed))));
    headers.push(("X-SignalWire-SHA256-Signature".to_owned(), hex(&hmac_sha256(key.as_bytes(), signed))));
    SignedRequest { url, headers, body }
}

/// The query parameters of a GET. The query has only a few properties of the call, because a query has no room for
/// more.
fn few(body: &Json) -> Vec<(String, String)> {
    let call = body.get("call").or_else(|| body.get("params")).unwrap_or(body);
    let member = |name: &str| Some((name.to_owned(), call.get(name)?.as_str()?.to_owned()));
    ["call_id", "from", "to", "direction"].into_iter().filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn signed(url: &str, method: Method, body: &Body) -> SignedRequest {
        sign("PSK_secret", &SignInput { url, method, body, id: 1, attempt: 1, now: Timestamp::UNIX_EPOCH })
    }

    fn header<'a>(signed: &'a SignedRequest, name: &str) -> Option<&'a str> {
        signed.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The expected values come from Python: `hmac.new(key, url + body, sha1).hexdigest()`.
    #[test]
    fn a_request_has_an_sha1_and_an_sha256_signature_of_url_and_body() {
        let body = Body::Json(serde_json::json!({"a": 1}));
        let signed = signed("http://u:p%40@127.0.0.1:5000/swml?x=1#job", Method::Post, &body);
        assert_eq!(signed.url, "http://127.0.0.1:5000/swml?x=1");
        assert_eq!(&signed.body[..], b"{\"a\":1}");
        assert_eq!(header(&signed, "Authorization"), Some("Basic dTpwQA=="));
        assert_eq!(header(&signed, "Content-Type"), Some("application/json"));
        assert_eq!(header(&signed, "X-SignalWire-Signature"), Some("08a4400515904f7c21face6fe5175490e13ea517"));
        assert_eq!(
            header(&signed, "X-SignalWire-SHA256-Signature"),
            Some("10b2361a53e2719d8f2312c320b6c6fce7a4c35163f94bd77b9de73a1fe0103e")
        );
    }

    #[test]
    fn a_get_has_the_caller_and_the_called_party_in_its_query() {
        let body =
            Body::Json(serde_json::json!({"call": {"call_id": "x", "from": "+1", "to": "sip:a", "type": "sip"}}));
        let signed = signed("http://h/?a=b", Method::Get, &body);
        assert_eq!(signed.url, "http://h/?a=b&call_id=x&from=%2B1&to=sip%3Aa");
        assert!(signed.body.is_empty() && header(&signed, "Content-Type").is_none());
    }
}
