//! Getting documents: sign, ask, follow redirects, read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tandem_call::Method;
use tandem_call::fetch::{FailureKind, Fetch, FetchFailure};
use tandem_call::program::instruction::Program;
use tokio::time::Instant;
use url::Url;

use crate::account::Account;
use crate::audio::AudioError;
use crate::clock;
use crate::dialect::{Context, Dialect, Documents, Notice, SealInput};
use crate::exchange::{Answer, Exchange};
use crate::http::{Client, CookieJar, FetchError, RedirectRules, Request, Response, Timeouts, without_credentials};

/// Largest document.
const MAX_DOCUMENT: usize = 64 * 1024;
/// Largest body read at all: enough to see that a document is too large.
const MAX_BODY: usize = MAX_DOCUMENT + 1;
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(15);

/// What one exchange looked like, for the call's log.
pub struct Fetched {
    /// `POST http://... 200 (12 ms)`, or why it failed.
    pub line: String,
    /// The last attempt.
    pub exchange: Exchange,
    /// The document, or why there is none.
    pub result: Result<Program, FetchFailure>,
}

/// Fetches one document. Cookies are kept for the call.
pub async fn fetch(
    client: &Client,
    dialect: &Arc<dyn Dialect>,
    account: &Account,
    fetch: &Fetch,
    context: &Context,
    jar: &CookieJar,
    id: u128,
) -> Fetched {
    let Some(documents) = dialect.documents() else { return undocumented(fetch) };
    let client = client.of_account(&account.name);
    let notice = documents.fetch(account, fetch, context);
    let seal = |url: &str, method: Method, body: &crate::dialect::Body| {
        let now = clock::time();
        dialect.seal(account, &SealInput { url, method, body, id, attempt: 1, now })
    };
    let sealed = seal(&notice.target.url, notice.target.method, &notice.body);
    let method = http_method(notice.target.method);
    let patience = dialect.patience(&notice.target.url);
    let request = Request {
        method: method.clone(),
        url: sealed.url,
        headers: sealed.headers,
        body: sealed.body,
        timeouts: Timeouts { connect: Some(patience.connect), total: patience.total },
        max_body: MAX_BODY,
    };
    let mut reseal = |request: &mut Request| {
        // After a redirect the parameters are gone (a GET) or the same; either way the URL signed is the new one.
        let (method, body) = if request.method == http::Method::GET {
            (Method::Get, crate::dialect::Body::Form(Vec::new()))
        } else {
            (Method::Post, notice.body.clone())
        };
        let sealed = seal(&request.url, method, &body);
        (request.url, request.headers, request.body) = (sealed.url, sealed.headers, sealed.body);
    };
    let repeats = |outcome: &Result<Response, FetchError>| {
        patience.on.covers(outcome.as_ref().ok().map(|response| response.status), outcome.as_ref().err())
    };
    let at = clock::time();
    let (began, overall) = (Instant::now(), patience.overall.unwrap_or(TOTAL));
    let mut pauses = patience.retries.iter();
    let outcome = loop {
        let mut attempt = request.clone();
        attempt.timeouts.total = patience.total.min(overall.saturating_sub(began.elapsed()));
        let outcome = client.send_following(attempt, RedirectRules::PROVIDER, Some(jar), Some(&mut reseal)).await;
        match pauses.next() {
            Some(pause) if repeats(&outcome) && began.elapsed() + *pause < overall => {
                tokio::time::sleep(*pause).await;
            }
            _ => break outcome,
        }
    };
    let url = without_credentials(&notice.target.url);
    let parameters = match &notice.body {
        crate::dialect::Body::Form(pairs) => pairs.as_slice(),
        crate::dialect::Body::Json(_) => &[],
    };
    let method_name = method.to_string();
    let mut exchange = Exchange::new(at, method_name, &notice.target.url, parameters, began.elapsed());
    let (line, result) = match outcome {
        Ok(response) => {
            exchange.answer = Some(Answer::of(&response));
            let line = format!("{method} {url} {} ({} ms)", response.status, response.elapsed.as_millis());
            (line, read(documents, fetch, &notice, &response))
        }
        Err(error) => {
            exchange.error = Some(error.to_string());
            (format!("{method} {url} failed: {error}"), Err(failure(&error)))
        }
    };
    let told = |failure: FetchFailure| FetchFailure { detail: format!("{url}: {}", failure.detail), ..failure };
    Fetched { line, exchange, result: result.map_err(told) }
}

fn read(
    documents: &dyn Documents,
    fetch: &Fetch,
    asked: &Notice,
    response: &Response,
) -> Result<Program, FetchFailure> {
    if !(200..300).contains(&response.status) {
        let detail = format!("answered {}", response.status);
        return Err(FetchFailure { kind: FailureKind::Status(response.status), detail });
    }
    let base = Url::parse(&response.final_url).ok();
    documents.reply(fetch, asked, base.as_ref(), response.header("content-type"), &response.body)
}

/// What comes of a document that is asked for where applications only command: nothing is sent.
fn undocumented(fetch: &Fetch) -> Fetched {
    let url = without_credentials(&fetch.target.url).to_string();
    let detail = "this provider's applications command, and have no documents".to_owned();
    Fetched {
        line: format!("{url} failed: {detail}"),
        exchange: Exchange::new(clock::time(), "POST".to_owned(), &url, &[], Duration::ZERO),
        result: Err(FetchFailure { kind: FailureKind::ContentType, detail }),
    }
}

/// Gets a file (audio to be played): its bytes and content type.
pub async fn file(client: &Client, url: &str, max: usize) -> Result<(Bytes, Option<String>), AudioError> {
    let request = Request {
        method: http::Method::GET,
        url: url.to_owned(),
        headers: vec![("Accept".into(), "audio/*, */*;q=0.1".into())],
        body: Bytes::new(),
        timeouts: Timeouts { connect: Some(CONNECT), total: Duration::from_secs(30) },
        max_body: max,
    };
    let response = client
        .send_following(request, RedirectRules::PROVIDER, None, None)
        .await
        .map_err(|error| AudioError::Unusable(error.to_string()))?;
    match response.status {
        200..300 => {}
        404 | 410 => return Err(AudioError::Missing(format!("{url} answered {}", response.status))),
        status => return Err(AudioError::Unusable(format!("{url} answered {status}"))),
    }
    let content_type = response.header("content-type").map(str::to_owned);
    Ok((response.body, content_type))
}

/// The method as the HTTP library has it.
pub fn http_method(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
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
