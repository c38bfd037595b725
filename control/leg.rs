//! One leg's hands: its SIP dialog and its media session. What the call orders is done here, and what SIP and the engine
//! say is put into the call's words. SDP never goes further up than this file.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tandem_call::event::PlaybackEnd;
use tandem_call::id::{LegId, OpId, RecordingId, StreamId};
use tandem_call::leg::EndCause;
use tandem_call::output::{Farewell, Invite, LegEvent, LegGone};
use tandem_call::program::instruction::{RejectReason, Tone};
use tandem_call::recording::{RecordingChannels, RecordingEnd, RecordingSpec, Track};
use tandem_media as media;
use tandem_sip as sip;
use tokio::task::AbortHandle;

use crate::clock;
use crate::conferences::Seat;
use crate::conversation::ConversationHandle;
use crate::ears::Ear;
use crate::keys::{self, Dtmf};
use crate::machine;
use crate::queues::{Place, Taking};
use crate::reason;
use crate::recordings::RecordingFiles;
use crate::redirect::Redirects;
use crate::routing::Outbound;
use crate::stir::Vouch;
use crate::stream::StreamHandle;
use crate::trunk::identity::{self, Behind};
use crate::trunk::passing;

/// What one leg holds.
pub struct LegIo {
    key: sip::LegKey,
    session: Option<media::Session>,
    /// The INVITE's offer, until our answer to it has been sent.
    offer: Option<Bytes>,
    /// Our answer to it.
    answer: Option<Bytes>,
    /// What the leg that it will be joined to speaks.
    preferred: media::Preference,
    /// The INVITE, or the last re-INVITE, had no offer: our 200 carries it, the ACK the answer.
    late_offer: bool,
    /// Our offer has been given to a provisional response.
    has_offered: bool,
    /// The peer's answer is in.
    negotiated: bool,
    /// The callee's early offer has been answered, and its response is yet to be told.
    has_early_media: bool,
    /// Why the INVITE's offer was not taken.
    refusal: Option<Refusal>,
    /// Whom we called, for the log.
    callee: Option<Callee>,
    /// What is left to try, should the trunk that is called fail.
    attempt: Option<Box<Attempt>>,
    /// Refusals of that trunk that count as its failure.
    fails_over_on: Vec<u16>,
    /// The dialog is over, or is none yet.
    gone: bool,
    /// Audio being made, by operation.
    pub renders: HashMap<OpId, AbortHandle>,
    /// Of the next message that answers, refuses or ends.
    pub headers: Vec<(String, String)>,
    /// Whom it is joined to.
    pub peer: Option<LegId>,
    /// Its place in a conference.
    pub seat: Option<Seat>,
    /// Its place in a queue.
    pub place: Option<Place>,
    /// It waits for whoever is first in a queue.
    pub taking: Option<Taking>,
    /// Streams, by id.
    pub streams: HashMap<StreamId, StreamHandle>,
    /// Open ears, by operation.
    pub ears: HashMap<OpId, Ear>,
    /// Its conversation with an application.
    pub conversation: Option<ConversationHandle>,
    /// The leg that it was called for.
    pub on_behalf_of: Option<LegId>,
    /// It follows 3xx responses.
    pub may_be_redirected: bool,
    /// How its keys are pressed.
    dtmf: Dtmf,
    /// Reliable provisional responses, if its trunk has a word on it.
    pub prack: Option<sip::Prack>,
    /// Where else it may be sent.
    redirects: Option<Box<Redirects>>,
    /// What was said of its caller's number, for the log; taken from there.
    pub vouched: Option<String>,
    /// Its key presses: some gateways send each as telephone-event and as INFO.
    pub presses: media::Presses,
    sip: sip::transport::Handle,
}

/// Whom a leg called.
struct Callee {
    /// `trunk "name" (uri)`, or the URI alone.
    name: String,
    /// A challenge can be answered.
    authenticates: bool,
}

/// A call to be placed, over one route after the other.
pub struct Attempt {
    /// The call.
    pub invite: Invite,
    /// The leg that it will be joined to.
    pub behind: Option<Behind>,
    /// Its Call-ID, the same over every route.
    pub call_id: Option<String>,
    /// What we say of its caller's number.
    pub vouch: Vouch,
    /// That leg has not made an offer, and none is made over trunks that want it so.
    pub late_offer: bool,
    /// Where it goes next.
    pub routes: VecDeque<Outbound>,
}

/// Why a leg could not be set up.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// SIP status.
    pub status: u16,
    /// In words, for the log.
    pub why: String,
}

impl Refusal {
    fn of(error: &media::SdpError) -> Self {
        let status = match error {
            media::SdpError::Malformed(_) => 400,
            media::SdpError::Incompatible(_) => 488,
        };
        Self { status, why: error.to_string() }
    }

    /// For the peer: the reason phrase of a 400 (RFC 3261 §21.4.1), and a Warning (§20.43).
    fn told(self) -> (Option<String>, Vec<sip::Header>) {
        let code = if self.status == 488 { 305 } else { 399 };
        let text: String = self.why.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(128).collect();
        let warning = sip::Header { name: "Warning".to_owned(), value: format!("{code} tandem \"{text}\"") };
        ((self.status == 400).then_some(text), vec![warning])
    }
}

impl LegIo {
    /// A leg that called: it has a dialog, and no audio yet.
    pub fn incoming(leg: LegId, sip: sip::transport::Handle) -> Self {
        Self { gone: false, ..Self::outgoing(leg, sip) }
    }

    /// A leg to be called, with neither dialog nor audio yet.
    pub fn outgoing(leg: LegId, sip: sip::transport::Handle) -> Self {
        Self {
            key: sip::LegKey(leg.0),
            session: None,
            offer: None,
            answer: None,
            preferred: media::Preference::default(),
            late_offer: false,
            has_offered: false,
            negotiated: false,
            has_early_media: false,
            refusal: None,
            callee: None,
            attempt: None,
            fails_over_on: Vec::new(),
            gone: true,
            renders: HashMap::new(),
            headers: Vec::new(),
            peer: None,
            seat: None,
            place: None,
            taking: None,
            streams: HashMap::new(),
            ears: HashMap::new(),
            conversation: None,
            on_behalf_of: None,
            may_be_redirected: false,
            dtmf: Dtmf::default(),
            prack: None,
            redirects: None,
            vouched: None,
            presses: media::Presses::default(),
            sip,
        }
    }

    /// Names of the codecs of the offer that was taken.
    pub fn offered_codecs(&self) -> Vec<String> {
        self.session.as_ref().map_or_else(Vec::new, |session| session.offered_codecs().to_vec())
    }

    /// Name of the agreed codec.
    pub fn codec(&self) -> Option<&'static str> {
        self.session.as_ref()?.codec().map(media::Codec::name)
    }

    /// What a leg that is to be joined to this one should speak, so that its audio need only be passed on. Until it has
    /// been answered, it could still do otherwise.
    pub fn preference(&self) -> media::Preference {
        let mut preference = self.session.as_ref().map(media::Session::preference).unwrap_or_default();
        if self.offer.is_none() {
            preference.codecs.truncate(1);
        }
        preference
    }

    /// Speaks as the leg does that it will be joined to, if it can and nothing else has been agreed.
    pub fn prefer(&mut self, preferred: media::Preference) {
        let Some(codec) = preferred.codecs.first().copied() else { return };
        if let (Some(offer), Some(session)) = (&self.offer, &mut self.session)
            && session.codec() != Some(codec)
        {
            let agreed = media::Preference { codecs: vec![codec], comfort_noise: preferred.comfort_noise };
            // What was answered to it once can be answered again.
            self.answer = session.prepare_answer(offer, &agreed).ok().or(self.answer.take());
        }
        self.preferred = preferred;
    }

    /// Takes an INVITE's offer and gets our answer ready. `dtmf`: how keys are pressed over its trunk.
    pub fn accept_offer(
        &mut self,
        mut session: media::Session,
        dtmf: Dtmf,
        offer: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        self.dtmf = dtmf;
        session.set_events(dtmf == Dtmf::Rfc4733);
        match offer {
            Some(offer) => {
                let answer = session.prepare_answer(offer, &self.preferred).map_err(|error| {
                    let refusal = Refusal::of(&error);
                    self.refusal = Some(refusal.clone());
                    refusal
                })?;
                self.offer = Some(Bytes::copy_from_slice(offer));
                self.answer = Some(answer);
                self.negotiated = true;
            }
            None => self.late_offer = true,
        }
        self.session = Some(session);
        Ok(())
    }

    /// Sends an INVITE with our offer over the first route.
    pub fn invite(&mut self, session: media::Session, attempt: Attempt, route: Outbound) {
        self.session = Some(session);
        self.send_invite(&attempt, route);
        self.attempt = (!attempt.routes.is_empty()).then(|| Box::new(attempt));
    }

    /// Calls over the next route, if the event says that a trunk failed before anything was heard of the callee. `tune`
    /// makes the session one of that trunk's. What to log, and the trunk now called.
    pub fn fail_over(
        &mut self,
        event: &sip::Event,
        tune: impl Fn(&mut media::Session, Option<&str>),
    ) -> Option<(String, Option<Arc<str>>)> {
        let mut attempt = self.attempt.take()?;
        let sip::Event::Ended { cause, status, reason, .. } = event else {
            // A callee who is heard, or has answered, has been found.
            let found = matches!(event, sip::Event::Answered { .. }) || self.negotiated;
            self.attempt = (!found).then_some(attempt);
            return None;
        };
        let failed = match cause {
            sip::EndCause::Timeout
            | sip::EndCause::Unresolved
            | sip::EndCause::NoSocket
            | sip::EndCause::Unconnected(_)
            | sip::EndCause::TrunkFull => true,
            sip::EndCause::Rejected => status.is_some_and(|status| self.fails_over_on.contains(&status)),
            _ => false,
        };
        if !failed || self.negotiated {
            return None;
        }
        let route = attempt.routes.pop_front()?;
        let why = self.why(*cause, *status, reason.clone()).unwrap_or_default();
        let trunk = route.trunk.as_ref().map(|trunk| Arc::clone(&trunk.name));
        if let Some(session) = &mut self.session {
            tune(session, route.trunk_name());
        }
        let line = format!("{why}; next: trunk \"{}\"", trunk.as_deref().unwrap_or_default());
        self.send_invite(&attempt, route);
        self.attempt = (!attempt.routes.is_empty()).then_some(attempt);
        Some((line, trunk))
    }

    fn send_invite(&mut self, attempt: &Attempt, route: Outbound) {
        let Some(session) = &mut self.session else { return };
        self.dtmf = route.trunk.as_ref().map(|trunk| trunk.dtmf).unwrap_or_default();
        session.set_events(self.dtmf == Dtmf::Rfc4733);
        let late = attempt.late_offer && route.trunk.as_ref().is_some_and(|trunk| trunk.late_offer);
        let sdp = if late { Bytes::new() } else { session.offer_preferring(&self.preferred) };
        let (invite, call_id) = (attempt.invite.clone(), attempt.call_id.clone());
        self.gone = false;
        let host = route.host();
        let mut presented = identity::present(route.trunk.as_deref(), &invite, attempt.behind.as_ref(), &host);
        if route.aor.is_none() {
            let now = clock::now().time;
            let (headers, line) = attempt.vouch.headers(route.trunk.as_deref(), &invite, &presented, now);
            presented.headers.extend(headers);
            self.vouched = line;
        }
        let passed = attempt.behind.as_ref().filter(|_| invite.inherits).map(|behind| {
            let usual = passing::usual();
            let patterns = route.trunk.as_ref().map_or(&usual, |trunk| &trunk.pass_headers);
            passing::passed(patterns, &behind.leg.sip.headers)
        });
        self.fails_over_on = route.trunk.as_ref().map(|trunk| trunk.failover_on.clone()).unwrap_or_default();
        let uri = route.next_hop.as_ref().unwrap_or(&route.request_uri);
        let name = match &route.trunk {
            Some(trunk) => format!("trunk \"{}\" ({uri})", trunk.name),
            None => uri.clone(),
        };
        let authenticates = invite.credentials.is_some() || route.credentials.is_some();
        self.callee = Some(Callee { name, authenticates });
        let outgoing = sip::Outgoing {
            request_uri: route.request_uri,
            next_hop: route.next_hop,
            from_user: presented.from_user,
            from_display: presented.from_display,
            from_host: presented.from_host.or(route.from_host),
            to: None,
            on_behalf_of: self.on_behalf_of.map(|leg| sip::LegKey(leg.0)),
            replaces: invite.replaces,
            prack: self.prack,
            impatient: !attempt.routes.is_empty(),
            call_id,
            headers: headers(invite.headers)
                .into_iter()
                .chain(presented.headers)
                .chain(passed.into_iter().flatten())
                .collect(),
            trunk: route.trunk.map(|trunk| Arc::clone(&trunk.name)),
            credentials: invite
                .credentials
                .map(|own| sip::Credentials { username: own.username, password: own.password })
                .or(route.credentials),
            sdp,
        };
        // A phone of ours that sends its calls elsewhere is not known by its own URI.
        let redirects = self.may_be_redirected && route.aor.is_none();
        self.redirects = redirects.then(|| Box::new(Redirects::of(&outgoing)));
        let (leg, invite) = (self.key, Box::new(outgoing));
        self.send(match route.aor {
            Some(aor) => sip::Command::Ring { leg, aor, invite },
            None => sip::Command::Invite { leg, invite },
        });
    }

    /// Asks the far end to call somebody else.
    pub fn refer(&mut self, to: String, by: Option<String>, extra: Vec<(String, String)>) {
        let refer = sip::Refer { refer_to: to, referred_by: by, headers: headers(extra) };
        self.send(sip::Command::Refer { leg: self.key, refer: Box::new(refer) });
    }

    /// Whether it called without an offer, and has not been answered.
    pub fn wants_offer(&self) -> bool {
        self.late_offer && !self.negotiated
    }

    /// 180, or 183 with our answer. Either has our offer, where a response that is sure to arrive must (RFC 3262 §5).
    pub fn ring(&mut self, early_media: bool) {
        let mut sdp = self.answer.clone().filter(|_| early_media);
        let status = if sdp.is_some() { 183 } else { 180 };
        if sdp.is_some() {
            self.settle();
        } else if self.wants_offer() && !std::mem::replace(&mut self.has_offered, true) {
            sdp = self.session.as_mut().map(|session| session.offer_preferring(&self.preferred));
        }
        self.send(sip::Command::Provisional { leg: self.key, status, sdp, headers: Vec::new() });
    }

    /// 200 with our answer (or our offer).
    pub fn answer(&mut self) {
        let sdp = match (&self.answer, &mut self.session) {
            (Some(sdp), _) => sdp.clone(),
            (None, Some(session)) => session.offer_preferring(&self.preferred),
            (None, None) => return self.reject(RejectReason::Status(500)),
        };
        self.settle();
        let headers = headers(std::mem::take(&mut self.headers));
        self.send(sip::Command::Answer { leg: self.key, sdp, headers });
    }

    /// Our answer is on its way: from now on the peer may be sent audio, and is not answered otherwise.
    fn settle(&mut self) {
        if let (Some(_), Some(session)) = (self.offer.take(), &mut self.session) {
            session.settle();
        }
    }

    /// A final refusal.
    pub fn reject(&mut self, reason: RejectReason) {
        let status = match reason {
            RejectReason::Rejected => 603,
            RejectReason::Busy => 486,
            RejectReason::Status(status) => status,
        };
        let refusal = self.refusal.take().filter(|refusal| refusal.status == status);
        let (reason, warning) = refusal.map(Refusal::told).unwrap_or_default();
        let mut headers = headers(std::mem::take(&mut self.headers));
        headers.extend(warning);
        self.send(sip::Command::Reject { leg: self.key, status, reason, headers });
    }

    /// CANCEL, BYE or 480.
    pub fn hangup(&mut self, farewell: Option<Farewell>) {
        self.redirects = None;
        if !self.gone {
            let headers = headers(std::mem::take(&mut self.headers));
            let reason = farewell.map(reason::of);
            self.send(sip::Command::Hangup { leg: self.key, status: 480, reason, headers });
        }
    }

    /// An order to the engine; without a session, or when the engine is overwhelmed, it is dropped and said.
    pub fn command(&self, command: media::Command) -> bool {
        match &self.session {
            Some(session) => match session.command(command) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(leg = %LegId(self.key.0), ?error, "media engine takes no command");
                    false
                }
            },
            None => false,
        }
    }

    /// How its keys are pressed.
    pub fn dtmf(&self) -> Dtmf {
        self.dtmf
    }

    /// Presses a key that the leg that this one is joined to has sent in that form, unless media has.
    pub fn pass_press(&self, key: char, came: media::Form) {
        match self.dtmf.pass(came, self.session.as_ref().is_some_and(media::Session::has_events)) {
            keys::Passed::ByMedia => {}
            keys::Passed::AsInfo => self.send(keys::info(self.key, key, keys::PRESS_MS)),
            keys::Passed::Anew => {
                let (op, duration_ms) = (keys::PASSED, keys::PRESS_MS);
                self.command(media::Command::SendDigits { op, digits: key.to_string(), duration_ms });
            }
        }
    }

    /// Starts a recording, once `after` has been played.
    pub fn record(
        &self,
        op: OpId,
        id: RecordingId,
        spec: &RecordingSpec,
        after: Option<OpId>,
        files: &RecordingFiles,
    ) -> bool {
        let channels = match spec.channels {
            RecordingChannels::Mono => media::Channels::Mono,
            RecordingChannels::Dual => media::Channels::Dual,
        };
        let spec = media::RecordSpec {
            path: files.path(id),
            coding: files.coding,
            channels,
            track: tracks(spec.track),
            max_length: spec.max_length,
            silence_timeout: spec.silence_timeout,
            trim: spec.trim,
            after: after.map(|op| media::OpId(op.0)),
            key: files.key.clone(),
        };
        self.command(media::Command::Recording(media::RecordingCommand::Start { op: media::OpId(op.0), spec }))
    }

    /// Whether its dialog is over, or never was.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// The engine has closed its session: it cannot go on.
    pub fn lose_media(&mut self) {
        self.session = None;
        self.hangup(None);
    }

    /// Frees what the leg holds. Whether the engine will say a last word.
    pub fn release(&mut self) -> bool {
        for (_, render) in self.renders.drain() {
            render.abort();
        }
        for (_, stream) in self.streams.drain() {
            stream.stop();
        }
        if let Some(conversation) = self.conversation.take() {
            conversation.stop();
        }
        self.seat = None;
        self.place = None;
        self.taking = None;
        self.session.take().is_some()
    }

    /// What a SIP event means to the call, if anything.
    pub fn on_sip(&mut self, event: sip::Event) -> Option<LegEvent> {
        match event {
            sip::Event::Provisional { sdp, .. } => {
                let early_media = match (sdp, &mut self.session) {
                    (Some(sdp), Some(session)) => session.accept(&sdp).is_ok(),
                    _ => std::mem::take(&mut self.has_early_media),
                };
                self.negotiated |= early_media;
                Some(LegEvent::Ringing { early_media })
            }
            sip::Event::Answered { sdp, headers, .. } => {
                let session = self.session.as_mut()?;
                let accepted = match sdp {
                    Some(sdp) => session.accept(&sdp).map_err(|error| error.to_string()),
                    None if self.negotiated => Ok(()),
                    None => Err(self.refusal.take().map_or_else(|| "there is none".to_owned(), |refusal| refusal.why)),
                };
                if let Err(why) = accepted {
                    return Some(self.hangup_without_audio(&why));
                }
                self.negotiated = true;
                let headers = headers.into_iter().map(|header| (header.name, header.value)).collect();
                Some(LegEvent::Answered { codec: self.codec().map(str::to_owned), headers })
            }
            sip::Event::Acknowledged { sdp, .. } => {
                if !std::mem::take(&mut self.late_offer) {
                    return None;
                }
                self.take_late_answer(sdp)
            }
            sip::Event::Offered { sdp, refusable, .. } => {
                let session = self.session.as_mut()?;
                let answer = match sdp {
                    Some(offer) => match session.answer_preferring(&offer, &self.preferred) {
                        Ok(answer) => {
                            self.has_early_media = !self.negotiated;
                            self.negotiated = true;
                            Ok(answer)
                        }
                        Err(error) => {
                            let refusal = Refusal::of(&error);
                            let declined = if refusable { None } else { session.decline(&offer) };
                            if !self.negotiated {
                                self.refusal = Some(refusal.clone());
                            }
                            declined.ok_or(refusal)
                        }
                    },
                    None => {
                        self.late_offer = true;
                        Ok(session.offer_preferring(&self.preferred))
                    }
                };
                match answer {
                    Ok(sdp) => self.send(sip::Command::AnswerOffer { leg: self.key, sdp }),
                    Err(refusal) => {
                        let status = refusal.status;
                        let (reason, headers) = refusal.told();
                        self.send(sip::Command::RejectOffer { leg: self.key, status, reason, headers });
                    }
                }
                None
            }
            // Our offer was in a provisional response.
            sip::Event::OfferAnswered { sdp, .. } if std::mem::take(&mut self.late_offer) => {
                self.take_late_answer(Some(sdp))
            }
            sip::Event::OfferAnswered { sdp, .. } => {
                if let Some(session) = &mut self.session {
                    // A refusal here leaves the session as it was, which is what RFC 3261 §14.1 asks for.
                    let _ = session.accept(&sdp);
                }
                None
            }
            sip::Event::Info { content_type, body, .. } => keys::pressed(&content_type, &body).map(LegEvent::Dtmf),
            sip::Event::Ended { cause: sip::EndCause::Rejected, status: Some(status), headers, .. }
                if let Some(outgoing) = self.redirects.as_mut().and_then(|it| it.next(status, &headers)) =>
            {
                self.send(sip::Command::Invite { leg: self.key, invite: Box::new(outgoing) });
                None
            }
            sip::Event::Ended { cause, status, reason: words, .. } => {
                self.gone = true;
                let detail_words = words.clone();
                let detail = self.why(cause, status, words);
                let reason = match cause {
                    sip::EndCause::LocalHangup => return None,
                    sip::EndCause::Bye => LegGone::Bye,
                    sip::EndCause::Cancelled => LegGone::Cancelled,
                    sip::EndCause::Rejected => {
                        self.told_cause(detail_words.as_deref()).map_or(LegGone::Rejected, LegGone::Refused)
                    }
                    sip::EndCause::Timeout | sip::EndCause::AckTimeout | sip::EndCause::SessionExpired => {
                        LegGone::Timeout
                    }
                    sip::EndCause::Unresolved
                    | sip::EndCause::NoSocket
                    | sip::EndCause::Unconnected(_)
                    | sip::EndCause::Invalid => LegGone::Unreachable,
                    sip::EndCause::Overload | sip::EndCause::TrunkFull => LegGone::Failed,
                };
                Some(LegEvent::Ended { reason, sip_status: status, detail })
            }
            sip::Event::RefreshDue { .. } => {
                // As it is spoken now: only the session's clock is to change.
                let mut preferred = self.preference();
                preferred.codecs.truncate(1);
                if let Some(session) = &mut self.session {
                    let sdp = session.offer_preferring(&preferred);
                    self.send(sip::Command::Offer { leg: self.key, sdp });
                }
                None
            }
            sip::Event::ReferAnswered { status, .. } => Some(LegEvent::ReferAnswered { status }),
            sip::Event::ReferProgress { status, done, .. } => Some(LegEvent::ReferProgress { status, done }),
            sip::Event::Incoming { .. }
            | sip::Event::OfferRejected { .. }
            | sip::Event::Referred { .. }
            | sip::Event::Trace { .. }
            | sip::Event::Binding(_)
            | sip::Event::AuthenticationFailed { .. } => None,
        }
    }

    /// The answer to an offer of ours that a call without one got.
    fn take_late_answer(&mut self, sdp: Option<Bytes>) -> Option<LegEvent> {
        let accepted = match (sdp, &mut self.session) {
            (Some(sdp), Some(session)) => session.accept(&sdp).map_err(|error| error.to_string()),
            _ => Err("the ACK has no answer to our offer".to_owned()),
        };
        self.negotiated |= accepted.is_ok();
        // After a re-INVITE the session goes on as it was.
        let why = accepted.err().filter(|_| !self.negotiated)?;
        Some(self.hangup_without_audio(&why))
    }

    fn hangup_without_audio(&mut self, why: &str) -> LegEvent {
        tracing::warn!(leg = %LegId(self.key.0), "description refused: {why}");
        self.hangup(None);
        let detail = Some(format!("its session description has no audio for us: {why}"));
        LegEvent::Ended { reason: LegGone::Failed, sip_status: None, detail }
    }

    /// An end in words, where there are any: the peer's own, or what kept us from it.
    fn why(&self, cause: sip::EndCause, status: Option<u16>, words: Option<String>) -> Option<String> {
        match (cause, status, words, &self.callee) {
            (sip::EndCause::Bye | sip::EndCause::Cancelled, _, words, _) => {
                words.map(|words| format!("{cause} by the far end ({words})"))
            }
            (sip::EndCause::Rejected, Some(status @ (401 | 407)), _, Some(callee)) if !callee.authenticates => {
                Some(format!("{status}, and {} was called without credentials", callee.name))
            }
            (sip::EndCause::Rejected, Some(status), words, _) => {
                Some(format!("{status} {}", words.unwrap_or_default()))
            }
            (_, _, _, Some(callee)) => Some(format!("{}: {cause}", callee.name)),
            _ => Some(cause.to_string()),
        }
    }

    /// Why a call of ours was refused, by the network behind the peer.
    fn told_cause(&self, reason: Option<&str>) -> Option<EndCause> {
        reason.and_then(reason::cause)
    }

    /// An order to SIP.
    pub fn send(&self, command: sip::Command) {
        self.sip.post(command);
    }
}

/// What an engine event means to the call, if anything.
pub fn on_media(event: &media::Event) -> Option<LegEvent> {
    match event {
        media::Event::Finished { op, .. } if *op == keys::PASSED => None,
        media::Event::Finished { op, reason } => {
            let end = match reason {
                media::FinishReason::Completed => PlaybackEnd::Completed,
                media::FinishReason::Stopped => PlaybackEnd::Stopped,
            };
            Some(LegEvent::PlayFinished { op: OpId(op.0), end })
        }
        media::Event::RecordingFinished { op, reason, duration, recorded, .. } => {
            let end = match reason {
                media::RecordingReason::Stopped => RecordingEnd::Stopped,
                media::RecordingReason::MaxLength => RecordingEnd::MaxLength,
                media::RecordingReason::Silence => RecordingEnd::Silence,
                media::RecordingReason::Error(why) => RecordingEnd::Failed(why.clone()),
            };
            let (duration, recorded) = (*duration, *recorded);
            Some(LegEvent::RecordingFinished { op: OpId(op.0), end, duration, recorded })
        }
        media::Event::NotJoined { .. } => Some(LegEvent::ConferenceOver),
        media::Event::MachineDetected { op, verdict, after } => {
            Some(LegEvent::MachineDetected { op: OpId(op.0), verdict: machine::verdict(*verdict), after: *after })
        }
        _ => None,
    }
}

/// The engine's word for a tone.
pub fn tone(tone: &Tone) -> media::Tone {
    match tone {
        Tone::Ringback(country) => media::Tone::Ringback(media::Country::from_code(country)),
        Tone::Beep => media::Tone::Beep { milliseconds: 300 },
    }
}

/// The engine's word for a track.
pub fn tracks(track: Track) -> media::Tracks {
    match track {
        Track::Inbound => media::Tracks::Inbound,
        Track::Outbound => media::Tracks::Outbound,
        Track::Both => media::Tracks::Both,
    }
}

fn headers(pairs: Vec<(String, String)>) -> Vec<sip::Header> {
    pairs.into_iter().map(|(name, value)| sip::Header { name, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_the_peer_why() {
        let (phrase, headers) = Refusal::of(&media::SdpError::Incompatible("no \"audio\"")).told();
        assert_eq!((phrase, headers[0].value.as_str()), (None, "305 tandem \"incompatible SDP: no audio\""));
        let (phrase, headers) = Refusal::of(&media::SdpError::Malformed("é\r\nx".repeat(200))).told();
        assert!(phrase.is_some_and(|phrase| phrase.starts_with("malformed SDP: éxéx")));
        assert_eq!((headers[0].name.as_str(), headers[0].value.len() < 300), ("Warning", true));
    }
}
