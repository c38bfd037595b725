//! The rules for the requests to a gateway. The protocols of the gateways have no accounts, so any page in a browser on
//! this machine could use a gateway without these rules.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tandem_call::address::PhoneNumber;
use tandem_settings::{Secret, web_origin};

use crate::header;
use crate::limits::Rate;

/// Web origins whose pages may always use a gateway with `allowed_origins`: pages in development.
const DEVELOPMENT: &str = "http://localhost:3000";
/// The error for a request whose `Host` does not name this server.
const UNKNOWN_HOST: &str =
    "Unknown host: use the host of http.public_url or an address, add the origin to allowed_origins, or set a secret";

/// The rules of one gateway.
#[derive(Debug)]
pub(crate) struct Access {
    /// Name of the gateway's table in the configuration.
    pub(crate) table: &'static str,
    /// `allowed_origins`. If the list is empty, pages of this machine and of the public URL's host are allowed.
    pub(crate) origins: Vec<Arc<str>>,
    /// The host of `http.public_url`.
    pub(crate) own_host: Option<String>,
    /// Another host name under which clients reach the gateway, with a port if needed.
    pub(crate) stream_host: Option<Arc<str>>,
    /// The password of the gateway, if it has one.
    pub(crate) secret: Option<Secret>,
    /// The beginnings of the numbers that may be called. An empty list allows every number.
    pub(crate) prefixes: Vec<Arc<str>>,
    /// The limit of calls that all users together start.
    pub(crate) calls: Rate,
    /// Whether the gateway's errors contain `"success":false`.
    pub(crate) names_success: bool,
}

/// The reason why a gateway does not make a call.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallLimit {
    /// The gateway may not call the number.
    #[error("calls to {to} are not allowed: gateways.{table}.prefixes does not contain this number")]
    Number {
        /// The number.
        to: PhoneNumber,
        /// Name of the gateway's table in the configuration.
        table: &'static str,
    },
    /// Too many calls were started. The next call is allowed after this time.
    #[error("Too many requests")]
    TooMany(Duration),
}

impl CallLimit {
    /// Returns the response with this body: 403, or 429 with the seconds to wait.
    pub(crate) fn response(&self, body: Json<Value>) -> Response {
        match self {
            Self::Number { .. } => (StatusCode::FORBIDDEN, body).into_response(),
            Self::TooMany(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())], body).into_response()
            }
        }
    }
}

impl Access {
    /// Whether pages of this origin may use the gateway.
    pub(crate) fn allows_origin(&self, origin: &str) -> bool {
        let host = web_origin::host(origin);
        let own = || host.is_some_and(|host| self.own_host.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(host)));
        match self.origins.is_empty() {
            true => host.is_some_and(web_origin::is_loopback) || own(),
            false => origin == DEVELOPMENT || self.origins.iter().any(|one| **one == *origin) || own(),
        }
    }

    /// Whether the value of a `Host` header field may name this server. A page can point its own host name to this machine
    /// (DNS rebinding). Then the browser takes the requests of this page for requests to the page's own server, and a GET
    /// has no `Origin`. The owner of a page can choose neither an address nor a name without a dot.
    fn allows_host(&self, host: &str) -> bool {
        let name = |host: &str| web_origin::host(&format!("http://{host}")).map(str::to_ascii_lowercase);
        let Some(host) = name(host) else { return false };
        let listed = self.origins.iter().filter_map(|origin| web_origin::host(origin));
        let own = self.stream_host.iter().filter_map(|host| name(host));
        let known = self.own_host.iter().map(|own| own.to_ascii_lowercase()).chain(own);
        host.parse::<IpAddr>().is_ok()
            || !host.contains('.')
            || web_origin::is_loopback(&host)
            || { known }.any(|one| one == host)
            || { listed }.any(|one| one.eq_ignore_ascii_case(&host))
    }

    /// Checks the number of a new call, and counts the call.
    pub(crate) fn take_call(&self, to: &PhoneNumber, now: Instant) -> Result<(), CallLimit> {
        if !self.prefixes.is_empty() && !self.prefixes.iter().any(|prefix| to.as_str().starts_with(&**prefix)) {
            return Err(CallLimit::Number { to: to.clone(), table: self.table });
        }
        self.calls.take("", now).map_err(CallLimit::TooMany)
    }

    /// Checks the origin and the content type of a request.
    fn admit(&self, request: &Request) -> Result<(), (StatusCode, &'static str)> {
        let headers = request.headers();
        if origin(headers).is_some_and(|origin| !origin.is_some_and(|origin| self.allows_origin(origin))) {
            return Err((StatusCode::FORBIDDEN, "Unauthorized origin"));
        }
        let host = headers.get(header::HOST).map(HeaderValue::to_str);
        if self.secret.is_none() && host.is_some_and(|host| !host.is_ok_and(|host| self.allows_host(host))) {
            return Err((StatusCode::FORBIDDEN, UNKNOWN_HOST));
        }
        // A browser sends JSON to another origin only after a preflight request.
        let length = header(headers, "content-length").is_some_and(|length| length.trim() != "0");
        let has_body = length || headers.contains_key(header::TRANSFER_ENCODING);
        let is_json = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().is_ok_and(is_json));
        match is_json {
            _ if request.method() != Method::POST => Ok(()),
            Some(true) => Ok(()),
            None if !has_body => Ok(()),
            _ => Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "The Content-Type must be application/json")),
        }
    }

    /// Whether the request has the gateway's password: in `Authorization: Bearer`. A WebSocket may have the password in
    /// the query parameter `secret`, because a page cannot set header fields of a WebSocket. The URL of another request
    /// must not have the password: programs and proxies write URLs to logs and histories.
    fn knows_secret(&self, request: &Request) -> bool {
        let Some(secret) = &self.secret else { return true };
        let bearer = header(request.headers(), "authorization").and_then(|line| line.strip_prefix("Bearer "));
        let is_websocket = header(request.headers(), "upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
        let query = request.uri().query().filter(|_| is_websocket).unwrap_or_default();
        let named = query.split('&').find_map(|pair| pair.strip_prefix("secret="));
        let is_secret = |given: &str| bool::from(given.as_bytes().ct_eq(secret.expose().as_bytes()));
        bearer.is_some_and(is_secret) || named.is_some_and(is_secret)
    }

    fn refusal(&self, status: StatusCode, error: &str) -> Response {
        let mut body = json!({ "error": error });
        if let Value::Object(members) = &mut body
            && self.names_success
        {
            members.insert("success".into(), false.into());
        }
        (status, Json(body)).into_response()
    }
}

/// Middleware that applies the rules for origins and content types, and implements the CORS protocol of the Fetch
/// standard: it answers preflight requests with 204, and adds the CORS headers to every response to an allowed origin.
pub(crate) async fn guard(access: Arc<Access>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let preflight = request.method() == Method::OPTIONS;
    let requested = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let admitted = access.admit(&request);
    let from_page = origin.filter(|_| !matches!(admitted, Err((StatusCode::FORBIDDEN, _))));
    let mut response = match admitted {
        Err((status, error)) => access.refusal(status, error),
        Ok(()) if preflight => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = from_page {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let mut put = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
        put(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        if preflight {
            put(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE, OPTIONS");
            put(header::ACCESS_CONTROL_MAX_AGE, "86400");
            let usual = HeaderValue::from_static("Content-Type, Authorization, Origin, Accept");
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.unwrap_or(usual));
        }
    }
    response
}

/// Middleware that requires the gateway's password, if it has one.
pub(crate) async fn require_secret(access: Arc<Access>, request: Request, next: Next) -> Response {
    match access.knows_secret(&request) {
        true => next.run(request).await,
        false => access.refusal(StatusCode::UNAUTHORIZED, "The secret of the gateway is required"),
    }
}

/// Returns the origin of a request. The outer `None` means that the request has no origin. The inner `None` means that
/// the origin is no text.
fn origin(headers: &HeaderMap) -> Option<Option<&str>> {
    headers.get(header::ORIGIN).map(|origin| origin.to_str().ok())
}

fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or(kind).trim();
    essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware;
    use axum::routing::{get, post};
    use tower_service::Service;

    use super::*;

    fn access(change: impl FnOnce(&mut Access)) -> Access {
        let mut access = Access {
            table: "dash",
            origins: Vec::new(),
            own_host: Some("voice.example.com".into()),
            stream_host: Some("media.example.com:8081".into()),
            secret: None,
            prefixes: Vec::new(),
            calls: Rate::new(3),
            names_success: true,
        };
        change(&mut access);
        access
    }

    async fn response_to(
        access: Access,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Response {
        let access = Arc::new(access);
        let secret = Arc::clone(&access);
        let mut router = Router::new()
            .route("/call", post(|| async { "called" }))
            .route("/events", get(|| async { "heard" }))
            .layer(middleware::from_fn(move |request, next| require_secret(Arc::clone(&secret), request, next)))
            .layer(middleware::from_fn(move |request, next| guard(Arc::clone(&access), request, next)));
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.header("content-length", body.len());
        }
        router.call(request.body(Body::from(body)).unwrap()).await.unwrap()
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    #[tokio::test]
    async fn requests_of_a_page_from_a_foreign_origin_are_refused() {
        for (origin, may) in [
            ("http://localhost:3000", true),
            ("http://localhost:5173", true),
            ("http://127.0.0.1:8080", true),
            ("https://voice.example.com", true),
            ("https://evil.example", false),
            ("http://evil.example:8080", false),
            ("https://voice.example.com.evil.example", false),
            ("http://localhost.evil.example", false),
            ("null", false),
            ("", false),
        ] {
            for (method, path) in [("POST", "/call"), ("GET", "/events"), ("OPTIONS", "/call")] {
                let answer = response_to(access(|_| {}), method, path, &[("origin", origin), JSON], "").await;
                let allowed = answer.headers().get("access-control-allow-origin").is_some();
                assert_eq!((answer.status().is_success(), allowed), (may, may), "{method} from {origin:?}");
            }
        }
        let listed = || access(|access| access.origins = vec!["https://app.example.com".into()]);
        for (origin, may) in [
            ("https://app.example.com", true),
            ("http://localhost:3000", true),
            ("https://voice.example.com", true),
            ("http://localhost:5173", false),
            ("https://app.example.com:444", false),
        ] {
            let answer = response_to(listed(), "POST", "/call", &[("origin", origin), JSON], "{}").await;
            assert_eq!(answer.status().is_success(), may, "{origin}");
        }
        assert!(response_to(listed(), "POST", "/call", &[JSON], "{}").await.status().is_success(), "no page asks");
    }

    #[tokio::test]
    async fn requests_with_a_foreign_host_header_are_refused() {
        for (host, may) in [
            ("localhost:8080", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("192.0.2.7", true),
            ("tandem:8080", true),
            ("VOICE.example.com", true),
            ("media.example.com", true),
            ("app.example.com:444", true),
            ("evil.example", false),
            ("evil.example:8080", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("a@localhost", false),
            ("", false),
        ] {
            let with_origins = || access(|access| access.origins = vec!["https://app.example.com".into()]);
            for (method, path) in [("GET", "/events"), ("POST", "/call")] {
                let answer = response_to(with_origins(), method, path, &[("host", host), JSON], "").await;
                assert_eq!(answer.status().is_success(), may, "{method} to {host:?}");
            }
        }
        let with_secret = access(|access| access.secret = Some(Secret::new("swordfish")));
        let headers = [("host", "gateway.example.net"), ("authorization", "Bearer swordfish")];
        let answer = response_to(with_secret, "GET", "/events", &headers, "").await;
        assert_eq!(answer.status(), 200, "such a page does not know the secret");
    }

    #[tokio::test]
    async fn only_json_bodies_are_accepted() {
        for (kind, body, may) in [
            (Some("application/json"), "{}", true),
            (Some("application/json; charset=utf-8"), "{}", true),
            (None, "", true),
            (None, "{}", false),
            (Some("text/plain"), "{}", false),
            (Some("text/plain;application/json"), "{}", false),
            (Some("application/x-www-form-urlencoded"), "{}", false),
            (Some("multipart/form-data; boundary=a"), "{}", false),
            (Some("text/plain"), "", false),
        ] {
            let headers: Vec<_> = kind.map(|kind| ("content-type", kind)).into_iter().collect();
            let answer = response_to(access(|_| {}), "POST", "/call", &headers, body).await;
            assert_eq!(answer.status().is_success(), may, "{kind:?} {body:?}");
        }
    }

    #[tokio::test]
    async fn the_secret_is_accepted_in_the_header_and_in_a_websocket_url_only() {
        let with = || access(|access| access.secret = Some(Secret::new("swordfish")));
        let websocket = ("upgrade", "WebSocket");
        for (path, headers, status) in [
            ("/events", vec![], 401),
            ("/events?secret=guessed", vec![websocket], 401),
            ("/events?a=b&secret=swordfish", vec![websocket], 200),
            ("/events?secret=swordfish", vec![], 401),
            ("/events?secret=swordfish", vec![("upgrade", "h2c")], 401),
            ("/events", vec![("authorization", "Bearer swordfish")], 200),
            ("/events", vec![("authorization", "Bearer swordfishes")], 401),
        ] {
            assert_eq!(response_to(with(), "GET", path, &headers, "").await.status(), status, "{path} {headers:?}");
        }
        let call = response_to(with(), "POST", "/call?secret=swordfish", &[JSON], "{}").await;
        assert_eq!(call.status(), 401, "only a WebSocket has the secret in its URL");
        let preflight = response_to(with(), "OPTIONS", "/call", &[("origin", "http://localhost:1")], "").await;
        assert_eq!(preflight.status(), 204, "a preflight request has no credentials");
    }

    #[test]
    fn the_rate_and_the_prefixes_of_all_gateway_calls_are_limited() {
        let access = access(|access| access.prefixes = vec!["+49".into(), "+1555".into()]);
        let now = tandem_host::clock::now().instant;
        let call = |number: &str| access.take_call(&number.parse().unwrap(), now);
        assert!(call("+4930123456").is_ok() && call("+15551230001").is_ok());
        let refused = call("+19005550001").unwrap_err();
        assert!(refused.to_string().contains("gateways.dash.prefixes"));
        assert_eq!(refused.response(Json(Value::Null)).status(), 403);
        assert!(call("+4930123456").is_ok(), "a refused number does not count");
        let refused = call("+4930123456").unwrap_err();
        assert_eq!(refused, CallLimit::TooMany(Duration::from_secs(60)));
        assert_eq!(refused.response(Json(Value::Null)).headers()["retry-after"], "60");
    }
}
