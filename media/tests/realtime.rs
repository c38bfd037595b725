//! A recorded call over loopback in real time. The clock of one far end is 100 ppm fast, and 3 % of the packets of both
//! far ends are lost. Both far ends send the same audio at the same time, so the recording shows the offset between its
//! channels.
//!
//! The test takes a minute, so it does not run by default: `cargo test -p tandem-media --test realtime -- --ignored
//! --nocapture`. `TANDEM_SECONDS` sets another length.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and this one runs on the real clock"
)]

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tandem_media::g711::Law;
use tandem_media::{
    Channels, Codec, Command, Config, Engine, Event, LegId, OpId, OpenSpec, RecordSpec, RecordingCommand, Session,
    WavCoding,
};

/// The sample rate of a recording in Hz.
const RATE: f64 = 8_000.0;
/// The largest offset between two channels that the test can find, in samples.
const FAR: i64 = 400;
/// The number of samples in a window of half a second. While a recorder follows the clock of a far end, the recorder's
/// channel can move by about 0.4 ms within a window. In such a window the two channels may not match. In a fifth of the
/// window (`PART`) they still match.
const WINDOW: usize = 4_000;
const PART: usize = WINDOW / 5;
/// The lowest correlation at which two channels match.
const ALIKE: f32 = 0.6;
/// The delay at which a packet counts as missed, because it may be too late for the recording. The recording waits for
/// 120 ms.
const OVERDUE: Duration = Duration::from_millis(100);
/// The lowest number of missed packets in a window whose offset cannot be measured. The number is a third of a far
/// end's packets in the window.
const MISSED: usize = 8;

/// A packet of the far end. The far end either sends the packet late or loses the packet on purpose.
struct Sent {
    /// The time of the packet's last sample, counted from the start of the test.
    due: Duration,
    /// The delay with which the packet was sent, or `None` if the packet was lost.
    late: Option<Duration>,
}

impl Sent {
    fn is_missed(&self) -> bool {
        self.late.is_none_or(|late| late > OVERDUE)
    }
}

/// Returns the sample of the test audio at a time. The audio consists of many unrelated tones, so that it does not
/// repeat within a short time.
fn speech_at(seconds: f64) -> i16 {
    let tones = (0..16).map(|tone| {
        let hertz = 210.0 + 97.0 * f64::from(tone) + 13.7 * f64::from(tone * tone % 7);
        (seconds * hertz * std::f64::consts::TAU).sin()
    });
    (tones.sum::<f64>() * 1_200.0) as i16
}

/// Runs a far end that sends packets until `over` is set. The clock of the far end is `drift` ppm fast.
fn talk(socket: &UdpSocket, began: Instant, drift: f64, seed: u64, over: &AtomicBool) -> Vec<Sent> {
    let rate = RATE * (1.0 + drift / 1e6);
    let (mut random, mut packets) = (seed, Vec::new());
    let mut packet = [0; 172];
    while !over.load(Ordering::Relaxed) {
        let number = packets.len() as u64;
        let first = number * 160;
        let samples: [i16; 160] = std::array::from_fn(|sample| speech_at((first + sample as u64) as f64 / rate));
        packet[..2].copy_from_slice(&[0x80, 0]);
        packet[2..4].copy_from_slice(&(number as u16).to_be_bytes());
        packet[4..8].copy_from_slice(&(first as u32).to_be_bytes());
        packet[8..12].copy_from_slice(&[1, 2, 3, seed as u8]);
        Law::Mu.encode(&samples, &mut packet[12..]);
        // A packet is complete after its last sample.
        let due = Duration::from_secs_f64((first + 160) as f64 / rate);
        std::thread::sleep((began + due).saturating_duration_since(Instant::now()));
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lost = (random >> 33) % 100 < 3 && number >= 10;
        if !lost {
            socket.send(&packet).unwrap();
        }
        packets.push(Sent { due, late: (!lost).then(|| began.elapsed().saturating_sub(due)) });
    }
    packets
}

fn open(engine: &Engine, key: u128, events: &mpsc::Sender<Event>) -> (Session, UdpSocket) {
    let socket = UdpSocket::bind("127.0.1.1:0").unwrap();
    let events = events.clone();
    let sink = Arc::new(move |_, event| {
        let _ = events.send(event);
        Ok(())
    });
    let mut session = engine.open(OpenSpec::new(LegId(key), 1), sink).unwrap();
    session.set_codecs(&[Codec::Pcmu]);
    let port = socket.local_addr().unwrap().port();
    let offer = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.1.1\r\ns=-\r\nc=IN IP4 127.0.1.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
    );
    session.answer(offer.as_bytes()).unwrap();
    socket.connect(("127.0.0.1", session.port())).unwrap();
    (session, socket)
}

/// Returns the number of samples by which the audio in `right` is later than the audio in `left`. Compares `length`
/// samples from `at` on. Returns `None` if the channels do not match.
fn apart(left: &[f32], right: &[f32], at: usize, length: usize) -> Option<i64> {
    let window = &left[at..at + length];
    let power = |samples: &[f32]| samples.iter().map(|sample| sample * sample).sum::<f32>();
    let best = (-FAR..=FAR).map(|by| {
        let from = (at as i64 + by) as usize;
        let other = &right[from..from + window.len()];
        let product: f32 = window.iter().zip(other).map(|(one, other)| one * other).sum();
        (product / (power(window) * power(other)).sqrt().max(1.0), by)
    });
    let (likeness, by) = best.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (likeness > ALIKE).then_some(by)
}

/// Returns the smallest and the largest offset between `one` and `other`, in samples. If the offset of a window cannot
/// be measured, a far end must have missed packets in this window.
fn compare(what: &str, one: &[f32], other: &[f32], missed: &impl Fn(usize) -> usize) -> (i64, i64) {
    let (mut known, mut all, mut slid, mut unlike) = (Vec::new(), 0, 0, Vec::new());
    for at in (8_000..one.len().saturating_sub(8_000)).step_by(WINDOW) {
        all += 1;
        if let Some(by) = apart(one, other, at, WINDOW) {
            known.push(by);
            continue;
        }
        let before = known.len();
        known.extend((at..at + WINDOW).step_by(PART).filter_map(|at| apart(one, other, at, PART)));
        let (parts, missed) = (&known[before..], missed(at));
        println!("at {:.1} s: {parts:?} samples apart, {missed} packets missed by a far_end", at as f64 / RATE);
        if parts.len() >= 3 {
            slid += 1;
        } else {
            unlike.push(missed);
        }
    }
    let (least, max) = (*known.iter().min().unwrap(), *known.iter().max().unwrap());
    let [from, to] = [least, max].map(|samples| samples as f64 / RATE * 1_000.0);
    println!(
        "{what}: {from:.2} to {to:.2} ms apart; of {all} windows of 0.5 s {slid} slid, {} could not be measured",
        unlike.len()
    );
    assert!(unlike.len() * 2 <= all && unlike.iter().all(|missed| *missed >= MISSED), "{what}: {unlike:?}");
    (least, max)
}

#[test]
#[ignore = "takes a minute of real time"]
fn a_recorded_call_with_drift_and_loss_has_the_calls_length_and_aligned_channels() {
    let seconds = std::env::var("TANDEM_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let ports = "10000-19999".parse().unwrap();
    let engine = Engine::start(Config { ports, workers: 1, ..Config::default() }).unwrap();
    let (sender, events) = mpsc::channel();
    let [(a, one), (b, other)] = [1, 2].map(|key| open(&engine, key, &sender));
    a.command(Command::Bridge { with: LegId(2) }).unwrap();
    let over = AtomicBool::new(false);
    let began = Instant::now();
    let path = std::env::temp_dir().join(format!("tandem-media-realtime-{}.wav", std::process::id()));
    let (call, before, far_ends) = std::thread::scope(|scope| {
        let far_ends =
            [scope.spawn(|| talk(&one, began, 100.0, 7, &over)), scope.spawn(|| talk(&other, began, 0.0, 11, &over))];
        std::thread::sleep(Duration::from_secs(2));
        let spec = RecordSpec { coding: WavCoding::Pcm, ..RecordSpec::new(path.clone(), Channels::Dual) };
        let from = Instant::now();
        a.command(Command::Recording(RecordingCommand::Start { op: OpId(1), spec })).unwrap();
        std::thread::sleep(Duration::from_secs(seconds));
        let call = from.elapsed();
        a.command(Command::Recording(RecordingCommand::Stop { op: OpId(1) })).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        over.store(true, Ordering::Relaxed);
        (call, from - began, far_ends.map(|far_end| far_end.join().unwrap()))
    });
    for packets in &far_ends {
        let lost = packets.iter().filter(|packet| packet.late.is_none()).count();
        let missed = packets.iter().filter(|packet| packet.is_missed()).count();
        let latest = packets.iter().filter_map(|packet| packet.late).max().unwrap();
        println!(
            "a far end had {} packets: {lost} were lost, {} it sent over {OVERDUE:?} late, the latest {latest:?}",
            packets.len(),
            missed - lost
        );
    }
    let (duration, dropped) = loop {
        if let Event::RecordingFinished { duration, dropped, .. } =
            events.recv_timeout(Duration::from_secs(20)).unwrap()
        {
            break (duration, dropped);
        }
    };
    drop((a, b));
    engine.shutdown();
    let samples: Vec<f32> =
        hound::WavReader::open(&path).unwrap().into_samples::<i16>().map(|sample| f32::from(sample.unwrap())).collect();
    std::fs::remove_file(&path).unwrap();
    let side = |side: usize| samples.iter().skip(side).step_by(2).copied().collect::<Vec<_>>();
    let (left, right) = (side(0), side(1));
    // The number of packets in a window that a far end lost or sent late.
    let missed = |at: usize| {
        let from = before + Duration::from_secs_f64(at as f64 / RATE);
        let until = from + Duration::from_secs_f64(WINDOW as f64 / RATE);
        let of = |packets: &[Sent]| {
            packets.iter().filter(|sent| sent.due > from && sent.due <= until && sent.is_missed()).count()
        };
        far_ends.iter().map(|packets| of(packets)).max().unwrap()
    };
    println!("recorded {:.3} s of a call of {:.3} s; {dropped:?} dropped", duration.as_secs_f64(), call.as_secs_f64());
    assert_eq!(dropped, Duration::ZERO);
    let (least, max) = compare("the channels", &left, &right, &missed);
    assert!(least.abs() <= 160 && max.abs() <= 160);
    // A packet arrives 20 ms after the time of its first sample.
    let source: Vec<f32> =
        (0..left.len()).map(|at| f32::from(speech_at(before.as_secs_f64() + at as f64 / RATE - 0.02))).collect();
    for (side, channel) in [("the left channel and the speech", &left), ("the right", &right)] {
        let (least, max) = compare(side, &source, channel, &missed);
        assert!(max - least <= 160);
    }
    // The duration is exact to a frame of 20 ms. Each of the two commands may also wait for a tick of 5 ms, or longer
    // for a free core.
    assert!(duration.abs_diff(call) <= Duration::from_millis(20), "{duration:?} of {call:?}");
}
