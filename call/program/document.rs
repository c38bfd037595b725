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
use crate::event::EventKind;
use crate::fetch::{FailureKind, Fetch, FetchFailure, FetchReason, Scope};
use crate::leg::EndFailure;
use crate::leg_cx::LegCx;
use crate::leg_state::{MAX_LEGS, Mode};
use crate::output::{LegCommand, Output};
use crate::program::instruction::{AudioSource, Instruction, Play, Speech};
use crate::program::{Input, Running, Step};
use crate::resume::Standing;
use tandem_id::{FetchId, OpId};

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

impl RunningDocument {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
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
    pub(crate) fn fetch(cx: &mut LegCx<'_>, target: Target, reason: FetchReason) -> Self {
        let now = cx.now();
        let count = {
            let state = &mut *cx.leg;
            let ran = state.document_since.replace(now.time).map_or(Duration::ZERO, |since| now.since(since));
            let made_up = u32::try_from(ran.as_millis() / TIME_PER_DOCUMENT.as_millis()).unwrap_or(u32::MAX);
            let before = if ran >= RESET_TIME { 0 } else { state.short_documents.saturating_sub(made_up) };
            state.short_documents = before + 1;
            state.short_documents
        };
        if count > MAX_SHORT_DOCUMENTS {
            let detail = format!("{MAX_SHORT_DOCUMENTS} documents in a row redirected at once to another document");
            cx.found_loop(detail);
        }
        if let Some(ended) = end_loop(cx) {
            return ended;
        }
        let scope = cx.leg.mode.scope();
        let id = cx.request_fetch(target.clone(), reason.clone());
        Self::Fetching(Fetching { id, target, reason: Box::new(reason), scope })
    }
}

impl LegCx<'_> {
    /// Counts an instruction that a document begins. A dial that calls its parties one after the other counts each further
    /// party when it calls this party.
    pub(crate) fn count_instruction(&mut self, instruction: &Instruction) {
        let parties = match instruction {
            Instruction::Dial(dial) if dial.sequential => dial.targets.len().min(1),
            Instruction::Dial(dial) => dial.targets.len().min(MAX_LEGS),
            _ => 0,
        };
        self.count_steps(1 + u32::try_from(parties).unwrap_or(u32::MAX) * STEPS_OF_PARTY);
    }

    /// Counts another party that a dial calls. Returns whether the documents of the leg form a loop that has not ended
    /// yet.
    pub(crate) fn count_party(&mut self) -> bool {
        self.count_steps(STEPS_OF_PARTY);
        self.leg.looped.is_some()
    }

    fn count_steps(&mut self, steps: u32) {
        let now = self.now();
        let state = &mut *self.leg;
        let before = state.steps.map_or(Duration::ZERO, |steps| steps.left.saturating_sub(now.since(steps.at)));
        let count = before.saturating_add(TIME_PER_STEP.saturating_mul(steps));
        state.steps = Some(Steps { left: count, at: now.time });
        if count > TIME_PER_STEP * MAX_STEPS {
            let detail = format!(
                "more than {MAX_STEPS} instructions (a party of a dial counts as {STEPS_OF_PARTY}) in a short time"
            );
            self.found_loop(detail);
        }
    }

    /// Records that the documents of a leg form a loop. The next instruction or document of the leg does not begin. A
    /// leg that commands control has no documents.
    pub(crate) fn found_loop(&mut self, detail: String) {
        if self.leg.mode != Mode::Commands {
            self.leg.looped.get_or_insert(detail.into());
        }
    }
}

/// Ends a loop of documents, if the leg has one: the leg hears an apology and ends. A leg in a queue hears music instead
/// and continues to wait.
pub(crate) fn end_loop(cx: &mut LegCx<'_>) -> Option<Running> {
    let state = &mut *cx.leg;
    let detail = String::from(state.looped.take()?);
    state.runner.queue.clear();
    let is_queued = state.mode == Mode::Queue;
    let failure = FetchFailure { kind: FailureKind::Loop, detail };
    cx.emit(EventKind::FetchFailed { failure: failure.clone() });
    if is_queued && let Step::Stay(music) = cx.hold_music() {
        return Some(music);
    }
    Some(apologise(cx, &failure))
}

impl Fetching {
    pub(crate) fn handle(self, cx: &mut LegCx<'_>, input: Input) -> Step {
        match input {
            Input::Fetched { id, result } if id == self.id => match *result {
                Ok(program) => {
                    let now = cx.now().time;
                    let is_fallback = self.is_fallback();
                    cx.leg.document_since = Some(now);
                    cx.leg.document = Some(Box::new(RunningDocument { url: self.target.url, is_fallback }));
                    Step::Run(program)
                }
                Err(failure) => self.failed(cx, failure),
            },
            _ => Step::Stay(Running::Fetching(self)),
        }
    }

    /// Requests the document again. The response to the first request may be lost.
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let state = standing.state;
        let fetch = Fetch {
            id: self.id,
            leg: Arc::clone(&state.info),
            target: self.target.clone(),
            reason: (*self.reason).clone(),
            scope: self.scope,
            first_method: state.first_method.unwrap_or_default(),
        };
        standing.call.outputs.push_back(Output::Fetch(Box::new(fetch)));
    }

    fn is_fallback(&self) -> bool {
        matches!(*self.reason, FetchReason::Fallback { .. })
    }

    fn failed(self, cx: &mut LegCx<'_>, failure: FetchFailure) -> Step {
        cx.emit(EventKind::FetchFailed { failure: failure.clone() });
        match (cx.leg.mode, cx.leg.waiting.is_some()) {
            // A leg in a queue continues to wait and hears music. A leg that is taken out of a queue is bridged without
            // its whisper document.
            (Mode::Queue, _) => return cx.hold_music(),
            (Mode::Whisper, true) => return Step::Next,
            _ => {}
        }
        let is_fallback = self.is_fallback();
        Step::Stay(fall_back(cx, failure, Some(self.target.url), is_fallback))
    }
}

/// Requests the fallback document after another document has failed. The caller hears an apology if the leg has no
/// fallback document, or if the failed document is the fallback document.
fn fall_back(cx: &mut LegCx<'_>, failure: FetchFailure, url: Option<Arc<str>>, is_fallback: bool) -> Running {
    match cx.leg.info.fallback.clone() {
        Some(target) if !is_fallback => Running::fetch(cx, target, FetchReason::Fallback { failure, url }),
        _ => apologise(cx, &failure),
    }
}

/// Handles a part of a document that this server does not implement. If nothing but a hang-up follows this part in the
/// document, the document has failed: Twilio defines the fallback URL for errors "when requesting or executing" a
/// document. Without a fallback document, the caller would otherwise hear only the end of the call.
pub(crate) fn refused(cx: &mut LegCx<'_>, why: String) -> Step {
    let mut rest = cx.leg.runner.queue.iter();
    let is_last = cx.leg.mode == Mode::Document && rest.all(|next| matches!(next, Instruction::Hangup));
    if !is_last {
        return Step::Next;
    }
    let failure = FetchFailure { kind: FailureKind::NotServed, detail: why };
    cx.emit(EventKind::FetchFailed { failure: failure.clone() });
    let document = cx.leg.document.take();
    let (url, is_fallback) = document.map_or((None, false), |document| (Some(document.url), document.is_fallback));
    Step::Stay(fall_back(cx, failure, url, is_fallback))
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
        let elapsed = Some(standing.call.now.since(self.since));
        standing.command(LegCommand::Play { op: self.op, play: apology(), elapsed });
    }
}

fn apologise(cx: &mut LegCx<'_>, failure: &FetchFailure) -> Running {
    cx.ensure_answered();
    let op = cx.new_op();
    cx.leg.failure = Some(Box::new(EndFailure::Document(failure.clone())));
    cx.emit(EventKind::Apologised);
    cx.command(LegCommand::Play { op, play: apology(), elapsed: None });
    let why = format!("apologised and hung up: the document failed ({})", failure.detail);
    Running::Apologising(Apology { op, why, since: cx.now().time })
}
