//! SWML: documents that are programs with state, in JSON or YAML. SWML is a separate dialect and not part of the
//! Compatibility API. Requests to applications are JSON. Ids, streams and recordings are the same as in the
//! Compatibility API.
//!
//! ```text
//!   text ──► value ──► document ──► interpreter ◄──► method    expression, operation, template: placeholders
//!                                   │  budget         ├── connect, outcome
//!                                   │                 ├── agent: the method `ai`
//!                                   │                 └── parameters, sound, media: parameters of methods
//!                                   │  frame: position     written: values as data
//!   script: one leg's interpreter ─────┘       facts, event: requests to applications       signed_request: signatures
//! ```

mod agent;
mod budget;
mod connect;
pub(super) mod document;
mod error;
mod event;
mod expression;
pub(super) mod facts;
mod frame;
mod interpreter;
pub(super) mod media;
pub(super) mod method;
mod operation;
mod outcome;
pub(super) mod parameters;
mod script;
mod signed_request;
pub(super) mod sound;
mod template;
#[cfg(any(test, feature = "testing"))]
mod testing;
#[cfg(test)]
pub mod tests;
pub(super) mod text;
pub(super) mod value;
mod written;

use std::time::Duration;

use jiff::Timestamp;
use tandem_accounts::Account;
use tandem_call::conference::event::ConferenceEvent;
use tandem_call::event::CallEvent;
use tandem_call::fetch::{Fetch, FetchFailure, FetchReason};
use tandem_call::leg::LegInfo;
use tandem_call::program::instruction::Program;
use tandem_call::recording::RecordingFormat;
use tandem_call::snapshot::CallSnapshotError;
use tandem_call::stream::StreamSpec;
use tandem_dialect::agent::AgentScript;
use tandem_dialect::script::Script;
use tandem_dialect::{Context, Dialect, Documents, Notice, Signing, StreamWire};
use tandem_id::{ConversationId, LegId, RecordingId, StreamId};
use tandem_webhooks::{RetryPolicy, SignInput, SignedRequest};
use url::Url;

use self::script::LegScript;
pub(super) use self::signed_request::sign;
#[cfg(any(test, feature = "testing"))]
pub use self::testing::serves;
pub(super) use self::text::is_document;
use super::ai::AiScript;
use super::{Family, Ids, Provider as _, SignalWire};

/// The dialect's name in the configuration and in records.
pub const NAME: &str = "swml";

/// SWML's dialect.
#[derive(Clone, Copy, Debug)]
pub struct Swml {
    /// The dialect of the Compatibility API. This dialect implements the parts that both dialects share.
    compatibility: Family,
}

/// Creates the dialect. `compatibility` is the dialect of SignalWire's Compatibility API.
pub fn dialect(compatibility: Family) -> Swml {
    Swml { compatibility }
}

/// Fuzz entry point. The data is evaluated as an expression and read as a document. The script of the document then
/// runs, and every method gets the same outcome.
pub fn fuzz_script(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let nothing = interpreter::Interpreter::of_nothing();
        let _ = expression::evaluate(text, &nothing);
        let _ = template::expand(&value::Value::from(text), &nothing);
    }
    let Ok(mut machine) = interpreter::Interpreter::read(data, value::Object::default()) else { return };
    for _ in 0..100 {
        match machine.next() {
            Ok(interpreter::Next::Run(_)) => drop(machine.resume(&FetchReason::Redirect)),
            Ok(interpreter::Next::Request(_)) => machine.requested(None, false),
            Ok(interpreter::Next::Document(_)) => machine.waits = interpreter::PendingResult::Nothing,
            Ok(interpreter::Next::End) | Err(_) => return,
        }
    }
}

/// The spelling of ids in SWML.
pub(super) fn ids() -> Ids {
    Ids::Uuid
}

/// Returns an object's id as a UUID. SWML has no prefix for ids of this kind.
fn uuid(id: u128) -> String {
    Ids::Uuid.spell("", id)
}

/// The first part of the URL of every recording of the account.
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

    fn sign(&self, account: &Account, notice: &SignInput<'_>) -> SignedRequest {
        let key = account.signalwire.as_ref().map_or("", |own| &own.signing_key);
        signed_request::sign(key, notice)
    }

    fn signing(&self, account: &Account) -> Option<Signing> {
        let Signing { key, .. } = self.compatibility.signing(account)?;
        let check = format!(
            "X-SignalWire-Signature is the hex HMAC-SHA1 of the URL and the JSON body. Your application must check exactly the \
             signed URL and the body as received, with {key}."
        );
        Some(Signing { key, covers_url: true, check })
    }

    fn retry_policy(&self, _url: &str) -> RetryPolicy {
        RetryPolicy { connect: Duration::from_secs(3), ..RetryPolicy::default() }
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

    fn conversation_id(&self, id: ConversationId) -> String {
        uuid(id.0)
    }

    fn agent_script(
        &self,
        account: &Account,
        leg: &LegInfo,
        id: ConversationId,
        definition: &str,
    ) -> Option<Result<Box<dyn AgentScript>, String>> {
        let script = AiScript::new(account, leg, id, definition);
        Some(script.map(|script| Box::new(script) as Box<dyn AgentScript>))
    }
}

impl Documents for Swml {
    /// Creates the request for a document of sounds. The leg's script requests all other documents itself.
    fn fetch(&self, account: &Account, fetch: &Fetch, context: &Context) -> Notice {
        script::sounds_notice(account, fetch, context)
    }

    fn reply(
        &self,
        _fetch: &Fetch,
        _request: &Notice,
        base: Option<&Url>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Program, FetchFailure> {
        script::sounds(base, content_type, body)
    }

    fn script(&self) -> Option<Box<dyn Script>> {
        Some(Box::<LegScript>::default())
    }

    fn read_script(&self, octets: &[u8]) -> Result<Box<dyn Script>, CallSnapshotError> {
        Ok(Box::new(LegScript::read(octets)?))
    }

    fn recognises(&self, body: &[u8]) -> bool {
        text::has_sections(body)
    }

    fn longest(&self) -> usize {
        text::LONGEST
    }
}
