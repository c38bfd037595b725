//! Tests of threads, ports and files together, with real sockets on 127.0.0.1.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and this one runs on the real clock"
)]

use std::net::UdpSocket;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tandem_media::{
    Audio, Channels, Codec, Command, Config, Country, DtmfMethod, Engine, Event, FinishReason, LegId, NotJoined, OpId,
    OpenError, OpenSpec, Participation, Preference, RecordSpec, RecordingCommand, RecordingReason, ResumeSpec, RoomEnd,
    RoomEvent, RoomKey, RoomSpec, RunningOperations, Session, SessionSnapshot, TapCodec, Tone, Tracks,
};
use tandem_test_support::wait_for_blocking;

/// The time within which an event of these tests comes, even on a busy host.
const SOON: Duration = Duration::from_secs(3);
const FRAME: Duration = Duration::from_millis(20);

/// A far end, with its socket and the events of its session.
struct Phone {
    socket: UdpSocket,
    to: std::net::SocketAddr,
    events: mpsc::Receiver<Event>,
    /// The key of the session in its last event.
    reported: Arc<Mutex<LegId>>,
    session: Session,
    sequence: u16,
}

/// Ports that a server with default settings does not use. An engine takes free ones, so all tests share the range.
const PORTS: &str = "10000-19999";

fn engine(workers: usize) -> Engine {
    Engine::start(Config { ports: PORTS.parse().unwrap(), workers, ..Config::default() }).unwrap()
}

/// Returns a range of two port pairs of `host` that are free now.
fn two_free_pairs(host: &str) -> String {
    let is_free = |port: u16| UdpSocket::bind((host, port)).is_ok();
    let first = (10_000..20_000).step_by(4).find(|first| (*first..first + 4).all(is_free)).unwrap();
    format!("{first}-{}", first + 3)
}

#[test]
fn an_unusable_address_or_port_range_fails_at_the_start() {
    let start = |listen: &str, ports: &str| {
        let config = Config {
            listen: listen.parse::<std::net::IpAddr>().unwrap().into(),
            ports: ports.parse().unwrap(),
            ..Config::default()
        };
        Engine::start(config).err().map(|error| error.to_string())
    };
    let elsewhere = start("203.0.113.9", "20000-20001").unwrap();
    assert!(elsewhere.starts_with("media.listen: cannot bind UDP ports 20000-20001 of 203.0.113.9: "), "{elsewhere}");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let even = taken.local_addr().unwrap().port() & !1;
    let ports = format!("{even}-{}", even + 1);
    assert_eq!(start("127.0.0.1", &ports), Some(format!("media.ports: no pair of the range {ports} is free")));
}

impl Phone {
    fn call(engine: &Engine, key: u128, affinity: u128, codec: Codec) -> Phone {
        let (sender, events) = mpsc::channel();
        let sender = Mutex::new(sender);
        let reported = Arc::new(Mutex::new(LegId(key)));
        let last = Arc::clone(&reported);
        let sink = Arc::new(move |key, event| {
            *last.lock().unwrap() = key;
            let _ = sender.lock().unwrap().send(event);
            Ok(())
        });
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut session = engine.open(OpenSpec::new(LegId(key), affinity), sink).unwrap();
        let port = socket.local_addr().unwrap().port();
        let number = codec.static_payload_type().unwrap();
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP {number} 101\r\na=rtpmap:101 telephone-event/8000\r\n"
        );
        let answer = String::from_utf8(session.answer(offer.as_bytes()).unwrap().to_vec()).unwrap();
        assert!(answer.contains(&format!("m=audio {} RTP/AVP {number} 101", session.port())), "{answer}");
        assert_eq!(session.codec(), Some(codec));
        let to = ([127, 0, 0, 1], session.port()).into();
        Phone { socket, to, events, reported, session, sequence: 0 }
    }

    fn say(&mut self, payload_type: u8, payload: &[u8]) {
        self.sequence += 1;
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((u32::from(self.sequence) * 160).to_be_bytes());
        packet.extend(7u32.to_be_bytes());
        packet.extend(payload);
        self.socket.send_to(&packet, self.to).unwrap();
    }

    fn hear(&self) -> Vec<u8> {
        let mut packet = [0; 2_048];
        let (length, _) = self.socket.recv_from(&mut packet).expect("a packet within three seconds");
        packet[..length].to_vec()
    }

    fn wait(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.events.recv_timeout(Duration::from_secs(5)).expect("the event within five seconds");
            if wanted(&event) {
                return event;
            }
        }
    }
}

#[test]
fn a_prepared_answer_has_no_effect_until_the_session_is_settled() {
    let engine = engine(1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let offer = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8\r\n"
    );
    let mut session = engine.open(OpenSpec::new(LegId(1), 1), Arc::new(|_, _| Ok(()))).unwrap();
    session.prepare_answer(offer.as_bytes(), &Preference::default()).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    let preferred = Preference { codecs: vec![Codec::Pcma], comfort_noise: false };
    session.prepare_answer(offer.as_bytes(), &preferred).unwrap();
    session.settle();
    let mut packet = [0; 2_048];
    socket.recv_from(&mut packet).expect("a packet within three seconds");
    assert_eq!(packet[1] & 0x7F, 8);
    engine.shutdown();
}

fn relay_200(engine: &Engine, first: (u128, u128), second: (u128, u128)) {
    let mut a = Phone::call(engine, first.0, first.1, Codec::Pcmu);
    let mut b = Phone::call(engine, second.0, second.1, Codec::Pcma);
    a.session.command(Command::Bridge { with: b.session.key() }).unwrap();
    // The bridge is complete when each phone has received audio of the other phone.
    let (mut a_hears, mut b_hears) = (false, false);
    wait_for_blocking(SOON, FRAME, "the bridge", || {
        a_hears |= drain(&a).iter().any(|packet| packet[12] != 0xFF);
        b_hears |= drain(&b).iter().any(|packet| packet[12] != 0xD5);
        if a_hears && b_hears {
            return Some(());
        }
        a.say(0, &[0x20; 160]);
        b.say(8, &[0x2A ^ 0x55; 160]);
        None
    });
    drain(&a);
    drain(&b);
    let (mut counts, mut number) = ([0, 0], 0);
    wait_for_blocking(Duration::from_secs(5), Duration::from_millis(5), "200 packets at each phone", || {
        if number < 200 {
            let octet = number % 100;
            a.say(0, &[octet; 160]);
            b.say(8, &[octet; 160]);
            number += 1;
        }
        counts[0] += drain(&a).len();
        counts[1] += drain(&b).len();
        (number == 200 && counts == [200, 200]).then_some(())
    });
    drop(a.session);
    let closed = b_closed(&a.events);
    assert_eq!(closed.lost, 0);
    assert!(closed.packets_in >= 200);
}

fn drain(phone: &Phone) -> Vec<Vec<u8>> {
    phone.socket.set_nonblocking(true).unwrap();
    let mut packets = Vec::new();
    let mut packet = [0; 2_048];
    while let Ok((length, _)) = phone.socket.recv_from(&mut packet) {
        packets.push(packet[..length].to_vec());
    }
    phone.socket.set_nonblocking(false).unwrap();
    packets
}

fn b_closed(events: &mpsc::Receiver<Event>) -> tandem_media::Stats {
    loop {
        if let Event::Closed { stats, .. } =
            events.recv_timeout(Duration::from_secs(5)).expect("Closed within five seconds")
        {
            return *stats;
        }
    }
}

#[test]
fn two_hundred_packets_each_way_are_relayed_and_transcoded_without_loss() {
    let engine = engine(1);
    relay_200(&engine, (1, 9), (2, 9));
    engine.shutdown();
    assert!(engine.load().relayed >= 400);
}

#[test]
fn a_session_takes_the_key_of_a_session_that_closes() {
    let engine = engine(2);
    let mut closing = Phone::call(&engine, 1, 1, Codec::Pcmu);
    let mut kept = Phone::call(&engine, 2, 2, Codec::Pcmu);
    let mut other = Phone::call(&engine, 3, 3, Codec::Pcmu);
    assert!(!kept.session.rename(LegId(1)), "an open session has this key");
    assert!(closing.session.rename(LegId(9)) && kept.session.rename(LegId(1)));
    drop(closing.session);
    b_closed(&closing.events);
    assert_eq!((*closing.reported.lock().unwrap(), kept.session.key()), (LegId(9), LegId(1)));
    other.session.command(Command::Bridge { with: LegId(1) }).unwrap();
    wait_for_blocking(SOON, FRAME, "audio at both phones", || {
        other.say(0, &[0x20; 160]);
        kept.say(0, &[0x30; 160]);
        let hears = |phone: &Phone, octet| drain(phone).iter().any(|packet| packet[12] == octet);
        (hears(&kept, 0x20) && hears(&other, 0x30)).then_some(())
    });
    // The first key of the kept session is free.
    engine.open(OpenSpec::new(LegId(2), 2), Arc::new(|_, _| Ok(()))).unwrap();
    drop(kept.session);
    b_closed(&kept.events);
    assert_eq!(*kept.reported.lock().unwrap(), LegId(1));
    engine.shutdown();
}

#[test]
fn a_bridge_moves_sessions_of_different_workers_together() {
    let engine = engine(4);
    for round in 0..6 {
        relay_200_short(&engine, round);
    }
    engine.shutdown();
}

#[test]
fn sessions_of_different_workers_join_a_room_and_continue_after_its_end() {
    let engine = engine(3);
    let (sender, events) = mpsc::channel();
    let sender = Mutex::new(sender);
    let sink = Arc::new(move |_, event| {
        let _ = sender.lock().unwrap().send(event);
        Ok(())
    });
    let room = engine.open_room(RoomKey(5), 1, RoomSpec::default(), sink.clone()).unwrap();
    assert!(matches!(engine.open_room(RoomKey(5), 2, RoomSpec::default(), sink), Err(OpenError::KeyInUse)));
    let mut phones: Vec<Phone> = (1..=6).map(|key| Phone::call(&engine, key, key, Codec::Pcmu)).collect();
    for phone in &phones {
        let participation = Participation::default();
        phone.session.command(Command::Join { room: RoomKey(5), participation }).unwrap();
    }
    let mut hear = vec![false; phones.len()];
    wait_for_blocking(Duration::from_secs(5), FRAME, "the audio of the room at each phone", || {
        // The last phone only listens.
        phones[..5].iter_mut().for_each(|phone| phone.say(0, &[0x20; 160]));
        for (hears, phone) in hear.iter_mut().zip(&phones) {
            *hears |= drain(phone).iter().any(|packet| packet[12..].iter().any(|octet| *octet & 0x7F < 0x20));
        }
        hear.iter().all(|one| *one).then_some(())
    });
    let joined = events.try_iter().filter(|event| matches!(event, RoomEvent::Joined { .. })).count();
    assert_eq!(joined, 6);
    // After the room has ended, no session can join, and bridges across workers still work.
    drop(room);
    loop {
        let event = events.recv_timeout(Duration::from_secs(3)).expect("the end within three seconds");
        if let RoomEvent::Ended { reason } = event {
            assert_eq!(reason, RoomEnd::Ended);
            break;
        }
    }
    let participation = Participation::default();
    phones[0].session.command(Command::Join { room: RoomKey(5), participation }).unwrap();
    phones[0].wait(|event| *event == Event::NotJoined { room: RoomKey(5), why: NotJoined::NoRoom });
    drop(phones);
    relay_200_short(&engine, 40);
    engine.shutdown();
}

fn relay_200_short(engine: &Engine, round: u128) {
    let key = |place: u128| 1_000 * round + if round.is_multiple_of(2) { place } else { 10 - place };
    let mut phones: Vec<Phone> =
        (1..=3).map(|place| Phone::call(engine, key(place), key(place), Codec::Pcmu)).collect();
    for (from, to) in [(0, 1), (2, 1), (0, 2), (1, 0)] {
        let with = phones[to].session.key();
        phones[from].session.command(Command::Bridge { with }).unwrap();
        let mark = 0x20 + (from * 4 + to) as u8;
        let what = format!("round {round}: the bridge from {from} to {to}");
        wait_for_blocking(SOON, Duration::from_millis(10), &what, || {
            phones[from].say(0, &[mark; 160]);
            drain(&phones[to]).iter().any(|packet| packet.get(12) == Some(&mark)).then_some(())
        });
    }
    for phone in phones {
        drop(phone.session);
        b_closed(&phone.events);
    }
}

#[test]
fn a_prompt_is_sent_a_digit_is_reported_and_a_recording_is_written() {
    let engine = engine(1);
    let folder = std::env::temp_dir().join(format!("tandem-media-{}", std::process::id()));
    let path = folder.join("call.wav");
    let mut phone = Phone::call(&engine, 5, 5, Codec::Pcmu);
    let spec = RecordSpec::new(path.clone(), Channels::Dual);
    phone.session.command(Command::Recording(RecordingCommand::Start { op: OpId(1), spec })).unwrap();
    let audio = Arc::new(Audio::new(vec![8_031i16; 1_600]));
    phone
        .session
        .command(Command::Play { op: OpId(2), audio, loops: std::num::NonZeroU32::new(1), elapsed: Duration::ZERO })
        .unwrap();
    let mut loud = 0;
    for _ in 0..25 {
        phone.say(0, &[0x10; 160]);
        let packet = phone.hear();
        assert_eq!(packet.len(), 172);
        loud += usize::from(packet[12] != 0xFF);
    }
    assert_eq!(loud, 10);
    phone.wait(|event| *event == Event::Finished { op: OpId(2), reason: FinishReason::Completed });
    phone.say(101, &[7, 10, 0, 160]);
    phone.wait(|event| *event == Event::Dtmf { digit: '7', duration_ms: 20, method: DtmfMethod::Event });
    phone.session.command(Command::Recording(RecordingCommand::Stop { op: OpId(1) })).unwrap();
    let Event::RecordingFinished { reason, duration, bytes, .. } =
        phone.wait(|event| matches!(event, Event::RecordingFinished { .. }))
    else {
        unreachable!()
    };
    assert_eq!(reason, RecordingReason::Stopped);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes);
    assert_eq!(bytes, 44 + duration.as_millis() as u64 * 32);
    let samples = hound::WavReader::open(&path).unwrap().into_samples::<i16>().map(Result::unwrap).collect::<Vec<_>>();
    assert!(samples.iter().step_by(2).filter(|sample| **sample != 0).count() >= 20 * 160);
    assert!(samples.iter().skip(1).step_by(2).filter(|sample| sample.unsigned_abs() > 4_000).count() >= 1_440);
    std::fs::remove_dir_all(folder).unwrap();
    engine.shutdown();
}

#[test]
fn a_shutdown_completes_recordings_and_notifies_every_sink() {
    let engine = engine(2);
    let path = std::env::temp_dir().join(format!("tandem-media-shutdown-{}.wav", std::process::id()));
    let phone = Phone::call(&engine, 6, 6, Codec::Pcmu);
    let spec = RecordSpec { track: Tracks::Outbound, ..RecordSpec::new(path.clone(), Channels::Mono) };
    phone.session.command(Command::Tone { op: OpId(1), tone: Tone::Ringback(Country::De) }).unwrap();
    phone.session.command(Command::Recording(RecordingCommand::Start { op: OpId(2), spec })).unwrap();
    for _ in 0..20 {
        phone.hear();
    }
    engine.shutdown();
    let Event::RecordingFinished { duration, .. } =
        phone.wait(|event| matches!(event, Event::RecordingFinished { .. }))
    else {
        unreachable!()
    };
    assert!(duration >= Duration::from_millis(340), "{duration:?}");
    phone.wait(|event| matches!(event, Event::Closed { .. }));
    assert!(matches!(engine.open(OpenSpec::new(LegId(9), 9), Arc::new(|_, _| Ok(()))), Err(OpenError::ShuttingDown)));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn exhausted_ports_are_an_error_until_a_session_ends() {
    let listen = "127.0.71.3";
    let ports = two_free_pairs(listen).parse().unwrap();
    let engine = Engine::start(Config {
        listen: listen.parse::<std::net::IpAddr>().unwrap().into(),
        ports,
        workers: 1,
        ..Config::default()
    })
    .unwrap();
    let sink = || -> tandem_media::EventSink { Arc::new(|_, _| Ok(())) };
    let first = engine.open(OpenSpec::new(LegId(1), 1), sink()).unwrap();
    let _second = engine.open(OpenSpec::new(LegId(2), 1), sink()).unwrap();
    assert!(matches!(engine.open(OpenSpec::new(LegId(1), 1), sink()), Err(OpenError::KeyInUse)));
    assert!(matches!(engine.open(OpenSpec::new(LegId(3), 1), sink()), Err(OpenError::PortsExhausted)));
    let port = first.port();
    drop(first);
    let third = wait_for_blocking(SOON, Duration::from_millis(5), "a free pair of ports", || {
        engine.open(OpenSpec::new(LegId(3), 1), sink()).ok()
    });
    assert_eq!(third.port(), port);
    engine.shutdown();
}

#[test]
fn a_tap_gets_a_frame_every_20_ms_and_ends_with_its_session() {
    let engine = engine(1);
    let phone = Phone::call(&engine, 8, 8, Codec::Pcmu);
    let (sink, mut reader) = tandem_media::tap(500, TapCodec::Pcmu);
    phone.session.command(Command::Tap { op: OpId(1), tracks: Tracks::Inbound, sink }).unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut frames = Vec::new();
    wait_for_blocking(SOON, Duration::from_millis(2), "20 frames of the tap", || {
        while frames.len() < 20
            && let std::task::Poll::Ready(Some(frame)) = reader.poll_next(&mut context)
        {
            frames.push(frame.timestamp_ms);
        }
        (frames.len() == 20).then_some(())
    });
    assert_eq!(frames, (0..20).map(|place| place * 20).collect::<Vec<u64>>());
    drop(phone.session);
    b_closed(&phone.events);
    wait_for_blocking(SOON, Duration::from_millis(5), "the end of the tap", || {
        let frame = reader.poll_next(&mut context);
        matches!(frame, std::task::Poll::Ready(None)).then_some(())
    });
    engine.shutdown();
}

#[test]
fn an_ipv4_and_an_ipv6_far_end_exchange_audio() {
    let mut listen = tandem_media::Addresses::from(std::net::IpAddr::from([127, 0, 0, 1]));
    listen.add(std::net::Ipv6Addr::LOCALHOST.into());
    let engine = Engine::start(Config { listen, ports: PORTS.parse().unwrap(), workers: 1, ..Config::default() });
    let Ok(engine) = engine else {
        tandem_test_support::skip(tandem_test_support::Needs::Host("this computer has no IPv6"));
        return;
    };
    let mut far_ends = Vec::new();
    for (key, host, family) in [(1, "127.0.0.1", "IP4"), (2, "::1", "IP6")] {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let offer = format!(
            "v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
        );
        let far_end = tandem_media::offered_address(offer.as_bytes());
        assert_eq!(far_end, Some(host.parse().unwrap()));
        let spec = OpenSpec { far_end: far_end.into(), ..OpenSpec::new(LegId(key), 1) };
        let mut session = engine.open(spec, Arc::new(|_, _| Ok(()))).unwrap();
        let answer = String::from_utf8(session.answer(offer.as_bytes()).unwrap().to_vec()).unwrap();
        assert!(answer.contains(&format!("c=IN {family} {host}\r\n")), "{answer}");
        socket.connect((host, session.port())).unwrap();
        far_ends.push((session, socket));
    }
    far_ends[0].0.command(Command::Bridge { with: LegId(2) }).unwrap();
    for (from, to, octet) in [(0, 1, 0x21), (1, 0, 0x22)] {
        let mut sequence = 0u16;
        wait_for_blocking(Duration::from_secs(5), FRAME, &format!("the audio of {from}"), || {
            let mut packet = vec![0x80, 0];
            packet.extend(sequence.to_be_bytes());
            packet.extend((u32::from(sequence) * 160).to_be_bytes());
            packet.extend([0, 0, 0, 7]);
            packet.extend([octet; 160]);
            far_ends[from].1.send(&packet).unwrap();
            sequence += 1;
            let mut received = [0; 2_048];
            far_ends[to].1.set_nonblocking(true).unwrap();
            let mut octets = std::iter::from_fn(|| far_ends[to].1.recv(&mut received).ok().map(|_| received[12]));
            octets.any(|one| one == octet).then_some(())
        });
    }
    // A far end of unknown family gets the usual one.
    let mut usual = engine.open(OpenSpec::new(LegId(3), 1), Arc::new(|_, _| Ok(()))).unwrap();
    assert!(String::from_utf8(usual.offer().to_vec()).unwrap().contains("c=IN IP4 127.0.0.1\r\n"));
    drop(far_ends);
    drop(usual);
    engine.shutdown();
}

/// The octets of a snapshot in a test that needs no secrecy.
fn unchanged(octets: &[u8]) -> Option<Vec<u8>> {
    Some(octets.to_vec())
}

#[test]
fn a_session_resumes_on_its_port_in_another_engine_and_the_far_end_receives_one_stream() {
    let first = engine(1);
    let phone = Phone::call(&first, 1, 1, Codec::Pcmu);
    let header = |packet: &[u8]| {
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        (sequence, u32::from_be_bytes(packet[8..12].try_into().unwrap()))
    };
    let received: Vec<Vec<u8>> = (0..5).map(|_| phone.hear()).collect();
    let (sender, snapshots) = mpsc::channel();
    phone.session.snapshot(move |snapshot| sender.send(snapshot).unwrap()).unwrap();
    let snapshot = snapshots.recv_timeout(SOON).expect("the snapshot");
    let octets = snapshot.write(|plain| plain).unwrap();
    let Phone { socket, to, session, .. } = phone;
    // The first engine still sends until its session is closed.
    drop(session);
    first.shutdown();
    let mut last = received.last().map(|packet| header(packet)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut packet = [0; 2_048];
    while let Ok(length) = socket.recv(&mut packet) {
        last = header(&packet[..length]);
    }
    socket.set_nonblocking(false).unwrap();

    let second = engine(1);
    let snapshot = SessionSnapshot::read(&octets, unchanged).unwrap();
    assert_eq!((snapshot.key(), snapshot.running()), (LegId(1), RunningOperations::default()));
    let spec = ResumeSpec { affinity: 1, skipped_packets: 1_000 };
    let mut session = second.resume(snapshot, spec, Arc::new(|_, _| Ok(()))).unwrap();
    assert_eq!((session.port(), session.codec()), (to.port(), Some(Codec::Pcmu)));
    let length = socket.recv(&mut packet).expect("a packet within three seconds");
    let (sequence, ssrc) = header(&packet[..length]);
    assert_eq!(ssrc, last.1);
    // Nothing that the first engine sent after the snapshot is used again.
    assert!((1..=1_001).contains(&sequence.wrapping_sub(last.0)), "{sequence} after {last:?}");
    // The description continues: the same session id and the same version.
    let offer = String::from_utf8(session.offer().to_vec()).unwrap();
    assert!(offer.contains(&format!("m=audio {} RTP/AVP 0", to.port())), "{offer}");
    second.shutdown();
}
