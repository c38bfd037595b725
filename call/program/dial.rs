//! The dial instruction. It calls other parties, bridges the leg with the party that answers first, and reports the
//! result.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Target;
use crate::address::Address;
use crate::call::{Abort, Call};
use crate::event::{DialResult, DialStatus, EventKind};
use crate::fetch::FetchReason;
use crate::header_fields::HeaderFields;
use crate::internal_call::InternalCall;
use crate::leg::{BRIDGE_ENDED, Direction, EndCause, EndedBy, Status};
use crate::leg_state::Mode;
use crate::new_leg::{LegPlan, NewLeg};
use crate::output::{Invite, LegCommand, Progress};
use crate::program::instruction::{
    AfterBridge, AudioSource, Dial, DialTarget, Instruction, Play, Program, RejectReason, SendDigits, Tone,
};
use crate::program::{ChildEvent, Input, Running, Step};
use crate::recording::{CutInstruction, Recording};
use crate::resume::Standing;
use tandem_id::{LegId, OpId};

/// Time for which no RTP may arrive after a 180 before the caller hears ringback again. RTP that flows arrives every 10
/// to 60 ms.
const PACKET_GAP: Duration = Duration::from_millis(250);

/// A running dial instruction.
#[derive(Serialize, Deserialize)]
pub(crate) struct Dialing {
    dial: Dial,
    /// Targets that have not been called yet. The field is used only if the dial calls its targets one after the other.
    pending_targets: VecDeque<DialTarget>,
    /// Dialled legs that have not answered yet.
    ringing: Vec<LegId>,
    /// The dialled leg that answered. This leg may still run its own document before the bridge.
    chosen: Option<LegId>,
    joined_at: Option<Timestamp>,
    ringback: Option<OpId>,
    /// The dialled leg whose early media the caller is connected to.
    early: Option<LegId>,
    /// Timer of [`PACKET_GAP`]. The dialled leg `early` had sent RTP, and then 180.
    packet_gap: Option<OpId>,
    recording: Option<OpId>,
    limit: Option<OpId>,
    /// Timer that limits the wait for a leg of the queue. `None` if the dial does not wait for a leg of a queue.
    dequeue_timer: Option<OpId>,
    result: DialResult,
    /// Whether the dial has ended but still waits for its recording.
    finishing: bool,
}

impl Dialing {
    pub(crate) fn begin(call: &mut Call, leg: LegId, mut dial: Dial) -> Step {
        if !dial.answer_on_bridge {
            call.ensure_answered(leg);
        }
        let targets = std::mem::take(&mut dial.targets);
        let result = DialResult {
            status: DialStatus::Failed,
            child: None,
            duration: Duration::ZERO,
            called_uri: false,
            answered: false,
            bridged: false,
            taken: false,
            sip_status: None,
            sip_call_id: None,
            sip_headers: HeaderFields::new(),
            returned: Vec::new(),
            recording: None,
        };
        let mut this = Self {
            pending_targets: targets.into(),
            ringing: Vec::new(),
            chosen: None,
            joined_at: None,
            ringback: None,
            early: None,
            packet_gap: None,
            recording: None,
            limit: None,
            dequeue_timer: None,
            result,
            finishing: false,
            dial,
        };
        if this.dial.queue.is_some() {
            this.dequeue_timer = Some(call.timer(leg, this.dial.timeout));
            this.request_dequeue(call, leg);
            this.signal_ringing(call, leg);
            return Step::Stay(Running::Dial(Box::new(this)));
        }
        let at_once = if this.dial.sequential { 1 } else { this.pending_targets.len() };
        for _ in 0..at_once.min(this.pending_targets.len()) {
            this.call_next(call, leg);
        }
        if this.ringing.is_empty() {
            return this.conclude(call, leg);
        }
        Step::Stay(Running::Dial(Box::new(this)))
    }

    pub(crate) fn handle(mut self: Box<Self>, call: &mut Call, leg: LegId, input: &Input) -> Step {
        match input {
            Input::Child { leg: child, event } if self.ringing.contains(child) || self.chosen == Some(*child) => {
                return self.child(call, leg, *child, *event);
            }
            Input::Dtmf('*') if self.dial.hangup_on_star => {
                let children = self.children();
                for child in children {
                    self.record_child(call, child);
                    dismiss(call, leg, child, None);
                }
                // While the dial handles an input, it does not receive the ends of its dialled legs. So the end of
                // these legs is recorded here.
                return self.end_without_child(call, leg, DialStatus::Canceled);
            }
            Input::Timer(op) if self.limit == Some(*op) => {
                if let Some(child) = self.chosen {
                    self.record_child(call, child);
                    dismiss(call, leg, child, Some(EndCause::TimeLimit));
                }
                return self.end_without_child(call, leg, DialStatus::Completed);
            }
            Input::Called(first) if self.dequeue_timer.is_some() => match first {
                Some(child) => self.take_from_queue(call, leg, *child),
                // The agent is at another node, and takes the next leg there.
                None if call.is_remote(leg) => return self.end_without_child(call, leg, DialStatus::Failed),
                // The offered leg has left the queue meanwhile. Take the next leg.
                None => self.request_dequeue(call, leg),
            },
            Input::Timer(op) if self.packet_gap == Some(*op) => {
                self.packet_gap = None;
                if !self.hears_early_media(call) {
                    self.start_ringback(call, leg);
                }
            }
            Input::Timer(op) if self.dequeue_timer == Some(*op) => {
                return self.end_without_child(call, leg, DialStatus::NoAnswer);
            }
            Input::DequeueFailed if self.dequeue_timer.is_some() => {
                return self.end_without_child(call, leg, DialStatus::Failed);
            }
            Input::Played { op, .. } if self.ringback == Some(*op) => self.ringback = None,
            Input::Recorded { op, recording, .. } if self.recording == Some(*op) => {
                self.result.recording = Some(Recording::clone(recording));
                self.recording = None;
                if self.finishing {
                    return self.conclude(call, leg);
                }
            }
            _ => {}
        }
        Step::Stay(Running::Dial(self))
    }

    /// Ends the dial because the leg was hung up or redirected. The dialled legs end too, and the result is reported to
    /// the action. The document in the response is ignored. After that, the dial does nothing more.
    pub(crate) fn abort(mut self, call: &mut Call, leg: LegId, why: Abort) {
        self.stop_ringback(call, leg);
        call.cancel_timer(leg, self.limit.take());
        self.stop_dequeue(call, leg);
        for child in self.children() {
            self.record_child(call, child);
            dismiss(call, leg, child, None);
        }
        if !self.finishing {
            self.result.status = if self.result.bridged { DialStatus::Completed } else { DialStatus::Canceled };
        }
        call.emit(leg, EventKind::Dialed(self.result.clone()));
        let action = self.dial.action.filter(|action| why == Abort::Hangup || action.is_request());
        if let Some(op) = self.recording {
            call.with_leg(leg, |cx| cx.end_recording(op));
            // The result names the recording, so the request waits for the file.
            if let Some(mut cx) = call.cx(leg)
                && let (Some(action), Some(active)) = (action.clone(), cx.active_recording(op))
            {
                active.report = Some(CutInstruction::Dial(action, Box::new(self.result)));
                return;
            }
        }
        if let Some(action) = action {
            call.with_leg(leg, |cx| cx.request_fetch(action, FetchReason::Dialed(self.result)));
        }
    }

    fn child(mut self: Box<Self>, call: &mut Call, leg: LegId, child: LegId, event: ChildEvent) -> Step {
        match event {
            // The leg from the queue has left before the bridge. Take the next leg.
            ChildEvent::Taken | ChildEvent::Ended if self.dial.queue.is_some() && self.joined_at.is_none() => {
                self.chosen = None;
                if call.is_remote(leg) {
                    return self.end_without_child(call, leg, DialStatus::Failed);
                }
                self.dequeue_timer = Some(call.timer(leg, self.dial.timeout));
                self.request_dequeue(call, leg);
            }
            ChildEvent::Ringing(_) if !self.ringing.contains(&child) => {}
            ChildEvent::Ringing(progress) => self.child_rings(call, leg, child, progress),
            // From now on the caller hears the early media.
            ChildEvent::PacketArrived if self.early == Some(child) => self.stop_ringback(call, leg),
            ChildEvent::PacketArrived => {}
            ChildEvent::Answered => self.child_answered(call, leg, child),
            ChildEvent::Ready => self.greet(call, leg, child),
            ChildEvent::Taken => {
                self.record_child(call, child);
                self.ringing.retain(|ringing| *ringing != child);
                for other in std::mem::take(&mut self.ringing) {
                    call.hangup(other, EndCause::OriginatorCancel, EndedBy::Server);
                }
                self.chosen = None;
                if let Some(state) = call.leg_state_mut(child) {
                    state.progress_listener.take_if(|to| *to == leg);
                }
                self.result.status = DialStatus::Completed;
                self.result.taken = true;
                return self.end(call, leg);
            }
            ChildEvent::Ended => {
                self.record_child(call, child);
                self.ringing.retain(|ringing| *ringing != child);
                self.early.take_if(|early| *early == child);
                if self.chosen == Some(child) {
                    self.chosen = None;
                    // The leg ended before the bridge. Call the next target.
                    if self.dial.sequential && self.joined_at.is_none() && !self.pending_targets.is_empty() {
                        return self.continue_calling(call, leg);
                    }
                    let status = if self.result.bridged { DialStatus::Completed } else { self.result.status };
                    return self.end_without_child(call, leg, status);
                }
                return self.continue_calling(call, leg);
            }
        }
        Step::Stay(Running::Dial(self))
    }

    /// Calls further targets until a dialled leg rings or has answered. Ends the dial if there is no further target.
    fn continue_calling(mut self: Box<Self>, call: &mut Call, leg: LegId) -> Step {
        while self.ringing.is_empty() && self.chosen.is_none() && !self.pending_targets.is_empty() {
            if call.with_leg(leg, |cx| cx.count_party()) == Some(true) {
                break;
            }
            self.call_next(call, leg);
        }
        if self.ringing.is_empty() && self.chosen.is_none() {
            return self.end(call, leg);
        }
        // The other targets have refused. The target that is left may have agreed on early media before.
        if let (None, None, [last]) = (self.chosen, self.early, &*self.ringing)
            && call.leg_state(*last).is_some_and(|state| state.has_early_media)
        {
            self.child_rings(call, leg, *last, Progress { alerting: false, early_media: true });
        }
        Step::Stay(Running::Dial(self))
    }

    /// Passes a provisional response on. An unanswered caller gets the same response. An answered caller hears ringback
    /// until RTP arrives from the target whose early media the caller is connected to (RFC 3960 §3.2).
    fn child_rings(&mut self, call: &mut Call, leg: LegId, child: LegId, progress: Progress) {
        // The early media of one target among several is not passed on, because only one target can be heard.
        let early_media = progress.early_media && self.ringing.len() == 1;
        if early_media {
            self.early = Some(child);
        }
        call.with_leg(leg, |cx| cx.send_progress(Progress { early_media, ..progress }));
        if early_media {
            call.bridge(leg, child, (AfterBridge::Continue, AfterBridge::Hangup), false);
            if self.hears_early_media(call) && !progress.alerting {
                self.stop_ringback(call, leg);
            }
        }
        if call.leg_state(leg).is_some_and(|state| state.info.answered_at.is_some())
            && (progress.alerting || !early_media)
        {
            self.ring_back(call, leg);
        }
        if self.dial.record.as_ref().is_some_and(|record| record.from_ringing) {
            self.start_recording(call, leg);
        }
    }

    /// Starts the ringback tone after a 180. RTP that has arrived from the target may have stopped since, or may still
    /// flow. In this case, the tone starts only if no packet arrives for [`PACKET_GAP`].
    fn ring_back(&mut self, call: &mut Call, leg: LegId) {
        match self.early.filter(|_| self.hears_early_media(call)) {
            Some(child) => {
                if let Some(state) = call.leg_state_mut(child) {
                    state.has_packets = false;
                }
                call.push_command(child, LegCommand::ReportNextPacket);
                self.packet_gap = Some(call.timer(leg, PACKET_GAP));
            }
            None if self.packet_gap.is_none() => self.start_ringback(call, leg),
            None => {}
        }
    }

    fn hears_early_media(&self, call: &Call) -> bool {
        self.early.and_then(|early| call.leg_state(early)).is_some_and(|state| state.has_packets)
    }

    /// Lets the caller hear that the target rings. If the caller's leg is answered, the server plays a ringback tone.
    /// Otherwise the server sends 180.
    fn signal_ringing(&mut self, call: &mut Call, leg: LegId) {
        if call.leg_state(leg).is_some_and(|state| state.info.answered_at.is_some()) {
            self.start_ringback(call, leg);
        } else {
            call.with_leg(leg, |cx| cx.ring(false));
        }
    }

    fn child_answered(&mut self, call: &mut Call, leg: LegId, child: LegId) {
        if self.chosen.is_some_and(|chosen| chosen != child) {
            return;
        }
        self.chosen = Some(child);
        self.ringing.retain(|ringing| *ringing != child);
        for other in std::mem::take(&mut self.ringing) {
            call.hangup(other, EndCause::OriginatorCancel, EndedBy::Server);
        }
        if !self.dial.sequential {
            self.pending_targets.clear();
        }
        if call.leg_state(child).is_some_and(|state| state.sending_digits.is_none()) {
            self.greet(call, leg, child);
        }
    }

    /// Plays the greeting to the dialled leg, then runs the whisper document on this leg. Bridges the leg when both
    /// have ended.
    fn greet(&mut self, call: &mut Call, leg: LegId, child: LegId) {
        let greeting = call.leg_state_mut(child).and_then(|state| state.greeting.take());
        if let Some(play) = greeting {
            // After the greeting, the leg reports `Ready` and this function is called again.
            call.unbridge(leg);
            call.set_mode(child, Mode::Whisper);
            return call.run(child, Program { instructions: vec![Instruction::Play(*play)], warnings: Vec::new() });
        }
        let whisper = call.leg_state_mut(child).and_then(|state| state.whisper.take());
        match whisper {
            Some(target) => {
                // The caller must not hear the whisper document. The caller may still hear early media of the dialled
                // leg, so this bridge ends first.
                call.unbridge(leg);
                call.set_mode(child, Mode::Whisper);
                let reason = call.whisper_reason(child, leg);
                call.fetch(child, target, reason);
            }
            None => self.join(call, leg, child),
        }
    }

    fn join(&mut self, call: &mut Call, leg: LegId, child: LegId) {
        if self.joined_at.is_some() {
            return;
        }
        self.stop_ringback(call, leg);
        if !call.ensure_answered(leg) {
            return;
        }
        self.joined_at = Some(call.now().time);
        self.result.bridged = true;
        self.limit = self.dial.time_limit.map(|limit| call.timer(leg, limit));
        call.join_called(child);
        // After the bridge, this dial decides how the leg continues. The bridge does not decide.
        let after = if self.dial.queue.is_some() { AfterBridge::Continue } else { AfterBridge::Hangup };
        call.bridge(leg, child, (AfterBridge::Continue, after), true);
        if self.dial.record.is_some() {
            self.start_recording(call, leg);
        }
    }

    /// Ends the dial. No dialled leg is bridged, and no dialled leg can still answer.
    fn end_without_child(mut self: Box<Self>, call: &mut Call, leg: LegId, status: DialStatus) -> Step {
        for child in self.children() {
            self.record_child(call, child);
        }
        self.ringing.clear();
        self.chosen = None;
        self.result.status = if self.result.bridged { DialStatus::Completed } else { status };
        self.end(call, leg)
    }

    fn end(mut self: Box<Self>, call: &mut Call, leg: LegId) -> Step {
        self.stop_ringback(call, leg);
        call.cancel_timer(leg, self.limit.take());
        self.stop_dequeue(call, leg);
        call.unbridge(leg);
        if let Some(op) = self.recording {
            call.with_leg(leg, |cx| cx.end_recording(op));
            self.finishing = true;
            return Step::Stay(Running::Dial(self));
        }
        self.conclude(call, leg)
    }

    fn conclude(self, call: &mut Call, leg: LegId) -> Step {
        call.emit(leg, EventKind::Dialed(self.result.clone()));
        let unanswered = call.leg_state(leg).is_some_and(|state| state.info.answered_at.is_none());
        if self.dial.pass_failure && unanswered {
            // A challenge (401, 407) or a redirection (3xx) is meant for this server, so the caller does not receive
            // it.
            let refusal = self.result.sip_status.filter(|status| matches!(status, 400 | 402..=406 | 408..=699));
            let status = refusal.unwrap_or(match self.result.status {
                DialStatus::NoAnswer => 480,
                DialStatus::Busy => 486,
                _ => 503,
            });
            call.reject(leg, RejectReason::Status(status), EndedBy::OtherLeg);
            return Step::Next;
        }
        match (self.dial.action, self.dial.after) {
            (Some(action), _) => Step::Fetch(action, FetchReason::Dialed(self.result)),
            (None, AfterBridge::Hangup) if self.result.bridged => Step::Hangup(BRIDGE_ENDED),
            (None, _) => Step::Next,
        }
    }

    fn call_next(&mut self, call: &mut Call, leg: LegId) {
        let Some(target) = self.pending_targets.pop_front() else { return };
        if !call.has_room() {
            return;
        }
        let Some(parent) = call.leg_state(leg).map(|state| Arc::clone(&state.info)) else { return };
        let id = LegId::new(call.now().time, &mut call.effects.entropy.next_rng());
        let from = self.dial.caller_id.clone().unwrap_or_else(|| parent.from.clone());
        let caller_name = self.dial.caller_name.clone().or_else(|| parent.caller_name.clone());
        let invite = Invite {
            to: target.to,
            from,
            caller_name,
            headers: target.headers,
            inherits_headers: self.dial.pass_failure,
            credentials: target.credentials,
            via: target.via,
            replaces: None,
        };
        let mut info = parent.child(id, call.now().time, &invite);
        (info.client_state, info.status_callback) = (target.client_state, target.status);
        info.handover = target
            .handover
            .map(|handover| Box::new(InternalCall { depth: parent.depth().saturating_add(1), ..*handover }));
        let plan = LegPlan {
            send_digits: target.send_digits.map(SendDigits::new),
            detect: target.detect,
            ..LegPlan::waiting(self.dial.timeout)
        };
        call.start_leg(NewLeg { info, invite, plan, record: None, race: None });
        if let Some(state) = call.leg_state_mut(id) {
            state.whisper = target.whisper;
            state.greeting = target.greeting.map(Box::new);
        }
        self.ringing.push(id);
    }

    /// Requests the first leg of the queue.
    fn request_dequeue(&self, call: &mut Call, leg: LegId) {
        if let Some(dequeue) = self.dial.queue.as_ref().filter(|_| !call.is_remote(leg)) {
            call.push_command(leg, LegCommand::DequeueFirst { queue: Arc::clone(&dequeue.queue) });
        }
    }

    fn stop_dequeue(&mut self, call: &mut Call, leg: LegId) {
        if let Some(op) = self.dequeue_timer.take() {
            call.cancel_timer(leg, Some(op));
            call.push_command(leg, LegCommand::StopDequeue);
        }
    }

    /// Accepts the leg that came from the queue. The leg first runs its whisper document, then it is bridged.
    fn take_from_queue(&mut self, call: &mut Call, leg: LegId, child: LegId) {
        self.stop_dequeue(call, leg);
        call.take_called(child, leg);
        self.chosen = Some(child);
        // A leg of another node runs its whisper document there, and answers then.
        if call.is_remote(child) {
            return;
        }
        if let Some(state) = call.leg_state_mut(child) {
            state.whisper = self.dial.queue.as_ref().and_then(|queue| queue.whisper.clone());
        }
        self.greet(call, leg, child);
    }

    fn children(&self) -> Vec<LegId> {
        self.ringing.iter().copied().chain(self.chosen).collect()
    }

    /// Returns the target of a document request. The document is requested when a far end of this dial asks for a
    /// transfer (REFER).
    pub(crate) fn refer_url(&self) -> Option<&Target> {
        self.dial.refer.as_ref()
    }

    /// Returns the document that a leg of the queue runs before the bridge, if this dial waits for a leg of a queue.
    pub(crate) fn whisper(&self) -> Option<&Target> {
        self.dial.queue.as_ref()?.whisper.as_ref()
    }

    /// Returns whether `child` is the dialled leg that answered.
    pub(crate) fn has_chosen(&self, child: LegId) -> bool {
        self.chosen == Some(child)
    }

    /// Replaces the leg `from` by `to` if `from` is the dialled leg that answered. Returns whether the leg was
    /// replaced.
    pub(crate) fn replace_chosen(&mut self, from: LegId, to: LegId) -> bool {
        let has = self.chosen == Some(from);
        if has {
            self.chosen = Some(to);
        }
        has
    }

    /// Separates a dialled leg from this dial. The leg continues. `shown` is the id of the leg for applications.
    pub(crate) fn release_child(&mut self, child: LegId, shown: LegId) {
        if self.chosen == Some(child) {
            self.chosen = None;
            self.result.child = Some(shown);
            self.result.answered = true;
            self.result.status = DialStatus::Completed;
        }
    }

    /// Stores the state of a dialled leg for the result of the dial.
    fn record_child(&mut self, call: &Call, child: LegId) {
        let Some(state) = call.leg_state(child) else { return };
        let shown = state.shown();
        self.result.child = Some(shown.id);
        self.result.answered = state.info.answered_at.is_some();
        // A leg from a queue was not called, so this dial has no SIP result for it.
        if shown.direction != Direction::Inbound {
            self.result.called_uri = matches!(shown.to, Address::Sip(_));
            self.result.sip_call_id = shown.sip.call_id.clone();
            self.result.sip_headers = shown.sip.headers.clone();
            self.result.sip_status = shown.final_response();
            self.result.returned = shown.handover.as_ref().map_or_else(Vec::new, |it| it.returned.clone());
        }
        if let Some(from) = self.joined_at {
            let until = state.info.end.as_ref().map_or(call.now().time, |end| end.at);
            self.result.duration = Duration::try_from(until.duration_since(from)).unwrap_or_default();
        }
        self.result.status = match state.info.status {
            Status::Completed | Status::InProgress => DialStatus::Completed,
            Status::Busy => DialStatus::Busy,
            Status::NoAnswer => DialStatus::NoAnswer,
            Status::Canceled => DialStatus::Canceled,
            _ => DialStatus::Failed,
        };
    }

    fn start_recording(&mut self, call: &mut Call, leg: LegId) {
        if let (None, None, Some(record)) = (self.recording, &self.result.recording, &self.dial.record)
            && call.leg_state(leg).is_some_and(|state| state.info.answered_at.is_some())
        {
            let new = call.effects.new_recording(record.spec.clone());
            self.recording = call.with_leg(leg, |cx| cx.begin_recording(new)).flatten();
        }
    }

    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        if let (Some(op), Some(play)) = (self.ringback, self.ringback_tone()) {
            standing.command(LegCommand::Play { op, play, elapsed: Some(Duration::ZERO) });
        }
        if let (Some(_), Some(dequeue)) = (self.dequeue_timer, &self.dial.queue) {
            standing.command(LegCommand::DequeueFirst { queue: Arc::clone(&dequeue.queue) });
        }
        if let (Some(_), Some(early)) = (self.packet_gap, self.early) {
            standing.call.command(early, LegCommand::ReportNextPacket);
        }
    }

    fn ringback_tone(&self) -> Option<Play> {
        let country = self.dial.ring_tone.clone()?;
        Some(Play::new(AudioSource::Tone(Tone::Ringback(country)), None))
    }

    fn start_ringback(&mut self, call: &mut Call, leg: LegId) {
        // During a transfer the application may play audio to the leg. This audio has priority over the ringback tone.
        let silent = call.leg_state(leg).is_some_and(|state| state.runner.running.is_none());
        if let (None, Some(play), true) = (self.ringback, self.ringback_tone(), silent) {
            let op = call.effects.new_op();
            call.push_command(leg, LegCommand::Play { op, play, elapsed: None });
            self.ringback = Some(op);
        }
    }

    fn stop_ringback(&mut self, call: &mut Call, leg: LegId) {
        call.cancel_timer(leg, self.packet_gap.take());
        if let Some(op) = self.ringback.take() {
            call.push_command(leg, LegCommand::Stop { op });
        }
    }
}

/// Ends a dialled leg with `cause`. If `cause` is `None`, the dialled leg is hung up because of the dialling leg. A leg
/// that was taken out of a queue does not end here. It continues after its wait, or waits again.
fn dismiss(call: &mut Call, leg: LegId, child: LegId, cause: Option<EndCause>) {
    if call.release_called(child, leg) {
        return;
    }
    match cause {
        Some(cause) => call.hangup(child, cause, EndedBy::Server),
        None => call.clear(child, EndedBy::OtherLeg),
    }
}
