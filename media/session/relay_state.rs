//! The audio of a leg that gets no digits, playback, source or frames. Such a leg gets relayed packets, silence, or
//! nothing.

use serde::{Deserialize, Serialize};

/// The number of frames after which the engine sends one packet of silence to a leg that is bridged to a silent leg.
/// They last 1 s. The packet opens the binding of a NAT router. The packet also helps a far end that waits for a first
/// packet. Nearly all legs begin to send within 1 s, so the engine waits for this time.
const OPEN: u8 = 50;
/// The number of frames between two packets of silence to a leg that is bridged to a silent leg. They last 0.5 s.
const KEEP_OPEN: u8 = 25;
/// The number of frames without a relayed packet after which the bridged leg counts as silent. They last 2 s. Pauses in
/// speech are shorter.
const FELL_SILENT: u8 = 100;

/// Whether packets are relayed to a leg.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RelayState {
    /// Nothing is relayed, and no packet is expected. The leg gets silence.
    #[default]
    Off,
    /// The leg is bridged, and the engine waits for packets of the other leg. The other leg has sent nothing yet, or
    /// nothing for 2 s. `frames` counts up to [`OPEN`]. Then the engine sends a packet of silence, and the count goes
    /// back by [`KEEP_OPEN`].
    AwaitingFirstRelay { frames: u8 },
    /// Packets are relayed. `frames` is the number of frames since the newest packet.
    Relaying { frames: u8 },
}

/// The audio that the leg gets in a frame without other audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filler {
    /// Nothing is sent, because relayed packets carry the audio.
    Relayed,
    Silence,
    /// Nothing is sent, because no packet is due.
    Pause,
}

impl RelayState {
    /// Records that a packet was relayed to the leg this number of frames ago.
    pub(super) fn note_relayed(&mut self, frames: u8) {
        *self = RelayState::Relaying { frames };
    }

    /// Records that relaying has stopped, or that the source of the packets is about to change.
    pub(super) fn note_stopped(&mut self) {
        if let RelayState::Relaying { .. } = self {
            *self = RelayState::Off;
        }
    }

    /// Records that the leg got a frame of a bridge or a room.
    pub(super) fn note_frame(&mut self) {
        if let RelayState::AwaitingFirstRelay { .. } = self {
            *self = RelayState::Off;
        }
    }

    /// Advances by one frame without other audio. Returns the audio that the leg gets in this frame. `heard` says
    /// whether recorders, taps or other consumers read the leg's audio. Such consumers need silence without gaps.
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
    fn a_leg_bridged_to_a_silent_leg_gets_a_packet_after_1_s_and_then_every_500_ms() {
        let mut state = RelayState::AwaitingFirstRelay { frames: 0 };
        let sent: Vec<usize> = (1..=125).filter(|_| state.tick(false) == Filler::Silence).collect();
        assert_eq!(sent, [50, 75, 100, 125]);
    }

    #[test]
    fn the_bridged_leg_counts_as_silent_after_two_seconds_without_a_packet() {
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
