//! What a leg hears in a frame, for those who want it at once: a bridge that cannot relay packets, a room, detectors.

use std::time::Instant;

use super::MediaSession;
use crate::codec::{LONGEST_FRAME, SampleRate};
use crate::command::Track;
use crate::dtmf::Form;

/// The frame heard last.
pub(super) struct InboundFrame {
    samples: [i16; LONGEST_FRAME],
    rate: SampleRate,
    /// The media clock when it was read.
    at: u32,
    /// The peer sent something for it.
    sounds: bool,
    /// Nobody has taken it yet.
    fresh: bool,
}

impl MediaSession {
    /// Whether anybody wants what it hears frame by frame.
    pub(super) fn hears(&self) -> bool {
        self.framed
            || self.room.is_some()
            || self.machine.is_some()
            || self.ear.is_some()
            || (!self.taps.is_empty() && self.cleans(Track::Inbound))
    }

    /// First pass of a frame: takes what is due from the timeline. `now`: the media clock, 8,000 a second. True when this
    /// ended cleaning.
    pub(crate) fn hear(&mut self, instant: Instant, now: u32) -> bool {
        let hears = self.hears();
        let Some(tracks) = &mut self.tracks else { return false };
        if !hears {
            return false;
        }
        tracks.inbound.handle_tick();
        let heard = self.heard.get_or_insert_with(|| {
            let samples = [0; LONGEST_FRAME];
            Box::new(InboundFrame { samples, rate: SampleRate::Hz8000, at: now, sounds: false, fresh: false })
        });
        (heard.rate, heard.at) = (tracks.inbound.rate(), now);
        heard.sounds = !tracks.inbound.read_live(now, &mut heard.samples).is_nothing();
        heard.fresh = true;
        let Some(mut heard) = self.heard.take() else { return false };
        // Detectors listen before the suppressor, which takes tones for noise.
        let samples = heard.samples.get(..heard.rate.frame()).unwrap_or_default();
        if let Some(ear) = &mut self.ear
            && let Some(digit) = ear.handle_frame(instant, samples, heard.rate)
        {
            self.tell_press(digit, 40, Form::Tone);
        }
        self.hear_machine(heard.sounds.then_some((samples, heard.rate)));
        let ended = self.clean(Track::Inbound, &mut heard.samples, heard.rate);
        self.heard = Some(heard);
        ended
    }

    /// The frame heard last and its rate; once, and not when the peer sends nothing.
    pub(crate) fn take_heard(&mut self) -> Option<(&[i16], SampleRate)> {
        let heard = self.heard.as_mut().filter(|heard| heard.fresh)?;
        heard.fresh = false;
        heard.sounds.then(|| (heard.samples.get(..heard.rate.frame()).unwrap_or_default(), heard.rate))
    }

    /// The frame that [`MediaSession::hear`] read at `now`, for those who listen after it: also when nobody else wants it
    /// any more, as it is not read twice.
    pub(super) fn last_heard(&self, now: u32) -> Option<&[i16]> {
        let heard = self.heard.as_ref().filter(|heard| heard.at == now)?;
        heard.samples.get(..heard.rate.frame())
    }
}
