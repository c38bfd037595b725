//! A session with a recording server (SIPREC, RFC 7866). The session consists of a call to the recording server, and
//! one media session for each recorded direction of the leg. A tap of the leg copies the audio, and the media session
//! sends this copy. `tandem_call::siprec` makes the decisions for the call. The call's task owns the session and passes
//! the SIP events to the session.
#![forbid(unsafe_code)]

mod connector;
mod metadata;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{Direction, LegInfo};
use tandem_call::recording::Track;
use tandem_call::siprec::{SiprecFailure, SiprecFault, SiprecSpec, SiprecStatus};
use tandem_id::{LegId, OpId, SiprecId};
use tandem_leg::signal::{SignalCommand, SignalEnd, SignalEndCause, SignalEvent};
use tandem_legs::sip::{Endpoint, RecordingCall, RecordingSignalling, escape_user};
use tandem_media as media;

pub use connector::{Connectors, SiprecConfig};
use metadata::{Metadata, Participant, Stream};

/// Maximum number of frames of one track that wait between the leg's tap and the media session that sends the copy. The
/// media session reads each frame 20 ms after the tap wrote the frame.
const FRAMES: usize = 50;

/// A running session with a recording server. The leg's call owns this value.
pub struct SiprecSession {
    facts: Facts,
    copies: Vec<SiprecTrack>,
    signalling: RecordingSignalling,
    state: SessionState,
    /// Whether the recording server has paused the audio.
    paused: bool,
    /// Whether an offer of this server waits for the answer of the recording server.
    offering: bool,
    stale: bool,
    /// Whether the recording server sent a re-INVITE without an offer. The SDP answer then arrives with the ACK.
    late_offer: bool,
    /// The recording servers that are not called yet.
    waiting: VecDeque<Arc<str>>,
}

/// The facts of a session that its metadata has.
struct Facts {
    id: SiprecId,
    spec: Box<SiprecSpec>,
    since: Timestamp,
    /// Time at which the leg's far end began to talk with the party that it talks with now.
    joined: Timestamp,
}

struct SiprecTrack {
    track: media::Track,
    op: OpId,
    session: media::Session,
    accepted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SessionState {
    Calling,
    Answered,
    Over,
}

/// The recorded leg, and facts about the party that the leg's far end talks with.
pub struct RecordedLeg<'a> {
    pub leg: &'a LegInfo,
    /// The id of the leg in the provider's form.
    pub call_id: &'a str,
    pub bridged_leg: Option<&'a LegInfo>,
    /// The host part of the URI for a party that has no SIP address.
    pub host: &'a str,
}

/// The effect of a SIP event on the call.
pub enum SiprecUpdate {
    /// The event has no effect on the call.
    Nothing,
    /// The recording server has answered. The call must now start the copies of the leg's audio.
    Answered,
    /// The recording server has paused or resumed the session.
    Status(SiprecStatus),
    /// The recording server did not accept the session, for this reason. Another recording server is called at this
    /// URI.
    Next(SiprecFailure, Arc<str>),
    /// The session and its dialog have ended, for this reason.
    Over(SiprecFailure),
    /// The session cannot continue. The call must hang up.
    Unusable(SiprecFailure),
}

/// The parameters of a new session.
pub struct NewSession<'a> {
    /// The settings of the recording server.
    pub connector: &'a SiprecConfig,
    pub id: SiprecId,
    /// Ids of the media operations that copy the leg's inbound and outbound audio.
    pub ops: (OpId, OpId),
    /// The settings from the request that starts the session.
    pub spec: Box<SiprecSpec>,
    /// Handle of the SIP endpoint.
    pub sip: Arc<Endpoint>,
    /// The codec of the leg, which is offered first.
    pub preferred: media::Preference,
    /// Time of the start.
    pub now: Timestamp,
}

impl SiprecSession {
    /// Calls the recording server. `open` opens a media session.
    pub fn call(
        new: NewSession<'_>,
        recorded: &RecordedLeg<'_>,
        open: impl Fn() -> Result<media::Session, media::OpenError>,
    ) -> Result<Self, SiprecFailure> {
        let NewSession { connector, id, ops, spec, sip, preferred, now } = new;
        let both = [(media::Track::Inbound, ops.0), (media::Track::Outbound, ops.1)];
        let copies = both.into_iter().filter(|(track, _)| records(spec.track, *track)).map(|(track, op)| {
            let mut session = open().map_err(|error| SiprecFault::Internal.because(error.to_string()))?;
            session.set_codecs(&connector.codecs());
            if connector.srtp != media::Srtp::Off {
                session.set_srtp(connector.srtp);
            }
            session.set_label(label(track));
            Ok(SiprecTrack { track, op, session, accepted: false })
        });
        let mut copies = copies.collect::<Result<Vec<_>, SiprecFailure>>()?;
        let offers: Vec<Bytes> = copies.iter_mut().map(|copy| copy.session.offer_preferring(&preferred)).collect();
        let secured: Option<Vec<Bytes>> = copies.iter_mut().map(|copy| copy.session.offer_secured()).collect();
        let facts = Facts {
            id,
            since: now,
            joined: if recorded.bridged_leg.is_some() { now } else { recorded.leg.created_at },
            spec,
        };
        let call = RecordingCall {
            from_user: connector.from.to_string(),
            credentials: connector.credentials(),
            offer: media::combine_descriptions(&offers),
            second_offer: secured.map(|offers| media::combine_descriptions(&offers)).unwrap_or_default(),
            metadata: facts.metadata(recorded, &copies),
        };
        let mut this = Self {
            facts,
            copies,
            signalling: RecordingSignalling::new(sip, LegId(id.0), call),
            state: SessionState::Calling,
            paused: false,
            offering: false,
            stale: false,
            late_offer: false,
            waiting: connector.uris.iter().cloned().collect(),
        };
        this.call_next().ok_or_else(|| SiprecFault::NoConnector.because("the recording server has no uri"))?;
        Ok(this)
    }

    /// Calls the next recording server. Returns its URI, or `None` if no recording server is left.
    fn call_next(&mut self) -> Option<Arc<str>> {
        let uri = self.waiting.pop_front()?;
        let has_alternatives = !self.waiting.is_empty();
        self.state = SessionState::Calling;
        self.signalling.place(&uri, has_alternatives);
        Some(uri)
    }

    pub fn id(&self) -> SiprecId {
        self.facts.id
    }

    /// Returns the id of the session's SIP dialog, in the form of a leg id.
    pub fn dialog(&self) -> LegId {
        LegId(self.facts.id.0)
    }

    /// Starts to copy the accepted directions of the leg to the recording server. `wide` says whether the leg's audio
    /// is wideband.
    pub fn attach(&self, wide: bool, tap: impl Fn(media::Command) -> bool) {
        for copy in self.copies.iter().filter(|copy| copy.accepted) {
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
            let op = copy.op;
            let source = media::StreamSource::copying(reader);
            // An overloaded engine refuses the first command and logs this, so the result is ignored.
            let _ = tap(media::Command::Tap { op, tracks, sink })
                && copy.session.command(media::Command::Source { op, source }).is_ok();
        }
    }

    /// Stops the copies of the leg's audio.
    pub fn detach(&self, untap: impl Fn(media::Command) -> bool) {
        for copy in &self.copies {
            untap(media::Command::Untap { op: copy.op });
        }
    }

    /// Ends the dialog with CANCEL or BYE. Returns `true` if SIP will report the end of the dialog.
    pub fn hangup(&mut self) -> bool {
        if self.state == SessionState::Over {
            return false;
        }
        self.state = SessionState::Over;
        self.signalling.send(SignalCommand::End { status: 480, reason: None, headers: HeaderFields::new() });
        true
    }

    /// Handles a change of the leg's bridge. The leg is now bridged with another leg, or the leg is no longer bridged.
    pub fn handle_bridge(&mut self, recorded: &RecordedLeg<'_>, now: Timestamp) {
        self.facts.joined = now;
        self.stale = true;
        self.send_metadata(recorded);
    }

    /// Handles a signal of the recording server.
    pub fn handle_signal(&mut self, event: &SignalEvent, recorded: &RecordedLeg<'_>) -> SiprecUpdate {
        match event {
            SignalEvent::Accepted { sdp, .. } => {
                self.state = SessionState::Answered;
                self.accept(sdp.as_deref().unwrap_or_default());
                if !self.copies.iter().any(|copy| copy.accepted) {
                    let why = "the recording server accepted none of the offered audio";
                    return SiprecUpdate::Unusable(SiprecFault::NoAudio.because(why));
                }
                self.send_metadata(recorded);
                SiprecUpdate::Answered
            }
            SignalEvent::Offered { sdp: Some(offer), .. } => {
                let answers = self.answer(offer);
                match answers {
                    Some(sdp) => self.signalling.send(SignalCommand::Answer { sdp }),
                    None => {
                        let (reason, headers) = (None, HeaderFields::new());
                        self.signalling.send(SignalCommand::RefuseOffer { status: 488, reason, headers });
                    }
                }
                self.changed()
            }
            SignalEvent::Offered { sdp: None, .. } => {
                self.late_offer = true;
                let sdp = self.offer();
                self.signalling.send(SignalCommand::Answer { sdp });
                SiprecUpdate::Nothing
            }
            SignalEvent::Acknowledged { sdp: Some(answer) } if std::mem::take(&mut self.late_offer) => {
                self.accept(answer);
                self.changed()
            }
            SignalEvent::OfferAnswered { sdp } => {
                self.offering = false;
                self.accept(sdp);
                self.send_metadata(recorded);
                self.changed()
            }
            // The recording server may accept the next change, so the session continues.
            SignalEvent::OfferRefused { .. } => {
                self.offering = false;
                SiprecUpdate::Nothing
            }
            SignalEvent::RefreshDue => {
                self.stale = true;
                self.send_metadata(recorded);
                SiprecUpdate::Nothing
            }
            SignalEvent::Ended(end) => {
                let answered = self.state == SessionState::Answered;
                self.state = SessionState::Over;
                let why = failure(answered, end);
                match if answered { None } else { self.call_next() } {
                    Some(uri) => SiprecUpdate::Next(why, uri),
                    None => SiprecUpdate::Over(why),
                }
            }
            _ => SiprecUpdate::Nothing,
        }
    }

    /// Returns whether the recording server has paused or resumed the session since the previous check.
    fn changed(&mut self) -> SiprecUpdate {
        let paused = !self.copies.iter().any(|copy| copy.session.sends());
        if self.state != SessionState::Answered || std::mem::replace(&mut self.paused, paused) == paused {
            return SiprecUpdate::Nothing;
        }
        SiprecUpdate::Status(if paused { SiprecStatus::Paused } else { SiprecStatus::Resumed })
    }

    /// Whether the answer of the recording server pauses the session from the beginning.
    pub fn begins_paused(&mut self) -> bool {
        matches!(self.changed(), SiprecUpdate::Status(SiprecStatus::Paused))
    }

    fn accept(&mut self, answer: &[u8]) {
        let answers = media::split_description(answer);
        for (copy, answer) in self.copies.iter_mut().zip(&answers) {
            match copy.session.accept(answer) {
                Ok(()) => copy.accepted = true,
                Err(error) => {
                    tracing::debug!(session = %self.facts.id, %error, "the recording server did not accept all streams");
                }
            }
        }
    }

    fn answer(&mut self, offer: &[u8]) -> Option<Bytes> {
        let offers = media::split_description(offer);
        if offers.len() < self.copies.len() {
            return None;
        }
        let answers = self.copies.iter_mut().zip(&offers);
        let answers = answers.map(|(copy, offer)| {
            let answer = copy.session.answer(offer).ok();
            answer.or_else(|| copy.session.decline(offer))
        });
        Some(media::combine_descriptions(&answers.collect::<Option<Vec<_>>>()?))
    }

    fn offer(&mut self) -> Bytes {
        let offers: Vec<Bytes> = self.copies.iter_mut().map(|copy| copy.session.offer()).collect();
        media::combine_descriptions(&offers)
    }

    /// Sends the metadata of the recorded session, if the metadata has changed and no offer is unanswered.
    fn send_metadata(&mut self, recorded: &RecordedLeg<'_>) {
        if self.state != SessionState::Answered || self.offering || !std::mem::take(&mut self.stale) {
            return;
        }
        self.offering = true;
        let (sdp, metadata) = (self.offer(), self.facts.metadata(recorded, &self.copies));
        self.signalling.offer(sdp, metadata);
    }
}

impl Facts {
    fn metadata(&self, recorded: &RecordedLeg<'_>, copies: &[SiprecTrack]) -> Bytes {
        let leg = recorded.leg;
        let (theirs, ours) = addresses(leg);
        let caller = (leg.direction == Direction::Inbound).then(|| leg.caller_name.clone()).flatten();
        let party = Participant {
            id: leg.id.0,
            aor: aor(theirs, recorded.host),
            name: caller,
            since: leg.answered_at.unwrap_or(leg.created_at),
        };
        let other = match recorded.bridged_leg {
            Some(bridged) => Participant {
                id: bridged.id.0,
                aor: aor(addresses(bridged).0, recorded.host),
                name: (bridged.direction == Direction::Inbound).then(|| bridged.caller_name.clone()).flatten(),
                since: self.joined,
            },
            None => Participant { id: !leg.id.0, aor: aor(ours, recorded.host), name: None, since: self.joined },
        };
        let streams = copies.iter().map(|copy| Stream {
            id: self.id.0.wrapping_add(u128::from(label(copy.track))),
            label: label(copy.track),
            sender: usize::from(copy.track == media::Track::Outbound),
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
}

/// Returns the value of `a=label` for the leg's inbound or outbound audio.
fn label(track: media::Track) -> u16 {
    match track {
        media::Track::Inbound => 1,
        media::Track::Outbound => 2,
    }
}

/// Returns two addresses of a leg. The first is the far end's address, and the second is the address of this server.
fn addresses(leg: &LegInfo) -> (&Address, &Address) {
    if leg.direction == Direction::Inbound { (&leg.from, &leg.to) } else { (&leg.to, &leg.from) }
}

/// Returns a URI for any kind of address (RFC 7865 §6.5.1).
fn aor(address: &Address, host: &str) -> String {
    match address {
        Address::Sip(uri) => uri.split('?').next().unwrap_or(uri).to_owned(),
        Address::Phone(number) if number.is_e164() => format!("tel:{}", number.as_str()),
        other => format!("sip:{}@{host}", escape_user(&other.user())),
    }
}

/// Returns the failure for a session that ended without a request of this server.
fn failure(answered: bool, end: &SignalEnd) -> SiprecFailure {
    let SignalEnd { cause, detail, status, reason, .. } = end;
    if answered {
        let words = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        return SiprecFault::HungUp.because(format!("the recording server ended the session: {detail}{words}"));
    }
    match (cause, status) {
        (SignalEndCause::Refused, Some(status)) => {
            let words = reason.as_deref().unwrap_or_default();
            SiprecFault::Refused(*status).because(format!("the recording server refused: {status} {words}"))
        }
        (SignalEndCause::NoResponse, _) => SiprecFault::Timeout.because("the recording server did not answer"),
        _ => SiprecFault::Unreachable.because(format!("the recording server cannot be called: {detail}")),
    }
}

/// Whether a session that records the tracks `track` copies the track `one`.
fn records(track: Track, one: media::Track) -> bool {
    match track {
        Track::Inbound => one == media::Track::Inbound,
        Track::Outbound => one == media::Track::Outbound,
        Track::Both => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_id::AccountName;

    #[test]
    fn a_session_records_one_or_both_directions_of_the_leg() {
        let recorded = |track| [media::Track::Inbound, media::Track::Outbound].map(|one| records(track, one));
        assert_eq!(recorded(Track::Inbound), [true, false]);
        assert_eq!(recorded(Track::Outbound), [false, true]);
        assert_eq!(recorded(Track::Both), [true, true]);
    }

    #[test]
    fn every_kind_of_address_becomes_a_uri_in_the_metadata() {
        for (address, uri) in [
            ("+15550001", "tel:+15550001"),
            ("1001", "sip:1001@pbx.test"),
            ("sip:bob@host;user=phone?X-A=1", "sip:bob@host;user=phone"),
            ("anonymous", "sip:anonymous@pbx.test"),
        ] {
            assert_eq!(aor(&Address::from(address), "pbx.test"), uri);
        }
    }

    #[test]
    fn the_failure_says_whether_the_recording_server_refused_did_not_answer_or_hung_up() {
        let ended = |answered, cause, status, reason: Option<&str>| {
            let reason = reason.map(str::to_owned);
            failure(answered, &SignalEnd { status, reason, ..SignalEnd::of(cause) })
        };
        let refused = ended(false, SignalEndCause::Refused, Some(486), Some("Busy Here"));
        assert_eq!(refused, SiprecFault::Refused(486).because("the recording server refused: 486 Busy Here"));
        let silent = ended(false, SignalEndCause::NoResponse, None, None);
        assert_eq!(silent, SiprecFault::Timeout.because("the recording server did not answer"));
        let unknown = ended(false, SignalEndCause::Unreachable, None, None);
        let text = "the recording server cannot be called: unreachable";
        assert_eq!(unknown, SiprecFault::Unreachable.because(text));
        let hung_up = ended(true, SignalEndCause::HungUp, None, Some("disk full"));
        let text = "the recording server ended the session: hung up (disk full)";
        assert_eq!(hung_up, SiprecFault::HungUp.because(text));
        // After the answer, silence is an end of the session too.
        assert_eq!(ended(true, SignalEndCause::NoResponse, None, None).fault, SiprecFault::HungUp);
    }

    #[test]
    fn the_far_end_of_a_leg_is_the_caller_of_an_inbound_and_the_callee_of_an_outbound_leg() {
        use tandem_call::leg::LegOwner;
        use tandem_id::CallId;
        let (from, to) = (Address::from("+15550001"), Address::from("+15550002"));
        let owner = LegOwner::new(AccountName::new("acme"), "twilio");
        let mut leg = LegInfo::inbound(LegId(1), CallId(1), owner, from.clone(), to.clone(), Timestamp::UNIX_EPOCH);
        assert_eq!(addresses(&leg), (&from, &to));
        leg.direction = Direction::OutboundDial;
        assert_eq!(addresses(&leg), (&to, &from));
    }
}
