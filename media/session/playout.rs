//! Chooses the audio that a leg gets in a frame, by priority: `digits > playback > source > input > relay | echo >
//! silence`.

use super::SessionEvents;
use serde::{Deserialize, Serialize};

use super::outbound::Output;
use super::relay_state::Filler;
use crate::codec::SampleRate;
use crate::codec::g711::Law;
use crate::command::OpId;
use crate::event::{Event, FinishReason};
use crate::network::Context;
use crate::player::{Playback, PlaybackState};
use crate::room::MixedFrame;
use crate::rtp::FRAME;
use crate::rtp::dtmf::{self, DigitFrame, DigitSender};
use crate::source::{SourceFrame, SourcePlayer, StreamSource};
use crate::tone::{Tone, ToneGenerator};

/// The highest number of marks reported in one frame. With more marks in a frame, the event sink could become full,
/// because the application empties it too slowly. A sink that stays full ends the session.
const MAX_MARKS: usize = 32;

/// A frame from the bridged leg or from a room.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// 20 ms of the bridged leg's audio, and the sample rate of this audio.
    Bridge(&'a [i16], SampleRate),
    /// A frame of the room's mix, in the leg's codec.
    Room(MixedFrame<'a>),
}

/// The sources of a leg's outbound audio.
pub(super) struct Playout {
    digits: Option<Box<Digits>>,
    playback: Option<Box<Playback>>,
    source: Option<Box<SourcePlayer>>,
    /// Whether the configuration lets a leg get silence when there is no other audio.
    send_silence: bool,
    /// Whether this leg gets no silence, whatever the configuration says.
    pub(super) quiet: bool,
}

struct Digits {
    op: OpId,
    sender: DigitSender,
    timestamp: u32,
    /// The tone of the current digit, for a far end without telephone-events.
    tone: Option<ToneGenerator>,
    /// Whether the digits come from data, and the application has not given their command again. This command has all
    /// digits of the operation, and the data has the digits that remain.
    is_resumed: bool,
}

/// The sources of a leg's outbound audio as data.
#[derive(Serialize, Deserialize)]
pub(super) struct PlayoutState {
    digits: Option<DigitsState>,
    playback: Option<PlaybackState>,
    source: Option<OpId>,
    quiet: bool,
}

#[derive(Serialize, Deserialize)]
struct DigitsState {
    op: OpId,
    sender: DigitSender,
    timestamp: u32,
    /// The number of samples of the current digit's tone that were sent.
    tone: Option<u32>,
}

impl PlayoutState {
    pub(super) fn playback(&self) -> Option<OpId> {
        self.playback.as_ref().map(PlaybackState::op)
    }

    pub(super) fn source(&self) -> Option<OpId> {
        self.source
    }
}

impl Digits {
    fn state(&self) -> DigitsState {
        let tone = self.tone.as_ref().map(ToneGenerator::position);
        DigitsState { op: self.op, sender: self.sender.clone(), timestamp: self.timestamp, tone }
    }

    fn resume(state: DigitsState) -> Digits {
        let DigitsState { op, sender, timestamp, tone } = state;
        let mut digits = Digits { op, sender, timestamp, tone: None, is_resumed: true };
        if let (Some(position), Some(event)) = (tone, digits.sender.current()) {
            let mut generator = digits.tone_of(event);
            generator.set_position(position);
            digits.tone = Some(generator);
        }
        digits
    }

    /// Returns the tone of a digit with this event code.
    fn tone_of(&self, event: u8) -> ToneGenerator {
        let digit = dtmf::digit_of_event(event).unwrap_or('0');
        ToneGenerator::new(Tone::Digit { digit, milliseconds: self.sender.duration_ms() })
    }
}

impl Playout {
    pub(super) fn state(&self) -> PlayoutState {
        PlayoutState {
            digits: self.digits.as_deref().map(Digits::state),
            playback: self.playback.as_deref().map(Playback::state),
            source: self.source.as_ref().map(|source| source.op),
            quiet: self.quiet,
        }
    }

    /// Creates the sources from data. A playback waits for its audio ([`Playback::resume`]). A stream source is not part
    /// of the data, because it is a handle.
    pub(super) fn resume(state: PlayoutState, send_silence: bool) -> Playout {
        Playout {
            digits: state.digits.map(|digits| Box::new(Digits::resume(digits))),
            playback: state.playback.map(|playback| Box::new(Playback::resume(playback))),
            source: None,
            send_silence,
            quiet: state.quiet,
        }
    }

    pub(super) fn new(send_silence: bool) -> Playout {
        Playout { digits: None, playback: None, source: None, send_silence, quiet: false }
    }

    // ---- commands ----

    /// Starts a playback. This replaces the current playback. A playback that waits for the audio of this operation
    /// continues.
    pub(super) fn play(&mut self, playback: Playback, events: &mut SessionEvents) {
        let playback = match self.playback.take_if(|waiting| waiting.awaits(&playback)) {
            Some(waiting) => playback.continuing(&waiting),
            None => playback,
        };
        if let Some(before) = self.playback.replace(Box::new(playback)) {
            events.send(Event::Finished { op: before.op, reason: FinishReason::Stopped });
        }
    }

    /// Starts to send digits. If the same operation still has digits to send, the new digits follow them. The new
    /// digits replace the digits of another operation. The first command of an operation from data adds nothing.
    pub(super) fn send_digits(&mut self, op: OpId, sender: DigitSender, events: &mut SessionEvents) {
        if let Some(running) = self.digits.as_mut().filter(|running| running.op == op) {
            if !std::mem::take(&mut running.is_resumed) {
                running.sender.append(sender);
            }
            return;
        }
        let digits = Digits { op, sender, timestamp: 0, tone: None, is_resumed: false };
        if let Some(before) = self.digits.replace(Box::new(digits)) {
            events.send(Event::Finished { op: before.op, reason: FinishReason::Stopped });
        }
    }

    /// Stops the playback or the digits of operation `op`.
    pub(super) fn stop(&mut self, op: OpId, events: &mut SessionEvents) {
        if self.playback.take_if(|playback| playback.op == op).is_some()
            || self.digits.take_if(|digits| digits.op == op).is_some()
        {
            events.send(Event::Finished { op, reason: FinishReason::Stopped });
        }
    }

    pub(super) fn set_source(&mut self, op: OpId, source: StreamSource) {
        self.source = Some(Box::new(SourcePlayer::new(op, source)));
    }

    pub(super) fn remove_source(&mut self, op: OpId) {
        self.source.take_if(|source| source.op == op);
    }

    /// Ends all sources without an event. This happens when the session closes.
    pub(super) fn clear(&mut self) {
        (self.digits, self.playback, self.source) = (None, None, None);
    }

    // ---- state ----

    /// Whether the leg gets silence when there is no other audio.
    pub(super) fn sends_silence(&self) -> bool {
        self.send_silence && !self.quiet
    }

    /// The operation that is playing now.
    pub(super) fn playing(&self) -> Option<OpId> {
        self.playback.as_ref().map(|playback| playback.op)
    }

    /// Whether digits, a playback or a source is sent now. In this case no audio is relayed.
    pub(super) fn is_busy(&self) -> bool {
        let source_speaks = self.source.as_ref().is_some_and(|source| source.has_audio);
        self.playback.is_some() || self.digits.is_some() || source_speaks
    }

    /// Whether digits are sent now.
    pub(super) fn sends_events(&self) -> bool {
        self.digits.is_some()
    }

    /// Whether there are digits, a playback or a source. The result is true even if they have no audio for this frame.
    pub(super) fn has_any(&self) -> bool {
        self.playback.is_some() || self.digits.is_some() || self.source.is_some()
    }

    // ---- the media clock ----

    /// Runs the third pass of a frame: sends the audio of the source with the highest priority.
    pub(super) fn handle_tick(
        &mut self,
        input: Option<Input<'_>>,
        out: &mut Output<'_>,
        events: &mut SessionEvents,
        cx: &mut Context<'_>,
    ) {
        // A prompt waits until an address is known. During hold the prompt advances, but is not sent.
        if !out.transport.has_address() && out.transport.target().is_none() && out.audio.sends {
            return;
        }
        if self.send_digit(out, events, cx) || self.send_playback(out, events, cx) {
            self.hold_source(events);
            return;
        }
        if self.send_source(out, events, cx) {
            return;
        }
        if input.is_some() {
            out.outbound.relay.note_frame();
        }
        match input {
            Some(Input::Bridge(samples, rate)) => out.send_samples(samples, rate, cx),
            Some(Input::Room(mixed)) => out.send_mixed(mixed, cx),
            None => self.fill(out, cx),
        }
    }

    /// Sends silence if the frame has no other audio and no relayed packets.
    fn fill(&self, out: &mut Output<'_>, cx: &mut Context<'_>) {
        let filler = out.outbound.relay.tick(out.capture.has_tracks());
        let is_silence = filler == Filler::Silence || (filler == Filler::Pause && out.outbound.is_packing());
        if self.sends_silence() && is_silence {
            let law = out.audio.codec.law().unwrap_or(Law::Mu);
            return out.send_octets(law, &[law.silence(); FRAME], cx);
        }
        out.flush(cx);
        if filler != Filler::Relayed {
            out.start_pause();
        }
    }

    fn send_playback(&mut self, out: &mut Output<'_>, events: &mut SessionEvents, cx: &mut Context<'_>) -> bool {
        let Some(playback) = &mut self.playback else { return false };
        let mut samples = [0; FRAME];
        if playback.next_frame(&mut samples) {
            out.send_samples(&samples, SampleRate::Hz8000, cx);
            return true;
        }
        events.send(Event::Finished { op: playback.op, reason: FinishReason::Completed });
        self.playback = None;
        false
    }

    fn send_source(&mut self, out: &mut Output<'_>, events: &mut SessionEvents, cx: &mut Context<'_>) -> bool {
        let Some(source) = &mut self.source else { return false };
        let op = source.op;
        match source.next_frame(max_marks(events), |name| events.send(Event::MarkReached { op, name })) {
            Some(SourceFrame::Octets(law, octets)) => out.send_octets(law, &octets, cx),
            Some(SourceFrame::Samples(samples, rate)) => {
                out.send_samples(samples.get(..rate.frame()).unwrap_or_default(), rate, cx);
            }
            None => return false,
        }
        true
    }

    /// Pauses the source for this frame, because the leg gets other audio.
    fn hold_source(&mut self, events: &mut SessionEvents) {
        if let Some(source) = &mut self.source {
            let op = source.op;
            source.hold(max_marks(events), |name| events.send(Event::MarkReached { op, name }));
        }
    }

    /// Sends the part of a digit that belongs to this frame. Returns false if no digit uses this frame.
    fn send_digit(&mut self, out: &mut Output<'_>, events: &mut SessionEvents, cx: &mut Context<'_>) -> bool {
        let Some(digits) = &mut self.digits else { return false };
        let clock_rate = out.audio.events.map_or(8_000, |events| events.clock_rate);
        let (event, end, duration, offset, first) = match digits.sender.next_frame(clock_rate) {
            DigitFrame::Gap => return false,
            DigitFrame::Done => {
                events.send(Event::Finished { op: digits.op, reason: FinishReason::Completed });
                self.digits = None;
                return false;
            }
            DigitFrame::Event { event, end, duration, offset, first } => (event, end, duration, offset, first),
        };
        out.flush(cx);
        let Some(to) = out.audio.events else {
            // The digit is sent as a tone. The frames of the repeated end packets become the gap after the tone.
            if first {
                digits.tone = Some(digits.tone_of(event));
            }
            let mut samples = [0; FRAME];
            if let Some(tone) = &mut digits.tone {
                tone.next_frame(&mut samples);
            }
            out.send_samples(&samples, SampleRate::Hz8000, cx);
            return true;
        };
        if first {
            digits.timestamp = out.outbound.sender.now();
        }
        let [high, low] = duration.to_be_bytes();
        // The volume 10 means -10 dBm0. Phones send this value.
        let payload = [event, if end { 0x8A } else { 0x0A }, high, low];
        out.send_event(to, digits.timestamp.wrapping_add(offset), first, payload, cx);
        true
    }
}

/// Returns the number of marks that may be reported in this frame. It is 0 while the event sink is full.
fn max_marks(events: &SessionEvents) -> usize {
    if events.backlog() == 0 { MAX_MARKS } else { 0 }
}
