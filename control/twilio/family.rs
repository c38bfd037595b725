//! The providers that share Twilio's REST API, webhooks and markup: Twilio, SignalWire's Compatibility API and Telnyx's
//! TeXML. Each provider differs from the others in some details.
//!
//! [`Provider`] has one method for each detail. By default, a method has Twilio's behaviour, except for the methods
//! that Twilio itself overrides in `lib.rs`. A provider overrides only the methods in which the provider differs.

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
use tandem_call::conversation::{ConversationFacts, ConversationSpec};
use tandem_call::event::CallEvent;
use tandem_call::fetch::{Fetch, FetchFailure, Scope};
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::machine_detection::DetectionResult;
use tandem_call::program::instruction::Program;
use tandem_call::recording::Track;
use tandem_call::stream::StreamSpec;
use tandem_dialect::agent::AgentScript;
use tandem_dialect::conversation::ConversationWire;
use tandem_dialect::{Context, Dialect, Documents, Notice, ReportedError, Signing, StreamWire};
use tandem_id::{ConversationId, LegId, RecordingId, StreamId};
use tandem_markup::Origin;
use tandem_markup::flavour::Flavour;
use tandem_store::resources::Resource;
use tandem_webhooks::{RetryPolicy, SignInput, SignedRequest};
use url::Url;

use super::sid::Ids;
use super::twiml::TWIML;
use super::{conference, conversation, error, format, overrides, reply, rest, signed_request, stream, webhook};

/// The keys and values of a resource or of a list.
pub type Fields = Map<String, Value>;

/// Rewrites the status and the body of an answer. `below` is the request's path below the account.
pub type Rewrite = fn(below: &[&str], status: &mut StatusCode, body: &mut Value);

/// The resources in an answer: the items of a list, or the single resource.
pub fn rows(body: &mut Value) -> Vec<&mut Fields> {
    let Value::Object(fields) = body else { return Vec::new() };
    if !fields.contains_key("uri") || !fields.values().any(Value::is_array) {
        return vec![fields];
    }
    let rows = fields.values_mut().find_map(Value::as_array_mut).into_iter().flatten();
    rows.filter_map(Value::as_object_mut).collect()
}

/// Keeps only these keys of a resource. Adds each missing key with the value null.
pub fn keep(fields: &mut Fields, keys: &[&str]) {
    fields.retain(|key, _| keys.contains(&key.as_str()));
    for key in keys {
        fields.entry(*key).or_insert(Value::Null);
    }
}

/// Converts an RFC 2822 date to RFC 3339: `Fri, 11 Aug 2023 19:12:11 +0000` to `2023-08-11T19:12:11Z`.
pub fn iso8601(rfc2822: &str) -> Option<String> {
    jiff::fmt::rfc2822::parse(rfc2822).ok().map(|at| at.timestamp().to_string())
}

/// A provider of Twilio's family.
pub trait Provider: Debug + Sync {
    /// The provider's name in the configuration and in records.
    fn name(&self) -> &'static str;

    /// The provider's spelling of ids.
    fn ids(&self) -> Ids;

    /// First part of the paths of the provider's resources: `/2010-04-01`.
    fn root(&self) -> &'static str;

    /// The account's credentials for this provider. `None` if the account has no such credentials.
    fn credentials<'a>(&self, account: &'a Account) -> Option<Credentials<'a>>;

    fn account(&self, accounts: &Accounts, sid: &str) -> Option<Arc<Account>> {
        accounts.by_sid(sid)
    }

    /// The account of a bearer token. `None` if clients of this provider do not log in with bearer tokens.
    fn bearer(&self, _accounts: &Accounts, _token: &str) -> Option<Arc<Account>> {
        None
    }

    /// A new subaccount with this id and new credentials. `None` if this provider's accounts exist only in the
    /// configuration.
    fn new_account(&self, _id: u128) -> Option<Account> {
        None
    }

    /// Whether clients may log in with an account's API keys (`SK...`).
    fn has_api_keys(&self) -> bool {
        false
    }

    /// Whether the answer to a path without an extension is XML. A request that accepts JSON gets JSON in any case.
    fn answers_in_xml(&self) -> bool {
        false
    }

    /// Whether the provider has this resource below an account. `_resource` is the first segment of the resource's
    /// path.
    fn has(&self, _resource: &str) -> bool {
        true
    }

    /// Resources that the provider publishes but this server does not support. They are refused in addition to the
    /// refused resources of Twilio. Each pair has a path below an account and a description.
    fn refused(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// The file extension of recording URLs in webhooks. A URL without an extension is a WAV file.
    fn audio_extension(&self) -> &'static str {
        ""
    }

    /// Changes the names and values of a request's parameters to the names and values of Twilio's API.
    fn normalise(&self, _pairs: &mut Vec<(String, String)>) {}

    /// Whether one `StatusCallbackEvent` of a new call may list several events.
    fn lists_events(&self) -> bool {
        false
    }

    /// The words for `CallStatus` that report an answer. The callback for each word is sent, in this order.
    fn answered_words(&self) -> &'static [&'static str] {
        &["in-progress"]
    }

    /// Whether a new call runs the application if the request names both an application and a document. If the result
    /// is `false`, the call runs the document.
    fn application_decides(&self) -> bool {
        true
    }

    /// The ranges and defaults of the parameters of answering machine detection.
    fn detection(&self) -> &'static DetectionRules {
        &DetectionRules::TWILIO
    }

    /// Whether a filter `DateCreated<` also selects the given time. The list of calls has its own rule.
    fn includes_last_date(&self) -> bool {
        true
    }

    /// Whether the list of queues has the filters `DateCreated` and `DateUpdated`.
    fn filters_queues(&self) -> bool {
        false
    }

    /// Whether the name of a queue is also the SID of the queue.
    fn names_queues(&self) -> bool {
        false
    }

    /// The function that rewrites successful answers. `None` if this provider's answers are the same as Twilio's
    /// answers.
    fn answer(&self) -> Option<Rewrite> {
        None
    }

    /// Status and body of an error answer. `None` if this provider's error answer is the same as Twilio's error answer.
    fn refusal(&self, _status: StatusCode, _code: u32, _message: &str) -> Option<(StatusCode, Value)> {
        None
    }

    /// The Call resource's `direction`.
    fn direction(&self, direction: Direction) -> &'static str {
        format::direction(direction)
    }

    /// The Call resource's `answered_by`.
    fn answered_by(&self, result: DetectionResult) -> &'static str {
        format::detection_result(result)
    }

    /// Changes the fields of the Call resource.
    fn call(&self, _leg: &LegInfo, _fields: &mut Fields) {}

    /// Adds parameters to the result of a `<Gather>`. `_input` is `dtmf` or `speech`.
    fn gathered(&self, _input: &'static str, _push: &mut dyn FnMut(&str, String)) {}

    /// Whether a client with this `User-Agent` expects the times of calls in RFC 3339 format instead of RFC 2822
    /// format.
    fn writes_iso_dates(&self, _user_agent: &str) -> bool {
        false
    }

    /// Adds parameters to a progress notice. `_completed` is true if the notice reports the end of the leg.
    fn progress(&self, _leg: &LegInfo, _completed: bool, _push: &mut dyn FnMut(&str, String)) {}

    /// Rewrites a request to an application. `_leg` is the leg that the request concerns, if there is one. `_event` is
    /// the event that the request reports, if there is one.
    fn rewrite_request(&self, _leg: Option<&LegInfo>, _event: Option<&CallEvent>, _notice: &mut Notice) {}

    /// Builds one signed attempt of a request to an application. [`Family`] describes `strip_https_port`.
    fn sign(&self, account: &Account, notice: &SignInput<'_>, strip_https_port: bool) -> SignedRequest {
        let key = self.credentials(account).map_or("", |own| own.signing_key);
        signed_request::sign(key, self.signature_headers(), notice, strip_https_port)
    }

    /// Describes the signatures of [`Self::sign`]. [`Dialect::signing`] has the details.
    fn signing(&self, account: &Account) -> Option<Signing> {
        let own = self.credentials(account).filter(|own| !own.signing_key.is_empty())?;
        let key = format!("the {} of {}", self.signing_key_name(), own.sid);
        let header = self.signature_headers().first().copied().unwrap_or_default();
        let check = format!(
            "{header} is the base64 of the HMAC-SHA1 of the URL and the sorted parameters. Your application must check exactly \
             the signed URL, with {key}."
        );
        Some(Signing { key, covers_url: true, check })
    }

    /// Names of the header fields that contain the signature.
    fn signature_headers(&self) -> &'static [&'static str] {
        &["X-Twilio-Signature"]
    }

    /// The wire form of a media stream. `None` if the provider uses Twilio's wire form. The methods after this method
    /// then adapt Twilio's wire form to the provider.
    fn stream(
        &self,
        _account: &Account,
        _leg: &LegInfo,
        _id: StreamId,
        _spec: &StreamSpec,
    ) -> Option<Box<dyn StreamWire>> {
        None
    }

    /// The wire form of a conversation with an application. `None` if the provider uses Twilio's wire form.
    fn conversation(
        &self,
        _account: &Account,
        _leg: &LegInfo,
        _status: Status,
        _id: ConversationId,
        _spec: &ConversationSpec,
    ) -> Option<Box<dyn ConversationWire>> {
        None
    }

    /// The parameters of the request that follows a conversation. `None` if the provider has the same parameters as
    /// Twilio.
    fn conversed(&self, _facts: &ConversationFacts) -> Option<Vec<(&'static str, String)>> {
        None
    }

    /// The script of an agent that a document defines. [`Dialect::agent_script`] has the details.
    fn agent_script(
        &self,
        _account: &Account,
        _leg: &LegInfo,
        _definition: &str,
    ) -> Option<Result<Box<dyn AgentScript>, String>> {
        None
    }

    /// Default of `Track` in a request for a stream of a call.
    fn stream_track(&self) -> Track {
        Track::Inbound
    }

    /// Whether the provider can stream the mix of a conference.
    fn streams_conferences(&self) -> bool {
        false
    }

    /// The provider's name for the signing key.
    fn signing_key_name(&self) -> &'static str {
        "auth token"
    }

    /// The `version` in the first message of a stream.
    fn stream_version(&self) -> &'static str {
        "1.0.0"
    }

    /// Whether stream messages of unknown types are ignored without a warning.
    fn ignores_unknown_messages(&self) -> bool {
        false
    }

    /// Whether an application may send DTMF with the `dtmf` message of a stream.
    fn streams_send_dtmf(&self) -> bool {
        false
    }

    /// The markup of the documents that applications return.
    fn flavour(&self) -> &'static Flavour {
        &TWIML
    }

    /// Prepares a document for parsing. The document is the answer to the request `_request`.
    fn document<'a>(&self, text: &'a [u8], _request: &Notice) -> Cow<'a, [u8]> {
        text.into()
    }

    /// The name of the document's dialect if this dialect is not the dialect of this provider. Otherwise `None`.
    fn other_dialect(&self, _body: &[u8]) -> Option<&'static str> {
        None
    }

    /// Timeouts and retries for the application at this URL.
    fn retry_policy(&self, url: &str) -> RetryPolicy {
        overrides::retry_policy(url)
    }
}

/// Ranges and defaults of the parameters of answering machine detection. All values are in ms, with one exception:
/// `MachineDetectionTimeout` is in seconds if `within_seconds` is set.
#[derive(Debug)]
pub struct DetectionRules {
    /// Whether `MachineDetectionTimeout` is in seconds.
    pub within_seconds: bool,
    /// Range and default of `MachineDetectionTimeout`.
    pub within: (RangeInclusive<u64>, u64),
    /// Range and default of `MachineDetectionSpeechThreshold`.
    pub greeting: (RangeInclusive<u64>, u64),
    /// Range and default of `MachineDetectionSpeechEndThreshold`.
    pub after_greeting: (RangeInclusive<u64>, u64),
    /// Range and default of `MachineDetectionSilenceTimeout`.
    pub silence: (RangeInclusive<u64>, u64),
}

impl DetectionRules {
    /// The ranges and defaults of Twilio.
    pub const TWILIO: Self = Self {
        within_seconds: true,
        within: (3..=60, 30),
        greeting: (1_000..=6_000, 2_400),
        after_greeting: (500..=5_000, 1_200),
        silence: (2_000..=10_000, 5_000),
    };
}

/// An account's credentials for one provider. Clients log in with the SID and the secret. The signing key signs
/// webhooks.
#[derive(Clone, Debug)]
pub struct Credentials<'a> {
    /// The account's SID.
    pub sid: Cow<'a, str>,
    /// The password of the REST API.
    pub secret: &'a str,
    /// The key that signs webhooks. Empty if the provider does not sign URLs.
    pub signing_key: &'a str,
}

/// An account at one provider. Resources and webhooks use the ids and paths of this provider.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    pub provider: &'static dyn Provider,
    /// The account's SID.
    pub sid: &'a str,
    /// The provider's spelling of ids.
    pub ids: Ids,
}

impl<'a> Owner<'a> {
    /// The account with this SID at this provider.
    pub fn new(provider: &'static dyn Provider, sid: &'a str) -> Self {
        Self { provider, sid, ids: provider.ids() }
    }

    /// The path of a resource of the account. `name` is the part of the path below the account.
    pub(super) fn path(&self, name: impl Display) -> String {
        format!("{}/Accounts/{}/{name}", self.provider.root(), self.sid)
    }

    /// Like [`Owner::path`], with `.json` appended.
    pub(super) fn uri(&self, name: impl Display) -> String {
        format!("{}.json", self.path(name))
    }

    /// The URL of a recording's audio.
    pub(super) fn recording_url(&self, public_url: &str, recording_sid: &str) -> String {
        let name = format_args!("Recordings/{recording_sid}{}", self.provider.audio_extension());
        format!("{public_url}{}", self.path(name))
    }
}

/// The dialect of a provider of Twilio's family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    provider: &'static dyn Provider,
    /// Whether this server removes the port from an `https` URL before signing the URL. If not, this server signs the
    /// URL as configured.
    strip_https_port: bool,
}

impl Family {
    /// The dialect of this provider.
    pub fn new(provider: &'static dyn Provider, strip_https_port: bool) -> Self {
        Self { provider, strip_https_port }
    }

    /// The account's SID. Empty for an account without credentials for this provider. The signatures for such an
    /// account cannot be validated in any case.
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
        notices.iter_mut().for_each(|notice| self.provider.rewrite_request(Some(&event.leg), Some(event), notice));
        notices
    }

    fn conference(&self, account: &Account, event: &ConferenceEvent, context: &Context) -> Vec<Notice> {
        let sid = self.sid(account);
        let mut notices = conference::notices(Owner::new(self.provider, &sid), event, context);
        notices.iter_mut().for_each(|notice| self.provider.rewrite_request(None, None, notice));
        notices
    }

    fn usage_reached(&self, account: &Account, trigger: &Resource<Trigger>, figure: f64) -> Option<Notice> {
        Some(rest::usage_notice(&self.sid(account), trigger, figure))
    }

    fn ends_with_recording(&self) -> bool {
        true
    }

    fn retry_policy(&self, url: &str) -> RetryPolicy {
        self.provider.retry_policy(url)
    }

    fn sign(&self, account: &Account, notice: &SignInput<'_>) -> SignedRequest {
        self.provider.sign(account, notice, self.strip_https_port)
    }

    fn signing(&self, account: &Account) -> Option<Signing> {
        self.provider.signing(account)
    }

    fn error_number(&self, fault: ReportedError<'_>) -> Option<u32> {
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
        // The stream of a conference has the same messages as the stream of a call. The conference's id replaces the
        // call's id.
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
        if let Some(own) = self.provider.conversation(account, leg, status, id, spec) {
            return Some(own);
        }
        let own = self.provider.credentials(account)?;
        let owner = Owner::new(self.provider, &own.sid);
        Some(Box::new(conversation::wire(owner, own.signing_key, leg, status, id, spec)))
    }

    fn agent_script(
        &self,
        account: &Account,
        leg: &LegInfo,
        _id: ConversationId,
        definition: &str,
    ) -> Option<Result<Box<dyn AgentScript>, String>> {
        self.provider.agent_script(account, leg, definition)
    }
}

impl Documents for Family {
    fn fetch(&self, account: &Account, fetch: &Fetch, context: &Context) -> Notice {
        let sid = self.sid(account);
        let mut notice = webhook::fetch(Owner::new(self.provider, &sid), fetch, context);
        self.provider.rewrite_request(Some(&fetch.leg), None, &mut notice);
        notice
    }

    fn reply(
        &self,
        fetch: &Fetch,
        request: &Notice,
        base: Option<&Url>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Program, FetchFailure> {
        let body = self.provider.document(body, request);
        let origin = Origin { base, local_files: false, first_method: fetch.first_method };
        let program = reply::reply(self.provider.flavour(), origin, content_type, &body)?;
        Ok(match fetch.scope {
            Scope::Leg => program,
            Scope::Whisper => reply::for_whisper(program),
            Scope::Queue => reply::for_queue(program),
            Scope::Conference => reply::for_conference(program),
        })
    }

    fn other_dialect(&self, body: &[u8]) -> Option<&'static str> {
        self.provider.other_dialect(body)
    }
}
