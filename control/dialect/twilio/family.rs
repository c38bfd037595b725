//! The family of providers that share Twilio's REST API, webhooks and markup, each in its own spelling: Twilio, SignalWire's
//! Compatibility API and Telnyx's TeXML.
//!
//! [`Provider`] is the list of what tells them apart. Its defaults are Twilio's; a member says only where it differs.

use std::fmt::{Debug, Display};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tandem_call::conference::event::ConferenceEvent;
use tandem_call::conversation::ConversationSpec;
use tandem_call::event::CallEvent;
use tandem_call::fetch::{Fetch, FetchFailure, Scope};
use tandem_call::id::{ConversationId, LegId, RecordingId, StreamId};
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::machine::Verdict;
use tandem_call::program::instruction::Program;
use tandem_call::stream::StreamSpec;
use url::Url;

use super::sid::Ids;
use super::{conference, conversation, error, format, overrides, reply, rest, seal, stream, webhook};
use crate::account::Account;
use crate::dialect::conversation::ConversationWire;
use crate::dialect::{Context, Dialect, Documents, Fault, Notice, Patience, SealInput, Sealed, StreamWire};
use crate::markup::flavour::{Flavour, TWIML};
use crate::store::resources::Resource;
use crate::usage::Trigger;

/// A resource's keys, or those of a list.
pub(in crate::dialect) type Fields = Map<String, Value>;

/// One member of the family.
pub(in crate::dialect) trait Provider: Debug + Sync {
    /// Its name in configuration and records.
    fn name(&self) -> &'static str;

    /// How it writes ids.
    fn ids(&self) -> Ids;

    /// What the paths of its resources begin with: `/2010-04-01`.
    fn root(&self) -> &'static str;

    /// The account's credentials there; `None` if the account has none.
    fn credentials<'a>(&self, account: &'a Account) -> Option<Credentials<'a>>;

    /// Whether clients may log in with an account's keys (`SK...`).
    fn has_keys(&self) -> bool {
        false
    }

    /// Whether a path without an extension is answered in XML, unless the request accepts JSON.
    fn answers_in_xml(&self) -> bool {
        false
    }

    /// Whether it has this resource below an account: the first segment of its path.
    fn has(&self, _resource: &str) -> bool {
        true
    }

    /// Writes a request's parameters as Twilio's API has them.
    fn normalise(&self, _pairs: &mut Vec<(String, String)>) {}

    /// `direction` of the Call resource.
    fn direction(&self, direction: Direction) -> &'static str {
        format::direction(direction)
    }

    /// `answered_by` of the Call resource.
    fn answered_by(&self, verdict: Verdict) -> &'static str {
        format::verdict(verdict)
    }

    /// Changes the Call resource.
    fn call(&self, _leg: &LegInfo, _fields: &mut Fields) {}

    /// Adds to the parameters of what a `<Gather>` collected: `dtmf` or `speech`.
    fn gathered(&self, _input: &'static str, _push: &mut dyn FnMut(&str, String)) {}

    /// Whether the client of this `User-Agent` reads times of calls as RFC 3339 has them, not RFC 2822.
    fn writes_iso_dates(&self, _user_agent: &str) -> bool {
        false
    }

    /// Adds to the parameters of a progress notice. `completed`: it tells of the end.
    fn progress(&self, _leg: &LegInfo, _completed: bool, _push: &mut dyn FnMut(&str, String)) {}

    /// The header fields that carry the signature.
    fn signature_headers(&self) -> &'static [&'static str] {
        &["X-Twilio-Signature"]
    }

    /// `version` of the first message of a stream.
    fn stream_version(&self) -> &'static str {
        "1.0.0"
    }

    /// Whether a stream's messages of unknown kinds are passed over without a word.
    fn ignores_unknown_messages(&self) -> bool {
        false
    }

    /// The documents that its applications answer with.
    fn flavour(&self) -> &'static Flavour {
        &TWIML
    }

    /// How long an application at this URL is waited for.
    fn patience(&self, url: &str) -> Patience {
        overrides::patience(url)
    }
}

/// How an account's clients log in, and how what it is sent is signed.
#[derive(Clone, Copy, Debug)]
pub(in crate::dialect) struct Credentials<'a> {
    /// The account's SID.
    pub(in crate::dialect) sid: &'a str,
    /// The password of the API.
    pub(in crate::dialect) secret: &'a str,
    /// The key of signatures.
    pub(in crate::dialect) signing_key: &'a str,
}

/// An account as a member's clients know it: whose resources and webhooks are written.
#[derive(Clone, Copy, Debug)]
pub(in crate::dialect) struct Owner<'a> {
    /// The member.
    pub(in crate::dialect) provider: &'static dyn Provider,
    /// The account's SID.
    pub(in crate::dialect) sid: &'a str,
    /// The member's way to write ids.
    pub(in crate::dialect) ids: Ids,
}

impl<'a> Owner<'a> {
    /// An account of this SID.
    pub(in crate::dialect) fn new(provider: &'static dyn Provider, sid: &'a str) -> Self {
        Self { provider, sid, ids: provider.ids() }
    }

    /// Where a resource of the account is: `name` is its path below the account's.
    pub(super) fn path(&self, name: impl Display) -> String {
        format!("{}/Accounts/{}/{name}", self.provider.root(), self.sid)
    }

    /// The same with `.json`.
    pub(super) fn uri(&self, name: impl Display) -> String {
        format!("{}.json", self.path(name))
    }

    /// The URL of a recording's audio, which is WAV without an extension.
    pub(super) fn recording_url(&self, public_url: &str, recording_sid: &str) -> String {
        format!("{public_url}{}", self.path(format_args!("Recordings/{recording_sid}")))
    }
}

/// The dialect of a member.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    provider: &'static dyn Provider,
    /// Whether `https` URLs with a port are signed without it; otherwise as they are configured.
    strip_https_port: bool,
}

impl Family {
    /// The dialect of this member.
    pub(in crate::dialect) fn new(provider: &'static dyn Provider, strip_https_port: bool) -> Self {
        Self { provider, strip_https_port }
    }

    /// Of an account without credentials there all are empty: nothing of it can be validated anyway.
    fn credentials<'a>(&self, account: &'a Account) -> Credentials<'a> {
        self.provider.credentials(account).unwrap_or(Credentials { sid: "", secret: "", signing_key: "" })
    }

    fn owner<'a>(&self, account: &'a Account) -> Owner<'a> {
        Owner::new(self.provider, self.credentials(account).sid)
    }

    fn ids(&self) -> Ids {
        self.provider.ids()
    }
}

impl Dialect for Family {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn account_id(&self, account: &Account) -> Option<String> {
        self.provider.credentials(account).map(|credentials| credentials.sid.to_owned())
    }

    fn call_id(&self, leg: LegId) -> String {
        self.ids().call(leg)
    }

    fn stream_id(&self, id: StreamId) -> String {
        self.ids().stream(id)
    }

    fn conversation_id(&self, id: ConversationId) -> String {
        self.ids().conversation(id)
    }

    fn recording_id(&self, id: RecordingId) -> String {
        self.ids().recording(id)
    }

    fn parse_call_id(&self, text: &str) -> Option<LegId> {
        self.ids().parse_call(text)
    }

    fn documents(&self) -> Option<&dyn Documents> {
        Some(self)
    }

    fn webhook(&self, account: &Account, event: &CallEvent, context: &Context) -> Vec<Notice> {
        webhook::webhook(self.owner(account), event, context)
    }

    fn conference(&self, account: &Account, event: &ConferenceEvent, context: &Context) -> Vec<Notice> {
        conference::notices(self.owner(account), event, context)
    }

    fn usage_reached(&self, account: &Account, trigger: &Resource<Trigger>, figure: f64) -> Option<Notice> {
        Some(rest::usage_notice(self.credentials(account).sid, trigger, figure))
    }

    fn ends_with_recording(&self) -> bool {
        true
    }

    fn patience(&self, url: &str) -> Patience {
        self.provider.patience(url)
    }

    fn seal(&self, account: &Account, notice: &SealInput<'_>) -> Sealed {
        let headers = self.provider.signature_headers();
        seal::seal(self.credentials(account).signing_key, headers, notice, self.strip_https_port)
    }

    fn signing_key(&self, account: &Account) -> Option<String> {
        self.provider.credentials(account).map(|keys| format!("the auth token of {}", keys.sid))
    }

    fn error_number(&self, fault: Fault<'_>) -> Option<u32> {
        error::number(fault)
    }

    fn stream(
        &self,
        account: &Account,
        leg: &LegInfo,
        id: StreamId,
        spec: &StreamSpec,
        _now: Timestamp,
    ) -> Box<dyn StreamWire> {
        let key = self.credentials(account).signing_key;
        Box::new(stream::Wire::new(self.owner(account), key, leg.id, id, spec))
    }

    fn conversation(
        &self,
        account: &Account,
        leg: &LegInfo,
        status: Status,
        id: ConversationId,
        spec: &ConversationSpec,
    ) -> Option<Box<dyn ConversationWire>> {
        let key = self.credentials(account).signing_key;
        Some(Box::new(conversation::Wire::new(self.owner(account), key, leg, status, id, spec)))
    }
}

impl Documents for Family {
    fn fetch(&self, account: &Account, fetch: &Fetch, context: &Context) -> Notice {
        webhook::fetch(self.owner(account), fetch, context)
    }

    fn reply(
        &self,
        fetch: &Fetch,
        base: Option<&Url>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Program, FetchFailure> {
        let program = reply::reply(self.provider.flavour(), base, content_type, body)?;
        Ok(match fetch.scope {
            Scope::Leg => program,
            Scope::Whisper => reply::whispered(program),
            Scope::Queue => reply::waiting(program),
            Scope::Conference => reply::overheard(program),
        })
    }
}
