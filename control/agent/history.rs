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
/// Maximum length of a message of an application, in octets. The rest of a longer message is dropped.
const LONGEST_ADDED: usize = 16 * 1024;
/// The length that each entry counts in addition to its text, in octets. So the number of empty entries is limited too.
const ENTRY: usize = 32;
/// The mark behind words that the caller interrupted.
pub(super) const INTERRUPTED: &str = " — (interrupted by the caller)";

/// The name of the author of a message in the requests to a model.
pub(super) fn role_name(role: MessageRole) -> &'static str {
    match role {
        MessageRole::System => "system",
        MessageRole::User => "user",
        MessageRole::Assistant => "assistant",
    }
}

/// The entries of a conversation, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    /// Number of entries that were dropped from the front. Indices count from the first entry of the conversation, even
    /// if this entry was dropped.
    dropped: usize,
    /// The indices of the agent's entries that the caller has not heard completely, in ascending order.
    unheard: VecDeque<usize>,
    /// The entries with a smaller index are withdrawn: the agent does not say the rest of their text.
    withdrawn: usize,
    /// Number of entries, from the front, that [`Self::take_lines`] has already returned.
    reported: usize,
    /// The lines before the last [`Self::replace`], for the report after the end. They are as long as `entries` at most.
    replaced: VecDeque<DialogueLine>,
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
        /// The text that replaces the tool call and its result, if there is one.
        instead: Option<Instead>,
    },
    /// Information for the model that is neither words of the dialogue nor a result of a tool.
    Note(String),
    /// A message that an application added. Nobody said it in the call.
    Added(AgentMessage),
}

/// The replacement of a tool call and its result in the requests to the model.
#[derive(Clone, Debug)]
struct Instead {
    /// The words of the agent that replace them. `None` removes them.
    text: Option<String>,
    /// Whether the model has answered the result. The replacement counts from then on.
    is_answered: bool,
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
        self.push(Entry::Note(text));
        self.trim();
    }

    /// Adds a message of an application. Returns `false` if the end of the message was dropped, because it is too long.
    pub(super) fn add(&mut self, mut message: AgentMessage) -> bool {
        let is_whole = limit(&mut message);
        self.push(Entry::Added(message));
        self.trim();
        is_whole
    }

    /// Removes and returns the last entry, if this entry contains words of the caller.
    pub(super) fn take_back(&mut self) -> Option<String> {
        match self.entries.back() {
            Some(Entry::Caller(_)) => {
                self.stamps.pop_back();
                self.reported = self.reported.min(self.entries.len() - 1);
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
            self.latency = None;
            return;
        }
        if !is_heard(&text, heard) {
            self.unheard.push_back(self.dropped + self.entries.len());
        }
        self.push(Entry::Agent { text, heard, calls });
        self.latency = None;
    }

    fn push(&mut self, entry: Entry) {
        let latency = self.latency.filter(|_| matches!(entry, Entry::Agent { .. }));
        self.stamps.push_back(Stamp { at: self.now, latency });
        self.entries.push_back(entry);
    }

    /// Replaces all entries by these messages. The model does not see the replaced entries any more; the report does.
    pub(super) fn replace(&mut self, messages: Vec<AgentMessage>) {
        self.replaced = self.dialogue().into();
        let mut octets: usize = self.replaced.iter().map(octets_of).sum();
        while octets > LONGEST {
            octets -= self.replaced.pop_front().as_ref().map_or(octets, octets_of);
        }
        self.dropped += self.entries.len();
        self.entries.clear();
        self.stamps.clear();
        self.unheard.clear();
        for mut message in messages {
            limit(&mut message);
            self.push(Entry::Added(message));
        }
        self.reported = self.entries.len();
        self.trim();
    }

    /// Returns the dialogue with its times, oldest line first.
    pub(super) fn dialogue(&self) -> Vec<DialogueLine> {
        let lines = self.entries.iter().zip(&self.stamps);
        let lines = lines.map(|(entry, stamp)| {
            let (kind, text) = match entry {
                Entry::Caller(text) => (LineKind::Caller, text.clone()),
                Entry::Agent { text, calls, .. } => {
                    (LineKind::Agent { latency: stamp.latency, calls: calls.clone() }, text.clone())
                }
                Entry::Result { id, text, .. } => (LineKind::Tool { id: id.clone() }, text.clone()),
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
        });
        self.replaced.iter().cloned().chain(lines).collect()
    }

    /// Adds the result of a tool call.
    pub(super) fn result(&mut self, id: String, text: String) {
        self.push(Entry::Result { id, text, instead: None });
        self.trim();
    }

    /// Lets this text of the agent replace the last tool call with this id and its result, after the model has answered the
    /// result. `None` removes both.
    pub(super) fn replace_call(&mut self, of: &str, text: Option<String>) {
        let last = self.entries.iter_mut().rev().find_map(|entry| match entry {
            Entry::Result { id, instead, .. } if id == of => Some(instead),
            _ => None,
        });
        if let Some(instead) = last {
            *instead = Some(Instead { text, is_answered: false });
        }
    }

    /// Handles an answer of the model to all results so far.
    pub(super) fn results_answered(&mut self) {
        for entry in &mut self.entries {
            if let Entry::Result { instead: Some(instead), .. } = entry {
                instead.is_answered = true;
            }
        }
    }

    /// Marks this piece of the agent's text as heard. Returns `false` if no unheard entry contains the piece.
    pub(super) fn heard(&mut self, piece: &str) -> bool {
        let place = self.unheard.iter().position(|index| {
            let Some(Entry::Agent { text, heard, .. }) = self.entry(*index) else { return false };
            mark_heard(text, &mut heard.clone(), piece)
        });
        let Some(place) = place else { return false };
        // The caller has heard the texts before this one, except those that were withdrawn.
        let before: Vec<usize> = self.unheard.drain(..place).collect();
        let withdrawn = self.withdrawn;
        before.into_iter().filter(|index| *index < withdrawn).for_each(|index| self.cut(index, ""));
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
            self.cut(index, INTERRUPTED);
        }
        self.drop_empty();
    }

    /// Handles the withdrawal of the text that does not play yet. The agent says no further text of the entries so far.
    pub(super) fn withdraw(&mut self) {
        self.withdrawn = self.dropped + self.entries.len();
    }

    /// Handles the end of the agent's speech: the caller has heard all texts of the agent, except those that were withdrawn.
    pub(super) fn all_heard(&mut self) {
        let withdrawn = self.withdrawn;
        for index in std::mem::take(&mut self.unheard).into_iter().filter(|index| *index < withdrawn) {
            self.cut(index, "");
        }
        self.drop_empty();
    }

    /// Removes the text of an entry that the caller did not hear. `mark` follows the rest.
    fn cut(&mut self, index: usize, mark: &str) {
        let Some(Entry::Agent { text, heard, .. }) = self.entry_mut(index) else { return };
        text.truncate(*heard);
        let end = text.trim_end().len();
        text.truncate(end);
        if !text.is_empty() {
            text.push_str(mark);
        }
    }

    /// Drops the entries of the agent that have no text any more. This changes the indices, so no entry may be unheard.
    fn drop_empty(&mut self) {
        let empty =
            |entry: &Entry| matches!(entry, Entry::Agent { text, calls, .. } if text.is_empty() && calls.is_empty());
        self.reported = self.entries.iter().take(self.reported).filter(|entry| !empty(entry)).count();
        let kept: Vec<bool> = self.entries.iter().map(|entry| !empty(entry)).collect();
        let mut keep = kept.iter();
        self.stamps.retain(|_| keep.next() != Some(&false));
        self.entries.retain(|entry| !empty(entry));
        self.withdrawn = 0;
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

    /// Returns the messages of a chat request: first the prompt, then the entries. The result of a tool call follows its call
    /// directly, because a model accepts nothing between them.
    pub(super) fn messages(&self, prompt: &str) -> Vec<Value> {
        let mut messages = Vec::with_capacity(self.entries.len() + 1);
        if !prompt.is_empty() {
            messages.push(json!({ "role": "system", "content": prompt }));
        }
        for (index, entry) in self.entries.iter().enumerate() {
            let message = match entry {
                Entry::Caller(text) => json!({ "role": "user", "content": text }),
                Entry::Agent { text, calls, .. } => {
                    self.push_answer(index, text, calls, &mut messages);
                    continue;
                }
                // The result is behind its call. Without the call, a model refuses the result.
                Entry::Result { .. } => continue,
                Entry::Note(text) => json!({ "role": "system", "content": text }),
                Entry::Added(AgentMessage { role, text }) => json!({ "role": role_name(*role), "content": text }),
            };
            messages.push(message);
        }
        messages
    }

    /// Adds the messages of an answer of the agent, which is the entry with this index: its text, its tool calls, and their
    /// results.
    fn push_answer(&self, index: usize, text: &str, calls: &[ToolCall], messages: &mut Vec<Value>) {
        let (mut shown, mut after) = (Vec::new(), Vec::new());
        for call in calls {
            let (result, instead) = match self.result_of(index, &call.id) {
                Some((text, instead)) => (text, instead.filter(|instead| instead.is_answered)),
                None => (r#"{"error":"no result"}"#, None),
            };
            match instead {
                Some(instead) => {
                    after.extend(instead.text.iter().map(|text| json!({ "role": "assistant", "content": text })));
                }
                None => {
                    let function = json!({ "name": call.name, "arguments": arguments(call) });
                    shown.push(json!({ "id": call.id, "type": "function", "function": function }));
                    after.push(json!({ "role": "tool", "tool_call_id": call.id, "content": result }));
                }
            }
        }
        // The results come first, directly behind the calls.
        after.sort_by_key(|message| message.get("tool_call_id").is_none());
        match (shown.is_empty(), text.is_empty()) {
            (false, _) => messages.push(json!({ "role": "assistant", "content": text, "tool_calls": shown })),
            (true, false) => messages.push(json!({ "role": "assistant", "content": text })),
            (true, true) => {}
        }
        messages.append(&mut after);
    }

    /// Returns the result of a tool call of the entry with this index. Another call may have the same id later.
    fn result_of(&self, index: usize, of: &str) -> Option<(&str, Option<&Instead>)> {
        let same =
            |entry: &&Entry| matches!(entry, Entry::Agent { calls, .. } if calls.iter().any(|call| call.id == of));
        self.entries.iter().skip(index + 1).take_while(|entry| !same(entry)).find_map(|entry| match entry {
            Entry::Result { id, text, instead } if id == of => Some((text.as_str(), instead.as_ref())),
            _ => None,
        })
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
    /// dropped together with the turn. The last entry stays.
    fn trim(&mut self) {
        let mut octets: usize = self.entries.iter().map(Entry::octets).sum();
        while octets > LONGEST && self.entries.len() > 1 {
            loop {
                octets -= self.entries.pop_front().map_or(0, |entry| entry.octets());
                self.stamps.pop_front();
                self.dropped += 1;
                self.reported = self.reported.saturating_sub(1);
                let front = self.entries.front();
                if self.entries.len() <= 1
                    || front.is_none_or(|entry| !matches!(entry, Entry::Agent { .. } | Entry::Result { .. }))
                {
                    break;
                }
            }
        }
        let dropped = self.dropped;
        self.unheard.retain(|index| *index >= dropped);
    }
}

/// The size of a line of a report, in octets.
fn octets_of(line: &DialogueLine) -> usize {
    let calls = match &line.kind {
        LineKind::Agent { calls, .. } => calls.iter().map(|call| call.name.len() + call.arguments.len()).sum(),
        LineKind::Caller | LineKind::Tool { .. } | LineKind::System => 0,
    };
    ENTRY + line.text.len() + calls
}

/// Limits the length of a message of an application. Returns whether the message is whole.
pub(super) fn limit(message: &mut AgentMessage) -> bool {
    let is_whole = message.text.len() <= LONGEST_ADDED;
    if !is_whole {
        let end = message.text.floor_char_boundary(LONGEST_ADDED);
        message.text = message.text.get(..end).unwrap_or_default().into();
    }
    is_whole
}

/// The note that a message of an application was too long.
pub(super) fn too_long() -> String {
    format!("a message for the model has more than {LONGEST_ADDED} octets: the rest is dropped")
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
        let of_call = |call: &ToolCall| call.id.len() + call.name.len() + call.arguments.len() + ENTRY;
        ENTRY
            + match self {
                Self::Caller(text) | Self::Note(text) => text.len(),
                Self::Result { id, text, .. } => id.len() + text.len(),
                Self::Added(message) => message.text.len(),
                Self::Agent { text, calls, .. } => text.len() + calls.iter().map(of_call).sum::<usize>(),
            }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
