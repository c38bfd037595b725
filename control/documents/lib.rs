//! Fetches documents: signs and sends the request, follows redirects, and reads the response.
#![forbid(unsafe_code)]

mod slot;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_accounts::Account;
use tandem_call::Method;
use tandem_call::fetch::{FailureKind, Fetch, FetchFailure, Scope};
use tandem_call::program::instruction::Program;
use tandem_dialect::script::{Script, Step};
use tandem_dialect::{Context, Dialect, Dialects, Documents, Notice};
use tandem_host::clock;
use tandem_http::exchange::{HttpAnswer, HttpExchange, SentSignature};
use tandem_http::{
    Client, CookieJar, FetchError, RedirectRules, Request, Response, TURNED_INTO_GET, Timeouts, without_credentials,
};
use tandem_webhooks::{Body, SignInput};
use tokio::time::Instant;
use url::Url;

use slot::Given;
pub use slot::{ScriptSlot, WrittenScript};
pub use turns::Turns;

/// Maximum size of a document in octets.
const MAX_DOCUMENT: usize = 64 * 1024;
/// Maximum number of requests that a script may make before the script gives an instruction to its leg.
const MAX_REQUESTS: usize = 200;
const TOTAL: Duration = Duration::from_secs(15);
/// Maximum size of a document that is read without a turn, in octets. Reading such a document takes less time than to
/// wait for a turn. A script always waits for its turn, because its size does not bound its time.
const SMALL_DOCUMENT: usize = 16 * 1024;

/// The result of a document request, with the HTTP exchanges for the call's log.
pub struct Fetched {
    /// The log line of the request, for example `POST http://... 200 (12 ms)`, or the reason of the failure.
    pub line: String,
    /// The HTTP exchange of the last attempt. `None` if nothing was sent, or if `before` contains all attempts.
    pub exchange: Option<HttpExchange>,
    /// The earlier requests.
    pub before: Vec<ScriptRequest>,
    /// The name of the leg's new dialect, if the dialect has changed.
    pub other_dialect: Option<Arc<str>>,
    /// The document, or the reason why there is no document.
    pub result: Result<Program, FetchFailure>,
}

/// A request of a script before the script's next instruction, or the request for a document of another dialect.
pub struct ScriptRequest {
    /// The log line of the request.
    pub line: String,
    /// The HTTP exchange of the last attempt.
    pub exchange: HttpExchange,
    /// The failure, if the script continues without the answer.
    pub failure: Option<FetchFailure>,
}

pub struct RequestContext<'a> {
    /// The HTTP client.
    pub client: &'a Client,
    /// All dialects.
    pub dialects: &'a Dialects,
    /// The leg's dialect.
    pub dialect: &'a Arc<dyn Dialect>,
    /// The leg's account.
    pub account: &'a Account,
    /// The cookies of the call.
    pub jar: &'a CookieJar,
    /// The id of the request. All attempts have this id.
    pub id: u128,
    /// The turns to read documents and to run scripts.
    pub turns: &'a Turns,
}

impl RequestContext<'_> {
    /// Does work on a document in a turn of the account.
    async fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        self.turns.work(&self.account.name, work).await
    }
}

/// Fetches one document, or runs the next step of the leg's script. A second request to a script waits until the first
/// request is complete. A request that is repeated after a restart gets the instructions that the script has given.
pub async fn fetch(
    request_context: RequestContext<'_>,
    fetch: &Fetch,
    context: &Context,
    slot: &ScriptSlot,
) -> Fetched {
    let Some(documents) = request_context.dialect.documents() else { return undocumented(fetch) };
    let listed = matches!(fetch.scope, Scope::Queue | Scope::Conference);
    if !listed && let Some(fresh) = documents.script() {
        let _turn = slot.turn().await;
        if let Some(Given { line, result, .. }) = slot.given(fetch.id) {
            return Fetched { before: Vec::new(), line, exchange: None, other_dialect: None, result };
        }
        if !slot.is_running() {
            slot.start(request_context.dialect.name(), fresh);
        }
        let account = request_context.account;
        let start = || slot.with(|script| script.handle_fetch(account, fetch, context));
        let first = request_context.work(start).await;
        return run(&request_context, slot, first, fetch).await;
    }
    let notice = documents.fetch(request_context.account, fetch, context);
    let exchanged = exchange(&request_context, &notice, documents.longest()).await;
    let Exchanged { line, exchange, outcome } = exchanged;
    let other_dialect = outcome.as_ref().ok().and_then(|response| documents.other_dialect(&response.body));
    if let (Some(name), Ok(response)) = (other_dialect, &outcome)
        && let Some(script) = request_context.dialects.get(name).and_then(|dialect| dialect.documents()?.script())
    {
        let _turn = slot.turn().await;
        slot.start(name, script);
        let start = |script: &mut dyn Script| {
            script.handle_fetch(request_context.account, fetch, context);
            script.handle_response(fetch, Ok(response))
        };
        let first = request_context.work(|| slot.with(start)).await;
        let fetched = run(&request_context, slot, first, fetch).await;
        let request = ScriptRequest { line, exchange, failure: None };
        let before = std::iter::once(request).chain(fetched.before).collect();
        return Fetched { before, other_dialect: Some(name.into()), ..fetched };
    }
    let reply = |response: &Response| {
        let base = Url::parse(&response.final_url).ok();
        documents.reply(fetch, &notice, base.as_ref(), response.header("content-type"), &response.body)
    };
    let result = match &outcome {
        Ok(response) if response.body.len() > SMALL_DOCUMENT => request_context.work(|| reply(response)).await,
        Ok(response) => reply(response),
        Err(failure) => Err(failure.clone()),
    };
    let of_other_dialect = |failure: FetchFailure| {
        let body = outcome.as_ref().ok().map(|response| &response.body);
        match body.and_then(|body| request_context.dialects.of_document(body)) {
            Some(name) => FetchFailure {
                kind: FailureKind::OtherDialect,
                detail: format!("the answer is a document of the provider {name:?}, not of this number's provider"),
            },
            None => failure,
        }
    };
    let result = result.map_err(of_other_dialect).map_err(|failure| with_url(&exchange.url, failure));
    Fetched { before: Vec::new(), line, exchange: Some(exchange), other_dialect: None, result }
}

/// Performs the steps of a script until the script has an instruction for its leg.
async fn run(request_context: &RequestContext<'_>, slot: &ScriptSlot, first: Option<Step>, fetch: &Fetch) -> Fetched {
    let (mut step, mut before) = (first, Vec::new());
    let done = |before, line: String, result: Result<Program, FetchFailure>| {
        slot.keep(Given { id: fetch.id, line: line.clone(), result: result.clone() });
        Fetched { before, line, exchange: None, other_dialect: None, result }
    };
    // The URL of the document that the script has just got.
    let mut document: Option<String> = None;
    loop {
        let (line, exchange, answer, failure) = match step {
            // Nobody removes a script during its turn.
            None => {
                let detail = "the script is gone".to_owned();
                return done(before, detail.clone(), Err(FetchFailure { kind: FailureKind::ScriptInvalid, detail }));
            }
            Some(Step::Done { result, line }) => {
                let result = result.map_err(|failure| match &document {
                    Some(url) => with_url(url, failure),
                    None => failure,
                });
                return done(before, line, result);
            }
            _ if before.len() >= MAX_REQUESTS => {
                let detail = format!("{MAX_REQUESTS} requests in a row without an instruction for the call");
                return done(before, detail.clone(), Err(FetchFailure { kind: FailureKind::Loop, detail }));
            }
            Some(Step::Document(notice)) => {
                let longest = request_context.dialect.documents().map_or(MAX_DOCUMENT, Documents::longest);
                let Exchanged { line, exchange, outcome } = self::exchange(request_context, &notice, longest).await;
                document = Some(exchange.url.clone());
                (line, exchange, outcome, None)
            }
            Some(Step::Request(request)) => {
                let (at, began) = (clock::time(), Instant::now());
                let (method, url) = (request.method.to_string(), request.url.clone());
                let client = request_context.client.of_account(&request_context.account.name);
                let outcome = client.send_following(*request, RedirectRules::PROVIDER, None, None).await;
                document = None;
                let (line, exchange, outcome) = log_exchange(at, method, &url, &[], began, outcome);
                let failure = match &outcome {
                    Ok(response) if !(200..300).contains(&response.status) => Some(answered(response)),
                    Ok(_) => None,
                    Err(failure) => Some(failure.clone()),
                };
                (line, exchange, outcome, failure)
            }
        };
        let answer = answer.as_ref().map_err(Clone::clone);
        step = request_context.work(|| slot.with(|script| script.handle_response(fetch, answer))).await;
        before.push(ScriptRequest { line, exchange, failure });
    }
}

/// A request that was sent, with its result.
struct Exchanged {
    line: String,
    exchange: HttpExchange,
    /// A response with a 2xx status, or the failure.
    outcome: Result<Response, FetchFailure>,
}

/// Sends one request for a document. Signs the request, repeats the request after a failure, and follows redirects, as
/// the dialect requires. `longest` is the maximum size of the response in octets.
async fn exchange(request_context: &RequestContext<'_>, notice: &Notice, longest: usize) -> Exchanged {
    let RequestContext { dialect, account, jar, .. } = request_context;
    let client = request_context.client.of_account(&account.name);
    let sign = |url: &str, method: Method, body: &Body| {
        let now = clock::time();
        dialect.sign(account, &SignInput { url, method, body, id: request_context.id, attempt: 1, now })
    };
    let signed = sign(&notice.target.url, notice.target.method, &notice.body);
    let mut signature = SentSignature::of(&signed.url, &signed.headers);
    let method = tandem_http::method(notice.target.method);
    let retry_policy = dialect.retry_policy(&notice.target.url);
    let request = Request {
        method: method.clone(),
        url: signed.url,
        headers: signed.headers,
        body: signed.body,
        timeouts: Timeouts { connect: Some(retry_policy.connect), total: retry_policy.total },
        // One octet more than the limit shows that the response is too large.
        max_body: longest + 1,
    };
    let mut sign_redirect = |request: &mut Request| {
        let is_login = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("Authorization");
        // If a redirect leads to another origin, the client has removed this header field.
        let login = request.headers.iter().find(is_login).cloned();
        // After a redirect, a GET request has no parameters, and a POST request has the original parameters. In both
        // cases the new URL is signed.
        let signed = match request.method {
            http::Method::GET => sign(&request.url, Method::Get, &Body::Form(Vec::new())),
            _ => sign(&request.url, Method::Post, &notice.body),
        };
        signature = SentSignature::of(&signed.url, &signed.headers);
        (request.url, request.headers, request.body) = (signed.url, signed.headers, signed.body);
        if !request.headers.iter().any(|header| is_login(&header)) {
            request.headers.extend(login);
        }
    };
    let repeats = |outcome: &Result<Response, FetchError>| {
        retry_policy.retries.on.covers(outcome.as_ref().ok().map(|response| response.status), outcome.as_ref().err())
    };
    let at = clock::time();
    let (began, overall) = (Instant::now(), retry_policy.retries.overall.unwrap_or(TOTAL));
    let mut pauses = retry_policy.retries.pauses.iter();
    let outcome = loop {
        let mut attempt = request.clone();
        attempt.timeouts.total = retry_policy.total.min(overall.saturating_sub(began.elapsed()));
        let outcome =
            client.send_following(attempt, RedirectRules::PROVIDER, Some(jar), Some(&mut sign_redirect)).await;
        match pauses.next() {
            Some(pause) if repeats(&outcome) && began.elapsed() + *pause < overall => {
                tokio::time::sleep(*pause).await;
            }
            _ => break outcome,
        }
    };
    let (parameters, json) = match &notice.body {
        Body::Form(pairs) => (pairs.as_slice(), None),
        Body::Json(body) => (&[][..], Some(body.to_string())),
    };
    let (line, exchange, outcome) =
        log_exchange(at, method.to_string(), &notice.target.url, parameters, began, outcome);
    let exchange = HttpExchange { signature, ..exchange.with_body(json.as_deref()) };
    let outcome = outcome.and_then(|response| match response.status {
        200..300 => Ok(response),
        _ => Err(answered(&response)),
    });
    Exchanged { line, exchange, outcome }
}

/// Returns the failure for an answer whose status is not 2xx.
fn answered(response: &Response) -> FetchFailure {
    let turned = response.redirects.iter().find(|redirect| redirect.turned_into_get);
    let why = turned.map(|redirect| format!(" to a GET: {} ({})", TURNED_INTO_GET, redirect.status));
    let detail = format!("answered {}{}", response.status, why.unwrap_or_default());
    FetchFailure { kind: FailureKind::Status(response.status), detail }
}

/// Adds the URL of the document to a failure.
fn with_url(url: &str, failure: FetchFailure) -> FetchFailure {
    FetchFailure { detail: format!("{url}: {}", failure.detail), ..failure }
}

/// Builds the call-log entry of a request: the log line, the HTTP exchange and the result.
fn log_exchange(
    at: Timestamp,
    method: String,
    url: &str,
    parameters: &[(String, String)],
    began: Instant,
    outcome: Result<Response, FetchError>,
) -> (String, HttpExchange, Result<Response, FetchFailure>) {
    let mut exchange = HttpExchange::new(at, method.clone(), url, parameters, began.elapsed());
    let url = without_credentials(url);
    match outcome {
        Ok(response) => {
            exchange.answer = Some(HttpAnswer::of(&response));
            let redirects: String = response.redirects.iter().map(|redirect| format!("{redirect} ")).collect();
            let line = format!("{method} {url} {redirects}{} ({} ms)", response.status, response.elapsed.as_millis());
            (line, exchange, Ok(response))
        }
        Err(error) => {
            exchange.error = Some(error.to_string());
            (format!("{method} {url} failed: {error}"), exchange, Err(failure(&error)))
        }
    }
}

/// Returns the failure of a document request if the dialect has no documents. No request is sent.
fn undocumented(fetch: &Fetch) -> Fetched {
    let url = without_credentials(&fetch.target.url).clone();
    let detail = "applications of this provider send commands and have no documents".to_owned();
    Fetched {
        line: format!("{url} failed: {detail}"),
        exchange: Some(HttpExchange::new(clock::time(), "POST".to_owned(), &url, &[], Duration::ZERO)),
        before: Vec::new(),
        other_dialect: None,
        result: Err(FetchFailure { kind: FailureKind::ContentType, detail }),
    }
}

fn failure(error: &FetchError) -> FetchFailure {
    let kind = match error {
        FetchError::Url(_) | FetchError::Refused(_) => FailureKind::BadUrl,
        FetchError::Dns(_) => FailureKind::BadHost,
        FetchError::ConnectTimeout(_) => FailureKind::ConnectTimeout,
        FetchError::ConnectRefused(_) => FailureKind::ConnectRefused,
        FetchError::Tls(_) => FailureKind::Tls,
        FetchError::Timeout(_) => FailureKind::Timeout,
        FetchError::TooLarge { .. } => FailureKind::TooLarge,
        FetchError::TooManyRedirects(_) => FailureKind::Redirects,
        FetchError::Broken(_) => FailureKind::Connection,
        FetchError::Protocol(_) => FailureKind::Protocol,
    };
    FetchFailure { kind, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use tandem_http::Redirect;

    use super::*;

    fn response(status: u16, redirects: Vec<Redirect>) -> Response {
        Response {
            status,
            headers: http::HeaderMap::new(),
            body: Default::default(),
            final_url: "http://app.test/".to_owned(),
            redirects,
            elapsed: Duration::from_millis(12),
        }
    }

    fn redirect(status: u16, turned_into_get: bool) -> Redirect {
        let method = if turned_into_get { http::Method::GET } else { http::Method::POST };
        Redirect { status, method, url: "http://app.test/next".to_owned(), turned_into_get }
    }

    fn logged(outcome: Result<Response, FetchError>) -> (String, HttpExchange, Result<Response, FetchFailure>) {
        let url = "http://user:secret@app.test/voice";
        log_exchange(Timestamp::UNIX_EPOCH, "POST".to_owned(), url, &[], Instant::now(), outcome)
    }

    #[test]
    fn every_fault_of_the_http_client_has_its_own_kind_of_failure() {
        let text = String::new;
        for (error, kind) in [
            (FetchError::Url(text()), FailureKind::BadUrl),
            (FetchError::Refused(text()), FailureKind::BadUrl),
            (FetchError::Dns(text()), FailureKind::BadHost),
            (FetchError::ConnectTimeout(text()), FailureKind::ConnectTimeout),
            (FetchError::ConnectRefused(text()), FailureKind::ConnectRefused),
            (FetchError::Tls(text()), FailureKind::Tls),
            (FetchError::Timeout(text()), FailureKind::Timeout),
            (FetchError::TooLarge { status: 200, limit: 1 }, FailureKind::TooLarge),
            (FetchError::TooManyRedirects(10), FailureKind::Redirects),
            (FetchError::Broken(text()), FailureKind::Connection),
            (FetchError::Protocol(text()), FailureKind::Protocol),
        ] {
            let failure = failure(&error);
            assert_eq!((failure.kind, failure.detail), (kind, error.to_string()));
        }
    }

    #[test]
    fn the_log_line_of_a_request_has_the_redirects_the_status_and_no_password() {
        let (line, exchange, outcome) = logged(Ok(response(200, vec![redirect(307, false)])));
        assert_eq!(line, "POST http://app.test/voice 307 -> POST http://app.test/next 200 (12 ms)");
        assert!(exchange.answer.is_some() && exchange.error.is_none() && outcome.is_ok());
    }

    #[test]
    fn the_log_line_of_a_failed_request_has_the_reason() {
        let (line, exchange, outcome) = logged(Err(FetchError::Dns("app.test".to_owned())));
        assert_eq!(line, "POST http://app.test/voice failed: name not resolved: app.test");
        assert!(exchange.answer.is_none() && exchange.error.is_some());
        assert_eq!(outcome.unwrap_err().kind, FailureKind::BadHost);
    }

    #[test]
    fn a_failed_answer_to_a_redirected_post_says_that_the_request_became_a_get() {
        let kept = answered(&response(405, vec![redirect(307, false)]));
        assert_eq!((kept.kind, kept.detail.as_str()), (FailureKind::Status(405), "answered 405"));
        let turned = answered(&response(405, vec![redirect(307, false), redirect(302, true)]));
        assert_eq!(turned.detail, format!("answered 405 to a GET: {TURNED_INTO_GET} (302)"));
    }

    #[test]
    fn the_url_of_the_document_precedes_the_detail_of_a_failure() {
        let failure = FetchFailure { kind: FailureKind::Timeout, detail: "timeout".to_owned() };
        let expected = FetchFailure { kind: FailureKind::Timeout, detail: "http://app.test/: timeout".to_owned() };
        assert_eq!(with_url("http://app.test/", failure), expected);
    }
}
