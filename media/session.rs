//! One leg's media: its RTP both ways, and all that listens to it or speaks on it. Pure; [`crate::engine`] drives it.
//!
//! ```text
//!   RTP in -> latch -> receiver -> dtmf | audio -> (mute) -> timeline -> recorders, taps
//!                                                    \-> relay to the bridged session, or echo
//!   digits > playback > source > input > relay | echo > silence -> sender -> RTP out -> timeline
//! ```

mod arrivals;
mod capture;
mod detecting;
mod frame_encoder;
mod inbound_frame;
mod offload;
mod packets;
mod playout;
mod srtp_context;
mod suppression;
mod track;

use capture::{Tracks, Unread};
use frame_encoder::FrameEncoder;
use inbound_frame::InboundFrame;
pub(crate) use playout::Input;
use srtp_context::SrtpContext;
use suppression::Suppression;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::answering::listener::MachineListener;
use crate::codec::Codec;
use crate::command::{Command, OpId, RecordingCommand, SessionKey, Track};
use crate::dtmf::InbandDetector;
use crate::engine::{Counts, Flow, MediaClock, Network, RoomSeat};
use crate::event::{BACKLOG, Event, EventSink, FinishReason, Stats};
use crate::event_queue::EventQueue;
use crate::latch::Latch;
use crate::offload::Offload;
use crate::player::Playback;
use crate::quality::{self, Impairment, Path, Watch};
use crate::recorders::{Obeyed, Recorders};
use crate::rtp::dtmf::{Allowance, Detector, DigitSender};
use crate::rtp::receiver::{PacketBudget, Receiver, ReportBlock};
use crate::rtp::reports::Reports;
use crate::rtp::rtcp;
use crate::rtp::sender::Sender;
use crate::sdp::MediaPlan;
use crate::source::SourcePlayer;
use crate::tap::Tap;
use crate::tone::ToneGenerator;
use crate::writer::{Done, WriterHandle};

/// Taps that a session takes.
const SINKS: usize = 16;
/// Marks told in a frame: more would fill the event sink faster than it is emptied, and a full one ends the session.
const MARKS: usize = 32;
/// The longest payload that we send, in octets: 60 ms of G.711 (480), 20 ms of L16 at 16,000 Hz (640).
const LONGEST: usize = 640;
/// Packets between two reports that say something about their loss: 1 s.
const JUDGED: u64 = 50;
/// Frames that a closed session waits for a sink that stays full: 10 s.
const CLOSING: u16 = 500;

/// What a received packet is, for whoever it is relayed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketKind {
    Audio(Codec),
    /// Telephone-events, and units a second of their timestamps.
    Events(u32),
    /// Comfort noise (RFC 3389).
    Noise,
}

/// What surrounds a session while it works.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) clock: &'a MediaClock,
    pub(crate) network: &'a mut dyn Network,
    pub(crate) counts: &'a mut Counts,
    pub(crate) slot: usize,
    /// What is relayed has been sent already ([`crate::offload`]).
    pub(crate) sent: bool,
}

/// How much would be missed of a session whose ticks are caught up with later; the least calm first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Activity {
    /// It says something of its own, or listens.
    Active,
    /// It is sent silence, frame by frame.
    SendingSilence,
    /// What packets come are relayed, or dropped.
    Idle,
}

/// The session that another is bridged with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BridgedLeg {
    pub(crate) key: SessionKey,
    /// Its place on this worker.
    pub(crate) slot: usize,
}

/// One leg's media. In the order in which a relayed packet needs it: the fields of the first part share few cache lines,
/// and there are thousands of sessions.
#[repr(C)]
pub(crate) struct MediaSession {
    pub(crate) key: SessionKey,
    /// Whom it is bridged with.
    pub(crate) bridged_with: Option<BridgedLeg>,
    state: State,
    pub(crate) echo: bool,
    /// How its packets get to its peer.
    pub(crate) offload: Offload,
    muted: bool,
    relayed_any: bool,
    /// It was bridged, and its peer has said nothing yet, or nothing for a while.
    fresh: bool,
    /// Frames since then, less those of the silence that it has been sent; else since something was relayed to it.
    hush: u8,
    send_silence: bool,
    /// The network takes packets from the latched source only.
    pinned: bool,
    /// What it hears goes to its peer frame by frame, as packets cannot be relayed.
    pub(crate) framed: bool,
    /// The peer speaks a codec that it is not spoken to in.
    strays: bool,
    /// When it came to its worker, whose ticks of before then do not serve it; until one has.
    pub(crate) here_since: Option<Instant>,
    /// Its next tick is left out: it would come too soon after the last.
    pub(crate) skips: bool,
    /// By how many ticks its frames are later than they would be had it been served in the same group all the time.
    pub(crate) shift: i32,
    presses: Allowance,
    budget: PacketBudget,
    playback: Option<Box<Playback>>,
    digits: Option<Box<Digits>>,
    source: Option<Box<SourcePlayer>>,
    tracks: Option<Box<Tracks>>,
    unread: Unread,
    /// For a peer without telephone-events, whose keys are tones.
    ear: Option<Box<InbandDetector>>,
    packing: Packing,
    receiver: Receiver,
    sender: Sender,
    latch: Latch,
    srtp: SrtpContext,
    plan: Option<MediaPlan>,

    reports: Reports,
    watch: Watch,
    recorders: Recorders,
    taps: Vec<Tap>,
    /// Orders so far that say whom it is to hear.
    pub(crate) orders: u32,
    /// The room that it is in.
    pub(crate) room: Option<RoomSeat>,
    heard: Option<Box<InboundFrame>>,
    suppression: Option<Box<Suppression>>,
    machine: Option<Box<MachineListener>>,
    /// For frames that are not octets of the plan's law.
    voice: Option<Box<FrameEncoder>>,
    detector: Detector,
    /// The telephone-event of another clock that is being passed on: its timestamp there and here.
    passed_event: Option<(u32, u32)>,
    rtcp_learnt: Option<SocketAddr>,
    /// Packets that had come when their loss was last judged.
    judged_packets: u64,
    stats: Stats,
    events: EventQueue<SessionKey, Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its sockets are gone; it waits for its recordings.
    Closing,
    /// It has said so, so many frames ago, and waits for its sink.
    Told(u16),
}

struct Digits {
    op: OpId,
    sender: DigitSender,
    timestamp: u32,
    /// For a peer without telephone-events.
    tone: Option<ToneGenerator>,
}

/// Frames gathered for a packet of more than one.
struct Packing {
    /// As long as the longest so far; at most `FIXED + LONGEST`.
    packet: Vec<u8>,
    frames: usize,
    octets: usize,
    timestamp: u32,
}

impl MediaSession {
    pub(crate) fn new(key: SessionKey, seed: u64, events: EventSink, send_silence: bool) -> MediaSession {
        MediaSession {
            key,
            events: EventQueue::new(key, events),
            plan: None,
            latch: Latch::default(),
            srtp: SrtpContext::default(),
            pinned: false,
            rtcp_learnt: None,
            receiver: Receiver::default(),
            budget: PacketBudget::default(),
            sender: Sender::new(seed),
            detector: Detector::default(),
            presses: Allowance::default(),
            playback: None,
            digits: None,
            source: None,
            recorders: Recorders::default(),
            taps: Vec::new(),
            tracks: None,
            unread: Unread::default(),
            heard: None,
            suppression: None,
            machine: None,
            ear: None,
            framed: false,
            strays: false,
            here_since: None,
            skips: false,
            shift: 0,
            passed_event: None,
            voice: None,
            orders: 0,
            room: None,
            bridged_with: None,
            echo: false,
            offload: Offload::default(),
            muted: false,
            relayed_any: false,
            fresh: false,
            hush: 0,
            send_silence,
            packing: Packing { packet: Vec::new(), frames: 0, octets: 0, timestamp: 0 },
            reports: Reports::new(seed),
            watch: Watch::default(),
            judged_packets: 0,
            stats: Stats::default(),
            state: State::Open,
        }
    }

    /// Takes what offer and answer agreed. The same plan again changes nothing; another opens the latch (true), unless it
    /// is a hold that names no address, which says nothing of where the peer is.
    pub(crate) fn apply(&mut self, plan: MediaPlan) -> bool {
        if self.plan.as_ref() == Some(&plan) {
            return false;
        }
        self.srtp.set(&plan.protection);
        self.latch.set_source(plan.source);
        let opens = plan.remote.is_some() || self.latch.target().is_none();
        if opens {
            self.latch.reopen(plan.remote);
            self.rtcp_learnt = None;
            self.pinned = false;
        }
        self.receiver.set_clock_rate(plan.codec.clock_rate());
        self.sender.set_clock_rate(plan.codec.clock_rate());
        (self.packing.frames, self.packing.octets) = (0, 0);
        self.strays = false;
        // What is heard changes with the packets.
        if let Some(tracks) = self.tracks.as_mut().filter(|tracks| !tracks.outbound.takes(plan.codec)) {
            tracks.outbound.follow(plan.codec, plan.codec.sample_rate(), self.unread.frames);
        }
        let heard = self.hears();
        let tones = plan.events_taken.iter().flatten().next().is_none();
        self.ear = tones.then(|| self.ear.take().unwrap_or_else(|| Box::new(InbandDetector::new())));
        self.plan = Some(plan);
        if tones {
            self.listen_live(heard);
        }
        self.drop_unused_tracks();
        if self.is_listened_to() {
            self.need_tracks();
        }
        opens
    }

    /// Whether its peer has said that it sends nothing: it is on hold, or holds us without music.
    pub(crate) fn is_held(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| !plan.receives || plan.remote.is_none())
    }

    /// A source that is silent for so long can lose its place to another; `None`: it cannot.
    pub(crate) fn set_relatch_probation(&mut self, probation: Option<Duration>) {
        self.latch.set_probation(probation);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state != State::Open
    }

    /// Whether a tick that was due at `tick` serves it.
    pub(crate) fn is_due(&self, tick: Instant) -> bool {
        !self.skips && self.here_since.is_none_or(|since| since <= tick)
    }

    /// Whether nothing is left to wait for.
    pub(crate) fn is_over(&self) -> bool {
        match self.state {
            State::Open | State::Closing => false,
            State::Told(frames) => self.events.backlog() == 0 || frames >= CLOSING,
        }
    }

    // ---- commands ----

    /// Takes a command that concerns this session alone; bridging is the engine's. `now`: the media clock, 8,000 a second.
    pub(crate) fn handle_command(&mut self, command: Command, now: u32, writer: &WriterHandle, done: &Done) {
        if self.is_closing() {
            return;
        }
        match command {
            Command::Play { op, audio, loops } => self.play(Playback::audio(op, audio, loops)),
            Command::Tone { op, tone } => self.play(Playback::tone(op, tone)),
            Command::SendDigits { op, digits, duration_ms } => {
                let sender = DigitSender::new(&digits, duration_ms);
                if let Some(running) = self.digits.as_mut().filter(|running| running.op == op) {
                    running.sender.append(sender);
                } else if let Some(before) =
                    self.digits.replace(Box::new(Digits { op, sender, timestamp: 0, tone: None }))
                {
                    self.emit(Event::Finished { op: before.op, reason: FinishReason::Stopped });
                }
            }
            Command::Stop { op } => {
                if self.machine.take_if(|machine| machine.op == op).is_some() {
                    self.drop_unused_tracks();
                }
                if self.playback.take_if(|playback| playback.op == op).is_some()
                    || self.digits.take_if(|digits| digits.op == op).is_some()
                {
                    self.emit(Event::Finished { op, reason: FinishReason::Stopped });
                }
            }
            Command::Recording(order) => self.handle_recording(order, now, writer, done),
            Command::DetectMachine { op, spec } => self.detect_machine(op, &spec),
            Command::Tap { op, tracks, sink } => {
                if self.taps.len() < SINKS {
                    let tapped = !self.taps.is_empty();
                    let heard = tapped || self.hears();
                    let both = self.listen_live(heard);
                    if !tapped {
                        both.outbound.begin_live();
                    }
                    self.taps.push(Tap::new(op, tracks, sink));
                }
            }
            Command::Untap { op } => {
                self.taps.retain(|tap| tap.op != op);
                self.drop_unused_tracks();
            }
            Command::Source { op, source } => self.source = Some(Box::new(SourcePlayer::new(op, source))),
            Command::Unsource { op } => {
                self.source.take_if(|source| source.op == op);
            }
            Command::Echo(on) => {
                self.echo = on;
                self.relayed_any = false;
            }
            Command::Mute { inbound } => self.muted = inbound,
            Command::Suppress { direction, on } => self.suppress(direction, on),
            Command::Bridge { .. } | Command::Unbridge | Command::Join { .. } | Command::Leave => {}
        }
    }

    /// The bridge begins, or ends.
    pub(crate) fn set_bridged_with(&mut self, peer: Option<BridgedLeg>) {
        self.bridged_with = peer;
        (self.fresh, self.hush) = (peer.is_some(), 0);
        self.relayed_any = false;
        self.sender.pause();
    }

    fn play(&mut self, playback: Playback) {
        if let Some(before) = self.playback.replace(Box::new(playback)) {
            self.emit(Event::Finished { op: before.op, reason: FinishReason::Stopped });
        }
    }

    fn handle_recording(&mut self, order: RecordingCommand, now: u32, writer: &WriterHandle, done: &Done) {
        // Those that are at work read what is theirs alone, up to the frame.
        self.catch_up(writer);
        let first = self.recorders.is_empty();
        match self.recorders.obey(self.key, order, Some(now), writer, done) {
            Obeyed::Started => {
                let tracks = self.need_tracks();
                if first {
                    tracks.inbound.begin_recording();
                    tracks.outbound.begin_recording();
                }
            }
            Obeyed::Stopped(recorder) => {
                self.stop_recorder(recorder, now);
                writer.wake();
                self.drop_unused_tracks();
            }
            Obeyed::Refused(event) => self.emit(event),
            Obeyed::Done => {}
        }
        self.be_patient();
    }

    /// The writer has completed a file.
    pub(crate) fn handle_recorded(&mut self, event: Event) {
        self.recorders.note_finished();
        self.emit(event);
    }

    /// Begins or ends handing its frames to its peer.
    pub(crate) fn set_framed(&mut self, framed: bool) {
        let heard = self.hears();
        if std::mem::replace(&mut self.framed, framed) == framed {
            return;
        }
        if framed {
            self.listen_live(heard);
        } else {
            self.drop_unused_tracks();
        }
    }

    /// Its peer's packets do not come any more: what they left out was silence of their own, now it is sent ours.
    pub(crate) fn expect_frames(&mut self) {
        (self.relayed_any, self.fresh) = (false, false);
    }

    /// It comes into a room, or leaves it.
    pub(crate) fn set_room(&mut self, room: Option<RoomSeat>) {
        let heard = self.hears();
        self.room = room;
        self.relayed_any = false;
        if room.is_none() {
            self.drop_unused_tracks();
        } else {
            self.listen_live(heard);
        }
    }

    /// What it sends.
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.plan.as_ref().map(|plan| plan.codec)
    }

    /// Whether what `peer` hears of this session cannot be its packets.
    pub(crate) fn must_frame(&self, peer: &MediaSession) -> bool {
        let (Some(plan), Some(other)) = (&self.plan, &peer.plan) else { return false };
        // What is muted and cannot be overwritten with silence octet by octet is not relayed.
        !other.passes(plan.codec)
            || self.strays
            || (self.muted && plan.codec.law().is_none())
            || self.cleans(Track::Inbound)
            || peer.cleans(Track::Outbound)
    }

    fn is_listened_to(&self) -> bool {
        self.hears() || !self.recorders.is_empty() || !self.taps.is_empty()
    }

    fn need_tracks(&mut self) -> &mut Tracks {
        let codec = self.plan.as_ref().map_or(Codec::Pcmu, |plan| plan.codec);
        self.tracks.get_or_insert_with(|| Box::new(Tracks::new(codec, codec.sample_rate())))
    }

    /// For somebody more who listens live to what the peer says; begins when nobody `heard` it until now.
    fn listen_live(&mut self, heard: bool) -> &mut Tracks {
        let tracks = self.need_tracks();
        if !heard {
            tracks.inbound.begin_live();
        }
        tracks
    }

    fn drop_unused_tracks(&mut self) {
        if !self.is_listened_to() {
            self.forget_tracks();
        }
    }

    /// What they counted stays.
    fn forget_tracks(&mut self) {
        if let Some(mut tracks) = self.tracks.take() {
            tracks.inbound.settle();
            self.stats.late += u64::from(tracks.inbound.quality().late);
        }
    }

    /// Ends all work: RTCP BYE goes out if anything else ever did (RFC 3550 §6.3.7), recordings end; the session stays until
    /// they are complete.
    pub(crate) fn close(&mut self, writer: &WriterHandle, cx: &mut Context<'_>) {
        if self.is_closing() {
            return;
        }
        if self.packing.frames > 0 {
            self.flush_packing(cx);
        }
        if self.sender.packets > 0 || self.reports.any {
            self.send_report(true, cx);
        }
        self.catch_up(writer);
        if !self.recorders.is_empty() {
            let now = cx.clock.units(cx.now, 8_000);
            while let Some(recorder) = self.recorders.pop() {
                self.stop_recorder(recorder, now);
            }
            writer.wake();
        }
        self.forget_tracks();
        self.framed = false;
        self.suppression = None;
        self.machine = None;
        self.ear = None;
        self.taps.clear();
        self.source = None;
        self.playback = None;
        self.digits = None;
        self.state = State::Closing;
    }

    /// Says its last word, if it is closed and its recordings are complete.
    pub(crate) fn tell_closed(&mut self) {
        if self.state == State::Closing && self.recorders.are_finished() {
            self.state = State::Told(0);
            let stats = self.stats();
            self.emit(Event::Closed { stats: Box::new(stats) });
        }
    }

    // ---- the media clock ----

    /// One 20 ms frame. False when the session must be closed: its sink has stayed full for too long.
    pub(crate) fn handle_tick(
        &mut self,
        input: Option<Input<'_>>,
        writer: &WriterHandle,
        cx: &mut Context<'_>,
    ) -> bool {
        self.events.retry();
        if self.is_closing() {
            self.tell_closed();
            if let State::Told(frames) = &mut self.state {
                *frames = frames.saturating_add(1);
            }
            return true;
        }
        self.sender.tick();
        self.presses.tick();
        self.budget.tick();
        if self.pinned && self.latch.is_doubted(cx.now) {
            self.pinned = false;
            cx.network.pin(cx.slot, None);
        }
        self.speak(input, cx);
        if self.tracks.is_some() {
            self.listen(writer, cx.clock.units(cx.now, 8_000));
        }
        self.watch.tick();
        if self.reports.tick() {
            self.send_report(false, cx);
        }
        !self.is_flooded()
    }

    /// What would be missed of it.
    pub(crate) fn activity(&self) -> Activity {
        let speaks = self.playback.is_some()
            || self.digits.is_some()
            || self.source.is_some()
            || self.tracks.is_some()
            || self.machine.is_some()
            || self.room.is_some()
            || self.framed
            || self.echo;
        let relayed = self.bridged_with.is_some() && (self.fresh || self.relayed_any);
        let sends = || self.plan.as_ref().is_some_and(|plan| plan.sends) && self.latch.target().is_some();
        match speaks {
            true => Activity::Active,
            false if self.send_silence && !relayed && !self.is_closing() && sends() => Activity::SendingSilence,
            false => Activity::Idle,
        }
    }

    /// Whether more events wait for its sink than are kept.
    pub(crate) fn is_flooded(&self) -> bool {
        self.events.backlog() > BACKLOG
    }

    // ---- reports and events ----

    fn send_report(&mut self, bye: bool, cx: &mut Context<'_>) {
        let ntp = cx.clock.ntp(cx.now);
        let block = self.receiver.report_block(ntp >> 16);
        if let Some(block) = block {
            self.judge_what_is_heard(&block);
        }
        let Some(plan) = &self.plan else { return };
        let target = self.rtcp_learnt.or_else(|| {
            // Behind NAT the signalled address is of no use; the port after the learnt one is the best guess.
            let learnt = self.latch.learnt_target().filter(|learnt| Some(*learnt) != plan.remote);
            learnt.map(|learnt| SocketAddr::new(learnt.ip(), learnt.port().saturating_add(1))).or(plan.remote_rtcp)
        });
        let Some(target) = target else { return };
        let mut packet = [0; rtcp::LONGEST];
        let length = self.reports.write(&self.sender, block, ntp, bye, &mut packet);
        if let Some(packet) = packet.get(..length) {
            self.srtp.send(Flow::Rtcp, target, packet, cx);
        }
    }

    fn judge_what_is_heard(&mut self, block: &ReportBlock) {
        let packets = self.receiver.packets - std::mem::replace(&mut self.judged_packets, self.receiver.packets);
        if packets >= JUDGED {
            self.judge(Impairment::Loss, f32::from(block.fraction_lost) / 2.56);
            self.judge(Impairment::Jitter, self.receiver.jitter_ms());
        }
    }

    fn judge_what_the_peer_hears(&mut self) {
        if let Some(heard) = self.reports.heard_of_us.filter(|heard| heard.recent_packets >= JUDGED) {
            self.judge(Impairment::LossByPeer, heard.recent_loss * 100.0);
            if let Some(voice) = &mut self.voice {
                voice.expect_loss((heard.recent_loss * 100.0).round().clamp(0.0, 100.0) as u8);
            }
            self.judge(Impairment::JitterByPeer, heard.jitter_ms);
        }
        if let Some(round_trip) = self.reports.round_trip_ms {
            self.judge(Impairment::RoundTrip, round_trip);
        }
    }

    fn judge(&mut self, cause: Impairment, value: f32) {
        if self.watch.note(cause, value) {
            self.emit(Event::Impaired { cause, value });
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let receiver = &self.receiver;
        let heard = self.reports.heard_of_us;
        let round_trip_ms = self.reports.round_trip_ms;
        let path = |lost: f64, of: f64, burst_ratio, jitter_ms| Path {
            codec: self.plan.as_ref().map_or(Codec::Pcmu, |plan| plan.codec),
            loss: lost / of.max(1.0),
            burst_ratio,
            delay_ms: quality::delay_ms(round_trip_ms, jitter_ms),
        };
        let late = self.stats.late + self.tracks.as_ref().map_or(0, |tracks| tracks.inbound.quality().late.into());
        let missed = f64::from(receiver.lost()) + late as f64;
        let inbound = path(missed, receiver.expected_in_all().into(), receiver.burst_ratio(), receiver.jitter_ms());
        // How its losses were spread is not in its reports.
        let outbound = heard.map(|heard| path(heard.lost.into(), heard.sent as f64, 1.0, heard.jitter_ms));
        Stats {
            packets_in: receiver.packets,
            octets_in: receiver.octets,
            packets_out: self.sender.packets,
            octets_out: self.sender.octets,
            lost: receiver.lost().into(),
            late,
            burst_ratio: receiver.burst_ratio() as f32,
            lost_by_peer: heard.map(|heard| heard.lost.into()),
            jitter_ms: receiver.jitter_ms(),
            jitter_by_peer_ms: heard.map(|heard| heard.jitter_ms),
            round_trip_ms,
            mos: (receiver.packets > 0).then(|| inbound.mos()),
            mos_by_peer: outbound.map(|path| path.mos()),
            signalled: self.latch.signalled(),
            heard_from: self.latch.learnt(),
            sent_to: self.latch.target(),
            expected: self.plan.as_ref().is_some_and(|plan| plan.receives && plan.remote.is_some()),
            ..self.stats
        }
    }

    /// Past the bound the next tick closes the session; until then at most a tick's events more are kept.
    pub(crate) fn emit(&mut self, event: Event) {
        self.events.send(event);
    }
}
