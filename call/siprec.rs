//! Sessions with recording servers (SIPREC, RFC 7866). This server calls a recording server and sends copies of a leg's
//! audio to the recording server.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Callback;
use crate::event::EventKind;
use crate::leg_cx::LegCx;
use crate::output::LegCommand;
use crate::recording::Track;
use crate::resume::Standing;
use crate::timer::LegTimer;
use tandem_id::{OpId, SiprecId};

/// Maximum number of tracks that one leg sends to recording servers at the same time. At this limit, further requests
/// are refused and further instructions fail.
const MAX_TRACKS: usize = 4;
/// Maximum time until a recording server answers. The time is short, because a recording server answers without a
/// person.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Parameters of a session with a recording server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SiprecSpec {
    /// Name of the recording server in the configuration.
    pub connector: String,
    /// The name that the application uses for the session.
    pub name: Option<String>,
    /// The directions whose audio is sent to the recording server. Each direction is a separate stream.
    pub track: Track,
    /// Names and values that are sent to the recording server together with the metadata of the call.
    pub parameters: Vec<(String, String)>,
    /// The callback that receives the session's status events.
    pub callback: Option<Callback>,
}

/// Facts about a session with a recording server at a status change.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SiprecFacts {
    /// Id of the session.
    pub id: SiprecId,
    /// Parameters of the session.
    pub spec: Box<SiprecSpec>,
    /// The new status.
    pub status: SiprecStatus,
}

/// Status changes of a session with a recording server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SiprecStatus {
    /// The recording server accepted the session, and receives the audio now.
    Started,
    /// The recording server asked for a pause of the audio.
    Paused,
    /// The recording server asked to continue the audio after a pause.
    Resumed,
    /// The session ended normally.
    Stopped,
    /// The session could not start, or the recording server ended the session.
    Failed(SiprecFailure),
}

impl SiprecStatus {
    fn is_over(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed(_))
    }
}

/// The failure of a session with a recording server. Each dialect has its own error number for each kind of failure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SiprecFailure {
    /// Kind of the failure.
    pub fault: SiprecFault,
    /// Details in words, for operators.
    pub detail: String,
}

/// Kinds of failure of a session with a recording server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SiprecFault {
    /// No recording server with this name is configured.
    NoConnector,
    /// The leg already sends the maximum number of tracks to recording servers.
    TooMany,
    /// The recording server cannot be reached.
    Unreachable,
    /// The recording server did not answer in time.
    Timeout,
    /// The recording server refused the session with this SIP status code.
    Refused(u16),
    /// The recording server accepted none of the audio streams.
    NoAudio,
    /// The recording server hung up.
    HungUp,
    /// The session failed because of an error in this server.
    Internal,
}

impl SiprecFault {
    /// Creates a failure of this kind with details in words.
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

/// A session with a recording server that runs on a leg.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ActiveSiprec {
    id: SiprecId,
    /// The operations that copy the audio from the far end and to the far end.
    ops: (OpId, OpId),
    spec: Box<SiprecSpec>,
    /// Whether the recording server has answered. Until then [`LegTimer::Siprec`] runs.
    answered: bool,
}

impl ActiveSiprec {
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        standing.command(LegCommand::StartSiprec { ops: self.ops, id: self.id, spec: self.spec.clone() });
    }
}

fn tracks(track: Track) -> usize {
    if track == Track::Both { 2 } else { 1 }
}

impl LegCx<'_> {
    /// Starts a session with a recording server. Returns `None` if the leg would send more than the maximum number of
    /// tracks.
    pub(crate) fn start_siprec(&mut self, spec: Box<SiprecSpec>) -> Option<SiprecId> {
        let copied: usize = self.leg.siprecs.iter().map(|one| tracks(one.spec.track)).sum();
        if copied + tracks(spec.track) > MAX_TRACKS {
            return None;
        }
        let id = SiprecId::new(self.now().time, &mut self.call.entropy.next_rng());
        let ops = (self.new_op(), self.new_op());
        self.set_timer(LegTimer::Siprec(ops.0), ANSWER_TIMEOUT);
        self.leg.siprecs.push(ActiveSiprec { id, ops, spec: spec.clone(), answered: false });
        self.command(LegCommand::StartSiprec { ops, id, spec });
        Some(id)
    }

    /// Starts a session with a recording server like [`LegCx::start_siprec`]. If the leg would send more than the
    /// maximum number of tracks, this function reports a failed session.
    pub(crate) fn try_siprec(&mut self, spec: Box<SiprecSpec>) {
        if self.start_siprec(spec.clone()).is_none() {
            let id = SiprecId::new(self.now().time, &mut self.call.entropy.next_rng());
            let why = SiprecFault::TooMany
                .because("the call already sends the maximum number of tracks to recording servers");
            self.emit(EventKind::Siprec(SiprecFacts { id, spec, status: SiprecStatus::Failed(why) }));
        }
    }

    /// Stops a session and reports its end. Returns the name of the session, or `None` if the session does not run.
    pub(crate) fn stop_siprec(&mut self, id: SiprecId) -> Option<Option<String>> {
        let name = self.leg.siprecs.iter().find(|one| one.id == id)?.spec.name.clone();
        self.finish_siprec(id);
        Some(name)
    }

    /// Stops the sessions with this name, or all sessions if `name` is `None`.
    pub(crate) fn stop_siprecs(&mut self, name: Option<&str>) {
        let named = |spec: &SiprecSpec| name.is_none() || spec.name.as_deref() == name;
        let ids: Vec<_> = self.leg.siprecs.iter().filter(|one| named(&one.spec)).map(|one| one.id).collect();
        for id in ids {
            self.finish_siprec(id);
        }
    }

    /// Returns the oldest session with this name on the leg.
    pub(crate) fn named_siprec(&self, name: &str) -> Option<SiprecId> {
        let all = &self.leg.siprecs;
        all.iter().find(|one| one.spec.name.as_deref() == Some(name)).map(|one| one.id)
    }

    /// Handles a status change that the shell reports for a session.
    pub(crate) fn siprec_changed(&mut self, id: SiprecId, status: SiprecStatus) {
        let Some(one) = self.leg.siprecs.iter_mut().find(|one| one.id == id) else { return };
        one.answered = true;
        let (op, spec) = (one.ops.0, one.spec.clone());
        self.cancel(LegTimer::Siprec(op));
        if status.is_over() {
            self.leg.siprecs.retain(|one| one.id != id);
        }
        self.emit(EventKind::Siprec(SiprecFacts { id, spec, status }));
    }

    /// Ends the session with the first operation `op`, because its recording server did not answer in time.
    pub(crate) fn siprec_timed_out(&mut self, op: OpId) {
        let late = self.leg.siprecs.iter().find(|one| one.ops.0 == op);
        if let Some(id) = late.map(|one| one.id) {
            let why = SiprecFault::Timeout.because("the recording server did not answer in time");
            self.end_siprec(id, SiprecStatus::Failed(why));
        }
    }

    /// Stops a session. If the recording server has not answered yet, it has recorded nothing, so this end is a failure.
    fn finish_siprec(&mut self, id: SiprecId) {
        let unanswered = self.leg.siprecs.iter().any(|one| one.id == id && !one.answered);
        let status = if unanswered {
            let why = "nothing was recorded: the recording server had not answered when the session ended";
            SiprecStatus::Failed(SiprecFault::Timeout.because(why))
        } else {
            SiprecStatus::Stopped
        };
        self.end_siprec(id, status);
    }

    fn end_siprec(&mut self, id: SiprecId, status: SiprecStatus) {
        self.command(LegCommand::StopSiprec { id });
        self.siprec_changed(id, status);
    }
}
