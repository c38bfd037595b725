//! Noise suppression of a leg's audio. The two directions are independent.

use super::SessionEvents;
use super::playout::Input;
use crate::codec::{LONGEST_FRAME, SampleRate};
use crate::command::{Track, Tracks};
use crate::event::Event;
use crate::suppress::Suppressor;

/// The noise suppression of a leg.
#[derive(Default)]
pub(super) struct Suppression {
    /// The state of both directions. It is created when suppression of a direction is first switched on.
    directions: Option<Box<Directions>>,
}

#[derive(Default)]
struct Directions {
    inbound: Option<Direction>,
    outbound: Option<Direction>,
}

struct Direction {
    on: bool,
    /// Whether suppression is stopped, because the worker lacks CPU time.
    shed: bool,
    /// The suppressor, which is created at the first frame, and the sample rate of this frame.
    suppressor: Option<(SampleRate, Suppressor)>,
}

impl Directions {
    fn get(&self, track: Track) -> &Option<Direction> {
        match track {
            Track::Inbound => &self.inbound,
            Track::Outbound => &self.outbound,
        }
    }

    fn get_mut(&mut self, track: Track) -> &mut Option<Direction> {
        match track {
            Track::Inbound => &mut self.inbound,
            Track::Outbound => &mut self.outbound,
        }
    }
}

impl Direction {
    /// Removes the noise from a frame in place. Returns false if suppression has ended with this frame.
    fn process(&mut self, samples: &mut [i16], rate: SampleRate) -> bool {
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

impl Suppression {
    /// Switches suppression of `tracks` on or off. If `on` is true, a running suppressor continues. If `on` is false, a
    /// running suppressor fades out.
    pub(super) fn set(&mut self, tracks: Tracks, on: bool) {
        for track in [Track::Inbound, Track::Outbound].into_iter().filter(|track| tracks.has(*track)) {
            if on {
                let direction = self.directions.get_or_insert_default().get_mut(track);
                direction.get_or_insert(Direction { on, shed: false, suppressor: None }).on = true;
            } else if let Some(directions) = &mut self.directions {
                // Without a suppressor no frame was processed, so no audio has to fade out.
                let direction = directions.get_mut(track).take_if(|direction| direction.suppressor.is_some());
                *directions.get_mut(track) = direction.map(|direction| Direction { on, ..direction });
            }
        }
    }

    /// Whether suppression of `track` is on.
    pub(super) fn is_on(&self, track: Track) -> bool {
        let direction = self.directions.as_ref().and_then(|directions| directions.get(track).as_ref());
        direction.is_some_and(|direction| direction.on)
    }

    /// Whether suppression of `track` is on or fading out.
    pub(super) fn covers(&self, track: Track) -> bool {
        self.directions.as_ref().is_some_and(|directions| directions.get(track).is_some())
    }

    /// Stops suppression of `track` because the worker lacks CPU time, or starts it again. If the state changes, the
    /// function reports an event.
    pub(super) fn set_shed(&mut self, track: Track, shed: bool, events: &mut SessionEvents) {
        let direction = self.directions.as_mut().and_then(|directions| directions.get_mut(track).as_mut());
        let Some(direction) = direction else { return };
        if std::mem::replace(&mut direction.shed, shed) != shed {
            events.send(if shed { Event::SuppressionShed { track } } else { Event::SuppressionResumed { track } });
        }
    }

    /// Removes the noise from the input that the leg gets next. `frame` is the buffer for the result. The function also
    /// returns a flag. The flag is true if suppression has ended with this frame.
    pub(super) fn process_input<'a>(
        &mut self,
        input: Option<Input<'a>>,
        frame: &'a mut [i16; LONGEST_FRAME],
    ) -> (Option<Input<'a>>, bool) {
        let (samples, rate) = match input {
            None => return (None, false),
            Some(Input::Bridge(samples, rate)) => (samples, rate),
            Some(Input::Room(mixed)) => (mixed.samples, mixed.rate),
        };
        frame.iter_mut().zip(samples).for_each(|(to, from)| *to = *from);
        let ended = self.process(Track::Outbound, frame, rate);
        (frame.get(..rate.frame()).map(|samples| Input::Bridge(samples, rate)), ended)
    }

    /// Removes the noise from a frame in place. Returns true if suppression has ended with this frame.
    pub(super) fn process(&mut self, track: Track, samples: &mut [i16; LONGEST_FRAME], rate: SampleRate) -> bool {
        let Some(directions) = &mut self.directions else { return false };
        let place = directions.get_mut(track);
        let (Some(direction), Some(samples)) = (place.as_mut(), samples.get_mut(..rate.frame())) else { return false };
        if direction.process(samples, rate) {
            return false;
        }
        *place = None;
        if !self.covers(Track::Inbound) && !self.covers(Track::Outbound) {
            self.directions = None;
        }
        true
    }

    /// Ends suppression without fading. This happens when the session closes.
    pub(super) fn clear(&mut self) {
        self.directions = None;
    }
}
