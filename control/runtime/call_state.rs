//! The state of a call. The state moves into another call when two calls are merged.

mod live_leg;
mod supervised;

use std::sync::Arc;

use foldhash::HashMap;
use tandem_call::call::Call;
use tandem_call::event::CallEvent;
use tandem_call::leg::LegInfo;
use tandem_call::recording::Recording;
use tandem_history::event_log::EventLog;
use tandem_http::CookieJar;
use tandem_id::{CallId, LegId, Now};

pub(crate) use live_leg::LiveLeg;
pub(crate) use supervised::{Room, Supervised};

pub(crate) struct CallState {
    pub call: Call,
    /// The session id of this call, and the session ids of the calls that were merged into this call.
    pub sessions: Vec<CallId>,
    pub legs: HashMap<LegId, Box<LiveLeg>>,
    /// Ended legs for which SIP or the engine will still report something.
    pub ended: HashMap<LegId, PendingTeardown>,
    /// The number of sent notices that have a sequence number, by leg.
    pub sequences: HashMap<LegId, u32>,
    /// The recordings that were requested together with a leg, by leg.
    pub own_recordings: HashMap<LegId, OwnRecording>,
    /// The cookies of each session.
    pub cookie_jars: HashMap<CallId, CookieJar>,
    /// The supervisors: legs that listen to another leg's call and are not bridged with the other leg.
    pub supervised: Option<Box<Supervised>>,
}

impl CallState {
    /// Creates the state of a call that has no live leg yet.
    pub(crate) fn new(call: Call) -> Self {
        Self {
            sessions: vec![call.id()],
            call,
            legs: HashMap::default(),
            ended: HashMap::default(),
            sequences: HashMap::default(),
            own_recordings: HashMap::default(),
            cookie_jars: HashMap::default(),
            supervised: None,
        }
    }

    /// Takes over the state of another call.
    pub(crate) fn merge(&mut self, now: Now, other: Self) {
        let Self { call, sessions, legs, ended, sequences, own_recordings, cookie_jars, supervised } = other;
        self.call.merge(now, call);
        self.sessions.extend(sessions);
        self.legs.extend(legs);
        self.ended.extend(ended);
        self.sequences.extend(sequences);
        self.own_recordings.extend(own_recordings);
        self.cookie_jars.extend(cookie_jars);
        self.supervised = Supervised::merged(self.supervised.take(), supervised);
    }
}

pub(crate) struct MovedCall {
    pub state: CallState,
    pub log: EventLog,
}

/// A recording that was requested together with its leg.
pub(crate) struct OwnRecording {
    pub facts: Recording,
    /// The event of the leg's end, delayed until the recording is complete.
    pub end: Option<Box<CallEvent>>,
}

/// The final events that the call task still expects for an ended leg, or for the dialog with a recording server.
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
