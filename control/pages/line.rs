//! One call of a page: the far end of a leg. Orders of the leg become frames, and frames of the page become signals.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tandem_call::header_fields::HeaderFields;
use tandem_call::route::Route;
use tandem_clients::User;
use tandem_host::clock;
use tandem_id::LegId;
use tandem_leg::ELSEWHERE;
use tandem_leg::signal::{Caller, Identity, IncomingCall, SignalCommand, SignalEnd, SignalEndCause, SignalEvent};
use tandem_legs::browser::{Ringing, WebCall};
use tandem_runtime::Calls;

use crate::description::{has_same_media, redirected};
use crate::ends::SessionKey;
use crate::protocol::{CalledBy, End, Facts, PageOffer, Protocol};
use crate::{Lines, Page};

/// Maximum number of frames that wait for a new socket of the page. Further frames are dropped.
const MAX_HELD: usize = 32;
/// Maximum number of offers of a page that wait for an answer. Further offers are refused.
const MAX_WAITING_OFFERS: usize = 8;

/// A call of a page.
pub struct Line {
    calls: Calls,
    lines: Lines,
    protocol: Arc<dyn Protocol>,
    user: User,
    facts: Facts,
    /// The page's own id of the call, if it differs from the id in frames.
    page_id: Option<String>,
    state: Mutex<State>,
}

struct State {
    /// The leg, or the branch of the leg.
    id: LegId,
    /// The socket over which the page is reached. `None` if the socket was lost.
    page: Option<Arc<Page>>,
    /// The session of the page that has the call, or had it last.
    session: SessionKey,
    /// Frames for the next socket.
    held: Vec<String>,
    phase: Phase,
    /// The call that rings at the page.
    ringing: Option<Box<Ringing>>,
    /// Whether the page has our answer already, for early media.
    has_answer: bool,
    /// The offers of the page that wait for our answers, in order. The leg answers each of them once.
    waiting: VecDeque<PageOffer>,
    /// The newest description of the page.
    sdp: Option<String>,
    /// Whether the call is the far end of the leg, and not only a branch that rings.
    is_adopted: bool,
    /// Whether the page holds the call.
    is_held: bool,
    /// The number of descriptions that this server has written in the name of the page.
    rewritten: u64,
}

impl State {
    /// Takes a description of the page. Returns it as the leg gets it: the page knows nothing of a hold in its descriptions.
    fn take(&mut self, sdp: String) -> String {
        let shown = if self.is_held { self.redirected(&sdp) } else { sdp.clone() };
        self.sdp = Some(sdp);
        shown
    }

    /// Returns a description of the page with the direction that the call has now.
    fn redirected(&mut self, sdp: &str) -> String {
        self.rewritten += 1;
        redirected(sdp, self.is_held, self.rewritten)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ringing,
    Answered,
    Over,
}

/// The parts of a new call.
pub(crate) struct NewLine {
    pub(crate) called_by: CalledBy,
    /// The leg.
    pub(crate) leg: LegId,
    /// The id of the call's signals: the leg, or the branch of the leg that rings at the page.
    pub(crate) signals: LegId,
    /// The id of the call in frames.
    pub(crate) id: String,
    /// The page's own id of the call, if it differs.
    pub(crate) page_id: Option<String>,
    /// The offer of the page, if the page has called.
    pub(crate) sdp: Option<String>,
}

/// A call that a page makes: who calls whom, and what the application gets.
pub struct PageCall {
    /// The address of the page.
    pub peer: SocketAddr,
    /// The transport of the page's signalling, for the log: `WSS`.
    pub transport: &'static str,
    /// How the page has identified itself.
    pub identity: Identity,
    /// The URI of the caller.
    pub from_uri: String,
    /// The user of this URI.
    pub from_user: String,
    /// The display name of the caller.
    pub from_display: Option<String>,
    /// The called URI.
    pub to_uri: String,
    /// The user of this URI.
    pub to_user: String,
    /// The call for the log: `invite ... -> ...`.
    pub line: String,
    /// The page's id of the call.
    pub signalling_id: String,
    /// The header fields of the page.
    pub headers: HeaderFields,
    /// The parameters for the application.
    pub parameters: Vec<(String, String)>,
    /// A text of the page that the application gets with each event of the leg.
    pub client_state: Option<String>,
    /// The route, if the page has chosen one. Without it, the called number decides.
    pub route: Option<Route>,
}

impl Line {
    /// Creates a call of this page. The page and the table of calls know the call until it ends.
    pub(crate) fn new(new: NewLine, page: &Arc<Page>) -> Arc<Self> {
        let NewLine { called_by, leg, signals, id, page_id, sdp } = new;
        let token: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
        let state = State {
            id: signals,
            page: Some(Arc::clone(page)),
            session: page.session().clone(),
            held: Vec::new(),
            phase: Phase::Ringing,
            ringing: None,
            has_answer: false,
            waiting: VecDeque::new(),
            sdp,
            is_adopted: called_by == CalledBy::Page,
            is_held: false,
            rewritten: 0,
        };
        let (calls, lines, protocol) = page.parts();
        let facts = Facts { leg, id, called_by, token, end_id: rand::random() };
        let (user, state) = (page.user().clone(), Mutex::new(state));
        let line = Arc::new(Self { calls, lines, protocol, user, facts, page_id, state });
        line.lines.add(&line);
        page.add(&line);
        if called_by == CalledBy::Page {
            line.calls.services().pages.add_call(leg, line.clone());
        }
        line
    }

    /// The secret that names the call.
    pub(crate) fn token(&self) -> &Arc<str> {
        &self.facts.token
    }

    /// The user of the page.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Whether the call is of this session.
    pub(crate) fn is_of(&self, session: &SessionKey) -> bool {
        self.state.lock().session == *session
    }

    /// The facts for frames.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether the page knows the call by this id.
    pub fn has_id(&self, id: &str) -> bool {
        self.facts.id == id || self.page_id.as_deref() == Some(id)
    }

    /// Whether this page may take up the call: it is answered, and its socket is lost. With `reconnects`, the page says that
    /// it has lost its socket, which this server may not have noticed yet.
    pub(crate) fn can_be_taken_by(&self, page: &Arc<Page>, reconnects: bool) -> bool {
        let state = self.state.lock();
        let is_free = match &state.page {
            None => true,
            Some(own) => reconnects && !Arc::ptr_eq(own, page),
        };
        is_free && state.phase == Phase::Answered
    }

    /// Makes the call that the page has asked for: admits it, or refuses it.
    pub fn make(self: Arc<Self>, call: PageCall) {
        let PageCall { peer, transport, identity, from_uri, from_user, from_display, to_uri, to_user, .. } = call;
        let PageCall { line, signalling_id, headers, parameters, client_state, route, .. } = call;
        let incoming = IncomingCall {
            request_uri: to_uri.clone(),
            to_uri,
            from_uri,
            from_user,
            from_display,
            to_user,
            line,
            signalling_id,
            source: peer,
            transport,
            is_secure: true,
            trunk: None,
            caller: Some(Caller { account: self.user().account.clone(), identity }),
            headers,
            parameters,
            client_state,
            offer: self.state.lock().sdp.clone().map(Into::into),
            replaces: None,
            dialog: None,
        };
        self.calls.clone().call_of_page(self.facts.leg, self, incoming, route);
    }

    /// Refuses the call of the page without a record, because the page may not make it.
    pub fn refuse(&self, end: &End) {
        self.end_by_order(end);
    }

    /// Lets the page ring.
    pub(crate) fn ring(&self, ringing: Ringing) {
        let frames = self.protocol.ring(&self.facts, &ringing);
        self.state.lock().ringing = Some(Box::new(ringing));
        self.to_page(frames);
        // No SDK says that the page rings.
        self.signal(SignalEvent::Ringing { status: 180, sdp: None });
    }

    // ---- frames of the page ----

    /// The page has accepted the call, with these header fields.
    pub fn answered(&self, sdp: String, mut headers: HeaderFields) {
        {
            let mut state = self.state.lock();
            if self.facts.called_by == CalledBy::Page || state.phase != Phase::Ringing {
                return;
            }
            state.phase = Phase::Answered;
            state.sdp = Some(sdp.clone());
            // An SDK repeats the header fields of the call.
            let rung = state.ringing.take().map(|ringing| ringing.headers).unwrap_or_default();
            headers.retain(|field| !rung.iter().any(|own| own == field));
        }
        self.signal(SignalEvent::Accepted { sdp: Some(sdp.into()), headers, dialog: None });
    }

    /// The page makes a new offer on an answered call. Returns whether an answer follows.
    pub fn offered(&self, sdp: String, offer: PageOffer) -> bool {
        let mut state = self.state.lock();
        if state.phase != Phase::Answered || state.waiting.len() >= MAX_WAITING_OFFERS {
            return false;
        }
        if offer == PageOffer::Resume {
            state.is_held = false;
        }
        let shown = state.take(sdp);
        state.waiting.push_back(offer);
        self.post(&state, SignalEvent::Offered { sdp: Some(shown.into()), refusable: true });
        true
    }

    /// The page holds the call (`true`), or takes it up again. `request` is the id of the page's request. The protocol has
    /// no description for it, so this server writes the offer that a phone would send. Returns whether an answer follows.
    pub fn hold(&self, request: Value, held: Option<bool>) -> bool {
        let mut state = self.state.lock();
        let (Phase::Answered, Some(sdp)) = (state.phase, state.sdp.clone()) else { return false };
        if state.waiting.len() >= MAX_WAITING_OFFERS {
            return false;
        }
        let held = held.unwrap_or(!state.is_held);
        state.is_held = held;
        let shown = state.redirected(&sdp);
        state.waiting.push_back(PageOffer::Hold(request, held));
        self.post(&state, SignalEvent::Offered { sdp: Some(shown.into()), refusable: true });
        true
    }

    /// The page has answered the offer that it wanted. Only now is the call taken up.
    pub fn attached(&self, sdp: String) {
        let mut state = self.state.lock();
        if state.phase != Phase::Answered {
            return;
        }
        let shown = state.take(sdp);
        self.post(&state, SignalEvent::Resumed);
        self.post(&state, SignalEvent::Acknowledged { sdp: Some(shown.into()) });
    }

    /// The page ends the call: it refuses the call that rings, gives up its own call, or hangs up. If it refuses, other pages
    /// and phones of the user go on ringing.
    pub fn left(&self) {
        let phase = self.state.lock().phase;
        let end = match (phase, self.facts.called_by) {
            (Phase::Ringing, CalledBy::Server) => {
                SignalEnd { status: Some(486), ..SignalEnd::of(SignalEndCause::Refused) }
            }
            (Phase::Ringing, CalledBy::Page) => SignalEnd::of(SignalEndCause::Cancelled),
            (Phase::Answered | Phase::Over, _) => SignalEnd::of(SignalEndCause::HungUp),
        };
        self.end(end, Vec::new());
    }

    /// The page presses keys.
    pub fn pressed(&self, digits: &str) {
        for digit in digits.chars().filter(|c| c.is_ascii_digit() || "*#ABCD".contains(*c)) {
            self.signal(SignalEvent::Digit(digit));
        }
    }

    /// The socket of this page is lost. The call goes on, and waits for the page. A call of the page that was not answered
    /// ends. If the page has taken up the call over another socket, nothing changes.
    pub(crate) fn lost(&self, of: &Page) {
        let ends = {
            let mut state = self.state.lock();
            if state.page.as_ref().is_none_or(|page| !std::ptr::eq(&**page, of)) {
                return;
            }
            state.page = None;
            let ends = state.phase == Phase::Ringing && self.facts.called_by == CalledBy::Page;
            if state.phase != Phase::Over && !ends {
                self.post(&state, SignalEvent::Lost);
            }
            ends
        };
        if ends {
            // The page learns the end when it is back, if its session survives the socket.
            let frames = self.protocol.ended(&self.facts, &End::Cancelled { answered_elsewhere: false });
            self.end(SignalEnd::of(SignalEndCause::Cancelled), frames);
        }
    }

    /// The page takes up the call over this socket. A description of another media connection is an offer, because the
    /// page was reloaded. A description that answers our ringing accepts the call, because the socket was lost with the
    /// acceptance.
    pub fn resume(self: &Arc<Self>, page: &Arc<Page>, sdp: String) {
        if !self.take_over(page, true) {
            return;
        }
        let (phase, is_same) = {
            let state = self.state.lock();
            (state.phase, state.sdp.as_deref().is_some_and(|known| has_same_media(known, &sdp)))
        };
        match phase {
            Phase::Over => {}
            Phase::Ringing if self.facts.called_by == CalledBy::Server => {
                self.answered(sdp, HeaderFields::new());
                self.to_page(self.protocol.resumed(&self.facts));
            }
            _ if is_same => self.to_page(self.protocol.resumed(&self.facts)),
            Phase::Ringing => self.fail(),
            Phase::Answered => drop(self.offered(sdp, PageOffer::Resume)),
        }
    }

    /// The page takes up the call over this socket, and wants an offer for a new media connection.
    pub fn attach(self: &Arc<Self>, page: &Arc<Page>) {
        // The media connection of the page is closed, so the leg stays interrupted until the page has answered.
        if self.take_over(page, false) {
            let mut state = self.state.lock();
            state.waiting.push_back(PageOffer::Attach);
            self.post(&state, SignalEvent::Offered { sdp: None, refusable: true });
        }
    }

    /// The page takes up the call over this socket, and its media goes on.
    pub fn continue_over(self: &Arc<Self>, page: &Arc<Page>) {
        if self.take_over(page, true) {
            self.to_page(self.protocol.resumed(&self.facts));
        }
    }

    /// Rings again at a page whose socket was lost, if it still rings.
    pub(crate) fn ring_again(self: &Arc<Self>, page: &Arc<Page>) {
        let frames = {
            let state = self.state.lock();
            match &state.ringing {
                Some(ringing) if state.page.is_none() && state.phase == Phase::Ringing => {
                    self.protocol.ring(&self.facts, ringing)
                }
                _ => return,
            }
        };
        if self.take_over(page, true) {
            self.to_page(frames);
        }
    }

    // ---- common parts ----

    /// Reaches the page over this socket from now on. With `resumes`, the leg is no longer interrupted. Returns `false` if
    /// the call is over.
    fn take_over(self: &Arc<Self>, page: &Arc<Page>, resumes: bool) -> bool {
        let (before, held) = {
            let mut state = self.state.lock();
            if state.phase == Phase::Over {
                return false;
            }
            // A page that was reloaded may have another session.
            state.session = page.session().clone();
            let before = state.page.replace(Arc::clone(page));
            match (&before, resumes) {
                (None, true) => self.post(&state, SignalEvent::Resumed),
                // The page knows of the lost socket before this server does.
                (Some(_), false) => self.post(&state, SignalEvent::Lost),
                (None, false) | (Some(_), true) => {}
            }
            (before, std::mem::take(&mut state.held))
        };
        before.iter().filter(|before| !Arc::ptr_eq(before, page)).for_each(|before| before.forget(self));
        page.add(self);
        self.to_page(held);
        true
    }

    /// Ends a call whose media connection cannot be continued.
    fn fail(&self) {
        self.end(SignalEnd::of(SignalEndCause::HungUp), self.protocol.ended(&self.facts, &End::MediaLost));
    }

    fn to_page(&self, frames: Vec<String>) {
        for frame in frames {
            let mut state = self.state.lock();
            match &state.page {
                Some(page) => page.send(frame),
                None if state.held.len() < MAX_HELD => state.held.push(frame),
                None => tracing::warn!(call = self.facts.id, "a frame for a page that is not connected was dropped"),
            }
        }
    }

    fn signal(&self, event: SignalEvent) {
        self.post(&self.state.lock(), event);
    }

    /// Posts a signal. The state is locked, so that signals have the order of the changes. Posting never waits.
    fn post(&self, state: &State, event: SignalEvent) {
        self.calls.signal_of_page(state.id, event);
    }

    /// Ends the call. The page gets the frames, over this socket or a later one.
    fn end(&self, end: SignalEnd, frames: Vec<String>) {
        let (page, session, is_adopted) = {
            let mut state = self.state.lock();
            if state.phase == Phase::Over {
                return;
            }
            state.phase = Phase::Over;
            state.held.clear();
            (state.page.take(), state.session.clone(), state.is_adopted)
        };
        self.lines.remove(self.token());
        if session.is_lasting() && !frames.is_empty() {
            self.lines.ends().send(session, self.facts.end_id, frames, clock::now().instant);
        } else if let Some(page) = &page {
            frames.into_iter().for_each(|frame| page.send(frame));
        }
        if is_adopted {
            self.calls.services().pages.remove_call(self.facts.leg);
        }
        page.iter().for_each(|page| page.forget(self));
        self.signal(SignalEvent::Ended(Box::new(end)));
    }

    /// Ends the call by order of the leg.
    fn end_by_order(&self, end: &End) {
        self.end(SignalEnd::of(SignalEndCause::Local), self.protocol.ended(&self.facts, end));
    }

    fn describe(&self, sdp: Option<&str>) {
        let offer = {
            let mut state = self.state.lock();
            let Some(offer) = state.waiting.pop_front() else { return };
            if let (PageOffer::Hold(_, held), None) = (&offer, sdp) {
                state.is_held = !held;
            }
            offer
        };
        let is_lost = sdp.is_none() && matches!(offer, PageOffer::Resume | PageOffer::Attach);
        if is_lost { self.fail() } else { self.to_page(self.protocol.described(&self.facts, offer, sdp)) }
    }
}

impl WebCall for Line {
    fn send(&self, order: SignalCommand) {
        if self.state.lock().phase == Phase::Over {
            return;
        }
        match order {
            SignalCommand::Ring { sdp, .. } => {
                let sdp = sdp.as_deref().map(String::from_utf8_lossy);
                self.state.lock().has_answer |= sdp.is_some();
                self.to_page(self.protocol.progress(&self.facts, sdp.as_deref()));
            }
            SignalCommand::Accept { sdp, .. } => {
                let has_answer = {
                    let mut state = self.state.lock();
                    state.phase = Phase::Answered;
                    std::mem::replace(&mut state.has_answer, true)
                };
                let sdp = String::from_utf8_lossy(&sdp);
                self.to_page(self.protocol.accepted(&self.facts, Some(&*sdp).filter(|_| !has_answer)));
            }
            SignalCommand::Refuse { status, reason, .. } => self.end_by_order(&End::Refused { status, reason }),
            SignalCommand::End { reason, .. } => {
                let rings = self.state.lock().phase == Phase::Ringing && self.facts.called_by == CalledBy::Server;
                let answered_elsewhere = reason.as_deref() == Some(ELSEWHERE);
                self.end_by_order(&if rings { End::Cancelled { answered_elsewhere } } else { End::HungUp });
            }
            SignalCommand::Answer { sdp } => self.describe(Some(&String::from_utf8_lossy(&sdp))),
            SignalCommand::RefuseOffer { .. } => self.describe(None),
            SignalCommand::Message { content_type, body } => {
                self.to_page(self.protocol.message(&self.facts, &content_type, &body));
            }
            // No SDK takes an offer for its media connection, or a transfer.
            SignalCommand::Offer { .. } => self.signal(SignalEvent::OfferRefused { status: 488 }),
            SignalCommand::Refer { .. } => self.signal(SignalEvent::ReferAnswered { status: 501 }),
            SignalCommand::Digit { .. } | SignalCommand::AnswerRefer { .. } | SignalCommand::NotifyRefer { .. } => {}
        }
    }

    fn adopt(self: Arc<Self>, leg: LegId) {
        let mut state = self.state.lock();
        state.id = leg;
        state.is_adopted = true;
        if state.phase != Phase::Over {
            self.calls.services().pages.add_call(leg, self.clone());
        }
    }
}
