//! Recordings. The record instruction waits for its recording. Other recordings run while the leg's program continues.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::{Abort, Call};
use crate::event::{DialResult, EventKind};
use crate::fetch::FetchReason;
use crate::leg_cx::{Effects, LegCx};
use crate::leg_state::MAX_RECORDINGS;
use crate::output::LegCommand;
use crate::program::instruction::{AudioSource, Play, Record, Tone};
use crate::program::{Input, Running, Step};
use crate::recording::{
    ActiveRecording, CutInstruction, NewRecording, PauseBehavior, Recording, RecordingEnd, RecordingSpec,
    RecordingStatus,
};
use crate::resume::Standing;
use crate::transcription::{TranscriptionOrder, WaitingTranscript};
use tandem_id::{FetchId, LegId, OpId, RecordingId};

/// A running record instruction.
#[derive(Serialize, Deserialize)]
pub(crate) struct RecordVerb {
    record: Record,
    phase: Phase,
}

#[derive(Serialize, Deserialize)]
enum Phase {
    Beeping(OpId),
    Recording { op: OpId, key: Option<char> },
}

impl RecordVerb {
    pub(crate) fn begin(cx: &mut LegCx<'_>, record: Record) -> Step {
        if record.beep {
            let op = play_beep(cx);
            return Step::Stay(Running::Record(Self { record, phase: Phase::Beeping(op) }));
        }
        Self::start(cx, record)
    }

    fn start(cx: &mut LegCx<'_>, record: Record) -> Step {
        let new = cx.call.new_recording(record.spec.clone());
        match cx.begin_recording(new) {
            Some(op) => {
                if let Some(active) = cx.active_recording(op) {
                    active.transcribe = record.transcribe.clone();
                }
                Step::Stay(Running::Record(Self { record, phase: Phase::Recording { op, key: None } }))
            }
            None => Step::Next,
        }
    }

    pub(crate) fn handle(mut self, cx: &mut LegCx<'_>, input: Input) -> Step {
        match (&mut self.phase, input) {
            (Phase::Beeping(beep), Input::Played { op, .. }) if *beep == op => Self::start(cx, self.record),
            (Phase::Recording { op, key: key @ None }, Input::Dtmf(digit)) if self.record.finish_on.contains(digit) => {
                *key = Some(digit);
                cx.end_recording(*op);
                Step::Stay(Running::Record(self))
            }
            (Phase::Recording { op, key }, Input::Recorded { op: done, recording, recorded }) if *op == done => {
                let key = *key;
                match self.record.action {
                    Some(action) => {
                        let recording = *recording;
                        Step::Fetch(action, FetchReason::Recorded { recording, recorded, key, hangup: false })
                    }
                    None => Step::Next,
                }
            }
            _ => Step::Stay(Running::Record(self)),
        }
    }

    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        if let Phase::Beeping(op) = self.phase {
            standing.command(LegCommand::Play { op, play: beep(), elapsed: Some(Duration::ZERO) });
        }
    }

    /// Ends the instruction. If the caller hung up, the recorded message is still valid. In this case the action is
    /// requested when the file is complete, and the response is ignored.
    pub(crate) fn abort(self, cx: &mut LegCx<'_>, why: Abort) {
        match self.phase {
            Phase::Beeping(op) => {
                cx.command(LegCommand::Stop { op });
                if why == Abort::Hangup {
                    cx.recorded_nothing(self.record);
                }
            }
            Phase::Recording { op, .. } => {
                if why == Abort::Hangup
                    && let Some(active) = cx.active_recording(op)
                {
                    active.report = self.record.action.map(CutInstruction::Record);
                }
                cx.end_recording(op);
            }
        }
    }
}

/// Plays the tone before a recording.
fn play_beep(cx: &mut LegCx<'_>) -> OpId {
    let op = cx.new_op();
    cx.command(LegCommand::Play { op, play: beep(), elapsed: None });
    op
}

fn beep() -> Play {
    Play::once(AudioSource::Tone(Tone::Beep))
}

impl Effects {
    /// Combines the parameters of a recording with a new id.
    pub(crate) fn new_recording(&mut self, spec: RecordingSpec) -> NewRecording {
        NewRecording { id: RecordingId::new(self.now.time, &mut self.entropy.next_rng()), spec }
    }
}

impl LegCx<'_> {
    /// Starts a recording while the leg's program continues. Returns `None` if the leg already has its maximum number
    /// of recordings.
    pub(crate) fn start_recording(&mut self, spec: RecordingSpec) -> Option<RecordingId> {
        let room = self.leg.recordings.len() < MAX_RECORDINGS;
        let after = (spec.beep && room).then(|| play_beep(self));
        let new = self.call.new_recording(spec);
        let id = new.id;
        self.order_recording(new, after).map(|_| id)
    }

    /// Starts a recording without a tone. Returns `None` if the leg already has its maximum number of recordings.
    pub(crate) fn begin_recording(&mut self, new: NewRecording) -> Option<OpId> {
        self.order_recording(new, None)
    }

    /// Orders a recording that starts when the playback `after` has ended. The engine waits for this end. Returns
    /// `None` if the leg already has its maximum number of recordings.
    fn order_recording(&mut self, new: NewRecording, after: Option<OpId>) -> Option<OpId> {
        let (op, facts) = (self.new_op(), self.begun(new.clone()));
        let NewRecording { id, spec } = new;
        if self.leg.recordings.len() >= MAX_RECORDINGS {
            return None;
        }
        self.leg.recordings.push(ActiveRecording {
            op,
            facts: facts.clone(),
            stopping: false,
            pause: None,
            report: None,
            transcribe: spec.transcribe.then(TranscriptionOrder::default),
        });
        self.command(LegCommand::Record { op, id, spec, after });
        self.emit(EventKind::Recording(facts));
        Some(op)
    }

    fn begun(&self, NewRecording { id, spec }: NewRecording) -> Recording {
        let (started_at, status) = (self.now().time, RecordingStatus::InProgress);
        Recording {
            id,
            leg: self.leg.info.id,
            conference: None,
            spec,
            started_at,
            ended_at: None,
            duration: None,
            limit: None,
            status,
        }
    }

    /// Reports an empty recording, because the caller hung up before the recording could start.
    fn recorded_nothing(&mut self, record: Record) {
        let new = self.call.new_recording(record.spec);
        let begun = self.begun(new);
        let nothing = Duration::ZERO;
        let recording = Recording {
            ended_at: Some(begun.started_at),
            duration: Some(nothing),
            limit: None,
            status: RecordingStatus::Absent,
            ..begun
        };
        self.emit(EventKind::Recording(recording.clone()));
        if let Some(action) = record.action {
            let reason = FetchReason::Recorded { recording, recorded: nothing, key: None, hangup: true };
            self.request_fetch(action, reason);
        }
    }

    /// Orders the end of the recording with this operation. A second order for the same recording has no effect.
    pub(crate) fn end_recording(&mut self, op: OpId) {
        if let Some(active) = self.active_recording(op)
            && !std::mem::replace(&mut active.stopping, true)
        {
            self.command(LegCommand::StopRecording { op });
        }
    }

    pub(crate) fn active_recording(&mut self, op: OpId) -> Option<&mut ActiveRecording> {
        self.leg.recordings.iter_mut().find(|active| active.op == op)
    }

    /// Orders the end of every recording of a leg.
    pub(crate) fn stop_recordings(&mut self) {
        self.stop_recording(None);
    }

    /// Orders the end of one recording, or of all recordings if `which` is `None`. Returns `false` if there is no such
    /// recording.
    pub(crate) fn stop_recording(&mut self, which: Option<RecordingId>) -> bool {
        let state = &mut *self.leg;
        let mut ops = Vec::new();
        let mut any = false;
        for active in state.recordings.iter_mut().filter(|active| which.is_none_or(|id| active.facts.id == id)) {
            any = true;
            if !std::mem::replace(&mut active.stopping, true) {
                ops.push(active.op);
            }
        }
        for op in ops {
            self.command(LegCommand::StopRecording { op });
        }
        any
    }

    /// Pauses one recording, or all recordings if `which` is `None`. If `pause_behavior` is `None`, resumes the recordings
    /// instead. Returns `false` if no recording changed.
    pub(crate) fn pause_recording(
        &mut self,
        which: Option<RecordingId>,
        pause_behavior: Option<PauseBehavior>,
    ) -> bool {
        let (from, to) = match pause_behavior {
            Some(_) => (RecordingStatus::InProgress, RecordingStatus::Paused),
            None => (RecordingStatus::Paused, RecordingStatus::InProgress),
        };
        let state = &mut *self.leg;
        let mut changed = Vec::new();
        for active in state.recordings.iter_mut().filter(|active| which.is_none_or(|id| active.facts.id == id)) {
            if active.facts.status == from && !active.stopping {
                active.facts.status = to.clone();
                active.pause = pause_behavior;
                changed.push((active.op, active.facts.clone()));
            }
        }
        let any = !changed.is_empty();
        for (op, facts) in changed {
            self.command(match pause_behavior {
                Some(pause_behavior) => LegCommand::PauseRecording { op, pause_behavior },
                None => LegCommand::ResumeRecording { op },
            });
            self.emit(EventKind::Recording(facts));
        }
        any
    }

    /// Starts the transcription that waits for the response to the request `fetched`. With `None`, the wait ends in any
    /// case.
    pub(crate) fn begin_waiting_transcript(&mut self, fetched: Option<FetchId>) {
        let state = &mut *self.leg;
        let due = state.waiting_transcript.take_if(|waiting| fetched.is_none_or(|id| id == waiting.after));
        if let Some(waiting) = due {
            let WaitingTranscript { of, recording, order, .. } = *waiting;
            self.command(LegCommand::Transcribe { of, recording: Box::new(recording), order });
        }
    }
}

impl Call {
    pub(crate) fn recording_finished(
        &mut self,
        leg: LegId,
        op: OpId,
        end: RecordingEnd,
        duration: Duration,
        recorded: Duration,
    ) {
        let at = self.now().time;
        let Some(state) = self.leg_state_mut(leg) else { return };
        let Some(index) = state.recordings.iter().position(|active| active.op == op) else { return };
        let of = Arc::clone(&state.info);
        let ActiveRecording { mut facts, report, transcribe, .. } = state.recordings.remove(index);
        facts.ended_at = Some(at);
        facts.duration = Some(duration);
        facts.limit = end.limit();
        facts.status = match &end {
            RecordingEnd::Failed(why) => RecordingStatus::Failed(why.clone()),
            _ if duration.is_zero() => RecordingStatus::Absent,
            _ => RecordingStatus::Completed,
        };
        self.emit(leg, EventKind::Recording(facts.clone()));
        let transcribe = transcribe.filter(|_| facts.has_audio()).map(|order| (facts.clone(), order));
        let reported = report.and_then(|cut| match cut {
            CutInstruction::Record(action) => {
                let reason = FetchReason::Recorded { recording: facts.clone(), recorded, key: None, hangup: true };
                self.with_leg(leg, |cx| cx.request_fetch(action, reason))
            }
            CutInstruction::Dial(action, result) => {
                let result = DialResult { recording: Some(facts.clone()), ..*result };
                self.with_leg(leg, |cx| cx.request_fetch(action, FetchReason::Dialed(result)))
            }
        });
        // The transcription waits until the application has answered the request that tells it about the recording. If
        // the instruction makes no such request, the transcription starts at once.
        let nothing = FetchId(self.effects.new_op().0);
        if let Some((recording, order)) = transcribe {
            let waiting = WaitingTranscript { after: reported.unwrap_or(nothing), of, recording, order };
            self.with_leg(leg, |cx| {
                cx.begin_waiting_transcript(None);
                cx.leg.waiting_transcript = Some(Box::new(waiting));
            });
        }
        self.handle_input(leg, Input::Recorded { op, recording: Box::new(facts), recorded });
        if let Some(state) = self.leg_state_mut(leg) {
            let running = state.runner.running.as_ref();
            let action = running.and_then(Running::awaited_document).filter(|id| *id > nothing);
            if let (Some(action), Some(waiting)) = (action, state.waiting_transcript.as_mut())
                && waiting.after == nothing
            {
                waiting.after = action;
            }
        }
        self.with_leg(leg, |cx| cx.begin_waiting_transcript(Some(nothing)));
        self.release_if_idle(leg);
    }

    /// Reports a failure for every recording whose file was not closed in time.
    pub(crate) fn abandon_recordings(&mut self, leg: LegId) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        let ops: Vec<_> = state.recordings.iter().map(|active| active.op).collect();
        for op in ops {
            let (end, unknown) =
                (RecordingEnd::Failed("the recorder did not close the file".to_owned()), Duration::ZERO);
            self.recording_finished(leg, op, end, unknown, unknown);
        }
    }
}
