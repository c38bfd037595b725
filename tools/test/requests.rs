//! The requests of a tested call. They are sent to the application as the server sends them, with their signatures.

use std::time::Duration;

use tandem_call::event::CallEvent;
use tandem_call::fetch::{FailureKind, Fetch};
use tandem_call::program::instruction::{AudioSource, Instruction, Play};
use tandem_causes::Cause;
use tandem_dialect::{Context, Notice, ReportedError};
use tandem_documents::{Fetched, RequestContext};
use tandem_http::exchange::HttpExchange;
use tandem_http::{RedirectRules, Request, Timeouts};
use tandem_webhooks::{Body, SignInput};

use super::expectation::Action;
use super::log::Fact;
use super::stage::Stage;

/// Maximum size of the answer to a notice that is read, in octets.
const MAX_ANSWER: usize = 64 * 1024;
/// The parameters of a request that the transcript shows: they change from request to request.
const SHOWN: [&str; 8] = [
    "Digits",
    "SpeechResult",
    "DialCallStatus",
    "CallStatus",
    "RecordingDuration",
    "RecordingStatus",
    "QueueResult",
    "AnsweredBy",
];

impl Stage<'_> {
    pub(super) async fn fetch(&mut self, fetch: Fetch) {
        self.requests += 1;
        let leg = fetch.leg.id;
        let slot = self.scripts.entry(leg).or_default().clone();
        let context = self.context(0);
        let request_context = RequestContext {
            client: &self.world.client,
            dialects: &self.world.dialects,
            // A document of another dialect changes the dialect of its leg.
            dialect: self.world.dialects.get(&fetch.leg.dialect).unwrap_or(self.dialect),
            account: &self.world.account,
            jar: &self.jar,
            id: rand::random(),
            turns: &self.world.turns,
        };
        let Fetched { line, exchange, before, other_dialect, result } =
            tandem_documents::fetch(request_context, &fetch, &context, &slot).await;
        for request in before {
            self.note_exchange(&request.line, Some(&request.exchange), None);
            if let Some(failure) = request.failure {
                self.problem(Cause::of_failure(&failure), None, failure.detail);
            }
        }
        let verbs =
            result.as_ref().ok().map(|program| program.instructions.iter().map(verb).collect::<Vec<_>>().join(", "));
        self.note_exchange(&line, exchange.as_ref(), verbs.as_deref());
        if let (1, Err(failure)) = (self.requests, &result)
            && matches!(failure.kind, FailureKind::ConnectRefused | FailureKind::BadHost | FailureKind::ConnectTimeout)
        {
            self.unreachable = Some(failure.detail.clone());
        }
        if let Some(dialect) = other_dialect {
            self.call.set_dialect(leg, dialect);
        }
        self.call.handle_fetched(self.instant(), leg, fetch.id, result);
    }

    fn note_exchange(&mut self, line: &str, exchange: Option<&HttpExchange>, verbs: Option<&str>) {
        let parameters = exchange.map(|exchange| shown(&exchange.parameters)).unwrap_or_default();
        let verbs = verbs.filter(|verbs| !verbs.is_empty()).map(|verbs| format!(": {verbs}")).unwrap_or_default();
        let urls = exchange.map(|exchange| exchange.url.clone()).into_iter().collect();
        self.note_as("", format!("{line}{parameters}{verbs}"), Fact::Action(Action::Request, urls));
    }

    fn context(&self, sequence: u32) -> Context {
        Context { public_url: self.world.public_url.clone(), sequence, recording: None, queue: None }
    }

    /// Sends the notices of an event, in order.
    pub(super) async fn notify(&mut self, event: &CallEvent) {
        let sequence = self.sequences.get(&event.leg.id).copied().unwrap_or_default();
        let dialect = self.world.dialects.get(&event.leg.dialect).unwrap_or(self.dialect);
        let notices = dialect.webhook(&self.world.account, event, &self.context(sequence));
        for notice in notices {
            *self.sequences.entry(event.leg.id).or_default() += u32::from(notice.numbered);
            self.send(notice).await;
        }
    }

    async fn send(&mut self, notice: Notice) {
        self.requests += 1;
        let url = notice.target.url.to_string();
        let policy = self.dialect.retry_policy(&url);
        let now = tandem_host::clock::time();
        let input = SignInput {
            url: &url,
            method: notice.target.method,
            body: &notice.body,
            id: rand::random(),
            attempt: 1,
            now,
        };
        let signed = self.dialect.sign(&self.world.account, &input);
        let request = Request {
            method: tandem_http::method(notice.target.method),
            url: signed.url,
            headers: signed.headers,
            body: signed.body,
            timeouts: Timeouts { connect: Some(policy.connect), total: policy.total },
            max_body: MAX_ANSWER,
        };
        let client = self.world.client.of_account(&self.world.account.name);
        let answer = client.send_following(request, RedirectRules::PROVIDER, Some(&self.jar), None).await;
        let (text, cause, status) = match &answer {
            Ok(answer) => (answer.status.to_string(), Cause::of_status(answer.status), Some(answer.status)),
            Err(error) => (error.to_string(), Some(Cause::of_fetch_error(error)), None),
        };
        let parameters = match &notice.body {
            Body::Form(pairs) => shown(pairs),
            Body::Json(_) => String::new(),
        };
        let line = format!("status {} to {} {url} {text}{parameters}", notice.event, notice.target.method.name());
        let names = vec![notice.event.clone(), url.clone()];
        self.note_as("", line, Fact::Action(Action::Status, names));
        if let Some(cause) = cause {
            let code = self.dialect.error_number(ReportedError::Undelivered { event: &notice.event, status });
            self.problem(cause, code, format!("the notice {} to {url}: {text}", notice.event));
        }
    }
}

/// Returns the parameters that a transcript shows.
fn shown(parameters: &[(String, String)]) -> String {
    let shown = parameters.iter().filter(|(name, value)| SHOWN.contains(&name.as_str()) && !value.is_empty());
    shown.map(|(name, value)| format!(" {name}={value}")).collect()
}

/// Returns the name of an instruction.
fn verb(instruction: &Instruction) -> String {
    match instruction {
        Instruction::Play(Play { source: AudioSource::Speech(_), .. }) => "Say".to_owned(),
        Instruction::Pause(time) => format!("Pause {} s", time.min(&Duration::from_secs(86_400)).as_secs_f64()),
        other => {
            let text = format!("{other:?}");
            text.split(|one: char| !one.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned()
        }
    }
}
