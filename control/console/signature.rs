//! The signatures of the requests that this server sent to the application of a call, as they were sent. `tandem
//! signature` shows them.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::leg::LegInfo;
use tandem_dialect::Signing;
use tandem_history::event_log::Exchanged;
use tandem_http::exchange::{ExchangeDirection, HttpExchange};
use tandem_runtime::app::App;
use tandem_store::StoreFailed;
use url::Url;

use super::{QueryError, Scope};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/console/signature", get(signed))
}

/// The query of a request to list a call's signed requests. `url` is a URL that the call's application validates.
#[derive(Deserialize)]
struct SignedQuery {
    call: String,
    url: Option<String>,
}

/// The answer with the requests of a call and their signatures.
#[derive(Serialize)]
struct Signed {
    /// The id of the call.
    session: String,
    /// A readable description of the key that signed the requests.
    key: String,
    covers_url: bool,
    /// The signed data, and the way in which an application checks a signature.
    check: String,
    requests: Vec<LoggedSignature>,
    /// The URLs that the application may check instead of the URL of the last refused request. They differ in the scheme
    /// and in the port. Empty if the application refused no signed request, or if the signatures do not cover the URL.
    usual: Vec<String>,
    /// The comparison of a signed URL with the URL in the query. `None` if the query has no URL.
    comparison: Option<Comparison>,
}

/// One request to the application.
#[derive(Serialize)]
struct LoggedSignature {
    at: Timestamp,
    method: String,
    url: String,
    /// The header fields of the signature. Empty if the request was sent without a signature.
    headers: Vec<(String, String)>,
    /// The value of the first header field of `headers` that has a signature.
    signature: Option<String>,
    /// HTTP status of the application's answer. `None` if there was no answer.
    status: Option<u16>,
}

impl LoggedSignature {
    fn of(exchange: &HttpExchange) -> Self {
        let sent = exchange.signature.as_ref();
        let headers = sent.map(|sent| sent.headers.clone()).unwrap_or_default();
        let signature = headers.iter().find(|(name, _)| name.to_ascii_lowercase().contains("signature"));
        Self {
            at: exchange.at,
            method: exchange.method.to_string(),
            url: sent
                .map_or(exchange.url.as_str(), |sent| sent.url.as_str())
                .split('#')
                .next()
                .unwrap_or_default()
                .to_owned(),
            signature: signature.map(|(_, value)| value.clone()),
            headers,
            status: exchange.answer.as_ref().map(|answer| answer.status),
        }
    }

    /// Whether the request was signed and the application refused the request.
    fn is_refused(&self) -> bool {
        self.signature.is_some() && matches!(self.status, Some(401 | 403))
    }
}

/// Differences between the signed URL and the URL that the application validates.
#[derive(Serialize)]
struct Comparison {
    signed: String,
    checked: String,
    differences: Vec<String>,
    advice: String,
}

impl Comparison {
    /// Compares the checked URL with the signed URL of the same path, or else with the URL that was refused last.
    fn of(signing: &Signing, requests: &[LoggedSignature], checked: String) -> Self {
        let path = |url: &str| Url::parse(url).map(|url| url.path().to_owned()).unwrap_or_default();
        let signed = || requests.iter().rev().filter(|request| request.signature.is_some());
        let nearest = signed().find(|request| path(&request.url) == path(&checked));
        let refused = || signed().find(|request| request.is_refused());
        let signed =
            nearest.or_else(refused).or(signed().next()).map(|request| request.url.clone()).unwrap_or_default();
        let (differences, advice) = if signing.covers_url {
            let differences = compare(&signed, &checked);
            let advice = advice(&signing.key, &signed, &checked, &differences);
            (differences, advice)
        } else {
            (Vec::new(), signing.check.clone())
        };
        Self { signed, checked, differences, advice }
    }
}

/// `GET /console/signature`: the requests of a call with their signatures.
async fn signed(State(app): State<App>, scope: Scope, Query(parameters): Query<SignedQuery>) -> Response {
    let SentRequests { session, legs, exchanges } = match requests(&app, &scope, &parameters.call).await {
        Ok(Some(found)) => found,
        Ok(None) => return (StatusCode::NOT_FOUND, "no such call\n").into_response(),
        Err(failed) => return QueryError::from(failed).into_response(),
    };
    let Some(signing) = legs.iter().find_map(|leg| app.calls.services().signing(&leg.account, &leg.dialect)) else {
        return (StatusCode::BAD_REQUEST, "the requests of this call are not signed\n").into_response();
    };
    let requests: Vec<_> = exchanges.iter().map(|(_, exchange)| LoggedSignature::of(exchange)).collect();
    let comparison = parameters.url.map(|checked| Comparison::of(&signing, &requests, checked));
    let refused = requests.iter().rev().find(|request| request.is_refused());
    let usual = refused.filter(|_| signing.covers_url).map(|request| usual_urls(&request.url)).unwrap_or_default();
    let Signing { key, covers_url, check } = signing;
    Json(Signed { session, key, covers_url, check, requests, usual, comparison }).into_response()
}

/// The requests that this server sent to the application of a call.
pub struct SentRequests {
    /// The id of the call.
    session: String,
    /// The visible legs of the call.
    legs: Vec<Arc<LegInfo>>,
    /// The requests.
    pub exchanges: Vec<Exchanged>,
}

/// Returns the requests that this server sent to the application of a call. `None` if there is no such call.
pub async fn requests(app: &App, scope: &Scope, call: &str) -> Result<Option<SentRequests>, StoreFailed> {
    let Some((session, legs)) = scope.session(app, call).await? else { return Ok(None) };
    let mut exchanges = app.calls.log(session).await?.exchanges;
    // The log also has the application's requests to this server.
    exchanges.retain(|(_, exchange)| exchange.direction == ExchangeDirection::Sent && exchange.url.starts_with("http"));
    let legs = legs.into_iter().map(|(_, leg)| leg).collect();
    Ok(Some(SentRequests { session: session.to_string(), legs, exchanges }))
}

/// Returns the advice for an application that checks the URL `checked`.
fn advice(key: &str, signed: &str, checked: &str, differences: &[String]) -> String {
    if differences.is_empty() {
        return format!(
            "The URL is the same. So either your application does not really check this URL: print the URL that it gives to \
             its validator, which is often {}. Or the key differs: compare the key in your application with {key}. Or your application changes the parameters before it checks them.",
            usual_urls(signed).first().map_or("another one", String::as_str),
        );
    }
    if usual_urls(signed).iter().any(|url| url == checked) {
        return format!(
            "Only the scheme or the port differs. The URL that fits is {signed}: give your validator this URL, or let your \
             framework trust the headers of its proxy (Flask: ProxyFix, Express: trust proxy, Django: \
             SECURE_PROXY_SSL_HEADER)."
        );
    }
    format!(
        "The URL that fits is {signed}: give your validator this URL. Or configure the URL that it checks, and map it to \
         the signed URL's origin with [[origins]]."
    )
}

/// Describes the differences between the signed URL and the URL that the application validates.
pub fn compare(signed: &str, received: &str) -> Vec<String> {
    let (Ok(ours), Ok(theirs)) = (Url::parse(signed), Url::parse(received)) else {
        return vec![
            "the URL that you check is incomplete: it must begin with https:// or http:// and have a host".to_owned(),
        ];
    };
    let mut differences = Vec::new();
    let mut differs = |what: &str, ours: String, theirs: String, why: &str| {
        if ours != theirs {
            differences.push(format!("{what}: {ours:?} was signed, you check {theirs:?}{why}"));
        }
    };
    let text = |url: &Url, part: fn(&Url) -> Option<&str>| part(url).unwrap_or_default().to_owned();
    differs("scheme", ours.scheme().to_owned(), theirs.scheme().to_owned(), " (a proxy or a tunnel terminates TLS)");
    differs(
        "host",
        text(&ours, Url::host_str),
        text(&theirs, Url::host_str),
        " (a proxy or a tunnel uses another host name)",
    );
    let port = |url: &Url| url.port().map_or("none".to_owned(), |port| port.to_string());
    differs("port", port(&ours), port(&theirs), "");
    differs("path", ours.path().to_owned(), theirs.path().to_owned(), "");
    differs("query", text(&ours, Url::query), text(&theirs, Url::query), "");
    if differences.is_empty() && signed != received {
        differences.push(format!("spelling: {signed} was signed, you check {received}"));
    }
    differences
}

/// Returns the URLs that an application may check instead of the signed URL, because a proxy or a framework changed the
/// scheme or the port. The list contains every combination of `http` and `https` with no port, with the default port and
/// with the signed port, except the signed URL.
fn usual_urls(signed: &str) -> Vec<String> {
    let Ok(url) = Url::parse(signed) else { return Vec::new() };
    let Some((host, rest)) = url.host_str().zip(signed.split_once("://").map(|(_, rest)| rest)) else {
        return Vec::new();
    };
    let path = rest.find(['/', '?', '#']).and_then(|at| rest.get(at..)).unwrap_or_default();
    let mut urls = Vec::new();
    for (scheme, usual) in [("http", 80), ("https", 443)] {
        for port in [None, Some(usual), url.port()] {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let candidate = format!("{scheme}://{host}{port}{path}");
            if candidate != signed && !urls.contains(&candidate) {
                urls.push(candidate);
            }
        }
    }
    // The scheme of a stream is ws or wss.
    if matches!(url.scheme(), "ws" | "wss") {
        urls.iter_mut().for_each(|url| *url = url.replacen("http", "ws", 1));
        urls.retain(|url| url != signed);
    }
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_tried_with_both_schemes_and_with_and_without_a_port() {
        let usual = usual_urls("https://app.example/voice?a=b");
        let plain = "http://app.example/voice?a=b";
        assert_eq!(usual, [plain, "http://app.example:80/voice?a=b", "https://app.example:443/voice?a=b"]);
        let usual = usual_urls("http://127.0.0.1:5000/voice");
        assert!(usual.contains(&"http://127.0.0.1/voice".to_owned()), "{usual:?}");
        assert!(usual.contains(&"https://127.0.0.1:5000/voice".to_owned()), "{usual:?}");
        assert!(usual_urls("wss://app.example/media").contains(&"ws://app.example/media".to_owned()));
        assert!(usual_urls("no url").is_empty());
    }
}
