//! The overlay: audio that a request plays, one item after the other, while the leg's program runs. The overlay is
//! independent of the program.
//!
//! A leg hears one item at a time. New audio of the program replaces the overlay, and new audio of the overlay replaces
//! the audio of the program.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::call::Abort;
use crate::command::Refused;
use crate::leg_cx::LegCx;
use crate::leg_state::MAX_QUEUED;
use crate::program::Input;
use crate::program::instruction::Play;
use crate::program::play::Playing;
use crate::resume::Standing;

/// The overlay of a leg: the audio that plays now and the audio that waits.
#[derive(Serialize, Deserialize)]
pub(crate) struct Overlay {
    playing: Playing,
    waiting: VecDeque<Play>,
}

impl Overlay {
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        self.playing.resume(standing);
    }
}

impl LegCx<'_> {
    /// Plays this audio after the audio that is already in the overlay. Returns an error if too much audio would wait.
    pub(crate) fn play_overlay(&mut self, plays: Vec<Play>) -> Result<(), Refused> {
        let state = &mut *self.leg;
        let waiting = state.overlay.as_ref().map_or(0, |overlay| overlay.waiting.len());
        if waiting + plays.len() > MAX_QUEUED {
            return Err(Refused::TooMany);
        }
        match &mut state.overlay {
            Some(overlay) => overlay.waiting.extend(plays),
            None => self.start_overlay(plays.into()),
        }
        Ok(())
    }

    /// Stops the audio of the overlay and drops the waiting audio. Returns `false` if the leg has no overlay.
    pub(crate) fn stop_overlay(&mut self, why: Abort) -> bool {
        let Some(overlay) = self.leg.overlay.take() else { return false };
        overlay.playing.abort(self, why);
        true
    }

    pub(crate) fn handle_overlay_input(&mut self, input: &Input) {
        let Some(overlay) = self.leg.overlay.take() else { return };
        let Overlay { playing, waiting } = *overlay;
        match playing.finished(self, input) {
            Some(playing) => self.leg.overlay = Some(Box::new(Overlay { playing, waiting })),
            None => self.start_overlay(waiting),
        }
    }

    fn start_overlay(&mut self, mut waiting: VecDeque<Play>) {
        let Some(play) = waiting.pop_front() else { return };
        let playing = Playing::start(self, play, false);
        self.leg.overlay = Some(Box::new(Overlay { playing, waiting }));
    }
}
