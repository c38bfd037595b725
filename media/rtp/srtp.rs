//! SRTP and SRTCP (RFC 3711, RFC 7714). Packets are encrypted and decrypted in place, without allocation. This module
//! is pure.
//!
//! ```text
//!  datagram -> Receiver { streams: index, replay window } -> RTP, RTCP
//!  RTP, RTCP -> Sender { index, replay window } -> datagram
//!                        both over Session { cipher, authentication } <- Master, from SDES
//! ```
//!
//! A packet's index is its sequence number together with the roll-over counter (§3.3.1). Each side estimates the
//! roll-over counter itself. A receiver remembers [`STREAMS`] SSRCs. If a packet with a further SSRC is authentic, the
//! receiver forgets the SSRC that was silent for the longest time.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod cipher;
mod window;

use std::fmt;

use cipher::Session;
use window::{Guess, Window};

/// The highest number of octets that encryption adds. These octets are a tag and, for RTCP, an index.
pub(crate) const LONGEST_TRAILER: usize = 16 + 4;
/// The length in octets of the longest packet that can be encrypted or decrypted.
pub(crate) const LONGEST: usize = 2_048;
/// The length in octets of the longest master key with its salt. AEAD_AES_256_GCM has a key of 32 octets and a salt of
/// 12 octets.
pub(crate) const LONGEST_MASTER: usize = 44;
/// The number of SSRCs that a receiver remembers.
const STREAMS: usize = 16;
/// The number of packets under a new key after which the receiver forgets the old key. By that time, all packets that
/// were sent under the old key have arrived.
const OVERLAP: u32 = 100;
/// The highest SRTCP index (§3.4), which has 31 bits.
const LAST_RTCP: u32 = 0x7FFF_FFFF;

/// A crypto suite: encryption and authentication (RFC 4568 §6.2, RFC 7714 §14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Suite {
    Aes128Sha1_80,
    Aes128Sha1_32,
    Aes128Gcm,
    Aes256Gcm,
}

impl Suite {
    pub(crate) const ALL: [Suite; 4] = [Suite::Aes128Sha1_80, Suite::Aes128Sha1_32, Suite::Aes128Gcm, Suite::Aes256Gcm];

    /// The suite's name in `a=crypto`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Suite::Aes128Sha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::Aes128Sha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Suite::Aes128Gcm => "AEAD_AES_128_GCM",
            Suite::Aes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    fn key_length(self) -> usize {
        if self == Suite::Aes256Gcm { 32 } else { 16 }
    }

    fn salt_length(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// The length in octets of a master key with its salt.
    pub(crate) fn master_length(self) -> usize {
        self.key_length() + self.salt_length()
    }

    fn is_aead(self) -> bool {
        matches!(self, Suite::Aes128Gcm | Suite::Aes256Gcm)
    }

    fn tag_length(self) -> usize {
        match self {
            Suite::Aes128Sha1_80 => 10,
            Suite::Aes128Sha1_32 => 4,
            Suite::Aes128Gcm | Suite::Aes256Gcm => 16,
        }
    }

    /// Returns the length of the RTCP tag in octets. This tag is never shortened (RFC 4568 §6.2.2).
    fn rtcp_tag_length(self) -> usize {
        if self.is_aead() { 16 } else { 10 }
    }
}

/// The master key and salt of a suite. `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Master {
    suite: Suite,
    octets: [u8; LONGEST_MASTER],
}

impl Master {
    /// Creates a master from key and salt. Returns `None` if the number of octets is wrong for the suite.
    pub(crate) fn new(suite: Suite, octets: &[u8]) -> Option<Master> {
        let mut master = Master { suite, octets: [0; LONGEST_MASTER] };
        let place = master.octets.get_mut(..suite.master_length())?;
        if place.len() != octets.len() {
            return None;
        }
        place.copy_from_slice(octets);
        Some(master)
    }

    pub(crate) fn suite(&self) -> Suite {
        self.suite
    }

    /// The key, followed by the salt.
    pub(crate) fn octets(&self) -> &[u8] {
        self.octets.get(..self.suite.master_length()).unwrap_or_default()
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.octets().split_at_checked(self.suite.key_length()).unwrap_or_default()
    }
}

impl Serialize for Master {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.suite, self.octets()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Master {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Master, D::Error> {
        let (suite, octets) = <(Suite, Vec<u8>)>::deserialize(deserializer)?;
        Master::new(suite, &octets).ok_or_else(|| D::Error::custom("a master key has the wrong length"))
    }
}

impl fmt::Debug for Master {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}(..)", self.suite.name())
    }
}

/// The keys of the two directions of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keys {
    pub(crate) send: Master,
    pub(crate) receive: Master,
    /// The length in octets of the master key identifier in the far end's packets (§3.1). The identifier's value is
    /// ignored, because there is only one key.
    pub(crate) mki: u8,
}

/// The reason why a packet was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The packet is not authentic under this key.
    Forged,
    /// The packet was received before, or is too old to check.
    Replayed,
    /// The packet is too short, or it is not RTP.
    Malformed,
}

/// The SRTP contexts of a session for both directions.
#[derive(Debug)]
pub(crate) struct Srtp {
    keys: Keys,
    sender: Sender,
    receiver: Receiver,
    /// The receiving context under the previous key.
    previous: Option<Previous>,
}

/// The previous key of the far end, the length of its master key identifier, and the context under this key.
#[derive(Debug)]
struct Previous {
    master: Master,
    mki: u8,
    receiver: Receiver,
}

/// The contexts of a session as data. They contain the keys.
#[derive(Serialize, Deserialize)]
pub(crate) struct SrtpState {
    keys: Keys,
    sent: Window,
    rtcp_index: u32,
    received: ReceiverState,
    previous: Option<(Master, u8, ReceiverState)>,
}

/// The data of a [`Receiver`], without its keys.
#[derive(Serialize, Deserialize)]
struct ReceiverState {
    streams: Vec<Stream>,
    inherited: Vec<(u32, Guess)>,
    taken: u32,
    age: u64,
}

impl Srtp {
    /// Creates the contexts. Returns `None` if the cryptographic library refuses the keys. In practice the library
    /// accepts the keys, because their lengths are right.
    pub(crate) fn new(keys: Keys) -> Option<Srtp> {
        let sender = Sender::new(&keys.send)?;
        let receiver = Receiver::new(&keys.receive, keys.mki)?;
        Some(Srtp { keys, sender, receiver, previous: None })
    }

    /// Sets new keys, or the same keys again. A direction with an unchanged key keeps its context, because its indices
    /// must not restart. Packets under the far end's old key are accepted until [`OVERLAP`] packets under the new key
    /// have arrived.
    pub(crate) fn rekey(&mut self, keys: Keys) {
        if keys.send != self.keys.send
            && let Some(sender) = Sender::new(&keys.send)
        {
            self.sender = sender;
        }
        if (&keys.receive, keys.mki) != (&self.keys.receive, self.keys.mki)
            && let Some(mut receiver) = Receiver::new(&keys.receive, keys.mki)
        {
            receiver.inherit(&self.receiver);
            let (master, mki) = (self.keys.receive.clone(), self.keys.mki);
            self.previous = Some(Previous { master, mki, receiver: std::mem::replace(&mut self.receiver, receiver) });
        }
        self.keys = keys;
    }

    /// Returns the contexts as data.
    pub(crate) fn state(&self) -> SrtpState {
        let previous = self.previous.as_ref();
        SrtpState {
            keys: self.keys.clone(),
            sent: self.sender.window.clone(),
            rtcp_index: self.sender.rtcp_index,
            received: self.receiver.state(),
            previous: previous.map(|before| (before.master.clone(), before.mki, before.receiver.state())),
        }
    }

    /// Creates the contexts from data. `skipped` is the number of RTP packets and of RTCP packets that may have been
    /// sent since the data was written: their indices are not used again. Returns `None` if the cryptographic library
    /// refuses the keys.
    pub(crate) fn resume(state: SrtpState, skipped: u16) -> Option<Srtp> {
        let mut sender = Sender::new(&state.keys.send)?;
        sender.window = state.sent;
        if let Some(newest) = sender.window.newest() {
            sender.window.note(Guess::of(newest.index().saturating_add(skipped.into())));
        }
        sender.rtcp_index = state.rtcp_index.saturating_add(skipped.into()).min(LAST_RTCP);
        let receiver = Receiver::resume(&state.keys.receive, state.keys.mki, state.received)?;
        let previous = match state.previous {
            Some((master, mki, received)) => {
                let receiver = Receiver::resume(&master, mki, received)?;
                Some(Previous { master, mki, receiver })
            }
            None => None,
        };
        Some(Srtp { keys: state.keys, sender, receiver, previous })
    }

    /// Authenticates and decrypts an RTP packet in place. Returns the packet's new length.
    pub(crate) fn unprotect(&mut self, packet: &mut [u8]) -> Result<usize, Refused> {
        let Some(previous) = &mut self.previous else { return self.receiver.unprotect(packet) };
        // A failed attempt may overwrite the packet, so a copy is necessary.
        let mut copy = [0; LONGEST];
        let copy = copy.get_mut(..packet.len()).ok_or(Refused::Malformed)?;
        copy.copy_from_slice(packet);
        let result = self.receiver.unprotect(packet);
        if self.receiver.taken >= OVERLAP {
            self.previous = None;
            return result;
        }
        if result != Err(Refused::Forged) {
            return result;
        }
        packet.copy_from_slice(copy);
        previous.receiver.unprotect(packet)
    }

    /// Authenticates and decrypts an RTCP packet in place. Returns the packet's new length.
    pub(crate) fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Refused> {
        self.receiver.unprotect_rtcp(packet)
    }

    /// Encrypts an RTP packet in place and returns the packet's new length. `packet` is a buffer, and its first
    /// `length` octets are the RTP packet. Returns `None` if the buffer has not enough space after the packet, or if
    /// the packet's index was already used. In both cases the packet must not be sent.
    pub(crate) fn protect(&mut self, packet: &mut [u8], length: usize) -> Option<usize> {
        self.sender.protect(packet, length)
    }

    /// Encrypts an RTCP packet, as [`Srtp::protect`] does for an RTP packet.
    pub(crate) fn protect_rtcp(&mut self, packet: &mut [u8], length: usize) -> Option<usize> {
        self.sender.protect_rtcp(packet, length)
    }
}

/// The context of the stream that we send. The stream has one SSRC.
#[derive(Debug)]
struct Sender {
    session: Session,
    window: Window,
    rtcp_index: u32,
}

impl Sender {
    fn new(master: &Master) -> Option<Sender> {
        Some(Sender { session: Session::derive(master)?, window: Window::default(), rtcp_index: 0 })
    }

    fn protect(&mut self, packet: &mut [u8], length: usize) -> Option<usize> {
        let (sequence, ssrc, payload) = fixed(packet.get(..length)?)?;
        let guess = self.window.guess(sequence)?;
        // Two packets with the same index would share a key stream.
        if !self.window.is_new(guess) {
            return None;
        }
        let length = self.session.protect(packet, length, payload, ssrc, guess.index())?;
        self.window.note(guess);
        Some(length)
    }

    fn protect_rtcp(&mut self, packet: &mut [u8], length: usize) -> Option<usize> {
        let ssrc = rtcp_ssrc(packet.get(..length)?)?;
        let index = (self.rtcp_index < LAST_RTCP).then_some(self.rtcp_index)?;
        self.rtcp_index += 1;
        self.session.protect_rtcp(packet, length, ssrc, index)
    }
}

/// The context of the packets that we receive under one key.
#[derive(Debug)]
struct Receiver {
    session: Session,
    mki: usize,
    streams: Vec<Stream>,
    /// The newest index of each SSRC under the previous key. Under a new key, the roll-over counter of an SSRC may
    /// continue or restart at 0 (RFC 4568 §6.4). So the receiver tries both values of the counter.
    inherited: Vec<(u32, Guess)>,
    /// The number of packets that were authentic under this key.
    taken: u32,
    /// A counter that rises with each packet. The receiver uses this counter to find the stream that was silent for the
    /// longest time.
    age: u64,
}

/// The state of one SSRC.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stream {
    ssrc: u32,
    window: Window,
    rtcp: Window,
    heard: u64,
}

impl Receiver {
    fn new(master: &Master, mki: u8) -> Option<Receiver> {
        Some(Receiver {
            session: Session::derive(master)?,
            mki: mki.into(),
            streams: Vec::with_capacity(STREAMS),
            inherited: Vec::new(),
            taken: 0,
            age: 0,
        })
    }

    fn state(&self) -> ReceiverState {
        ReceiverState {
            streams: self.streams.clone(),
            inherited: self.inherited.clone(),
            taken: self.taken,
            age: self.age,
        }
    }

    fn resume(master: &Master, mki: u8, state: ReceiverState) -> Option<Receiver> {
        let ReceiverState { mut streams, inherited, taken, age } = state;
        streams.truncate(STREAMS);
        Some(Receiver { streams, inherited, taken, age, ..Receiver::new(master, mki)? })
    }

    fn inherit(&mut self, before: &Receiver) {
        let counters = before.streams.iter().filter_map(|stream| Some((stream.ssrc, stream.window.newest()?)));
        self.inherited.extend(counters);
    }

    fn unprotect(&mut self, packet: &mut [u8]) -> Result<usize, Refused> {
        let (sequence, ssrc, payload) = fixed(packet).ok_or(Refused::Malformed)?;
        let known = self.streams.iter().position(|stream| stream.ssrc == ssrc);
        let window = known.and_then(|place| self.streams.get(place)).map(|stream| &stream.window);
        let fresh = Window::default();
        let guess = window.unwrap_or(&fresh).guess(sequence).ok_or(Refused::Replayed)?;
        if window.is_some_and(|window| !window.is_new(guess)) {
            return Err(Refused::Replayed);
        }
        let before = self.inherited.iter().find(|(other, _)| known.is_none() && *other == ssrc);
        let going_on = before.map(|(_, newest)| newest.follow(sequence)).filter(|other| *other != guess);
        let (guess, length) = match going_on {
            None => (guess, self.session.unprotect(packet, payload, ssrc, guess.index(), self.mki)?),
            Some(going_on) => {
                let mut copy = [0; LONGEST];
                let copy = copy.get_mut(..packet.len()).ok_or(Refused::Malformed)?;
                copy.copy_from_slice(packet);
                match self.session.unprotect(packet, payload, ssrc, guess.index(), self.mki) {
                    Ok(length) => (guess, length),
                    Err(_) => {
                        packet.copy_from_slice(copy);
                        (going_on, self.session.unprotect(packet, payload, ssrc, going_on.index(), self.mki)?)
                    }
                }
            }
        };
        self.taken = self.taken.saturating_add(1);
        self.stream(ssrc).window.note(guess);
        Ok(length)
    }

    fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Refused> {
        let ssrc = rtcp_ssrc(packet).ok_or(Refused::Malformed)?;
        let index = self.session.rtcp_index(packet, self.mki).ok_or(Refused::Malformed)?;
        let known = self.streams.iter().find(|stream| stream.ssrc == ssrc);
        if known.is_some_and(|stream| !stream.rtcp.is_new(Guess::of(index.into()))) {
            return Err(Refused::Replayed);
        }
        let length = self.session.unprotect_rtcp(packet, ssrc, index, self.mki)?;
        self.stream(ssrc).rtcp.note(Guess::of(index.into()));
        Ok(length)
    }

    /// Returns the stream of an SSRC with an authentic packet. Creates the stream if the SSRC is new.
    fn stream(&mut self, ssrc: u32) -> &mut Stream {
        self.age += 1;
        let place = self.streams.iter().position(|stream| stream.ssrc == ssrc).unwrap_or_else(|| {
            if self.streams.len() >= STREAMS
                && let Some((oldest, _)) = self.streams.iter().enumerate().min_by_key(|(_, stream)| stream.heard)
            {
                self.streams.swap_remove(oldest);
            }
            self.streams.push(Stream { ssrc, window: Window::default(), rtcp: Window::default(), heard: 0 });
            self.streams.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the place was found, or made, just now")]
        let stream = &mut self.streams[place];
        stream.heard = self.age;
        stream
    }
}

/// Returns the sequence number, the SSRC and the offset of the payload. Padding is encrypted together with the payload.
fn fixed(packet: &[u8]) -> Option<(u16, u32, usize)> {
    let [first, _, s0, s1, _, _, _, _, i0, i1, i2, i3, ..] = *packet else { return None };
    let mut start = super::FIXED + 4 * usize::from(first & 0x0F);
    if first & 0x10 != 0 {
        let [_, _, high, low] = *packet.get(start..start + 4)? else { return None };
        start += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    }
    let rtp = first >> 6 == 2 && start <= packet.len();
    rtp.then_some((u16::from_be_bytes([s0, s1]), u32::from_be_bytes([i0, i1, i2, i3]), start))
}

fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    let [first, _, _, _, ssrc @ ..] = packet else { return None };
    (first >> 6 == 2).then_some(u32::from_be_bytes(*ssrc.first_chunk()?))
}

#[cfg(test)]
mod tests;
