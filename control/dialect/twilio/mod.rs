//! Twilio.
//!
//! ```text
//!   seal ── sign                 webhook ── format, sid          reply ── markup
//!   stream                       rest ── path, form, request, list, call, recording, account, media, holding
//! ```

mod account;
mod call;
mod conference;
pub mod console;
mod conversation;
mod country;
mod error;
pub mod explain;
mod form;
mod format;
mod holding;
mod hosted;
mod list;
mod media;
mod overrides;
mod path;
mod recording;
mod reply;
mod request;
pub mod rest;
mod seal;
pub mod sid;
pub mod sign;
mod siprec;
mod stream;
mod transcription;
mod webhook;

use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::conference::event::ConferenceEvent;
use tandem_call::conference::state::Refused;
use tandem_call::conversation::ConversationSpec;
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::fetch::{Fetch, FetchFailure, Scope};
use tandem_call::id::{ConversationId, LegId, RecordingId, StreamId};
use tandem_call::leg::{LegInfo, Status};
use tandem_call::program::instruction::Program;
use tandem_call::stream::StreamSpec;
use url::Url;

pub use self::hosted::{Page, hosted};
pub use self::reply::inline_program;
use crate::account::Account;
use crate::dialect::conversation::ConversationWire;
use crate::dialect::{Context, Dialect, Notice, Patience, SealInput, Sealed, StreamWire};
use crate::store::resources::Resource;
use crate::usage::Trigger;

/// Twilio's spelling.
#[derive(Clone, Copy, Debug, Default)]
pub struct Twilio {
    /// Whether `https` URLs with a port are signed without it; otherwise as they are configured.
    pub sign_strip_https_port: bool,
}

/// Its name in configuration and records.
pub const NAME: &str = "twilio";

impl Dialect for Twilio {
    fn name(&self) -> &'static str {
        NAME
    }

    fn account_id(&self, account: &Account) -> Option<String> {
        account.twilio.as_ref().map(|credentials| credentials.account_sid.clone())
    }

    fn call_id(&self, leg: LegId) -> String {
        sid::call(leg)
    }

    fn stream_id(&self, id: StreamId) -> String {
        sid::stream(id)
    }

    fn conversation_id(&self, id: ConversationId) -> String {
        sid::conversation(id)
    }

    fn recording_id(&self, id: RecordingId) -> String {
        sid::recording(id)
    }

    fn parse_call_id(&self, text: &str) -> Option<LegId> {
        sid::parse_call(text)
    }

    fn fetch(&self, account: &Account, fetch: &Fetch, context: &Context) -> Notice {
        webhook::fetch(account_sid(account), fetch, context)
    }

    fn reply(
        &self,
        fetch: &Fetch,
        base: Option<&Url>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Program, FetchFailure> {
        let program = reply::reply(base, content_type, body)?;
        Ok(match fetch.scope {
            Scope::Leg => program,
            Scope::Whisper => reply::whispered(program),
            Scope::Queue => reply::waiting(program),
            Scope::Conference => reply::overheard(program),
        })
    }

    fn webhook(&self, account: &Account, event: &CallEvent, context: &Context) -> Vec<Notice> {
        webhook::webhook(account_sid(account), event, context)
    }

    fn conference(&self, account: &Account, event: &ConferenceEvent, context: &Context) -> Vec<Notice> {
        conference::notices(account_sid(account), event, context)
    }

    fn usage_reached(&self, account: &Account, trigger: &Resource<Trigger>, figure: f64) -> Option<Notice> {
        Some(rest::usage_notice(account_sid(account), trigger, figure))
    }

    fn ends_with_recording(&self) -> bool {
        true
    }

    fn patience(&self, url: &str) -> Patience {
        overrides::patience(url)
    }

    fn seal(&self, account: &Account, notice: &SealInput<'_>) -> Sealed {
        seal::seal(auth_token(account), notice, self.sign_strip_https_port)
    }

    fn signing_key(&self, account: &Account) -> Option<String> {
        account.twilio.as_ref().map(|keys| format!("the auth token of {}", keys.account_sid))
    }

    fn caller_code(&self) -> Option<u32> {
        Some(error::CALLER_ID)
    }

    fn foreign_caller_code(&self) -> Option<u32> {
        Some(error::FOREIGN_CALLER)
    }

    fn callee_code(&self, to: &Address) -> Option<u32> {
        Some(error::callee_code(to))
    }

    fn conference_code(&self, why: Refused) -> Option<u32> {
        error::conference_code(why)
    }

    fn failure_code(&self, failure: &FetchFailure) -> u32 {
        error::failure_code(failure)
    }

    fn trouble_code(&self, event: &EventKind) -> Option<u32> {
        error::trouble_code(event)
    }

    fn undelivered(&self, event: &str, status: Option<u16>) -> Option<u32> {
        Some(error::undelivered_code(event, status))
    }

    fn stream(
        &self,
        account: &Account,
        leg: &LegInfo,
        id: StreamId,
        spec: &StreamSpec,
        _now: Timestamp,
    ) -> Box<dyn StreamWire> {
        Box::new(stream::Wire::new(account_sid(account), auth_token(account), leg.id, id, spec))
    }

    fn conversation(
        &self,
        account: &Account,
        leg: &LegInfo,
        status: Status,
        id: ConversationId,
        spec: &ConversationSpec,
    ) -> Option<Box<dyn ConversationWire>> {
        let (account_sid, auth_token) = (account_sid(account), auth_token(account));
        Some(Box::new(conversation::Wire::new(account_sid, auth_token, leg, status, id, spec)))
    }
}

/// Empty for an account without Twilio credentials: nothing of it can be validated anyway.
fn account_sid(account: &Account) -> &str {
    account.twilio.as_ref().map_or("", |credentials| &credentials.account_sid)
}

fn auth_token(account: &Account) -> &str {
    account.twilio.as_ref().map_or("", |credentials| &credentials.auth_token)
}
