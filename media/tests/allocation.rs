//! Relaying, and relaying while recording, allocate nothing per packet: not in the worker, not in the writer, not
//! anywhere in this process.

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

use tandem_media::{Channels, Command, Config, Engine, OpId, RecordSpec, Session, SessionKey};

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

fn leg(engine: &Engine, key: u128, payload_type: u8) -> (UdpSocket, Session) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut session = engine.open(SessionKey(key), 1, Arc::new(|_, _| Ok(()))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let offer = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP {payload_type}\r\n"
    );
    session.answer(offer.as_bytes()).unwrap();
    socket.connect(("127.0.0.1", session.port())).unwrap();
    (socket, session)
}

/// Sends `count` packets each way at 100 a second and returns how many were heard.
fn talk(legs: &[(UdpSocket, Session); 2], sequence: &mut u16, count: u16) -> usize {
    let mut heard = 0;
    let mut packet = [0x20; 172];
    for _ in 0..count {
        *sequence += 1;
        let [high, low] = sequence.to_be_bytes();
        for (socket, _) in legs {
            let payload_type = if std::ptr::eq(socket, &legs[0].0) { 0 } else { 8 };
            packet[..12].copy_from_slice(&[0x80, payload_type, high, low, 0, high, low, 0, 1, 2, 3, 4]);
            socket.send(&packet).unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
        for (socket, _) in legs {
            heard += usize::from(socket.recv(&mut [0; 512]).is_ok());
        }
    }
    heard
}

#[test]
fn relaying_and_recording_allocate_nothing_per_packet() {
    let ports = "31600-31699".parse().unwrap();
    let engine = Engine::start(Config { ports, workers: 1, ..Config::default() }).unwrap();
    let legs = [leg(&engine, 1, 0), leg(&engine, 2, 8)];
    legs[0].1.command(Command::Bridge { with: SessionKey(2) }).unwrap();
    let mut sequence = 0;
    talk(&legs, &mut sequence, 20);

    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let heard = talk(&legs, &mut sequence, 100);
    assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0, "relay");
    assert!(heard >= 200, "{heard}");

    let path = std::env::temp_dir().join(format!("tandem-media-allocation-{}.wav", std::process::id()));
    let spec = RecordSpec::new(path.clone(), Channels::Dual);
    legs[0].1.command(Command::Record { op: OpId(1), spec }).unwrap();
    talk(&legs, &mut sequence, 20);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let heard = talk(&legs, &mut sequence, 200);
    assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0, "relay and record");
    assert!(heard >= 400, "{heard}");
    drop(legs);
    engine.shutdown();
    assert!(std::fs::metadata(&path).unwrap().len() > 44 + 32 * 2_000);
    std::fs::remove_file(path).unwrap();
}
