//! Decides by level whether a participant is audible, whether the participant speaks, and which participant is the
//! active speaker. Loud frames are also tested for speech. A level is the mean magnitude of a frame of 16-bit samples.

/// The level at which a frame is always mixed: about -52 dBFS.
const ALWAYS_MIXED_LEVEL: f32 = 80.0;
/// The lowest level at which a frame can open the gate: about -69 dBFS, the idle noise of a G.711 line.
const NEVER_MIXED_LEVEL: f32 = 12.0;
/// The factor between the background and the level at which the gate opens. The gate opens if a frame is 8 dB louder
/// than the background.
const ABOVE: f32 = 2.5;
/// The number of frames for which the gate stays open after a loud frame. They last 300 ms, so that the ends of words
/// are not cut off.
const OPEN: u8 = 15;
/// The factor by which the background estimate rises in each frame. The estimate rises by 4.3 dB a second. Speech has
/// frequent pauses, so the estimate does not rise to the level of speech.
const RISE: f32 = 1.01;
/// The lowest ratio of speech to the participant's background. The value is 9.5 dB. Speech must also have at least -52
/// dBFS. A frame above -27 dBFS is loud enough for speech, whatever the background is.
const SPEECH_RATIO: f32 = 3.0;
const SPEECH_LEVEL: f32 = 1_500.0;
/// The number of successive speech frames after which a participant counts as speaking. They last 60 ms, which is
/// longer than a knock.
const SPEECH_START_FRAMES: u8 = 3;
/// The number of successive frames without speech after which a participant no longer counts as speaking. They last 600
/// ms, which is the length of a pause between two sentences.
const SPEECH_END_FRAMES: u8 = 30;
/// The weight of the newest frame in the smoothed level. The smoothed level decides the active speaker. With this
/// weight, the time constant is about 150 ms.
const SMOOTH: f32 = 0.13;

/// The state of one participant's voice.
#[derive(Debug)]
pub(super) struct Voice {
    background: f32,
    level: f32,
    open: u8,
    begun: u8,
    speaks: u8,
    /// The number of frames for which the speech test continues.
    loud: u8,
}

impl Voice {
    pub(super) fn new() -> Voice {
        Voice { background: ALWAYS_MIXED_LEVEL, level: 0.0, open: 0, begun: 0, speaks: 0, loud: 0 }
    }

    /// Handles the level of a frame. `detect` tests the frame for speech. The function calls `detect` while the level
    /// is high enough, and for 300 ms afterwards.
    pub(super) fn handle(&mut self, level: f32, detect: impl FnOnce() -> bool) {
        self.background = (self.background * RISE).min(level).clamp(1.0, SPEECH_LEVEL);
        let heard = (self.background * ABOVE).clamp(NEVER_MIXED_LEVEL, ALWAYS_MIXED_LEVEL);
        self.open = if level >= heard { OPEN } else { self.open.saturating_sub(1) };
        let speech = (self.background * SPEECH_RATIO).clamp(ALWAYS_MIXED_LEVEL, SPEECH_LEVEL);
        self.loud = if level >= speech { OPEN } else { self.loud.saturating_sub(1) };
        let speech = self.loud > 0 && detect() && level >= speech;
        self.begun = if speech { self.begun.saturating_add(1) } else { 0 };
        self.speaks = if self.begun >= SPEECH_START_FRAMES { SPEECH_END_FRAMES } else { self.speaks.saturating_sub(1) };
        self.level += SMOOTH * (level - self.level);
    }

    /// Handles a missing frame, or a frame that the participant is not allowed to send. The gate closes.
    pub(super) fn handle_nothing(&mut self) {
        self.open = 0;
        self.begun = 0;
        self.loud = 0;
        self.speaks = self.speaks.saturating_sub(1);
        self.level -= SMOOTH * self.level;
    }

    /// Handles a frame of a participant that no other participant may hear. The participant no longer counts as speaking.
    pub(super) fn silence(&mut self) {
        self.speaks = 0;
        self.handle_nothing();
    }

    /// Whether the gate is open, so that the audio is mixed.
    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    pub(super) fn speaks(&self) -> bool {
        self.speaks > 0
    }

    /// The smoothed level of the participant.
    pub(super) fn level(&self) -> f32 {
        self.level
    }
}

/// The lowest number of frames between two changes of the active speaker. They last 300 ms.
const CHANGE: u16 = 15;
/// The number of frames after which a louder participant replaces the active speaker. They last 200 ms. The participant
/// must be louder than the active speaker in all these frames.
const CHALLENGE: u8 = 10;
/// The ratio by which a participant must be louder than the active speaker. The value is 3.5 dB.
const LOUDER: f32 = 1.5;
/// The number of frames without speech after which no participant is the active speaker. They last 2 s.
const NO_SPEAKER_FRAMES: u16 = 100;

/// Selects the active speaker.
#[derive(Debug, Default)]
pub(super) struct ActiveSpeakerSelector {
    active_speaker: Option<usize>,
    /// The number of frames since the active speaker last changed.
    since: u16,
    challenger: Option<usize>,
    challenges: u8,
    quiet: u16,
}

impl ActiveSpeakerSelector {
    /// Handles a frame. `speaking` lists the participants that are speaking now, with their levels. Returns true if the
    /// active speaker changed.
    pub(super) fn handle(&mut self, speaking: impl Iterator<Item = (usize, f32)>) -> bool {
        self.since = self.since.saturating_add(1);
        let (mut loudest, mut leading) = (None::<(usize, f32)>, None);
        for (participant, level) in speaking {
            if Some(participant) == self.active_speaker {
                leading = Some(level);
            }
            if loudest.is_none_or(|(_, highest)| level > highest) {
                loudest = Some((participant, level));
            }
        }
        let Some((loudest, level)) = loudest else {
            self.quiet = self.quiet.saturating_add(1);
            self.challenges = 0;
            return self.quiet >= NO_SPEAKER_FRAMES && self.active_speaker.is_some() && self.change(None);
        };
        self.quiet = 0;
        match leading {
            // The active speaker is no longer speaking. The loudest participant becomes the active speaker at once.
            None => self.since >= CHANGE && self.change(Some(loudest)),
            Some(leading) if Some(loudest) == self.active_speaker || level < leading * LOUDER => {
                self.challenges = 0;
                false
            }
            Some(_) => {
                self.challenges = if self.challenger == Some(loudest) { self.challenges.saturating_add(1) } else { 1 };
                self.challenger = Some(loudest);
                self.challenges >= CHALLENGE && self.since >= CHANGE && self.change(Some(loudest))
            }
        }
    }

    pub(super) fn active_speaker(&self) -> Option<usize> {
        self.active_speaker
    }

    /// Forgets a slot whose participant has left. Returns true if the participant was the active speaker.
    pub(super) fn forget(&mut self, participant: usize) -> bool {
        self.challenger.take_if(|challenger| *challenger == participant);
        self.active_speaker.take_if(|active_speaker| *active_speaker == participant).is_some()
    }

    fn change(&mut self, active_speaker: Option<usize>) -> bool {
        self.active_speaker = active_speaker;
        (self.since, self.challenges, self.challenger) = (0, 0, None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_noise_closes_the_gate_and_speech_above_it_opens_it_at_once() {
        let mut voice = Voice::new();
        for _ in 0..250 {
            voice.handle(25.0, || true);
        }
        assert!(!voice.is_open() && !voice.speaks());
        voice.handle(70.0, || true);
        assert!(voice.is_open() && !voice.speaks());
        for _ in 0..2 {
            voice.handle(1_000.0, || true);
        }
        assert!(!voice.speaks(), "it is no word yet");
        voice.handle(1_000.0, || true);
        assert!(voice.speaks());
        for _ in 0..14 {
            voice.handle(25.0, || true);
        }
        assert!(voice.is_open(), "the end of a word is not cut");
        voice.handle(25.0, || true);
        assert!(!voice.is_open() && voice.speaks());
        for _ in 0..15 {
            voice.handle(25.0, || true);
        }
        assert!(!voice.speaks());
    }

    #[test]
    fn the_gate_stays_open_for_constant_loud_audio() {
        let mut voice = Voice::new();
        for _ in 0..50_000 {
            voice.handle(ALWAYS_MIXED_LEVEL, || true);
            assert!(voice.is_open());
        }
    }

    #[test]
    fn the_active_speaker_changes_only_to_a_clearly_louder_participant() {
        let mut lead = ActiveSpeakerSelector::default();
        let mut frames = |count: usize, levels: &[(usize, f32)]| {
            let changes = (0..count).filter(|_| lead.handle(levels.iter().copied())).count();
            (changes, lead.active_speaker())
        };
        assert_eq!(frames(20, &[]), (0, None));
        assert_eq!(frames(1, &[(3, 900.0)]), (1, Some(3)));
        // This difference in level is too small for a change.
        assert_eq!(frames(100, &[(3, 900.0), (4, 1_300.0)]), (0, Some(3)));
        assert_eq!(frames(9, &[(3, 900.0), (4, 2_000.0)]), (0, Some(3)));
        assert_eq!(frames(1, &[(3, 900.0), (4, 2_000.0)]), (1, Some(4)));
        // The active speaker does not change before 300 ms have passed, even if it is silent.
        assert_eq!(frames(14, &[(3, 900.0)]), (0, Some(4)));
        assert_eq!(frames(1, &[(3, 900.0)]), (1, Some(3)));
        assert_eq!(frames(99, &[]), (0, Some(3)));
        assert_eq!(frames(1, &[]), (1, None));
    }
}
