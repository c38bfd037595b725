//! Our offers, our answers, and the answers that we receive (RFC 3264).

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use serde::{Deserialize, Serialize};

use super::audio::{AudioNegotiation, Format};
use super::crypto::{RANDOM, Srtp};
use super::ice::IceSetup;
use super::parse::{Description, Line, Stream};
use super::section;
use super::transport::{Choice, Local, OwnKeys, TransportNegotiation, connection};
use super::{AudioPlan, MediaPlan, MediaSource, Preference, SdpError};
use crate::codec::Codec;

/// The offer/answer state of one leg.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Negotiation {
    audio: AudioNegotiation,
    transport: TransportNegotiation,
    version: u64,
    /// Our last description without the `o=` line. The version in the `o=` line changes only if the description changes
    /// (RFC 3264 §8).
    last_description: String,
    /// The session's m-lines, each in the form that refuses the stream (port 0). The list is empty until the m-lines
    /// are known. Later descriptions have the same number and order of m-lines (RFC 3264 §8).
    lines: Vec<String>,
    ours: usize,
    /// The codec names of the far end's last offer, including codecs that we do not support.
    offered_names: Vec<String>,
    plan: Option<MediaPlan>,
    agreed: bool,
}

impl Negotiation {
    /// Creates a negotiation for G.711. [`Negotiation::set_codecs`] can change the codecs.
    pub(crate) fn new(local: Local) -> Negotiation {
        Negotiation {
            audio: AudioNegotiation::new(),
            transport: TransportNegotiation::new(local),
            version: 1,
            last_description: String::new(),
            lines: Vec::new(),
            ours: 0,
            offered_names: Vec::new(),
            plan: None,
            agreed: false,
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
        self.transport.set_srtp(srtp, random);
    }

    /// Lets the session use ICE and DTLS. Call this before the first offer or answer.
    pub(crate) fn set_ice(&mut self, setup: Arc<IceSetup>, id: u128) {
        self.transport.set_ice(setup, id);
    }

    /// Makes our first offer an offer with ICE and DTLS. Without this, only answers to such offers have ICE.
    pub(crate) fn offer_ice(&mut self) {
        self.transport.offer_ice();
    }

    /// Adds a candidate of the far end that came after its description (RFC 8838): the text after `a=`. Returns whether
    /// the plan has changed.
    pub(crate) fn add_candidate(&mut self, candidate: &str) -> bool {
        let Some(transport) = self.transport.add_candidate(candidate) else { return false };
        self.plan.as_mut().map(|plan| plan.transport = transport).is_some()
    }

    /// Sets the hosts from which media is accepted. Call this before the first offer or answer.
    pub(crate) fn set_source(&mut self, source: MediaSource) {
        self.transport.set_source(source);
    }

    /// Sets the address with which we exchange SIP; `None` if it is not known. From now on the far end's SDP cannot make
    /// us send to the loopback, link-local, multicast or broadcast addresses of our own network, unless the far end
    /// itself is there.
    pub(crate) fn set_sip_source(&mut self, address: Option<IpAddr>) {
        self.transport.set_sip_source(address);
    }

    /// Sets whether telephone-events are offered and accepted from now on.
    pub(crate) fn set_events(&mut self, events: bool) {
        self.audio.set_events(events);
    }

    /// Sets the label of a session that sends a copy of another stream (RFC 7866 §7.1.1). Such a session only sends,
    /// and has no telephone-events. Call this before the first offer.
    pub(crate) fn set_label(&mut self, label: u16) {
        self.audio.set_label(label);
    }

    /// Sets the codecs that we use from now on, best first. An empty slice changes nothing.
    pub(crate) fn set_codecs(&mut self, codecs: &[Codec]) {
        self.audio.set_codecs(codecs);
    }

    /// Our end of the stream.
    pub(crate) fn local(&self) -> Local {
        self.transport.local
    }

    /// Whether an offer or answer of the far end was accepted.
    pub(crate) fn is_agreed(&self) -> bool {
        self.agreed
    }

    /// Whether the far end must get another offer now, because its media has moved in its answer and our key is an old
    /// one. The next offer has new keys, so this is never true twice in a row.
    pub(crate) fn owes_new_keys(&self) -> bool {
        self.transport.owes_new_keys()
    }

    /// The agreed plan. If our offer has no answer yet, this is the plan for early media.
    pub(crate) fn plan(&self) -> Option<&MediaPlan> {
        self.plan.as_ref()
    }

    /// The codecs with which the engine can relay between this leg and another leg. The agreed codec comes first, then
    /// the other codecs that both ends support.
    pub(crate) fn preference(&self) -> Preference {
        self.audio.preference(self.plan.as_ref().filter(|_| self.agreed).map(|plan| &plan.audio))
    }

    /// Returns our offer. It does not depend on the codecs that another leg prefers.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn offer(&mut self) -> Bytes {
        self.offer_preferring(&Preference::default())
    }

    /// Returns our offer or re-offer. The agreed codec comes first, then the codecs that another leg prefers.
    pub(crate) fn offer_preferring(&mut self, preferred: &Preference) -> Bytes {
        self.audio.set_browser(self.transport.offers_ice());
        self.audio.begin_offer(self.plan.as_ref().filter(|_| self.agreed).map(|plan| &plan.audio), preferred);
        self.transport.begin_offer(self.agreed);
        let body = self.describe_offer(self.transport.offer());
        if !self.agreed {
            self.plan = self.audio.early().map(|audio| MediaPlan { audio, transport: self.transport.early() });
        }
        self.finish_description(body)
    }

    /// Returns the last offer again, but with the profile RTP/SAVP. This offer is for a far end that refuses keys in
    /// the plain profile. The far end may answer either offer. Returns `None` if SRTP is not optional, or if a profile
    /// is already agreed.
    pub(crate) fn offer_secured(&mut self) -> Option<Bytes> {
        let secured = self.transport.offer_secured().filter(|_| self.audio.has_offered())?;
        let body = self.describe_offer(secured);
        Some(self.finish_description(body))
    }

    fn describe_offer(&self, (proto, keys): (&str, OwnKeys<'_>)) -> String {
        let (formats, direction) = self.audio.offer();
        self.describe(formats, direction, proto, keys)
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
        let text = section::text(offer)?;
        let description = Description::parse(&text)?;
        self.offered_names = description.encodings();
        if let Some(ours) = only_disabled(&description) {
            return self.answer_disabled(&description, ours);
        }
        if let Some(refusal) = no_common_codec(&description, self.audio.codecs_in_use()) {
            return Err(refusal);
        }
        let Usable { index, line, stream, choice } = usable(&description, self.audio.codecs_in_use(), &self.transport)?;
        self.transport.begin_answer(&stream.transport, choice);
        self.audio.set_browser(matches!(choice, Choice::Dtls(_)));
        let answer = self.audio.answer(&stream.audio, preferred, stream.transport.has_address())?;
        let transport = self.transport.answer(&stream.transport, choice);
        self.lines = description.lines.iter().map(refused).collect();
        self.ours = index;
        self.plan = Some(MediaPlan { audio: answer.plan, transport });
        self.agreed = true;
        let body = self.describe(&answer.formats, answer.direction, line.proto, choice.own_keys());
        Ok(self.finish_description(body))
    }

    /// Returns our answer to an offer that disables its audio. All streams stay disabled, and neither side sends. A later
    /// offer can enable the audio again (RFC 3264 §8.2).
    fn answer_disabled(&mut self, description: &Description<'_>, ours: usize) -> Result<Bytes, SdpError> {
        let never_enabled = self.audio.disabled();
        let (audio, transport) = self.plan.take().map(|plan| (plan.audio, plan.transport)).unzip();
        let audio = audio.or(never_enabled).map(|audio| AudioPlan { sends: false, receives: false, ..audio });
        self.plan = audio.map(|audio| MediaPlan { audio, transport: self.transport.disabled(transport) });
        self.lines = description.lines.iter().map(refused).collect();
        self.ours = ours;
        self.agreed = true;
        let body = self.lines.iter().fold(self.begin(), |body, line| body + line);
        Ok(self.finish_description(body))
    }

    /// Returns an answer that refuses each stream of the offer. The earlier agreement remains in effect. Returns `None`
    /// if the offer is not valid SDP.
    pub(crate) fn decline(&mut self, offer: &[u8]) -> Option<Bytes> {
        let text = section::text(offer).ok()?;
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
        let text = section::text(answer)?;
        let description = Description::parse(&text)?;
        let local = self.transport.local.address;
        // In an answer our m-line has its old position. But a few devices send only the audio line.
        let line = description.lines.get(self.ours).or_else(|| description.lines.first());
        let Some(stream) = line.and_then(|line| line.stream.as_ref()) else { return Err(refused) };
        if !stream.transport.is_reachable(local) {
            return Err(SdpError::other_family(local));
        }
        let accepted = self.audio.accept(&stream.audio, stream.transport.has_address());
        let Some((audio, common)) = accepted else { return Err(refused) };
        let transport = self.transport.accept(&stream.transport)?;
        self.audio.set_common(common);
        self.plan = Some(MediaPlan { audio, transport });
        self.agreed = true;
        Ok(())
    }

    /// Returns the lines of a description after `o=`.
    fn describe(&self, formats: &[Format], direction: &str, proto: &str, keys: OwnKeys<'_>) -> String {
        let mut body = self.begin();
        self.transport.write_head(keys, &mut body);
        let count = self.lines.len().max(1);
        for index in 0..count {
            if index != self.ours {
                if let Some(line) = self.lines.get(index) {
                    body.push_str(line);
                }
                continue;
            }
            body.push_str(&format!("m=audio {} {proto}", self.transport.local.port));
            AudioNegotiation::write_formats(formats, &mut body);
            self.transport.write_keys(keys, &mut body);
            self.audio.write_direction(direction, &mut body);
        }
        // The text is stored for the whole call, so it should not use more memory than necessary.
        body.shrink_to_fit();
        body
    }

    /// Returns the lines after `o=` that are the same in all our descriptions.
    fn begin(&self) -> String {
        format!("s=-\r\nc={}\r\nt=0 0\r\n", connection(self.transport.local.address))
    }

    fn finish_description(&mut self, body: String) -> Bytes {
        if !self.last_description.is_empty() && self.last_description != body {
            self.version += 1;
        }
        let Local { address, id, .. } = self.transport.local;
        let whole = format!("v=0\r\no=- {id} {} {}\r\n{body}", self.version, connection(address));
        self.last_description = body;
        Bytes::from(whole)
    }
}

/// A usable m-line of an offer.
struct Usable<'a> {
    index: usize,
    line: &'a Line<'a>,
    stream: &'a Stream,
    choice: Choice<'a>,
}

/// Returns the first m-line that we can use. Lines with encryption have priority.
fn usable<'a>(
    description: &'a Description<'a>,
    wanted: &[Codec],
    transport: &TransportNegotiation,
) -> Result<Usable<'a>, SdpError> {
    let local = transport.local.address;
    let speakable = || {
        description.lines.iter().enumerate().filter_map(|(index, line)| {
            let stream = line.stream.as_ref()?;
            stream.audio.codecs().any(|codec| wanted.contains(&codec)).then_some((index, line, stream))
        })
    };
    let reachable = || speakable().filter(|(.., stream)| stream.transport.is_reachable(local));
    reachable()
        .filter_map(|(index, line, stream)| {
            Some(Usable { index, line, stream, choice: transport.choose(&stream.transport)? })
        })
        .min_by_key(|usable| usable.choice.is_plain())
        .ok_or_else(|| match reachable().next().or(speakable().next()) {
            Some((.., stream)) if !stream.transport.is_reachable(local) => SdpError::other_family(local),
            _ => transport.refusal(&mut reachable().map(|(.., stream)| &stream.transport)),
        })
}

/// Returns the refusal if the offer has an audio line with codecs, but no codec that we use. The refusal names the codecs
/// of both sides.
fn no_common_codec(description: &Description<'_>, ours: &[Codec]) -> Option<SdpError> {
    let offered = description.encodings();
    let is_ours = |name: &String| ours.iter().any(|codec| codec.name().eq_ignore_ascii_case(name));
    let mut streams = description.lines.iter().filter_map(|line| line.stream.as_ref());
    let common =
        offered.iter().any(is_ours) || streams.any(|stream| stream.audio.codecs().any(|codec| ours.contains(&codec)));
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

/// Returns the m-line with port 0, which refuses the stream.
fn refused(line: &Line<'_>) -> String {
    let mid = line.mid.map_or_else(String::new, |mid| format!("a=mid:{mid}\r\n"));
    ["m=", line.media, " 0 ", line.proto, " ", line.formats, "\r\n", &mid].concat()
}
