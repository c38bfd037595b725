//! The media of one leg: its RTP in both directions, the sources of its outbound audio, and the consumers of its
//! inbound audio. This module is pure. [`crate::engine`] drives this module.
//!
//! ```text
//!   RTP in -> transport -> inbound -> digit input | audio -> (mute) -> capture -> recorders, taps, inbound frames
//!                                                      \-> relay to the bridged session, or echo
//!   playout: digits > playback > source > input > relay | echo > silence -> outbound -> transport -> RTP out
//! ```
//!
//! A session owns one state machine for each part, and passes packets, ticks and commands to the machines. A machine
//! has no reference to the other machines. A machine gets all necessary data as arguments.

mod arrivals;
mod capture;
mod digit_input;
mod frame_encoder;
mod gap_watch;
mod inbound;
mod inbound_frame;
mod offload;
mod outbound;
mod packets;
mod playout;
mod quality_reports;
mod quality_series;
mod relay_state;
mod routing;
mod schedule;
mod snapshot;
mod statistics;
mod suppression;
mod track;

use capture::Capture;
use digit_input::DigitInput;
use gap_watch::GapWatch;
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
pub use snapshot::RunningOperations;
pub(crate) use snapshot::{Resumed, SessionState};
use suppression::Suppression;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_webrtc::Identity;

use crate::answering::listener::MachineListener;
use crate::codec::g711::Law;
use crate::codec::{Codec, LONGEST_FRAME, SampleRate};
use crate::command::{Command, LegId, RecordingCommand, Track};
use crate::event::{BACKLOG, Event, EventSink};
use crate::event_queue::EventQueue;
use crate::network::Context;
use crate::player::Playback;
use crate::rtp::dtmf::DigitSender;
use crate::sdp::{AudioPlan, MediaPlan};
use crate::transport::{Applied, Change, Transport};
use crate::writer::{Done, WriterHandle};

/// The number of frames for which a closed session waits for a sink that stays full. They last 10 s.
const CLOSING: u16 = 500;

type SessionEvents = EventQueue<LegId, Event>;

/// The kind of a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketKind {
    Audio(Codec),
    /// Telephone-events, with the clock rate of their timestamps in Hz.
    Events(u32),
    /// Comfort noise (RFC 3389).
    Noise,
}

/// The media of one leg.
pub(crate) struct MediaSession {
    pub(crate) key: LegId,
    lifecycle: Lifecycle,
    /// The plan from offer and answer, or `None` before the first plan.
    plan: Option<MediaPlan>,
    transport: Transport,
    inbound: Inbound,
    pub(crate) routing: Routing,
    outbound: Outbound,
    playout: Playout,
    digit_input: DigitInput,
    capture: Capture,
    /// The newest inbound frame. The value is `None` until a consumer first needs inbound audio frame by frame.
    inbound_frame: Option<Box<InboundFrame>>,
    suppression: Suppression,
    /// The running answering machine detection, if any.
    detection: Option<Box<MachineListener>>,
    quality: QualityReports,
    gap_watch: GapWatch,
    pub(crate) schedule: Schedule,
    events: SessionEvents,
}

/// The stages of a session's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifecycle {
    Open,
    /// The sockets are released. The session waits until its recordings are complete.
    Closing,
    /// [`Event::Closed`] was sent this number of frames ago. The session waits until its sink accepts the event.
    Closed(u16),
}

impl MediaSession {
    pub(crate) fn new(key: LegId, seed: u64, events: EventSink, send_silence: bool) -> MediaSession {
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
            gap_watch: GapWatch::default(),
            schedule: Schedule::default(),
            events: EventQueue::new(key, events),
        }
    }

    /// Gives the session another key. Its events have this key from now on.
    pub(crate) fn rename(&mut self, key: LegId) {
        self.key = key;
        self.events.rename(key);
    }

    /// Sets the slot that the session has on its new worker.
    pub(crate) fn set_slot(&mut self, slot: usize) {
        self.transport.set_slot(slot);
    }

    /// Applies a negotiated plan. An unchanged plan has no effect. Returns whether the latch is open again, so that the
    /// session can learn another source.
    pub(crate) fn apply(&mut self, plan: MediaPlan, cx: &mut Context<'_>) -> bool {
        if self.plan.as_ref() == Some(&plan) {
            return false;
        }
        let Applied { opens, refused } = self.transport.apply(&plan.transport, cx);
        self.note_connection();
        if let Some(to) = refused {
            self.events.send(Event::TargetRefused { to });
        }
        let audio = &plan.audio;
        self.inbound.receiver.set_clock_rate(audio.codec.clock_rate());
        self.outbound.apply(audio);
        self.routing.codec_mismatch = false;
        self.capture.follow_outbound(audio.codec);
        let live = self.wants_inbound_frames();
        let inband = audio.receive_events.iter().flatten().next().is_none();
        self.digit_input.set_inband(inband);
        self.plan = Some(plan);
        if inband {
            self.add_live_reader(live);
        }
        self.drop_unused_tracks();
        if self.is_listened_to() {
            self.capture.need_tracks(self.track_codec());
        }
        opens
    }

    /// Reports the changes of a connection that ICE has made.
    fn note_connection(&mut self) {
        while let Some(change) = self.transport.poll_change() {
            match change {
                Change::Route => self.routing.moved = true,
                Change::Encrypted(certificate) => self.events.send(Event::ConnectionEncrypted { certificate }),
                Change::Interrupted => self.events.send(Event::ConnectionInterrupted),
                Change::Restored => self.events.send(Event::ConnectionRestored),
                Change::Failed(failure) => self.events.send(Event::TransportFailed { reason: failure }),
            }
        }
    }

    /// Sets our certificate for DTLS.
    pub(crate) fn set_identity(&mut self, identity: Arc<Identity>) {
        self.transport.set_identity(identity);
    }

    /// Whether the far end's SDP says that the far end sends nothing. In this case the far end is on hold, or the far
    /// end has put this leg on hold without music.
    pub(crate) fn is_held(&self) -> bool {
        self.audio().is_some_and(|audio| !audio.receives) || self.plan.is_some() && !self.transport.has_address()
    }

    /// The codec that we send, or `None` before the first plan.
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.audio().map(|audio| audio.codec)
    }

    /// The part of the plan about the audio, or `None` before the first plan.
    fn audio(&self) -> Option<&AudioPlan> {
        self.plan.as_ref().map(|plan| &plan.audio)
    }

    /// Sets the time for which the latched source must be silent before any other source can replace it. With `None`,
    /// only the same far end can replace the latched source.
    pub(crate) fn set_relatch_probation(&mut self, probation: Option<Duration>) {
        self.transport.set_relatch_probation(probation);
    }

    // ---- commands ----

    /// Handles a command that concerns only this session. The engine handles bridges and rooms. `now` is the media
    /// clock in units of 1/8,000 s.
    pub(crate) fn handle_command(&mut self, command: Command, now: u32, writer: &WriterHandle, done: &Done) {
        if self.is_closing() {
            return;
        }
        match command {
            Command::Play { op, audio, loops, elapsed } => {
                self.playout.play(Playback::audio(op, audio, loops).after(elapsed), &mut self.events);
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
            Command::Recording(command) => self.handle_recording(command, now, writer, done),
            Command::DetectMachine { op, spec } => {
                let live = self.wants_inbound_frames();
                let rate = self.capture.add_live_reader(self.track_codec(), live).rate();
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
            Command::ExpectAudio => self.gap_watch.start(),
            Command::Echo(on) => {
                self.routing.echo = on;
                self.outbound.relay.note_stopped();
            }
            Command::Mute { inbound } => self.inbound.muted = inbound,
            Command::ReportNextPacket => self.inbound.reports_next = true,
            Command::ReportStats => {
                let (stats, series) = (Box::new(self.stats()), self.quality.series.points().to_vec());
                self.emit(Event::Stats { stats, series });
            }
            Command::SendSilence(on) => self.playout.quiet = !on,
            Command::Suppress { direction, on } => {
                self.suppression.set(direction, on);
                self.drop_unused_tracks();
            }
            Command::Bridge { .. } | Command::Unbridge | Command::Join { .. } | Command::Leave => {}
        }
    }

    fn handle_recording(&mut self, command: RecordingCommand, now: u32, writer: &WriterHandle, done: &Done) {
        // Before the command, running recorders read the audio from before it.
        self.catch_up(writer);
        let (key, codec) = (self.key, self.track_codec());
        self.capture.handle_recording(key, command, codec, now, (writer, done), &mut self.events);
        self.drop_unused_tracks();
    }

    /// Handles the end of a recording. The recording's file is complete.
    pub(crate) fn handle_recorded(&mut self, event: Event) {
        self.capture.note_recording_finished();
        self.emit(event);
    }

    // ---- bridges and rooms ----

    /// Starts a bridge with `leg`. With `None`, ends the bridge.
    pub(crate) fn set_bridged_with(&mut self, leg: Option<BridgedLeg>) {
        self.routing.joined = leg.map_or(Joined::Nothing, Joined::Leg);
        self.routing.awaited = None;
        if leg.is_some() {
            self.digit_input.note_joined();
        }
        self.outbound.relay = leg.map_or(RelayState::Off, |_| RelayState::AwaitingFirstRelay { frames: 0 });
        self.outbound.sender.pause();
    }

    /// Continues the bridge from before a snapshot. In contrast to [`MediaSession::set_bridged_with`], the relayed stream
    /// continues.
    pub(crate) fn continue_bridge(&mut self, leg: BridgedLeg) {
        self.routing.joined = Joined::Leg(leg);
        self.routing.awaited = None;
    }

    /// Adds the session to a room, or removes the session from its room.
    pub(crate) fn set_room(&mut self, joined: Joined) {
        let live = self.wants_inbound_frames();
        self.routing.joined = joined;
        self.routing.awaited = None;
        self.outbound.relay.note_stopped();
        if self.routing.room().is_none() {
            self.drop_unused_tracks();
        } else {
            self.add_live_reader(live);
        }
    }

    /// Sets whether the bridged leg gets this session's audio as decoded frames. Otherwise the bridged leg gets relayed
    /// packets.
    pub(crate) fn set_transcoded(&mut self, transcoded: bool) {
        let live = self.wants_inbound_frames();
        if std::mem::replace(&mut self.routing.transcoded, transcoded) == transcoded {
            return;
        }
        if transcoded {
            self.add_live_reader(live);
        } else {
            self.drop_unused_tracks();
        }
    }

    /// Whether this session's packets cannot be relayed to `bridged`. In this case `bridged` needs frames.
    pub(crate) fn must_transcode(&self, bridged: &MediaSession) -> bool {
        let (Some(audio), Some(other)) = (self.audio(), bridged.audio()) else { return false };
        // Only G.711 can be replaced with silence octet by octet. Other muted audio is not relayed.
        !other.passes(audio.codec)
            || self.routing.codec_mismatch
            || (self.inbound.muted && audio.codec.law().is_none())
            || self.is_suppressed(Track::Inbound)
            || bridged.is_suppressed(Track::Outbound)
    }

    /// The longest packet in ms that the far end accepts. `None` means any length.
    pub(crate) fn max_packet_ms(&self) -> Option<u8> {
        self.audio().and_then(|audio| audio.max_packet_ms)
    }

    /// Stops waiting for packets of the bridged leg. Until now, a gap between these packets was the bridged leg's own
    /// silence, and the engine sent nothing during the gap. From now on, the engine sends silence to this leg.
    pub(crate) fn stop_expecting_packets(&mut self) {
        self.outbound.relay = RelayState::Off;
    }

    // ---- readers ----

    /// Whether any consumer needs the inbound audio frame by frame.
    fn wants_inbound_frames(&self) -> bool {
        self.routing.transcoded
            || self.routing.room().is_some()
            || self.detection.is_some()
            || self.digit_input.is_inband()
            || (self.capture.has_taps() && self.is_suppressed(Track::Inbound))
    }

    fn is_listened_to(&self) -> bool {
        self.capture.has_readers() || self.wants_inbound_frames()
    }

    /// Adds a live reader to the inbound audio. `already` says whether the inbound audio has a live reader already.
    fn add_live_reader(&mut self, already: bool) {
        self.capture.add_live_reader(self.track_codec(), already);
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

    /// Whether noise suppression of `track` is on or fading out.
    pub(crate) fn is_suppressed(&self, track: Track) -> bool {
        self.suppression.covers(track)
    }

    /// Stops suppression of `track` because the worker lacks CPU time, or starts suppression again.
    pub(crate) fn set_shed(&mut self, track: Track, shed: bool) {
        self.suppression.set_shed(track, shed, &mut self.events);
    }

    /// Removes the noise from the audio that the leg gets next. `frame` is the buffer for the result. The function also
    /// returns a flag. The flag is true if suppression has ended with this frame.
    pub(crate) fn suppress_input<'a>(
        &mut self,
        input: Option<Input<'a>>,
        frame: &'a mut [i16; LONGEST_FRAME],
    ) -> (Option<Input<'a>>, bool) {
        self.suppression.process_input(input, frame)
    }

    // ---- the media clock ----

    /// Runs the first pass of a frame: reads the inbound frame if a consumer needs it. `now` is the media clock in
    /// units of 1/8,000 s. Returns true if suppression has ended with this frame.
    pub(crate) fn read_inbound_frame(&mut self, instant: Instant, now: u32) -> bool {
        if !self.wants_inbound_frames() || !self.capture.read_inbound(&mut self.inbound_frame, now) {
            return false;
        }
        let Some(frame) = &mut self.inbound_frame else { return false };
        // The detectors run before the suppressor, because the suppressor treats tones as noise.
        self.digit_input.handle_frame(instant, frame.samples(), frame.rate, &mut self.events);
        let event = self.detection.as_mut().and_then(|detection| detection.handle_frame(frame.sound()));
        if let Some(event) = event {
            self.events.send(event);
        }
        let ended = self.suppression.process(Track::Inbound, &mut frame.samples, frame.rate);
        if self.detection.take_if(|detection| detection.is_over()).is_some() {
            self.drop_unused_tracks();
        }
        ended
    }

    /// Returns the newest inbound frame and its rate, once for each frame. Returns `None` if the far end sent no audio
    /// for this frame.
    pub(crate) fn take_inbound_frame(&mut self) -> Option<(&[i16], SampleRate)> {
        self.inbound_frame.as_mut()?.take()
    }

    /// Runs the third and fourth pass of a frame of 20 ms: sends audio to the leg, then feeds recorders and taps.
    /// Returns false if the session must be closed, because its event sink has stayed full for too long.
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
        self.handle_transport_timeout(cx);
        if let Some(plan) = &self.plan {
            let (outbound, transport, capture) = (&mut self.outbound, &mut self.transport, &mut self.capture);
            let mut output = Output { audio: &plan.audio, outbound, transport, capture };
            self.playout.handle_tick(input, &mut output, &mut self.events, cx);
        }
        if self.capture.has_tracks() {
            self.feed_readers(writer, cx.clock.units(cx.now, 8_000));
        }
        if self.quality.tick() {
            self.send_report(false, cx);
        }
        let (packets, expected) = (self.inbound.receiver.packets, self.is_expected());
        self.gap_watch.tick(packets, expected, || self.transport.signalled(), &mut self.events);
        !self.is_flooded()
    }

    /// Passes the audio of both directions to the taps in each frame, and to the recorders in batches. `now` is the
    /// media clock in units of 1/8,000 s.
    fn feed_readers(&mut self, writer: &WriterHandle, now: u32) {
        let read = self.inbound_frame.as_deref().and_then(|frame| frame.read_at(now));
        let native = self.codec().and_then(Codec::law).unwrap_or(Law::Mu);
        if self.capture.feed_taps(read, native, now, &mut self.events) {
            self.drop_unused_tracks();
        }
        if self.capture.note_frame(now) {
            self.catch_up(writer);
        }
    }

    /// Makes the recorders read all frames up to the current frame.
    fn catch_up(&mut self, writer: &WriterHandle) {
        if self.capture.catch_up(self.playout.playing(), writer) {
            self.drop_unused_tracks();
        }
    }

    /// The time at which the transport has work, if a call in each frame is not enough.
    #[inline]
    pub(crate) fn transport_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout()
    }

    /// Lets the transport do the work that is due at `cx.now`.
    pub(crate) fn handle_transport_timeout(&mut self, cx: &mut Context<'_>) {
        self.transport.handle_timeout(cx);
        self.note_connection();
    }

    /// Records `frames` frames as silence. The worker was blocked and missed these frames.
    pub(crate) fn miss(&mut self, frames: u32, writer: &WriterHandle) {
        self.catch_up(writer);
        self.capture.miss(frames);
    }

    /// Whether the session's next ticks may be late without harm. The result is true if the session sends no audio of
    /// its own and no consumer reads its audio. While ticks are late, packets that arrive are still relayed or dropped.
    pub(crate) fn is_idle(&self) -> bool {
        let active = self.playout.has_any()
            || self.capture.has_tracks()
            || self.detection.is_some()
            || self.routing.room().is_some()
            || self.routing.transcoded
            || self.routing.echo
            || self.transport.poll_timeout().is_some();
        let relayed = self.routing.bridged_with().is_some() && self.outbound.relay != RelayState::Off;
        let fills = self.playout.sends_silence() && !relayed && !self.is_closing();
        let sends = || self.audio().is_some_and(|audio| audio.sends) && self.transport.target().is_some();
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

    /// Ends all work and all recordings. Sends an RTCP BYE if the session has ever sent RTP or RTCP (RFC 3550 §6.3.7).
    /// The session continues to exist until the files of its recordings are complete.
    pub(crate) fn close(&mut self, writer: &WriterHandle, cx: &mut Context<'_>) {
        if self.is_closing() {
            return;
        }
        if let Some(plan) = &self.plan {
            let (outbound, transport, capture) = (&mut self.outbound, &mut self.transport, &mut self.capture);
            Output { audio: &plan.audio, outbound, transport, capture }.flush(cx);
        }
        if self.outbound.sender.packets > 0 || self.quality.reports.has_written {
            self.send_report(true, cx);
        }
        self.transport.close(cx);
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

    /// Sends [`Event::Closed`] if the session is closing and its recordings are complete.
    pub(crate) fn report_closed(&mut self) {
        if self.lifecycle == Lifecycle::Closing && self.capture.are_recordings_finished() {
            self.lifecycle = Lifecycle::Closed(0);
            let (stats, series) = (Box::new(self.stats()), self.quality.series.points().to_vec());
            self.emit(Event::Closed { stats, series });
        }
    }

    // ---- reports and events ----

    fn send_report(&mut self, bye: bool, cx: &mut Context<'_>) {
        let ntp = cx.clock.ntp(cx.now);
        let block = self.inbound.receiver.report_block(ntp >> 16);
        if let Some(block) = &block {
            self.quality.judge_inbound(block, &self.inbound.receiver, &mut self.events);
        }
        self.note_quality(ntp);
        let (reports, sender) = (&mut self.quality.reports, &self.outbound.sender);
        self.transport.send_rtcp(cx, |packet| reports.write(sender, block, ntp, bye, packet));
    }

    /// Whether the far end should send RTP, according to the last offer and answer.
    fn is_expected(&self) -> bool {
        self.audio().is_some_and(|audio| audio.receives) && self.transport.has_address()
    }

    /// Whether more than [`BACKLOG`] events wait for the sink.
    pub(crate) fn is_flooded(&self) -> bool {
        self.events.backlog() > BACKLOG
    }

    /// Sends an event. When more than [`BACKLOG`] events wait, the next tick closes the session. Until then the queue
    /// grows by at most the events of one tick.
    pub(crate) fn emit(&mut self, event: Event) {
        self.events.send(event);
    }
}
