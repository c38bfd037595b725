//! One conference: who is there, since when and how, and what that comes to. It is told what legs do and what the engine's room
//! tells, and says in one order what is to be done and what applications are to know.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::conference::event::{
    ConferenceEnd, ConferenceEvent, ConferenceEventKind, ConferenceInfo, ConferenceStatus, EndCause, ParticipantInfo,
    ParticipantStatus, RoomAudio, WhyLeft,
};
use crate::conference::{Leaving, Opening, Participation};
use crate::id::{ConferenceId, LegId, RecordingId};
use crate::leg::{EndedBy, LegInfo, Status};
use crate::program::instruction::Wait;
use crate::recording::{Gap, Recording, RecordingEnd, RecordingSpec, RecordingStatus};

/// Recordings of one conference at a time.
pub const MOST_RECORDINGS: usize = 8;

/// See the module. After each input, poll outputs until there are none.
#[derive(Debug)]
pub struct Conference {
    info: Arc<ConferenceInfo>,
    most: usize,
    /// In the order they came; those of whom the room has more to tell included.
    members: Vec<Member>,
    recordings: Vec<Recording>,
    /// Why it ends, as far as that is known before the room says so.
    ending: Option<ConferenceEnd>,
    /// The last who left.
    last: Option<ConferenceEnd>,
    /// The leg that was the first in it, as it came.
    first: Option<Arc<LegInfo>>,
    /// Its end hangs up whoever is still there.
    clears: bool,
    /// Those who hold it open although nobody is there.
    reserved: u32,
    closing: bool,
    outputs: VecDeque<Output>,
}

/// Something to do, or to tell.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Tell this.
    Tell(Box<ConferenceEvent>),
    /// Have the room record itself.
    Record {
        /// The file.
        id: RecordingId,
        /// How.
        spec: RecordingSpec,
    },
    /// Hold a recording.
    PauseRecording {
        /// Which.
        id: RecordingId,
        /// What becomes of the time until it goes on.
        gap: Gap,
    },
    /// Go on with it.
    ResumeRecording(RecordingId),
    /// End it.
    StopRecording(RecordingId),
    /// Let somebody hear this over and over, instead of what it heard so far.
    Hear {
        /// Who.
        leg: LegId,
        /// A document or a file; `None`: none any more.
        what: Option<Wait>,
    },
    /// The room has put it out: its call must be told.
    PutOut {
        /// Who.
        leg: LegId,
        /// It is to be hung up.
        clears: bool,
    },
    /// End the room: nobody is there any more, or a request said so.
    Close,
}

/// Why somebody or something cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The conference is over.
    Over,
    /// As many are there as it takes.
    Full,
    /// Another participant has this label.
    LabelInUse,
    /// No such participant or recording.
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

#[derive(Debug)]
struct Member {
    info: ParticipantInfo,
    leg: Option<Arc<LegInfo>>,
    place: Place,
    hears: Option<Wait>,
}

/// Where somebody is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Being called.
    Expected,
    /// On the way into the room.
    Entering,
    /// In the room.
    Inside,
    /// On the way out of the room.
    Leaving { why: WhyLeft, removed: bool, call: Status, was_inside: bool },
}

impl Member {
    /// Whether it is to be there, as far as its call is concerned.
    fn is_seated(&self) -> bool {
        matches!(self.place, Place::Entering | Place::Inside)
    }

    fn is_inside(&self) -> bool {
        matches!(self.place, Place::Inside | Place::Leaving { was_inside: true, .. })
    }
}

/// A conference by its name, and what it is to be like should it not be there yet.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Whose it is.
    pub account: &'a Arc<str>,
    /// Whose words tell of it.
    pub dialect: &'a Arc<str>,
    /// Its name, the account's own.
    pub name: &'a Arc<str>,
    /// How many it takes.
    pub most: u16,
    /// How it is opened.
    pub opening: Option<Arc<Opening>>,
}

impl Conference {
    /// One that nobody is in yet.
    pub fn open(id: ConferenceId, wanted: Wanted<'_>, now: Timestamp) -> Self {
        let info = Arc::new(ConferenceInfo {
            id,
            account: Arc::clone(wanted.account),
            dialect: Arc::clone(wanted.dialect),
            name: Arc::clone(wanted.name),
            status: ConferenceStatus::Waiting,
            opening: wanted.opening.unwrap_or_default(),
            created_at: now,
            updated_at: now,
            end: None,
            application: None,
        });
        let mut this = Self {
            info,
            most: wanted.most.into(),
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
        this.tell(now, ConferenceEventKind::Opened);
        this
    }

    /// The facts about it.
    pub fn info(&self) -> &Arc<ConferenceInfo> {
        &self.info
    }

    /// Who is there or is being called, in the order they came.
    pub fn participants(&self) -> impl DoubleEndedIterator<Item = &ParticipantInfo> {
        self.members.iter().filter(|one| !matches!(one.place, Place::Leaving { .. })).map(|one| &one.info)
    }

    /// One of them.
    pub fn participant(&self, leg: LegId) -> Option<&ParticipantInfo> {
        self.participants().find(|one| one.leg == leg)
    }

    /// On whose behalf documents are asked for: this participant's, else the first one's.
    pub fn leg(&self, leg: Option<LegId>) -> Option<&Arc<LegInfo>> {
        let mut members = self.members.iter().filter(|one| leg.is_none_or(|leg| one.info.leg == leg));
        members.find_map(|one| one.leg.as_ref())
    }

    /// Its recordings that are not on disk yet.
    pub fn recordings(&self) -> &[Recording] {
        &self.recordings
    }

    /// Whether nobody can come any more.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// The next thing to do or tell.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    // ----- what legs and requests do ------------------------------------------------------------------------------

    /// Keeps it open until [`Conference::release`], although nobody is there.
    pub fn reserve(&mut self) {
        self.reserved += 1;
    }

    /// No longer.
    pub fn release(&mut self, now: Timestamp) {
        self.reserved = self.reserved.saturating_sub(1);
        self.close_if_empty(now);
    }

    /// Whether somebody would be taken.
    pub fn admits(&self, participation: &Participation) -> Result<(), Refused> {
        if self.closing {
            return Err(Refused::Over);
        }
        if self.participants().count() >= self.most {
            return Err(Refused::Full);
        }
        let taken = |label: &Arc<str>| self.participants().any(|one| one.participation.label.as_ref() == Some(label));
        match &participation.label {
            Some(label) if taken(label) => Err(Refused::LabelInUse),
            _ => Ok(()),
        }
    }

    /// Somebody is being called for it. `Ok(false)`: it is there already.
    pub fn expect(&mut self, now: Timestamp, leg: LegId, participation: Participation) -> Result<bool, Refused> {
        if self.participant(leg).is_some() {
            return Ok(false);
        }
        self.admits(&participation)?;
        let info = self.add(now, leg, None, participation, Place::Expected);
        self.tell(now, ConferenceEventKind::Expected(info));
        Ok(true)
    }

    /// A leg is on its way into the room.
    pub fn enter(
        &mut self,
        now: Timestamp,
        leg: &Arc<LegInfo>,
        mut participation: Participation,
    ) -> Result<(), Refused> {
        let expected = self.members.iter_mut().find(|one| one.info.leg == leg.id && one.place == Place::Expected);
        if let Some(member) = expected {
            participation.opening = None;
            member.info.participation = participation;
            (member.leg, member.place) = (Some(Arc::clone(leg)), Place::Entering);
            return Ok(());
        }
        self.admits(&participation)?;
        self.add(now, leg.id, Some(Arc::clone(leg)), participation, Place::Entering);
        Ok(())
    }

    /// A leg that is there takes part otherwise.
    pub fn change(&mut self, now: Timestamp, leg: LegId, participation: &Participation) {
        let Some(member) = self.members.iter_mut().find(|one| one.info.leg == leg && one.is_seated()) else { return };
        let mut after = participation.clone();
        (after.opening, after.label) = (None, member.info.participation.label.clone());
        let before = std::mem::replace(&mut member.info.participation, after.clone());
        if before == after {
            return;
        }
        member.info.updated_at = now;
        let (inside, info) = (member.place == Place::Inside, member.info.clone());
        // Who is yet to come comes as it is then.
        if inside {
            if before.muted != after.muted {
                self.tell(now, ConferenceEventKind::Muted(info.clone()));
            }
            if before.hold.is_some() != after.hold.is_some() {
                self.tell(now, ConferenceEventKind::Held(info.clone()));
            }
            let same = Participation { muted: after.muted, hold: after.hold.clone(), ..before };
            if same != after {
                self.tell(now, ConferenceEventKind::Modified(info));
            }
        }
        self.settle();
    }

    /// A leg goes; `leg` is how it is then.
    pub fn leave(&mut self, now: Timestamp, leg: &Arc<LegInfo>, why: Leaving) {
        let ending = self.ending.as_ref().map(|end| end.cause);
        let Some(place) = self.members.iter().position(|one| one.info.leg == leg.id && one.is_seated()) else { return };
        let Some(member) = self.members.get_mut(place) else { return };
        member.leg = Some(Arc::clone(leg));
        let by_request = leg.end.as_ref().is_some_and(|end| end.by == EndedBy::Application);
        let told = match why {
            Leaving::Over if matches!(ending, Some(EndCause::Request | EndCause::TimeUp)) => WhyLeft::ConferenceEnded,
            Leaving::Over => WhyLeft::HostLeft,
            Leaving::Removed | Leaving::Elsewhere => WhyLeft::Request,
            Leaving::Ended if by_request => WhyLeft::Request,
            Leaving::Ended | Leaving::Itself => WhyLeft::Itself,
        };
        let (removed, call, was_inside) = (why == Leaving::Removed, leg.status, member.place == Place::Inside);
        member.place = Place::Leaving { why: told, removed, call, was_inside };
        self.settle();
        if !was_inside && why == Leaving::Over {
            // The room would not have it: it will tell nothing of it.
            self.members.remove(place);
        }
        self.close_if_empty(now);
    }

    /// A leg that was called for it is over, and never came.
    pub fn fail(&mut self, now: Timestamp, leg: &LegInfo) {
        let expected = |one: &Member| one.info.leg == leg.id && one.place == Place::Expected;
        let Some(place) = self.members.iter().position(expected) else { return };
        let mut participant = self.members.remove(place).info;
        (participant.status, participant.updated_at) = (ParticipantStatus::Failed, now);
        let why = WhyLeft::NotReached;
        self.tell(now, ConferenceEventKind::Left { participant, why, call: leg.status });
        self.close_if_empty(now);
    }

    /// Ends it by request; `clears` hangs up who is there. Whose calls are to be given up: those of whoever is still being called.
    pub fn end(&mut self, now: Timestamp, clears: bool) -> Vec<LegId> {
        self.end_because(now, EndCause::Request, clears)
    }

    /// It has lasted as long as it was to.
    pub fn time_up(&mut self, now: Timestamp) -> Vec<LegId> {
        self.end_because(now, EndCause::TimeUp, true)
    }

    fn end_because(&mut self, now: Timestamp, cause: EndCause, clears: bool) -> Vec<LegId> {
        if self.closing {
            return Vec::new();
        }
        self.clears = clears;
        self.ending = Some(ConferenceEnd { cause, by: None, label: None });
        let expected = self.members.iter().filter(|one| one.place == Place::Expected);
        let given_up = expected.map(|one| one.info.leg).collect();
        self.close(now);
        given_up
    }

    /// An announcement is over.
    pub fn announced(&mut self, now: Timestamp, url: &Arc<str>, to: Option<LegId>, failure: Option<String>) {
        let participant = to.and_then(|leg| self.participant(leg)).cloned();
        // One for somebody who has left meanwhile concerns nobody.
        if to.is_none() || participant.is_some() {
            let url = Arc::clone(url);
            self.tell(now, ConferenceEventKind::Announced { url, to: participant, failure });
        }
    }

    /// Starts a recording. `None`: it is over, or as many run as may.
    pub fn record(&mut self, now: Timestamp, id: RecordingId, spec: RecordingSpec) -> Option<Recording> {
        if self.closing || self.recordings.len() >= MOST_RECORDINGS {
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
            status: RecordingStatus::InProgress,
        };
        self.recordings.push(recording.clone());
        self.outputs.push_back(Output::Record { id, spec });
        self.tell(now, ConferenceEventKind::Recording(recording.clone()));
        Some(recording)
    }

    /// Holds a recording, or goes on with it.
    pub fn pause_recording(&mut self, now: Timestamp, id: RecordingId, gap: Option<Gap>) -> Result<Recording, Refused> {
        let recording = self.recordings.iter_mut().find(|one| one.id == id).ok_or(Refused::Unknown)?;
        let status = if gap.is_some() { RecordingStatus::Paused } else { RecordingStatus::InProgress };
        let before = std::mem::replace(&mut recording.status, status);
        let recording = recording.clone();
        if before != recording.status {
            self.outputs.push_back(match gap {
                Some(gap) => Output::PauseRecording { id, gap },
                None => Output::ResumeRecording(id),
            });
            self.tell(now, ConferenceEventKind::Recording(recording.clone()));
        }
        Ok(recording)
    }

    /// Ends a recording.
    pub fn stop_recording(&mut self, id: RecordingId) -> Result<Recording, Refused> {
        let recording = self.recordings.iter().find(|one| one.id == id).ok_or(Refused::Unknown)?.clone();
        self.outputs.push_back(Output::StopRecording(id));
        Ok(recording)
    }

    // ----- what the room tells ------------------------------------------------------------------------------------

    /// Somebody takes part.
    pub fn handle_joined(&mut self, now: Timestamp, leg: LegId) {
        let enters = |one: &&mut Member| {
            one.info.leg == leg && matches!(one.place, Place::Entering | Place::Leaving { was_inside: false, .. })
        };
        let Some(member) = self.members.iter_mut().find(enters) else { return };
        match &mut member.place {
            Place::Leaving { was_inside, .. } => *was_inside = true,
            place => *place = Place::Inside,
        }
        (member.info.status, member.info.updated_at) = (ParticipantStatus::Connected, now);
        let (info, own) = (member.info.clone(), member.leg.clone());
        if self.info.status == ConferenceStatus::Waiting {
            self.update(now).status = ConferenceStatus::Gathering;
        }
        if self.first.is_none() {
            self.update(now).application = own.as_ref().and_then(|own| own.application.clone());
            self.first = own;
            self.tell(now, ConferenceEventKind::Entered);
        }
        self.tell(now, ConferenceEventKind::Joined(info));
        self.settle();
    }

    /// Somebody takes part no more.
    pub fn handle_left(&mut self, now: Timestamp, leg: LegId) {
        let Some(place) = self.members.iter().position(|one| one.info.leg == leg && one.is_inside()) else { return };
        let member = self.members.remove(place);
        let mut participant = member.info;
        (participant.status, participant.updated_at) = (ParticipantStatus::Left, now);
        if member.hears.is_some() {
            self.outputs.push_back(Output::Hear { leg, what: None });
        }
        let (why, removed, call) = match member.place {
            Place::Leaving { why, removed, call, .. } => (why, removed, call),
            // The room has put it out: it is about to end.
            _ => {
                self.outputs.push_back(Output::PutOut { leg, clears: self.clears });
                let requested =
                    self.ending.as_ref().is_some_and(|end| matches!(end.cause, EndCause::Request | EndCause::TimeUp));
                (if requested { WhyLeft::ConferenceEnded } else { WhyLeft::HostLeft }, false, Status::InProgress)
            }
        };
        let end = |cause| ConferenceEnd { cause, by: Some(leg), label: participant.participation.label.clone() };
        self.last = Some(end(if removed { EndCause::LastRemoved } else { EndCause::LastLeft }));
        if participant.participation.ends && self.ending.is_none() {
            self.ending = Some(end(if removed { EndCause::HostRemoved } else { EndCause::HostLeft }));
            self.closing = true;
            self.clears = participant.participation.clears;
        }
        self.tell_of(now, member.leg, ConferenceEventKind::Left { participant, why, call });
    }

    /// They hear each other. `recording`: the name of the one that begins with it, if one does.
    pub fn handle_started(&mut self, now: Timestamp, recording: RecordingId) {
        self.update(now).status = ConferenceStatus::InProgress;
        self.tell(now, ConferenceEventKind::Started);
        self.settle();
        if let Some(spec) = self.info.opening.record.clone() {
            self.record(now, recording, spec);
        }
    }

    /// Somebody began to speak, or stopped.
    pub fn handle_speaks(&mut self, now: Timestamp, leg: LegId, speaks: bool) {
        if let Some(participant) = self.participant(leg).cloned() {
            self.tell(now, ConferenceEventKind::Speaks { participant, speaks });
        }
    }

    /// Somebody is clearly the loudest.
    pub fn handle_leads(&mut self, now: Timestamp, leg: LegId) {
        if let Some(participant) = self.participant(leg).cloned() {
            self.tell(now, ConferenceEventKind::Leads(participant));
        }
    }

    /// Audio to all, or to one of them, begins or is over.
    pub fn handle_played(&mut self, now: Timestamp, audio: &RoomAudio) {
        // Who has gone meanwhile is told of by its leaving.
        if audio.to.is_none_or(|leg| self.participant(leg).is_some()) {
            self.tell(now, ConferenceEventKind::Played(audio.clone()));
        }
    }

    /// A recording is on disk.
    pub fn handle_recorded(&mut self, now: Timestamp, id: RecordingId, end: RecordingEnd, duration: Duration) {
        let Some(place) = self.recordings.iter().position(|one| one.id == id) else { return };
        let mut recording = self.recordings.remove(place);
        recording.ended_at = Some(now);
        recording.duration = Some(duration);
        recording.status = match end {
            RecordingEnd::Failed(why) => RecordingStatus::Failed(why),
            _ if duration.is_zero() => RecordingStatus::Absent,
            _ => RecordingStatus::Completed,
        };
        self.tell(now, ConferenceEventKind::Recording(recording));
    }

    /// The room is no more: all have left, its recordings are whole.
    pub fn handle_over(&mut self, now: Timestamp) {
        if self.info.status == ConferenceStatus::Completed {
            return;
        }
        self.closing = true;
        for member in std::mem::take(&mut self.members) {
            let leg = member.info.leg;
            if member.is_seated() {
                self.outputs.push_back(Output::PutOut { leg, clears: self.clears });
            }
            if member.hears.is_some() {
                self.outputs.push_back(Output::Hear { leg, what: None });
            }
        }
        for recording in std::mem::take(&mut self.recordings) {
            let status = RecordingStatus::Failed("the conference was given up".to_owned());
            let recording = Recording { ended_at: Some(now), status, ..recording };
            self.tell(now, ConferenceEventKind::Recording(recording));
        }
        let failed = ConferenceEnd { cause: EndCause::Failed, by: None, label: None };
        let end = self.ending.take().or(self.last.take()).unwrap_or(failed);
        let info = self.update(now);
        info.status = ConferenceStatus::Completed;
        info.end = Some(end);
        self.tell(now, ConferenceEventKind::Ended);
    }

    // ----- what these are made of ---------------------------------------------------------------------------------

    fn add(
        &mut self,
        now: Timestamp,
        leg: LegId,
        info: Option<Arc<LegInfo>>,
        participation: Participation,
        place: Place,
    ) -> ParticipantInfo {
        let participant = ParticipantInfo {
            leg,
            participation: Participation { opening: None, ..participation },
            status: ParticipantStatus::Expected,
            created_at: now,
            updated_at: now,
        };
        self.members.push(Member { info: participant.clone(), leg: info, place, hears: None });
        participant
    }

    fn update(&mut self, now: Timestamp) -> &mut ConferenceInfo {
        let info = Arc::make_mut(&mut self.info);
        info.updated_at = now;
        info
    }

    fn tell(&mut self, at: Timestamp, kind: ConferenceEventKind) {
        let who = kind.leg().and_then(|leg| self.leg(Some(leg)).cloned());
        self.tell_of(at, who, kind);
    }

    /// `who`: whom it is about; the first who came if nobody is.
    fn tell_of(&mut self, at: Timestamp, who: Option<Arc<LegInfo>>, kind: ConferenceEventKind) {
        let leg = who.or_else(|| self.first.clone());
        let event = ConferenceEvent { at, conference: Arc::clone(&self.info), leg, first: self.first.clone(), kind };
        self.outputs.push_back(Output::Tell(Box::new(event)));
    }

    /// Has everybody hear what is for them now, if anything is.
    fn settle(&mut self) {
        let waiting = matches!(self.info.status, ConferenceStatus::Waiting | ConferenceStatus::Gathering);
        for member in &mut self.members {
            let what = heard_by(member, waiting).cloned();
            if member.hears != what {
                member.hears.clone_from(&what);
                self.outputs.push_back(Output::Hear { leg: member.info.leg, what });
            }
        }
    }

    /// The last one turns off the lights.
    fn close_if_empty(&mut self, now: Timestamp) {
        let somebody = self.members.iter().any(|one| one.is_seated() || one.place == Place::Expected);
        if !somebody && self.reserved == 0 {
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

fn heard_by(member: &Member, waiting: bool) -> Option<&Wait> {
    let Participation { hold, wait, .. } = &member.info.participation;
    let hears = match (member.place, hold) {
        (Place::Inside, Some(held)) => held,
        (Place::Inside, None) if waiting => wait,
        _ => return None,
    };
    match hears {
        Wait::Document(_) | Wait::File(_) | Wait::Stored(_) => Some(hears),
        Wait::Music | Wait::Silence => None,
    }
}

#[cfg(test)]
mod tests;
