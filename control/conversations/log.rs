//! The log lines that a conversation writes to its call's log: the words, the interruptions, and the durations of the
//! turns.
//!
//! The words are written only to the call's log, and only if `speech.timeline_words` allows this. The server's log
//! contains the words only at level `trace`.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Value, json};
use tandem_agent::EndReport;
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_history::call_port::CallPort;
use tandem_history::event_log::Line;
use tandem_host::clock;
use tandem_http::without_credentials;
use tandem_id::LegId;
use tandem_metrics::turns::Totals;

use super::turn_taking::ConversationFact;
use super::{ConversationUpdate, LiveConversation};

/// Maximum number of lines of one conversation, so that the log has room for the rest of the call. Later lines are only
/// counted.
const MAX_LINES: u32 = 600;
/// Maximum number of characters of a text in a log line.
const LONGEST: usize = 400;

/// Writes the log lines of one conversation.
pub(super) struct ConversationLog<'a> {
    call: &'a dyn CallPort<ConversationUpdate>,
    leg: LegId,
    /// The ids of the conversation and of the leg in the provider's form.
    names: (String, String),
    words: bool,
    lines: u32,
    /// The present activity of the conversation.
    pub(super) live: Arc<LiveConversation>,
}

impl<'a> ConversationLog<'a> {
    /// Creates the log. `words` says whether the texts are logged, or only the lengths of the texts.
    pub(super) fn new(
        call: &'a dyn CallPort<ConversationUpdate>,
        leg: LegId,
        names: (String, String),
        words: bool,
        live: Arc<LiveConversation>,
    ) -> Self {
        Self { call, leg, names, words, lines: 0, live }
    }

    /// Logs a fact.
    pub(super) fn note(&mut self, fact: &ConversationFact) {
        self.live.note(fact);
        let (text, data) = line(fact, self.words);
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..MAX_LINES => self.push(text, Some(data)),
            MAX_LINES => self.push("the rest of this conversation is not logged, only counted".to_owned(), None),
            _ => {}
        }
        if let ConversationFact::Heard { text, .. } | ConversationFact::Spoken(text) = fact {
            tracing::trace!(leg = %self.names.1, "conversation: {text:?}");
        }
    }

    /// Logs an action of the agent.
    pub(super) fn of_agent(&mut self, text: String, data: Value) {
        self.lines = self.lines.saturating_add(1);
        if self.lines < MAX_LINES {
            self.push(text, Some(data));
        }
    }

    pub(super) fn end(&self, totals: Totals) {
        let mut text = format!("conversation {}: {totals}", self.names.0);
        if self.lines >= MAX_LINES {
            let left_out = self.lines - MAX_LINES + 1;
            // This never fails, because the text goes into a `String`.
            let _ = write!(text, "; {left_out} lines were not logged");
        }
        let ms = |time: std::time::Duration| time.as_millis() as u64;
        let data = json!({
            "event": "conversation", "id": self.names.0, "turns": totals.turns, "interruptions": totals.interruptions,
            "audio_ms_mean": totals.mean().map(ms), "audio_ms_max": totals.mean().map(|_| ms(totals.longest)),
        });
        self.push(text, Some(data));
    }

    fn push(&self, text: String, data: Option<Value>) {
        let line =
            Line { at: clock::time(), leg: Some(self.leg), kind: "speech".into(), text, data: data.map(Box::new) };
        self.call.log(line);
    }
}

/// Logs the reports that an agent has sent after its conversation. If the call has ended, a failure is only in the server's log.
pub(super) fn log_reports(call: &dyn CallPort<ConversationUpdate>, leg: LegId, reports: Vec<EndReport>) {
    for EndReport { url, result } in reports {
        let text = match &result {
            Ok(status) => format!("the agent's report was sent to {url}: {status}"),
            Err(why) => format!("the agent's report to {url} failed: {why}"),
        };
        if let Err(why) = &result {
            tracing::warn!(%leg, %url, "the report of an agent after its conversation failed: {why}");
            let failure = EngineFailure::new(Engine::Tool, format!("the report to {url}: {why}"));
            let failure = failure.with_effect(EngineEffect::Noticed);
            // The call may be over.
            let _ = call.report(ConversationUpdate::EngineFailed(failure));
        }
        let data = json!({ "event": "agent_report", "url": url, "ok": result.is_ok() });
        call.log(Line { at: clock::time(), leg: Some(leg), kind: "speech".into(), text, data: Some(Box::new(data)) });
    }
}

/// Converts a fact to text and to JSON.
fn line(fact: &ConversationFact, words: bool) -> (String, Value) {
    let quoted = |text: &str| match words {
        true => format!("{:?}", shortened(text)),
        false => format!("{} characters", text.chars().count()),
    };
    let shown = |text: &str| words.then(|| shortened(text));
    match fact {
        ConversationFact::Heard { text, sent } => (
            format!(
                "heard {}{}",
                quoted(text),
                if *sent { "" } else { "; not sent to the application, which is speaking" }
            ),
            json!({ "event": "heard", "text": shown(text), "told": sent }),
        ),
        ConversationFact::Spoken(text) => {
            (format!("said {}", quoted(text)), json!({ "event": "said", "text": shown(text) }))
        }
        ConversationFact::Played(url) => {
            let url = without_credentials(url);
            (format!("played {url}"), json!({ "event": "played", "url": url }))
        }
        ConversationFact::Interrupted { by, after, heard } => (
            format!("interrupted by {by} after {} ms; the caller heard: {}", after.as_millis(), quoted(heard)),
            json!({ "event": "interrupted", "by": by, "after_ms": after.as_millis() as u64, "text": shown(heard) }),
        ),
        ConversationFact::Turn(turn) => (turn.to_string(), turn.json()),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;
    use tandem_call::stream::CallOver;

    use super::*;

    /// A call that only keeps its log.
    #[derive(Default)]
    struct TestCall(Mutex<Vec<Line>>);

    impl CallPort<ConversationUpdate> for TestCall {
        fn report(&self, _: ConversationUpdate) -> Result<(), CallOver> {
            Ok(())
        }

        fn log(&self, line: Line) {
            self.0.lock().push(line);
        }
    }

    fn heard(text: &str) -> ConversationFact {
        ConversationFact::Heard { text: text.to_owned(), sent: true }
    }

    #[test]
    fn the_log_of_a_conversation_has_its_words_unless_the_setting_forbids_it() {
        let cut = ConversationFact::Interrupted {
            by: "a key",
            after: Duration::from_millis(1_200),
            heard: "One, two".to_owned(),
        };
        assert_eq!(line(&heard("sales \"please\""), true).0, r#"heard "sales \"please\"""#);
        assert_eq!(line(&heard("sales"), false).0, "heard 5 characters");
        assert_eq!(line(&heard("sales"), false).1, json!({ "event": "heard", "text": null, "told": true }));
        assert_eq!(line(&cut, true).0, "interrupted by a key after 1200 ms; the caller heard: \"One, two\"");
        assert_eq!(line(&cut, false).0, "interrupted by a key after 1200 ms; the caller heard: 8 characters");
        let long = "word ".repeat(200);
        assert_eq!(line(&ConversationFact::Spoken(long), true).0.chars().count(), "said \"\"...".len() + LONGEST);
    }

    #[test]
    fn a_long_conversation_leaves_room_in_the_log_for_the_rest_of_its_call() {
        let call = TestCall::default();
        let live = LiveConversation::new("night".to_owned(), true);
        let mut log = ConversationLog::new(&call, LegId(1), ("VX1".to_owned(), "CA1".to_owned()), true, Arc::new(live));
        for number in 0..5_000 {
            log.note(&heard(&number.to_string()));
        }
        log.end(Totals::default());
        let lines = call.0.into_inner();
        assert_eq!(lines.len(), MAX_LINES as usize + 1);
        assert_eq!(lines[MAX_LINES as usize - 1].text, "the rest of this conversation is not logged, only counted");
        let last = &lines[MAX_LINES as usize];
        assert_eq!(last.text, "conversation VX1: 0 turns, 0 interruptions; 4401 lines were not logged");
        assert_eq!(last.data.as_ref().unwrap()["turns"], 0);
    }
}
