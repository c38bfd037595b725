//! A party of a tested call: a phone that executes its steps on the virtual clock.

use std::collections::BTreeSet;
use std::time::Duration;

use tandem_id::{LegId, OpId};

use super::expectation::{Action, Step, What};
use super::log::{Entry, Fact};
use crate::call::conversation::is_tone;
use crate::call::steps::{Sound, plain_words};

/// The caller, or a party that the application called.
pub(super) struct Party {
    pub(super) leg: LegId,
    /// The name in the log.
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
    /// The index of the step that runs.
    pub(super) next: usize,
    /// Time at which the previous step ended.
    pub(super) since: Duration,
    /// Time at which the digits or the words of the running step end.
    pub(super) busy_until: Option<Duration>,
    pub(super) answered: bool,
    /// Whether the party is an answering machine.
    pub(super) machine: bool,
    /// Whether the call with this party has ended.
    pub(super) over: bool,
    /// Whether the other side ended the call with this party.
    pub(super) hung_up_on: bool,
    /// The playbacks that the party hears.
    pub(super) playing: BTreeSet<OpId>,
    /// Time since which the party hears nothing.
    pub(super) silent_since: Duration,
    /// The party with which this party talks.
    pub(super) bridged: Option<LegId>,
    /// All words that the party has heard, in the spelling of [`plain_words`].
    pub(super) words: Vec<String>,
    /// The speech recognitions that listen to the party.
    pub(super) recognitions: BTreeSet<OpId>,
    /// Time until which the party speaks, or spoke last.
    pub(super) spoke_until: Duration,
    /// The number of entries of the log, and of words, when the party pressed digits or spoke last. Expectations look at
    /// later entries only.
    mark: (usize, usize),
    /// For each kind of expectation, the number of entries that earlier expectations of this kind have used.
    used: Vec<(u8, usize)>,
}

impl Party {
    pub(super) fn new(leg: LegId, name: String, steps: Vec<Step>, now: Duration) -> Self {
        Self {
            leg,
            name,
            steps,
            next: 0,
            since: now,
            busy_until: None,
            answered: false,
            machine: false,
            over: false,
            hung_up_on: false,
            playing: BTreeSet::new(),
            silent_since: now,
            bridged: None,
            words: Vec::new(),
            recognitions: BTreeSet::new(),
            spoke_until: Duration::ZERO,
            mark: (0, 0),
            used: Vec::new(),
        }
    }

    pub(super) fn step(&self) -> Option<&Step> {
        self.steps.get(self.next)
    }

    /// Ends the running step.
    pub(super) fn step_done(&mut self, now: Duration) {
        self.next += 1;
        (self.since, self.busy_until) = (now, None);
    }

    /// Notes that the party acts now. Later expectations do not look at earlier entries of the log.
    pub(super) fn acts(&mut self, log: &[Entry]) {
        self.mark = (log.len(), self.words.len());
    }

    /// Returns whether the party hears nothing.
    pub(super) fn is_silent(&self) -> bool {
        self.playing.is_empty() && self.bridged.is_none()
    }

    /// Ends a playback. Returns whether it ran.
    pub(super) fn ends_playing(&mut self, op: OpId, now: Duration) -> bool {
        let ran = self.playing.remove(&op);
        if ran && self.playing.is_empty() {
            self.silent_since = now;
        }
        ran
    }

    /// Returns whether an expectation is met. Its entries of the log then count as used.
    pub(super) fn meets(&mut self, what: &What, log: &[Entry], now: Duration) -> bool {
        let leg = self.leg;
        match what {
            What::Sound(Sound::Silence(time)) => self.is_silent() && now >= self.silent_since + *time,
            What::Sound(Sound::Hangup) => self.hung_up_on,
            // The stage knows the problems.
            What::Sound(Sound::Problem(_)) => false,
            What::Sound(Sound::Words(words)) => self.hears(words),
            What::Sound(Sound::Speech) => self.finds(0, log, |fact| *fact == Fact::Speech(leg)),
            What::Sound(Sound::Tone(hertz)) => self.finds(
                1,
                log,
                |fact| matches!(fact, Fact::Tone(of, found) if *of == leg && is_tone(*found, *hertz)),
            ),
            What::Sound(Sound::Digits(digits)) => {
                self.finds(2, log, |fact| matches!(fact, Fact::Keys(of, keys) if *of == leg && keys.contains(digits)))
            }
            What::Action(action, part) => self.finds(10 + *action as u8, log, |fact| match fact {
                Fact::Action(found, names) => {
                    found == action && (part.is_empty() || names.iter().any(|name| fits(*action, name, part)))
                }
                _ => false,
            }),
            What::End(status) => self.finds(3, log, |fact| matches!(fact, Fact::End(found) if found == status)),
        }
    }

    /// Searches a fact after the last action of the party and after the facts that this kind of expectation has used.
    fn finds(&mut self, kind: u8, log: &[Entry], is: impl Fn(&Fact) -> bool) -> bool {
        // An end is the last entry about a call and does not depend on the time of the steps.
        let mark = if kind == 3 { 0 } else { self.mark.0 };
        let used = self.used.iter().find(|(of, _)| *of == kind).map_or(0, |(_, used)| *used);
        let from = mark.max(used);
        let Some(place) = log.iter().skip(from).position(|entry| is(&entry.fact)) else { return false };
        self.used.retain(|(of, _)| *of != kind);
        self.used.push((kind, from + place + 1));
        true
    }

    /// Searches words among the words that were heard. The words count as used if they are found.
    fn hears(&mut self, words: &str) -> bool {
        let wanted: Vec<&str> = words.split(' ').collect();
        let heard = self.words.get(self.mark.1..).unwrap_or_default();
        let Some(place) = heard.windows(wanted.len()).position(|some| some.iter().eq(wanted.iter())) else {
            return false;
        };
        self.mark.1 += place + wanted.len();
        true
    }

    /// Adds words that the party has heard to their end.
    pub(super) fn heard(&mut self, text: &str) {
        self.words.extend(plain_words(text).split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
    }

    /// Returns the text of the words since the last action, for the message of a failed step.
    pub(super) fn latest_words(&self) -> String {
        self.words.get(self.mark.1..).unwrap_or_default().join(" ")
    }
}

/// Returns whether a name of an action has the expected part. Addresses and statuses must be equal, URLs contain the part.
fn fits(action: Action, name: &str, part: &str) -> bool {
    match action {
        Action::Dial | Action::Bridge | Action::Queue | Action::Conference => name == part,
        Action::Plays | Action::Request | Action::Stream | Action::Record => name.contains(part),
        Action::Status => name == part || name.contains('/') && name.contains(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fact: Fact) -> Entry {
        Entry { at: Duration::ZERO, party: String::new(), text: String::new(), fact }
    }

    #[test]
    fn an_expectation_uses_what_it_has_found_and_forgets_what_was_before_the_last_action() {
        let mut party = Party::new(LegId(1), "caller".into(), Vec::new(), Duration::ZERO);
        let speech = What::Sound(Sound::Speech);
        let dial = |to: &str| What::Action(Action::Dial, to.to_owned());
        let mut log = vec![entry(Fact::Speech(LegId(1))), entry(Fact::Action(Action::Dial, vec!["+1".into()]))];
        assert!(party.meets(&speech, &log, Duration::ZERO) && !party.meets(&speech, &log, Duration::ZERO));
        assert!(!party.meets(&dial("+2"), &log, Duration::ZERO) && party.meets(&dial("+1"), &log, Duration::ZERO));
        log.push(entry(Fact::Speech(LegId(1))));
        party.acts(&log);
        assert!(!party.meets(&speech, &log, Duration::ZERO));
    }

    #[test]
    fn words_may_span_sentences_and_are_found_in_their_order() {
        let mut party = Party::new(LegId(1), "caller".into(), Vec::new(), Duration::ZERO);
        party.heard("Welcome to Acme.");
        party.heard("Press one, or two.");
        let words = |text: &str| What::Sound(Sound::Words(plain_words(text)));
        assert!(party.meets(&words("acme press one"), &[], Duration::ZERO));
        assert!(!party.meets(&words("welcome"), &[], Duration::ZERO));
        assert!(party.meets(&words("or two"), &[], Duration::ZERO));
    }

    #[test]
    fn silence_begins_at_the_end_of_the_last_sound() {
        let mut party = Party::new(LegId(1), "caller".into(), Vec::new(), Duration::ZERO);
        let silence = What::Sound(Sound::Silence(Duration::from_secs(1)));
        party.playing.insert(OpId(1));
        assert!(!party.meets(&silence, &[], Duration::from_secs(9)));
        assert!(party.ends_playing(OpId(1), Duration::from_secs(9)) && !party.ends_playing(OpId(1), Duration::ZERO));
        assert!(!party.meets(&silence, &[], Duration::from_millis(9900)));
        assert!(party.meets(&silence, &[], Duration::from_secs(10)));
    }
}
