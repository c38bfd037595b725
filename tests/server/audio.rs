//! The media of a phone: PCMU over RTP. Two separate threads handle the media, so that a busy async runtime does not
//! disturb the timing.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tandem_media::g711::Law;

use crate::log::Log;

pub(crate) const FRAME: usize = 160;
const EVENTS: u8 = 101;
const SILENCE: u8 = 0xFF;

/// An RTP packet that the phone received.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) at: Instant,
    pub(crate) timestamp: u32,
    pub(crate) payload_type: u8,
    pub(crate) payload: Vec<u8>,
}

impl Packet {
    fn parse(at: Instant, octets: &[u8]) -> Option<Self> {
        let (header, payload) = octets.split_at_checked(12)?;
        Some(Self {
            at,
            timestamp: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            payload_type: header[1] & 0x7F,
            payload: payload.to_vec(),
        })
    }

    /// Whether the packet contains audible audio, which means a sample above 1,000.
    pub(crate) fn is_loud(&self) -> bool {
        self.payload_type == 0 && decode(&self.payload).iter().any(|sample| sample.unsigned_abs() > 1_000)
    }
}

enum OutgoingAudio {
    Audio(Vec<u8>),
    Event { payload: [u8; 4], first: bool, takes_time: bool },
}

/// The RTP socket of one phone.
pub(crate) struct Audio {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    socket: UdpSocket,
    queue: Mutex<VecDeque<OutgoingAudio>>,
    heard: Log<Packet>,
    /// The number of queued audio frames that were sent.
    spoken: AtomicUsize,
    remote: Mutex<Option<SocketAddr>>,
    /// Whether the phone sends no RTP while it has nothing to say.
    pauses: AtomicBool,
    stop: AtomicBool,
}

impl Audio {
    pub(crate) fn open(address: std::net::IpAddr) -> Self {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared {
            socket,
            queue: Mutex::default(),
            heard: Log::default(),
            spoken: AtomicUsize::new(0),
            remote: Mutex::default(),
            pauses: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let listening = Arc::clone(&shared);
        std::thread::spawn(move || listening.listen());
        Self { address, shared }
    }

    /// Starts to send RTP to this address, with one frame every 20 ms.
    pub(crate) fn connect(&self, remote: SocketAddr) {
        if self.shared.remote.lock().unwrap().replace(remote).is_none() {
            let talking = Arc::clone(&self.shared);
            std::thread::spawn(move || talking.talk());
        }
    }

    /// From now on, sends RTP only while there is audio from [`Audio::say`], and no silence.
    pub(crate) fn pause(&self) {
        self.shared.pauses.store(true, Ordering::SeqCst);
    }

    /// The server's RTP address.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.shared.remote.lock().unwrap().unwrap()
    }

    /// Sends arbitrary octets from the RTP port of the phone to the RTP port of the server.
    pub(crate) fn throw(&self, octets: &[u8]) {
        let _ = self.shared.socket.send_to(octets, self.remote());
    }

    /// Adds audio to the end of the queue. The length must be a whole number of frames.
    pub(crate) fn say(&self, samples: &[i16]) {
        assert_eq!(samples.len() % FRAME, 0);
        let octets = encode(samples);
        self.shared
            .queue
            .lock()
            .unwrap()
            .extend(octets.chunks(FRAME).map(|frame| OutgoingAudio::Audio(frame.to_vec())));
    }

    /// Adds digits to the queue. Each digit is a telephone event of 100 ms, with 100 ms of silence after it.
    pub(crate) fn press(&self, keys: &str) {
        let mut queue = self.shared.queue.lock().unwrap();
        for key in keys.chars() {
            let event = "0123456789*#".find(key).unwrap() as u8;
            for step in 1..=7u16 {
                let (end, length) = if step >= 5 { (0x80, 5) } else { (0, step) };
                let [high, low] = (length * FRAME as u16).to_be_bytes();
                queue.push_back(OutgoingAudio::Event {
                    payload: [event, end | 10, high, low],
                    first: step == 1,
                    takes_time: step <= 5,
                });
            }
            queue.extend((0..5).map(|_| OutgoingAudio::Audio(vec![SILENCE; FRAME])));
        }
    }

    /// The number of audio frames from [`Audio::say`] that were sent.
    pub(crate) fn spoken(&self) -> usize {
        self.shared.spoken.load(Ordering::SeqCst)
    }

    /// The packets that the phone received.
    pub(crate) fn heard(&self) -> &Log<Packet> {
        &self.shared.heard
    }

    /// The received audio. The RTP timestamps give the positions of the packets. A gap is silence.
    pub(crate) fn samples(&self) -> Vec<i16> {
        let packets: Vec<Packet> = self.heard().all().into_iter().filter(|packet| packet.payload_type == 0).collect();
        let Some(first) = packets.first().map(|packet| packet.timestamp) else { return Vec::new() };
        let mut octets = Vec::new();
        for packet in packets {
            let place = packet.timestamp.wrapping_sub(first) as usize;
            if place > 8_000 * 120 {
                continue;
            }
            let end = place + packet.payload.len();
            octets.resize(octets.len().max(end), SILENCE);
            octets[place..end].copy_from_slice(&packet.payload);
        }
        decode(&octets)
    }
}

impl Drop for Audio {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn listen(&self) {
        let mut datagram = [0; 2_048];
        while !self.stop.load(Ordering::SeqCst) {
            let Ok(length) = self.socket.recv(&mut datagram) else { continue };
            if let Some(packet) = Packet::parse(Instant::now(), &datagram[..length]) {
                self.heard.push(packet);
            }
        }
    }

    fn talk(&self) {
        let (mut sequence, mut timestamp, mut event_at) = (1_000u16, 160_000u32, 0u32);
        let mut due = Instant::now();
        while !self.stop.load(Ordering::SeqCst) {
            let out = self.queue.lock().unwrap().pop_front();
            let sent = out.is_some();
            if !sent && self.pauses.load(Ordering::SeqCst) {
                timestamp = timestamp.wrapping_add(FRAME as u32);
                due += Duration::from_millis(20);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                continue;
            }
            let (payload_type, stamp, payload, takes_time) = match out {
                Some(OutgoingAudio::Event { payload, first, takes_time }) => {
                    if first {
                        event_at = timestamp;
                    }
                    (EVENTS | if first { 0x80 } else { 0 }, event_at, payload.to_vec(), takes_time)
                }
                Some(OutgoingAudio::Audio(frame)) => (0, timestamp, frame, true),
                None => (0, timestamp, vec![SILENCE; FRAME], true),
            };
            let mut packet = vec![0x80, payload_type];
            packet.extend(sequence.to_be_bytes());
            packet.extend(stamp.to_be_bytes());
            packet.extend([1, 2, 3, 4]);
            packet.extend(&payload);
            let remote = *self.remote.lock().unwrap();
            let _ = self.socket.send_to(&packet, remote.unwrap());
            sequence = sequence.wrapping_add(1);
            if payload_type == 0 && sent {
                self.spoken.fetch_add(1, Ordering::SeqCst);
            }
            if takes_time {
                timestamp = timestamp.wrapping_add(FRAME as u32);
                due += Duration::from_millis(20);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    }
}

/// Noise that correlates only with itself, so that a test recognises its own audio. Each seed gives different noise.
pub(crate) fn noise(milliseconds: usize, seed: u64) -> Vec<i16> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 48) as i16) / 4
    };
    let samples: Vec<i16> = (0..milliseconds * 8).map(|_| next()).collect();
    // The noise is encoded and decoded once, so that a lossless path returns exactly the same samples.
    decode(&encode(&samples))
}

/// A tone of 1 kHz. Every frame of the tone is loud.
pub(crate) fn tone(milliseconds: usize) -> Vec<i16> {
    (0..milliseconds * 8).map(|place| ((place as f64 * 0.785).sin() * 8_000.0) as i16).collect()
}

pub(crate) fn encode(samples: &[i16]) -> Vec<u8> {
    let mut octets = vec![0; samples.len()];
    Law::Mu.encode(samples, &mut octets);
    octets
}

pub(crate) fn decode(octets: &[u8]) -> Vec<i16> {
    let mut samples = vec![0; octets.len()];
    Law::Mu.decode(octets, &mut samples);
    samples
}

/// The highest normalised correlation between `said` and a part of `heard`, and the position of this part in samples.
pub(crate) fn correlate(sent: &[i16], heard: &[i16]) -> (f64, usize) {
    /// The number of samples for the search of the position.
    const PROBE: usize = 320;
    if heard.len() < sent.len() || sent.len() < PROBE {
        return (0.0, 0);
    }
    let mut best = (0.0, 0);
    for place in 0..=heard.len() - sent.len() {
        let likeness = likeness(&sent[..PROBE], &heard[place..]);
        if likeness > best.0 {
            best = (likeness, place);
        }
    }
    (likeness(sent, &heard[best.1..]), best.1)
}

/// Cuts `said` into parts of 200 ms. Returns for each part whether `heard` contains the part. On a busy computer, a
/// late packet damages one part and not all parts.
pub(crate) fn parts(sent: &[i16], heard: &[i16]) -> Vec<bool> {
    sent.chunks(1_600).map(|part| correlate(part, heard).0 > 0.95).collect()
}

/// Whether `heard` contains at least three quarters of the parts of `said`.
pub(crate) fn holds(sent: &[i16], heard: &[i16]) -> bool {
    let parts = parts(sent, heard);
    let there = parts.iter().filter(|there| **there).count();
    println!("{there} of {} parts are there", parts.len());
    there * 4 >= parts.len() * 3
}

fn likeness(sent: &[i16], heard: &[i16]) -> f64 {
    let (mut product, mut left, mut right) = (0i64, 1i64, 1i64);
    for (a, b) in sent.iter().zip(heard) {
        let (a, b) = (i64::from(*a), i64::from(*b));
        product += a * b;
        left += a * a;
        right += b * b;
    }
    product as f64 / (left as f64 * right as f64).sqrt()
}

/// Returns the channels of a WAV file (16-bit PCM at 8,000 Hz). Panics if the lengths in the header are wrong.
pub(crate) fn read_wav(file: &[u8]) -> Vec<Vec<i16>> {
    assert_eq!((&file[..4], &file[8..16], &file[36..40]), (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..]));
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!((number(4), number(40)), (file.len() - 8, file.len() - 44), "the header's lengths");
    assert_eq!(number(24), 8_000);
    let channels = usize::from(file[22]);
    let samples: Vec<i16> = file[44..].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    (0..channels).map(|channel| samples.iter().skip(channel).step_by(channels).copied().collect()).collect()
}
