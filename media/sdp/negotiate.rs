//! Offers we make, answers we give, answers we take (RFC 3264).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::parse::{Audio, Description, Direction, Line};
use super::{MediaPlan, SdpError};
use crate::codec::Codec;

/// Our payload type for telephone-events when we offer first.
const EVENTS: u8 = 101;

/// Our own end of the stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    /// What `c=` and `o=` say.
    pub(crate) address: IpAddr,
    /// The RTP port; RTCP is on the next.
    pub(crate) port: u16,
    /// `o=`'s session id.
    pub(crate) id: u64,
}

/// One leg's offer/answer state.
#[derive(Debug)]
pub(crate) struct Negotiation {
    local: Local,
    version: u64,
    /// What we said last, less its `o=`; a new version only when it changes (RFC 3264 §8).
    said: String,
    /// The m-lines of the session, once known; later descriptions keep their number and order (RFC 3264 §8).
    lines: Vec<RefusedLine>,
    ours: usize,
    codecs: Vec<(Codec, u8)>,
    events: Option<u8>,
    plan: Option<MediaPlan>,
    agreed: bool,
}

/// `m=` of a line without its port, to refuse it with port 0.
#[derive(Debug, Clone)]
struct RefusedLine {
    media: String,
    proto: String,
    formats: String,
}

impl Negotiation {
    pub(crate) fn new(local: Local) -> Negotiation {
        Negotiation {
            local,
            version: 1,
            said: String::new(),
            lines: Vec::new(),
            ours: 0,
            codecs: vec![(Codec::Pcmu, 0), (Codec::Pcma, 8)],
            events: Some(EVENTS),
            plan: None,
            agreed: false,
        }
    }

    /// Whether the peer has spoken.
    pub(crate) fn is_agreed(&self) -> bool {
        self.agreed
    }

    /// What is agreed; for an offer not yet answered, what may already arrive (early media).
    pub(crate) fn plan(&self) -> Option<&MediaPlan> {
        self.plan.as_ref()
    }

    /// Our offer, also for a re-offer: what is agreed comes first.
    pub(crate) fn offer(&mut self) -> Bytes {
        if self.events.is_none() {
            let taken = |number| self.codecs.iter().any(|(_, payload_type)| *payload_type == number);
            self.events = (EVENTS..=127).chain(96..EVENTS).find(|number| !taken(*number));
        }
        for (codec, number) in [(Codec::Pcmu, 0), (Codec::Pcma, 8)] {
            if !self.codecs.iter().any(|(known, _)| *known == codec) {
                self.codecs.push((codec, number));
            }
        }
        let body = self.describe(&self.codecs, self.events, "sendrecv", "RTP/AVP");
        if self.plan.is_none() {
            self.plan = Some(MediaPlan {
                remote: None,
                remote_rtcp: None,
                codec: Codec::Pcmu,
                payload_type: 0,
                pcmu: Some(0),
                pcma: Some(8),
                events: self.events,
                frames: 1,
                sends: true,
                receives: true,
            });
        }
        self.say(body)
    }

    /// Our answer to the peer's offer (RFC 3264 §6). What we had agreed before stands when this fails.
    pub(crate) fn answer(&mut self, offer: &[u8]) -> Result<Bytes, SdpError> {
        let description = Description::parse(offer)?;
        let (ours, line, audio) = usable(&description, self.local.address)
            .ok_or(SdpError::Incompatible("no audio stream of PCMU or PCMA over plain RTP that we can reach"))?;
        let proto = line.proto.clone();
        self.lines = description.lines.iter().map(refused).collect();
        self.ours = ours;
        let direction = match (audio.remote.is_some(), audio.direction) {
            (true, Direction::SendRecv) => "sendrecv",
            (true, Direction::RecvOnly) => "sendonly",
            (_, Direction::SendOnly) | (false, Direction::SendRecv) => "recvonly",
            (_, Direction::Inactive) | (false, Direction::RecvOnly) => "inactive",
        };
        self.agree(audio);
        // One codec in the answer: a peer that may switch within a call is a surprise nobody needs.
        let chosen = self.codecs.first().copied().map_or_else(Vec::new, |codec| vec![codec]);
        let body = self.describe(&chosen, self.events, direction, &proto);
        Ok(self.say(body))
    }

    /// Takes the peer's answer to our offer. The same answer again (183, then 200) changes nothing.
    pub(crate) fn accept(&mut self, answer: &[u8]) -> Result<(), SdpError> {
        let description = Description::parse(answer)?;
        let local = self.local.address;
        // Answerers keep our line's place; a few send only the audio line.
        let line = description.lines.get(self.ours).or_else(|| description.lines.first());
        let audio = line
            .and_then(|line| line.audio.as_ref())
            .filter(|audio| reachable(audio, local))
            .ok_or(SdpError::Incompatible("the answer refuses audio, or has no codec of our offer"))?;
        self.agree(audio);
        Ok(())
    }

    fn agree(&mut self, audio: &Audio) {
        let Some((codec, payload_type)) = audio.codecs.first().copied() else { return };
        let number_of = |wanted| audio.codecs.iter().find(|(codec, _)| *codec == wanted).map(|(_, number)| *number);
        self.codecs.clone_from(&audio.codecs);
        self.events = audio.events;
        self.agreed = true;
        self.plan = Some(MediaPlan {
            remote: audio.remote,
            remote_rtcp: audio.remote_rtcp,
            codec,
            payload_type,
            pcmu: number_of(Codec::Pcmu),
            pcma: number_of(Codec::Pcma),
            events: audio.events,
            frames: audio.frames,
            sends: audio.remote.is_some() && matches!(audio.direction, Direction::SendRecv | Direction::RecvOnly),
            receives: matches!(audio.direction, Direction::SendRecv | Direction::SendOnly),
        });
    }

    /// The session's lines after `o=`.
    fn describe(&self, codecs: &[(Codec, u8)], events: Option<u8>, direction: &str, proto: &str) -> String {
        let mut body = String::with_capacity(400);
        let family = family(self.local.address);
        // Writing to a String cannot fail.
        let _ = write!(body, "s=-\r\nc=IN {family} {}\r\nt=0 0\r\n", self.local.address);
        let count = self.lines.len().max(1);
        for index in 0..count {
            if index != self.ours {
                if let Some(line) = self.lines.get(index) {
                    let _ = write!(body, "m={} 0 {} {}\r\n", line.media, line.proto, line.formats);
                }
                continue;
            }
            let _ = write!(body, "m=audio {} {proto}", self.local.port);
            for (_, number) in codecs {
                let _ = write!(body, " {number}");
            }
            if let Some(number) = events {
                let _ = write!(body, " {number}");
            }
            body.push_str("\r\n");
            for (codec, number) in codecs {
                let _ = write!(body, "a=rtpmap:{number} {}/8000\r\n", codec.name());
            }
            if let Some(number) = events {
                let _ = write!(body, "a=rtpmap:{number} telephone-event/8000\r\na=fmtp:{number} 0-16\r\n");
            }
            let _ = write!(body, "a=ptime:20\r\na={direction}\r\n");
        }
        body
    }

    fn say(&mut self, body: String) -> Bytes {
        if !self.said.is_empty() && self.said != body {
            self.version += 1;
        }
        let family = family(self.local.address);
        let Local { id, address, .. } = self.local;
        let whole = format!("v=0\r\no=- {id} {} IN {family} {address}\r\n{body}", self.version);
        self.said = body;
        Bytes::from(whole)
    }
}

fn usable(description: &Description, local: IpAddr) -> Option<(usize, &Line, &Audio)> {
    description.lines.iter().enumerate().find_map(|(index, line)| {
        let audio = line.audio.as_ref()?;
        reachable(audio, local).then_some((index, line, audio))
    })
}

/// Our socket speaks one address family.
fn reachable(audio: &Audio, local: IpAddr) -> bool {
    audio.remote.is_none_or(|remote: SocketAddr| remote.is_ipv4() == local.is_ipv4())
}

fn refused(line: &Line) -> RefusedLine {
    RefusedLine { media: line.media.clone(), proto: line.proto.clone(), formats: line.formats.clone() }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IP4" } else { "IP6" }
}
