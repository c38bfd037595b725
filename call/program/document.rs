//! Document requests: the wait for the response, the request for the fallback document, and the apology if both
//! documents fail.
//!
//! A document can lead to another document, and so on in a loop. Such a loop is very fast if no document takes time
//! (for example, if the file to play does not exist, or if digits are gathered for 0 s). Therefore each leg counts its
//! documents. Each document adds 1 to the count. When a document ends, 1 is subtracted for every 100 ms of its running
//! time. A running time of 1 s or more resets the count. If the count exceeds 50, the document request fails with the
//! failure "loop". The time that the application takes to respond does not count as running time.
//!
//! One document can also do too much by itself: 2,000 dials to a phone that is not registered take no time, and each of
//! them leaves a call record. A second of silence between such documents is no loop of short documents. Therefore each
//! leg also counts its steps: an instruction is 1 step, a party of a dial is [`STEPS_OF_PARTY`] steps. One step is
//! subtracted every 100 ms. If the count exceeds [`MAX_STEPS`], the document fails with the same failure. It also fails
//! if its internal calls form a loop.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Target;
use crate::call::Call;
use crate::event::EventKind;
use crate::fetch::{FailureKind, Fetch, FetchFailure, FetchReason, Scope};
use crate::leg::EndFailure;
use crate::leg_state::{MAX_LEGS, Mode};
use crate::output::LegCommand;
use crate::program::instruction::{AudioSource, Instruction, Play, Speech};
use crate::program::{Running, Signal, Step};
use crate::resume::Standing;
use tandem_id::{FetchId, LegId, OpId};

/// Maximum value of the count of documents with a very short running time.
const MAX_SHORT_DOCUMENTS: u32 = 50;
/// Running time of a document after which the count is reset.
const RESET_TIME: Duration = Duration::from_secs(1);
/// Running time of a document for which 1 is subtracted from the count.
const TIME_PER_DOCUMENT: Duration = Duration::from_millis(100);
/// Maximum value of the count of steps of a leg.
const MAX_STEPS: u32 = 500;
/// Time after which 1 is subtracted from the count of steps.
const TIME_PER_STEP: Duration = Duration::from_millis(100);
/// Number of steps of each party that a dial calls, because each party leaves a call record, events and notifications.
const STEPS_OF_PARTY: u32 = 5;

/// The document whose instructions a leg runs.
#[derive(Serialize, Deserialize)]
pub(crate) struct RunningDocument {
    url: Arc<str>,
    is_fallback: bool,
}

/// The count of steps of a leg at one time.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Steps {
    /// The time after which the count is 0 again, if no step follows.
    left: Duration,
    at: Timestamp,
}

/// A document request that waits for its response.
#[derive(Serialize, Deserialize)]
pub(crate) struct Fetching {
    id: FetchId,
    target: Target,
    reason: Box<FetchReason>,
    scope: Scope,
}

impl Running {
    /// Returns the request for which the instruction waits, if it waits for a document.
    pub(crate) fn awaited_document(&self) -> Option<FetchId> {
        match self {
            Self::Fetching(fetching) => Some(fetching.id),
            _ => None,
        }
    }

    /// Requests a document. If the leg's documents form a loop, the leg hears an apology and ends. A leg in a queue
    /// hears music instead and continues to wait.
    pub(crate) fn fetch(call: &mut Call, leg: LegId, target: Target, reason: FetchReason) -> Self {
        let now = call.now();
        let count = call.leg_state_mut(leg).map_or(0, |state| {
            let ran = state.document_since.replace(now.time).map_or(Duration::ZERO, |since| now.since(since));
            let made_up = u32::try_from(ran.as_millis() / TIME_PER_DOCUMENT.as_millis()).unwrap_or(u32::MAX);
            let before = if ran >= RESET_TIME { 0 } else { state.short_documents.saturating_sub(made_up) };
            state.short_documents = before + 1;
            state.short_documents
        });
        if count > MAX_SHORT_DOCUMENTS {
            let detail = format!("{MAX_SHORT_DOCUMENTS} documents in a row redirected at once to another document");
            call.found_loop(leg, detail);
        }
        if let Some(ended) = end_loop(call, leg) {
            return ended;
        }
        let scope = call.leg_state(leg).map_or(Scope::Leg, |state| state.mode.scope());
        let id = call.request_fetch(leg, target.clone(), reason.clone());
        Self::Fetching(Fetching { id, target, reason: Box::new(reason), scope })
    }
}

impl Call {
    /// Counts an instruction that a document begins. A dial that calls its parties one after the other counts each further
    /// party when it calls this party.
    pub(crate) fn count_instruction(&mut self, leg: LegId, instruction: &Instruction) {
        let parties = match instruction {
            Instruction::Dial(dial) if dial.sequential => dial.targets.len().min(1),
            Instruction::Dial(dial) => dial.targets.len().min(MAX_LEGS),
            _ => 0,
        };
        self.count_steps(leg, 1 + u32::try_from(parties).unwrap_or(u32::MAX) * STEPS_OF_PARTY);
    }

    /// Counts another party that a dial calls.
    pub(crate) fn count_party(&mut self, leg: LegId) {
        self.count_steps(leg, STEPS_OF_PARTY);
    }

    fn count_steps(&mut self, leg: LegId, steps: u32) {
        let now = self.now();
        let Some(state) = self.leg_state_mut(leg) else { return };
        let before = state.steps.map_or(Duration::ZERO, |steps| steps.left.saturating_sub(now.since(steps.at)));
        let count = before.saturating_add(TIME_PER_STEP.saturating_mul(steps));
        state.steps = Some(Steps { left: count, at: now.time });
        if count > TIME_PER_STEP * MAX_STEPS {
            let detail = format!(
                "more than {MAX_STEPS} instructions (a party of a dial counts as {STEPS_OF_PARTY}) in a short time"
            );
            self.found_loop(leg, detail);
        }
    }

    /// Records that the documents of a leg form a loop. The next instruction or document of the leg does not begin. A
    /// leg that commands control has no documents.
    pub(crate) fn found_loop(&mut self, leg: LegId, detail: String) {
        if let Some(state) = self.leg_state_mut(leg).filter(|state| state.mode != Mode::Commands) {
            state.looped.get_or_insert(detail.into());
        }
    }

    /// Whether the documents of the leg form a loop that has not ended yet.
    pub(crate) fn has_loop(&self, leg: LegId) -> bool {
        self.leg_state(leg).is_some_and(|state| state.looped.is_some())
    }
}

/// Ends a loop of documents, if the leg has one: the leg hears an apology and ends. A leg in a queue hears music instead
/// and continues to wait.
pub(crate) fn end_loop(call: &mut Call, leg: LegId) -> Option<Running> {
    let state = call.leg_state_mut(leg)?;
    let detail = String::from(state.looped.take()?);
    state.runner.queue.clear();
    let is_queued = state.mode == Mode::Queue;
    let failure = FetchFailure { kind: FailureKind::Loop, detail };
    call.emit(leg, EventKind::FetchFailed { failure: failure.clone() });
    if is_queued && let Step::Stay(music) = call.hold_music(leg) {
        return Some(music);
    }
    Some(apologise(call, leg, &failure))
}

impl Fetching {
    pub(crate) fn handle(self, call: &mut Call, leg: LegId, signal: Signal) -> Step {
        match signal {
            Signal::Fetched { id, result } if id == self.id => match *result {
                Ok(program) => {
                    let now = call.now().time;
                    let is_fallback = self.is_fallback();
                    if let Some(state) = call.leg_state_mut(leg) {
                        state.document_since = Some(now);
                        state.document = Some(Box::new(RunningDocument { url: self.target.url, is_fallback }));
                    }
                    Step::Run(program)
                }
                Err(failure) => self.failed(call, leg, failure),
            },
            _ => Step::Stay(Running::Fetching(self)),
        }
    }

    /// Requests the document again. The response to the first request may be lost.
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let state = standing.state;
        standing.fetch(Fetch {
            id: self.id,
            leg: Arc::clone(&state.info),
            target: self.target.clone(),
            reason: (*self.reason).clone(),
            scope: self.scope,
            first_method: state.first_method.unwrap_or_default(),
        });
    }

    fn is_fallback(&self) -> bool {
        matches!(*self.reason, FetchReason::Fallback { .. })
    }

    fn failed(self, call: &mut Call, leg: LegId, failure: FetchFailure) -> Step {
        call.emit(leg, EventKind::FetchFailed { failure: failure.clone() });
        match call.leg_state(leg).map(|state| (state.mode, state.waiting.is_some())) {
            // A leg in a queue continues to wait and hears music. A leg that is taken out of a queue is bridged without
            // its whisper document.
            Some((Mode::Queue, _)) => return call.hold_music(leg),
            Some((Mode::Whisper, true)) => return Step::Next,
            _ => {}
        }
        let is_fallback = self.is_fallback();
        Step::Stay(fall_back(call, leg, failure, Some(self.target.url), is_fallback))
    }
}

/// Requests the fallback document after another document has failed. The caller hears an apology if the leg has no
/// fallback document, or if the failed document is the fallback document.
fn fall_back(call: &mut Call, leg: LegId, failure: FetchFailure, url: Option<Arc<str>>, is_fallback: bool) -> Running {
    match call.leg_state(leg).and_then(|state| state.info.fallback.clone()) {
        Some(target) if !is_fallback => Running::fetch(call, leg, target, FetchReason::Fallback { failure, url }),
        _ => apologise(call, leg, &failure),
    }
}

/// Handles a part of a document that this server does not implement. If nothing but a hang-up follows this part in the
/// document, the document has failed: Twilio defines the fallback URL for errors "when requesting or executing" a
/// document. Without a fallback document, the caller would otherwise hear only the end of the call.
pub(crate) fn refused(call: &mut Call, leg: LegId, why: String) -> Step {
    let is_last = call.leg_state(leg).is_some_and(|state| {
        let rest = &mut state.runner.queue.iter();
        state.mode == Mode::Document && rest.all(|next| matches!(next, Instruction::Hangup))
    });
    if !is_last {
        return Step::Next;
    }
    let failure = FetchFailure { kind: FailureKind::NotServed, detail: why };
    call.emit(leg, EventKind::FetchFailed { failure: failure.clone() });
    let document = call.leg_state_mut(leg).and_then(|state| state.document.take());
    let (url, is_fallback) = document.map_or((None, false), |document| (Some(document.url), document.is_fallback));
    Step::Stay(fall_back(call, leg, failure, url, is_fallback))
}

/// Text that the caller hears when the application has failed.
const APOLOGY: &str = "We are sorry, an application error has occurred. Goodbye.";

fn apology() -> Play {
    let (text, language) = (APOLOGY.to_owned(), Some("en-US".to_owned()));
    Play::once(AudioSource::Speech(Speech { text, ssml: false, voice: None, language }))
}

/// The apology that a leg hears before the leg ends.
#[derive(Serialize, Deserialize)]
pub(crate) struct Apology {
    pub(crate) op: OpId,
    /// Detail text for the end of the leg.
    pub(crate) why: String,
    since: Timestamp,
}

impl Apology {
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let elapsed = Some(standing.now.since(self.since));
        standing.command(LegCommand::Play { op: self.op, play: apology(), elapsed });
    }
}

fn apologise(call: &mut Call, leg: LegId, failure: &FetchFailure) -> Running {
    call.ensure_answered(leg);
    let op = call.new_op();
    if let Some(state) = call.leg_state_mut(leg) {
        state.failure = Some(Box::new(EndFailure::Document(failure.clone())));
    }
    call.emit(leg, EventKind::Apologised);
    call.push_command(leg, LegCommand::Play { op, play: apology(), elapsed: None });
    let why = format!("apologised and hung up: the document failed ({})", failure.detail);
    Running::Apologising(Apology { op, why, since: call.now().time })
}
