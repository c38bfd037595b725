//! The state machine of one conference, with the participants and their settings. The inputs are the actions of legs,
//! the requests of applications, and the events of the engine's room. The outputs are orders to the engine and events
//! for applications, in one list.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::conference::event::{
    ConferenceEnd, ConferenceEvent, ConferenceEventKind, ConferenceInfo, ConferenceStatus, EndCause, LeftReason,
    ParticipantInfo, ParticipantStatus, RoomAudio,
};
use crate::conference::{ConferenceSettings, LeaveReason, Participation};
use crate::leg::{EndedBy, LegInfo, Status};
use crate::program::instruction::Wait;
use crate::recording::{PauseBehavior, Recording, RecordingEnd, RecordingSpec, RecordingStatus};
use crate::snapshot::{self, CallSnapshotError};
use tandem_id::{AccountName, ConferenceId, LegId, RecordingId};

/// Maximum number of simultaneous recordings of a conference. A further recording is not started.
pub const MAX_RECORDINGS: usize = 8;

/// The state of one conference. After each input, poll outputs until no output is left.
#[derive(Debug, Serialize, Deserialize)]
pub struct Conference {
    info: Arc<ConferenceInfo>,
    max_participants: usize,
    /// Members in the order in which they joined. The list also has members that have left but are still in the
    /// engine's room.
    members: Vec<Member>,
    recordings: Vec<RoomRecording>,
    /// Cause of the conference's end, if the cause is known before the room ends.
    ending: Option<ConferenceEnd>,
    /// Cause of the conference's end if the last member has left. The cause is not used if another member joins before
    /// the end.
    last: Option<ConferenceEnd>,
    /// The leg of the first participant. The facts are from the moment when that leg joined.
    first: Option<Arc<LegInfo>>,
    /// Whether the end of the conference hangs up the remaining participants.
    clears: bool,
    /// Number of reservations. A reservation keeps the conference open even if it has no participants.
    reserved: u32,
    closing: bool,
    #[serde(skip)]
    outputs: VecDeque<Output>,
}

/// An order to the engine, or an event for applications.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Report an event to applications.
    Event(Box<ConferenceEvent>),
    /// Start a recording of the room.
    Record {
        /// Id of the recording. The file of the recording has this id as its name.
        id: RecordingId,
        /// Parameters of the recording.
        spec: RecordingSpec,
    },
    /// Pause a recording.
    PauseRecording {
        /// Id of the recording.
        id: RecordingId,
        /// Whether the recording contains silence for the time of the pause, or leaves this time out.
        pause_behavior: PauseBehavior,
    },
    /// Resume a recording.
    ResumeRecording(RecordingId),
    /// Stop a recording.
    StopRecording(RecordingId),
    /// Play audio to a participant in a loop. This audio replaces the current loop of the participant.
    SetWaitAudio {
        /// The participant's leg.
        leg: LegId,
        /// The document or file to play; `None` stops the audio.
        audio: Option<Wait>,
    },
    /// Notify a call that the room has removed a leg of this call.
    ParticipantRemoved {
        /// The removed leg.
        leg: LegId,
        /// Whether the call hangs up the leg.
        clears: bool,
    },
    /// End the room. No participant is left, or the conference was ended.
    Close,
}

/// The reason why a request to a conference cannot be executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refused {
    /// The conference has ended.
    Over,
    /// The conference already has its maximum number of participants.
    Full,
    /// Another participant already has this label.
    LabelInUse,
    /// The conference has no such participant or recording.
    Unknown,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Over => "the conference has ended",
            Self::Full => "the conference is full",
            Self::LabelInUse => "another participant has this label",
            Self::Unknown => "no such participant or recording",
        })
    }
}

/// A recording whose file is not complete.
#[derive(Debug, Serialize, Deserialize)]
struct RoomRecording {
    facts: Recording,
    /// The content of the paused recording for the time of the pause. `None` if the recording is not paused.
    pause: Option<PauseBehavior>,
    /// Whether the recording was stopped.
    #[serde(default)]
    stopping: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Member {
    info: ParticipantInfo,
    leg: Option<Arc<LegInfo>>,
    state: MemberState,
    wait_audio: Option<Wait>,
}

/// The progress of a member, from the call to the member until the end of its participation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum MemberState {
    /// The member is being called.
    Expected,
    /// The engine has not yet confirmed that the member joined the room.
    Entering,
    /// The member is in the room.
    Inside,
    /// The engine has not yet confirmed that the member left the room.
    Leaving { why: LeftReason, removed: bool, call: Status, was_inside: bool },
}

impl Member {
    /// Returns whether the member is joining or is in the conference, as the member's call sees it.
    fn is_seated(&self) -> bool {
        matches!(self.state, MemberState::Entering | MemberState::Inside)
    }

    fn is_inside(&self) -> bool {
        matches!(self.state, MemberState::Inside | MemberState::Leaving { was_inside: true, .. })
    }
}

/// The name of a conference, and its settings. The settings are used if the conference must be created.
#[derive(Clone, Debug)]
pub struct ConferenceSpec<'a> {
    /// Name of the account.
    pub account: &'a AccountName,
    /// Name of the dialect of the conference's webhooks.
    pub dialect: &'a Arc<str>,
    /// The name that the account uses for the conference.
    pub name: &'a Arc<str>,
    /// Maximum number of participants.
    pub max_participants: u16,
    /// Settings of the conference.
    pub opening: Option<Arc<ConferenceSettings>>,
}

impl Conference {
    /// Creates a conference without participants.
    pub fn open(id: ConferenceId, spec: ConferenceSpec<'_>, now: Timestamp) -> Self {
        let info = Arc::new(ConferenceInfo {
            id,
            account: spec.account.clone(),
            dialect: Arc::clone(spec.dialect),
            name: Arc::clone(spec.name),
            status: ConferenceStatus::Waiting,
            opening: spec.opening.unwrap_or_default(),
            created_at: now,
            updated_at: now,
            end: None,
            application: None,
        });
        let mut this = Self {
            info,
            max_participants: spec.max_participants.into(),
            members: Vec::new(),
            recordings: Vec::new(),
            ending: None,
            last: None,
            first: None,
            clears: false,
            reserved: 0,
            closing: false,
            outputs: VecDeque::new(),
        };
        this.emit(now, ConferenceEventKind::Opened);
        this
    }

    /// Returns the facts about the conference.
    pub fn info(&self) -> &Arc<ConferenceInfo> {
        &self.info
    }

    /// Returns the participants, including those that are being called, in the order in which they were added.
    pub fn participants(&self) -> impl DoubleEndedIterator<Item = &ParticipantInfo> {
        self.members.iter().filter(|one| !matches!(one.state, MemberState::Leaving { .. })).map(|one| &one.info)
    }

    /// Returns the facts about the participant with this leg.
    pub fn participant(&self, leg: LegId) -> Option<&ParticipantInfo> {
        self.participants().find(|one| one.leg == leg)
    }

    /// Returns the leg whose facts a document request contains. If `leg` is set, this is the leg of this participant.
    /// If `leg` is `None`, it is the first known leg of a participant.
    pub fn leg(&self, leg: Option<LegId>) -> Option<&Arc<LegInfo>> {
        let mut members = self.members.iter().filter(|one| leg.is_none_or(|leg| one.info.leg == leg));
        members.find_map(|one| one.leg.as_ref())
    }

    /// Returns the recordings whose files are not complete yet.
    pub fn recordings(&self) -> impl Iterator<Item = &Recording> {
        self.recordings.iter().map(|recording| &recording.facts)
    }

    /// Returns whether the conference is ending and takes no further participants.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Returns the next output, if there is one.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Writes the whole state of the conference. Poll every output first: outputs are not part of the state.
    pub fn write(&self) -> Result<Vec<u8>, CallSnapshotError> {
        if self.outputs.is_empty() {
            snapshot::write(snapshot::VERSION, self)
        } else {
            Err(CallSnapshotError::UnpolledOutputs)
        }
    }

    /// Reads a conference that [`Conference::write`] has written.
    pub fn read(octets: &[u8]) -> Result<Self, CallSnapshotError> {
        snapshot::read(snapshot::VERSION, octets)
    }

    /// Emits again the commands of everything that stands, after [`Conference::read`]: recordings, and the wait audio of
    /// the members. The calls of the members emit the commands with which the members join the new room.
    pub fn resume(&mut self) {
        for RoomRecording { facts, pause, stopping } in &self.recordings {
            let (id, spec) = (facts.id, facts.spec.clone());
            self.outputs.push_back(Output::Record { id, spec });
            self.outputs.extend(pause.map(|pause_behavior| Output::PauseRecording { id, pause_behavior }));
            self.outputs.extend(stopping.then_some(Output::StopRecording(id)));
        }
        for member in self.members.iter().filter(|member| member.wait_audio.is_some()) {
            self.outputs.push_back(Output::SetWaitAudio { leg: member.info.leg, audio: member.wait_audio.clone() });
        }
        if self.closing && self.info.status != ConferenceStatus::Completed {
            self.outputs.push_back(Output::Close);
        }
    }

    // ----- inputs from legs and requests --------------------------------------------------------------------------

    /// Keeps the conference open, even without participants, until [`Conference::release`] is called.
    pub fn reserve(&mut self) {
        self.reserved += 1;
    }

    /// Ends a reservation. Closes the conference if it now has no reservation and no participant.
    pub fn release(&mut self, now: Timestamp) {
        self.reserved = self.reserved.saturating_sub(1);
        self.close_if_empty(now);
    }

    /// Checks whether the conference can take this participant. Returns the reason if the conference cannot take the
    /// participant.
    pub fn admits(&self, participation: &Participation) -> Result<(), Refused> {
        if self.closing {
            return Err(Refused::Over);
        }
        if self.participants().count() >= self.max_participants {
            return Err(Refused::Full);
        }
        let taken = |label: &Arc<str>| self.participants().any(|one| one.participation.label.as_ref() == Some(label));
        match &participation.label {
            Some(label) if taken(label) => Err(Refused::LabelInUse),
            _ => Ok(()),
        }
    }

    /// Adds a participant that is being called. Returns `Ok(false)` if the participant was already added.
    pub fn expect(&mut self, now: Timestamp, leg: LegId, participation: Participation) -> Result<bool, Refused> {
        if self.participant(leg).is_some() {
            return Ok(false);
        }
        self.admits(&participation)?;
        let info = self.add(now, leg, None, participation, MemberState::Expected);
        self.emit(now, ConferenceEventKind::Expected(info));
        Ok(true)
    }

    /// Adds a leg that is about to join the room. If the leg was called for the conference, the leg already has an
    /// entry, and this entry is used.
    pub fn enter(
        &mut self,
        now: Timestamp,
        leg: &Arc<LegInfo>,
        mut participation: Participation,
    ) -> Result<(), Refused> {
        let expected = self.members.iter_mut().find(|one| one.info.leg == leg.id && one.state == MemberState::Expected);
        if let Some(member) = expected {
            participation.opening = None;
            member.info.participation = participation;
            (member.leg, member.state) = (Some(Arc::clone(leg)), MemberState::Entering);
            return Ok(());
        }
        self.admits(&participation)?;
        self.add(now, leg.id, Some(Arc::clone(leg)), participation, MemberState::Entering);
        Ok(())
    }

    /// Changes the settings of a participant.
    pub fn change(&mut self, now: Timestamp, leg: LegId, participation: &Participation) {
        let Some(member) = self.members.iter_mut().find(|one| one.info.leg == leg && one.is_seated()) else { return };
        let mut after = participation.clone();
        (after.opening, after.label) = (None, member.info.participation.label.clone());
        let before = std::mem::replace(&mut member.info.participation, after.clone());
        if before == after {
            return;
        }
        member.info.updated_at = now;
        let (inside, info) = (member.state == MemberState::Inside, member.info.clone());
        // If a member has not joined yet, its settings are reported later, when it joins.
        if inside {
            if before.muted != after.muted {
                self.emit(now, ConferenceEventKind::Muted(info.clone()));
            }
            if before.hold.is_some() != after.hold.is_some() {
                self.emit(now, ConferenceEventKind::Held(info.clone()));
            }
            let same = Participation { muted: after.muted, hold: after.hold.clone(), ..before };
            if same != after {
                self.emit(now, ConferenceEventKind::Modified(info));
            }
        }
        self.settle();
    }

    /// Handles the departure of a leg from the conference. `leg` contains the facts about the leg at that time.
    pub fn leave(&mut self, now: Timestamp, leg: &Arc<LegInfo>, why: LeaveReason) {
        let ending = self.ending.as_ref().map(|end| end.cause);
        let Some(index) = self.members.iter().position(|one| one.info.leg == leg.id && one.is_seated()) else { return };
        let Some(member) = self.members.get_mut(index) else { return };
        member.leg = Some(Arc::clone(leg));
        let by_request = leg.end.as_ref().is_some_and(|end| end.by == EndedBy::Application);
        let reason = match why {
            LeaveReason::Over if matches!(ending, Some(EndCause::Request | EndCause::TimeUp)) => {
                LeftReason::ConferenceEnded
            }
            LeaveReason::Over => LeftReason::HostLeft,
            LeaveReason::Removed | LeaveReason::Elsewhere => LeftReason::Request,
            LeaveReason::Ended if by_request => LeftReason::Request,
            LeaveReason::Ended | LeaveReason::Itself => LeftReason::Itself,
        };
        let (removed, call, was_inside) =
            (why == LeaveReason::Removed, leg.status, member.state == MemberState::Inside);
        member.state = MemberState::Leaving { why: reason, removed, call, was_inside };
        self.settle();
        if !was_inside && why == LeaveReason::Over {
            // The room refused the member, so the room will not report that the member left.
            self.members.remove(index);
        }
        self.close_if_empty(now);
    }

    /// Handles the end of a leg that was called for the conference but never joined.
    pub fn fail(&mut self, now: Timestamp, leg: &LegInfo) {
        let expected = |one: &Member| one.info.leg == leg.id && one.state == MemberState::Expected;
        let Some(index) = self.members.iter().position(expected) else { return };
        let mut participant = self.members.remove(index).info;
        (participant.status, participant.updated_at) = (ParticipantStatus::Failed, now);
        let why = LeftReason::NotReached;
        self.emit(now, ConferenceEventKind::Left { participant, why, call: leg.status });
        self.close_if_empty(now);
    }

    /// Ends the conference by request. If `clears` is true, the participants are hung up. Returns the legs that are
    /// still being called. The calling code must cancel the calls to these legs.
    pub fn end(&mut self, now: Timestamp, clears: bool) -> Vec<LegId> {
        self.end_because(now, EndCause::Request, clears)
    }

    /// Ends the conference because its maximum duration was reached. Returns the legs that are still being called. The
    /// calling code must cancel the calls to these legs.
    pub fn time_up(&mut self, now: Timestamp) -> Vec<LegId> {
        self.end_because(now, EndCause::TimeUp, true)
    }

    fn end_because(&mut self, now: Timestamp, cause: EndCause, clears: bool) -> Vec<LegId> {
        if self.closing {
            return Vec::new();
        }
        self.clears = clears;
        self.ending = Some(ConferenceEnd { cause, by: None, label: None });
        let expected = self.members.iter().filter(|one| one.state == MemberState::Expected);
        let given_up = expected.map(|one| one.info.leg).collect();
        self.close(now);
        given_up
    }

    /// Reports the end of an announcement as an event.
    pub fn announced(&mut self, now: Timestamp, url: &Arc<str>, to: Option<LegId>, failure: Option<String>) {
        let participant = to.and_then(|leg| self.participant(leg)).cloned();
        // If the participant has left meanwhile, the end of the announcement is not reported.
        if to.is_none() || participant.is_some() {
            let url = Arc::clone(url);
            self.emit(now, ConferenceEventKind::Announced { url, to: participant, failure });
        }
    }

    /// Starts a recording. Returns `None` if the conference has ended, or already has its maximum number of recordings.
    pub fn record(&mut self, now: Timestamp, id: RecordingId, spec: RecordingSpec) -> Option<Recording> {
        if self.closing || self.recordings.len() >= MAX_RECORDINGS {
            return None;
        }
        let recording = Recording {
            id,
            leg: self.first.as_ref().map_or(LegId(self.info.id.0), |first| first.id),
            conference: Some(self.info.id),
            spec: spec.clone(),
            started_at: now,
            ended_at: None,
            duration: None,
            limit: None,
            status: RecordingStatus::InProgress,
        };
        self.recordings.push(RoomRecording { facts: recording.clone(), pause: None, stopping: false });
        self.outputs.push_back(Output::Record { id, spec });
        self.emit(now, ConferenceEventKind::Recording(recording.clone()));
        Some(recording)
    }

    /// Pauses a recording. If `pause_behavior` is `None`, resumes the recording instead.
    pub fn pause_recording(
        &mut self,
        now: Timestamp,
        id: RecordingId,
        pause_behavior: Option<PauseBehavior>,
    ) -> Result<Recording, Refused> {
        let running = self.recordings.iter_mut().find(|one| one.facts.id == id).ok_or(Refused::Unknown)?;
        let status = if pause_behavior.is_some() { RecordingStatus::Paused } else { RecordingStatus::InProgress };
        let before = std::mem::replace(&mut running.facts.status, status);
        let recording = running.facts.clone();
        if before != recording.status {
            running.pause = pause_behavior;
            self.outputs.push_back(match pause_behavior {
                Some(pause_behavior) => Output::PauseRecording { id, pause_behavior },
                None => Output::ResumeRecording(id),
            });
            self.emit(now, ConferenceEventKind::Recording(recording.clone()));
        }
        Ok(recording)
    }

    /// Stops a recording.
    pub fn stop_recording(&mut self, id: RecordingId) -> Result<Recording, Refused> {
        let running = self.recordings.iter_mut().find(|one| one.facts.id == id).ok_or(Refused::Unknown)?;
        running.stopping = true;
        self.outputs.push_back(Output::StopRecording(id));
        Ok(running.facts.clone())
    }

    // ----- inputs from the engine's room --------------------------------------------------------------------------

    /// Handles the room's report that a member joined.
    pub fn handle_joined(&mut self, now: Timestamp, leg: LegId) {
        let enters = |one: &&mut Member| {
            one.info.leg == leg
                && matches!(one.state, MemberState::Entering | MemberState::Leaving { was_inside: false, .. })
        };
        let Some(member) = self.members.iter_mut().find(enters) else { return };
        match &mut member.state {
            MemberState::Leaving { was_inside, .. } => *was_inside = true,
            state => *state = MemberState::Inside,
        }
        (member.info.status, member.info.updated_at) = (ParticipantStatus::Connected, now);
        let (info, own) = (member.info.clone(), member.leg.clone());
        if self.info.status == ConferenceStatus::Waiting {
            self.update(now).status = ConferenceStatus::Gathering;
        }
        if self.first.is_none() {
            self.update(now).application = own.as_ref().and_then(|own| own.application.clone());
            self.first = own;
            self.emit(now, ConferenceEventKind::Entered);
        }
        self.emit(now, ConferenceEventKind::Joined(info));
        self.settle();
    }

    /// Handles the room's report that a member left.
    pub fn handle_left(&mut self, now: Timestamp, leg: LegId) {
        let Some(index) = self.members.iter().position(|one| one.info.leg == leg && one.is_inside()) else { return };
        let member = self.members.remove(index);
        let mut participant = member.info;
        (participant.status, participant.updated_at) = (ParticipantStatus::Left, now);
        if member.wait_audio.is_some() {
            self.outputs.push_back(Output::SetWaitAudio { leg, audio: None });
        }
        let (why, removed, call) = match member.state {
            MemberState::Leaving { why, removed, call, .. } => (why, removed, call),
            // The room has removed the member, because the room will end soon.
            _ => {
                self.outputs.push_back(Output::ParticipantRemoved { leg, clears: self.clears });
                let requested =
                    self.ending.as_ref().is_some_and(|end| matches!(end.cause, EndCause::Request | EndCause::TimeUp));
                (if requested { LeftReason::ConferenceEnded } else { LeftReason::HostLeft }, false, Status::InProgress)
            }
        };
        let end = |cause| ConferenceEnd { cause, by: Some(leg), label: participant.participation.label.clone() };
        self.last = Some(end(if removed { EndCause::LastRemoved } else { EndCause::LastLeft }));
        if participant.participation.ends && self.ending.is_none() {
            self.ending = Some(end(if removed { EndCause::HostRemoved } else { EndCause::HostLeft }));
            self.closing = true;
            self.clears = participant.participation.clears;
        }
        self.emit_for(now, member.leg, ConferenceEventKind::Left { participant, why, call });
    }

    /// Handles the room's report that the conference started. If the settings ask for a recording, a recording with the
    /// id `recording` starts.
    pub fn handle_started(&mut self, now: Timestamp, recording: RecordingId) {
        self.update(now).status = ConferenceStatus::InProgress;
        self.emit(now, ConferenceEventKind::Started);
        self.settle();
        if let Some(spec) = self.info.opening.record.clone() {
            self.record(now, recording, spec);
        }
    }

    /// Handles the room's report that a participant started or stopped speaking.
    pub fn handle_speaks(&mut self, now: Timestamp, leg: LegId, speaks: bool) {
        if let Some(participant) = self.participant(leg).cloned() {
            self.emit(now, ConferenceEventKind::Speaks { participant, speaks });
        }
    }

    /// Handles the room's report that a participant is now clearly louder than the other participants.
    pub fn handle_active_speaker(&mut self, now: Timestamp, leg: LegId) {
        if let Some(participant) = self.participant(leg).cloned() {
            self.emit(now, ConferenceEventKind::ActiveSpeaker(participant));
        }
    }

    /// Handles the room's report that audio started or ended. The audio is for all participants or for one participant.
    pub fn handle_played(&mut self, now: Timestamp, audio: &RoomAudio) {
        // If the participant has left meanwhile, the event about its leaving is enough.
        if audio.to.is_none_or(|leg| self.participant(leg).is_some()) {
            self.emit(now, ConferenceEventKind::Played(audio.clone()));
        }
    }

    /// Handles the room's report that the file of a recording is complete.
    pub fn handle_recorded(&mut self, now: Timestamp, id: RecordingId, end: RecordingEnd, duration: Duration) {
        let Some(index) = self.recordings.iter().position(|one| one.facts.id == id) else { return };
        let mut recording = self.recordings.remove(index).facts;
        recording.ended_at = Some(now);
        recording.duration = Some(duration);
        recording.limit = end.limit();
        recording.status = match end {
            RecordingEnd::Failed(why) => RecordingStatus::Failed(why),
            _ if duration.is_zero() => RecordingStatus::Absent,
            _ => RecordingStatus::Completed,
        };
        self.emit(now, ConferenceEventKind::Recording(recording));
    }

    /// Handles the room's report that the room ended. At this time all members have left, and all recordings are
    /// complete.
    pub fn handle_over(&mut self, now: Timestamp) {
        if self.info.status == ConferenceStatus::Completed {
            return;
        }
        self.closing = true;
        for member in std::mem::take(&mut self.members) {
            let leg = member.info.leg;
            if member.is_seated() {
                self.outputs.push_back(Output::ParticipantRemoved { leg, clears: self.clears });
            }
            if member.wait_audio.is_some() {
                self.outputs.push_back(Output::SetWaitAudio { leg, audio: None });
            }
        }
        for recording in std::mem::take(&mut self.recordings) {
            let status = RecordingStatus::Failed("the conference was given up".to_owned());
            let recording = Recording { ended_at: Some(now), status, ..recording.facts };
            self.emit(now, ConferenceEventKind::Recording(recording));
        }
        let failed = ConferenceEnd { cause: EndCause::Failed, by: None, label: None };
        let end = self.ending.take().or(self.last.take()).unwrap_or(failed);
        let info = self.update(now);
        info.status = ConferenceStatus::Completed;
        info.end = Some(end);
        self.emit(now, ConferenceEventKind::Ended);
    }

    // ----- internals ----------------------------------------------------------------------------------------------

    fn add(
        &mut self,
        now: Timestamp,
        leg: LegId,
        info: Option<Arc<LegInfo>>,
        participation: Participation,
        state: MemberState,
    ) -> ParticipantInfo {
        let participant = ParticipantInfo {
            leg,
            participation: Participation { opening: None, ..participation },
            status: ParticipantStatus::Expected,
            created_at: now,
            updated_at: now,
        };
        self.members.push(Member { info: participant.clone(), leg: info, state, wait_audio: None });
        participant
    }

    fn update(&mut self, now: Timestamp) -> &mut ConferenceInfo {
        let info = Arc::make_mut(&mut self.info);
        info.updated_at = now;
        info
    }

    fn emit(&mut self, at: Timestamp, kind: ConferenceEventKind) {
        let who = kind.leg().and_then(|leg| self.leg(Some(leg)).cloned());
        self.emit_for(at, who, kind);
    }

    /// Emits an event. `who` is the leg that the event is about. If `who` is `None`, the event contains the first
    /// participant's leg.
    fn emit_for(&mut self, at: Timestamp, who: Option<Arc<LegInfo>>, kind: ConferenceEventKind) {
        let leg = who.or_else(|| self.first.clone());
        let event = ConferenceEvent { at, conference: Arc::clone(&self.info), leg, first: self.first.clone(), kind };
        self.outputs.push_back(Output::Event(Box::new(event)));
    }

    /// Updates the hold audio or wait audio of every member.
    fn settle(&mut self) {
        let waiting = matches!(self.info.status, ConferenceStatus::Waiting | ConferenceStatus::Gathering);
        for member in &mut self.members {
            let audio = wait_audio_of(member, waiting).cloned();
            if member.wait_audio != audio {
                member.wait_audio.clone_from(&audio);
                self.outputs.push_back(Output::SetWaitAudio { leg: member.info.leg, audio });
            }
        }
    }

    /// Closes the conference if it has no participants and no reservations.
    fn close_if_empty(&mut self, now: Timestamp) {
        let is_occupied = self.members.iter().any(|one| one.is_seated() || one.state == MemberState::Expected);
        if !is_occupied && self.reserved == 0 {
            self.close(now);
        }
    }

    fn close(&mut self, now: Timestamp) {
        if !std::mem::replace(&mut self.closing, true) {
            self.update(now);
            self.outputs.push_back(Output::Close);
        }
    }
}

fn wait_audio_of(member: &Member, waiting: bool) -> Option<&Wait> {
    let Participation { hold, wait, .. } = &member.info.participation;
    let wait_audio = match (member.state, hold) {
        (MemberState::Inside, Some(held)) => held,
        (MemberState::Inside, None) if waiting => wait,
        _ => return None,
    };
    match wait_audio {
        Wait::Document(_) | Wait::File(_) | Wait::Stored(_) => Some(wait_audio),
        Wait::Music | Wait::Silence => None,
    }
}

#[cfg(test)]
mod tests;
