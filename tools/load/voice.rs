//! The audio of both ends. One thread sends a packet for each stream every 20 ms, and reads all received packets once
//! per millisecond.
//!
//! The audio of a packet contains a stamp with the call, the number of the packet, and the sending time. Therefore the
//! source address of a packet is not needed, and a few sockets are enough for all calls.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::figures::{Figures, rounded};
use super::process;
use super::stamp::Stamp;

/// Number of sockets at each end. If the thread wakes up late, the buffers of these sockets together hold the received
/// packets.
const SOCKETS: u64 = 8;
/// Requested size of the receive buffer of each socket, in octets. With 1,000 calls, the buffers together hold the
/// packets of half a second: each call has 50 packets per second, and a packet needs less than 1 KiB in the kernel.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Maximum number of attempts to find two adjacent free ports.
const TRIES: u32 = 64;
/// Duration of the audio in a packet, in ms.
const FRAME: u64 = 20;
/// Size of the RTP header, in octets.
const HEADER: usize = 12;
const PACKET: usize = HEADER + 160;
/// Number of packets at the start of a stream that are not counted. The server possibly does not forward the audio from
/// the beginning.
const FIRST: u32 = 25;
/// Number of latencies after which only one in sixteen latencies is kept.
const MAX_COMPLETE_LATENCIES: u64 = 1_000_000;

/// One end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Caller,
    Answerer,
}

enum VoiceCommand {
    Begin { side: Side, call: u64, to: SocketAddr },
    Stop { call: u64 },
    Count(bool),
}

/// Results of the audio measurement.
#[derive(Debug, Default)]
pub(super) struct VoiceReport {
    /// Results for the direction to the answering end, and then for the direction to the calling end.
    directions: [DirectionReport; 2],
    unstamped: u64,
    /// Number of received packets that the kernel dropped because the sockets of this process were full. This number
    /// also includes packets that the other numbers leave out.
    dropped_here: u64,
    /// Delay with which the thread wakes up, in ms.
    late: Figures,
}

#[derive(Debug, Default)]
struct DirectionReport {
    sent: u64,
    received: u64,
    /// Number of packets that arrived after a later packet, or for the second time.
    out_of_turn: u64,
    latency: Figures,
    jitter: Figures,
}

impl VoiceReport {
    /// Returns the number of counted packets that the calling ends sent.
    pub(super) fn sent_by_callers(&self) -> u64 {
        let [to_answerer, _] = &self.directions;
        to_answerer.sent
    }

    pub(super) fn report(&self) -> Value {
        let [to_answerer, to_caller] = &self.directions;
        json!({
            "to_answerer": to_answerer.report(),
            "to_caller": to_caller.report(),
            "unstamped": self.unstamped,
            "dropped_here": self.dropped_here,
            "generator_late_ms": self.late.report(),
        })
    }
}

impl DirectionReport {
    fn report(&self) -> Value {
        let lost = self.sent.saturating_sub(self.received + self.out_of_turn);
        json!({
            "sent": self.sent,
            "received": self.received,
            "out_of_turn": self.out_of_turn,
            "lost": lost,
            "loss_percent": rounded(lost as f64 * 100.0 / self.sent.max(1) as f64),
            "latency_ms": self.latency.report(),
            "jitter_ms": self.jitter.report(),
        })
    }
}

/// The RTP and RTCP sockets of both ends. The sockets exist even if no audio is measured. A server always sends RTCP
/// reports and silence, and ICMP errors for closed ports would increase the measured cost of the server.
pub(super) struct Ports {
    sockets: [Vec<UdpSocket>; 2],
    addresses: [Vec<SocketAddr>; 2],
    /// RTCP sockets, whose ports are one higher than the RTP ports. Nothing reads these sockets, and the kernel drops
    /// packets when a socket is full.
    _reports: [Vec<UdpSocket>; 2],
}

impl Ports {
    pub(super) fn open(caller: IpAddr, answerer: IpAddr) -> io::Result<Self> {
        let side = |address: IpAddr| -> io::Result<(Vec<UdpSocket>, Vec<UdpSocket>)> {
            let pairs: io::Result<Vec<_>> = (0..SOCKETS).map(|_| pair(address)).collect();
            Ok(pairs?.into_iter().unzip())
        };
        let ((callers, their_reports), (answerers, its_reports)) = (side(caller)?, side(answerer)?);
        let sockets = [callers, answerers];
        let addresses = |sockets: &[UdpSocket]| sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<_>>();
        let addresses = [addresses(&sockets[0])?, addresses(&sockets[1])?];
        Ok(Self { sockets, addresses, _reports: [their_reports, its_reports] })
    }

    /// Returns the RTP address for one end of a call.
    #[expect(clippy::indexing_slicing, reason = "there are two sides, each with SOCKETS addresses")]
    pub(super) fn address(&self, side: Side, call: u64) -> SocketAddr {
        let addresses = &self.addresses[side as usize];
        addresses[(call % SOCKETS) as usize]
    }
}

/// Opens an even port for RTP and the odd port above it for RTCP (RFC 3550 §11).
fn pair(address: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    let mut tries = 0;
    loop {
        let audio = UdpSocket::bind((address, 0))?;
        let port = audio.local_addr()?.port();
        let reports = if port.is_multiple_of(2) { UdpSocket::bind((address, port + 1)).ok() } else { None };
        if let Some(reports) = reports {
            audio.set_nonblocking(true)?;
            // Only a privileged process may force the size. Otherwise the system's limit applies.
            if rustix::net::sockopt::set_socket_recv_buffer_size_force(&audio, SOCKET_BUFFER).is_err() {
                let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&audio, SOCKET_BUFFER);
            }
            return Ok((audio, reports));
        }
        tries += 1;
        if tries == TRIES {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no two adjacent free ports on {address}")));
        }
    }
}

/// The handle for the audio thread.
pub(super) struct Voice {
    commands: mpsc::Sender<VoiceCommand>,
    thread: JoinHandle<VoiceReport>,
}

impl Voice {
    /// Starts the thread. The times of the stamps are relative to `began`.
    pub(super) fn start(ports: &Ports, began: Instant) -> io::Result<Self> {
        let [callers, answerers] = &ports.sockets;
        let same = |sockets: &[UdpSocket]| sockets.iter().map(UdpSocket::try_clone).collect::<io::Result<Vec<_>>>();
        let (commands, received) = mpsc::channel();
        let worker = Worker {
            sockets: [same(callers)?, same(answerers)?],
            addresses: ports.addresses.iter().flatten().copied().collect(),
            slots: Default::default(),
            counting: None,
            report: VoiceReport::default(),
            arrivals: HashMap::new(),
        };
        let thread =
            std::thread::Builder::new().name("voice".to_owned()).spawn(move || worker.run(&received, began))?;
        Ok(Self { commands, thread })
    }

    pub(super) fn begin(&self, side: Side, call: u64, to: SocketAddr) {
        self.send(VoiceCommand::Begin { side, call, to });
    }

    pub(super) fn stop(&self, call: u64) {
        self.send(VoiceCommand::Stop { call });
    }

    /// Starts or stops the counting of packets. If this function is never called, only the packets in the first 500 ms
    /// of each stream are not counted.
    pub(super) fn count(&self, on: bool) {
        self.send(VoiceCommand::Count(on));
    }

    fn send(&self, command: VoiceCommand) {
        // Sending cannot fail, because the thread runs until this handle is dropped.
        let _ = self.commands.send(command);
    }

    pub(super) fn finish(self) -> VoiceReport {
        drop(self.commands);
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
    addresses: Vec<SocketAddr>,
    /// The streams, sorted by the millisecond of the 20 ms cycle in which they send a packet.
    slots: [Vec<Stream>; FRAME as usize],
    counting: Option<bool>,
    report: VoiceReport,
    /// State of each received stream. The key has the call and the direction.
    arrivals: HashMap<(u64, usize), Arrival>,
}

/// State of a received stream after its last packet.
#[derive(Default)]
struct Arrival {
    next: u32,
    /// Transit time of the last packet, in ms. `jitter` is the current jitter (RFC 3550 §6.4.1), in ms.
    transit: Option<f64>,
    jitter: f64,
}

impl Worker {
    #[expect(clippy::disallowed_methods, reason = "a load generator's clock is the real one")]
    fn run(mut self, commands: &mpsc::Receiver<VoiceCommand>, began: Instant) -> VoiceReport {
        let mut tick = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let dropped_before = process::dropped(&self.addresses);
        let mut open = true;
        while open {
            loop {
                match commands.try_recv() {
                    Ok(command) => self.handle_command(command),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => {
                        open = false;
                        break;
                    }
                }
            }
            let elapsed = began.elapsed();
            if self.counting.unwrap_or(true) {
                self.report.late.add(elapsed.saturating_sub(Duration::from_millis(tick)).as_secs_f64() * 1_000.0);
            }
            let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            while tick <= elapsed {
                self.speak(tick, began);
                tick += 1;
            }
            self.listen(began);
            let next = began + Duration::from_millis(tick);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        for ((_, direction), arrival) in self.arrivals {
            if let (Some(direction), Some(_)) = (self.report.directions.get_mut(direction), arrival.transit) {
                direction.jitter.add(arrival.jitter);
            }
        }
        self.report.dropped_here = process::dropped(&self.addresses).saturating_sub(dropped_before);
        self.report
    }

    fn handle_command(&mut self, command: VoiceCommand) {
        match command {
            VoiceCommand::Begin { side, call, to } => {
                if let Some(slot) = self.slots.get_mut((call % FRAME) as usize) {
                    slot.push(Stream { call, side, to, sent: 0 });
                }
            }
            VoiceCommand::Stop { call } => {
                if let Some(slot) = self.slots.get_mut((call % FRAME) as usize) {
                    slot.retain(|stream| stream.call != call);
                }
            }
            VoiceCommand::Count(on) => self.counting = Some(on),
        }
    }

    fn speak(&mut self, tick: u64, began: Instant) {
        let Some(slot) = self.slots.get_mut((tick % FRAME) as usize) else { return };
        for stream in slot {
            let direction = stream.side as usize;
            let counted = self.counting.unwrap_or(stream.sent >= FIRST);
            let packet = packet(stream, counted, began.elapsed());
            let sockets = self.sockets.get(direction);
            let socket = sockets.and_then(|sockets| sockets.get((stream.call % SOCKETS) as usize));
            let sent = socket.is_some_and(|socket| socket.send_to(&packet, stream.to).is_ok());
            stream.sent += 1;
            if let Some(direction) = self.report.directions.get_mut(direction).filter(|_| sent && counted) {
                direction.sent += 1;
            }
        }
    }

    fn listen(&mut self, began: Instant) {
        let mut buffer = [0; 2_048];
        for socket in self.sockets.iter().flatten() {
            while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                let Some(stamp) = buffer.get(HEADER..length).and_then(Stamp::find) else {
                    self.report.unstamped += 1;
                    continue;
                };
                let Some(direction) = self.report.directions.get_mut(stamp.direction) else { continue };
                let arrival = self.arrivals.entry((stamp.call, stamp.direction)).or_default();
                let in_turn = stamp.sequence >= arrival.next;
                arrival.next = arrival.next.max(stamp.sequence + 1);
                if !stamp.counted {
                    continue;
                }
                if !in_turn {
                    direction.out_of_turn += 1;
                    continue;
                }
                direction.received += 1;
                let transit = began.elapsed().saturating_sub(stamp.at).as_secs_f64() * 1_000.0;
                if direction.received < MAX_COMPLETE_LATENCIES || direction.received.is_multiple_of(16) {
                    direction.latency.add(transit);
                }
                let last = arrival.transit.replace(transit).unwrap_or(transit);
                arrival.jitter += ((transit - last).abs() - arrival.jitter) / 16.0;
            }
        }
    }
}

fn packet(stream: &Stream, counted: bool, at: Duration) -> [u8; PACKET] {
    let direction = stream.side as usize;
    let source = (stream.call as u32) << 1 | direction as u32;
    let mut packet = [0; PACKET];
    let (header, audio) = packet.split_at_mut(HEADER);
    let fields: [&[u8]; 4] = [
        &[0x80, 0],
        &(stream.sent as u16).to_be_bytes(),
        &stream.sent.wrapping_mul(160).to_be_bytes(),
        &source.to_be_bytes(),
    ];
    header.iter_mut().zip(fields.into_iter().flatten()).for_each(|(place, octet)| *place = *octet);
    Stamp { call: stream.call, direction, counted, sequence: stream.sent, at }.write(audio);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_plain_rtp_with_a_stamp() {
        let to = "127.0.0.1:9".parse().unwrap();
        let stream = Stream { call: 77, side: Side::Answerer, to, sent: 65_537 };
        let at = Duration::from_micros(1_234_567);
        let packet = packet(&stream, true, at);
        assert_eq!(packet[..HEADER], [0x80, 0, 0, 1, 0, 160, 0, 160, 0, 0, 0, 155]);
        let stamp = Stamp { call: 77, direction: 1, counted: true, sequence: 65_537, at };
        assert_eq!(Stamp::find(&packet[HEADER..]), Some(stamp));
    }

    #[test]
    fn rtp_has_an_even_port_and_rtcp_the_next_one() {
        let ports = Ports::open([127, 0, 0, 1].into(), [127, 0, 0, 2].into()).unwrap();
        for (sockets, reports) in ports.sockets.iter().zip(&ports._reports) {
            for (socket, reports) in sockets.iter().zip(reports) {
                let [audio, reports] = [socket, reports].map(|socket| socket.local_addr().unwrap().port());
                assert!(audio % 2 == 0 && reports == audio + 1);
            }
        }
        assert_eq!(ports.address(Side::Answerer, SOCKETS + 1), ports.addresses[1][1]);
    }
}
