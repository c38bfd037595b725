//! The events.

use std::borrow::Cow;
use std::slice;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::conference::event::ConferenceEvent;
use tandem_call::event::CallEvent;
use tandem_call::leg::Quality;
use tandem_history::live_log::LogEntry;
use tandem_history::report::Report;
use tandem_id::{AccountName, CallId, LegId, QueueId};
use tandem_sip as sip;
use tandem_store::resources::Resource;

use crate::filter::{Kind, Topic};

/// An event of the server. An event of another node of the cluster has the same form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// An event of a leg.
    Call(CallEvent),
    /// A line of the log of a live call, or an HTTP exchange of the call.
    Log(LogEntry),
    /// An event of a conference.
    Conference(ConferenceEvent),
    /// A change of a call queue.
    Queue(QueueEvent),
    /// A change of a trunk.
    Trunk(TrunkEvent),
    /// A phone has registered, or a registration has ended.
    Phone(PhoneEvent),
    /// A setting or a stored resource has changed.
    Resource(ResourceEvent),
    /// A problem was reported.
    Problem(ProblemEvent),
    /// The audio quality of a live leg. The event comes every few seconds, but only while a reader takes such events.
    LegQuality(LegQuality),
    /// A live leg runs another verb now. This event has no webhook and no line in the call's log.
    Verb(VerbChange),
}

/// The account of events that belong to no account.
static SERVER: LazyLock<AccountName> = LazyLock::new(AccountName::server);

impl Event {
    /// Returns the topic of an event that another node has published. If calls were merged, only one of their ids is known.
    pub(crate) fn topic(&self) -> Topic<'_> {
        let of_leg =
            |kind, account, session, leg: &LegId| Topic::of_call(kind, account, slice::from_ref(session), Some(*leg));
        match self {
            Self::Call(event) => event.into(),
            Self::Log(entry) => Topic::of_call(Kind::Log, &SERVER, slice::from_ref(&entry.session), None),
            Self::Conference(event) => Topic::new(Kind::Conference, &event.conference.account),
            Self::Queue(event) => Topic::new(Kind::Queue, &event.account),
            Self::Trunk(event) => Topic::new(Kind::Trunk, event.account.as_ref().unwrap_or(&SERVER)),
            Self::Phone(event) => Topic::new(Kind::Phone, &event.account),
            Self::Resource(event) => Topic::new(Kind::Resource, &event.account),
            Self::Problem(event) => Topic::of_call(Kind::Problem, &event.report.account, &[], event.leg),
            Self::LegQuality(event) => of_leg(Kind::LegQuality, &event.account, &event.session, &event.leg),
            Self::Verb(event) => of_leg(Kind::Verb, &event.account, &event.session, &event.leg),
        }
    }
}

/// A change of a call queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueEvent {
    /// The account that owns the queue.
    pub account: AccountName,
    /// The id of the queue.
    pub queue: QueueId,
    /// Name of the queue.
    pub name: Arc<str>,
    /// Number of waiting legs after the change. Legs that are being connected to an agent are not included.
    pub waiting: usize,
    /// The change.
    pub change: QueueChange,
}

/// The kinds of changes of a call queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum QueueChange {
    /// The queue was created.
    Created,
    /// The name or the size of the queue was changed.
    Changed,
    /// The queue was deleted.
    Deleted,
    /// A leg waits in the queue: it has entered the queue, or the connection to an agent has failed.
    Waits(LegId),
    /// A leg is being connected to an agent. It keeps its position until the connection succeeds.
    Called(LegId),
    /// A leg has left the queue.
    Left(LegId),
    /// An agent waits for a caller of the queue, or waits no longer.
    Agents,
}

/// A change of a trunk.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TrunkEvent {
    /// Name of the trunk.
    pub trunk: Arc<str>,
    /// The account that owns the trunk. `None` for a trunk that all accounts use.
    pub account: Option<AccountName>,
    /// The state of the trunk after the change. The trunks of another node have no state here.
    #[serde(skip)]
    pub status: sip::TrunkStatus,
}

/// A phone has registered, or a registration has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PhoneEvent {
    /// The account of the phone's user.
    pub account: AccountName,
    /// The user name of the phone.
    pub username: Arc<str>,
    /// The SIP domain of the user, if the account has created a domain.
    pub domain: Option<Arc<str>>,
    /// Whether the phone has registered. If `false`, the registration has ended.
    pub registered: bool,
}

/// A change of settings or of stored resources.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResourceEvent {
    /// The account that owns the resources; the server if resources of several accounts have changed.
    pub account: AccountName,
    /// The kind of the resources.
    pub kind: ResourceKind,
}

/// Kinds of resources.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ResourceKind {
    /// The configuration file was read again.
    Configuration,
    /// Phone numbers.
    Numbers,
    /// Applications.
    Applications,
    /// Verified caller IDs.
    VerifiedCallers,
    /// Outbound profiles.
    OutboundProfiles,
    /// Phones, SIP domains, access lists and customer trunks.
    SipUsers,
}

/// A reported problem.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProblemEvent {
    /// The leg that the problem belongs to.
    pub leg: Option<LegId>,
    /// The report as it is stored. The account is empty if the problem belongs to no account.
    pub report: Resource<Report>,
}

/// The audio quality of a live leg since its start.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LegQuality {
    /// Time of the measurement.
    pub at: Timestamp,
    /// The leg.
    pub leg: LegId,
    /// The call in which the leg was created.
    pub session: CallId,
    /// The account of the leg.
    pub account: AccountName,
    /// Name of the leg's dialect.
    pub dialect: Arc<str>,
    /// The figures.
    pub quality: Quality,
    /// Whether no audio has arrived from the far end for 2 s although audio should arrive.
    pub lacks_audio: bool,
    /// Whether more than the quality has changed: streams or a conversation run on the leg, or the far end has begun or
    /// ended a hold.
    pub is_busy: bool,
}

/// A change of the running verb of a live leg.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerbChange {
    /// The leg.
    pub leg: LegId,
    /// The call in which the leg was created.
    pub session: CallId,
    /// The account of the leg.
    pub account: AccountName,
    /// The name of the verb that runs now. `None` if the leg runs none.
    pub verb: Option<Cow<'static, str>>,
}
