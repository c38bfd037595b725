//! The calling end of a call with WebRTC: its offer, its connection (ICE and DTLS), and the encryption of its packets.
//!
//! All legs share the sockets of the calling end. A datagram belongs to the leg of its source, because the server uses a
//! port of its own for each leg.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tandem_media::{Codec, DtlsSrtp, Encoder, LONGEST_PAYLOAD, SampleRate};
use tandem_webrtc::{Connection, Credentials, Datagram, Event, FarEnd, Fingerprint, Identity};
use tandem_webrtc::{LocalAddress, Protocol, Remote, Role, Route};

/// Maximum number of datagrams that wait for the answer of their leg. The server sends its first connectivity checks
/// before its answer.
const MAX_EARLY: usize = 4_096;
/// Payload type of Opus in our offers.
const OPUS: u8 = 111;
/// Number of prepared Opus packets. They are one second of a tone, and are sent again and again.
const PREPARED: usize = 50;
/// Frequency of the tone in Hz. A second has a whole number of periods, so that the repetition is not heard.
const TONE: f32 = 440.0;
const AMPLITUDE: f32 = 8_000.0;

/// The codec of the calling end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum WebRtcCodec {
    Opus,
    Pcmu,
}

/// Values that all legs of a run share.
#[derive(Clone)]
pub(super) struct WebRtc {
    codec: WebRtcCodec,
    run: u32,
    identity: Arc<Identity>,
    prepared: Arc<[Vec<u8>]>,
}

/// The server's answer, as far as the connection needs it.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    remote: Remote,
    candidate: String,
    /// The server's address in its first UDP candidate.
    pub(super) server: SocketAddr,
}

impl WebRtc {
    pub(super) fn new(codec: WebRtcCodec, run: u32) -> Result<WebRtc, tandem_webrtc::IdentityError> {
        let identity = Arc::new(Identity::generate()?);
        Ok(WebRtc { codec, run, identity, prepared: tone(Codec::Opus).into() })
    }

    pub(super) fn codec(&self) -> WebRtcCodec {
        self.codec
    }

    /// Returns an Opus packet of the tone and its payload type.
    pub(super) fn packet(&self, sequence: u32) -> (u8, &[u8]) {
        (OPUS, self.prepared.get(sequence as usize % PREPARED).map_or(&[], Vec::as_slice))
    }

    /// The credentials of a leg. They are not secret, because they protect only test calls.
    fn credentials(&self, call: u64) -> Credentials {
        let Self { run, .. } = self;
        Credentials { ufrag: format!("{run:x}c{call}"), password: format!("{run:08x}{call:024}") }
    }

    /// Returns the offer of a call.
    pub(super) fn offer(&self, call: u64, audio: SocketAddr) -> String {
        let family = if audio.is_ipv4() { "IP4" } else { "IP6" };
        let (ip, port) = (audio.ip(), audio.port());
        let Credentials { ufrag, password } = self.credentials(call);
        let formats = match self.codec {
            WebRtcCodec::Opus => format!("{OPUS} 110"),
            WebRtcCodec::Pcmu => "0 110".to_owned(),
        };
        let codec = match self.codec {
            WebRtcCodec::Opus => format!(
                "a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n\
                 a=rtpmap:110 telephone-event/48000\r\n"
            ),
            WebRtcCodec::Pcmu => "a=rtpmap:0 PCMU/8000\r\na=rtpmap:110 telephone-event/8000\r\n".to_owned(),
        };
        let mut offer = format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             m=audio {port} UDP/TLS/RTP/SAVPF {formats}\r\nc=IN {family} {ip}\r\na=mid:0\r\na=rtcp-mux\r\n\
             a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=ice-options:trickle\r\na=fingerprint:{}\r\na=setup:actpass\r\n{codec}\
             a=fmtp:110 0-16\r\na=ptime:20\r\na=sendrecv\r\n",
            self.identity.fingerprint()
        );
        for line in Connection::local_candidates(&[local(audio)]) {
            // Writing to a String cannot fail.
            let _ = write!(offer, "a={line}\r\n");
        }
        offer
    }
}

fn local(address: SocketAddr) -> LocalAddress {
    LocalAddress { protocol: Protocol::Udp, address }
}

/// Encodes one second of the tone, in packets of 20 ms.
pub(super) fn tone(codec: Codec) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec, SampleRate::Hz48000);
    let rate = encoder.rate();
    let sample = |at: usize| {
        let phase = std::f32::consts::TAU * TONE * at as f32 / rate.hertz() as f32;
        (phase.sin() * AMPLITUDE) as i16
    };
    let frames = (0..PREPARED).map(|frame| {
        let samples: Vec<i16> = (frame * rate.frame()..(frame + 1) * rate.frame()).map(sample).collect();
        let mut octets = vec![0; LONGEST_PAYLOAD];
        let length = encoder.encode(&samples, &mut octets);
        octets.truncate(length);
        octets
    });
    frames.collect()
}

impl Answer {
    /// Reads the server's answer. Returns the reason if the answer has no usable media with WebRTC.
    pub(super) fn read(sdp: &str) -> Result<Answer, &'static str> {
        let line = |start: &str| sdp.lines().find_map(|line| line.strip_prefix(start)).map(str::trim);
        let (Some(ufrag), Some(password)) = (line("a=ice-ufrag:"), line("a=ice-pwd:")) else {
            return Err("the answer has no ICE");
        };
        let fingerprint = line("a=fingerprint:").and_then(|text| text.parse::<Fingerprint>().ok());
        let role = if line("a=setup:") == Some("active") { Role::Server } else { Role::Client };
        let candidate = sdp.lines().find_map(|line| {
            let candidate = line.strip_prefix("a=").filter(|line| line.starts_with("candidate:"))?;
            let mut words = candidate.split_ascii_whitespace();
            let is_udp = words.nth(2)?.eq_ignore_ascii_case("udp");
            let server = SocketAddr::new(words.nth(1)?.parse().ok()?, words.next()?.parse().ok()?);
            is_udp.then(|| (candidate.to_owned(), server))
        });
        let (candidate, server) = candidate.ok_or("the answer has no candidate with UDP")?;
        let remote = Remote {
            credentials: Credentials { ufrag: ufrag.to_owned(), password: password.to_owned() },
            fingerprints: vec![fingerprint.ok_or("the answer has no fingerprint")?],
            role,
            lite: line("a=ice-lite").is_some(),
            far_end: FarEnd::Browser,
        };
        Ok(Answer { remote, candidate, server })
    }
}

/// A change of a leg.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// The keys are there: packets can be sent.
    Connected,
    Failed(String),
}

/// The connection of one call's calling end.
pub(super) struct Leg {
    pub(super) call: u64,
    pub(super) began: Instant,
    connection: Connection,
    /// Our address, which is that of a shared socket.
    local: SocketAddr,
    timeout: Option<Instant>,
    srtp: Option<DtlsSrtp>,
}

/// The connections of all calling ends. The key is the server's address.
#[derive(Default)]
pub(super) struct Legs {
    legs: HashMap<SocketAddr, Leg>,
    early: Vec<(SocketAddr, Vec<u8>)>,
}

/// The meaning of a received datagram.
pub(super) enum Received {
    /// An RTP packet, decrypted in place, and its new length.
    Rtp {
        call: u64,
        length: usize,
    },
    /// The leg has handled the datagram.
    News {
        server: SocketAddr,
    },
    Nothing,
}

impl Legs {
    /// Begins the connection of a call, with the offer at `local` and the server's answer.
    pub(super) fn begin(&mut self, webrtc: &WebRtc, call: u64, local: SocketAddr, answer: &Answer, now: Instant) {
        let leg = Leg::new(webrtc, call, local, answer, true, now);
        self.insert(leg, answer.server, now);
    }

    fn insert(&mut self, mut leg: Leg, server: SocketAddr, now: Instant) {
        self.early.retain(|(from, octets)| {
            if *from == server {
                leg.handle(*from, octets, now);
            }
            *from != server
        });
        self.legs.insert(server, leg);
    }

    pub(super) fn get(&mut self, server: SocketAddr) -> Option<&mut Leg> {
        self.legs.get_mut(&server)
    }

    /// Handles a datagram from `from`, and decrypts RTP in place.
    pub(super) fn handle(&mut self, from: SocketAddr, datagram: &mut [u8], now: Instant) -> Received {
        let Some(leg) = self.legs.get_mut(&from) else {
            // Only a check of the server comes before its answer. Other datagrams are those of an ended call.
            let is_check = datagram.starts_with(&[0, 1]);
            if is_check && self.early.len() < MAX_EARLY {
                self.early.push((from, datagram.to_vec()));
            }
            return Received::Nothing;
        };
        if leg.handle(from, datagram, now) != Datagram::Media {
            return Received::News { server: from };
        }
        let is_rtcp = datagram.get(1).is_some_and(|kind| (192..=223).contains(kind));
        let srtp = leg.srtp.as_mut().filter(|_| !is_rtcp);
        match srtp.and_then(|srtp| srtp.unprotect(datagram)) {
            Some(length) => Received::Rtp { call: leg.call, length },
            None => Received::Nothing,
        }
    }

    /// Does the work that is due, and returns the legs that may have news.
    pub(super) fn handle_timeouts(&mut self, now: Instant) -> Vec<SocketAddr> {
        let due = self.legs.iter_mut().filter(|(_, leg)| leg.timeout.is_some_and(|at| at <= now));
        let due = due.map(|(server, leg)| {
            leg.connection.handle_timeout(now);
            *server
        });
        due.collect()
    }

    /// Closes the connection of a call, and returns the leg for its last datagrams.
    pub(super) fn end(&mut self, call: u64) -> Option<Leg> {
        let server = self.legs.iter().find_map(|(server, leg)| (leg.call == call).then_some(*server))?;
        let mut leg = self.legs.remove(&server)?;
        leg.connection.close();
        Some(leg)
    }
}

impl Leg {
    /// Creates a leg. `controls` says whether this side has made the offer.
    fn new(webrtc: &WebRtc, call: u64, local: SocketAddr, answer: &Answer, controls: bool, now: Instant) -> Leg {
        let (identity, credentials) = (Arc::clone(&webrtc.identity), webrtc.credentials(call));
        let mut connection = Connection::new(now, identity, &credentials, &[self::local(local)], controls, false);
        connection.set_remote(now, &answer.remote);
        connection.add_candidate(now, &answer.candidate);
        Leg { call, began: now, connection, local, timeout: None, srtp: None }
    }

    fn handle(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) -> Datagram {
        let route = Route { protocol: Protocol::Udp, local: self.local, remote: from };
        self.connection.handle_datagram(now, route, datagram)
    }

    /// Passes the datagrams of the connection to `send`, and returns the changes.
    pub(super) fn flush(&mut self, mut send: impl FnMut(&[u8], SocketAddr)) -> Vec<News> {
        while let Some(transmit) = self.connection.poll_transmit() {
            send(&transmit.octets, transmit.route.remote);
        }
        self.timeout = self.connection.poll_timeout();
        let mut news = Vec::new();
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Keys(keys) => {
                    self.srtp = DtlsSrtp::new(&keys);
                    news.push(News::Connected);
                }
                Event::Failed(failure) => news.push(News::Failed(failure.to_string())),
                Event::Route(_) | Event::Interrupted | Event::Restored => {}
            }
        }
        news
    }

    /// Encrypts a packet in place, and returns its new length and its target.
    pub(super) fn protect(&mut self, buffer: &mut [u8], length: usize) -> Option<(usize, SocketAddr)> {
        let route = self.connection.route()?;
        Some((self.srtp.as_mut()?.protect(buffer, length)?, route.remote))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\na=group:BUNDLE 0\r\n\
        m=audio 30000 UDP/TLS/RTP/SAVPF 0\r\na=ice-ufrag:abcdefgh\r\na=ice-pwd:0123456789012345678901\r\n\
        a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:\
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:passive\r\n\
        a=candidate:1 1 TCP 1 127.0.0.1 30002 typ host tcptype passive\r\n\
        a=candidate:2 1 UDP 2 127.0.0.1 30000 typ host\r\n";

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_has_a_connection_with_udp() {
        let answer = Answer::read(ANSWER).unwrap();
        assert_eq!(answer.server, address("127.0.0.1:30000"));
        assert_eq!((answer.remote.role, answer.remote.lite), (Role::Client, false));
        let active = ANSWER.replace("setup:passive", "setup:active").replace("c=IN", "a=ice-lite\r\nc=IN");
        let remote = Answer::read(&active).unwrap().remote;
        assert_eq!((remote.role, remote.lite), (Role::Server, true));
    }

    #[test]
    fn an_answer_without_a_necessary_line_is_refused_with_the_reason() {
        let without = |line: &str| Answer::read(&ANSWER.replace(line, "x")).unwrap_err();
        assert_eq!(without("a=ice-ufrag"), "the answer has no ICE");
        assert_eq!(without("a=fingerprint"), "the answer has no fingerprint");
        assert_eq!(without(" UDP "), "the answer has no candidate with UDP");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
    fn two_legs_connect_and_exchange_encrypted_packets() {
        let now = Instant::now();
        let [ours, theirs] = [address("127.0.0.2:7000"), address("127.0.0.1:30000")];
        let [caller, server] = [1, 2].map(|run| WebRtc::new(WebRtcCodec::Opus, run).unwrap());
        let answer_of = |webrtc: &WebRtc, at: SocketAddr, setup: &str| {
            let offer = webrtc.offer(5, at).replace("actpass", setup);
            Answer::read(&offer).unwrap()
        };
        let [mut calling, mut answering] = [Legs::default(), Legs::default()];
        let leg = Leg::new(&server, 5, theirs, &answer_of(&caller, ours, "active"), false, now);
        answering.insert(leg, ours, now);
        // The first checks of the server come before its answer.
        let mut to_caller = Vec::new();
        let _ = answering.get(ours).unwrap().flush(|octets, _| to_caller.push(octets.to_vec()));
        assert!(!to_caller.is_empty());
        for octets in &mut to_caller {
            assert!(matches!(calling.handle(theirs, octets, now), Received::Nothing));
        }
        calling.begin(&caller, 5, ours, &answer_of(&server, theirs, "passive"), now);
        let mut connected = [false; 2];
        for round in 0..200 {
            let now = now + std::time::Duration::from_millis(round);
            for side in [0, 1] {
                let (own, other) =
                    if side == 0 { (&mut calling, &mut answering) } else { (&mut answering, &mut calling) };
                let (from, to) = if side == 0 { (ours, theirs) } else { (theirs, ours) };
                own.handle_timeouts(now);
                let mut sent = Vec::new();
                let news = own.get(to).unwrap().flush(|octets, _| sent.push(octets.to_vec()));
                connected[side] |= news.contains(&News::Connected);
                for octets in &mut sent {
                    let _ = other.handle(from, octets, now);
                }
            }
        }
        assert_eq!(connected, [true; 2]);
        let mut packet = [0x80; 200];
        packet[1] = OPUS;
        let plain = packet;
        let (length, to) = calling.get(theirs).unwrap().protect(&mut packet, 100).unwrap();
        assert!(length > 100 && to == theirs && packet[12..100] != plain[12..100]);
        let received = answering.handle(ours, &mut packet[..length], now);
        assert!(matches!(received, Received::Rtp { call: 5, length: 100 }));
        assert_eq!(packet[..100], plain[..100]);
        assert!(calling.end(5).is_some() && calling.end(5).is_none());
    }

    #[test]
    fn the_tone_is_one_second_of_loud_packets() {
        for codec in [Codec::Opus, Codec::Pcmu] {
            let packets = tone(codec);
            assert!(packets.len() == PREPARED && packets.iter().all(|packet| (10..400).contains(&packet.len())));
        }
    }
}
