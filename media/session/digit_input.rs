//! The DTMF digits that a leg sends to the engine. They arrive as telephone-events. If the plan has no
//! telephone-events, they arrive as tones in the audio.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::codec::SampleRate;
use crate::dtmf::{DtmfMethod, InbandDetector, InbandState};
use crate::event::Event;
use crate::rtp::Header;
use crate::rtp::dtmf::{Detector, DigitBudget, digit_of_event};

use super::SessionEvents;

/// The receiver of a leg's DTMF digits.
#[derive(Default)]
pub(super) struct DigitInput {
    events: Detector,
    /// The tone detector. It exists while the plan has no telephone-events, because digits then arrive as tones.
    inband: Option<Box<InbandDetector>>,
    budget: DigitBudget,
    /// Whether the newest digit began before the leg was joined to its present leg. The rest of this digit is not
    /// relayed: the digit was for the program that made the join.
    began_before_join: bool,
    /// The number of digits dropped because they came faster than [`DigitBudget`] allows.
    pub(super) dropped: u64,
}

/// The receiver of a leg's DTMF digits as data.
#[derive(Serialize, Deserialize)]
pub(super) struct DigitInputState {
    events: Detector,
    inband: Option<InbandState>,
    budget: DigitBudget,
    began_before_join: bool,
    dropped: u64,
}

impl DigitInput {
    pub(super) fn state(&self, now: Instant) -> DigitInputState {
        DigitInputState {
            events: self.events.clone(),
            inband: self.inband.as_ref().map(|inband| inband.state(now)),
            budget: self.budget.clone(),
            began_before_join: self.began_before_join,
            dropped: self.dropped,
        }
    }

    /// Creates the receiver from data. `taken` is the moment of the snapshot.
    pub(super) fn resume(state: DigitInputState, taken: Instant) -> DigitInput {
        let DigitInputState { events, inband, budget, began_before_join, dropped } = state;
        let inband = inband.map(|inband| Box::new(InbandDetector::resume(inband, taken)));
        DigitInput { events, inband, budget, began_before_join, dropped }
    }

    /// Starts or stops the tone detection. A detection that is already running continues.
    pub(super) fn set_inband(&mut self, on: bool) {
        self.inband = on.then(|| self.inband.take().unwrap_or_else(|| Box::new(InbandDetector::new())));
    }

    /// Whether the audio is searched for tones.
    pub(super) fn is_inband(&self) -> bool {
        self.inband.is_some()
    }

    /// Advances the rate limit by one frame of 20 ms.
    pub(super) fn tick(&mut self) {
        self.budget.tick();
    }

    /// Records that the leg is joined to another leg from now on.
    pub(super) fn note_joined(&mut self) {
        self.began_before_join = true;
    }

    /// Handles a telephone-event packet. Reports the digit that begins with this packet, unless a tone has already
    /// reported the digit. Returns whether the packet may be relayed.
    pub(super) fn handle_event(
        &mut self,
        header: &Header,
        payload: &[u8],
        clock_rate: u32,
        now: Instant,
        events: &mut SessionEvents,
    ) -> bool {
        let found = self.events.handle(header, payload, clock_rate);
        self.began_before_join &= found.is_none();
        let begins = found.map(|(digit, _)| digit);
        let reported = self.inband.as_mut().is_some_and(|inband| !inband.handle_event(now, begins));
        if let Some((digit, duration_ms)) = found.filter(|_| !reported) {
            self.report(digit, duration_ms, DtmfMethod::Event, events);
        }
        !self.began_before_join || payload.first().is_none_or(|event| digit_of_event(*event).is_none())
    }

    /// Searches an inbound frame for a tone. Reports the digit that begins in this frame, unless a telephone-event has
    /// already reported the digit.
    pub(super) fn handle_frame(&mut self, now: Instant, samples: &[i16], rate: SampleRate, events: &mut SessionEvents) {
        if let Some(inband) = &mut self.inband
            && let Some(digit) = inband.handle_frame(now, samples, rate)
        {
            // The detector reports a tone when 40 ms of the tone have passed.
            self.report(digit, 40, DtmfMethod::Tone, events);
        }
    }

    fn report(&mut self, digit: char, duration_ms: u32, method: DtmfMethod, events: &mut SessionEvents) {
        if self.budget.take() {
            events.send(Event::Dtmf { digit, duration_ms, method });
        } else {
            self.dropped += 1;
        }
    }
}
