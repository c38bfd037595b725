//! The audio of both ends. One thread sends a packet for each stream every 20 ms, and reads all received packets once
//! per millisecond.
//!
//! The audio of a packet contains a stamp with the call, the number of the packet, and the sending time. Therefore the
//! source address of a packet is not needed, and a few sockets are enough for all calls.
//!
//! Opus changes the samples, so that a stamp cannot survive. With Opus, both ends send a tone, a packet belongs to the call
//! of its source address, and lost packets are counted by their RTP sequence numbers.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_media::{Codec, Decoder, DtlsSrtp, LONGEST_PACKET, SampleRate};

use super::figures::{Figures, rounded};
use super::process;
use super::stamp::Stamp;
use super::webrtc::{self, Answer, Legs, News, Received, WebRtc, WebRtcCodec};

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
/// Size of the longest packet: the header, an Opus packet of the tone, and the trailer of SRTP.
const LONGEST: usize = HEADER + 400 + DtlsSrtp::LONGEST_TRAILER;
/// Peak of the samples above which a packet contains the tone.
const LOUD: u16 = 1_000;
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
    /// The call's INVITE was sent at this time after the start of the run.
    Invited {
        call: u64,
        at: Duration,
    },
    Begin {
        side: Side,
        call: u64,
        to: SocketAddr,
    },
    /// Begins the connection of the calling end. The stream begins when the connection has keys.
    Connect {
        call: u64,
        local: SocketAddr,
        answer: Box<Answer>,
    },
    Stop {
        call: u64,
    },
    Forget {
        call: u64,
    },
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
    /// Time from the INVITE until both ends have heard each other, in ms.
    first_audio: Figures,
    /// With WebRTC: time from the answer until the connection has keys, in ms.
    connected: Figures,
    /// Number of calls without a connection, for each reason.
    pub(super) failures: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct DirectionReport {
    sent: u64,
    received: u64,
    /// Number of missing sequence numbers. The value is `None` if the packets have stamps.
    missing: Option<u64>,
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
            "first_audio_ms": self.first_audio.report(),
            "connected_ms": self.connected.report(),
        })
    }
}

impl DirectionReport {
    fn report(&self) -> Value {
        let lost = self.missing.unwrap_or_else(|| self.sent.saturating_sub(self.received + self.out_of_turn));
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
    /// Starts the thread. The times of the stamps are relative to `began`. With `webrtc`, the calling ends use WebRTC.
    pub(super) fn start(ports: &Ports, began: Instant, webrtc: Option<WebRtc>) -> io::Result<Self> {
        let [callers, answerers] = &ports.sockets;
        let same = |sockets: &[UdpSocket]| sockets.iter().map(UdpSocket::try_clone).collect::<io::Result<Vec<_>>>();
        let (commands, received) = mpsc::channel();
        let has_tone = webrtc.as_ref().is_some_and(|webrtc| webrtc.codec() == WebRtcCodec::Opus);
        let mut report = VoiceReport::default();
        report.directions.iter_mut().for_each(|direction| direction.missing = has_tone.then_some(0));
        let worker = Worker {
            began,
            sockets: [same(callers)?, same(answerers)?],
            addresses: ports.addresses.iter().flatten().copied().collect(),
            slots: Default::default(),
            counting: None,
            report,
            arrivals: HashMap::new(),
            starts: HashMap::new(),
            legs: Legs::default(),
            webrtc,
            tone: if has_tone { webrtc::tone(Codec::Pcmu) } else { Vec::new() },
            sources: HashMap::new(),
        };
        let thread = std::thread::Builder::new().name("voice".to_owned()).spawn(move || worker.run(&received))?;
        Ok(Self { commands, thread })
    }

    pub(super) fn invited(&self, call: u64, at: Duration) {
        self.send(VoiceCommand::Invited { call, at });
    }

    /// Begins the connection of a calling end with WebRTC, which uses the socket with the address `local`.
    pub(super) fn connect(&self, call: u64, local: SocketAddr, answer: Answer) {
        self.send(VoiceCommand::Connect { call, local, answer: Box::new(answer) });
    }

    pub(super) fn begin(&self, side: Side, call: u64, to: SocketAddr) {
        self.send(VoiceCommand::Begin { side, call, to });
    }

    /// Ends the sending of a call. Its packets are still received.
    pub(super) fn stop(&self, call: u64) {
        self.send(VoiceCommand::Stop { call });
    }

    pub(super) fn forget(&self, call: u64) {
        self.send(VoiceCommand::Forget { call });
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
    began: Instant,
    sockets: [Vec<UdpSocket>; 2],
    addresses: Vec<SocketAddr>,
    /// The streams, sorted by the millisecond of the 20 ms cycle in which they send a packet.
    slots: [Vec<Stream>; FRAME as usize],
    counting: Option<bool>,
    report: VoiceReport,
    /// State of each received stream. The key has the call and the direction.
    arrivals: HashMap<(u64, usize), Arrival>,
    /// Calls whose ends have not both heard the other.
    starts: HashMap<u64, Start>,
    legs: Legs,
    webrtc: Option<WebRtc>,
    /// The packets of the answering ends, if the audio is a tone. Otherwise the audio has stamps.
    tone: Vec<Vec<u8>>,
    /// With a tone: the calls of the answering ends, by the server's address.
    sources: HashMap<SocketAddr, u64>,
}

/// State of a received stream after its last packet.
#[derive(Default)]
struct Arrival {
    next: u32,
    /// Transit time of the last packet, in ms. `jitter` is the current jitter (RFC 3550 §6.4.1), in ms.
    transit: Option<f64>,
    jitter: f64,
}

/// A call until both ends have heard each other.
struct Start {
    invited: Duration,
    heard: [bool; 2],
    /// With a tone: the decoder of each direction.
    decoders: [Option<Decoder>; 2],
}

impl Worker {
    #[expect(clippy::disallowed_methods, reason = "a load generator's clock is the real one")]
    fn run(mut self, commands: &mpsc::Receiver<VoiceCommand>) -> VoiceReport {
        let began = self.began;
        let mut tick = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let dropped_before = process::dropped(&self.addresses);
        let mut open = true;
        while open {
            loop {
                match commands.try_recv() {
                    Ok(command) => self.handle_command(command, Instant::now()),
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
                self.speak(tick);
                tick += 1;
            }
            self.listen();
            let now = Instant::now();
            for server in self.legs.handle_timeouts(now) {
                self.flush(server, now);
            }
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

    fn handle_command(&mut self, command: VoiceCommand, now: Instant) {
        match command {
            VoiceCommand::Invited { call, at } => {
                self.starts.insert(call, Start { invited: at, heard: [false; 2], decoders: [None, None] });
            }
            VoiceCommand::Begin { side, call, to } => {
                if side == Side::Answerer && !self.tone.is_empty() {
                    self.sources.insert(to, call);
                }
                self.begin(side, call, to);
            }
            VoiceCommand::Connect { call, local, answer } => {
                if let Some(webrtc) = &self.webrtc {
                    self.legs.begin(webrtc, call, local, &answer, now);
                    self.flush(answer.server, now);
                }
            }
            VoiceCommand::Stop { call } => self.stop(call),
            VoiceCommand::Forget { call } => {
                self.stop(call);
                self.starts.remove(&call);
                self.sources.retain(|_, other| *other != call);
                let mut leg = self.legs.end(call);
                if let (Some(leg), Some(socket)) = (&mut leg, self.socket(Side::Caller, call)) {
                    // The server has ended the leg by SIP, so these datagrams may be lost.
                    let _ = leg.flush(|octets, to| drop(socket.send_to(octets, to)));
                }
            }
            VoiceCommand::Count(on) => self.counting = Some(on),
        }
    }

    fn begin(&mut self, side: Side, call: u64, to: SocketAddr) {
        if let Some(slot) = self.slots.get_mut((call % FRAME) as usize) {
            slot.push(Stream { call, side, to, sent: 0 });
        }
    }

    fn stop(&mut self, call: u64) {
        if let Some(slot) = self.slots.get_mut((call % FRAME) as usize) {
            slot.retain(|stream| stream.call != call);
        }
    }

    fn socket(&self, side: Side, call: u64) -> Option<&UdpSocket> {
        self.sockets.get(side as usize)?.get((call % SOCKETS) as usize)
    }

    /// Sends the datagrams of a leg, and takes its news.
    fn flush(&mut self, server: SocketAddr, now: Instant) {
        let Some(leg) = self.legs.get(server) else { return };
        let (call, began) = (leg.call, leg.began);
        let socket = self.sockets.first().and_then(|sockets| sockets.get((call % SOCKETS) as usize));
        let Some(socket) = socket else { return };
        // A datagram that the kernel does not accept is lost as in any network. It is sent again.
        for news in leg.flush(|octets, to| drop(socket.send_to(octets, to))) {
            match news {
                News::Connected => {
                    self.report.connected.add((now - began).as_secs_f64() * 1_000.0);
                    self.begin(Side::Caller, call, server);
                }
                News::Failed(why) => *self.report.failures.entry(why).or_default() += 1,
            }
        }
    }

    fn speak(&mut self, tick: u64) {
        let Some(slot) = self.slots.get_mut((tick % FRAME) as usize) else { return };
        for stream in slot {
            let direction = stream.side as usize;
            let counted = self.counting.unwrap_or(stream.sent >= FIRST);
            let mut packet = [0; LONGEST];
            let webrtc = self.webrtc.as_ref().filter(|_| stream.side == Side::Caller);
            let length = match webrtc {
                _ if self.tone.is_empty() => stamped_packet(stream, counted, self.began.elapsed(), &mut packet),
                Some(webrtc) => tone_packet(stream, webrtc.packet(stream.sent), 960, &mut packet),
                None => {
                    let audio = self.tone.get(stream.sent as usize % self.tone.len()).map_or(&[][..], Vec::as_slice);
                    tone_packet(stream, (0, audio), 160, &mut packet)
                }
            };
            let sealed = match (webrtc, self.legs.get(stream.to)) {
                (None, _) => Some((length, stream.to)),
                (Some(_), leg) => leg.and_then(|leg| leg.protect(&mut packet, length)),
            };
            let sockets = self.sockets.get(direction);
            let socket = sockets.and_then(|sockets| sockets.get((stream.call % SOCKETS) as usize));
            let sent = sealed.zip(socket).is_some_and(|((length, to), socket)| {
                packet.get(..length).is_some_and(|packet| socket.send_to(packet, to).is_ok())
            });
            stream.sent += 1;
            if let Some(direction) = self.report.directions.get_mut(direction).filter(|_| sent && counted) {
                direction.sent += 1;
            }
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; 2_048];
        for side in [Side::Caller, Side::Answerer] {
            for place in 0..SOCKETS {
                while let Some(Ok((length, from))) =
                    self.socket(side, place).map(|socket| socket.recv_from(&mut buffer))
                {
                    let datagram = buffer.get_mut(..length).unwrap_or_default();
                    self.handle_datagram(side, from, datagram);
                }
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a load generator's clock is the real one")]
    fn handle_datagram(&mut self, side: Side, from: SocketAddr, datagram: &mut [u8]) {
        if side == Side::Answerer || self.webrtc.is_none() {
            let call = self.sources.get(&from).copied();
            return self.handle_rtp(side, call, datagram);
        }
        let now = Instant::now();
        match self.legs.handle(from, datagram, now) {
            Received::Rtp { call, length } => {
                let packet = datagram.get_mut(..length).unwrap_or_default();
                self.handle_rtp(side, Some(call), packet);
            }
            Received::News { server } => self.flush(server, now),
            Received::Nothing => {}
        }
    }

    fn handle_rtp(&mut self, side: Side, call: Option<u64>, packet: &[u8]) {
        if self.tone.is_empty() {
            return self.handle_stamp(packet);
        }
        let direction = 1 - side as usize;
        let (Some(call), Some([_, _, high, low]), Some(audio)) = (call, packet.first_chunk(), packet.get(HEADER..))
        else {
            self.report.unstamped += 1;
            return;
        };
        if self.starts.get_mut(&call).is_some_and(|start| start.hears_tone(side, audio)) {
            self.note_heard(call, direction);
        }
        let arrival = self.arrivals.entry((call, direction)).or_default();
        let sequence = u32::from(u16::from_be_bytes([*high, *low]));
        // `next` is 0 before the first packet, and at least 65,536 afterwards.
        let steps = sequence.wrapping_sub(arrival.next) as u16;
        let is_first = arrival.next == 0;
        let is_newer = is_first || steps < 0x8000;
        let missing = if is_first || !is_newer { 0 } else { u64::from(steps) };
        if is_newer {
            arrival.next = 0x1_0000 | u32::from((sequence as u16).wrapping_add(1));
        }
        let Some(direction) = self.report.directions.get_mut(direction) else { return };
        if !self.counting.unwrap_or(true) {
            return;
        }
        direction.received += 1;
        if is_newer {
            *direction.missing.get_or_insert_default() += missing;
        } else {
            direction.out_of_turn += 1;
            // The packet was counted as missing.
            direction.missing = direction.missing.map(|missing| missing.saturating_sub(1));
        }
    }

    fn handle_stamp(&mut self, packet: &[u8]) {
        let Some(stamp) = packet.get(HEADER..).and_then(Stamp::find) else {
            self.report.unstamped += 1;
            return;
        };
        self.note_heard(stamp.call, stamp.direction);
        let Some(direction) = self.report.directions.get_mut(stamp.direction) else { return };
        let arrival = self.arrivals.entry((stamp.call, stamp.direction)).or_default();
        let in_turn = stamp.sequence >= arrival.next;
        arrival.next = arrival.next.max(stamp.sequence + 1);
        if !stamp.counted {
            return;
        }
        if !in_turn {
            direction.out_of_turn += 1;
            return;
        }
        direction.received += 1;
        let transit = self.began.elapsed().saturating_sub(stamp.at).as_secs_f64() * 1_000.0;
        if direction.received < MAX_COMPLETE_LATENCIES || direction.received.is_multiple_of(16) {
            direction.latency.add(transit);
        }
        let last = arrival.transit.replace(transit).unwrap_or(transit);
        arrival.jitter += ((transit - last).abs() - arrival.jitter) / 16.0;
    }

    /// Takes note that an end of a call has heard the other.
    fn note_heard(&mut self, call: u64, direction: usize) {
        let Some(start) = self.starts.get_mut(&call) else { return };
        if let Some(heard) = start.heard.get_mut(direction) {
            *heard = true;
        }
        if start.heard == [true; 2] {
            self.report.first_audio.add(self.began.elapsed().saturating_sub(start.invited).as_secs_f64() * 1_000.0);
            self.starts.remove(&call);
        }
    }
}

impl Start {
    /// Whether an end hears the tone for the first time.
    fn hears_tone(&mut self, side: Side, audio: &[u8]) -> bool {
        let direction = 1 - side as usize;
        let Some((false, decoder)) = self.heard.get(direction).copied().zip(self.decoders.get_mut(direction)) else {
            return false;
        };
        let codec = if side == Side::Caller { Codec::Opus } else { Codec::Pcmu };
        let decoder = decoder.get_or_insert_with(|| Decoder::new(codec, SampleRate::Hz8000));
        let mut samples = [0; LONGEST_PACKET];
        let length = decoder.decode(audio, &mut samples).unwrap_or(0);
        samples.iter().take(length).any(|sample| sample.unsigned_abs() > LOUD)
    }
}

/// Writes a packet with a stamp, and returns its length.
fn stamped_packet(stream: &Stream, counted: bool, at: Duration, packet: &mut [u8; LONGEST]) -> usize {
    let direction = stream.side as usize;
    let audio = write_header(stream, 0, 160, packet).get_mut(..PACKET - HEADER).unwrap_or_default();
    Stamp { call: stream.call, direction, counted, sequence: stream.sent, at }.write(audio);
    PACKET
}

/// Writes a packet with prepared audio, and returns its length. `units` is the duration of a packet in RTP time.
fn tone_packet(stream: &Stream, (kind, audio): (u8, &[u8]), units: u32, packet: &mut [u8; LONGEST]) -> usize {
    let place = write_header(stream, kind, units, packet);
    place.iter_mut().zip(audio).for_each(|(place, octet)| *place = *octet);
    HEADER + audio.len().min(LONGEST - HEADER)
}

/// Writes the RTP header, and returns the rest of the packet.
fn write_header<'a>(stream: &Stream, kind: u8, units: u32, packet: &'a mut [u8; LONGEST]) -> &'a mut [u8] {
    let source = (stream.call as u32) << 1 | stream.side as u32;
    let (header, audio) = packet.split_at_mut(HEADER);
    let fields: [&[u8]; 4] = [
        &[0x80, kind],
        &(stream.sent as u16).to_be_bytes(),
        &stream.sent.wrapping_mul(units).to_be_bytes(),
        &source.to_be_bytes(),
    ];
    header.iter_mut().zip(fields.into_iter().flatten()).for_each(|(place, octet)| *place = *octet);
    audio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_plain_rtp_with_a_stamp() {
        let to = "127.0.0.1:9".parse().unwrap();
        let stream = Stream { call: 77, side: Side::Answerer, to, sent: 65_537 };
        let at = Duration::from_micros(1_234_567);
        let mut packet = [0; LONGEST];
        assert_eq!(stamped_packet(&stream, true, at, &mut packet), PACKET);
        assert_eq!(packet[..HEADER], [0x80, 0, 0, 1, 0, 160, 0, 160, 0, 0, 0, 155]);
        let stamp = Stamp { call: 77, direction: 1, counted: true, sequence: 65_537, at };
        assert_eq!(Stamp::find(&packet[HEADER..PACKET]), Some(stamp));
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
