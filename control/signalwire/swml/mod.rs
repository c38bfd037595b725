//! SWML: documents that are programs with state, in JSON or YAML. It is a dialect of its own beside SignalWire's
//! Compatibility API, and its requests to applications are JSON. Ids, streams and recordings are those of the
//! Compatibility API.
//!
//! ```text
//!   text ──► value ──► document ──► machine ◄──► method        expression, template: placeholders
//!                                      │              └── parameters, sound, media: parameters of methods
//!   script: one leg's machine ─────────┘       facts, event: requests to applications       seal: their signatures
//! ```

pub(super) mod document;
mod error;
mod event;
mod expression;
pub(super) mod facts;
mod interpreter;
pub(super) mod media;
pub(super) mod method;
pub(super) mod parameters;
mod script;
mod signed_request;
pub(super) mod sound;
mod template;
#[cfg(test)]
pub mod tests;
pub(super) mod text;
pub(super) mod value;

use std::time::Duration;

use jiff::Timestamp;
use tandem_accounts::Account;
use tandem_call::conference::event::ConferenceEvent;
use tandem_call::event::CallEvent;
use tandem_call::fetch::{Fetch, FetchFailure, FetchReason};
use tandem_call::id::{LegId, RecordingId, StreamId};
use tandem_call::leg::LegInfo;
use tandem_call::program::instruction::Program;
use tandem_call::recording::RecordingFormat;
use tandem_call::stream::StreamSpec;
use tandem_dialect::script::Script;
use tandem_dialect::{
    Context, Dialect, Documents, Notice, ReportedError, RetryPolicy, SignInput, SignedRequest, StreamWire,
};
use url::Url;

use self::script::LegScript;
pub(super) use self::text::is_document;
use super::{Family, Ids, Provider as _, SignalWire};

/// The dialect's name in the configuration and in records.
pub const NAME: &str = "swml";

/// SWML's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Swml {
    /// The Compatibility API's dialect, for the parts that both share.
    compatibility: Family,
}

/// Creates the dialect. `compatibility` is the dialect of SignalWire's Compatibility API.
pub fn dialect(compatibility: Family) -> Swml {
    Swml { compatibility }
}

/// Whether a method is supported, tested with the parameters that any method may need; `None` if there is no such
/// method.
#[cfg(any(test, feature = "testing"))]
pub fn serves(method: &str) -> Option<bool> {
    let given = "url: 'http://h/', urls: ['http://h/'], to: 'sip:a@h', name: n, queue_name: q, transfer_after_bridge: 'http://h/', \
        digits: '1', to_uri: 'sip:a@h', uri: 'rtp://127.0.0.1:9', action: stop, play: 'say:a', duration: 1, reason: busy, \
        payment_connector_url: 'http://h/', document: 'http://h/', to_number: '+15550001', from_number: '+15550002', body: b, prompt: {text: a}";
    let text = format!("sections:\n  main:\n  - {method}: {{{given}}}\n");
    let mut machine =
        interpreter::Interpreter::new(&document::Document::read(text.as_bytes()).ok()?, value::Object::default());
    machine.standing.answered = true;
    machine.next().ok()?;
    Some(!machine.warnings().iter().any(|warning| warning.to_string().contains("not served here")))
}

/// Fuzz entry point: any text as an expression, and as a document whose script runs with the same outcome for every
/// method.
pub fn fuzz_script(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let nothing = interpreter::Interpreter::of_nothing();
        let _ = expression::evaluate(text, &nothing);
        let _ = template::expand(&value::Value::from(text), &nothing);
    }
    let Ok(document) = document::Document::read(data) else { return };
    let mut machine = interpreter::Interpreter::new(&document, value::Object::default());
    for _ in 0..100 {
        match machine.next() {
            Ok(interpreter::Next::Run(_)) => drop(machine.resume(&FetchReason::Redirect)),
            Ok(interpreter::Next::Request(_)) => machine.requested(None, false),
            Ok(interpreter::Next::Document(_)) => machine.waits = interpreter::Waits::Nothing,
            Ok(interpreter::Next::End) | Err(_) => return,
        }
    }
}

/// The spelling of ids.
pub(super) fn ids() -> Ids {
    Ids::Uuid
}

/// Writes an id that has no prefix for its kind.
fn uuid(id: u128) -> String {
    Ids::Uuid.spell("", id)
}

/// First part of the URLs of an account's recordings.
fn recordings(public_url: &str, account: &Account) -> String {
    format!("{public_url}{}/Accounts/{}/Recordings/", SignalWire.root(), facts::project(account))
}

fn recording_url(base: &str, id: RecordingId, format: RecordingFormat) -> String {
    let extension = if format == RecordingFormat::Mp3 { "mp3" } else { "wav" };
    format!("{base}{}.{extension}", ids().recording(id))
}

impl Dialect for Swml {
    fn name(&self) -> &'static str {
        NAME
    }

    fn account_id(&self, account: &Account) -> Option<String> {
        self.compatibility.account_id(account)
    }

    fn call_id(&self, leg: LegId) -> String {
        ids().call(leg)
    }

    fn stream_id(&self, id: StreamId) -> String {
        ids().stream(id)
    }

    fn recording_id(&self, id: RecordingId) -> String {
        ids().recording(id)
    }

    fn parse_call_id(&self, text: &str) -> Option<LegId> {
        ids().parse_call(text)
    }

    fn documents(&self) -> Option<&dyn Documents> {
        Some(self)
    }

    fn webhook(&self, account: &Account, event: &CallEvent, context: &Context) -> Vec<Notice> {
        event::notices(account, event, context)
    }

    fn conference(&self, account: &Account, event: &ConferenceEvent, context: &Context) -> Vec<Notice> {
        event::conference(account, event, context).into_iter().collect()
    }

    fn seal(&self, account: &Account, notice: &SignInput<'_>) -> SignedRequest {
        let key = account.signalwire.as_ref().map_or("", |own| &own.signing_key);
        signed_request::seal(key, notice)
    }

    fn signing_key(&self, account: &Account) -> Option<String> {
        self.compatibility.signing_key(account)
    }

    fn patience(&self, _url: &str) -> RetryPolicy {
        RetryPolicy { connect: Duration::from_secs(3), ..RetryPolicy::default() }
    }

    fn error_number(&self, fault: ReportedError<'_>) -> Option<u32> {
        self.compatibility.error_number(fault)
    }

    fn stream(
        &self,
        account: &Account,
        leg: &LegInfo,
        id: StreamId,
        spec: &StreamSpec,
        now: Timestamp,
    ) -> Box<dyn StreamWire> {
        self.compatibility.stream(account, leg, id, spec, now)
    }
}

impl Documents for Swml {
    /// Only for documents of sounds. The leg's script requests its other documents itself.
    fn fetch(&self, account: &Account, fetch: &Fetch, context: &Context) -> Notice {
        script::sounds_notice(account, fetch, context)
    }

    fn reply(
        &self,
        _fetch: &Fetch,
        _asked: &Notice,
        base: Option<&Url>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Program, FetchFailure> {
        script::sounds(base, content_type, body)
    }

    fn script(&self) -> Option<Box<dyn Script>> {
        Some(Box::<LegScript>::default())
    }

    fn longest(&self) -> usize {
        text::LONGEST
    }
}
