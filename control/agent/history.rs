//! The conversation in the form that the model receives. The conversation consists of the words of the caller, the
//! agent's words that the caller heard, and the tools that ran. This module is pure: it has no I/O and reads no clock.

use std::collections::VecDeque;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_call::conversation::{AgentMessage, MessageRole, Utterance};
use tandem_dialect::agent::{DialogueLine, LineKind};

use super::chat::ToolCall;

/// Maximum length of the text for the model, in octets. If the text is longer, the oldest turns are dropped.
const LONGEST: usize = 48 * 1024;
/// Maximum number of added messages that wait for the results of tool calls. Older messages are dropped.
const MAX_WAITING: usize = 100;

/// The entries of a conversation, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    /// Number of entries that were dropped from the front. Indices count from the first entry of the conversation, even
    /// if this entry was dropped.
    dropped: usize,
    /// The indices of the agent's entries that the caller has not heard completely, in ascending order.
    unheard: VecDeque<usize>,
    /// Number of entries, from the front, that [`Self::take_lines`] has already returned.
    reported: usize,
    /// Information that waits until each tool call has its result, because a model accepts nothing between them.
    waiting: Vec<Entry>,
    /// The times of `entries`, in the same order.
    stamps: VecDeque<Stamp>,
    /// The time of the next entry.
    pub(super) now: Timestamp,
    /// Time between the request to the model and the first text of the next entry of the agent.
    pub(super) latency: Option<Duration>,
}

/// The times of an entry.
#[derive(Clone, Copy, Debug, Default)]
struct Stamp {
    at: Timestamp,
    latency: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Entry {
    Caller(String),
    Agent {
        /// The text of the agent. Before an interruption, this is the complete text. After an interruption, this is
        /// only the part that the caller heard.
        text: String,
        /// Number of octets of `text` that the caller has heard.
        heard: usize,
        calls: Vec<ToolCall>,
    },
    Result {
        id: String,
        text: String,
    },
    /// Information for the model that is neither words of the dialogue nor a result of a tool.
    Note(String),
    /// A message that an application added. Nobody said it in the call.
    Added(AgentMessage),
}

impl History {
    /// Creates a history that continues an earlier dialogue.
    pub(super) fn new(lines: &[Utterance]) -> Self {
        let mut history = Self::default();
        for Utterance { by_agent, text } in lines {
            match by_agent {
                true => {
                    let entry = Entry::Agent { text: text.to_string(), heard: text.len(), calls: Vec::new() };
                    history.push(entry);
                }
                false => history.caller(text.to_string()),
            }
        }
        history.reported = history.entries.len();
        history
    }

    /// Adds words of the caller.
    pub(super) fn caller(&mut self, text: String) {
        self.push(Entry::Caller(text));
        self.trim();
    }

    /// Adds information for the model.
    pub(super) fn note(&mut self, text: String) {
        self.add_entry(Entry::Note(text));
    }

    /// Adds a message of an application.
    pub(super) fn add(&mut self, message: AgentMessage) {
        self.add_entry(Entry::Added(message));
    }

    fn add_entry(&mut self, entry: Entry) {
        if self.has_open_calls() {
            self.waiting.push(entry);
            while self.waiting.len() > MAX_WAITING || self.waiting.iter().map(Entry::octets).sum::<usize>() > LONGEST {
                self.waiting.remove(0);
            }
        } else {
            self.push(entry);
            self.trim();
        }
    }

    /// Whether a tool call of the agent's last answer has no result yet.
    fn has_open_calls(&self) -> bool {
        let mut results = 0;
        for entry in self.entries.iter().rev() {
            match entry {
                Entry::Result { .. } => results += 1,
                Entry::Agent { calls, .. } if !calls.is_empty() => return results < calls.len(),
                // Words that the agent says while a tool runs.
                Entry::Agent { .. } => {}
                _ => return false,
            }
        }
        false
    }

    /// Removes and returns the last entry, if this entry contains words of the caller.
    pub(super) fn take_back(&mut self) -> Option<String> {
        match self.entries.back() {
            Some(Entry::Caller(_)) => {
                self.stamps.pop_back();
                match self.entries.pop_back() {
                    Some(Entry::Caller(text)) => Some(text),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Adds a text of the agent, and the tool calls that belong to this text. `heard` is the number of octets of the
    /// text that the caller has already heard.
    pub(super) fn agent(&mut self, text: String, heard: usize, calls: Vec<ToolCall>) {
        if text.trim().is_empty() && calls.is_empty() {
            return;
        }
        if !is_heard(&text, heard) {
            self.unheard.push_back(self.dropped + self.entries.len());
        }
        self.push(Entry::Agent { text, heard, calls });
        self.latency = None;
    }

    fn knows_call(&self, id: &str) -> bool {
        let has = |entry: &Entry| matches!(entry, Entry::Agent { calls, .. } if calls.iter().any(|call| call.id == id));
        self.entries.iter().rev().any(has)
    }

    fn push(&mut self, entry: Entry) {
        let latency = self.latency.filter(|_| matches!(entry, Entry::Agent { .. }));
        self.stamps.push_back(Stamp { at: self.now, latency });
        self.entries.push_back(entry);
    }

    /// Replaces all entries by these messages.
    pub(super) fn replace(&mut self, messages: Vec<AgentMessage>) {
        self.dropped += self.entries.len();
        self.entries.clear();
        self.stamps.clear();
        self.unheard.clear();
        self.waiting.clear();
        messages.into_iter().for_each(|message| self.push(Entry::Added(message)));
        self.reported = self.entries.len();
        self.trim();
    }

    /// Returns the dialogue with its times, oldest line first.
    pub(super) fn dialogue(&self) -> Vec<DialogueLine> {
        let lines = self.entries.iter().zip(&self.stamps);
        lines
            .map(|(entry, stamp)| {
                let (kind, text) = match entry {
                    Entry::Caller(text) => (LineKind::Caller, text.clone()),
                    Entry::Agent { text, calls, .. } => {
                        (LineKind::Agent { latency: stamp.latency, calls: calls.clone() }, text.clone())
                    }
                    Entry::Result { id, text } => (LineKind::Tool { id: id.clone() }, text.clone()),
                    Entry::Note(text) => (LineKind::System, text.clone()),
                    Entry::Added(AgentMessage { role, text }) => {
                        let kind = match role {
                            MessageRole::System => LineKind::System,
                            MessageRole::User => LineKind::Caller,
                            MessageRole::Assistant => LineKind::Agent { latency: None, calls: Vec::new() },
                        };
                        (kind, text.to_string())
                    }
                };
                DialogueLine { at: stamp.at, kind, text }
            })
            .collect()
    }

    /// Adds the result of a tool call.
    pub(super) fn result(&mut self, id: String, text: String) {
        // After `replace`, the call is no longer known, and a model refuses a result without its call.
        if !self.knows_call(&id) {
            return;
        }
        self.push(Entry::Result { id, text });
        if !self.waiting.is_empty() && !self.has_open_calls() {
            std::mem::take(&mut self.waiting).into_iter().for_each(|entry| self.push(entry));
            self.trim();
        }
    }

    /// Marks this piece of the agent's text as heard. Returns `false` if no unheard entry contains the piece.
    pub(super) fn heard(&mut self, piece: &str) -> bool {
        let place = self.unheard.iter().position(|index| {
            let Some(Entry::Agent { text, heard, .. }) = self.entry(*index) else { return false };
            mark_heard(text, &mut heard.clone(), piece)
        });
        let Some(place) = place else { return false };
        self.unheard.drain(..place);
        let Some(index) = self.unheard.front().copied() else { return false };
        let Some(Entry::Agent { text, heard, .. }) = self.entry_mut(index) else { return false };
        mark_heard(text, heard, piece);
        if is_heard(text, *heard) {
            self.unheard.pop_front();
        }
        true
    }

    /// Handles an interruption by the caller: removes the text that the caller did not hear.
    pub(super) fn interrupted(&mut self) {
        for index in std::mem::take(&mut self.unheard) {
            let Some(Entry::Agent { text, heard, .. }) = self.entry_mut(index) else { continue };
            text.truncate(*heard);
            let end = text.trim_end().len();
            text.truncate(end);
            if !text.is_empty() {
                text.push_str(" — (interrupted by the caller)");
            }
        }
        let empty =
            |entry: &Entry| matches!(entry, Entry::Agent { text, calls, .. } if text.is_empty() && calls.is_empty());
        // The indices are no longer needed. The caller has heard all remaining text, and the rest was removed.
        let reported = self.entries.iter().take(self.reported).filter(|entry| !empty(entry)).count();
        self.reported = reported;
        let kept: Vec<bool> = self.entries.iter().map(|entry| !empty(entry)).collect();
        let mut keep = kept.iter();
        self.stamps.retain(|_| keep.next() != Some(&false));
        self.entries.retain(|entry| !empty(entry));
    }

    /// Marks all texts of the agent as completely heard.
    pub(super) fn all_heard(&mut self) {
        self.unheard.clear();
    }

    /// Returns the lines that the caller has heard since the previous call of this function. If `all` is true, the
    /// result also contains the lines that the caller is about to hear.
    pub(super) fn take_lines(&mut self, all: bool) -> Vec<Utterance> {
        let mut lines = Vec::new();
        while let Some(entry) = self.entries.get(self.reported) {
            let index = self.dropped + self.reported;
            match entry {
                Entry::Agent { .. } if !all && self.unheard.contains(&index) => break,
                entry => lines.extend(entry.line()),
            }
            self.reported += 1;
        }
        lines
    }

    /// Returns the messages of a chat request: first the prompt, then the entries.
    pub(super) fn messages(&self, prompt: &str) -> Vec<Value> {
        let mut messages = Vec::with_capacity(self.entries.len() + 1);
        if !prompt.is_empty() {
            messages.push(json!({ "role": "system", "content": prompt }));
        }
        messages.extend(self.entries.iter().map(|entry| match entry {
            Entry::Caller(text) => json!({ "role": "user", "content": text }),
            Entry::Agent { text, calls, .. } if calls.is_empty() => json!({ "role": "assistant", "content": text }),
            Entry::Agent { text, calls, .. } => {
                let calls: Vec<Value> = calls
                    .iter()
                    .map(|call| {
                        let function = json!({ "name": call.name, "arguments": arguments(call) });
                        json!({ "id": call.id, "type": "function", "function": function })
                    })
                    .collect();
                json!({ "role": "assistant", "content": text, "tool_calls": calls })
            }
            Entry::Result { id, text } => json!({ "role": "tool", "tool_call_id": id, "content": text }),
            Entry::Note(text) => json!({ "role": "system", "content": text }),
            Entry::Added(AgentMessage { role, text }) => {
                let role = match role {
                    MessageRole::System => "system",
                    MessageRole::User => "user",
                    MessageRole::Assistant => "assistant",
                };
                json!({ "role": role, "content": text })
            }
        }));
        messages
    }

    /// Returns the lines of the dialogue, for an agent that continues the dialogue.
    pub(super) fn lines(&self) -> Vec<Utterance> {
        self.entries.iter().filter_map(Entry::line).collect()
    }

    fn entry(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index.checked_sub(self.dropped)?)
    }

    fn entry_mut(&mut self, index: usize) -> Option<&mut Entry> {
        self.entries.get_mut(index.checked_sub(self.dropped)?)
    }

    /// Drops the oldest turns until the remaining text is short enough. The response and the tool calls of a turn are
    /// dropped together with the turn.
    fn trim(&mut self) {
        while self.entries.iter().map(Entry::octets).sum::<usize>() > LONGEST && self.entries.len() > 1 {
            loop {
                self.entries.pop_front();
                self.stamps.pop_front();
                self.dropped += 1;
                self.reported = self.reported.saturating_sub(1);
                if self.entries.front().is_none_or(|entry| matches!(entry, Entry::Caller(_))) {
                    break;
                }
            }
        }
        let dropped = self.dropped;
        self.unheard.retain(|index| *index >= dropped);
    }
}

/// Searches for `piece` in the unheard part of `text` and moves `heard` to the end of the piece. Returns `false` if the
/// piece is not found.
pub(super) fn mark_heard(text: &str, heard: &mut usize, piece: &str) -> bool {
    let piece = piece.trim();
    match text.get(*heard..).and_then(|rest| rest.find(piece)) {
        Some(at) => {
            *heard += at + piece.len();
            true
        }
        None => false,
    }
}

/// Whether the unheard part of the text is only white space.
fn is_heard(text: &str, heard: usize) -> bool {
    text.get(heard..).is_none_or(|rest| rest.trim().is_empty())
}

/// Returns the arguments of the tool call. Returns `{}` if the arguments are invalid JSON, because a model server
/// refuses invalid JSON.
fn arguments(call: &ToolCall) -> &str {
    if serde_json::from_str::<Value>(&call.arguments).is_ok() { &call.arguments } else { "{}" }
}

impl Entry {
    fn line(&self) -> Option<Utterance> {
        match self {
            Self::Caller(text) => Some(Utterance { by_agent: false, text: text.as_str().into() }),
            Self::Agent { text, .. } if !text.is_empty() => {
                Some(Utterance { by_agent: true, text: text.as_str().into() })
            }
            _ => None,
        }
    }

    fn octets(&self) -> usize {
        match self {
            Self::Caller(text) | Self::Result { text, .. } | Self::Note(text) => text.len(),
            Self::Added(message) => message.text.len(),
            Self::Agent { text, calls, .. } => {
                text.len() + calls.iter().map(|call| call.arguments.len()).sum::<usize>()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_shown(history: &mut History, all: bool) -> Vec<String> {
        let shown = |line: Utterance| format!("{}{}", if line.by_agent { "> " } else { "" }, line.text);
        history.take_lines(all).into_iter().map(shown).collect()
    }

    #[test]
    fn each_utterance_is_logged_once_after_the_caller_heard_it() {
        let before = Utterance { by_agent: true, text: "Earlier.".into() };
        let mut history = History::new(&[before]);
        history.caller("Hello.".to_owned());
        history.agent("Good day to you.".to_owned(), 0, Vec::new());
        assert_eq!(take_shown(&mut history, false), ["Hello."]);
        assert!(history.heard("Good day"));
        history.interrupted();
        assert_eq!(take_shown(&mut history, false), ["> Good day — (interrupted by the caller)"]);
        history.caller("Stop.".to_owned());
        history.agent("Bye.".to_owned(), 0, Vec::new());
        assert_eq!(take_shown(&mut history, true), ["Stop.", "> Bye."]);
        assert!(take_shown(&mut history, true).is_empty());
    }

    #[test]
    fn an_unheard_answer_is_not_logged() {
        let mut history = History::default();
        history.agent("Never heard.".to_owned(), 0, Vec::new());
        history.caller("One.".to_owned());
        assert!(take_shown(&mut history, false).is_empty());
        history.interrupted();
        assert_eq!(take_shown(&mut history, false), ["One."]);
    }

    fn contents(history: &History) -> Vec<String> {
        let text = |message: &Value| {
            format!("{}: {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap())
        };
        history.messages("").iter().map(text).collect()
    }

    #[test]
    fn the_history_has_only_the_text_that_the_caller_heard() {
        let mut history = History::default();
        history.caller("hours?".into());
        history.agent("We open at nine. We close at five.".into(), 0, vec![]);
        history.agent("Anything else?".into(), 0, vec![]);
        history.heard("We open at nine.");
        history.heard("One moment.");
        history.heard("We close");
        history.interrupted();
        assert_eq!(
            contents(&history),
            ["user: hours?", "assistant: We open at nine. We close — (interrupted by the caller)"]
        );
        history.caller("On Sunday?".into());
        history.agent("No.".into(), 0, vec![]);
        history.heard("No.");
        history.interrupted();
        assert_eq!(contents(&history).last().unwrap(), "assistant: No.");
    }

    #[test]
    fn a_tool_call_stays_in_the_history_with_its_result_after_an_interruption() {
        let mut history = History::default();
        let call = ToolCall { id: "1".into(), name: "order".into(), arguments: "{broken".into() };
        history.agent("One moment.".into(), 0, vec![call]);
        history.result("1".into(), "{\"ok\":true}".into());
        history.interrupted();
        let messages = history.messages("You are.");
        assert_eq!(messages[0]["role"], "system");
        assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"], "{}");
        assert_eq!(messages[2], json!({ "role": "tool", "tool_call_id": "1", "content": "{\"ok\":true}" }));
    }

    #[test]
    fn a_long_history_drops_its_oldest_turns_as_a_whole() {
        let mut history = History::default();
        for turn in 0..100 {
            history.caller(format!("{turn} {}", "x".repeat(1_000)));
            history.agent("y".repeat(1_000), 0, vec![]);
        }
        let messages = history.messages("");
        assert!(messages.len() < 60 && messages[0]["role"] == "user");
        history.heard(&"y".repeat(1_000));
        history.interrupted();
    }
}
