//! The choice of a reader: which events the reader receives.

use std::slice;

use serde::{Deserialize, Serialize};
use tandem_call::event::{CallEvent, EventKind};
use tandem_id::{AccountName, CallId, LegId};

/// The kinds of events. Each kind is a variant of [`Event`](crate::Event). Other nodes know the kinds by their order, so a
/// new kind is the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Events of legs.
    Call,
    /// Log lines and HTTP exchanges of live calls.
    Log,
    /// Events of conferences.
    Conference,
    /// Changes of call queues.
    Queue,
    /// Changes of trunks.
    Trunk,
    /// Registrations of phones.
    Phone,
    /// Changes of settings and of stored resources.
    Resource,
    /// Reported problems.
    Problem,
    /// The audio quality of live legs.
    LegQuality,
    /// Changes of the running verbs of live legs.
    Verb,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Call,
        Self::Log,
        Self::Conference,
        Self::Queue,
        Self::Trunk,
        Self::Phone,
        Self::Resource,
        Self::Problem,
        Self::LegQuality,
        Self::Verb,
    ];

    pub(crate) fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The subject of an event. The bus compares the subject with the filters before it builds the event.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    pub(crate) kind: Kind,
    /// The account that the event belongs to; the server if it belongs to no account, or to several accounts.
    pub(crate) account: &'a AccountName,
    pub(crate) leg: Option<LegId>,
    /// The call that the event belongs to. If other calls were merged into this call, these calls too.
    sessions: &'a [CallId],
    /// Whether the event is the end of its leg.
    pub(crate) ends_leg: bool,
}

impl<'a> Topic<'a> {
    /// Creates the topic of an event that belongs to no leg and no call. `account` is the server if the event belongs to
    /// no account, or to several accounts.
    pub fn new(kind: Kind, account: &'a AccountName) -> Self {
        Self { kind, account, leg: None, sessions: &[], ends_leg: false }
    }

    /// Creates the topic of an event of a call. `sessions` are the ids of the call and of the calls that were merged into
    /// it. `leg` is the leg that the event belongs to, if it belongs to one.
    pub fn of_call(kind: Kind, account: &'a AccountName, sessions: &'a [CallId], leg: Option<LegId>) -> Self {
        Self { leg, sessions, ..Self::new(kind, account) }
    }
}

impl<'a> From<&'a CallEvent> for Topic<'a> {
    fn from(event: &'a CallEvent) -> Self {
        let leg = &event.leg;
        let ends_leg = matches!(event.kind, EventKind::Ended);
        Self { ends_leg, ..Self::of_call(Kind::Call, &leg.account, slice::from_ref(&leg.session), Some(leg.id)) }
    }
}

/// The events that a reader receives. An event must match every field that is set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Filter {
    kinds: u32,
    account: Option<AccountName>,
    pub(crate) leg: Option<LegId>,
    session: Option<CallId>,
    /// Whether events of other nodes are selected too. A node that receives the filter selects its own events.
    #[serde(skip)]
    pub(crate) everywhere: bool,
}

impl Filter {
    /// Selects the events of these kinds.
    pub fn kinds(kinds: &[Kind]) -> Self {
        let kinds = kinds.iter().fold(0, |all, kind| all | kind.bit());
        Self { kinds, account: None, leg: None, session: None, everywhere: false }
    }

    /// Selects the [events](Kind::Call) of one leg. The subscription ends after the event of the leg's end.
    pub fn leg(leg: LegId) -> Self {
        Self { leg: Some(leg), ..Self::kinds(&[Kind::Call]) }
    }

    /// Selects only events of this account, and events that belong to no account. Log lines belong to no account.
    #[must_use]
    pub fn of_account(self, account: AccountName) -> Self {
        Self { account: Some(account), ..self }
    }

    /// Selects only events of this call.
    #[must_use]
    pub fn of_session(self, session: CallId) -> Self {
        Self { session: Some(session), ..self }
    }

    /// Selects also the events of the other nodes of the cluster.
    #[must_use]
    pub fn everywhere(self) -> Self {
        Self { everywhere: true, ..self }
    }

    /// Returns the filter that selects all kinds of events of these filters, of all accounts.
    pub(crate) fn union(filters: &[Self]) -> Self {
        let kinds = filters.iter().fold(0, |all, filter| all | filter.kinds);
        Self { kinds, ..Self::kinds(&[]) }
    }

    /// Returns the bits of the selected kinds.
    pub(crate) fn bits(&self) -> u32 {
        self.kinds
    }

    /// Whether an event with this topic is selected.
    pub fn selects(&self, topic: &Topic<'_>) -> bool {
        self.kinds & topic.kind.bit() != 0
            && (topic.account.is_server() || self.account.as_ref().is_none_or(|account| account == topic.account))
            && (self.leg.is_none() || self.leg == topic.leg)
            && self.session.is_none_or(|session| topic.sessions.contains(&session))
    }
}
