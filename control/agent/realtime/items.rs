//! The audio of a realtime model: the items that play, the part that the caller has heard, and the interruptions by the caller.

use std::time::{Duration, Instant};

use super::super::chat::LONGEST_TEXT;
use super::super::history;
use super::{Dialogue, RealtimeOutput, wire};

/// Maximum number of items that wait for the end of their playout.
const MAX_ITEMS: usize = 64;
/// Maximum length of the id of an item, in octets.
const LONGEST_ID: usize = 256;
/// Maximum number of interrupted items that the agent remembers. The model may still send audio of these items. The
/// agent forgets the oldest items first.
const MAX_INTERRUPTED_ITEMS: usize = 64;

/// An item of the model's speech, and the part of the item's audio that was given to playout.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    /// Position of the item's first octet. The position counts the octets of all audio that was given to playout.
    pub(super) from: u64,
    pub(super) octets: u64,
    pub(super) text: String,
}

impl Dialogue {
    /// Updates the amount of audio that waits for playout.
    pub(super) fn set_queued(&mut self, now: Instant, queued: Duration) {
        self.queued = self.octets(queued);
        self.heard_at = (self.queued > 0).then(|| now + queued);
    }

    pub(super) fn audio(&mut self, now: Instant, id: String, octets: Vec<u8>) {
        if self.interrupted_items.contains(&id) {
            return;
        }
        (self.answer_due, self.silence, self.spoke) = (None, None, true);
        let length = octets.len() as u64;
        if self.has_too_many_items(&id) {
            return;
        }
        match self.items.iter_mut().find(|item| item.id == id) {
            Some(item) => item.octets += length,
            None => self.items.push_back(Item { id, from: self.played_octets, octets: length, text: String::new() }),
        }
        self.played_octets += length;
        self.queued += length;
        self.heard_at = Some(now + self.span(self.queued));
        self.outputs.push_back(RealtimeOutput::Play(octets.into()));
    }

    /// Takes the transcript of an item. The transcript arrives before the audio of the item.
    pub(super) fn words(&mut self, id: String, text: &str, is_whole: bool) {
        if self.interrupted_items.contains(&id) {
            return;
        }
        if self.has_too_many_items(&id) {
            return;
        }
        let known = self.items.iter().find(|item| item.id == id).filter(|_| !is_whole);
        if known.map_or(0, |item| item.text.len()) + text.len() > LONGEST_TEXT {
            return self.too_much(&format!("the text of the model's answer has more than {LONGEST_TEXT} octets"));
        }
        match self.items.iter_mut().find(|item| item.id == id) {
            Some(item) if is_whole => item.text = text.to_owned(),
            Some(item) => item.text.push_str(text),
            None => self.items.push_back(Item { id, from: self.played_octets, octets: 0, text: text.to_owned() }),
        }
    }

    fn has_too_many_items(&mut self, id: &str) -> bool {
        let is_new = !self.items.iter().any(|item| item.id == id);
        let is_too_many = is_new && (self.items.len() >= MAX_ITEMS || id.len() > LONGEST_ID);
        if is_too_many {
            self.too_much("the model sends too many items at once, or items with long ids");
        }
        is_too_many
    }

    /// Ends the playout of the waiting audio. The record of the dialogue gets only the words that the caller has heard.
    pub(super) fn interrupt(&mut self) {
        let heard = self.played_octets.saturating_sub(self.queued);
        let plays = self.queued > 0;
        for item in std::mem::take(&mut self.items) {
            let part = heard.saturating_sub(item.from).min(item.octets);
            if part == item.octets && !self.is_answering {
                if !item.text.is_empty() {
                    self.line(true, item.text);
                }
                continue;
            }
            self.outputs.push_back(RealtimeOutput::Send(wire::truncate(&item.id, part / self.format.octets())));
            let characters = item.text.chars().count() as u64 * part / item.octets.max(1);
            let text: String = item.text.chars().take(usize::try_from(characters).unwrap_or(usize::MAX)).collect();
            if !text.trim().is_empty() {
                self.line(true, format!("{}{}", text.trim_end(), history::INTERRUPTED));
            }
            if self.interrupted_items.len() == MAX_INTERRUPTED_ITEMS {
                self.interrupted_items.pop_front();
            }
            self.interrupted_items.push_back(item.id);
        }
        if plays {
            (self.played_octets, self.queued, self.heard_at) = (heard, 0, None);
            self.outputs.push_back(RealtimeOutput::Clear);
            self.outputs.push_back(RealtimeOutput::Interrupted);
        }
        if self.in_doubt.take().is_some() {
            self.outputs.push_back(RealtimeOutput::Pause(false));
        }
    }

    /// Adds the completely played items to the lines of the dialogue.
    pub(super) fn all_heard(&mut self) {
        if self.queued == 0 && !self.is_answering {
            for item in std::mem::take(&mut self.items) {
                if !item.text.is_empty() {
                    self.line(true, item.text);
                }
            }
        }
    }

    fn octets(&self, length: Duration) -> u64 {
        u64::try_from(length.as_micros()).unwrap_or(u64::MAX) * self.format.octets() / 1_000
    }

    fn span(&self, octets: u64) -> Duration {
        Duration::from_micros(octets * 1_000 / self.format.octets())
    }
}
