//! Notes the events of a tested call in its log, as facts that expectations can find.

use tandem_call::event::{CallEvent, EventKind};
use tandem_call::leg::{EndedBy, LegInfo, Status};
use tandem_causes::Cause;
use tandem_dialect::ReportedError;
use tandem_id::LegId;

use super::expectation::Action;
use super::log::{Entry, Fact};
use super::stage::Stage;
use crate::call::problems::Problem;

impl Stage<'_> {
    /// Notes an event. If the event is a problem, the test fails unless a step expects this problem.
    pub(super) fn event(&mut self, event: &CallEvent) {
        let leg = event.leg.id;
        match &event.kind {
            EventKind::Initiated if event.leg.parent.is_some() => {
                let to = event.leg.to.to_string();
                self.note_as(
                    "",
                    format!("calls {to}"),
                    Fact::Action(Action::Dial, vec![to, event.leg.to.user().into()]),
                );
            }
            EventKind::Bridged { with } if event.leg.parent.is_none() => {
                let with = with.to.to_string();
                self.note_of(leg, format!("talks with {with}"), Fact::Action(Action::Bridge, vec![with]));
            }
            EventKind::Answered { .. } => self.note_of(leg, "is connected".to_owned(), Fact::Note),
            EventKind::Enqueued { queue, .. } => {
                let fact = Fact::Action(Action::Queue, vec![queue.to_string()]);
                self.note_of(leg, format!("waits in the queue {queue}"), fact);
            }
            EventKind::ConferenceJoined(one) => {
                let fact = Fact::Action(Action::Conference, vec![one.conference.to_string()]);
                self.note_of(leg, format!("is in the conference {}", one.conference), fact);
            }
            EventKind::GatherEnded { digits, end, words, .. } => {
                let words = words.as_ref().map(|words| words.text()).unwrap_or_default();
                self.note("", format!("gathered {:?}: {end}", if digits.is_empty() { &words } else { digits }));
            }
            EventKind::Ended => self.ended(&event.leg),
            _ => {}
        }
        let cause = match &event.kind {
            // The test decides how called parties end.
            EventKind::Ended if event.leg.parent.is_none() => Cause::of_end(&event.leg),
            EventKind::Ended => None,
            kind => Cause::of_event(kind),
        };
        if let Some(cause) = cause {
            let code = self.dialect.error_number(ReportedError::Event(&event.kind));
            let message = match &event.kind {
                EventKind::FetchFailed { failure } => failure.detail.clone(),
                EventKind::Warned(warning) => warning.message.clone(),
                EventKind::PlaybackEnded(_, end) => end.to_string(),
                EventKind::EngineFailed(failure) => failure.to_string(),
                _ => event.leg.end.as_ref().map_or_else(|| cause.id().to_owned(), ToString::to_string),
            };
            self.problem(cause, code, message);
        }
    }

    fn ended(&mut self, leg: &LegInfo) {
        let end = leg.end.as_ref().map(ToString::to_string).unwrap_or_default();
        let by_other = leg.end.as_ref().is_some_and(|end| end.by != EndedBy::FarEnd);
        let now = self.now;
        if let Some(party) = self.party(leg.id) {
            party.hung_up_on |= by_other && !party.over;
            (party.over, party.bridged, party.silent_since) = (true, None, now);
            party.playing.clear();
        }
        let fact = if leg.parent.is_none() { Fact::End(status(leg.status)) } else { Fact::Note };
        self.note_of(leg.id, format!("call ended, {}: {end}", status(leg.status)), fact);
    }

    pub(super) fn problem(&mut self, cause: Cause, code: Option<u32>, message: String) {
        let number = code.map(|code| format!(" ({code})")).unwrap_or_default();
        self.note("", format!("problem {}{number}: {message}", cause.id()));
        let advice = Some(format!("{} ({})", cause.advice(), cause.page()));
        self.problems.push(Problem { cause: cause.id().to_owned(), code: code.map(u64::from), message, advice });
    }

    pub(super) fn note(&mut self, party: &str, text: String) {
        self.note_as(party, text, Fact::Note);
    }

    pub(super) fn note_of(&mut self, leg: LegId, text: String, fact: Fact) {
        let name = self.name(leg);
        self.note_as(&name, text, fact);
    }

    pub(super) fn note_as(&mut self, party: &str, text: String, fact: Fact) {
        self.log.push(Entry { at: self.now, party: party.to_owned(), text, fact });
    }
}

/// Returns the status of an ended leg in the words of the providers.
fn status(status: Status) -> &'static str {
    match status {
        Status::Busy => "busy",
        Status::Failed => "failed",
        Status::NoAnswer => "no-answer",
        Status::Canceled => "canceled",
        _ => "completed",
    }
}
