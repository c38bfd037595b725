//! The I/O of one leg: its SIP dialog and its media session. This crate carries out the call's commands, and translates
//! events of SIP and of the media engine for the call. SDP does not leave this crate.
#![forbid(unsafe_code)]

mod calling;
pub mod dtmf;
mod engine;
pub mod loopback;
mod machine_detection;
mod reason;
mod redirect;
mod refusal;
mod signalling;
mod track;

use std::sync::Arc;

use bytes::Bytes;
use tandem_call::output::{HangupReason, Progress};
use tandem_call::program::instruction::RejectReason;
use tandem_id::LegId;
use tandem_media as media;
use tandem_settings::DtmfMode;
use tandem_sip as sip;
use tandem_stir::SigningOutcome;

use self::calling::Callee;
pub use self::calling::OutgoingCall;
pub use self::engine::{on_media, tone};
use self::loopback::{CallChain, LoopbackDialog};
pub use self::machine_detection::detection;
use self::redirect::Redirects;
pub use self::refusal::Refusal;
pub use self::track::tracks;

/// All data of one leg.
pub struct LegIo {
    key: LegId,
    session: Option<media::Session>,
    /// The SDP offer of the INVITE. `None` after our answer was sent.
    offer: Option<Bytes>,
    /// Our SDP answer to `offer`.
    answer: Option<Bytes>,
    /// The codec preference of the leg that will be bridged with this leg.
    preferred: media::Preference,
    /// Whether the INVITE, or the last re-INVITE, had no offer. Then our 200 carries the offer, and the ACK carries the
    /// answer.
    late_offer: bool,
    /// Whether our offer was sent in a provisional response.
    has_offered: bool,
    /// Whether the far end's answer has arrived, or our answer to the far end's offer exists.
    negotiated: bool,
    /// Whether this server has answered an early offer of the callee and must still report the early media to the call.
    has_early_media: bool,
    /// The reason why the INVITE's offer was not accepted.
    refusal: Option<Refusal>,
    /// The called destination, for the log.
    callee: Option<Callee>,
    /// The routes that remain if the current trunk fails.
    attempt: Option<Box<OutgoingCall>>,
    /// The final responses that count as a failure of the current trunk.
    failover_statuses: Vec<u16>,
    /// Whether the dialog is over, or does not exist yet.
    gone: bool,
    /// Header fields for the next message that answers, rejects or ends the call.
    pub headers: Vec<(String, String)>,
    /// The leg that causes the call to this leg.
    pub on_behalf_of: Option<LegId>,
    /// Whether the leg follows 3xx responses.
    pub may_be_redirected: bool,
    /// The way in which DTMF digits are sent to the far end.
    dtmf: DtmfMode,
    /// The trunk's setting for reliable provisional responses, if the trunk has this setting.
    pub prack: Option<sip::Prack>,
    /// The targets of 3xx responses that are not yet tried.
    redirects: Option<Box<Redirects>>,
    /// The attestation of the caller's number (STIR) that the server sent to the far end. The log and the counters read
    /// this field.
    pub signing: Option<SigningOutcome>,
    /// Removes duplicate DTMF digits. Some gateways send each digit twice: as telephone-event and as INFO.
    pub digit_dedup: media::DigitDedup,
    sip: Arc<sip::transport::Handle>,
    /// The connection to another leg of this server, in an internal call. This connection replaces the SIP dialog.
    loopback: Option<LoopbackDialog>,
    /// The count of the internal calls of which this leg is the origin, or with which this leg has a common origin.
    pub call_chain: CallChain,
    /// Values that the other leg of an internal call receives when the call ends.
    pub handed_back: Vec<(String, String)>,
}

impl LegIo {
    /// Creates an inbound leg, which has a dialog and no audio yet.
    pub fn incoming(leg: LegId, sip: Arc<sip::transport::Handle>) -> Self {
        Self { gone: false, ..Self::outgoing(leg, sip) }
    }

    /// Creates an inbound leg of an internal call. Another leg of this server calls this leg.
    pub fn incoming_internal(leg: LegId, sip: Arc<sip::transport::Handle>, loopback: LoopbackDialog) -> Self {
        let call_chain = loopback.call_chain().clone();
        Self { loopback: Some(loopback), call_chain, ..Self::incoming(leg, sip) }
    }

    /// Creates an outbound leg, which has no dialog and no audio yet.
    pub fn outgoing(leg: LegId, sip: Arc<sip::transport::Handle>) -> Self {
        Self {
            key: leg,
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
            failover_statuses: Vec::new(),
            gone: true,
            headers: Vec::new(),
            on_behalf_of: None,
            may_be_redirected: false,
            dtmf: DtmfMode::default(),
            prack: None,
            redirects: None,
            signing: None,
            digit_dedup: media::DigitDedup::default(),
            sip,
            loopback: None,
            call_chain: CallChain::default(),
            handed_back: Vec::new(),
        }
    }

    /// Returns the names of the codecs in the accepted offer.
    pub fn offered_codecs(&self) -> &[String] {
        self.session.as_ref().map_or(&[], |session| session.offered_codecs())
    }

    /// Returns the name of the negotiated codec.
    pub fn codec(&self) -> Option<&'static str> {
        self.session.as_ref()?.codec().map(media::Codec::name)
    }

    /// Returns the codecs that another leg should use before a bridge with this leg, so that packets need no
    /// transcoding. Before this leg is answered, this leg can still agree on each of the returned codecs. After the
    /// answer, the result has only one codec.
    pub fn preference(&self) -> media::Preference {
        let mut preference = self.session.as_ref().map(media::Session::preference).unwrap_or_default();
        if self.offer.is_none() {
            preference.codecs.truncate(1);
        }
        preference
    }

    /// Changes this leg to the codec of the leg that will be bridged with this leg. The codec changes only if the far
    /// end offers this codec and our answer is not sent yet.
    pub fn prefer(&mut self, preferred: media::Preference) {
        let Some(codec) = preferred.codecs.first().copied() else { return };
        if let (Some(offer), Some(session)) = (&self.offer, &mut self.session)
            && session.codec() != Some(codec)
        {
            let agreed = media::Preference { codecs: vec![codec], comfort_noise: preferred.comfort_noise };
            // This offer was already answered without an error, so another answer to this offer is possible.
            self.answer = session.prepare_answer(offer, &agreed).ok().or(self.answer.take());
        }
        self.preferred = preferred;
    }

    /// Takes the offer of an INVITE and prepares our answer. `dtmf` says how the trunk carries DTMF digits.
    pub fn accept_offer(
        &mut self,
        mut session: media::Session,
        dtmf: DtmfMode,
        offer: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        self.dtmf = dtmf;
        session.set_events(dtmf == DtmfMode::Rfc4733);
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

    /// Starts an internal call to another leg of this server. Returns our offer for that leg.
    pub fn start_internal_call(&mut self, mut session: media::Session, loopback: LoopbackDialog) -> Bytes {
        let offer = session.offer_preferring(&self.preferred);
        (self.session, self.loopback, self.gone) = (Some(session), Some(loopback), false);
        offer
    }

    /// Returns the values that the other leg of an internal call sent with the end of the call.
    pub fn returned(&self, event: &sip::Event) -> Option<Vec<(String, String)>> {
        let sip::Event::Ended { headers, .. } = event else { return None };
        let pairs = headers.iter().map(|header| (header.name.clone(), header.value.clone()));
        self.loopback.as_ref().map(|_| pairs.collect()).filter(|pairs: &Vec<_>| !pairs.is_empty())
    }

    /// Sends REFER, so that the far end calls another destination.
    pub fn refer(&mut self, to: String, by: Option<String>, extra: Vec<(String, String)>) {
        let refer = sip::Refer { refer_to: to, referred_by: by, headers: headers(extra) };
        self.send(sip::Command::Refer { leg: self.key, refer: Box::new(refer) });
    }

    /// Whether the INVITE had no offer and nothing is negotiated yet.
    pub fn wants_offer(&self) -> bool {
        self.late_offer && !self.negotiated
    }

    /// Sends 180 or 183. With early media, the response carries our answer. If the INVITE had no offer, the first of
    /// these responses carries our offer, because the first reliable provisional response must carry the offer (RFC
    /// 3262 §5).
    pub fn ring(&mut self, progress: Progress) {
        let mut sdp = self.answer.clone().filter(|_| progress.early_media);
        let alerting = progress.alerting || progress.early_media && sdp.is_none();
        let status = if alerting { 180 } else { 183 };
        if sdp.is_some() {
            // RTP before the answer silences the ringback tone of the caller's phone (RFC 3960 §3.2).
            self.command(media::Command::SendSilence(false));
            self.settle();
        } else if self.wants_offer() && !std::mem::replace(&mut self.has_offered, true) {
            sdp = self.session.as_mut().map(|session| session.offer_preferring(&self.preferred));
        }
        self.send(sip::Command::Provisional { leg: self.key, status, sdp, headers: Vec::new() });
    }

    /// Sends 200 with our answer, or with our offer.
    pub fn answer(&mut self) {
        let sdp = match (&self.answer, &mut self.session) {
            (Some(sdp), _) => sdp.clone(),
            (None, Some(session)) => session.offer_preferring(&self.preferred),
            (None, None) => return self.reject(RejectReason::Status(500)),
        };
        self.command(media::Command::SendSilence(true));
        self.settle();
        let headers = headers(std::mem::take(&mut self.headers));
        self.send(sip::Command::Answer { leg: self.key, sdp, headers });
    }

    /// Makes our answer final. This function is called when the answer is sent. From then on, the far end may receive
    /// audio.
    fn settle(&mut self) {
        if let (Some(_), Some(session)) = (self.offer.take(), &mut self.session) {
            session.settle();
        }
    }

    /// Sends a final refusal.
    pub fn reject(&mut self, reason: RejectReason) {
        let status = match reason {
            RejectReason::Rejected => 603,
            RejectReason::Busy => 486,
            RejectReason::Status(status) => status,
        };
        let refusal = self.refusal.take().filter(|refusal| refusal.status == status);
        let (reason, warning) = refusal.map(Refusal::into_parts).unwrap_or_default();
        let mut headers = self.final_headers();
        headers.extend(warning);
        // The far end waits for this time before its next call.
        if status == 503 && !headers.iter().any(|header| header.name.eq_ignore_ascii_case("Retry-After")) {
            headers.push(retry_after());
        }
        self.send(sip::Command::Reject { leg: self.key, status, reason, headers });
    }

    /// Ends the call with CANCEL, BYE or 480.
    pub fn hangup(&mut self, reason: Option<HangupReason>) {
        self.redirects = None;
        if !self.gone {
            let headers = self.final_headers();
            let reason = reason.map(reason::of);
            self.send(sip::Command::Hangup { leg: self.key, status: 480, reason, headers });
        }
    }

    /// Returns the header fields of the message that rejects or ends the call. In an internal call, these fields
    /// contain the returned values.
    fn final_headers(&mut self) -> Vec<sip::Header> {
        let own = std::mem::take(&mut self.headers);
        let handed_back = std::mem::take(&mut self.handed_back);
        headers(if self.loopback.is_some() { handed_back } else { own })
    }

    /// Returns the way in which DTMF digits are sent to the far end.
    pub fn dtmf(&self) -> DtmfMode {
        self.dtmf
    }

    /// Passes on a digit from the bridged leg, unless the media engine passes the digit on. `received_by` is the form
    /// in which the bridged leg received the digit.
    pub fn relay_digit(&self, digit: char, received_by: media::DtmfMethod) {
        match dtmf::relay_mode(self.dtmf, received_by, self.session.as_ref().is_some_and(media::Session::has_events)) {
            dtmf::DtmfRelay::ByMedia => {}
            dtmf::DtmfRelay::AsInfo => self.send(dtmf::info(self.key, digit, dtmf::DIGIT_MS)),
            dtmf::DtmfRelay::AsEvent => {
                let (op, duration_ms) = (dtmf::RELAYED_DIGIT, dtmf::DIGIT_MS);
                self.command(media::Command::SendDigits { op, digits: digit.to_string(), duration_ms });
            }
        }
    }

    /// Whether the dialog is over or has never existed.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Ends the call after the media engine has closed the media session.
    pub fn lose_media(&mut self) {
        self.session = None;
        self.hangup(None);
    }

    /// Closes the media session. Returns whether the media engine will report a final event.
    pub fn release(&mut self) -> bool {
        self.session.take().is_some()
    }

    /// Sends a command to SIP, or to the other leg of an internal call.
    pub fn send(&self, command: sip::Command) {
        match &self.loopback {
            Some(loopback) => loopback.carry(command),
            None => self.sip.post(command),
        }
    }
}

fn headers(pairs: Vec<(String, String)>) -> Vec<sip::Header> {
    pairs.into_iter().map(|(name, value)| sip::Header { name, value }).collect()
}

/// Returns the Retry-After header of a 503 response. The value is a random time from 20 to 60 s, so that callers do not
/// all call again at the same time.
pub fn retry_after() -> sip::Header {
    sip::Header { name: "Retry-After".to_owned(), value: rand::random_range(20..=60).to_string() }
}
