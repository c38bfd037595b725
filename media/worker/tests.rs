//! Tests of a worker and its sockets. The tests run the worker step by step on a virtual clock.

use std::net::UdpSocket;

use super::*;
use crate::command::OpId;
use crate::network::{Flow, Network as _};
use crate::ports::Ports;
use crate::sdp::{Local, Negotiation};
use crate::writer::Writer;

/// A worker without a thread. The worker has one session, and `far_end` is the far end of this session.
struct Bench {
    worker: Worker,
    inlet: Inlet,
    far_end: UdpSocket,
    now: Instant,
    sequence: u16,
}

/// Returns a pool of ports that a server with default settings does not use. The pool has so many ports that all tests
/// share the range: a pool skips the ports that are in use.
fn ports() -> Arc<Ports> {
    Arc::new(Ports::new([127, 0, 0, 1].into(), "10000-19999".parse().unwrap()))
}

impl Bench {
    fn new() -> Bench {
        Bench::with_silence(true)
    }

    /// Creates a worker with one session. If `send_silence` is set, the session sends silence, so it is not idle.
    fn with_silence(send_silence: bool) -> Bench {
        let mut bench = Bench::waiting(send_silence);
        bench.worker.drain_inbox(bench.now, false);
        bench
    }

    /// Creates a worker that has not read the messages for its session yet.
    #[expect(clippy::disallowed_methods, reason = "a clock needs some origin")]
    fn waiting(send_silence: bool) -> Bench {
        let shared = Arc::new(Shared::of_workers(1, None).unwrap());
        let (_, writer) = Writer::new();
        let worker = Worker::new(
            0,
            Arc::clone(&shared),
            SuppressionBudget::new(60),
            crate::Config::default().thread_load(),
            writer,
        )
        .unwrap();
        let now = Instant::now();
        let sockets = ports().bind().unwrap().unwrap();
        let far_end = UdpSocket::bind("127.0.0.1:0").unwrap();
        far_end.connect(("127.0.0.1", sockets.port)).unwrap();
        let session = Box::new(MediaSession::new(LegId(1), 1, Arc::new(|_, _| Ok(())), send_silence));
        shared.post(0, Message::Open { session, sockets });
        let mut negotiation = Negotiation::new(Local { address: [127, 0, 0, 1].into(), port: 4_000, id: 1 });
        let port = far_end.local_addr().unwrap().port();
        let offer = format!(
            "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
        );
        negotiation.answer(offer.as_bytes()).unwrap();
        let plan = negotiation.plan().unwrap().clone();
        shared.post(0, Message::Plan { key: LegId(1), plan });
        Bench { worker, inlet: Inlet::new(), far_end, now, sequence: 0 }
    }

    /// Sends the far end's next packet, which has `ms` ms of audio.
    fn send_packet(&mut self, ssrc: u8, ms: u32) {
        let mut packet = [0xFF; 172];
        let [high, low] = self.sequence.to_be_bytes();
        let timestamp = u32::from(self.sequence) * ms * 8;
        packet[..4].copy_from_slice(&[0x80, 0, high, low]);
        packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&[0, 0, 0, ssrc]);
        self.far_end.send(&packet).unwrap();
        self.sequence += 1;
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.worker.drain_sockets(self.now, &mut self.inlet);
    }

    /// Wakes the worker after `ms` ms. If `idle` is true, the worker was in an idle sleep. Otherwise it waited for the
    /// next tick.
    fn wake(&mut self, ms: u64, idle: bool, woken: Woken) {
        let until = self.now + IDLE_SLEEP;
        let wait = if idle { Wait::Idle { until } } else { Wait::Tick { until } };
        self.now += Duration::from_millis(ms);
        self.worker.wake(self.now, wait, woken, &mut self.inlet);
    }

    fn taken(&self) -> u64 {
        self.worker.core.counts.packets_in
    }
}

#[test]
fn a_session_that_wakes_a_worker_gets_no_audio_for_the_time_before() {
    // A worker without sessions wakes once a second. An idle worker wakes more often.
    let nothing = Woken { message: false, packet: false };
    let message = Woken { message: true, ..nothing };
    let packet = Woken { packet: true, ..nothing };
    for (ms, woken) in [(900, message), (50, message), (60, nothing), (50, packet)] {
        let mut bench = Bench::waiting(true);
        if woken.packet {
            bench.send_packet(7, 20);
        }
        bench.wake(ms, true, woken);
        for _ in 0..20 {
            bench.wake(5, false, nothing);
        }
        assert_eq!(bench.worker.core.counts.packets_out, 5, "100 ms of silence after {ms} ms");
    }
}

#[test]
fn packets_that_arrive_together_at_first_do_not_stay_delayed() {
    for ms in [10, 20, 60] {
        let mut bench = Bench::new();
        (0..4).for_each(|_| bench.send_packet(7, ms));
        bench.pass(5);
        for _ in 0..70 {
            bench.send_packet(7, ms);
            bench.pass(ms.into());
        }
        assert_eq!(bench.taken(), 74, "of {ms} ms");
    }
}

#[test]
fn two_simultaneous_streams_do_not_fill_the_socket() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        bench.send_packet(7, 20);
        bench.send_packet(8, 20);
        bench.pass(20);
    }
    for _ in 0..70 {
        bench.send_packet(8, 20);
        bench.pass(20);
    }
    assert_eq!(bench.taken(), 170);
}

#[test]
fn a_worker_without_packets_and_audio_to_send_sleeps_idly() {
    let mut bench = Bench::with_silence(false);
    bench.send_packet(7, 20);
    bench.pass(5);
    assert!(matches!(bench.worker.next_wait(bench.now), Wait::PerPacket { .. }), "a packet has just come");
    bench.now += QUIET_BEFORE_IDLE;
    let until = bench.now + IDLE_SLEEP;
    assert_eq!(bench.worker.next_wait(bench.now), Wait::Idle { until });
    let command = Command::SendDigits { op: OpId(1), digits: "1w2".into(), duration_ms: 100 };
    bench.worker.handle(bench.now, Message::Command { key: LegId(1), command, of: None });
    assert_eq!(bench.worker.next_wait(bench.now), Wait::Idle { until }, "looked at when the sleep is over");
    bench.now = until;
    assert!(matches!(bench.worker.next_wait(bench.now), Wait::PerPacket { .. }), "it sends digits");
}

#[test]
fn a_worker_whose_session_sends_silence_is_not_idle() {
    let mut bench = Bench::new();
    bench.now += QUIET_BEFORE_IDLE;
    assert!(matches!(bench.worker.next_wait(bench.now), Wait::PerPacket { .. }));
}

#[test]
fn an_icmp_error_does_not_end_an_idle_sleep() {
    let mut bench = Bench::with_silence(false);
    bench.send_packet(7, 20);
    bench.pass(5);
    let gone = std::mem::replace(&mut bench.far_end, UdpSocket::bind("127.0.0.1:0").unwrap());
    let far_end = gone.local_addr().unwrap();
    drop(gone);
    bench.worker.sockets.send(0, Flow::Rtp, far_end, &[0; 172]);
    bench.worker.sockets.flush();
    bench.now += QUIET_BEFORE_IDLE;
    // Wait until the ICMP error has arrived.
    let mut wake = [PollFd::new(&bench.worker.sockets.epoll, PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut wake, None), Ok(1));
    bench.pass(0);
    assert_eq!(bench.worker.next_wait(bench.now), Wait::Idle { until: bench.now + IDLE_SLEEP });
}

#[test]
fn a_message_that_only_changes_addresses_does_not_end_an_idle_sleep() {
    let inbox = Inbox::new().unwrap();
    let key = LegId(1);
    let is_woken = || rustix::io::read(&inbox.wake, &mut [0; 8]).is_ok();
    for (attention, urgent, other) in
        [(Attention::All, true, true), (Attention::Urgent, true, false), (Attention::Nothing, false, false)]
    {
        let sleeps = || inbox.sleeps(attention).message;
        assert!(!sleeps());
        inbox.post(Message::Command { key, command: Command::Bridge { with: LegId(2) }, of: None });
        assert_eq!((is_woken(), sleeps()), (other, other), "{attention:?}");
        inbox.post(Message::Command { key, command: Command::Stop { op: OpId(1) }, of: None });
        assert_eq!((is_woken(), sleeps()), (urgent, urgent), "{attention:?}");
        inbox.take(true);
    }
}

#[test]
fn the_rtcp_port_is_bound_at_the_first_sent_packet_and_its_reports_are_read() {
    let mut bench = Bench::new();
    let rtcp = ("127.0.0.1", bench.far_end.peer_addr().unwrap().port() + 1);
    assert!(UdpSocket::bind(rtcp).is_ok());
    let far_end = bench.far_end.local_addr().unwrap();
    bench.worker.sockets.send(0, Flow::Rtp, far_end, &[0; 172]);
    bench.worker.sockets.flush();
    assert!(UdpSocket::bind(rtcp).is_err());
    // The engine counts a datagram that is not a report.
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[1], rtcp).unwrap();
    bench.pass(5);
    assert_eq!(bench.worker.core.counts.malformed, 1);
}

#[test]
fn removed_sockets_do_not_disturb_the_other_sockets_of_a_batch() {
    let mut bench = Bench::new();
    bench.send_packet(7, 20);
    bench.inlet.expect(99, Flow::Rtp);
    bench.pass(5);
    assert_eq!(bench.taken(), 1);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a clock needs some origin")]
fn an_unbridge_right_after_a_bridge_across_workers_takes_effect() {
    let now = Instant::now();
    // The session with the larger key always moves, whichever session gets the command.
    for (key, other) in [(LegId(1), LegId(2)), (LegId(2), LegId(1))] {
        for unbridged in [false, true] {
            let shared = Arc::new(Shared::of_workers(2, None).unwrap());
            shared.homes.lock().unwrap().extend([(LegId(1), 0), (LegId(2), 1)]);
            let (_, writer) = Writer::new();
            let mut workers = [0, 1].map(|number| {
                let load = crate::Config::default().thread_load();
                Worker::new(number, Arc::clone(&shared), SuppressionBudget::new(60), load, writer.clone()).unwrap()
            });
            for (worker, key) in workers.iter_mut().zip([LegId(1), LegId(2)]) {
                let session = Box::new(MediaSession::new(key, 1, Arc::new(|_, _| Ok(())), true));
                worker.handle(now, Message::Open { session, sockets: ports().bind().unwrap().unwrap() });
            }
            let home = shared.home(key).unwrap();
            let send = |command| shared.post(home, Message::Command { key, command, of: None });
            send(Command::Bridge { with: other });
            if unbridged {
                send(Command::Unbridge);
            }
            for _ in 0..10 {
                workers.iter_mut().for_each(|worker| worker.drain_inbox(now, true));
            }
            let bridged = workers.iter().any(|worker| worker.core.is_bridged(key) || worker.core.is_bridged(other));
            assert_eq!(bridged, !unbridged, "{key:?}");
        }
    }
}

#[test]
fn a_late_worker_is_overloaded_until_it_is_in_time_or_has_no_session() {
    let nothing = Woken { message: false, packet: false };
    let mut bench = Bench::new();
    let overloaded = |bench: &Bench| bench.worker.shared.published[0].overloaded.load(Ordering::Relaxed);
    // Each round takes 300 ms, so each round is late by nearly 300 ms.
    for _ in 0..8 {
        bench.wake(300, false, nothing);
    }
    assert!(overloaded(&bench));
    assert!((250..=300).contains(&bench.worker.shared.published[0].late_ms.load(Ordering::Relaxed)));
    for _ in 0..600 {
        bench.wake(5, false, nothing);
    }
    assert!(!overloaded(&bench));
    for _ in 0..8 {
        bench.wake(300, false, nothing);
    }
    assert!(overloaded(&bench));
    bench.worker.handle(bench.now, Message::Close { key: LegId(1) });
    bench.wake(20, false, nothing);
    bench.worker.next_wait(bench.now);
    bench.wake(1_000, true, nothing);
    assert!(!overloaded(&bench));
}

#[test]
fn ticks_delayed_by_an_idle_sleep_are_not_overload() {
    let nothing = Woken { message: false, packet: false };
    let mut bench = Bench::with_silence(false);
    for _ in 0..100 {
        bench.wake(60, true, nothing);
    }
    assert!(!bench.worker.load.is_overloaded());
}
