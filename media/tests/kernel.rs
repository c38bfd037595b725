//! Tests of the kernel relay over loopback. If the process may not load the kernel program, each test prints that it is
//! skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and this one runs on the real clock"
)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tandem_media::{
    Audio, Channels, Command, Config, DtmfMethod, Engine, Event, LegId, OpId, OpenSpec, RecordSpec, RecordingCommand,
    Session, StartError, Stats, UseKernel, WavCoding,
};
use tandem_test_support::wait_for_blocking;

/// Starts an engine with the kernel relay. Returns `None` if the kernel relay is not available on this host.
fn engine() -> Option<Engine> {
    let kernel_relay = UseKernel::Required;
    // A server with default settings does not use these ports. An engine takes free ones, so all tests share the range.
    let ports = "10000-19999".parse().unwrap();
    match Engine::start(Config { ports, workers: 1, kernel_relay, ..Config::default() }) {
        Ok(engine) => Some(engine),
        Err(StartError::Kernel(why)) => {
            tandem_test_support::skip(tandem_test_support::Needs::Host(&why));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

struct Phone {
    socket: UdpSocket,
    to: SocketAddr,
    events: mpsc::Receiver<Event>,
    session: Session,
    sequence: u16,
    timestamp: u32,
    heard: Vec<Vec<u8>>,
}

impl Phone {
    fn call(engine: &Engine, key: u128, host: &str) -> Phone {
        let (sender, events) = mpsc::channel();
        let sender = Mutex::new(sender);
        let sink = Arc::new(move |_, event| {
            let _ = sender.lock().unwrap().send(event);
            Ok(())
        });
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut session = engine.open(OpenSpec::new(LegId(key), 1), sink).unwrap();
        session.answer(offer(&socket, "").as_bytes()).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], session.port()));
        Phone { socket, to, events, session, sequence: 65_400, timestamp: 7, heard: Vec::new() }
    }

    fn packet(&mut self, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend([0, 0, 0, self.to.port() as u8]);
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }

    fn say(&mut self, octet: u8) {
        let packet = self.packet(0, &[octet; 160]);
        self.timestamp = self.timestamp.wrapping_add(160);
        self.socket.send_to(&packet, self.to).unwrap();
    }

    fn listen(&mut self) {
        let mut packet = [0; 2_048];
        while let Ok((length, from)) = self.socket.recv_from(&mut packet) {
            assert_eq!(from, self.to, "everything comes from the leg's own port");
            self.heard.push(packet[..length].to_vec());
        }
    }

    fn closed(self) -> Stats {
        drop(self.session);
        loop {
            if let Event::Closed { stats, .. } = self.events.recv_timeout(Duration::from_secs(5)).unwrap() {
                return *stats;
            }
        }
    }
}

fn offer(socket: &UdpSocket, more: &str) -> String {
    let address = socket.local_addr().unwrap();
    let (ip, port) = (address.ip(), address.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n\
         a=rtpmap:101 telephone-event/8000\r\n{more}"
    )
}

fn bridged(engine: &Engine) -> [Phone; 2] {
    let phones = [Phone::call(engine, 1, "127.0.0.1"), Phone::call(engine, 2, "127.0.63.7")];
    let with = phones[1].session.key();
    phones[0].session.command(Command::Bridge { with }).unwrap();
    phones
}

/// Makes both phones send a packet every 20 ms until `done` returns true. Fails after 15 s.
fn talk(phones: &mut [Phone; 2], mut done: impl FnMut(&[Phone; 2]) -> bool) {
    wait_for_blocking(Duration::from_secs(15), Duration::from_millis(20), "the state that the packets lead to", || {
        phones.iter_mut().for_each(Phone::listen);
        if done(phones) {
            return Some(());
        }
        for phone in &mut *phones {
            phone.say(phone.sequence as u8);
        }
        None
    });
}

fn talk_until_short(engine: &Engine, phones: &mut [Phone; 2]) {
    talk(phones, |_| engine.load().kernel_flows == 2);
}

fn talk_for(phones: &mut [Phone; 2], mut packets: usize) {
    talk(phones, |_| {
        let done = packets == 0;
        packets = packets.saturating_sub(1);
        done
    });
}

/// Asserts that all relayed packets have the same SSRC, and that their sequence numbers are in order, without
/// repetitions. The timestamps must match the sequence numbers, and the audio must be unchanged.
fn assert_one_line(heard: &[Vec<u8>]) {
    let heard: Vec<_> = heard.iter().filter(|packet| packet[1] & 0x7F == 0 && packet[12..] != [0xFF; 160]).collect();
    let sequence = |packet: &[u8]| u16::from_be_bytes([packet[2], packet[3]]);
    let timestamp = |packet: &[u8]| u32::from_be_bytes(packet[4..8].try_into().unwrap());
    for two in heard.windows(2) {
        assert_eq!(two[0][8..12], two[1][8..12]);
        let steps = sequence(two[1]).wrapping_sub(sequence(two[0]));
        assert!((1..=4).contains(&steps), "a key takes three numbers, not {steps}");
        if steps == 1 {
            assert_eq!(timestamp(two[1]).wrapping_sub(timestamp(two[0])), 160);
            assert_eq!(two[1][12].wrapping_sub(two[0][12]), 1, "the octets of successive packets");
        }
    }
}

/// Runs a test of this file again, as the user `nobody` with the capabilities that docs/kernel-relay.md names. Returns the
/// output, or `None` if this process cannot do so.
fn as_nobody(test: &str, capabilities: &str) -> Option<String> {
    let caps = format!("-all,{capabilities}");
    let run = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"])
        .args(["--inh-caps", &caps, "--ambient-caps", &caps, "--bounding-set", &caps])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads", "1"])
        .output();
    let run = run.ok()?;
    let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    if !text.contains("running 1 test") {
        tandem_test_support::skip(tandem_test_support::Needs::Host(&format!("cannot run as another user: {text}")));
        return None;
    }
    Some(text)
}

#[test]
fn the_kernel_relay_needs_only_the_two_documented_capabilities() {
    let Some(engine) = engine() else { return };
    engine.shutdown();
    drop(engine);
    let test = "the_kernel_drops_and_counts_audio_without_a_reader_and_passes_digits";
    let Some(output) = as_nobody(test, "+bpf,+net_admin") else { return };
    assert!(output.contains("1 passed") && !output.contains("skipped"), "{output}");
    let Some(output) = as_nobody(test, "+net_admin") else { return };
    assert!(output.contains("skipped: it needs CAP_BPF and CAP_NET_ADMIN"), "{output}");
}

#[test]
fn the_kernel_continues_the_stream_and_passes_digits_to_the_engine() {
    let Some(engine) = engine() else { return };
    let mut phones = bridged(&engine);
    talk_until_short(&engine, &mut phones);
    talk_for(&mut phones, 100);
    assert_eq!(engine.load().kernel_flows, 2);
    // The counters are read every 400 ms, so the last packets may be missing.
    let relayed = engine.load().relayed;
    assert!(relayed > 200, "{relayed}");
    for end in [10, 0x8A, 0x8A] {
        let packet = phones[0].packet(101, &[5, end, 1, 0x40]);
        phones[0].socket.send_to(&packet, phones[0].to).unwrap();
    }
    let key = Event::Dtmf { digit: '5', duration_ms: 40, method: DtmfMethod::Event };
    let deadline = Instant::now() + Duration::from_secs(3);
    while phones[0].events.recv_timeout(deadline - Instant::now()).expect("the key") != key {}
    assert_eq!(engine.load().kernel_flows, 0, "both ways lead to user space again");
    talk_for(&mut phones, 20);
    talk_until_short(&engine, &mut phones);
    // From the next packet on, a leg on hold gets no audio.
    let hold = offer(&phones[1].socket, "a=sendonly\r\n");
    phones[1].session.answer(hold.as_bytes()).unwrap();
    wait_for_blocking(Duration::from_secs(3), Duration::from_millis(1), "the end of the flows", || {
        (engine.load().kernel_flows == 0).then_some(())
    });
    phones[1].listen();
    let before = phones[1].heard.len();
    talk_for(&mut phones, 10);
    assert_eq!(phones[1].heard.len(), before);
    for phone in &phones {
        assert_one_line(&phone.heard);
        assert!(phone.heard.len() > 150);
    }
    let sent = u64::from(phones[0].sequence.wrapping_sub(65_400));
    let received = phones[0].heard.len() as u64;
    let [a, b] = phones.map(Phone::closed);
    assert_eq!((a.packets_in, a.octets_in, a.lost), (sent, (sent - 3) * 160 + 12, 0));
    assert!(a.packets_out >= received && b.lost == 0);
    engine.shutdown();
}

#[test]
fn the_kernel_relays_a_recorded_call_and_only_relayed_audio_is_recorded() {
    // The program of the other engine gets all packets first, including copies.
    let (Some(_other), Some(engine)) = (engine(), engine()) else { return };
    let mut phones = bridged(&engine);
    talk_until_short(&engine, &mut phones);
    let path = std::env::temp_dir().join(format!("tandem-kernel-{}.wav", std::process::id()));
    let spec = RecordSpec { coding: WavCoding::Mulaw, ..RecordSpec::new(&path, Channels::Dual) };
    phones[0].session.command(Command::Recording(RecordingCommand::Start { op: OpId(1), spec })).unwrap();
    talk(&mut phones, |_| engine.load().kernel_flows == 0);
    talk_until_short(&engine, &mut phones);
    let heard = phones[1].heard.len();
    talk_for(&mut phones, 50);
    // These packets look like copies. They are not RTP, so they use no sequence number.
    let mut forged = phones[0].packet(0, &[0x2A; 160]);
    phones[0].sequence = phones[0].sequence.wrapping_sub(1);
    forged[0] = 0xC0;
    for _ in 0..20 {
        phones[0].socket.send_to(&forged, phones[0].to).unwrap();
    }
    let from = phones[1].sequence as u8;
    talk_for(&mut phones, 100);
    assert_eq!(engine.load().kernel_flows, 2);
    assert!(phones[1].heard.len() >= heard + 149);
    phones[0].session.command(Command::Recording(RecordingCommand::Stop { op: OpId(1) })).unwrap();
    let done = |event: &Event| matches!(event, Event::RecordingFinished { .. });
    let deadline = Instant::now() + Duration::from_secs(5);
    while !done(&phones[0].events.recv_timeout(deadline - Instant::now()).expect("the recording")) {}
    let file = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let channel = |first: usize| file[44 + first..].iter().step_by(2).copied().collect::<Vec<u8>>();
    for (channel, phone) in [(channel(0), &phones[1]), (channel(1), &phones[0])] {
        // Each phone's audio consists of runs of equal octets. This is the audio that the other phone received.
        let octets: Vec<u8> = phone.heard.iter().map(|packet| packet[12]).collect();
        let runs = (0..60).map(|more| from.wrapping_add(more)).filter(|octet| {
            channel.windows(100).any(|window| window.iter().all(|other| other == octet)) && octets.contains(octet)
        });
        assert!(runs.count() > 55, "what was relayed is recorded");
    }
    phones.iter().for_each(|phone| assert_one_line(&phone.heard));
    engine.shutdown();
}

#[test]
fn the_kernel_drops_and_counts_audio_without_a_reader_and_passes_digits() {
    let Some(engine) = engine() else { return };
    let mut phone = Phone::call(&engine, 1, "127.0.63.8");
    let audio = Arc::new(Audio::new(vec![8_031; 160]));
    phone.session.command(Command::Play { op: OpId(1), audio, loops: None, elapsed: Duration::ZERO }).unwrap();
    let deadline = Instant::now() + Duration::from_secs(15);
    let say_until = |phone: &mut Phone, done: &mut dyn FnMut(&Phone) -> bool| {
        wait_for_blocking(
            Duration::from_secs(15),
            Duration::from_millis(20),
            "the state that the packets lead to",
            || {
                phone.listen();
                if done(phone) {
                    return Some(());
                }
                phone.say(0x2A);
                None
            },
        );
    };
    say_until(&mut phone, &mut |_| engine.load().kernel_flows == 1);
    let (sent, heard) = (phone.sequence, phone.heard.len());
    say_until(&mut phone, &mut |phone| phone.sequence.wrapping_sub(sent) > 60);
    assert!(phone.heard.len() > heard + 40, "it is played to all the while");
    assert_eq!((engine.load().kernel_flows, engine.load().relayed), (1, 0));
    for end in [10, 0x8A, 0x8A] {
        let packet = phone.packet(101, &[5, end, 1, 0x40]);
        phone.socket.send_to(&packet, phone.to).unwrap();
    }
    let key = Event::Dtmf { digit: '5', duration_ms: 40, method: DtmfMethod::Event };
    while phone.events.recv_timeout(deadline - Instant::now()).expect("the key") != key {}
    say_until(&mut phone, &mut |_| engine.load().kernel_flows == 1);
    // A packet that came while the flow began may still be in the socket. The kernel counts the following packets at once.
    let began = phone.sequence;
    say_until(&mut phone, &mut |phone| phone.sequence.wrapping_sub(began) > 10);
    let sent = u64::from(phone.sequence.wrapping_sub(65_400));
    let stats = phone.closed();
    // The last packet may be in the socket when the session is closed.
    let counted = stats.packets_in;
    assert!(counted == sent || counted == sent - 1, "{counted} of {sent}");
    assert_eq!((stats.octets_in, stats.lost), ((counted - 3) * 160 + 12, 0));
    engine.shutdown();
}

#[test]
fn the_kernel_relays_no_packet_of_another_source() {
    let Some(engine) = engine() else { return };
    let mut phones = bridged(&engine);
    talk_until_short(&engine, &mut phones);
    let heard = phones[1].heard.len();
    // The unknown source sends from another port of the same host. Then a packet that is not RTP comes from the far end's own
    // port.
    let unknown = UdpSocket::bind("127.0.0.1:0").unwrap();
    let packet = phones[0].packet(0, &[0xEE; 160]);
    for _ in 0..100 {
        unknown.send_to(&packet, phones[0].to).unwrap();
    }
    phones[0].sequence = phones[0].sequence.wrapping_sub(1);
    std::thread::sleep(Duration::from_millis(50));
    phones[1].listen();
    assert!(phones[1].heard[heard..].iter().all(|packet| packet[12] != 0xEE));
    assert_eq!(engine.load().kernel_flows, 2, "they change nothing");
    let mut odd = phones[0].packet(0, &[0xEE; 160]);
    odd[0] = 0x40;
    phones[0].socket.send_to(&odd, phones[0].to).unwrap();
    phones[0].sequence = phones[0].sequence.wrapping_sub(1);
    talk(&mut phones, |_| engine.load().kernel_flows == 0);
    talk_for(&mut phones, 5);
    assert!(phones[1].heard.iter().all(|packet| packet[12] != 0xEE));
    engine.shutdown();
}

#[test]
fn two_servers_on_one_host_do_not_disturb_each_other() {
    let (Some(one), Some(two)) = (engine(), engine()) else { return };
    let (mut first, mut second) = (bridged(&one), bridged(&two));
    talk(&mut first, |_| {
        second.iter_mut().for_each(|phone| phone.say(phone.sequence as u8));
        second.iter_mut().for_each(Phone::listen);
        (one.load().kernel_flows, two.load().kernel_flows) == (2, 2)
    });
    let heard = second[1].heard.len();
    one.shutdown();
    drop(one);
    talk_for(&mut second, 30);
    assert_eq!(two.load().kernel_flows, 2);
    assert!(second[1].heard.len() >= heard + 29);
    second.iter().for_each(|phone| assert_one_line(&phone.heard));
    two.shutdown();
}
