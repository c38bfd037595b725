//! The handle of one leg's media: its negotiation and the connection to its worker.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::codec::Codec;
use crate::command::{Command, LegId};
use crate::sdp::{MediaSource, Negotiation, Preference, RANDOM, SdpError, Srtp};
use crate::snapshot::SessionSnapshot;
use crate::worker::{Message, Shared};

/// The worker's queue is full: thousands of messages wait. The command was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the media worker is busy")]
pub struct Busy;

/// One leg: the offer/answer state of the leg and the connection to the leg's worker. If the session is dropped, the
/// leg is closed. The leg's sink then receives the events of finished recordings. The last event is
/// [`crate::Event::Closed`].
#[derive(Debug)]
pub struct Session {
    pub(super) key: LegId,
    pub(super) port: u16,
    pub(super) home: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) negotiation: Negotiation,
}

impl Session {
    /// The key that was passed to [`Engine::open`](crate::Engine::open).
    pub fn key(&self) -> LegId {
        self.key
    }

    /// Gives the session another key. Returns `false`, and changes nothing, if an open session has this key. Call this
    /// function before the session's first command: what runs in the session reports to the old key.
    pub fn rename(&mut self, to: LegId) -> bool {
        let mut homes = self.shared.homes.lock().unwrap_or_else(PoisonError::into_inner);
        if homes.contains_key(&to) {
            return false;
        }
        if let Some(home) = homes.remove(&self.key) {
            homes.insert(to, home);
        }
        // A message to the new key is posted after this message, because the lock is held.
        if let Some(inbox) = self.shared.inboxes.get(self.home) {
            inbox.post(Message::Rename { key: self.key, to });
        }
        drop(homes);
        self.shared.ice_port.iter().for_each(|port| port.rename(self.key, to));
        self.key = to;
        true
    }

    /// The RTP port. The RTCP port is the next port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the session's codecs, best first. These codecs replace the configured codecs. Call this function before the
    /// first offer or answer. An empty slice changes nothing.
    pub fn set_codecs(&mut self, codecs: &[Codec]) {
        self.negotiation.set_codecs(codecs);
    }

    /// Sets whether the media is encrypted. Call this function before the first offer or answer. The function generates
    /// the SRTP keys. The keys never appear in logs.
    pub fn set_srtp(&mut self, srtp: Srtp) {
        if srtp == Srtp::Off {
            return self.negotiation.set_srtp(srtp, None);
        }
        let mut random = [0; RANDOM];
        let filled = aws_lc_rs::rand::fill(&mut random);
        if filled.is_err() {
            tracing::error!("cannot get random numbers for SRTP keys");
        }
        self.negotiation.set_srtp(srtp, filled.is_ok().then_some(&random));
    }

    /// Makes the first offer an offer with ICE and DTLS-SRTP (RFC 8839, RFC 5763), for a browser. Call this function before
    /// the first offer. Offers of a far end with ICE and DTLS-SRTP are answered in any case.
    pub fn offer_ice(&mut self) {
        self.negotiation.offer_ice();
    }

    /// Adds a candidate of the far end that came after its description (RFC 8838). `candidate` is the text after `a=`. At
    /// most 32 candidates are accepted.
    pub fn add_candidate(&mut self, candidate: &str) {
        if self.negotiation.add_candidate(candidate) {
            self.send_plan();
        }
    }

    /// Sets the hosts from which packets are accepted. Call this function before the first offer or answer.
    pub fn set_source(&mut self, source: MediaSource) {
        self.negotiation.set_source(source);
    }

    /// Sets the address with which this server exchanges SIP with the far end; `None` if it is not known. The far end's
    /// SDP then cannot make the engine send to a loopback, link-local, multicast or broadcast address, unless the far end
    /// is itself at such an address, or the session's own SDP names a loopback address. Call this function before the
    /// first offer or answer. Without it, the SDP may name any address.
    pub fn set_sip_source(&mut self, address: Option<IpAddr>) {
        self.negotiation.set_sip_source(address);
    }

    /// Sets whether telephone-events are offered and accepted. The default is true. Call this function before the first
    /// offer or answer. Without telephone-events, digits are sent as tones.
    pub fn set_events(&mut self, events: bool) {
        self.negotiation.set_events(events);
    }

    /// Makes the session a copy of another stream. Such a session only sends, and its SDP has this label (RFC 4574). A
    /// SIPREC recording server requires such a session. Call this function before the first offer. For some time, the
    /// far end may not want media ([`Session::sends`]).
    pub fn set_label(&mut self, label: u16) {
        self.negotiation.set_label(label);
    }

    /// Whether the far end's SDP currently lets us send media.
    pub fn sends(&self) -> bool {
        self.negotiation.is_agreed() && self.negotiation.plan().is_some_and(|plan| plan.audio.sends)
    }

    /// Whether digits are sent to the far end as telephone-events.
    pub fn has_events(&self) -> bool {
        self.negotiation.plan().is_some_and(|plan| plan.audio.events.is_some())
    }

    /// Returns an SDP offer. The offer contains the session's codecs, telephone-events at the clock rates of these
    /// codecs, 20 ms packets and `sendrecv`. In a re-offer the agreed codec comes first. The version in `o=` rises only
    /// if the description changes.
    pub fn offer(&mut self) -> Bytes {
        self.offer_preferring(&Preference::default())
    }

    /// Returns an offer like [`Session::offer`]. The codecs that another leg prefers come first. Codecs that this
    /// session does not support are omitted.
    pub fn offer_preferring(&mut self, preferred: &Preference) -> Bytes {
        let offer = self.negotiation.offer_preferring(preferred);
        self.send_plan();
        offer
    }

    /// Returns the first offer again, but with the RTP/SAVP profile. An offer of optional SRTP has keys in the RTP/AVP
    /// profile, and some far ends refuse such an offer. This offer is for these far ends. The far end may answer either
    /// offer. Returns `None` if SRTP is not optional for this session.
    pub fn offer_secured(&mut self) -> Option<Bytes> {
        self.negotiation.offer_secured()
    }

    /// Returns our answer to the far end's offer (RFC 3264). The answer selects the first codec in the offer that the
    /// session supports. An offer can also put us on hold. If there is an error, the earlier agreement remains in
    /// effect.
    pub fn answer(&mut self, offer: &[u8]) -> Result<Bytes, SdpError> {
        self.answer_preferring(offer, &Preference::default())
    }

    /// Answers like [`Session::answer`], but first tries the codecs that another leg prefers. Such a codec is selected
    /// if the offer contains it and this session supports it.
    pub fn answer_preferring(&mut self, offer: &[u8], preferred: &Preference) -> Result<Bytes, SdpError> {
        let answer = self.prepare_answer(offer, preferred)?;
        self.send_plan();
        Ok(answer)
    }

    /// Returns an answer that refuses every stream of an offer (RFC 3264 §6). Use this answer if the signalling cannot
    /// refuse the offer. Returns `None` if the text is not valid SDP.
    pub fn decline(&mut self, offer: &[u8]) -> Option<Bytes> {
        self.negotiation.decline(offer)
    }

    /// Prepares an answer like [`Session::answer_preferring`], but does not apply the answer yet. Until
    /// [`Session::settle`] is called, the same offer may be answered again. Until then the session sends no media, so
    /// that the far end does not receive two codecs one after the other.
    pub fn prepare_answer(&mut self, offer: &[u8], preferred: &Preference) -> Result<Bytes, SdpError> {
        self.negotiation.answer_preferring(offer, preferred).inspect_err(|_| self.shared.note_refused_sdp())
    }

    /// The address and port of our RTP, as in our SDP.
    pub fn local_address(&self) -> SocketAddr {
        let local = self.negotiation.local();
        SocketAddr::new(local.address, local.port)
    }

    /// The codec names of the last offer that was answered, in the order of the offer. The names include codecs that we
    /// do not support.
    pub fn offered_codecs(&self) -> &[String] {
        self.negotiation.named()
    }

    /// Applies the prepared answer. Call this function when the answer is sent.
    pub fn settle(&mut self) {
        self.send_plan();
    }

    /// Applies the far end's answer to our offer. Call this function for the answer of early media (183) and for the
    /// final answer.
    pub fn accept(&mut self, answer: &[u8]) -> Result<(), SdpError> {
        self.negotiation.accept(answer).inspect_err(|_| self.shared.note_refused_sdp())?;
        self.send_plan();
        Ok(())
    }

    /// Whether the far end must get another offer now. Its encrypted media has moved in its answer to our offer, so it
    /// cannot know how many packets we have sent with our key. The next offer has a new key (RFC 4568 §7.1.4).
    pub fn owes_new_keys(&self) -> bool {
        self.negotiation.owes_new_keys()
    }

    /// The codecs in which another leg can be relayed to this leg. The agreed codec comes first. After it come the
    /// codecs that the far end named and this session supports. The list is empty before the far end's first SDP.
    pub fn preference(&self) -> Preference {
        self.negotiation.preference()
    }

    /// The codec that we send, or `None` before the far end's first SDP.
    pub fn codec(&self) -> Option<Codec> {
        self.negotiation.is_agreed().then(|| self.negotiation.plan().map(|plan| plan.audio.codec))?
    }

    /// Sends a command to the worker. Commands of one session take effect in order.
    pub fn command(&self, command: Command) -> Result<(), Busy> {
        self.try_post(Message::Command { key: self.key, command, of: None })
    }

    /// Asks the worker for the session as data. The worker calls `done`, and then continues as before. If the session is
    /// closing, `done` is dropped without a call. `done` must not block.
    pub fn snapshot(&self, done: impl FnOnce(SessionSnapshot) + Send + 'static) -> Result<(), Busy> {
        let negotiation = self.negotiation.clone();
        let done = Box::new(move |session| done(SessionSnapshot { session, negotiation }));
        self.try_post(Message::Snapshot { key: self.key, done })
    }

    fn try_post(&self, message: Message) -> Result<(), Busy> {
        let inbox = self.shared.inboxes.get(self.home);
        if inbox.is_some_and(|inbox| inbox.try_post(message)) { Ok(()) } else { Err(Busy) }
    }

    fn send_plan(&self) {
        self.announce();
        if let (Some(plan), Some(inbox)) = (self.negotiation.plan(), self.shared.inboxes.get(self.home)) {
            inbox.post(Message::Plan { key: self.key, plan: plan.clone() });
        }
    }
}

impl Session {
    /// Makes the session known to the shared ports, if its plan has ICE.
    pub(super) fn announce(&self) {
        let plan = self.negotiation.plan().and_then(|plan| plan.transport.ice.as_ref());
        let (Some(plan), Some(port)) = (plan, &self.shared.ice_port) else { return };
        // With the lock, a session that ends now is forgotten after this line.
        let homes = self.shared.homes.lock().unwrap_or_else(PoisonError::into_inner);
        if homes.contains_key(&self.key) {
            port.announce(self.key, &plan.credentials.ufrag);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(inbox) = self.shared.inboxes.get(self.home) {
            inbox.post(Message::Close { key: self.key });
        }
    }
}
