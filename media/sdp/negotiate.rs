//! Our offers, our answers, and the answers that we receive (RFC 3264).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;

use super::crypto::{self, Crypto, RANDOM, Srtp};
use super::parse::{self, Audio, Description, Direction, Format, Line, Meaning};
use super::{Events, MAX_RECEIVE_CODECS, MAX_RECEIVE_EVENTS, MediaPlan, Preference, Protection, SdpError};
use crate::codec::{Codec, SampleRate};
use crate::latch::MediaSource;

/// Our end of the stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    /// The address in `c=` and `o=`.
    pub(crate) address: IpAddr,
    /// The RTP port. RTCP uses the next port.
    pub(crate) port: u16,
    /// The session id in `o=`.
    pub(crate) id: u64,
}

/// The offer/answer state of one leg.
#[derive(Debug)]
pub(crate) struct Negotiation {
    local: Local,
    version: u64,
    /// Our last description without the `o=` line. The version in the `o=` line changes only if the description changes
    /// (RFC 3264 §8).
    last_description: String,
    /// The session's m-lines, each in the form that refuses the stream (port 0). The list is empty until the m-lines
    /// are known. Later descriptions have the same number and order of m-lines (RFC 3264 §8).
    lines: Vec<String>,
    ours: usize,
    /// The codecs that we use, best first. The list is never empty.
    codecs_in_use: Vec<Codec>,
    /// Our payload types for all formats that any description of this session has named. The payload types do not
    /// change during the session (RFC 3264 §8.3.2).
    numbers: Vec<Format>,
    /// Whether telephone-events are offered and accepted.
    events: bool,
    /// The label (RFC 4574) of the session. Only a session that sends a copy of another stream and receives nothing has
    /// a label.
    label: Option<u16>,
    /// The formats of our last offer.
    offered: Vec<Format>,
    /// The codecs of the far end's last description that we also use. They are in the order of the far end's
    /// description.
    common: Vec<Codec>,
    /// The codec names of the far end's last offer, including codecs that we do not support.
    offered_names: Vec<String>,
    crypto: Crypto,
    /// Whether the last agreed profile was RTP/SAVP, or `None` before the first agreement.
    secure: Option<bool>,
    /// The last address of the far end's media.
    remote: Option<SocketAddr>,
    plan: Option<MediaPlan>,
    agreed: bool,
    /// The hosts from which media is accepted.
    source: MediaSource,
    peer: Peer,
}

/// The far end as SIP knows it.
#[derive(Debug, Clone, Copy)]
enum Peer {
    /// The operator or this server itself has chosen the far end. Its SDP may name any address.
    Chosen,
    /// The address with which we exchange SIP, if it is known.
    At(Option<IpAddr>),
}

/// The keys that one of our descriptions contains.
#[derive(Clone, Copy)]
enum OwnKeys<'a> {
    Nothing,
    Offer,
    Answer(&'a crypto::Line),
}

impl Negotiation {
    /// Creates a negotiation for G.711. [`Negotiation::set_codecs`] can change the codecs.
    pub(crate) fn new(local: Local) -> Negotiation {
        Negotiation {
            local,
            version: 1,
            last_description: String::new(),
            lines: Vec::new(),
            ours: 0,
            codecs_in_use: vec![Codec::Pcmu, Codec::Pcma],
            numbers: Vec::new(),
            events: true,
            label: None,
            offered: Vec::new(),
            common: Vec::new(),
            offered_names: Vec::new(),
            crypto: Crypto::off(),
            secure: None,
            remote: None,
            plan: None,
            agreed: false,
            source: MediaSource::Any,
            peer: Peer::Chosen,
        }
    }

    /// The codec names of the far end's last offer, in the form in which [`offered_codecs`](super::offered_codecs)
    /// returns them.
    pub(crate) fn named(&self) -> &[String] {
        &self.offered_names
    }

    /// Sets whether the media is encrypted. Call this before the first offer or answer. The keys are made from
    /// `random`.
    pub(crate) fn set_srtp(&mut self, srtp: Srtp, random: Option<&[u8; RANDOM]>) {
        self.crypto = Crypto::new(srtp, random);
    }

    /// Sets the hosts from which media is accepted. Call this before the first offer or answer.
    pub(crate) fn set_source(&mut self, source: MediaSource) {
        self.source = source;
    }

    /// Sets the address with which we exchange SIP; `None` if it is not known. From now on the far end's SDP cannot make
    /// us send to the loopback, link-local, multicast or broadcast addresses of our own network, unless the far end
    /// itself is there.
    pub(crate) fn set_peer(&mut self, peer: Option<IpAddr>) {
        self.peer = Peer::At(peer);
    }

    /// Returns the plan with the settings of this session.
    fn settled(&self, plan: MediaPlan) -> MediaPlan {
        let may_send = |to: SocketAddr| match self.peer {
            Peer::Chosen => true,
            Peer::At(peer) => {
                let peers = [peer, Some(self.local.address)];
                let to = to.ip().to_canonical();
                is_reachable_by_anyone(to) || peers.into_iter().flatten().any(|own| are_neighbours(own, to))
            }
        };
        let waits = plan.remote.is_some_and(|to| !may_send(to));
        MediaPlan { source: self.source, waits, remote_rtcp: plan.remote_rtcp.filter(|to| may_send(*to)), ..plan }
    }

    /// Sets whether telephone-events are offered and accepted from now on.
    pub(crate) fn set_events(&mut self, events: bool) {
        self.events = events;
    }

    /// Sets the label of a session that sends a copy of another stream (RFC 7866 §7.1.1). Such a session only sends,
    /// and has no telephone-events. Call this before the first offer.
    pub(crate) fn set_label(&mut self, label: u16) {
        (self.label, self.events) = (Some(label), false);
    }

    /// Sets the codecs that we use from now on, best first. An empty slice changes nothing.
    pub(crate) fn set_codecs(&mut self, codecs: &[Codec]) {
        if !codecs.is_empty() {
            self.codecs_in_use.clear();
            add(&mut self.codecs_in_use, codecs);
        }
    }

    /// Whether an offer or answer of the far end was accepted.
    pub(crate) fn is_agreed(&self) -> bool {
        self.agreed
    }

    /// Whether the far end must get another offer now, because its media has moved in its answer and our key is an old
    /// one. The next offer has new keys, so this is never true twice in a row.
    pub(crate) fn owes_new_keys(&self) -> bool {
        self.crypto.owes_new_keys
    }

    /// The agreed plan. If our offer has no answer yet, this is the plan for early media.
    pub(crate) fn plan(&self) -> Option<&MediaPlan> {
        self.plan.as_ref()
    }

    /// The codecs with which the engine can relay between this leg and another leg. The agreed codec comes first, then
    /// the other codecs that both ends support.
    pub(crate) fn preference(&self) -> Preference {
        let agreed = self.plan.as_ref().filter(|_| self.agreed);
        let mut codecs: Vec<Codec> = agreed.map(|plan| plan.codec).into_iter().collect();
        add(&mut codecs, &self.common);
        Preference { codecs, comfort_noise: agreed.is_some_and(|plan| plan.comfort_noise.is_some()) }
    }

    /// Returns our offer. It does not depend on the codecs that another leg prefers.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn offer(&mut self) -> Bytes {
        self.offer_preferring(&Preference::default())
    }

    /// Returns our offer or re-offer. The agreed codec comes first, then the codecs that another leg prefers.
    pub(crate) fn offer_preferring(&mut self, preferred: &Preference) -> Bytes {
        let agreed = self.plan.as_ref().filter(|_| self.agreed);
        let mut codecs: Vec<Codec> = agreed.map(|plan| plan.codec).into_iter().collect();
        let noise = preferred.comfort_noise || agreed.is_some_and(|plan| plan.comfort_noise.is_some());
        add(&mut codecs, &preferred.codecs);
        codecs.retain(|codec| self.codecs_in_use.contains(codec));
        add(&mut codecs, &self.codecs_in_use);

        let mut meanings: Vec<Meaning> = codecs.iter().copied().map(Meaning::Audio).collect();
        // Comfort noise at 8,000 Hz is useful only with a narrowband codec.
        if noise && codecs.iter().any(|codec| codec.law().is_some()) {
            meanings.push(Meaning::Noise);
        }
        for codec in codecs {
            let events = Meaning::Events(codec.clock_rate());
            if self.events && !meanings.contains(&events) {
                meanings.push(events);
            }
        }
        self.offered = meanings.into_iter().map(|meaning| self.number(meaning)).collect();
        self.crypto.offered_new_keys = self.crypto.owes_new_keys || !self.agreed;
        if self.crypto.owes_new_keys {
            self.crypto.renew();
        }
        // A re-offer uses the profile that the far end has accepted. A first offer with optional SRTP uses the plain
        // profile.
        let secure = self.secure.unwrap_or(self.crypto.wanted() == Srtp::Required);
        let body = self.describe_offer(secure);
        if !self.agreed {
            let open = self.crypto.wanted() != Srtp::Off;
            let plan = early(&self.offered, if open { Protection::Open } else { Protection::Plain });
            self.plan = plan.map(|plan| self.settled(plan));
        }
        self.finish_description(body)
    }

    /// Returns the last offer again, but with the profile RTP/SAVP. This offer is for a far end that refuses keys in
    /// the plain profile. The far end may answer either offer. Returns `None` if SRTP is not optional, or if a profile
    /// is already agreed.
    pub(crate) fn offer_secured(&mut self) -> Option<Bytes> {
        let open = self.crypto.wanted() == Srtp::Optional && self.secure.is_none() && !self.offered.is_empty();
        let body = open.then(|| self.describe_offer(true))?;
        Some(self.finish_description(body))
    }

    fn describe_offer(&self, secure: bool) -> String {
        let proto = if secure { "RTP/SAVP" } else { "RTP/AVP" };
        let keys = if self.crypto.wanted() == Srtp::Off { OwnKeys::Nothing } else { OwnKeys::Offer };
        let direction = if self.label.is_some() { "sendonly" } else { "sendrecv" };
        self.describe(&self.offered, direction, proto, keys)
    }

    /// Returns our answer. It does not depend on the codecs that another leg prefers.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn answer(&mut self, offer: &[u8]) -> Result<Bytes, SdpError> {
        self.answer_preferring(offer, &Preference::default())
    }

    /// Returns our answer to the far end's offer (RFC 3264 §6). Only codecs that the offer contains and that we support
    /// can be selected. The answer selects the codec among them that another leg prefers. If another leg prefers none
    /// of them, the answer selects the first of them in the offer. After an error the earlier agreement remains in
    /// effect.
    pub(crate) fn answer_preferring(&mut self, offer: &[u8], preferred: &Preference) -> Result<Bytes, SdpError> {
        let text = parse::text(offer)?;
        let description = Description::parse(&text)?;
        self.offered_names = description.encodings();
        if let Some(ours) = only_disabled(&description) {
            return self.answer_disabled(&description, ours);
        }
        if let Some(refusal) = no_common_codec(&description, &self.codecs_in_use) {
            return Err(refusal);
        }
        let (ours, line, audio, key) = usable(&description, self.local.address, &self.codecs_in_use, &self.crypto)?;
        let common: Vec<Codec> = codecs(audio).filter(|codec| self.codecs_in_use.contains(codec)).collect();
        if key.is_some() && (self.has_moved(audio.remote) || self.crypto.owes_new_keys) {
            self.crypto.renew();
        }
        let first = preferred.codecs.iter().find(|codec| common.contains(codec)).or(common.first());
        let Some(codec) = first.copied() else {
            return Err(SdpError::Incompatible("no codec that is supported here".into()));
        };
        self.lines = description.lines.iter().map(refused).collect();
        self.ours = ours;
        let direction = match (audio.remote.is_some(), audio.direction) {
            (true, Direction::SendRecv | Direction::RecvOnly) if self.label.is_some() => "sendonly",
            _ if self.label.is_some() => "inactive",
            (true, Direction::SendRecv) => "sendrecv",
            (true, Direction::RecvOnly) => "sendonly",
            (_, Direction::SendOnly) | (false, Direction::SendRecv) => "recvonly",
            (_, Direction::Inactive) | (false, Direction::RecvOnly) => "inactive",
        };
        // From now on we use the far end's payload types in both directions.
        for format in &audio.formats {
            self.numbers.retain(|known| known.meaning != format.meaning && known.number != format.number);
        }
        self.numbers.extend(&audio.formats);
        let mut plan = plan_of(audio, codec);
        // The answer contains one codec, so that the far end does not change the codec during the call. If the far end
        // still changes to G.711, we accept it, because G.711 needs no decoder state.
        let answered = |format: &&Format| format.meaning == Meaning::Audio(codec);
        let besides = |format: &&Format| {
            format
                .meaning
                .codec()
                .is_some_and(|other| other != codec && other.law().is_some() && common.contains(&other))
        };
        let taken = audio.formats.iter().filter(answered).chain(audio.formats.iter().filter(besides));
        plan.receive_codecs = gather(taken.filter_map(|format| Some((format.number, format.meaning.codec()?))));
        plan.receive_events = gather(audio.formats.iter().filter_map(events));
        if !self.events {
            (plan.events, plan.receive_events) = (None, [None; MAX_RECEIVE_EVENTS]);
        }
        let mut chosen: Vec<Format> = audio.formats.iter().filter(answered).copied().collect();
        let noise = plan.comfort_noise.map(|number| Format { number, meaning: Meaning::Noise });
        let events =
            plan.events.map(|one| Format { number: one.payload_type, meaning: Meaning::Events(one.clock_rate) });
        chosen.extend(noise.into_iter().chain(events));
        plan.receives &= self.label.is_none();
        plan.protection = self.crypto.take(key);
        self.secure = Some(audio.keys.secure);
        self.common = common;
        self.plan = Some(self.settled(plan));
        self.agreed = true;
        let body = self.describe(&chosen, direction, line.proto, key.map_or(OwnKeys::Nothing, OwnKeys::Answer));
        Ok(self.finish_description(body))
    }

    /// Whether the far end's media moves to `remote`. If it does, the far end may have no state of our stream. So it gets
    /// a new key, under which the packet indices begin at 0 (RFC 4568 §7.1.4). In our answer, this key replaces the old
    /// key at once. But if the far end moves in an answer, our key is already in our offer. Then a further offer must
    /// bring the new key ([`Self::owes_new_keys`]).
    fn has_moved(&mut self, remote: Option<SocketAddr>) -> bool {
        let Some(remote) = remote else { return false };
        self.remote.replace(remote).is_some_and(|before| before != remote)
    }

    /// Returns our answer to an offer that disables its audio. All streams stay disabled, and neither side sends. A later
    /// offer can enable the audio again (RFC 3264 §8.2).
    fn answer_disabled(&mut self, description: &Description<'_>, ours: usize) -> Result<Bytes, SdpError> {
        let codec = self.codecs_in_use.first().copied().unwrap_or(Codec::Pcmu);
        let format = self.number(Meaning::Audio(codec));
        let plan = self.plan.clone().or_else(|| early(&[format], Protection::Plain));
        self.plan = plan.map(|plan| MediaPlan {
            remote: None,
            remote_rtcp: None,
            sends: false,
            receives: false,
            waits: false,
            ..plan
        });
        self.lines = description.lines.iter().map(refused).collect();
        self.ours = ours;
        self.agreed = true;
        let body = self.lines.iter().fold(self.begin(), |body, line| body + line);
        Ok(self.finish_description(body))
    }

    /// Returns an answer that refuses each stream of the offer. The earlier agreement remains in effect. Returns `None`
    /// if the offer is not valid SDP.
    pub(crate) fn decline(&mut self, offer: &[u8]) -> Option<Bytes> {
        let text = parse::text(offer).ok()?;
        let description = Description::parse(&text).ok()?;
        let mut body = self.begin();
        for line in &description.lines {
            body.push_str(&refused(line));
        }
        Some(self.finish_description(body))
    }

    /// Applies the far end's answer to our offer. If the far end sends the same answer again (in a 183, then in a 200),
    /// nothing changes.
    pub(crate) fn accept(&mut self, answer: &[u8]) -> Result<(), SdpError> {
        let refused = SdpError::Incompatible("the answer refuses audio or contains no codec of the offer".into());
        let text = parse::text(answer)?;
        let description = Description::parse(&text)?;
        let local = self.local.address;
        // In an answer our m-line has its old position. But a few devices send only the audio line.
        let line = description.lines.get(self.ours).or_else(|| description.lines.first());
        let Some(audio) = line.and_then(|line| line.audio.as_ref()) else { return Err(refused) };
        if !reachable(audio, local) {
            return Err(SdpError::other_family(local));
        }
        let ours = |meaning: Meaning| self.offered.iter().find(|format| format.meaning == meaning).copied();
        let common: Vec<Codec> = codecs(audio).filter(|codec| ours(Meaning::Audio(*codec)).is_some()).collect();
        let Some(codec) = common.first().copied() else { return Err(refused) };
        let mut plan = plan_of(audio, codec);
        // The far end must send with our payload types. Some devices use their own payload types instead. This is
        // harmless if we do not use these numbers.
        let agreed = audio.formats.iter().filter_map(|format| ours(format.meaning));
        let theirs = audio.formats.iter().filter(|format| {
            ours(format.meaning).is_some() && !self.offered.iter().any(|offered| offered.number == format.number)
        });
        let both: Vec<Format> = agreed.chain(theirs.copied()).collect();
        plan.receive_codecs = gather(both.iter().filter_map(|format| Some((format.number, format.meaning.codec()?))));
        plan.receive_events = gather(both.iter().filter_map(events));
        if !self.events {
            plan.events = None;
        }
        if ours(Meaning::Noise).is_none() {
            plan.comfort_noise = None;
        }
        plan.receives &= self.label.is_none();
        plan.protection = self.crypto.accept(&audio.keys)?;
        let moved = self.has_moved(audio.remote) && matches!(plan.protection, Protection::Keyed(_));
        self.crypto.owes_new_keys |= moved && !self.crypto.offered_new_keys;
        self.secure = Some(audio.keys.secure);
        self.common = common;
        self.plan = Some(self.settled(plan));
        self.agreed = true;
        Ok(())
    }

    /// Returns our payload type for a format. The number is assigned when the format is first named.
    fn number(&mut self, meaning: Meaning) -> Format {
        if let Some(known) = self.numbers.iter().find(|format| format.meaning == meaning) {
            return *known;
        }
        let usual = match meaning {
            Meaning::Audio(codec) => codec.static_payload_type().unwrap_or(match codec {
                Codec::Opus => 111,
                Codec::L16(SampleRate::Hz8000) => 119,
                _ => 118,
            }),
            Meaning::Noise => 13,
            Meaning::Events(8_000) => 101,
            Meaning::Events(48_000) => 110,
            Meaning::Events(_) => 102,
        };
        let free = |number: &u8| !self.numbers.iter().any(|format| format.number == *number);
        let number = std::iter::once(usual).chain(101..=127).chain(96..101).find(free).unwrap_or(usual);
        let format = Format { number, meaning };
        self.numbers.push(format);
        format
    }

    /// Returns the lines of a description after `o=`.
    fn describe(&self, formats: &[Format], direction: &str, proto: &str, keys: OwnKeys<'_>) -> String {
        let mut body = self.begin();
        let count = self.lines.len().max(1);
        for index in 0..count {
            if index != self.ours {
                if let Some(line) = self.lines.get(index) {
                    body.push_str(line);
                }
                continue;
            }
            body.push_str(&format!("m=audio {} {proto}", self.local.port));
            for format in formats {
                body.push_str(&format!(" {}", format.number));
            }
            body.push_str("\r\n");
            for Format { number, meaning } in formats {
                let (name, rate, channels, parameters) = match *meaning {
                    // SDP always states two channels for Opus (RFC 7587 §7).
                    Meaning::Audio(Codec::Opus) => ("opus", 48_000, "/2", "useinbandfec=1"),
                    Meaning::Audio(codec) => (codec.name(), codec.clock_rate(), "", ""),
                    Meaning::Noise => ("CN", 8_000, "", ""),
                    Meaning::Events(rate) => ("telephone-event", rate, "", "0-16"),
                };
                body.push_str(&format!("a=rtpmap:{number} {name}/{rate}{channels}\r\n"));
                if !parameters.is_empty() {
                    body.push_str(&format!("a=fmtp:{number} {parameters}\r\n"));
                }
            }
            match keys {
                OwnKeys::Nothing => {}
                OwnKeys::Offer => self.crypto.offer(&mut body),
                OwnKeys::Answer(line) => self.crypto.answer(line, &mut body),
            }
            body.push_str(&format!("a=ptime:20\r\na={direction}\r\n"));
            if let Some(label) = self.label {
                body.push_str(&format!("a=label:{label}\r\n"));
            }
        }
        // The text is stored for the whole call, so it should not use more memory than necessary.
        body.shrink_to_fit();
        body
    }

    /// Returns the lines after `o=` that are the same in all our descriptions.
    fn begin(&self) -> String {
        format!("s=-\r\nc={}\r\nt=0 0\r\n", connection(self.local.address))
    }

    fn finish_description(&mut self, body: String) -> Bytes {
        if !self.last_description.is_empty() && self.last_description != body {
            self.version += 1;
        }
        let Local { address, id, .. } = self.local;
        let whole = format!("v=0\r\no=- {id} {} {}\r\n{body}", self.version, connection(address));
        self.last_description = body;
        Bytes::from(whole)
    }
}

/// Whether an address means the same host for everybody. Private addresses count too: a far end behind a NAT often
/// names one, and a far end in our own network must.
fn is_reachable_by_anyone(address: IpAddr) -> bool {
    let own = address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_link_local(address);
    !own && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether a far end at `peer` can be at `address`, which only its own host or its own link can reach.
fn are_neighbours(peer: IpAddr, address: IpAddr) -> bool {
    let peer = peer.to_canonical();
    peer.is_loopback() && address.is_loopback() || is_link_local(peer) && is_link_local(address)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Returns the plan for media that arrives before the answer to our offer.
fn early(offered: &[Format], protection: Protection) -> Option<MediaPlan> {
    let (payload_type, codec) = offered.iter().find_map(|format| Some((format.number, format.meaning.codec()?)))?;
    let noise = offered.iter().find(|format| format.meaning == Meaning::Noise);
    Some(MediaPlan {
        remote: None,
        remote_rtcp: None,
        codec,
        payload_type,
        receive_codecs: gather(offered.iter().filter_map(|format| Some((format.number, format.meaning.codec()?)))),
        events: events_for(codec, offered),
        receive_events: gather(offered.iter().filter_map(events)),
        comfort_noise: noise.map(|format| format.number),
        opus_fec: false,
        frames: 1,
        max_packet_ms: None,
        sends: true,
        receives: true,
        protection,
        source: MediaSource::Any,
        waits: false,
    })
}

/// Returns the part of the plan that describes what we send to a far end with this description. The accepted payload
/// types depend on the side that made the offer, so the caller sets them.
fn plan_of(audio: &Audio, codec: Codec) -> MediaPlan {
    let number = |meaning| audio.formats.iter().find(|format| format.meaning == meaning).map(|format| format.number);
    let most_frames = match codec {
        Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::L16(SampleRate::Hz8000) => 3,
        // A packet of 60 ms would not fit into an Ethernet frame.
        Codec::L16(SampleRate::Hz16000) => 2,
        Codec::Opus | Codec::L16(SampleRate::Hz48000) => 1,
    };
    MediaPlan {
        remote: audio.remote,
        remote_rtcp: audio.remote_rtcp,
        codec,
        payload_type: number(Meaning::Audio(codec)).unwrap_or_default(),
        receive_codecs: [None; MAX_RECEIVE_CODECS],
        events: events_for(codec, &audio.formats),
        receive_events: [None; MAX_RECEIVE_EVENTS],
        comfort_noise: number(Meaning::Noise),
        opus_fec: audio.opus_fec,
        frames: audio.frames.min(most_frames),
        max_packet_ms: audio.max_packet_ms.map(|longest| longest.max(if codec == Codec::Opus { 20 } else { 5 })),
        sends: audio.remote.is_some() && matches!(audio.direction, Direction::SendRecv | Direction::RecvOnly),
        receives: matches!(audio.direction, Direction::SendRecv | Direction::SendOnly),
        protection: Protection::Plain,
        source: MediaSource::Any,
        waits: false,
    }
}

/// Returns the telephone-events for a codec. If the far end has telephone-events with the codec's clock rate, returns
/// this format. Otherwise returns the format with 8,000 Hz. Many devices offer only 8,000 Hz with Opus. This violates
/// RFC 4733 §2.1, but is better than no telephone-events.
fn events_for(codec: Codec, formats: &[Format]) -> Option<Events> {
    let at = |rate| formats.iter().filter_map(events).find(|one| one.clock_rate == rate);
    at(codec.clock_rate()).or_else(|| at(8_000))
}

fn events(format: &Format) -> Option<Events> {
    match format.meaning {
        Meaning::Events(clock_rate) => Some(Events { payload_type: format.number, clock_rate }),
        Meaning::Audio(_) | Meaning::Noise => None,
    }
}

fn codecs(audio: &Audio) -> impl Iterator<Item = Codec> {
    audio.formats.iter().filter_map(|format| format.meaning.codec())
}

/// Returns the first `N` items.
fn gather<T: Copy, const N: usize>(found: impl Iterator<Item = T>) -> [Option<T>; N] {
    let mut all = [None; N];
    for (place, one) in all.iter_mut().zip(found) {
        *place = Some(one);
    }
    all
}

/// Appends the codecs of `more` that `codecs` does not contain.
fn add(codecs: &mut Vec<Codec>, more: &[Codec]) {
    for codec in more {
        if !codecs.contains(codec) {
            codecs.push(*codec);
        }
    }
}

/// A usable m-line. The parts are the index of the m-line, the m-line, its audio, and the chosen key line. The key line
/// is set only if SRTP will be used.
type Usable<'a> = (usize, &'a Line<'a>, &'a Audio, Option<&'a crypto::Line>);

/// Returns the first m-line that we can use. Lines with a usable key have priority.
fn usable<'a>(
    description: &'a Description<'a>,
    local: IpAddr,
    wanted: &[Codec],
    crypto: &Crypto,
) -> Result<Usable<'a>, SdpError> {
    let speakable = || {
        description.lines.iter().enumerate().filter_map(|(index, line)| {
            let audio = line.audio.as_ref()?;
            codecs(audio).any(|codec| wanted.contains(&codec)).then_some((index, line, audio))
        })
    };
    let reachable = || speakable().filter(|(.., audio)| reachable(audio, local));
    reachable()
        .filter_map(|(index, line, audio)| Some((index, line, audio, crypto.choose(&audio.keys)?)))
        .min_by_key(|(.., key)| key.is_none())
        .ok_or_else(|| match reachable().next().or(speakable().next()) {
            Some((.., audio)) if !self::reachable(audio, local) => SdpError::other_family(local),
            _ => crypto.refusal(&mut reachable().map(|(.., audio)| &audio.keys)),
        })
}

/// Returns the refusal if the offer has an audio line with codecs, but no codec that we use. The refusal names the codecs
/// of both sides.
fn no_common_codec(description: &Description<'_>, ours: &[Codec]) -> Option<SdpError> {
    let offered = description.encodings();
    let is_ours = |name: &String| ours.iter().any(|codec| codec.name().eq_ignore_ascii_case(name));
    let mut audio = description.lines.iter().filter_map(|line| line.audio.as_ref());
    let common = offered.iter().any(is_ours) || audio.any(|audio| codecs(audio).any(|codec| ours.contains(&codec)));
    if offered.is_empty() || common {
        return None;
    }
    let mut names: Vec<&str> = ours.iter().map(|codec| codec.name()).collect();
    names.dedup();
    let (offered, ours) = (offered.join(", "), names.join(", "));
    let why = format!("no common codec: the offer has {offered}, and this side allows {ours}");
    Some(SdpError::Incompatible(why.into()))
}

/// Returns the index of the first audio line, if all audio lines are disabled.
fn only_disabled(description: &Description<'_>) -> Option<usize> {
    let is_audio = |line: &&Line<'_>| line.media.eq_ignore_ascii_case("audio");
    let all = description.lines.iter().filter(is_audio).all(|line| line.is_disabled);
    description.lines.iter().position(|line| is_audio(&line)).filter(|_| all)
}

/// Whether the address of the stream has the same address family as our socket.
fn reachable(audio: &Audio, local: IpAddr) -> bool {
    audio.remote.is_none_or(|remote: SocketAddr| remote.is_ipv4() == local.is_ipv4())
}

/// Returns the m-line with port 0, which refuses the stream.
fn refused(line: &Line<'_>) -> String {
    ["m=", line.media, " 0 ", line.proto, " ", line.formats, "\r\n"].concat()
}

/// An address in the form `IN IP4 192.0.2.1`.
fn connection(address: IpAddr) -> String {
    format!("IN {} {address}", if address.is_ipv4() { "IP4" } else { "IP6" })
}
