//! A session with a recording server (SIPREC, RFC 7866): a call of ours to it, and a media session for each direction of the
//! recorded leg, which sends what a tap of that leg reads. What the leg's call decides is in `tandem_call::siprec`; the call's
//! task holds this and feeds it what SIP says (`call_task/siprec.rs`).

mod connector;
mod metadata;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::id::{LegId, OpId, SiprecId};
use tandem_call::leg::{Direction, LegInfo};
use tandem_call::siprec::{SiprecFailure, SiprecFault, SiprecSpec, SiprecStatus};
use tandem_media as media;
use tandem_sip as sip;

pub use connector::{Connectors, SiprecConfig};
use metadata::{Metadata, Participant, Stream};

/// What waits between a leg and the session that copies it, one track: the latter reads each frame 20 ms later.
const FRAMES: usize = 50;

/// A session under way, from its call's side.
pub struct Session {
    id: SiprecId,
    spec: Box<SiprecSpec>,
    copies: Vec<Copy>,
    sip: Arc<sip::transport::Handle>,
    state: State,
    since: Timestamp,
    /// Since when the leg's far end talks with whom it does.
    joined: Timestamp,
    /// The server wants nothing for now.
    paused: bool,
    /// An offer of ours is out, or something has changed since.
    offering: bool,
    stale: bool,
    /// The server asked for an offer, which waits for the ACK.
    late_offer: bool,
}

/// One direction of the leg.
struct Copy {
    track: media::Track,
    op: OpId,
    session: media::Session,
    taken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Calling,
    Answered,
    Over,
}

/// The recorded leg, and whom its far end talks with.
pub struct Recorded<'a> {
    /// The leg.
    pub leg: &'a LegInfo,
    /// Its id as its application knows it.
    pub call_id: &'a str,
    /// The leg that it is joined to.
    pub peer: Option<&'a LegInfo>,
    /// Stands behind the `@` of those who have no address of their own.
    pub host: &'a str,
}

/// What a SIP event means.
pub enum Told {
    /// Nothing that its call need know.
    Nothing,
    /// The server wants the copies: they are to be attached.
    Answered,
    /// It no longer wants, or wants again.
    Is(SiprecStatus),
    /// It is over, and the dialog too.
    Over(SiprecFailure),
    /// It cannot go on: hang up.
    Unusable(SiprecFailure),
}

/// What a session is made of.
pub struct NewSession<'a> {
    /// The recording server.
    pub connector: &'a SiprecConfig,
    /// Its id.
    pub id: SiprecId,
    /// Its operations on the leg's media: they copy what that says, and what it hears.
    pub ops: (OpId, OpId),
    /// As asked for.
    pub spec: Box<SiprecSpec>,
    /// The way to its dialog.
    pub sip: Arc<sip::transport::Handle>,
    /// What the leg speaks.
    pub preferred: media::Preference,
    /// It begins.
    pub now: Timestamp,
}

impl Session {
    /// Calls the recording server. `open` opens a media session.
    pub fn call(
        new: NewSession<'_>,
        recorded: &Recorded<'_>,
        open: impl Fn() -> Result<media::Session, media::OpenError>,
    ) -> Result<Self, SiprecFailure> {
        let NewSession { connector, id, ops, spec, sip, preferred, now } = new;
        let both = [(media::Track::Inbound, ops.0), (media::Track::Outbound, ops.1)];
        let tracks = crate::leg::tracks(spec.track);
        let copies = both.into_iter().filter(|(track, _)| tracks.has(*track)).map(|(track, op)| {
            let mut session = open().map_err(|error| SiprecFault::Internal.because(error.to_string()))?;
            session.set_codecs(&connector.codecs());
            if connector.srtp != media::Srtp::Off {
                session.set_srtp(connector.srtp);
            }
            session.set_label(label(track));
            Ok(Copy { track, op, session, taken: false })
        });
        let copies = copies.collect::<Result<Vec<_>, SiprecFailure>>()?;
        let mut this = Self {
            id,
            spec,
            copies,
            sip,
            state: State::Calling,
            since: now,
            joined: if recorded.peer.is_some() { now } else { recorded.leg.created_at },
            paused: false,
            offering: false,
            stale: false,
            late_offer: false,
        };
        let offers: Vec<Bytes> = this.copies.iter_mut().map(|copy| copy.session.offer_preferring(&preferred)).collect();
        let secured: Option<Vec<Bytes>> = this.copies.iter_mut().map(|copy| copy.session.offer_secured()).collect();
        let outgoing = sip::Outgoing {
            request_uri: connector.uri.to_string(),
            from_user: connector.from.to_string(),
            credentials: connector.credentials(),
            sdp: media::together(&offers),
            second_offer: secured.map(|offers| media::together(&offers)).unwrap_or_default(),
            recording: Some(this.metadata(recorded)),
            ..sip::Outgoing::default()
        };
        this.send(sip::Command::Invite { leg: this.key(), invite: Box::new(outgoing) });
        Ok(this)
    }

    /// Its id.
    pub fn id(&self) -> SiprecId {
        self.id
    }

    /// The key of its dialog, among those of legs.
    pub fn dialog(&self) -> LegId {
        LegId(self.id.0)
    }

    /// Has the leg copied to the server, as far as that takes it. `wide`: the leg speaks more than telephones do.
    pub fn attach(&self, wide: bool, tap: impl Fn(media::Command) -> bool) {
        for copy in self.copies.iter().filter(|copy| copy.taken) {
            let narrow = copy.session.codec().is_none_or(|codec| codec.law().is_some());
            let codec = if wide && !narrow {
                media::TapCodec::L16Wide(media::ByteOrder::Little)
            } else {
                media::TapCodec::Native
            };
            let (sink, reader) = media::tap(FRAMES, codec);
            let tracks = match copy.track {
                media::Track::Inbound => media::Tracks::Inbound,
                media::Track::Outbound => media::Tracks::Outbound,
            };
            let op = media::OpId(copy.op.0);
            let source = media::StreamSource::copying(reader);
            // An engine that is overwhelmed takes neither, and has said so.
            let _ = tap(media::Command::Tap { op, tracks, sink })
                && copy.session.command(media::Command::Source { op, source }).is_ok();
        }
    }

    /// No longer.
    pub fn detach(&self, untap: impl Fn(media::Command) -> bool) {
        for copy in &self.copies {
            untap(media::Command::Untap { op: media::OpId(copy.op.0) });
        }
    }

    /// CANCEL or BYE. Whether SIP has a last word to say.
    pub fn hangup(&mut self) -> bool {
        if self.state == State::Over {
            return false;
        }
        self.state = State::Over;
        self.send(sip::Command::Hangup { leg: self.key(), status: 480, reason: None, headers: Vec::new() });
        true
    }

    /// The leg has been joined to somebody, or is alone again.
    pub fn rejoined(&mut self, recorded: &Recorded<'_>, now: Timestamp) {
        self.joined = now;
        self.stale = true;
        self.tell(recorded);
    }

    /// What SIP says of its dialog.
    pub fn on_sip(&mut self, event: &sip::Event, recorded: &Recorded<'_>) -> Told {
        match event {
            sip::Event::Answered { sdp, .. } => {
                self.state = State::Answered;
                self.accept(sdp.as_deref().unwrap_or_default());
                if !self.copies.iter().any(|copy| copy.taken) {
                    let why = "the recording server takes none of the audio that it was offered";
                    return Told::Unusable(SiprecFault::NoAudio.because(why));
                }
                self.tell(recorded);
                Told::Answered
            }
            sip::Event::Offered { sdp: Some(offer), .. } => {
                let answers = self.answer(offer);
                match answers {
                    Some(sdp) => self.send(sip::Command::AnswerOffer { leg: self.key(), sdp }),
                    None => {
                        let (reason, headers) = (None, Vec::new());
                        self.send(sip::Command::RejectOffer { leg: self.key(), status: 488, reason, headers });
                    }
                }
                self.changed()
            }
            sip::Event::Offered { sdp: None, .. } => {
                self.late_offer = true;
                let sdp = self.offer();
                self.send(sip::Command::AnswerOffer { leg: self.key(), sdp });
                Told::Nothing
            }
            sip::Event::Acknowledged { sdp: Some(answer), .. } if std::mem::take(&mut self.late_offer) => {
                self.accept(answer);
                self.changed()
            }
            sip::Event::OfferAnswered { sdp, .. } => {
                self.offering = false;
                self.accept(sdp);
                self.tell(recorded);
                self.changed()
            }
            // What it would not hear it may hear with the next change.
            sip::Event::OfferRejected { .. } => {
                self.offering = false;
                Told::Nothing
            }
            sip::Event::RefreshDue { .. } => {
                self.stale = true;
                self.tell(recorded);
                Told::Nothing
            }
            sip::Event::Ended { cause, status, reason, .. } => {
                let answered = self.state == State::Answered;
                self.state = State::Over;
                Told::Over(failure(answered, *cause, *status, reason.as_deref()))
            }
            _ => Told::Nothing,
        }
    }

    /// Whether the server has begun or ceased to want audio.
    fn changed(&mut self) -> Told {
        let paused = !self.copies.iter().any(|copy| copy.session.sends());
        if self.state != State::Answered || std::mem::replace(&mut self.paused, paused) == paused {
            return Told::Nothing;
        }
        Told::Is(if paused { SiprecStatus::Paused } else { SiprecStatus::Resumed })
    }

    /// Whether the server answered that it wants nothing yet.
    pub fn begins_paused(&mut self) -> bool {
        matches!(self.changed(), Told::Is(SiprecStatus::Paused))
    }

    fn accept(&mut self, answer: &[u8]) {
        let answers = media::apart(answer);
        for (copy, answer) in self.copies.iter_mut().zip(&answers) {
            match copy.session.accept(answer) {
                Ok(()) => copy.taken = true,
                Err(error) => tracing::debug!(session = %self.id, %error, "the recording server takes not all"),
            }
        }
    }

    fn answer(&mut self, offer: &[u8]) -> Option<Bytes> {
        let offers = media::apart(offer);
        if offers.len() < self.copies.len() {
            return None;
        }
        let answers = self.copies.iter_mut().zip(&offers);
        let answers = answers.map(|(copy, offer)| {
            let answer = copy.session.answer(offer).ok();
            answer.or_else(|| copy.session.decline(offer))
        });
        Some(media::together(&answers.collect::<Option<Vec<_>>>()?))
    }

    fn offer(&mut self) -> Bytes {
        let offers: Vec<Bytes> = self.copies.iter_mut().map(|copy| copy.session.offer()).collect();
        media::together(&offers)
    }

    /// Sends what is said of the recorded session, if that has changed and nothing else is out.
    fn tell(&mut self, recorded: &Recorded<'_>) {
        if self.state != State::Answered || self.offering || !std::mem::take(&mut self.stale) {
            return;
        }
        self.offering = true;
        let (sdp, metadata) = (self.offer(), self.metadata(recorded));
        self.send(sip::Command::OfferRecording { leg: self.key(), sdp, metadata });
    }

    fn metadata(&self, recorded: &Recorded<'_>) -> Bytes {
        let leg = recorded.leg;
        let (theirs, ours) = ends(leg);
        let caller = (leg.direction == Direction::Inbound).then(|| leg.caller_name.clone()).flatten();
        let party = Participant {
            id: leg.id.0,
            aor: aor(theirs, recorded.host),
            name: caller,
            since: leg.answered_at.unwrap_or(leg.created_at),
        };
        let other = match recorded.peer {
            Some(peer) => Participant {
                id: peer.id.0,
                aor: aor(ends(peer).0, recorded.host),
                name: (peer.direction == Direction::Inbound).then(|| peer.caller_name.clone()).flatten(),
                since: self.joined,
            },
            None => Participant { id: !leg.id.0, aor: aor(ours, recorded.host), name: None, since: self.joined },
        };
        let streams = self.copies.iter().map(|copy| Stream {
            id: self.id.0.wrapping_add(u128::from(label(copy.track))),
            label: label(copy.track),
            said_by: usize::from(copy.track == media::Track::Outbound),
        });
        let metadata = Metadata {
            session: leg.session.0,
            call: (leg.id.0, recorded.call_id),
            sip_call_id: leg.sip.call_id.as_deref(),
            since: leg.created_at,
            recorded_since: self.since,
            participants: [party, other],
            streams: streams.collect(),
            parameters: &self.spec.parameters,
        };
        metadata.xml().into()
    }

    fn key(&self) -> sip::LegKey {
        sip::LegKey(self.id.0)
    }

    fn send(&self, command: sip::Command) {
        self.sip.post(command);
    }
}

/// `a=label` of what the leg says, and of what it hears.
fn label(track: media::Track) -> u16 {
    match track {
        media::Track::Inbound => 1,
        media::Track::Outbound => 2,
    }
}

/// The far end of a leg, and ours.
fn ends(leg: &LegInfo) -> (&Address, &Address) {
    if leg.direction == Direction::Inbound { (&leg.from, &leg.to) } else { (&leg.to, &leg.from) }
}

/// A URI for whatever somebody is called (RFC 7865 §6.5.1).
fn aor(address: &Address, host: &str) -> String {
    match address {
        Address::Sip(uri) => uri.split('?').next().unwrap_or(uri).to_owned(),
        Address::Phone(number) if number.is_e164() => format!("tel:{}", number.as_str()),
        other => format!("sip:{}@{host}", sip::escape_user(other.user())),
    }
}

/// An end that we did not wish for.
fn failure(answered: bool, cause: sip::EndCause, status: Option<u16>, reason: Option<&str>) -> SiprecFailure {
    if answered {
        let words = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        return SiprecFault::HungUp.because(format!("the recording server ended the session: {cause}{words}"));
    }
    match (cause, status) {
        (sip::EndCause::Rejected, Some(status)) => {
            let words = reason.unwrap_or_default();
            SiprecFault::Refused(status).because(format!("the recording server refused: {status} {words}"))
        }
        (sip::EndCause::Timeout, _) => SiprecFault::Timeout.because("the recording server did not answer"),
        _ => SiprecFault::Unreachable.because(format!("the recording server cannot be called: {cause}")),
    }
}
