//! The state of a call. The state moves into another call when two calls are merged.
//!
//! | part | in the written form |
//! |---|---|
//! | [`Call`]: the programs of the legs, and what joins the legs | yes |
//! | [`CallFacts`], and the [`LegFacts`] of each leg | yes |
//! | the machine, the dialogs and the media session of a leg ([`LegIo`](tandem_legs::LegIo)) | yes |
//! | the script of a leg | yes |
//! | [`Attachments`](live_leg::Attachments) of a leg, [`Supervised`]: streams, rooms, memberships, tasks | no: [`Call::resume`] gives their commands again |

mod live_leg;
#[cfg_attr(not(test), expect(dead_code, reason = "no part of the server keeps the state of its calls yet"))]
mod snapshot;
mod supervised;

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::call::Call;
use tandem_call::leg::LegInfo;
use tandem_call::recording::Recording;
use tandem_history::event_log::EventLog;
use tandem_http::CookieJar;
use tandem_id::{CallId, LegId, Now};

pub(crate) use live_leg::{LegFacts, LiveLeg};
pub(crate) use supervised::{Room, Supervised};

pub(crate) struct CallState {
    pub call: Call,
    /// The shell's data about the call.
    pub facts: CallFacts,
    pub legs: HashMap<LegId, Box<LiveLeg>>,
    /// The supervisors: legs that listen to another leg's call and are not bridged with the other leg.
    pub supervised: Option<Box<Supervised>>,
}

/// The shell's data about a call, without handles.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct CallFacts {
    /// The session id of this call, and the session ids of the calls that were merged into this call.
    pub sessions: Vec<CallId>,
    /// Ended legs for which SIP or the engine will still report something.
    pub ended: BTreeMap<LegId, PendingTeardown>,
    /// The number of sent notices that have a sequence number, by leg.
    pub sequences: BTreeMap<LegId, u32>,
    /// The recordings that were requested together with a leg, by leg.
    pub own_recordings: BTreeMap<LegId, OwnRecording>,
    /// The cookies of each session.
    pub cookie_jars: BTreeMap<CallId, CookieJar>,
}

impl CallState {
    /// Creates the state of a call that has no live leg yet.
    pub(crate) fn new(call: Call) -> Self {
        let facts = CallFacts { sessions: vec![call.id()], ..CallFacts::default() };
        Self { call, facts, legs: HashMap::default(), supervised: None }
    }

    /// Takes over the state of another call.
    pub(crate) fn merge(&mut self, now: Now, other: Self) {
        let Self { call, facts, legs, supervised } = other;
        let CallFacts { sessions, ended, sequences, own_recordings, cookie_jars } = facts;
        self.call.merge(now, call);
        self.legs.extend(legs);
        self.facts.sessions.extend(sessions);
        self.facts.ended.extend(ended);
        self.facts.sequences.extend(sequences);
        self.facts.own_recordings.extend(own_recordings);
        self.facts.cookie_jars.extend(cookie_jars);
        self.supervised = Supervised::merged(self.supervised.take(), supervised);
    }
}

pub(crate) struct MovedCall {
    pub state: CallState,
    pub log: EventLog,
}

/// A recording that was requested together with its leg.
#[derive(Serialize, Deserialize)]
pub(crate) struct OwnRecording {
    pub facts: Recording,
    /// The end of the leg. The notice of the end is delayed until the recording is complete.
    pub end: Option<DelayedEnd>,
}

/// The end of a leg whose notice is delayed.
#[derive(Serialize, Deserialize)]
pub(crate) struct DelayedEnd {
    pub at: Timestamp,
    pub leg: Arc<LegInfo>,
}

/// The final events that the call task still expects for an ended leg, or for the dialog with a recording server.
#[derive(Serialize, Deserialize)]
pub(crate) struct PendingTeardown {
    /// The ended leg. `None` for the dialog with a recording server.
    pub info: Option<Arc<LegInfo>>,
    /// Whether the dialog is over.
    pub dialog: bool,
    /// The branches of the leg that are not over, if the leg has ended while it rang.
    pub branches: Vec<LegId>,
    /// Whether the media session is closed.
    pub media: bool,
}
