//! One leg's media: its RTP both ways, and all that listens to it or speaks on it. Pure; [`crate::engine`] drives it.
//!
//! ```text
//!   RTP in -> latch -> receiver -> dtmf | audio -> (mute) -> timeline -> recorders, taps
//!                                                    \-> relay to the bridged session, or echo
//!   digits > playback > source > relay | echo > silence -> sender -> RTP out -> timeline
//! ```

mod speaking;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::codec::Codec;
use crate::codec::g711::Law;
use crate::command::{Command, OpId, SessionKey};
use crate::engine::{Counts, Flow, MediaClock, Network};
use crate::event::{BACKLOG, Event, EventSink, FinishReason, RecordingReason, Stats};
use crate::latch::{Admission, Latch};
use crate::player::Playback;
use crate::quality::{self, Impairment, Path, Watch};
use crate::recorder::{Drain, Pause, Recorder};
use crate::rtp::dtmf::{Allowance, Detector, DigitSender};
use crate::rtp::receiver::{Budget, Receiver, ReportBlock};
use crate::rtp::reports::{Reports, Verdict};
use crate::rtp::rtcp;
use crate::rtp::sender::Sender;
use crate::rtp::{FIXED, FRAME, Header, is_rtcp};
use crate::sdp::MediaPlan;
use crate::source::SourcePlayer;
use crate::tap::Tap;
use crate::timeline::{self, Reader, Stamp, Timeline};
use crate::tone::ToneGenerator;
use crate::writer::{Done, NewRecording, WriterHandle};

/// Recorders and taps that a session takes, each.
const SINKS: usize = 8;
/// Marks told in a frame: more would fill the event sink faster than it is emptied, and a full one ends the session.
const MARKS: usize = 32;
/// Packets between two reports that say something about their loss: 1 s.
const JUDGED: u64 = 50;
/// Frames without RTP after which the peer no longer counts as sending: 200 ms.
const ALIVE: u16 = 10;
/// Frames that a closed session waits for a sink that stays full: 10 s.
const CLOSING: u16 = 500;

/// What a received packet is, for whoever it is relayed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Audio(Law),
    Events,
}

/// What surrounds a session while it works.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Instant,
    pub(crate) clock: &'a MediaClock,
    pub(crate) network: &'a mut dyn Network,
    pub(crate) counts: &'a mut Counts,
    pub(crate) slot: usize,
}

/// The session that another is bridged with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) key: SessionKey,
    /// Its place on this worker.
    pub(crate) slot: usize,
}

/// One leg's media.
pub(crate) struct MediaSession {
    pub(crate) key: SessionKey,
    events: EventSink,
    backlog: VecDeque<Event>,
    plan: Option<MediaPlan>,
    latch: Latch,
    /// The network takes packets from the latched source only.
    pinned: bool,
    rtcp_learnt: Option<SocketAddr>,
    receiver: Receiver,
    budget: Budget,
    sender: Sender,
    detector: Detector,
    presses: Allowance,
    playback: Option<Playback>,
    digits: Option<Digits>,
    source: Option<SourcePlayer>,
    recorders: Vec<Recorder>,
    /// Recordings whose files are not complete.
    unfinished: usize,
    taps: Vec<Tap>,
    timelines: Option<Box<Timelines>>,
    /// Whom it is bridged with.
    pub(crate) peer: Option<Peer>,
    pub(crate) echo: bool,
    muted: bool,
    relayed_any: bool,
    send_silence: bool,
    packing: Packing,
    frames_since_rtp: u16,
    reports: Reports,
    watch: Watch,
    /// Packets that had come when their loss was last judged.
    judged_packets: u64,
    stats: Stats,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its sockets are gone; it waits for its recordings and for its sink.
    Closing {
        frames: u16,
        told: bool,
    },
}

struct Digits {
    op: OpId,
    sender: DigitSender,
    timestamp: u32,
    /// For a peer without telephone-events.
    tone: Option<ToneGenerator>,
}

struct Timelines {
    inbound: Timeline,
    outbound: Timeline,
    /// Of inbound and outbound.
    live: [Reader; 2],
    recorder: [Reader; 2],
    /// The media clock at the last frame read.
    now: u32,
}

impl Timelines {
    fn new(law: Law) -> Timelines {
        Timelines {
            inbound: Timeline::octets(law),
            outbound: Timeline::octets(law),
            live: [Reader::adaptive(), Reader::adaptive()],
            recorder: [timeline::recorder(), timeline::recorder()],
            now: 0,
        }
    }

    /// What a recorder that stops now still lacks, frame by frame.
    fn drain(&mut self) -> impl FnMut(&mut [i16; FRAME], &mut [i16; FRAME]) {
        let ([mut from_inbound, mut from_outbound], mut now) = (self.recorder.clone(), self.now);
        move |inbound, outbound| {
            now = now.wrapping_add(FRAME as u32);
            self.inbound.read_samples(&mut from_inbound, now, inbound);
            self.outbound.read_samples(&mut from_outbound, now, outbound);
        }
    }
}

/// Frames gathered for a packet of more than one.
struct Packing {
    packet: [u8; FIXED + 3 * FRAME],
    frames: usize,
    timestamp: u32,
}

impl MediaSession {
    pub(crate) fn new(key: SessionKey, seed: u64, events: EventSink, send_silence: bool) -> MediaSession {
        MediaSession {
            key,
            events,
            backlog: VecDeque::new(),
            plan: None,
            latch: Latch::default(),
            pinned: false,
            rtcp_learnt: None,
            receiver: Receiver::default(),
            budget: Budget::default(),
            sender: Sender::new(seed),
            detector: Detector::default(),
            presses: Allowance::default(),
            playback: None,
            digits: None,
            source: None,
            recorders: Vec::new(),
            unfinished: 0,
            taps: Vec::new(),
            timelines: None,
            peer: None,
            echo: false,
            muted: false,
            relayed_any: false,
            send_silence,
            packing: Packing { packet: [0; FIXED + 3 * FRAME], frames: 0, timestamp: 0 },
            frames_since_rtp: u16::MAX,
            reports: Reports::new(seed),
            watch: Watch::default(),
            judged_packets: 0,
            stats: Stats::default(),
            state: State::Open,
        }
    }

    /// Takes what offer and answer agreed. The same plan again changes nothing; another opens the latch (true).
    pub(crate) fn apply(&mut self, plan: MediaPlan) -> bool {
        if self.plan.as_ref() == Some(&plan) {
            return false;
        }
        self.latch.reopen(plan.remote);
        self.rtcp_learnt = None;
        self.receiver.set_clock_rate(plan.codec.clock_rate());
        self.packing.frames = 0;
        self.pinned = false;
        self.plan = Some(plan);
        true
    }

    /// A source that is silent for so long can lose its place to another; `None`: it cannot.
    pub(crate) fn set_relatch_probation(&mut self, probation: Option<Duration>) {
        self.latch.set_probation(probation);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state != State::Open
    }

    /// Whether nothing is left to wait for.
    pub(crate) fn is_over(&self) -> bool {
        match self.state {
            State::Open => false,
            State::Closing { frames, told } => (told && self.backlog.is_empty()) || frames >= CLOSING,
        }
    }

    // ---- packets ----

    /// Takes one datagram of the RTP port. Returns what it is when it should be relayed.
    pub(crate) fn handle_rtp(
        &mut self,
        from: SocketAddr,
        packet: &mut [u8],
        around: &mut Surroundings<'_>,
    ) -> Option<(Header, Heard)> {
        if is_rtcp(packet) {
            self.handle_rtcp(from, packet, around);
            return None;
        }
        let (Some(header), Some(plan)) = (Header::parse(packet), &self.plan) else {
            self.stats.dropped_malformed += 1;
            around.counts.malformed += 1;
            return None;
        };
        let mut clock_rate = 8_000;
        let heard = match plan.codec_of(header.payload_type).and_then(Codec::law) {
            Some(law) => Heard::Audio(law),
            None => {
                let Some(rate) = plan.events_of(header.payload_type) else {
                    self.stats.dropped_payload_type += 1;
                    around.counts.dropped += 1;
                    return None;
                };
                clock_rate = rate;
                Heard::Events
            }
        };
        match self.latch.admits(from, header.ssrc, header.sequence, around.now) {
            Admission::Peer => {}
            Admission::Moved => self.moved(from),
            Admission::Stranger => {
                self.stats.dropped_stranger += 1;
                around.counts.dropped += 1;
                return None;
            }
        }
        if !self.budget.take() {
            self.stats.dropped_flood += 1;
            around.counts.dropped += 1;
            return None;
        }
        let first = self.receiver.packets == 0;
        if !self.pinned && self.latch.is_settled(around.now) {
            self.pinned = true;
            around.network.pin(around.slot, Some(from));
        }
        let arrival = around.clock.units(around.now, self.receiver.rate());
        let new = self.receiver.handle(&header, arrival);
        self.frames_since_rtp = 0;
        around.counts.packets_in += 1;
        if first {
            self.emit(Event::FirstPacket);
        }
        let payload = packet.get_mut(header.payload.clone())?;
        match heard {
            Heard::Events => {
                if let Some((digit, duration_ms)) = self.detector.handle(&header, payload, clock_rate) {
                    if self.presses.take() {
                        self.emit(Event::Dtmf { digit, duration_ms });
                    } else {
                        self.stats.dropped_presses += 1;
                    }
                }
                // A muted leg's keys are reported but not passed on.
                (!self.muted).then_some((header, heard))
            }
            Heard::Audio(law) => {
                if self.muted {
                    payload.fill(law.silence());
                }
                if let Some(timelines) = &mut self.timelines {
                    let stamp = Stamp { timestamp: header.timestamp, marker: header.marker, arrival };
                    if new {
                        timelines.inbound.restart();
                    }
                    timelines.inbound.write_octets(stamp, law, payload);
                }
                Some((header, heard))
            }
        }
    }

    /// The peer has taken another address.
    fn moved(&mut self, to: SocketAddr) {
        self.rtcp_learnt = None;
        self.emit(Event::SourceMoved { to });
    }

    /// Whether the newest packet came so late that the one after it may be here as well.
    pub(crate) fn is_late(&self) -> bool {
        self.receiver.is_late()
    }

    /// Takes one datagram of the RTCP port.
    pub(crate) fn handle_rtcp(&mut self, from: SocketAddr, packet: &[u8], around: &mut Surroundings<'_>) {
        // Only from the host that talks RTP; its port is what it is, behind NAT.
        if self.latch.target().is_some_and(|target| target.ip() != from.ip()) {
            self.stats.dropped_stranger += 1;
            around.counts.dropped += 1;
            return;
        }
        let now = around.clock.ntp(around.now) >> 16;
        let clock_rate = self.plan.as_ref().map_or(8_000, |plan| plan.codec.clock_rate());
        match self.reports.handle(packet, &mut self.receiver, &self.sender, clock_rate, now) {
            Verdict::Taken => {
                if self.latch.target().is_some() {
                    self.rtcp_learnt = Some(from);
                }
                self.judge_what_the_peer_hears();
            }
            Verdict::Foreign => {
                self.stats.dropped_rtcp += 1;
                around.counts.dropped += 1;
            }
            Verdict::Malformed => {
                self.stats.dropped_malformed += 1;
                around.counts.malformed += 1;
            }
        }
    }

    /// Sends another session's packet (or, for echo, its own) to this session's peer, patched in place.
    pub(crate) fn relay(&mut self, from: &Header, heard: Heard, packet: &mut [u8], around: &mut Surroundings<'_>) {
        let source_speaks = self.source.as_ref().is_some_and(|source| source.speaks);
        let busy = self.playback.is_some() || self.digits.is_some() || source_speaks;
        let target = self.latch.target();
        let (Some(plan), Some(target), false) = (&self.plan, target, busy) else {
            return self.not_relayed(around);
        };
        let payload_type = match heard {
            Heard::Audio(_) => Some(plan.payload_type),
            Heard::Events => plan.events.map(|events| events.payload_type),
        };
        let (Some(payload_type), true) = (payload_type, plan.sends) else { return self.not_relayed(around) };
        if self.packing.frames > 0 {
            self.flush_packing(around);
        }
        let Some(plan) = &self.plan else { return };
        let samples = if let Heard::Audio(_) = heard { from.payload.len() } else { 0 };
        let Some(header) = self.sender.relayed(from, payload_type, samples) else {
            return self.not_relayed(around);
        };
        let Some(payload) = packet.get_mut(header.payload.clone()) else { return };
        if let Heard::Audio(law) = heard {
            law.transcode(plan.law(), payload);
            if let Some(timelines) = &mut self.timelines {
                let arrival = around.clock.units(around.now, 8_000);
                let stamp = Stamp { timestamp: header.timestamp, marker: header.marker, arrival };
                timelines.outbound.write_octets(stamp, plan.law(), payload);
            }
        }
        // CSRCs, extensions and padding end here: the plain header goes right before the payload.
        let start = header.payload.start - FIXED;
        let Some(packet) = packet.get_mut(start..header.payload.end) else { return };
        header.write(packet);
        around.network.send(around.slot, Flow::Rtp, target, packet);
        around.counts.packets_out += 1;
        around.counts.relayed += 1;
        self.relayed_any = true;
    }

    fn not_relayed(&mut self, around: &mut Surroundings<'_>) {
        self.stats.not_relayed += 1;
        around.counts.dropped += 1;
        // What comes next starts a new stretch.
        self.sender.pause();
    }

    // ---- commands ----

    /// Takes a command that concerns this session alone; bridging is the engine's.
    pub(crate) fn handle_command(&mut self, command: Command, writer: &WriterHandle, done: &Done) {
        if self.is_closing() {
            return;
        }
        match command {
            Command::Play { op, audio, loops } => self.play(Playback::audio(op, audio, loops)),
            Command::Tone { op, tone } => self.play(Playback::tone(op, tone)),
            Command::SendDigits { op, digits, duration_ms } => {
                let sender = DigitSender::new(&digits, duration_ms);
                if let Some(before) = self.digits.replace(Digits { op, sender, timestamp: 0, tone: None }) {
                    self.emit(Event::Finished { op: before.op, reason: FinishReason::Stopped });
                }
            }
            Command::Stop { op } => {
                if self.playback.take_if(|playback| playback.op == op).is_some()
                    || self.digits.take_if(|digits| digits.op == op).is_some()
                {
                    self.emit(Event::Finished { op, reason: FinishReason::Stopped });
                }
            }
            Command::Record { op, spec } => self.record(op, spec, writer, done),
            Command::PauseRecording { op, silence } => {
                self.pause_recording(op, if silence { Pause::Silence } else { Pause::Skip });
            }
            Command::ResumeRecording { op } => self.pause_recording(op, Pause::No),
            Command::StopRecording { op } => {
                if let Some(index) = self.recorders.iter().position(|recorder| recorder.op == op) {
                    let recorder = self.recorders.swap_remove(index);
                    let mut drain = self.timelines.as_mut().map(|both| both.drain());
                    recorder.finish(RecordingReason::Stopped, drain.as_mut().map(|drain| drain as Drain<'_>));
                    drop(drain);
                    writer.wake();
                    self.drop_unused_timelines();
                }
            }
            Command::Tap { op, tracks, sink } => {
                if self.taps.len() < SINKS {
                    self.need_timelines();
                    if self.taps.is_empty()
                        && let Some(timelines) = &mut self.timelines
                    {
                        timelines.live = [Reader::adaptive(), Reader::adaptive()];
                    }
                    self.taps.push(Tap::new(op, tracks, sink));
                }
            }
            Command::Untap { op } => {
                self.taps.retain(|tap| tap.op != op);
                self.drop_unused_timelines();
            }
            Command::Source { op, source } => self.source = Some(SourcePlayer::new(op, source)),
            Command::Unsource { op } => {
                self.source.take_if(|source| source.op == op);
            }
            Command::Echo(on) => {
                self.echo = on;
                self.relayed_any = false;
            }
            Command::Mute { inbound } => self.muted = inbound,
            Command::Bridge { .. } | Command::Unbridge => {}
        }
    }

    /// The bridge begins, or ends.
    pub(crate) fn set_peer(&mut self, peer: Option<Peer>) {
        self.peer = peer;
        self.relayed_any = false;
        self.sender.pause();
    }

    fn play(&mut self, playback: Playback) {
        if let Some(before) = self.playback.replace(playback) {
            self.emit(Event::Finished { op: before.op, reason: FinishReason::Stopped });
        }
    }

    fn record(&mut self, op: OpId, spec: crate::command::RecordSpec, writer: &WriterHandle, done: &Done) {
        let failed = |spec: crate::command::RecordSpec, why: &str| Event::RecordingFinished {
            op,
            reason: RecordingReason::Error(why.to_owned()),
            duration: std::time::Duration::ZERO,
            recorded: std::time::Duration::ZERO,
            dropped: std::time::Duration::ZERO,
            path: spec.path,
            bytes: 0,
        };
        if self.recorders.len() >= SINKS {
            self.emit(failed(spec, "the session has eight recordings already"));
            return;
        }
        let (recorder, feed) = Recorder::new(op, &spec);
        let new = NewRecording { key: self.key, op, spec: spec.clone(), feed, done: Arc::clone(done) };
        if !writer.start(new) {
            self.emit(failed(spec, "too many recordings wait to be opened"));
            return;
        }
        self.unfinished += 1;
        self.need_timelines();
        if self.recorders.is_empty()
            && let Some(timelines) = &mut self.timelines
        {
            timelines.recorder = [timeline::recorder(), timeline::recorder()];
        }
        self.recorders.push(recorder);
    }

    fn pause_recording(&mut self, op: OpId, pause: Pause) {
        for recorder in self.recorders.iter_mut().filter(|recorder| recorder.op == op) {
            recorder.pause(pause);
        }
    }

    /// The writer has completed a file.
    pub(crate) fn handle_recorded(&mut self, event: Event) {
        self.unfinished = self.unfinished.saturating_sub(1);
        self.emit(event);
    }

    fn need_timelines(&mut self) {
        let law = self.plan.as_ref().map_or(Law::Mu, MediaPlan::law);
        self.timelines.get_or_insert_with(|| Box::new(Timelines::new(law)));
    }

    fn drop_unused_timelines(&mut self) {
        if self.recorders.is_empty() && self.taps.is_empty() {
            self.timelines = None;
        }
    }

    /// Ends all work: RTCP BYE goes out, recordings end; the session stays until they are complete.
    pub(crate) fn close(&mut self, writer: &WriterHandle, around: &mut Surroundings<'_>) {
        if self.is_closing() {
            return;
        }
        if self.packing.frames > 0 {
            self.flush_packing(around);
        }
        self.send_report(true, around);
        for recorder in self.recorders.drain(..) {
            let mut drain = self.timelines.as_mut().map(|both| both.drain());
            recorder.finish(RecordingReason::Stopped, drain.as_mut().map(|drain| drain as Drain<'_>));
        }
        writer.wake();
        self.timelines = None;
        self.taps.clear();
        self.source = None;
        self.playback = None;
        self.digits = None;
        self.state = State::Closing { frames: 0, told: false };
    }

    // ---- the media clock ----

    /// One 20 ms frame. False when the session must be closed: its sink has stayed full for too long.
    pub(crate) fn handle_tick(&mut self, writer: &WriterHandle, around: &mut Surroundings<'_>) -> bool {
        self.retry_backlog();
        if let State::Closing { frames, told } = self.state {
            let told = told || self.unfinished == 0;
            if told != matches!(self.state, State::Closing { told: true, .. }) {
                let stats = self.stats();
                self.emit(Event::Closed { stats });
            }
            self.state = State::Closing { frames: frames.saturating_add(u16::from(told)), told };
            return true;
        }
        self.sender.tick();
        self.presses.tick();
        self.budget.tick();
        if self.pinned && self.latch.is_doubted(around.now) {
            self.pinned = false;
            around.network.pin(around.slot, None);
        }
        self.frames_since_rtp = self.frames_since_rtp.saturating_add(1);
        self.speak(around);
        if self.timelines.is_some() {
            self.listen(writer, around.clock.units(around.now, 8_000));
        }
        self.watch.tick();
        if self.reports.tick() {
            self.send_report(false, around);
        }
        self.backlog.len() <= BACKLOG
    }

    /// Gives this frame of both tracks to recorders and taps.
    fn listen(&mut self, writer: &WriterHandle, now: u32) {
        let Some(mut timelines) = self.timelines.take() else { return };
        let both = &mut *timelines;
        both.now = now;
        let native = self.plan.as_ref().map_or(Law::Mu, MediaPlan::law);
        let alive = self.frames_since_rtp < ALIVE;
        let (mut inbound, mut outbound) = ([0; FRAME], [0; FRAME]);
        if !self.taps.is_empty() {
            let [from_inbound, from_outbound] = &mut both.live;
            both.inbound.read_samples(from_inbound, now, &mut inbound);
            both.outbound.read_samples(from_outbound, now, &mut outbound);
            self.taps.retain(|tap| !tap.is_abandoned());
            let mut taps = std::mem::take(&mut self.taps);
            for tap in &mut taps {
                if let Some(dropped_ms) = tap.handle_frame(&inbound, &outbound, native) {
                    self.emit(Event::StreamOverflow { op: tap.op, dropped_ms });
                }
            }
            self.taps = taps;
        }
        if !self.recorders.is_empty() {
            let [from_inbound, from_outbound] = &mut both.recorder;
            both.inbound.read_samples(from_inbound, now, &mut inbound);
            both.outbound.read_samples(from_outbound, now, &mut outbound);
            let mut index = 0;
            let playing = self.playback.as_ref().map(|playback| playback.op);
            while let Some(recorder) = self.recorders.get_mut(index) {
                recorder.playing(playing);
                match recorder.handle_frame(&inbound, &outbound, alive) {
                    None => index += 1,
                    Some(reason) => {
                        self.recorders.swap_remove(index).finish(reason, None);
                        writer.wake();
                    }
                }
            }
        }
        self.timelines = Some(timelines);
        self.drop_unused_timelines();
    }

    // ---- reports and events ----

    fn send_report(&mut self, bye: bool, around: &mut Surroundings<'_>) {
        let ntp = around.clock.ntp(around.now);
        let block = self.receiver.report_block(ntp >> 16);
        if let Some(block) = block {
            self.judge_what_is_heard(&block);
        }
        let Some(plan) = &self.plan else { return };
        let target = self.rtcp_learnt.or_else(|| {
            // Behind NAT the signalled address is of no use; the port after the learnt one is the best guess.
            let learnt = self.latch.learnt().filter(|learnt| Some(*learnt) != plan.remote);
            learnt.map(|learnt| SocketAddr::new(learnt.ip(), learnt.port().saturating_add(1))).or(plan.remote_rtcp)
        });
        let Some(target) = target else { return };
        let mut packet = [0; rtcp::LONGEST];
        let length = self.reports.write(&self.sender, block, ntp, bye, &mut packet);
        if let Some(packet) = packet.get(..length) {
            around.network.send(around.slot, Flow::Rtcp, target, packet);
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
        let missed = f64::from(receiver.lost()) + self.stats.late as f64;
        let inbound = path(missed, receiver.expected_in_all().into(), receiver.burst_ratio(), receiver.jitter_ms());
        // How its losses were spread is not in its reports.
        let outbound = heard.map(|heard| path(heard.lost.into(), heard.sent as f64, 1.0, heard.jitter_ms));
        Stats {
            packets_in: receiver.packets,
            octets_in: receiver.octets,
            packets_out: self.sender.packets,
            octets_out: self.sender.octets,
            lost: receiver.lost().into(),
            burst_ratio: receiver.burst_ratio() as f32,
            lost_by_peer: heard.map_or(0, |heard| heard.lost.into()),
            jitter_ms: receiver.jitter_ms(),
            jitter_by_peer_ms: heard.map(|heard| heard.jitter_ms),
            round_trip_ms,
            mos: (receiver.packets > 0).then(|| inbound.mos()),
            mos_by_peer: outbound.map(|path| path.mos()),
            ..self.stats
        }
    }

    fn emit(&mut self, event: Event) {
        if !self.backlog.is_empty() || (self.events)(self.key, event.clone()).is_err() {
            // Past the bound the next tick closes the session; until then at most a tick's events more are kept.
            self.backlog.push_back(event);
        }
    }

    fn retry_backlog(&mut self) {
        while let Some(event) = self.backlog.front() {
            if (self.events)(self.key, event.clone()).is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }
}
