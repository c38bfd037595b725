//! Waiting for a document, its fallback, and the apology when there is neither.
//!
//! Documents may lead to each other in a circle, and quickly when each of them does nothing that takes time (a file that is
//! not there is played, digits are gathered for 0 s). So documents are counted: each one adds 1, each 100 ms that one ran
//! takes 1 away, and a whole second takes all away. Beyond 50 the leg is told that its documents form a loop. The time
//! that the application takes to answer does not count.

use std::sync::Arc;
use std::time::Duration;

use crate::Target;
use crate::call::Call;
use crate::event::EventKind;
use crate::fetch::{FailureKind, FetchFailure, FetchReason};
use crate::id::{FetchId, LegId};
use crate::leg::EndFailure;
use crate::output::LegCommand;
use crate::party::Mode;
use crate::program::instruction::{AudioSource, Play, Speech};
use crate::program::{Running, Signal, Step};

/// Documents in a row that may take hardly any time.
const MOST_HASTY_DOCUMENTS: u32 = 50;
/// A document that ran so long took time: the count begins again.
const UNHURRIED: Duration = Duration::from_secs(1);
/// What makes up for one document.
const MAKES_UP: Duration = Duration::from_millis(100);

/// A document asked for.
pub(crate) struct Fetching {
    id: FetchId,
    url: Arc<str>,
    fallback: bool,
}

impl Running {
    /// Asks for a document.
    pub(crate) fn fetch(call: &mut Call, leg: LegId, target: Target, reason: FetchReason) -> Self {
        let fallback = matches!(reason, FetchReason::Fallback { .. });
        let url = Arc::clone(&target.url);
        let now = call.now().instant;
        let hasty = call.party_mut(leg).map_or(0, |party| {
            let ran =
                party.document_since.replace(now).map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            let made_up = u32::try_from(ran.as_millis() / MAKES_UP.as_millis()).unwrap_or(u32::MAX);
            let before = if ran >= UNHURRIED { 0 } else { party.hasty_documents.saturating_sub(made_up) };
            party.hasty_documents = before + 1;
            party.hasty_documents
        });
        if hasty > MOST_HASTY_DOCUMENTS {
            let detail = format!("{MOST_HASTY_DOCUMENTS} documents in a row redirected at once to another document");
            let failure = FetchFailure { kind: FailureKind::Loop, detail };
            call.emit(leg, EventKind::FetchFailed { failure: failure.clone() });
            // Who waits in a queue waits on.
            return match call.party(leg).map(|party| party.mode) {
                Some(Mode::Queue) => match call.hold_music(leg) {
                    Step::Stay(running) => running,
                    _ => apologise(call, leg, &failure),
                },
                _ => apologise(call, leg, &failure),
            };
        }
        Self::Fetching(Fetching { id: call.request_fetch(leg, target, reason), url, fallback })
    }
}

impl Fetching {
    pub(crate) fn handle(self, call: &mut Call, leg: LegId, signal: Signal) -> Step {
        match signal {
            Signal::Fetched { id, result } if id == self.id => match *result {
                Ok(program) => {
                    let now = call.now().instant;
                    if let Some(party) = call.party_mut(leg) {
                        party.document_since = Some(now);
                    }
                    Step::Run(program)
                }
                Err(failure) => self.failed(call, leg, failure),
            },
            _ => Step::Stay(Running::Fetching(self)),
        }
    }

    fn failed(self, call: &mut Call, leg: LegId, failure: FetchFailure) -> Step {
        call.emit(leg, EventKind::FetchFailed { failure: failure.clone() });
        match call.party(leg).map(|party| (party.mode, party.waiting.is_some())) {
            // Who waits in a queue loses nothing by it, and who is taken out of it is joined without another word.
            Some((Mode::Queue, _)) => return call.hold_music(leg),
            Some((Mode::Whisper, true)) => return Step::Next,
            _ => {}
        }
        let fallback = call.party(leg).and_then(|party| party.info.fallback.clone());
        match fallback {
            Some(target) if !self.fallback => {
                Step::Stay(Running::fetch(call, leg, target, FetchReason::Fallback { failure, url: self.url }))
            }
            _ => Step::Stay(apologise(call, leg, &failure)),
        }
    }
}

/// What a caller hears whose application has failed.
const APOLOGY: &str = "We are sorry, an application error has occurred. Goodbye.";

fn apologise(call: &mut Call, leg: LegId, failure: &FetchFailure) -> Running {
    call.ensure_answered(leg);
    let op = call.new_op();
    if let Some(party) = call.party_mut(leg) {
        party.failure = Some(Box::new(EndFailure::Document(failure.clone())));
    }
    call.emit(leg, EventKind::Apologised);
    let speech = Speech { text: APOLOGY.to_owned(), ssml: false, voice: None, language: Some("en-US".to_owned()) };
    let play = Play::once(AudioSource::Speech(speech));
    call.order(leg, LegCommand::Play { op, play });
    Running::Apologising(op, format!("apologised and hung up: the document failed ({})", failure.detail))
}
