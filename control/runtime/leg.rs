//! One leg's hands: its SIP dialog and its media session. What the call orders is done here, and what SIP and the engine
//! say is put into the call's words. SDP never goes further up than this file and those below it.

mod calling;
mod engine;
mod refusal;
mod signalling;

use std::sync::Arc;

use bytes::Bytes;
use foldhash::HashMap;
use tandem_call::id::{LegId, OpId, StreamId};
use tandem_call::output::Farewell;
use tandem_call::program::instruction::RejectReason;
use tandem_media as media;
use tandem_settings::Dtmf;
use tandem_sip as sip;
use tandem_stir::Vouched;
use tokio::task::AbortHandle;

pub use self::calling::Attempt;
use self::calling::Callee;
pub use self::engine::{on_media, tone, tracks};
pub use self::refusal::Refusal;
use crate::conferences::Seat;
use crate::conversation::ConversationHandle;
use crate::document::ScriptSlot;
use crate::ears::Ear;
use crate::keys;
use crate::local::{Family, Tie};
use crate::queues::{Place, Taking};
use crate::reason;
use crate::redirect::Redirects;
use crate::siprec;
use crate::stream::StreamHandle;

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
    /// Sessions with recording servers; a call has few.
    pub siprecs: Vec<siprec::Session>,
    /// Open ears, by operation.
    pub ears: HashMap<OpId, Ear>,
    /// The program with state that runs its documents, if they are such.
    pub script: ScriptSlot,
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
    /// What was said of its caller's number, for the log and the counters; taken from there.
    pub vouched: Option<Vouched>,
    /// Its key presses: some gateways send each as telephone-event and as INFO.
    pub presses: media::Presses,
    sip: Arc<sip::transport::Handle>,
    /// Its far end is another leg of ours, and this the way there, instead of SIP.
    tie: Option<Tie>,
    /// What that one is told with the end.
    pub handed_back: Vec<(String, String)>,
}

impl LegIo {
    /// A leg that called: it has a dialog, and no audio yet.
    pub fn incoming(leg: LegId, sip: Arc<sip::transport::Handle>) -> Self {
        Self { gone: false, ..Self::outgoing(leg, sip) }
    }

    /// The same, called by another leg of ours.
    pub fn called_within(leg: LegId, sip: Arc<sip::transport::Handle>, tie: Tie) -> Self {
        Self { tie: Some(tie), ..Self::incoming(leg, sip) }
    }

    /// A leg to be called, with neither dialog nor audio yet.
    pub fn outgoing(leg: LegId, sip: Arc<sip::transport::Handle>) -> Self {
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
            renders: HashMap::default(),
            headers: Vec::new(),
            peer: None,
            seat: None,
            place: None,
            taking: None,
            streams: HashMap::default(),
            siprecs: Vec::new(),
            ears: HashMap::default(),
            script: ScriptSlot::default(),
            conversation: None,
            on_behalf_of: None,
            may_be_redirected: false,
            dtmf: Dtmf::default(),
            prack: None,
            redirects: None,
            vouched: None,
            presses: media::Presses::default(),
            sip,
            tie: None,
            handed_back: Vec::new(),
        }
    }

    /// Names of the codecs of the offer that was taken.
    pub fn offered_codecs(&self) -> &[String] {
        self.session.as_ref().map_or(&[], |session| session.offered_codecs())
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

    /// Has another leg of ours called; our offer, for that one.
    pub fn call_within(&mut self, mut session: media::Session, tie: Tie) -> Bytes {
        let offer = session.offer_preferring(&self.preferred);
        (self.session, self.tie, self.gone) = (Some(session), Some(tie), false);
        offer
    }

    /// The family of calls from within that it belongs to; one of its own if its far end is not in here.
    pub fn family(&self) -> Family {
        self.tie.as_ref().map(|tie| tie.family().clone()).unwrap_or_default()
    }

    /// What the far end hands back by this event, if it is another leg of ours and this its end.
    pub fn returned(&self, event: &sip::Event) -> Option<Vec<(String, String)>> {
        let sip::Event::Ended { headers, .. } = event else { return None };
        let pairs = headers.iter().map(|header| (header.name.clone(), header.value.clone()));
        self.tie.as_ref().map(|_| pairs.collect()).filter(|pairs: &Vec<_>| !pairs.is_empty())
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
        let mut headers = self.last_headers();
        headers.extend(warning);
        // Whoever heeds this sends us nothing until there is room again.
        if status == 503 && !headers.iter().any(|header| header.name.eq_ignore_ascii_case("Retry-After")) {
            headers.push(retry_after());
        }
        self.send(sip::Command::Reject { leg: self.key, status, reason, headers });
    }

    /// CANCEL, BYE or 480.
    pub fn hangup(&mut self, farewell: Option<Farewell>) {
        self.redirects = None;
        if !self.gone {
            let headers = self.last_headers();
            let reason = farewell.map(reason::of);
            self.send(sip::Command::Hangup { leg: self.key, status: 480, reason, headers });
        }
    }

    /// Those of the message that ends it; to another leg of ours, what is handed back instead.
    fn last_headers(&mut self) -> Vec<sip::Header> {
        let own = std::mem::take(&mut self.headers);
        let handed_back = std::mem::take(&mut self.handed_back);
        headers(if self.tie.is_some() { handed_back } else { own })
    }

    /// How its keys are pressed.
    pub fn dtmf(&self) -> Dtmf {
        self.dtmf
    }

    /// Presses a key that the leg that this one is joined to has sent in that form, unless media has.
    pub fn pass_press(&self, key: char, came: media::Form) {
        match keys::pass(self.dtmf, came, self.session.as_ref().is_some_and(media::Session::has_events)) {
            keys::Passed::ByMedia => {}
            keys::Passed::AsInfo => self.send(keys::info(self.key, key, keys::PRESS_MS)),
            keys::Passed::Anew => {
                let (op, duration_ms) = (keys::PASSED, keys::PRESS_MS);
                self.command(media::Command::SendDigits { op, digits: key.to_string(), duration_ms });
            }
        }
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
        for mut session in self.siprecs.drain(..) {
            session.hangup();
        }
        if let Some(conversation) = self.conversation.take() {
            conversation.stop();
        }
        self.seat = None;
        self.place = None;
        self.taking = None;
        self.session.take().is_some()
    }

    /// An order to SIP, or to the other leg of ours that stands for it.
    pub fn send(&self, command: sip::Command) {
        match &self.tie {
            Some(tie) => tie.carry(command),
            None => self.sip.post(command),
        }
    }
}

fn headers(pairs: Vec<(String, String)>) -> Vec<sip::Header> {
    pairs.into_iter().map(|(name, value)| sip::Header { name, value }).collect()
}

/// Of a 503: 20 to 60 s, for each call another.
pub fn retry_after() -> sip::Header {
    sip::Header { name: "Retry-After".to_owned(), value: rand::random_range(20..=60).to_string() }
}
