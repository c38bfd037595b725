//! The page is for the person at this machine. So requests that show that they come from elsewhere are refused: from
//! other machines, through proxies that name themselves, of pages of other origins, and of names that a foreign page has
//! pointed to this machine (DNS rebinding). Other proxies are not visible here: the [`Key`](crate::Key) keeps them out.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tandem_settings::web_origin;

use crate::refused;

/// Header fields with which a proxy names itself. The peer of a proxied request is the proxy, so its address proves
/// nothing.
const OF_PROXIES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "via"];

/// The header fields of each response of a page of this server.
pub const OF_PAGES: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "microphone=(self)"),
];

/// The header fields of this page alone. Scripts, styles and requests only from and to this server.
const HEADERS: [(HeaderName, &str); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

/// Middleware that answers only the browser of this machine.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let mut response = match foreign(peer, request.headers()) {
        None => next.run(request).await,
        Some(why) => refused(
            StatusCode::FORBIDDEN,
            format!(
                "{why}. This page works only in a browser on the machine of `tandem dev`: open there the address that \
                 `tandem dev` prints, key included."
            ),
        ),
    };
    let fields = OF_PAGES.into_iter().chain(HEADERS);
    response.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

/// Returns why a request does not come from a page of this server in a browser on this machine.
fn foreign(peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<&'static str> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if !peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
        return Some("The request comes from another machine");
    }
    if OF_PROXIES.iter().any(|name| headers.contains_key(*name)) {
        return Some("The request comes through a proxy");
    }
    let own = format!("http://{}", text(&header::HOST).unwrap_or_default());
    if !web_origin::host(&own).is_some_and(web_origin::is_loopback) {
        return Some("The address names another host than this machine");
    }
    // A browser sends `Origin` with each POST. Programs on this machine send none.
    if text(&header::ORIGIN).is_some_and(|origin| !origin.eq_ignore_ascii_case(&own)) {
        return Some("The request comes from a page of another origin");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_of_this_server_on_this_machine_is_answered() {
        let own: &[(&str, &str)] = &[("host", "127.0.0.1:8080")];
        for (peer, headers, answered) in [
            ("127.0.0.1:9", own, true),
            ("[::1]:9", &[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")], true),
            ("[::ffff:127.0.0.1]:9", &[("host", "localhost:8080"), ("origin", "http://LOCALHOST:8080")], true),
            ("192.0.2.1:9", own, false),
            ("127.0.0.1:9", &[], false),
            ("127.0.0.1:9", &[("host", "rebound.example:8080")], false),
            ("127.0.0.1:9", &[("host", "10.0.0.5:8080")], false),
            ("127.0.0.1:9", &[("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:3000")], false),
            ("127.0.0.1:9", &[("host", "127.0.0.1:8080"), ("origin", "https://127.0.0.1:8080")], false),
            ("127.0.0.1:9", &[("host", "127.0.0.1:8080"), ("origin", "null")], false),
            ("127.0.0.1:9", &[("host", "127.0.0.1:8080"), ("x-forwarded-for", "192.0.2.1")], false),
        ] {
            let fields = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            let found = foreign(Some(peer.parse().unwrap()), &fields.collect());
            assert_eq!(found.is_none(), answered, "{peer} {headers:?} {found:?}");
        }
        assert!(foreign(None, &HeaderMap::new()).is_some());
    }
}
