//! What a leg hears while it has no audio of its own to be sent: relayed packets, silence, or nothing.

/// Frames after which a leg that is bridged to a silent leg is sent one packet of silence: 1 s. It opens the way through a
/// router (NAT) and serves a remote end that waits for it. Nearly all legs have begun to speak by then.
const OPEN: u8 = 50;
/// Frames from there to the next such packet: 0.5 s.
const KEEP_OPEN: u8 = 25;
/// Frames without a relayed packet after which the other leg counts as silent: 2 s, more than pauses in speech.
const FELL_SILENT: u8 = 100;

/// Whether packets are relayed to a leg.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum RelayState {
    /// Nothing is relayed, and nothing is expected: the leg is sent silence.
    #[default]
    Off,
    /// The leg is bridged. The other leg has sent nothing yet, or nothing for a while. `frames`: since then, less those of the
    /// silence that this leg has been sent meanwhile.
    AwaitingFirstRelay { frames: u8 },
    /// Packets are relayed. `frames`: since the newest one.
    Relaying { frames: u8 },
}

/// What fills a frame for which nothing else is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filler {
    /// Nothing: relayed packets do.
    Relayed,
    Silence,
    /// Nothing: no packet is due.
    Pause,
}

impl RelayState {
    /// A packet has been relayed to the leg, so many frames ago.
    pub(super) fn note_relayed(&mut self, frames: u8) {
        *self = RelayState::Relaying { frames };
    }

    /// Relaying has stopped, or is about to come from another source.
    pub(super) fn note_stopped(&mut self) {
        if let RelayState::Relaying { .. } = self {
            *self = RelayState::Off;
        }
    }

    /// The leg was sent something else: a frame of a bridge or a room.
    pub(super) fn note_frame(&mut self) {
        if let RelayState::AwaitingFirstRelay { .. } = self {
            *self = RelayState::Off;
        }
    }

    /// One frame for which there is nothing else to be sent. `heard`: recorders or taps listen to the leg, so that its silence
    /// is sent without gaps.
    pub(super) fn tick(&mut self, heard: bool) -> Filler {
        if let RelayState::Relaying { frames } = self {
            if *frames < FELL_SILENT {
                *frames += 1;
                return Filler::Relayed;
            }
            *self = RelayState::AwaitingFirstRelay { frames: OPEN - 1 };
        }
        match self {
            RelayState::AwaitingFirstRelay { frames } if !heard => {
                *frames = if *frames < OPEN { *frames + 1 } else { OPEN - KEEP_OPEN + 1 };
                if *frames == OPEN { Filler::Silence } else { Filler::Pause }
            }
            RelayState::AwaitingFirstRelay { frames } => {
                *frames = 0;
                Filler::Silence
            }
            RelayState::Off | RelayState::Relaying { .. } => Filler::Silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leg_bridged_to_a_silent_one_is_sent_a_packet_after_a_second_and_then_each_half_second() {
        let mut state = RelayState::AwaitingFirstRelay { frames: 0 };
        let sent: Vec<usize> = (1..=125).filter(|_| state.tick(false) == Filler::Silence).collect();
        assert_eq!(sent, [50, 75, 100, 125]);
    }

    #[test]
    fn two_seconds_without_a_relayed_packet_are_silence_of_the_other_leg() {
        let mut state = RelayState::default();
        state.note_relayed(0);
        let relayed = (0..200).take_while(|_| state.tick(false) == Filler::Relayed).count();
        assert_eq!(relayed, 100);
        assert_eq!(state, RelayState::AwaitingFirstRelay { frames: OPEN });
    }

    #[test]
    fn recorders_and_taps_get_silence_without_gaps() {
        let mut state = RelayState::AwaitingFirstRelay { frames: 0 };
        assert!((0..100).all(|_| state.tick(true) == Filler::Silence));
    }
}
