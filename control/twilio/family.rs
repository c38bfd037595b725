//! The family of providers that share Twilio's REST API, webhooks and markup, each in its own spelling: Twilio, SignalWire's
//! Compatibility API and Telnyx's TeXML.
//!
//! [`Provider`] is the list of what tells them apart. Its defaults are Twilio's; a member says only where it differs.

use std::borrow::Cow;
use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tandem_accounts::usage::Trigger;
use tandem_accounts::{Account, Accounts};
use tandem_call::conference::event::{ConferenceEvent, ConferenceInfo};
use tandem_call::conversation::ConversationSpec;
use tandem_call::event::CallEvent;
use tandem_call::fetch::{Fetch, FetchFailure, Scope};
use tandem_call::id::{ConversationId, LegId, RecordingId, StreamId};
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::machine::Verdict;
use tandem_call::program::instruction::Program;
use tandem_call::stream::StreamSpec;
use tandem_dialect::conversation::ConversationWire;
use tandem_dialect::{Context, Dialect, Documents, Fault, Notice, Patience, SealInput, Sealed, StreamWire};
use tandem_markup::flavour::Flavour;
use tandem_store::resources::Resource;
use url::Url;

use super::sid::Ids;
use super::twiml::TWIML;
use super::{conference, conversation, error, format, overrides, reply, rest, seal, stream, webhook};

/// A resource's keys, or those of a list.
pub type Fields = Map<String, Value>;

/// Writes the answer to a request about what is `below` an account anew: its status and its body.
pub type Rewrite = fn(below: &[&str], status: &mut StatusCode, body: &mut Value);

/// The resources of an answer: the rows of a list, or the only one.
pub fn rows(body: &mut Value) -> Vec<&mut Fields> {
    let Value::Object(fields) = body else { return Vec::new() };
    if !fields.contains_key("uri") || !fields.values().any(Value::is_array) {
        return vec![fields];
    }
    let rows = fields.values_mut().find_map(Value::as_array_mut).into_iter().flatten();
    rows.filter_map(Value::as_object_mut).collect()
}

/// Leaves these keys of a resource; those that it lacks are null.
pub fn keep(fields: &mut Fields, keys: &[&str]) {
    fields.retain(|key, _| keys.contains(&key.as_str()));
    for key in keys {
        fields.entry(*key).or_insert(Value::Null);
    }
}

/// `Fri, 11 Aug 2023 19:12:11 +0000` as `2023-08-11T19:12:11Z`.
pub fn iso8601(rfc2822: &str) -> Option<String> {
    jiff::fmt::rfc2822::parse(rfc2822).ok().map(|at| at.timestamp().to_string())
}

/// One member of the family.
pub trait Provider: Debug + Sync {
    /// Its name in configuration and records.
    fn name(&self) -> &'static str;

    /// How it writes ids.
    fn ids(&self) -> Ids;

    /// What the paths of its resources begin with: `/2010-04-01`.
    fn root(&self) -> &'static str;

    /// The account's credentials there; `None` if the account has none.
    fn credentials<'a>(&self, account: &'a Account) -> Option<Credentials<'a>>;

    /// The account of this SID.
    fn account(&self, accounts: &Accounts, sid: &str) -> Option<Arc<Account>> {
        accounts.by_sid(sid)
    }

    /// The account of a bearer token, where clients log in with one.
    fn bearer(&self, _accounts: &Accounts, _token: &str) -> Option<Arc<Account>> {
        None
    }

    /// An account that another one makes, with an id of this number and secrets of its own; `None`: accounts are in the
    /// configuration.
    fn new_account(&self, _id: u128) -> Option<Account> {
        None
    }

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

    /// What it publishes and this server does not have, beside what Twilio's has and this server does not: paths below an account,
    /// and what is there.
    fn refused(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// What the URLs of recordings that applications are told end with; without an extension it is WAV.
    fn audio_extension(&self) -> &'static str {
        ""
    }

    /// Writes a request's parameters as Twilio's API has them.
    fn normalise(&self, _pairs: &mut Vec<(String, String)>) {}

    /// Whether the application that a new call names decides about it; otherwise a document that is named beside it does.
    fn application_decides(&self) -> bool {
        true
    }

    /// In what range the figures of machine detection are.
    fn detection(&self) -> &'static DetectionRules {
        &DetectionRules::TWILIO
    }

    /// Whether a queue is known by its name, which is its SID there.
    fn names_queues(&self) -> bool {
        false
    }

    /// Writes answers that went well anew, if they are not Twilio's.
    fn answer(&self) -> Option<Rewrite> {
        None
    }

    /// Writes a refusal: its status and body; `None` if it is written as Twilio does.
    fn refusal(&self, _status: StatusCode, _code: u32, _message: &str) -> Option<(StatusCode, Value)> {
        None
    }

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

    /// Rewrites what an application is sent: about a leg, if it is about one, and an event of it, if it tells of one.
    fn tell(&self, _leg: Option<&LegInfo>, _event: Option<&CallEvent>, _notice: &mut Notice) {}

    /// One attempt at a request to an application. `strip_https_port`: see [`Family`].
    fn seal(&self, account: &Account, notice: &SealInput<'_>, strip_https_port: bool) -> Sealed {
        let key = self.credentials(account).map_or("", |own| own.signing_key);
        seal::seal(key, self.signature_headers(), notice, strip_https_port)
    }

    /// The header fields that carry the signature.
    fn signature_headers(&self) -> &'static [&'static str] {
        &["X-Twilio-Signature"]
    }

    /// The messages of a stream; `None` if they are as Twilio's but for what follows.
    fn stream(
        &self,
        _account: &Account,
        _leg: &LegInfo,
        _id: StreamId,
        _spec: &StreamSpec,
    ) -> Option<Box<dyn StreamWire>> {
        None
    }

    /// Whether what all in a conference hear can be streamed.
    fn streams_conferences(&self) -> bool {
        false
    }

    /// What people call the key of signatures.
    fn signing_key_name(&self) -> &'static str {
        "auth token"
    }

    /// `version` of the first message of a stream.
    fn stream_version(&self) -> &'static str {
        "1.0.0"
    }

    /// Whether a stream's messages of unknown kinds are passed over without a word.
    fn ignores_unknown_messages(&self) -> bool {
        false
    }

    /// Whether an application may press keys by a stream's message `dtmf`.
    fn streams_press_keys(&self) -> bool {
        false
    }

    /// The documents that its applications answer with.
    fn flavour(&self) -> &'static Flavour {
        &TWIML
    }

    /// A document as it is read, that came back to what was `asked`.
    fn document<'a>(&self, text: &'a [u8], _asked: &Notice) -> Cow<'a, [u8]> {
        text.into()
    }

    /// The name of another dialect that a document is in, if it is.
    fn other_dialect(&self, _body: &[u8]) -> Option<&'static str> {
        None
    }

    /// How long an application at this URL is waited for.
    fn patience(&self, url: &str) -> Patience {
        overrides::patience(url)
    }
}

/// In what range the figures of machine detection are, in ms but for `within_seconds`, and what they are when they are absent.
#[derive(Debug)]
pub struct DetectionRules {
    /// Whether `MachineDetectionTimeout` is in seconds.
    pub within_seconds: bool,
    /// `MachineDetectionTimeout`.
    pub within: (RangeInclusive<u64>, u64),
    /// `MachineDetectionSpeechThreshold`.
    pub greeting: (RangeInclusive<u64>, u64),
    /// `MachineDetectionSpeechEndThreshold`.
    pub after_greeting: (RangeInclusive<u64>, u64),
    /// `MachineDetectionSilenceTimeout`.
    pub silence: (RangeInclusive<u64>, u64),
}

impl DetectionRules {
    const TWILIO: Self = Self {
        within_seconds: true,
        within: (3..=60, 30),
        greeting: (1_000..=6_000, 2_400),
        after_greeting: (500..=5_000, 1_200),
        silence: (2_000..=10_000, 5_000),
    };
}

/// How an account's clients log in, and how what it is sent is signed.
#[derive(Clone, Debug)]
pub struct Credentials<'a> {
    /// The account's SID.
    pub sid: Cow<'a, str>,
    /// The password of the API.
    pub secret: &'a str,
    /// The key of signatures.
    pub signing_key: &'a str,
}

/// An account as a member's clients know it: whose resources and webhooks are written.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The member.
    pub provider: &'static dyn Provider,
    /// The account's SID.
    pub sid: &'a str,
    /// The member's way to write ids.
    pub ids: Ids,
}

impl<'a> Owner<'a> {
    /// An account of this SID.
    pub fn new(provider: &'static dyn Provider, sid: &'a str) -> Self {
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

    /// The URL of a recording's audio.
    pub(super) fn recording_url(&self, public_url: &str, recording_sid: &str) -> String {
        let name = format_args!("Recordings/{recording_sid}{}", self.provider.audio_extension());
        format!("{public_url}{}", self.path(name))
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
    pub fn new(provider: &'static dyn Provider, strip_https_port: bool) -> Self {
        Self { provider, strip_https_port }
    }

    /// Of an account without credentials there it is empty: nothing of it can be validated anyway.
    fn sid<'a>(&self, account: &'a Account) -> Cow<'a, str> {
        self.provider.credentials(account).map(|own| own.sid).unwrap_or_default()
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
        self.provider.credentials(account).map(|credentials| credentials.sid.into_owned())
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
        let sid = self.sid(account);
        let mut notices = webhook::webhook(Owner::new(self.provider, &sid), event, context);
        notices.iter_mut().for_each(|notice| self.provider.tell(Some(&event.leg), Some(event), notice));
        notices
    }

    fn conference(&self, account: &Account, event: &ConferenceEvent, context: &Context) -> Vec<Notice> {
        let sid = self.sid(account);
        let mut notices = conference::notices(Owner::new(self.provider, &sid), event, context);
        notices.iter_mut().for_each(|notice| self.provider.tell(None, None, notice));
        notices
    }

    fn usage_reached(&self, account: &Account, trigger: &Resource<Trigger>, figure: f64) -> Option<Notice> {
        Some(rest::usage_notice(&self.sid(account), trigger, figure))
    }

    fn ends_with_recording(&self) -> bool {
        true
    }

    fn patience(&self, url: &str) -> Patience {
        self.provider.patience(url)
    }

    fn seal(&self, account: &Account, notice: &SealInput<'_>) -> Sealed {
        self.provider.seal(account, notice, self.strip_https_port)
    }

    fn signing_key(&self, account: &Account) -> Option<String> {
        self.provider
            .credentials(account)
            // One that signs no URLs has no such key.
            .filter(|keys| !keys.signing_key.is_empty())
            .map(|keys| format!("the {} of {}", self.provider.signing_key_name(), keys.sid))
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
        if let Some(own) = self.provider.stream(account, leg, id, spec) {
            return own;
        }
        let keys = self.provider.credentials(account);
        let (sid, key) = keys.map(|own| (own.sid, own.signing_key)).unwrap_or_default();
        Box::new(stream::Wire::new(Owner::new(self.provider, &sid), key, leg.id, id, spec))
    }

    fn conference_stream(
        &self,
        account: &Account,
        conference: &ConferenceInfo,
        id: StreamId,
        spec: &StreamSpec,
    ) -> Option<Box<dyn StreamWire>> {
        let own = self.provider.credentials(account).filter(|_| self.provider.streams_conferences())?;
        // Its messages are those of a call with the conference's id.
        let (owner, about) = (Owner::new(self.provider, &own.sid), LegId(conference.id.0));
        Some(Box::new(stream::Wire::new(owner, own.signing_key, about, id, spec)))
    }

    fn conversation(
        &self,
        account: &Account,
        leg: &LegInfo,
        status: Status,
        id: ConversationId,
        spec: &ConversationSpec,
    ) -> Option<Box<dyn ConversationWire>> {
        let own = self.provider.credentials(account)?;
        let owner = Owner::new(self.provider, &own.sid);
        Some(Box::new(conversation::Wire::new(owner, own.signing_key, leg, status, id, spec)))
    }
}

impl Documents for Family {
    fn fetch(&self, account: &Account, fetch: &Fetch, context: &Context) -> Notice {
        let sid = self.sid(account);
        let mut notice = webhook::fetch(Owner::new(self.provider, &sid), fetch, context);
        self.provider.tell(Some(&fetch.leg), None, &mut notice);
        notice
    }

    fn reply(
        &self,
        fetch: &Fetch,
        asked: &Notice,
        base: Option<&Url>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Program, FetchFailure> {
        let body = self.provider.document(body, asked);
        let program = reply::reply(self.provider.flavour(), base, content_type, &body)?;
        Ok(match fetch.scope {
            Scope::Leg => program,
            Scope::Whisper => reply::whispered(program),
            Scope::Queue => reply::waiting(program),
            Scope::Conference => reply::overheard(program),
        })
    }

    fn other_dialect(&self, body: &[u8]) -> Option<&'static str> {
        self.provider.other_dialect(body)
    }
}
