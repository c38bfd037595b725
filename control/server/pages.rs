//! Requests of web pages. A browser can send the credentials that its user has entered earlier with the requests of every
//! page, and every page can reach the interfaces that are open to the browser's machine.

use std::borrow::Cow;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tandem_runtime::app::App;
use tandem_settings::printable::printable_json;
use tandem_settings::web_origin;

/// Middleware that refuses requests of other web pages, if the requests can change data. A browser sends `Origin` with
/// every such request (Fetch standard, "Origin header"). Programs that are not browsers send no `Origin`. The gateways
/// have lists of their own.
pub(crate) async fn refuse_foreign(State(app): State<App>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let origin = request.headers().get(header::ORIGIN).filter(|_| !reads);
    if origin.is_some_and(|origin| !origin.to_str().is_ok_and(|origin| is_own(&app.public_url, origin))) {
        return (StatusCode::FORBIDDEN, "web pages of other origins may not send this request\n").into_response();
    }
    next.run(request).await
}

/// Whether an origin belongs to this machine or to the host of the public URL.
fn is_own(public_url: &str, origin: &str) -> bool {
    let own = |host: &str| web_origin::host(public_url).is_some_and(|own| own.eq_ignore_ascii_case(host));
    web_origin::host(origin).is_some_and(|host| web_origin::is_loopback(host) || own(host))
}

/// Whether a request names this server by an address or by a name without domain. A page of a foreign domain can point
/// its own name to this machine, and then reads the responses. The browser of such a page sends the page's name in `Host`.
pub(crate) fn names_this_server(public_url: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = format!("http://{host}");
    match web_origin::host(&origin) {
        None => host.is_empty(),
        Some(name) => {
            web_origin::is_loopback(name)
                || name.parse::<std::net::IpAddr>().is_ok()
                || !name.contains('.')
                || is_own(public_url, &origin)
        }
    }
}

/// Middleware that escapes the characters of JSON that a terminal could obey ([`printable_json`]). The text of a far end
/// is in many responses, and people read the responses in terminals, for example with curl. Text responses are escaped
/// already, and captures are not text.
pub(crate) async fn printable(response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_stream = matches!(kind, "application/x-ndjson" | "text/event-stream");
    if !is_stream && kind != "application/json" {
        return response;
    }
    let escaped = |octets: Bytes| match std::str::from_utf8(&octets).map(printable_json) {
        Ok(Cow::Owned(text)) => Bytes::from(text),
        // This server writes only UTF-8, and a piece of a stream has whole lines.
        Ok(Cow::Borrowed(_)) | Err(_) => octets,
    };
    let (parts, body) = response.into_parts();
    let body = if is_stream {
        Body::from_stream(body.into_data_stream().map(move |octets| octets.map(escaped)))
    } else {
        // This server wrote the body, and the number of rows limits the body's length.
        axum::body::to_bytes(body, usize::MAX).await.map(escaped).unwrap_or_default().into()
    };
    Response::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_host_is_foreign() {
        for (origin, own) in [
            ("https://voice.example.com", true),
            ("http://VOICE.example.com:8080", true),
            ("http://localhost:3000", true),
            ("https://evil.example", false),
            ("https://voice.example.com.evil.example", false),
            ("null", false),
        ] {
            assert_eq!(is_own("https://voice.example.com", origin), own, "{origin}");
        }
    }

    #[tokio::test]
    async fn json_responses_escape_control_characters_of_terminals() {
        let text = "{\"to\":\"sip:a\u{202e}b\u{9b}2J\u{2066}\"}\n";
        let shown = "{\"to\":\"sip:a\\u202eb\\u009b2J\\u2066\"}\n";
        let sent = async |kind: &str, body: Body| {
            let response = ([(header::CONTENT_TYPE, kind)], body).into_response();
            let body = axum::body::to_bytes(printable(response).await.into_body(), usize::MAX).await.unwrap();
            String::from_utf8(body.to_vec()).unwrap()
        };
        assert_eq!(sent("application/json", text.into()).await, shown);
        let stream = |pieces: [String; 3]| {
            Body::from_stream(futures_util::stream::iter(pieces.map(Ok::<_, std::convert::Infallible>)))
        };
        let lines = stream([text.into(), "\n".into(), "{\"é\":1}\n".into()]);
        assert_eq!(sent("application/x-ndjson", lines).await, format!("{shown}\n{{\"é\":1}}\n"));
        let events = stream([format!("data: {text}\n"), ":\n\n".into(), "data: {\"é\":1}\n\n".into()]);
        let events = sent("text/event-stream", events).await;
        assert_eq!(events, format!("data: {shown}\n:\n\ndata: {{\"é\":1}}\n\n"));
        assert_eq!(sent("application/vnd.tcpdump.pcap", text.into()).await, text);
    }

    #[test]
    fn a_foreign_host_header_is_distinguished_from_the_servers_names() {
        for (host, own) in [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("10.0.0.5:8080", true),
            ("localhost:8080", true),
            ("tandem:8080", true),
            ("voice.example.com", true),
            ("evil.example:8080", false),
            ("127.0.0.1.evil.example", false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            assert_eq!(names_this_server("https://voice.example.com", &headers), own, "{host}");
        }
        assert!(names_this_server("http://a", &HeaderMap::new()), "HTTP/1.0");
    }
}
