//! Checks that no thread of the process allocates memory for a packet. The test covers relaying (plain and SRTP),
//! transcoding, and recording of both ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and this one runs on the real clock"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tandem_media::{
    Channels, Codec, Command, Config, Engine, LegId, OpId, OpenSpec, RecordSpec, RecordingCommand, RecordingKey,
    SampleRate, Session, Srtp, UseKernel, WavCoding,
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A far end and its leg. Only the length of the far end's packets matters, not their content.
struct Leg {
    socket: UdpSocket,
    session: Session,
    payload_type: u8,
    octets: usize,
    clock: u32,
}

impl Leg {
    fn new(engine: &Engine, key: u128, payload_type: u8, map: &str, octets: usize) -> Leg {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut session = engine.open(OpenSpec::new(LegId(key), 1), Arc::new(|_, _| Ok(()))).unwrap();
        session.set_codecs(&[Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus, Codec::L16(SampleRate::Hz16000)]);
        let port = socket.local_addr().unwrap().port();
        // The offer contains telephone-events, so that the engine does not search the audio for digits.
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP {payload_type} 101\r\na=rtpmap:{payload_type} {map}\r\na=rtpmap:101 telephone-event/8000\r\n"
        );
        session.answer(offer.as_bytes()).unwrap();
        socket.connect(("127.0.0.1", session.port())).unwrap();
        let clock = if map.starts_with("opus") {
            960
        } else if map.starts_with("L16") {
            320
        } else {
            160
        };
        Leg { socket, session, payload_type, octets, clock }
    }
}

/// Opens two sessions that send SRTP to each other. Lines of the offer that contain `refused` are removed, so that the
/// answer selects another suite.
fn tunnel(engine: &Engine, key: u128, refused: &str) -> [Session; 2] {
    let mut ends =
        [key, key + 1].map(|key| engine.open(OpenSpec::new(LegId(key), 1), Arc::new(|_, _| Ok(()))).unwrap());
    ends.iter_mut().for_each(|end| end.set_srtp(Srtp::Required));
    let [near, far] = &mut ends;
    let offer = String::from_utf8(near.offer().to_vec()).unwrap();
    let offer: Vec<&str> = offer.lines().filter(|line| refused.is_empty() || !line.contains(refused)).collect();
    let answer = far.answer((offer.join("\r\n") + "\r\n").as_bytes()).unwrap();
    near.accept(&answer).unwrap();
    ends
}

/// Sends `count` packets from each leg, 50 packets per second. Returns the number of packets that all legs together
/// received.
fn talk(legs: &[Leg], sequence: &mut u16, count: u16) -> usize {
    let mut heard = 0;
    let mut packet = [0x20; 12 + 640];
    for _ in 0..count {
        *sequence += 1;
        let [high, low] = sequence.to_be_bytes();
        for leg in legs {
            packet[..4].copy_from_slice(&[0x80, leg.payload_type, high, low]);
            packet[4..8].copy_from_slice(&(u32::from(*sequence) * leg.clock).to_be_bytes());
            packet[8..12].copy_from_slice(&[1, 2, 3, 4]);
            leg.socket.send(&packet[..12 + leg.octets]).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        for leg in legs {
            heard += usize::from(leg.socket.recv(&mut [0; 1_024]).is_ok());
        }
    }
    heard
}

#[test]
fn relaying_transcoding_and_recording_allocate_nothing_per_packet() {
    const PCMU: (u8, &str, usize) = (0, "PCMU/8000", 160);
    const PCMA: (u8, &str, usize) = (8, "PCMA/8000", 160);
    const G722: (u8, &str, usize) = (9, "G722/8000", 160);
    const OPUS: (u8, &str, usize) = (111, "opus/48000/2", 60);
    const L16: (u8, &str, usize) = (118, "L16/16000", 640);
    let ports = "10000-19999".parse().unwrap();
    // Packets that the kernel relays would not reach the engine.
    let kernel_relay = UseKernel::Off;
    let engine = Engine::start(Config { ports, workers: 1, kernel_relay, ..Config::default() }).unwrap();
    let pairs = [(PCMU, PCMA), (G722, G722), (OPUS, PCMU), (L16, G722)];
    let mut legs = Vec::new();
    for (first, (a, b)) in (1u128..).step_by(2).zip(pairs) {
        legs.extend(
            [(first, a), (first + 1, b)]
                .map(|(key, (number, map, octets))| Leg::new(&engine, key, number, map, octets)),
        );
        let with = LegId(first + 1);
        legs[legs.len() - 2].session.command(Command::Bridge { with }).unwrap();
    }
    let mut tunnels = Vec::new();
    for (key, refused) in [(100, ""), (200, "AES_CM")] {
        let ends = tunnel(&engine, key, refused);
        for (key, end) in (key + 2..).zip(&ends) {
            legs.push(Leg::new(&engine, key, PCMU.0, PCMU.1, PCMU.2));
            end.command(Command::Bridge { with: LegId(key) }).unwrap();
        }
        tunnels.push(ends);
    }
    let mut sequence = 0;
    talk(&legs, &mut sequence, 20);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let heard = talk(&legs, &mut sequence, 80);
    // The first report of a leg allocates its quality over time, once. Each leg has sent 80 packets.
    let once_a_leg = (legs.len() + 2 * tunnels.len()) as u64;
    let allocated = ALLOCATIONS.load(Ordering::SeqCst) - before;
    assert!(allocated <= once_a_leg, "bridged: {allocated} allocations");
    assert!(heard >= legs.len() * 78, "{heard}");

    let mut paths = Vec::new();
    for leg in &legs {
        for (coding, key) in [(WavCoding::Mulaw, None), (WavCoding::Pcm, Some(RecordingKey::new([7; 32])))] {
            let number = paths.len();
            let path =
                std::env::temp_dir().join(format!("tandem-media-allocation-{}-{number}.wav", std::process::id()));
            let spec = RecordSpec { coding, key, ..RecordSpec::new(path.clone(), Channels::Dual) };
            leg.session.command(Command::Recording(RecordingCommand::Start { op: OpId(number as u64), spec })).unwrap();
            paths.push(path);
        }
    }
    talk(&legs, &mut sequence, 20);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let heard = talk(&legs, &mut sequence, 120);
    let allocated = ALLOCATIONS.load(Ordering::SeqCst) - before;
    assert!(allocated <= once_a_leg, "bridged and recorded: {allocated} allocations");
    assert!(heard >= legs.len() * 118, "{heard}");
    drop(legs);
    engine.shutdown();
    for path in paths {
        assert!(std::fs::metadata(&path).unwrap().len() > 320 * 120);
        std::fs::remove_file(path).unwrap();
    }
}
