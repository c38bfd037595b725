//! Audio that a request plays beside the leg's program: one piece after the other, independent of what the program
//! does.
//!
//! A leg hears one piece at a time: new audio of the program replaces this audio, and the reverse.

use std::collections::VecDeque;

use crate::call::{Abort, Call};
use crate::command::Refused;
use crate::id::LegId;
use crate::leg_state::MOST_QUEUED;
use crate::program::Signal;
use crate::program::instruction::Play;
use crate::program::play::Playing;

/// Audio that plays beside the leg's program, with the audio that waits behind it.
pub(crate) struct Overlay {
    playing: Playing,
    waiting: VecDeque<Play>,
}

impl Call {
    /// Plays these after the audio that already plays beside the program.
    pub(crate) fn play_overlay(&mut self, leg: LegId, plays: Vec<Play>) -> Result<(), Refused> {
        let party = self.party_mut(leg).ok_or(Refused::NoSuchLeg)?;
        let waiting = party.overlay.as_ref().map_or(0, |overlay| overlay.waiting.len());
        if waiting + plays.len() > MOST_QUEUED {
            return Err(Refused::TooMany);
        }
        match &mut party.overlay {
            Some(overlay) => overlay.waiting.extend(plays),
            None => self.begin_beside(leg, plays.into()),
        }
        Ok(())
    }

    /// Stops that audio and drops what waits. Returns `false` if nothing plays beside the program.
    pub(crate) fn stop_overlay(&mut self, leg: LegId, why: Abort) -> bool {
        let Some(overlay) = self.party_mut(leg).and_then(|party| party.overlay.take()) else { return false };
        overlay.playing.abort(self, leg, why);
        true
    }

    pub(crate) fn signal_overlay(&mut self, leg: LegId, signal: &Signal) {
        let Some(overlay) = self.party_mut(leg).and_then(|party| party.overlay.take()) else { return };
        let Overlay { playing, waiting } = *overlay;
        match playing.finished(self, leg, signal) {
            Some(playing) => {
                if let Some(party) = self.party_mut(leg) {
                    party.overlay = Some(Box::new(Overlay { playing, waiting }));
                }
            }
            None => self.begin_beside(leg, waiting),
        }
    }

    fn begin_beside(&mut self, leg: LegId, mut waiting: VecDeque<Play>) {
        let Some(play) = waiting.pop_front() else { return };
        let playing = Playing::start(self, leg, play, false);
        if let Some(party) = self.party_mut(leg) {
            party.overlay = Some(Box::new(Overlay { playing, waiting }));
        }
    }
}
