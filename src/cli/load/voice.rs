//! The audio of both ends: a thread that sends each call's packets every 20 ms and reads all that arrive, once a millisecond.
//!
//! A packet's audio begins with a stamp: who sent it, its number and when. So nothing needs to be known of whom a packet
//! comes from, and a few sockets do for all calls.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::figures::{Figures, rounded};

/// Sockets of each end: their buffers together hold what a late wake-up leaves waiting.
const SOCKETS: u64 = 8;
/// Milliseconds of a packet.
const FRAME: u64 = 20;
/// Header, and 20 ms of G.711.
const PACKET: usize = 12 + 160;
const MAGIC: [u8; 4] = *b"TLd1";
/// Packets of a stream that are not counted: until both sides have a way.
const FIRST: u32 = 25;
/// Most latencies kept; beyond, one of sixteen.
const KEPT: u64 = 1_000_000;

/// Whose end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Caller,
    Answerer,
}

enum Order {
    Begin { side: Side, call: u64, to: SocketAddr },
    Stop { call: u64 },
    Count(bool),
}

/// What became of the packets.
#[derive(Debug, Default)]
pub(super) struct VoiceReport {
    /// To the answerer, to the caller.
    ways: [Way; 2],
    unstamped: u64,
}

#[derive(Debug, Default)]
struct Way {
    sent: u64,
    received: u64,
    latency: Figures,
    jitter: Figures,
}

impl VoiceReport {
    /// Counted packets of the callers.
    pub(super) fn sent_by_callers(&self) -> u64 {
        let [to_answerer, _] = &self.ways;
        to_answerer.sent
    }

    pub(super) fn report(&self) -> Value {
        let [to_answerer, to_caller] = &self.ways;
        json!({ "to_answerer": to_answerer.report(), "to_caller": to_caller.report(), "unstamped": self.unstamped })
    }
}

impl Way {
    fn report(&self) -> Value {
        let lost = self.sent.saturating_sub(self.received);
        json!({
            "sent": self.sent,
            "received": self.received,
            "lost": lost,
            "loss_percent": rounded(lost as f64 * 100.0 / self.sent.max(1) as f64),
            "latency_ms": self.latency.report(),
            "jitter_ms": self.jitter.report(),
        })
    }
}

/// The thread, and where each end listens.
pub(super) struct Voice {
    orders: mpsc::Sender<Order>,
    addresses: [Vec<SocketAddr>; 2],
    thread: JoinHandle<VoiceReport>,
}

impl Voice {
    /// `began` is the zero of the stamps.
    pub(super) fn start(caller: IpAddr, answerer: IpAddr, began: Instant) -> io::Result<Self> {
        let bind = |address: IpAddr| -> io::Result<Vec<UdpSocket>> {
            (0..SOCKETS)
                .map(|_| {
                    let socket = UdpSocket::bind((address, 0))?;
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                })
                .collect()
        };
        let sockets = [bind(caller)?, bind(answerer)?];
        let addresses = |sockets: &[UdpSocket]| sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<_>>();
        let addresses = [addresses(&sockets[0])?, addresses(&sockets[1])?];
        let (orders, received) = mpsc::channel();
        let worker = Worker {
            sockets,
            slots: Default::default(),
            counting: None,
            report: VoiceReport::default(),
            arrivals: HashMap::new(),
        };
        let thread =
            std::thread::Builder::new().name("voice".to_owned()).spawn(move || worker.run(&received, began))?;
        Ok(Self { orders, addresses, thread })
    }

    /// Where an end of a call listens.
    #[expect(clippy::indexing_slicing, reason = "there are two sides, each with SOCKETS addresses")]
    pub(super) fn address(&self, side: Side, call: u64) -> SocketAddr {
        let addresses = &self.addresses[side as usize];
        addresses[(call % SOCKETS) as usize]
    }

    pub(super) fn begin(&self, side: Side, call: u64, to: SocketAddr) {
        self.order(Order::Begin { side, call, to });
    }

    pub(super) fn stop(&self, call: u64) {
        self.order(Order::Stop { call });
    }

    /// From now on packets are counted, or are not; unasked, each stream's are from its first half second on.
    pub(super) fn count(&self, on: bool) {
        self.order(Order::Count(on));
    }

    fn order(&self, order: Order) {
        // The thread ends after this handle.
        let _ = self.orders.send(order);
    }

    pub(super) fn finish(self) -> VoiceReport {
        drop(self.orders);
        self.thread.join().unwrap_or_default()
    }
}

struct Stream {
    call: u64,
    side: Side,
    to: SocketAddr,
    sent: u32,
}

struct Worker {
    sockets: [Vec<UdpSocket>; 2],
    /// Streams by the millisecond of their turn.
    slots: [Vec<Stream>; FRAME as usize],
    counting: Option<bool>,
    report: VoiceReport,
    /// Of each stream: its last packet's transit time and its jitter (RFC 3550 §6.4.1), ms.
    arrivals: HashMap<(u64, usize), (f64, f64)>,
}

impl Worker {
    #[expect(clippy::disallowed_methods, reason = "a load generator's clock is the real one")]
    fn run(mut self, orders: &mpsc::Receiver<Order>, began: Instant) -> VoiceReport {
        let mut tick = 0_u64;
        let mut open = true;
        while open {
            loop {
                match orders.try_recv() {
                    Ok(order) => self.obey(order),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => {
                        open = false;
                        break;
                    }
                }
            }
            let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            while tick <= elapsed {
                self.speak(tick, began);
                tick += 1;
            }
            self.listen(began);
            let next = began + Duration::from_millis(tick);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        for ((_, way), (_, jitter)) in self.arrivals {
            if let Some(way) = self.report.ways.get_mut(way) {
                way.jitter.add(jitter);
            }
        }
        self.report
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Begin { side, call, to } => {
                if let Some(slot) = self.slots.get_mut((call % FRAME) as usize) {
                    slot.push(Stream { call, side, to, sent: 0 });
                }
            }
            Order::Stop { call } => {
                if let Some(slot) = self.slots.get_mut((call % FRAME) as usize) {
                    slot.retain(|stream| stream.call != call);
                }
            }
            Order::Count(on) => self.counting = Some(on),
        }
    }

    fn speak(&mut self, tick: u64, began: Instant) {
        let Some(slot) = self.slots.get_mut((tick % FRAME) as usize) else { return };
        for stream in slot {
            let way = stream.side as usize;
            let counted = self.counting.unwrap_or(stream.sent >= FIRST);
            let packet = packet(stream, counted, began.elapsed());
            let sockets = self.sockets.get(way);
            let socket = sockets.and_then(|sockets| sockets.get((stream.call % SOCKETS) as usize));
            let sent = socket.is_some_and(|socket| socket.send_to(&packet, stream.to).is_ok());
            stream.sent += 1;
            if let Some(way) = self.report.ways.get_mut(way).filter(|_| sent && counted) {
                way.sent += 1;
            }
        }
    }

    fn listen(&mut self, began: Instant) {
        let mut buffer = [0; 2_048];
        for socket in self.sockets.iter().flatten() {
            while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                let Some(stamp) = buffer.get(12..length).and_then(Stamp::read) else {
                    self.report.unstamped += 1;
                    continue;
                };
                let Some(way) = self.report.ways.get_mut(stamp.way).filter(|_| stamp.counted) else { continue };
                way.received += 1;
                let transit = began.elapsed().saturating_sub(stamp.at).as_secs_f64() * 1_000.0;
                if way.received < KEPT || way.received.is_multiple_of(16) {
                    way.latency.add(transit);
                }
                let (last, jitter) = self.arrivals.entry((stamp.call, stamp.way)).or_insert((transit, 0.0));
                *jitter += ((transit - *last).abs() - *jitter) / 16.0;
                *last = transit;
            }
        }
    }
}

/// What a packet says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) call: u64,
    way: usize,
    pub(super) counted: bool,
    pub(super) at: Duration,
}

impl Stamp {
    /// Of a packet's audio.
    pub(super) fn read(audio: &[u8]) -> Option<Self> {
        let stamp = audio.strip_prefix(&MAGIC)?;
        let ([way, counted, call @ .., a, b, c, d, e, f, g, h], _) = stamp.split_first_chunk::<18>()?;
        if *way > 1 || *counted > 1 {
            return None;
        }
        let at = Duration::from_nanos(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]));
        Some(Self { call: u64::from_be_bytes(*call), way: usize::from(*way), counted: *counted != 0, at })
    }
}

fn packet(stream: &Stream, counted: bool, at: Duration) -> [u8; PACKET] {
    let way = stream.side as u8;
    let source = (stream.call as u32) << 1 | u32::from(way);
    let fields: [&[u8]; 8] = [
        &[0x80, 0],
        &(stream.sent as u16).to_be_bytes(),
        &stream.sent.wrapping_mul(160).to_be_bytes(),
        &source.to_be_bytes(),
        &MAGIC,
        &[way, u8::from(counted)],
        &stream.call.to_be_bytes(),
        &(at.as_nanos() as u64).to_be_bytes(),
    ];
    // The rest is silence.
    let mut packet = [0xFF; PACKET];
    for (place, octet) in packet.iter_mut().zip(fields.into_iter().flatten()) {
        *place = *octet;
    }
    packet
}

/// A packet of a caller's, for whoever reads stamps.
#[cfg(test)]
pub(super) fn stamped(call: u64, sequence: u32, at: Duration) -> [u8; PACKET] {
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    packet(&Stream { call, side: Side::Caller, to, sent: sequence }, true, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_known_by_its_stamp() {
        let to = "127.0.0.1:9".parse().unwrap();
        let stream = Stream { call: 77, side: Side::Answerer, to, sent: 3 };
        let at = Duration::from_micros(1_234_567);
        let stamp = Stamp::read(&packet(&stream, true, at)[12..]);
        assert_eq!(stamp, Some(Stamp { call: 77, way: 1, counted: true, at }));
        assert_eq!(Stamp::read(&[0xFF; PACKET]), None);
        assert_eq!(Stamp::read(&[0; 5]), None);
    }
}
