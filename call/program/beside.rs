//! Audio that a request plays beside the leg's program: one piece after the other, independent of what the program
//! does.
//!
//! A leg hears one piece at a time: new audio of the program replaces this audio, and the reverse.

use std::collections::VecDeque;

use crate::call::{Abort, Call};
use crate::command::Refused;
use crate::id::LegId;
use crate::party::MOST_QUEUED;
use crate::program::Signal;
use crate::program::instruction::Play;
use crate::program::play::Playing;

/// Audio that plays beside the leg's program, with the audio that waits behind it.
pub(crate) struct Beside {
    playing: Playing,
    waiting: VecDeque<Play>,
}

impl Call {
    /// Plays these after the audio that already plays beside the program.
    pub(crate) fn play_beside(&mut self, leg: LegId, plays: Vec<Play>) -> Result<(), Refused> {
        let party = self.party_mut(leg).ok_or(Refused::NoSuchLeg)?;
        let waiting = party.beside.as_ref().map_or(0, |beside| beside.waiting.len());
        if waiting + plays.len() > MOST_QUEUED {
            return Err(Refused::TooMany);
        }
        match &mut party.beside {
            Some(beside) => beside.waiting.extend(plays),
            None => self.begin_beside(leg, plays.into()),
        }
        Ok(())
    }

    /// Stops that audio and drops what waits. Returns `false` if nothing plays beside the program.
    pub(crate) fn stop_beside(&mut self, leg: LegId, why: Abort) -> bool {
        let Some(beside) = self.party_mut(leg).and_then(|party| party.beside.take()) else { return false };
        beside.playing.abort(self, leg, why);
        true
    }

    pub(crate) fn signal_beside(&mut self, leg: LegId, signal: &Signal) {
        let Some(beside) = self.party_mut(leg).and_then(|party| party.beside.take()) else { return };
        let Beside { playing, waiting } = *beside;
        match playing.finished(self, leg, signal) {
            Some(playing) => {
                if let Some(party) = self.party_mut(leg) {
                    party.beside = Some(Box::new(Beside { playing, waiting }));
                }
            }
            None => self.begin_beside(leg, waiting),
        }
    }

    fn begin_beside(&mut self, leg: LegId, mut waiting: VecDeque<Play>) {
        let Some(play) = waiting.pop_front() else { return };
        let playing = Playing::start(self, leg, play, false);
        if let Some(party) = self.party_mut(leg) {
            party.beside = Some(Box::new(Beside { playing, waiting }));
        }
    }
}
