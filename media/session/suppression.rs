//! Noise suppression of what a leg says and of what it hears from others.

use super::{Input, MediaSession};
use crate::codec::{LONGEST_FRAME, SampleRate};
use crate::command::{Track, Tracks};
use crate::event::Event;
use crate::suppress::Suppressor;

/// Both directions; made when one is asked for.
#[derive(Default)]
pub(super) struct Suppression {
    inbound: Option<Direction>,
    outbound: Option<Direction>,
}

struct Direction {
    on: bool,
    shed: bool,
    /// Made with the first frame, whose rate it takes.
    suppressor: Option<(SampleRate, Suppressor)>,
}

impl Suppression {
    fn direction(&mut self, track: Track) -> &mut Option<Direction> {
        match track {
            Track::Inbound => &mut self.inbound,
            Track::Outbound => &mut self.outbound,
        }
    }

    fn has(&self, track: Track) -> bool {
        match track {
            Track::Inbound => self.inbound.is_some(),
            Track::Outbound => self.outbound.is_some(),
        }
    }
}

impl Direction {
    /// Cleans a frame in place. False: this was its last.
    fn clean(&mut self, samples: &mut [i16], rate: SampleRate) -> bool {
        let suppressor = match &mut self.suppressor {
            Some((of, suppressor)) if *of == rate => suppressor,
            None if !self.on => return false,
            other => &mut other.insert((rate, Suppressor::new(rate))).1,
        };
        suppressor.set_on(self.on);
        suppressor.shed(self.shed);
        suppressor.process(samples);
        !suppressor.is_over()
    }
}

impl MediaSession {
    /// Begins or ends cleaning; what runs already goes on.
    pub(super) fn suppress(&mut self, tracks: Tracks, on: bool) {
        for track in [Track::Inbound, Track::Outbound].into_iter().filter(|track| tracks.has(*track)) {
            if on {
                let direction = self.suppression.get_or_insert_default().direction(track);
                direction.get_or_insert(Direction { on, shed: false, suppressor: None }).on = true;
            } else if let Some(cleaning) = &mut self.suppression {
                // With nobody to hear it there is no frame that would fade.
                let direction = cleaning.direction(track).take_if(|direction| direction.suppressor.is_some());
                *cleaning.direction(track) = direction.map(|direction| Direction { on, ..direction });
            }
        }
        self.drop_unused_tracks();
    }

    /// Whether that track is cleaned, or was until now and fades.
    pub(crate) fn cleans(&self, track: Track) -> bool {
        self.suppression.as_ref().is_some_and(|cleaning| cleaning.has(track))
    }

    /// The worker has no time for it, or has again.
    pub(crate) fn shed(&mut self, track: Track, shed: bool) {
        let Some(direction) = self.suppression.as_mut().and_then(|cleaning| cleaning.direction(track).as_mut()) else {
            return;
        };
        if std::mem::replace(&mut direction.shed, shed) != shed {
            self.emit(if shed { Event::SuppressionShed { track } } else { Event::SuppressionResumed { track } });
        }
    }

    /// Cleans what it is about to be sent from others, in `frame`. True: it was the last, as cleaning has ended.
    pub(crate) fn clean_input<'a>(
        &mut self,
        input: Option<Input<'a>>,
        frame: &'a mut [i16; LONGEST_FRAME],
    ) -> (Option<Input<'a>>, bool) {
        let (samples, rate) = match input {
            None => return (None, false),
            Some(Input::Bridge(samples, rate)) => (samples, rate),
            Some(Input::Room(said)) => (said.samples, said.rate),
        };
        frame.iter_mut().zip(samples).for_each(|(to, from)| *to = *from);
        let ended = self.clean(Track::Outbound, frame, rate);
        (frame.get(..rate.frame()).map(|samples| Input::Bridge(samples, rate)), ended)
    }

    /// Cleans a frame in place. True: it was the last, as cleaning has ended.
    pub(super) fn clean(&mut self, track: Track, samples: &mut [i16; LONGEST_FRAME], rate: SampleRate) -> bool {
        let Some(cleaning) = &mut self.suppression else { return false };
        let place = cleaning.direction(track);
        let (Some(direction), Some(samples)) = (place.as_mut(), samples.get_mut(..rate.frame())) else { return false };
        if direction.clean(samples, rate) {
            return false;
        }
        *place = None;
        if !cleaning.has(Track::Inbound) && !cleaning.has(Track::Outbound) {
            self.suppression = None;
        }
        true
    }
}
