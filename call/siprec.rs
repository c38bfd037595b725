//! Copies of a leg's audio to a recording server that is called for it (SIPREC, RFC 7866).

use std::fmt;
use std::time::Duration;

use crate::Callback;
use crate::call::Call;
use crate::event::EventKind;
use crate::id::{LegId, OpId, SiprecId};
use crate::output::LegCommand;
use crate::recording::Track;

/// Tracks of one leg that may go to recording servers at a time; further requests are refused, further instructions fail.
const MOST_TRACKS: usize = 4;
/// How long a recording server may take to answer: it is a machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A recording session as asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct SiprecSpec {
    /// Which recording server, by its name in the configuration.
    pub connector: String,
    /// The application's name for it.
    pub name: Option<String>,
    /// Directions that are sent, each as a stream of its own.
    pub track: Track,
    /// Passed to the recording server with what is said of the call.
    pub parameters: Vec<(String, String)>,
    /// Told of its progress.
    pub callback: Option<Callback>,
}

/// A recording session's life.
#[derive(Clone, PartialEq, Debug)]
pub struct SiprecFacts {
    /// Its id.
    pub id: SiprecId,
    /// As asked for.
    pub spec: Box<SiprecSpec>,
    /// What happened.
    pub status: SiprecStatus,
}

/// What happened to a recording session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SiprecStatus {
    /// The server takes the audio.
    Started,
    /// The server wants no audio for now.
    Paused,
    /// It wants it again.
    Resumed,
    /// It ended as it should.
    Stopped,
    /// There was none, or the server ended it.
    Failed(SiprecFailure),
}

impl SiprecStatus {
    fn is_over(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed(_))
    }
}

/// Why a recording session failed. Dialects number the kinds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiprecFailure {
    /// What kind of failure.
    pub fault: SiprecFault,
    /// Description for people.
    pub detail: String,
}

/// Kinds of failure of a recording session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SiprecFault {
    /// There is no recording server of this name.
    NoConnector,
    /// As many tracks of the leg go to recording servers as may.
    TooMany,
    /// The server cannot be reached.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// It refused with this SIP status.
    Refused(u16),
    /// It takes none of the audio.
    NoAudio,
    /// It hung up.
    HungUp,
    /// Something of ours.
    Internal,
}

impl SiprecFault {
    /// A failure of this kind.
    pub fn because(self, detail: impl Into<String>) -> SiprecFailure {
        SiprecFailure { fault: self, detail: detail.into() }
    }
}

impl fmt::Display for SiprecStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Paused => f.write_str("paused by the recording server"),
            Self::Resumed => f.write_str("resumed by the recording server"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(why) => write!(f, "failed: {}", why.detail),
        }
    }
}

/// A recording session under way.
#[derive(Debug)]
pub(crate) struct Copying {
    id: SiprecId,
    spec: Box<SiprecSpec>,
    /// Until when the server may take to answer.
    unanswered: Option<OpId>,
}

fn tracks(track: Track) -> usize {
    if track == Track::Both { 2 } else { 1 }
}

impl Call {
    /// Starts a recording session; `None` if too many tracks of the leg are copied already.
    pub(crate) fn start_siprec(&mut self, leg: LegId, spec: Box<SiprecSpec>) -> Option<SiprecId> {
        let party = self.party(leg)?;
        let copied: usize = party.siprecs.iter().map(|one| tracks(one.spec.track)).sum();
        if copied + tracks(spec.track) > MOST_TRACKS {
            return None;
        }
        let id = SiprecId::new(self.now().time, &mut self.rng);
        let ops = (self.new_op(), self.new_op());
        let unanswered = Some(self.timer(leg, ANSWER_WITHIN));
        self.party_mut(leg)?.siprecs.push(Copying { id, spec: spec.clone(), unanswered });
        self.order(leg, LegCommand::StartSiprec { ops, id, spec });
        Some(id)
    }

    /// As [`Call::start_siprec`]; what cannot be started is told like any other failure.
    pub(crate) fn try_siprec(&mut self, leg: LegId, spec: Box<SiprecSpec>) {
        if self.start_siprec(leg, spec.clone()).is_none() {
            let id = SiprecId::new(self.now().time, &mut self.rng);
            let why = SiprecFault::TooMany
                .because("the call already sends the maximum number of tracks to recording servers");
            self.emit(leg, EventKind::Siprec(SiprecFacts { id, spec, status: SiprecStatus::Failed(why) }));
        }
    }

    /// Ends a recording session and tells so. Its name, or `None` if it does not run.
    pub(crate) fn stop_siprec(&mut self, leg: LegId, id: SiprecId) -> Option<Option<String>> {
        let name = self.party(leg)?.siprecs.iter().find(|one| one.id == id)?.spec.name.clone();
        self.end_siprec(leg, id, SiprecStatus::Stopped);
        Some(name)
    }

    /// Ends those of this name, or all.
    pub(crate) fn stop_siprecs(&mut self, leg: LegId, name: Option<&str>) {
        let named = |spec: &SiprecSpec| name.is_none() || spec.name.as_deref() == name;
        let ids: Vec<_> = self
            .party(leg)
            .map(|party| party.siprecs.iter().filter(|one| named(&one.spec)).map(|one| one.id).collect())
            .unwrap_or_default();
        for id in ids {
            self.end_siprec(leg, id, SiprecStatus::Stopped);
        }
    }

    /// The oldest recording session of this name.
    pub(crate) fn named_siprec(&self, leg: LegId, name: &str) -> Option<SiprecId> {
        let all = &self.party(leg)?.siprecs;
        all.iter().find(|one| one.spec.name.as_deref() == Some(name)).map(|one| one.id)
    }

    /// The shell's word on a recording session.
    pub(crate) fn siprec_changed(&mut self, leg: LegId, id: SiprecId, status: SiprecStatus) {
        let Some(one) = self.party_mut(leg).and_then(|party| party.siprecs.iter_mut().find(|one| one.id == id)) else {
            return;
        };
        let (timer, spec) = (one.unanswered.take(), one.spec.clone());
        if let Some(op) = timer {
            self.timers.cancel(leg, op);
        }
        if let Some(party) = self.party_mut(leg).filter(|_| status.is_over()) {
            party.siprecs.retain(|one| one.id != id);
        }
        self.emit(leg, EventKind::Siprec(SiprecFacts { id, spec, status }));
    }

    /// Whether the timer was that of a recording server, which has not answered.
    pub(crate) fn siprec_timed_out(&mut self, leg: LegId, op: OpId) -> bool {
        let late = self.party(leg).and_then(|party| party.siprecs.iter().find(|one| one.unanswered == Some(op)));
        let Some(id) = late.map(|one| one.id) else { return false };
        let why = SiprecFault::Timeout.because("the recording server did not answer in time");
        self.end_siprec(leg, id, SiprecStatus::Failed(why));
        true
    }

    fn end_siprec(&mut self, leg: LegId, id: SiprecId, status: SiprecStatus) {
        self.order(leg, LegCommand::StopSiprec { id });
        self.siprec_changed(leg, id, status);
    }
}
