//! One leg's media: its RTP in both directions, and everything that listens to it or speaks on it. Pure; [`crate::engine`]
//! drives it.
//!
//! ```text
//!   RTP in -> transport -> inbound -> digit input | audio -> (mute) -> capture -> recorders, taps, inbound frames
//!                                                      \-> relay to the bridged session, or echo
//!   playout: digits > playback > source > input > relay | echo > silence -> outbound -> transport -> RTP out
//! ```
//!
//! A session owns one machine for each of these parts, and routes packets, ticks and commands to them. A machine knows nothing of
//! the others: what it needs of them is an argument.

mod arrivals;
mod capture;
mod digit_input;
mod frame_encoder;
mod inbound;
mod inbound_frame;
mod offload;
mod outbound;
mod packets;
mod playout;
mod quality_reports;
mod relay_state;
mod routing;
mod schedule;
mod srtp_context;
mod suppression;
mod track;
mod transport;

use capture::Capture;
use digit_input::DigitInput;
use inbound::Inbound;
use inbound_frame::InboundFrame;
use outbound::{Outbound, Output};
pub(crate) use playout::Input;
use playout::Playout;
use quality_reports::QualityReports;
use relay_state::RelayState;
use routing::Routing;
pub(crate) use routing::{BridgedLeg, Joined};
use schedule::Schedule;
use suppression::Suppression;
use transport::Transport;

use std::time::{Duration, Instant};

use crate::answering::listener::MachineListener;
use crate::codec::g711::Law;
use crate::codec::{Codec, LONGEST_FRAME, SampleRate};
use crate::command::{Command, RecordingCommand, SessionKey, Track};
use crate::engine::{Counts, MediaClock, Network};
use crate::event::{BACKLOG, Event, EventSink, Stats};
use crate::event_queue::EventQueue;
use crate::player::Playback;
use crate::quality::{self, Path};
use crate::rtp::dtmf::DigitSender;
use crate::sdp::MediaPlan;
use crate::writer::{Done, WriterHandle};

/// The number of frames for which a closed session waits for a sink that stays full: 10 s.
const CLOSING: u16 = 500;

type SessionEvents = EventQueue<SessionKey, Event>;

/// The kind of a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketKind {
    Audio(Codec),
    /// Telephone-events, with the units a second of their timestamps.
    Events(u32),
    /// Comfort noise (RFC 3389).
    Noise,
}

/// What a session works with: the time and what its worker owns.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) clock: &'a MediaClock,
    pub(crate) network: &'a mut dyn Network,
    pub(crate) counts: &'a mut Counts,
}

/// See the module.
pub(crate) struct MediaSession {
    pub(crate) key: SessionKey,
    lifecycle: Lifecycle,
    /// What offer and answer agreed. `None` until they have.
    plan: Option<MediaPlan>,
    transport: Transport,
    inbound: Inbound,
    pub(crate) routing: Routing,
    outbound: Outbound,
    playout: Playout,
    digit_input: DigitInput,
    capture: Capture,
    /// The newest inbound frame, while anybody wants inbound audio frame by frame.
    inbound_frame: Option<Box<InboundFrame>>,
    suppression: Suppression,
    /// Answering machine detection, until it has decided.
    detection: Option<Box<MachineListener>>,
    quality: QualityReports,
    pub(crate) schedule: Schedule,
    events: SessionEvents,
}

/// How far a session is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifecycle {
    Open,
    /// The sockets are gone. The session waits for its recordings to be complete.
    Closing,
    /// [`Event::Closed`] was emitted so many frames ago. The session waits for its sink to take it.
    Closed(u16),
}

impl MediaSession {
    pub(crate) fn new(key: SessionKey, seed: u64, events: EventSink, send_silence: bool) -> MediaSession {
        MediaSession {
            key,
            lifecycle: Lifecycle::Open,
            plan: None,
            transport: Transport::default(),
            inbound: Inbound::default(),
            routing: Routing::default(),
            outbound: Outbound::new(seed),
            playout: Playout::new(send_silence),
            digit_input: DigitInput::default(),
            capture: Capture::default(),
            inbound_frame: None,
            suppression: Suppression::default(),
            detection: None,
            quality: QualityReports::new(seed),
            schedule: Schedule::default(),
            events: EventQueue::new(key, events),
        }
    }

    /// The session has come to a worker, where it has this slot.
    pub(crate) fn set_slot(&mut self, slot: usize) {
        self.transport.set_slot(slot);
    }

    /// Takes what offer and answer agreed. The same plan again changes nothing. Returns whether packets may come from another
    /// source from now on.
    pub(crate) fn apply(&mut self, plan: MediaPlan) -> bool {
        if self.plan.as_ref() == Some(&plan) {
            return false;
        }
        let opens = self.transport.apply(&plan);
        self.inbound.receiver.set_clock_rate(plan.codec.clock_rate());
        self.outbound.apply(&plan);
        self.routing.codec_mismatch = false;
        self.capture.follow_outbound(plan.codec);
        let live = self.wants_inbound_frames();
        let inband = plan.events_taken.iter().flatten().next().is_none();
        self.digit_input.set_inband(inband);
        self.plan = Some(plan);
        if inband {
            self.listen_live(live);
        }
        self.drop_unused_tracks();
        if self.is_listened_to() {
            self.capture.need_tracks(self.track_codec());
        }
        opens
    }

    /// Whether the remote end has said that it sends nothing: it is on hold, or holds us without music.
    pub(crate) fn is_held(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| !plan.receives || plan.remote.is_none())
    }

    /// The codec that we send; `None` before there is a plan.
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.plan.as_ref().map(|plan| plan.codec)
    }

    /// A source that is silent for this long can lose its place to another one. `None`: it never does.
    pub(crate) fn set_relatch_probation(&mut self, probation: Option<Duration>) {
        self.transport.set_relatch_probation(probation);
    }

    // ---- commands ----

    /// Takes a command that concerns this session alone. The engine handles bridges and rooms. `now`: the media clock, 8,000 a
    /// second.
    pub(crate) fn handle_command(&mut self, command: Command, now: u32, writer: &WriterHandle, done: &Done) {
        if self.is_closing() {
            return;
        }
        match command {
            Command::Play { op, audio, loops } => {
                self.playout.play(Playback::audio(op, audio, loops), &mut self.events);
            }
            Command::Tone { op, tone } => self.playout.play(Playback::tone(op, tone), &mut self.events),
            Command::SendDigits { op, digits, duration_ms } => {
                self.playout.send_digits(op, DigitSender::new(&digits, duration_ms), &mut self.events);
            }
            Command::Stop { op } => {
                if self.detection.take_if(|detection| detection.op == op).is_some() {
                    self.drop_unused_tracks();
                }
                self.playout.stop(op, &mut self.events);
            }
            Command::Recording(order) => self.handle_recording(order, now, writer, done),
            Command::DetectMachine { op, spec } => {
                let live = self.wants_inbound_frames();
                let rate = self.capture.listen_live(self.track_codec(), live).rate();
                self.detection = Some(Box::new(MachineListener::new(op, &spec, rate)));
            }
            Command::Tap { op, tracks, sink } => {
                let live = self.wants_inbound_frames();
                self.capture.add_tap(op, tracks, sink, self.track_codec(), live);
            }
            Command::Untap { op } => {
                self.capture.remove_tap(op);
                self.drop_unused_tracks();
            }
            Command::Source { op, source } => self.playout.set_source(op, source),
            Command::Unsource { op } => self.playout.remove_source(op),
            Command::Echo(on) => {
                self.routing.echo = on;
                self.outbound.relay.note_stopped();
            }
            Command::Mute { inbound } => self.inbound.muted = inbound,
            Command::Suppress { direction, on } => {
                self.suppression.set(direction, on);
                self.drop_unused_tracks();
            }
            Command::Bridge { .. } | Command::Unbridge | Command::Join { .. } | Command::Leave => {}
        }
    }

    fn handle_recording(&mut self, order: RecordingCommand, now: u32, writer: &WriterHandle, done: &Done) {
        // Recorders at work read what was before this command.
        self.catch_up(writer);
        let (key, codec) = (self.key, self.track_codec());
        self.capture.handle_recording(key, order, codec, now, (writer, done), &mut self.events);
        self.drop_unused_tracks();
    }

    /// Handles the end of a recording: its file is complete.
    pub(crate) fn handle_recorded(&mut self, event: Event) {
        self.capture.note_recording_finished();
        self.emit(event);
    }

    // ---- bridges and rooms ----

    /// A bridge begins, or ends.
    pub(crate) fn set_bridged_with(&mut self, leg: Option<BridgedLeg>) {
        self.routing.joined = leg.map_or(Joined::Nothing, Joined::Leg);
        self.outbound.relay = leg.map_or(RelayState::Off, |_| RelayState::AwaitingFirstRelay { frames: 0 });
        self.outbound.sender.pause();
    }

    /// The session comes into a room, or leaves it.
    pub(crate) fn set_room(&mut self, joined: Joined) {
        let live = self.wants_inbound_frames();
        self.routing.joined = joined;
        self.outbound.relay.note_stopped();
        if self.routing.room().is_none() {
            self.drop_unused_tracks();
        } else {
            self.listen_live(live);
        }
    }

    /// The session's audio goes to the bridged leg frame by frame from now on, or does not any more.
    pub(crate) fn set_transcoded(&mut self, transcoded: bool) {
        let live = self.wants_inbound_frames();
        if std::mem::replace(&mut self.routing.transcoded, transcoded) == transcoded {
            return;
        }
        if transcoded {
            self.listen_live(live);
        } else {
            self.drop_unused_tracks();
        }
    }

    /// Whether `peer` cannot be sent this session's packets, so that it needs frames.
    pub(crate) fn must_transcode(&self, peer: &MediaSession) -> bool {
        let (Some(plan), Some(other)) = (&self.plan, &peer.plan) else { return false };
        // Muted audio that cannot be overwritten with silence octet by octet is not relayed.
        !other.passes(plan.codec)
            || self.routing.codec_mismatch
            || (self.inbound.muted && plan.codec.law().is_none())
            || self.is_suppressed(Track::Inbound)
            || peer.is_suppressed(Track::Outbound)
    }

    /// The bridged leg's packets do not come any more. Until now their gaps were its own silence; from now on this leg is sent
    /// ours.
    pub(crate) fn stop_expecting_packets(&mut self) {
        self.outbound.relay = RelayState::Off;
    }

    // ---- who listens ----

    /// Whether anybody wants the inbound audio frame by frame.
    fn wants_inbound_frames(&self) -> bool {
        self.routing.transcoded
            || self.routing.room().is_some()
            || self.detection.is_some()
            || self.digit_input.is_inband()
            || (self.capture.has_taps() && self.is_suppressed(Track::Inbound))
    }

    fn is_listened_to(&self) -> bool {
        self.capture.has_listeners() || self.wants_inbound_frames()
    }

    /// One more listener wants the inbound audio live. `already`: others did before.
    fn listen_live(&mut self, already: bool) {
        self.capture.listen_live(self.track_codec(), already);
    }

    fn drop_unused_tracks(&mut self) {
        if self.capture.has_tracks() && !self.is_listened_to() {
            self.capture.drop_tracks();
        }
    }

    /// The codec for new tracks.
    fn track_codec(&self) -> Codec {
        self.codec().unwrap_or(Codec::Pcmu)
    }

    // ---- noise suppression ----

    /// Whether the noise of that direction is suppressed, or suppression fades.
    pub(crate) fn is_suppressed(&self, track: Track) -> bool {
        self.suppression.covers(track)
    }

    /// The worker has no time for suppression of that direction, or has again.
    pub(crate) fn set_shed(&mut self, track: Track, shed: bool) {
        self.suppression.set_shed(track, shed, &mut self.events);
    }

    /// Suppresses the noise of what the leg is about to be sent, by way of `frame`. Returns true with it when this was the last
    /// frame, because suppression has ended.
    pub(crate) fn suppress_input<'a>(
        &mut self,
        input: Option<Input<'a>>,
        frame: &'a mut [i16; LONGEST_FRAME],
    ) -> (Option<Input<'a>>, bool) {
        self.suppression.process_input(input, frame)
    }

    // ---- the media clock ----

    /// First pass of a frame: reads the inbound frame, if anybody wants it. `now`: the media clock, 8,000 a second. Returns true
    /// when suppression has ended with this frame.
    pub(crate) fn read_inbound_frame(&mut self, instant: Instant, now: u32) -> bool {
        if !self.wants_inbound_frames() || !self.capture.read_inbound(&mut self.inbound_frame, now) {
            return false;
        }
        let Some(frame) = &mut self.inbound_frame else { return false };
        // Detectors come before the suppressor, which takes tones for noise.
        self.digit_input.handle_frame(instant, frame.samples(), frame.rate, &mut self.events);
        let verdict = self.detection.as_mut().and_then(|detection| detection.handle_frame(frame.sound()));
        if let Some(event) = verdict {
            self.events.send(event);
        }
        let ended = self.suppression.process(Track::Inbound, &mut frame.samples, frame.rate);
        if self.detection.take_if(|detection| detection.is_over()).is_some() {
            self.drop_unused_tracks();
        }
        ended
    }

    /// The newest inbound frame and its rate, once; `None` when the remote end sent nothing for it.
    pub(crate) fn take_inbound_frame(&mut self) -> Option<(&[i16], SampleRate)> {
        self.inbound_frame.as_mut()?.take()
    }

    /// Third and fourth pass of a 20 ms frame: the leg is sent its audio, then recorders and taps get theirs. Returns false when
    /// the session must be closed, because its event sink has stayed full for too long.
    pub(crate) fn handle_tick(
        &mut self,
        input: Option<Input<'_>>,
        writer: &WriterHandle,
        cx: &mut Context<'_>,
    ) -> bool {
        self.events.retry();
        if self.is_closing() {
            self.report_closed();
            if let Lifecycle::Closed(frames) = &mut self.lifecycle {
                *frames = frames.saturating_add(1);
            }
            return true;
        }
        self.outbound.sender.tick();
        self.digit_input.tick();
        self.inbound.budget.tick();
        self.transport.tick(cx);
        if let Some(plan) = &self.plan {
            let (outbound, transport, capture) = (&mut self.outbound, &mut self.transport, &mut self.capture);
            let mut output = Output { plan, outbound, transport, capture };
            self.playout.handle_tick(input, &mut output, &mut self.events, cx);
        }
        if self.capture.has_tracks() {
            self.feed_listeners(writer, cx.clock.units(cx.now, 8_000));
        }
        if self.quality.tick() {
            self.send_report(false, cx);
        }
        !self.is_flooded()
    }

    /// Gives both directions to taps, and now and then to recorders. `now`: the media clock, 8,000 a second.
    fn feed_listeners(&mut self, writer: &WriterHandle, now: u32) {
        let read = self.inbound_frame.as_deref().and_then(|frame| frame.read_at(now));
        let native = self.plan.as_ref().and_then(|plan| plan.codec.law()).unwrap_or(Law::Mu);
        if self.capture.feed_taps(read, native, now, &mut self.events) {
            self.drop_unused_tracks();
        }
        if self.capture.note_frame(now) {
            self.catch_up(writer);
        }
    }

    /// Makes the recorders read up to the present frame.
    fn catch_up(&mut self, writer: &WriterHandle) {
        if self.capture.catch_up(self.playout.playing(), writer) {
            self.drop_unused_tracks();
        }
    }

    /// So many frames are left out, because the worker stood still.
    pub(crate) fn miss(&mut self, frames: u32, writer: &WriterHandle) {
        self.catch_up(writer);
        self.capture.miss(frames);
    }

    /// Whether nothing is missed of the session if its next ticks come late: it sends nothing of its own and nobody reads its
    /// audio. Packets that come are relayed, or dropped.
    pub(crate) fn is_idle(&self) -> bool {
        let active = self.playout.has_any()
            || self.capture.has_tracks()
            || self.detection.is_some()
            || self.routing.room().is_some()
            || self.routing.transcoded
            || self.routing.echo;
        let relayed = self.routing.bridged_with().is_some() && self.outbound.relay != RelayState::Off;
        let fills = self.playout.send_silence && !relayed && !self.is_closing();
        let sends = || self.plan.as_ref().is_some_and(|plan| plan.sends) && self.transport.target().is_some();
        !active && (!fills || !sends())
    }

    // ---- the end ----

    pub(crate) fn is_closing(&self) -> bool {
        self.lifecycle != Lifecycle::Open
    }

    /// Whether the session has ended and can be removed.
    pub(crate) fn is_over(&self) -> bool {
        match self.lifecycle {
            Lifecycle::Open | Lifecycle::Closing => false,
            Lifecycle::Closed(frames) => self.events.backlog() == 0 || frames >= CLOSING,
        }
    }

    /// Ends all work. An RTCP BYE goes out if anything else ever did (RFC 3550 §6.3.7), and recordings end. The session stays
    /// until they are complete.
    pub(crate) fn close(&mut self, writer: &WriterHandle, cx: &mut Context<'_>) {
        if self.is_closing() {
            return;
        }
        if let Some(plan) = &self.plan {
            let (outbound, transport, capture) = (&mut self.outbound, &mut self.transport, &mut self.capture);
            Output { plan, outbound, transport, capture }.flush(cx);
        }
        if self.outbound.sender.packets > 0 || self.quality.reports.any {
            self.send_report(true, cx);
        }
        self.catch_up(writer);
        self.capture.finish_recordings(cx.clock.units(cx.now, 8_000), writer);
        self.capture.drop_tracks();
        self.capture.clear_taps();
        self.routing.transcoded = false;
        self.suppression.clear();
        self.detection = None;
        self.digit_input.set_inband(false);
        self.playout.clear();
        self.lifecycle = Lifecycle::Closing;
    }

    /// Emits the last event, if the session is closed and its recordings are complete.
    pub(crate) fn report_closed(&mut self) {
        if self.lifecycle == Lifecycle::Closing && self.capture.are_recordings_finished() {
            self.lifecycle = Lifecycle::Closed(0);
            let stats = self.stats();
            self.emit(Event::Closed { stats: Box::new(stats) });
        }
    }

    // ---- reports and events ----

    fn send_report(&mut self, bye: bool, cx: &mut Context<'_>) {
        let ntp = cx.clock.ntp(cx.now);
        let block = self.inbound.receiver.report_block(ntp >> 16);
        if let Some(block) = &block {
            self.quality.judge_inbound(block, &self.inbound.receiver, &mut self.events);
        }
        let Some(plan) = &self.plan else { return };
        let (reports, sender) = (&mut self.quality.reports, &self.outbound.sender);
        self.transport.send_rtcp(plan, cx, |packet| reports.write(sender, block, ntp, bye, packet));
    }

    pub(crate) fn stats(&self) -> Stats {
        let (receiver, sender) = (&self.inbound.receiver, &self.outbound.sender);
        let heard = self.quality.reports.heard_of_us;
        let round_trip_ms = self.quality.reports.round_trip_ms;
        let path = |lost: f64, of: f64, burst_ratio, jitter_ms| Path {
            codec: self.track_codec(),
            loss: lost / of.max(1.0),
            burst_ratio,
            delay_ms: quality::delay_ms(round_trip_ms, jitter_ms),
        };
        let late = self.capture.late();
        let missed = f64::from(receiver.lost()) + late as f64;
        let inbound = path(missed, receiver.expected_in_all().into(), receiver.burst_ratio(), receiver.jitter_ms());
        // Reports do not say how the losses were spread.
        let outbound = heard.map(|heard| path(heard.lost.into(), heard.sent as f64, 1.0, heard.jitter_ms));
        let mut stats = Stats {
            packets_in: receiver.packets,
            octets_in: receiver.octets,
            packets_out: sender.packets,
            octets_out: sender.octets,
            lost: receiver.lost().into(),
            late,
            burst_ratio: receiver.burst_ratio() as f32,
            lost_by_peer: heard.map(|heard| heard.lost.into()),
            jitter_ms: receiver.jitter_ms(),
            jitter_by_peer_ms: heard.map(|heard| heard.jitter_ms),
            round_trip_ms,
            mos: (receiver.packets > 0).then(|| inbound.mos()),
            mos_by_peer: outbound.map(|path| path.mos()),
            signalled: self.transport.signalled(),
            heard_from: self.transport.learnt(),
            sent_to: self.transport.target(),
            expected: self.plan.as_ref().is_some_and(|plan| plan.receives && plan.remote.is_some()),
            dropped_presses: self.digit_input.dropped,
            not_relayed: self.outbound.not_relayed,
            ..Stats::default()
        };
        self.inbound.add_dropped(&mut stats);
        stats
    }

    /// Whether more events wait for the sink than are kept.
    pub(crate) fn is_flooded(&self) -> bool {
        self.events.backlog() > BACKLOG
    }

    /// Reports an event. Past [`BACKLOG`] the next tick closes the session; until then at most one tick's events more are kept.
    pub(crate) fn emit(&mut self, event: Event) {
        self.events.send(event);
    }
}
