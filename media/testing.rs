//! Two legs on a virtual clock, and a link that can lose and reorder packets. Tests use these legs to run the whole
//! engine without sockets and threads.

mod kernel;
pub(crate) mod voice;

use kernel::FakeKernel;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use tandem_webrtc::Identity;

use crate::command::{Command, LegId};
use crate::engine::{Core, TICK};
use crate::event::{Event, EventSink, Full};
use crate::network::{Flow, MediaClock, Network, Pin};
use crate::offload::{COPY, FlowCounts, OffloadRule};
use crate::rtp::Header;
use crate::sdp::{ICE_SECRET, IceSetup, Local, Negotiation};
use crate::session::{MediaSession, Resumed, RunningOperations, SessionState};
use crate::snapshot::SessionSnapshot;
use crate::writer::{Writer, WriterHandle};

/// The certificate of the engine under test.
static IDENTITY: LazyLock<Arc<Identity>> = LazyLock::new(|| Arc::new(Identity::generate().unwrap()));

/// The data with which sessions negotiate ICE.
pub(crate) fn ice_setup() -> Arc<IceSetup> {
    let fingerprint = IDENTITY.fingerprint().clone();
    Arc::new(IceSetup { secret: [5; ICE_SECRET], fingerprint, lite: false, udp_port: None, tcp_port: None })
}

/// A packet that the engine sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// The time since the pair was created.
    pub(crate) at: Duration,
    pub(crate) flow: Flow,
    pub(crate) to: SocketAddr,
    pub(crate) packet: Vec<u8>,
}

impl Sent {
    pub(crate) fn header(&self) -> Header {
        Header::parse(&self.packet).unwrap()
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.packet[self.header().payload]
    }
}

/// A leg. This struct also contains the RTP state of the leg's far end, and the events of the leg's session.
pub(crate) struct TestLeg {
    pub(crate) key: LegId,
    pub(crate) slot: usize,
    pub(crate) address: SocketAddr,
    pub(crate) negotiation: Negotiation,
    log: Arc<Mutex<EventLog>>,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload_type: u8,
}

#[derive(Default)]
struct EventLog {
    now: Duration,
    events: Vec<(Duration, Event)>,
    full: bool,
}

#[derive(Default)]
struct Wire {
    now: Duration,
    sent: Vec<(usize, Sent)>,
    released: Vec<usize>,
    kernel: FakeKernel,
    /// The time that each measurement with the engine's stopwatch returns.
    cost: Duration,
    stopwatch: std::cell::Cell<Duration>,
}

impl Network for Wire {
    fn send(&mut self, slot: usize, flow: Flow, to: SocketAddr, packet: &[u8]) {
        self.sent.push((slot, Sent { at: self.now, flow, to, packet: packet.to_vec() }));
    }

    fn pin(&mut self, _: usize, _: Option<Pin>) {}

    fn release(&mut self, slot: usize) {
        self.released.push(slot);
    }

    fn offload(&mut self, rule: &OffloadRule) -> bool {
        self.kernel.offload(self.now, rule)
    }

    fn counted(&mut self, slot: usize) -> Option<FlowCounts> {
        self.kernel.counted(self.now, slot)
    }

    fn revoke(&mut self, slot: usize) -> Option<FlowCounts> {
        let counted = self.kernel.counted(self.now, slot);
        self.kernel.flows.remove(&slot);
        counted
    }

    fn stopwatch(&self) -> Duration {
        self.stopwatch.set(self.stopwatch.get() + self.cost);
        self.stopwatch.get()
    }
}

/// Two legs on a virtual clock.
pub(crate) struct MediaPair {
    pub(crate) core: Core,
    writer: Writer,
    writer_handle: WriterHandle,
    /// The NTP time of `origin`.
    ntp: u64,
    writes: bool,
    origin: Instant,
    now: Duration,
    wire: Wire,
    pub(crate) a: TestLeg,
    pub(crate) b: TestLeg,
    /// The packets on the link to the engine. Each entry contains the arrival time, the slot, the flow, the source and
    /// the octets of a packet.
    link: Vec<(Duration, usize, Flow, SocketAddr, Vec<u8>)>,
    recorded: Arc<Mutex<Vec<(LegId, Event)>>>,
    pub(crate) over: Vec<LegId>,
}

/// One of the two legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

impl MediaPair {
    /// Creates two legs. A (127.0.0.2:4000) has offered PCMU, and B (127.0.0.3:4000) has offered PCMA. Their
    /// telephone-events have the payload types 101 and 96.
    pub(crate) fn new() -> MediaPair {
        MediaPair::with("m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n")
    }

    /// Creates two legs as `MediaPair::new` does, but A offers the m-line `a_media`.
    pub(crate) fn with(a_media: &str) -> MediaPair {
        MediaPair::between(a_media, "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\n")
    }

    /// Creates two legs with these m-lines. Every codec is supported.
    #[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
    pub(crate) fn between(a_media: &str, b_media: &str) -> MediaPair {
        let origin = Instant::now();
        let ([writer, ..], handle) = Writer::new();
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let done = Arc::clone(&recorded);
        let ntp = 0x1234_5678_0000_0000;
        let mut core = Core::new(
            origin,
            ntp,
            crate::suppress::budget::SuppressionBudget::new(60),
            handle.clone(),
            Arc::new(move |key, event| done.lock().unwrap().push((key, event))),
        );
        let a = TestLeg::new(&mut core, origin, 1, "127.0.0.2", a_media);
        let b = TestLeg::new(&mut core, origin, 2, "127.0.0.3", b_media);
        MediaPair {
            core,
            writer,
            writer_handle: handle,
            ntp,
            writes: true,
            origin,
            now: Duration::ZERO,
            wire: Wire::default(),
            a,
            b,
            link: Vec::new(),
            recorded,
            over: Vec::new(),
        }
    }

    /// Creates two legs as [`MediaPair::between`] does, with a kernel that accepts every offload.
    pub(crate) fn with_kernel(a_media: &str, b_media: &str) -> MediaPair {
        let mut pair = MediaPair::between(a_media, b_media);
        pair.core.enable_offload();
        pair
    }

    /// Whether the kernel relays the leg's packets.
    pub(crate) fn is_offloaded(&mut self, side: Side) -> bool {
        let slot = self.leg_mut(side).slot;
        self.wire.kernel.passes_on(slot) == Some(true)
    }

    /// Whether the kernel drops the leg's packets, because they have no reader.
    pub(crate) fn is_dropped(&mut self, side: Side) -> bool {
        let slot = self.leg_mut(side).slot;
        self.wire.kernel.passes_on(slot) == Some(false)
    }

    /// The number of packets that the kernel has relayed.
    pub(crate) fn passed(&self) -> u64 {
        self.wire.kernel.passed
    }

    fn leg_mut(&mut self, side: Side) -> &mut TestLeg {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// Replaces A by a leg before its first offer or answer.
    pub(crate) fn renew_a(&mut self) {
        self.core.remove(self.origin + self.now, self.a.key, &mut self.wire);
        self.a = TestLeg::without_plan(&mut self.core, 7, self.a.address);
    }

    /// The virtual time as an instant.
    pub(crate) fn instant(&self) -> Instant {
        self.origin + self.now
    }

    /// Handles a new offer from the far end.
    pub(crate) fn offer(&mut self, side: Side, media: &str) {
        let leg = self.leg_mut(side);
        let body = offer(leg.address, media);
        leg.negotiation.answer(body.as_bytes()).unwrap();
        let (key, plan) = (leg.key, leg.negotiation.plan().unwrap().clone());
        assert!(self.core.apply(self.origin + self.now, key, plan, &mut self.wire));
    }

    /// Returns the leg's session and its plan.
    pub(crate) fn plan(&mut self, side: Side) -> (LegId, crate::sdp::MediaPlan) {
        let leg = self.leg_mut(side);
        (leg.key, leg.negotiation.plan().unwrap().clone())
    }

    /// Applies the plan of another negotiation.
    pub(crate) fn apply(&mut self, key: LegId, plan: crate::sdp::MediaPlan) {
        assert!(self.core.apply(self.origin + self.now, key, plan, &mut self.wire));
    }

    pub(crate) fn command(&mut self, side: Side, command: Command) {
        let key = self.leg_mut(side).key;
        let outcome = self.core.handle_command(self.origin + self.now, key, command, &mut self.wire);
        assert!(matches!(outcome, crate::engine::Outcome::Done), "{outcome:?}");
    }

    /// Sends a command to any session.
    pub(crate) fn command_of(&mut self, key: LegId, command: Command) {
        self.core.handle_command(self.origin + self.now, key, command, &mut self.wire);
    }

    pub(crate) fn bridge(&mut self) {
        let with = self.b.key;
        self.command(Side::A, Command::Bridge { with });
    }

    pub(crate) fn close(&mut self, side: Side) {
        let key = self.leg_mut(side).key;
        self.core.close(self.origin + self.now, key, &mut self.wire);
    }

    /// Returns a session as data.
    pub(crate) fn state(&mut self, side: Side) -> SessionState {
        let key = self.leg_mut(side).key;
        self.core.snapshot(self.origin + self.now, key, &mut self.wire).unwrap()
    }

    /// Takes snapshots of both sessions and ends their core. After `pause`, continues the sessions in another core, whose media
    /// clock begins at this moment. The sessions may have sent `skipped` packets more. Returns the running operations.
    pub(crate) fn resume_elsewhere(&mut self, pause: Duration, skipped: u16) -> [RunningOperations; 2] {
        let written = [Side::A, Side::B].map(|side| {
            let (session, negotiation) = (self.state(side), self.leg_mut(side).negotiation.clone());
            SessionSnapshot { session, negotiation }.write(inverted).unwrap()
        });
        self.now += pause;
        // The ticks stay on one grid, so that a session that continues at once sends each frame when it would have.
        let ticked = self.now - Duration::from_nanos((self.now.as_nanos() % TICK.as_nanos()) as u64);
        let ntp = MediaClock::new(self.origin, self.ntp).ntp(self.origin + ticked);
        let done = Arc::clone(&self.recorded);
        self.core = Core::new(
            self.origin + ticked,
            ntp,
            crate::suppress::budget::SuppressionBudget::new(60),
            self.writer_handle.clone(),
            Arc::new(move |key, event| done.lock().unwrap().push((key, event))),
        );
        let instant = self.origin + self.now;
        [Side::A, Side::B].map(|side| {
            let octets = &written[usize::from(side == Side::B)];
            let snapshot = SessionSnapshot::read(octets, |encrypted| Some(inverted(encrypted.to_vec()))).unwrap();
            let running = snapshot.running();
            let leg = self.leg_mut(side);
            leg.negotiation = snapshot.negotiation;
            leg.negotiation.set_ice(ice_setup(), leg.key.0);
            let events = sink(&leg.log);
            let (state, send_silence) = (snapshot.session, true);
            let resumed = Resumed {
                state,
                events,
                send_silence,
                relatch_probation: None,
                skipped,
                identity: Some(Arc::clone(&IDENTITY)),
            };
            let slot = self.core.resume(instant, resumed);
            self.leg_mut(side).slot = slot;
            running
        })
    }

    /// Sends the far end's next 20 ms of audio. The packet needs `delay` on the link.
    pub(crate) fn send_audio(&mut self, side: Side, octet: u8, delay: Duration) {
        let leg = self.leg_mut(side);
        let packet = leg.next(leg.payload_type, &[octet; 160]);
        leg.timestamp = leg.timestamp.wrapping_add(160);
        self.send(side, Flow::Rtp, packet, delay);
    }

    /// Sets the time that each measurement with the engine's stopwatch returns.
    pub(crate) fn set_cost(&mut self, cost: Duration) {
        self.wire.cost = cost;
    }

    /// Sets whether the writer runs.
    pub(crate) fn set_writing(&mut self, writes: bool) {
        self.writes = writes;
    }

    /// Skips one packet of the far end, as if the link had lost this packet.
    pub(crate) fn lose(&mut self, side: Side) {
        let leg = self.leg_mut(side);
        leg.sequence = leg.sequence.wrapping_add(1);
        leg.timestamp = leg.timestamp.wrapping_add(160);
    }

    /// Sends a datagram from the far end's own address. The datagram needs `delay` on the link.
    pub(crate) fn send(&mut self, side: Side, flow: Flow, packet: Vec<u8>, delay: Duration) {
        let address = self.leg_mut(side).address;
        self.send_from(side, flow, address, packet, delay);
    }

    pub(crate) fn send_from(&mut self, side: Side, flow: Flow, from: SocketAddr, packet: Vec<u8>, delay: Duration) {
        let slot = self.leg_mut(side).slot;
        let due = self.now + delay;
        self.link.push((due, slot, flow, from, packet));
    }

    /// Sends `frames` frames from both far ends. All octets of A are `a`, and all octets of B are `b`.
    pub(crate) fn talk(&mut self, frames: usize, a: u8, b: u8) {
        for _ in 0..frames {
            self.send_audio(Side::A, a, Duration::ZERO);
            self.send_audio(Side::B, b, Duration::ZERO);
            self.advance(20);
        }
    }

    /// Advances the clock in steps of 1 ms.
    pub(crate) fn advance(&mut self, milliseconds: u64) {
        self.pass(milliseconds, Duration::from_millis(1));
    }

    /// Advances the clock by `steps` steps of length `step`. Long tests use 5 ms, the tick of a worker.
    pub(crate) fn pass(&mut self, steps: u64, step: Duration) {
        for _ in 0..steps {
            self.now += step;
            let instant = self.origin + self.now;
            self.wire.now = self.now;
            self.a.log.lock().unwrap().now = self.now;
            self.b.log.lock().unwrap().now = self.now;
            let (due, later): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.link).into_iter().partition(|one| one.0 <= self.now);
            self.link = later;
            for (_, slot, flow, from, mut packet) in due {
                // A flow of the kernel has the address of the far end.
                let usual = if slot == self.a.slot { self.a.address } else { self.b.address };
                let is_usual = from == usual;
                let relayed = is_usual.then(|| self.wire.kernel.relay(self.now, slot, flow, &mut packet)).flatten();
                let comes_up = relayed.is_none() || packet.first() == Some(&COPY);
                if let Some((to, packet)) = relayed.flatten() {
                    let address = if to == self.a.slot { self.a.address } else { self.b.address };
                    self.wire.sent.push((to, Sent { at: self.now, flow, to: address, packet }));
                }
                if comes_up && !self.wire.released.contains(&slot) {
                    self.core.handle_packet(instant, slot, flow, from, &mut packet, &mut self.wire);
                }
            }
            let over = &mut self.over;
            self.core.handle_tick(instant, &mut self.wire, |key| over.push(key));
            if self.writes {
                self.writer.step();
            }
            let recorded = std::mem::take(&mut *self.recorded.lock().unwrap());
            for (key, event) in recorded {
                self.core.handle_recorded(key, event);
            }
        }
    }

    /// Returns the RTP packets sent to the far end since the last call.
    pub(crate) fn heard(&mut self, side: Side) -> Vec<Sent> {
        self.take_sent(side, Flow::Rtp)
    }

    pub(crate) fn reports(&mut self, side: Side) -> Vec<Sent> {
        self.take_sent(side, Flow::Rtcp)
    }

    fn take_sent(&mut self, side: Side, flow: Flow) -> Vec<Sent> {
        let slot = self.leg_mut(side).slot;
        let (ours, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.wire.sent).into_iter().partition(|(to, sent)| *to == slot && sent.flow == flow);
        self.wire.sent = rest;
        ours.into_iter().map(|(_, sent)| sent).collect()
    }

    /// Returns the session's events since the last call, each with its time.
    pub(crate) fn events(&mut self, side: Side) -> Vec<(Duration, Event)> {
        std::mem::take(&mut self.leg_mut(side).log.lock().unwrap().events)
    }

    /// The RTP address in the SDP of the leg's far end.
    pub(crate) fn address(&mut self, side: Side) -> SocketAddr {
        self.leg_mut(side).address
    }

    /// Sets whether the session's sink is full.
    pub(crate) fn set_full(&mut self, side: Side, full: bool) {
        self.leg_mut(side).log.lock().unwrap().full = full;
    }
}

impl TestLeg {
    fn new(core: &mut Core, origin: Instant, key: u128, address: &str, media: &str) -> TestLeg {
        let address = SocketAddr::new(address.parse().unwrap(), 4_000);
        let mut leg = TestLeg::without_plan(core, key, address);
        leg.negotiation.answer(offer(address, media).as_bytes()).unwrap();
        let plan = leg.negotiation.plan().unwrap().clone();
        leg.payload_type = plan.audio.payload_type;
        assert!(core.apply(origin, LegId(key), plan, &mut Wire::default()));
        leg
    }

    /// Creates a leg before its first offer or answer.
    fn without_plan(core: &mut Core, key: u128, address: SocketAddr) -> TestLeg {
        let log = Arc::new(Mutex::new(EventLog::default()));
        let sink = sink(&log);
        let mut session = Box::new(MediaSession::new(LegId(key), key as u64, sink, true));
        session.set_identity(Arc::clone(&IDENTITY));
        let slot = core.insert(session);
        let local = Local { address: "127.0.0.1".parse().unwrap(), port: 20_000, id: 1 };
        let mut negotiation = Negotiation::new(local);
        negotiation.set_codecs(&crate::sdp::CODECS);
        negotiation.set_ice(ice_setup(), key);
        TestLeg {
            key: LegId(key),
            slot,
            address,
            negotiation,
            log,
            sequence: 65_500,
            timestamp: u32::MAX - 2_000,
            payload_type: 0,
        }
    }

    /// Returns a packet with the far end's next sequence number and current timestamp.
    pub(crate) fn next(&mut self, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            marker: false,
            payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: 0xAA,
            payload: 12..12 + payload.len(),
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = vec![0; 12];
        header.write(&mut packet);
        packet.extend(payload);
        packet
    }
}

fn sink(log: &Arc<Mutex<EventLog>>) -> EventSink {
    let log = Arc::clone(log);
    Arc::new(move |_, event| {
        let mut log = log.lock().unwrap();
        if log.full {
            return Err(Full);
        }
        let now = log.now;
        log.events.push((now, event));
        Ok(())
    })
}

/// An encryption of tests: each octet is inverted.
fn inverted(octets: Vec<u8>) -> Vec<u8> {
    octets.into_iter().map(|octet| !octet).collect()
}

fn offer(address: SocketAddr, media: &str) -> String {
    let ip = address.ip();
    format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{media}")
}

/// A temporary file of this test process. The file is removed on drop.
pub(crate) struct TestFile(pub(crate) PathBuf);

impl TestFile {
    pub(crate) fn new(name: &str) -> TestFile {
        TestFile(std::env::temp_dir().join(format!("tandem-media-{}-{name}.wav", std::process::id())))
    }

    pub(crate) fn samples(&self) -> Vec<i16> {
        hound::WavReader::open(&self.0).unwrap().into_samples().map(Result::unwrap).collect()
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
