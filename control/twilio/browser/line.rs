//! One call of a page: the far end of a leg. Orders of the leg become frames, and frames of the page become signals.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tandem_call::header_fields::HeaderFields;
use tandem_clients::User;
use tandem_id::LegId;
use tandem_leg::signal::{SignalCommand, SignalEnd, SignalEndCause, SignalEvent};
use tandem_legs::browser::WebCall;
use tandem_runtime::Calls;

use super::super::sid;
use super::page::Page;
use super::{Lines, frame};

/// Maximum number of frames that wait for a new socket of the page. Further frames are dropped.
const MAX_HELD: usize = 32;
/// The SDK's code for a media connection that cannot be continued.
const NOT_CONTINUED: u32 = 31_005;

/// The party that has made the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CalledBy {
    /// The page has called.
    Page,
    /// This server has called the page.
    Server,
}

/// A call of a page.
pub(super) struct Line {
    calls: Calls,
    lines: Lines,
    user: User,
    called_by: CalledBy,
    /// The SID of the call, as the page gets it.
    sid: String,
    /// The token with which the page takes up the call over a new socket.
    reconnect: Arc<str>,
    state: Mutex<State>,
}

struct State {
    /// The leg, or the branch of the leg.
    id: LegId,
    /// The page's own id of the call.
    temporary: Option<String>,
    /// The socket over which the page is reached. `None` if the socket was lost.
    page: Option<Arc<Page>>,
    /// Frames for the next socket.
    held: Vec<String>,
    phase: Phase,
    /// The frame that makes the page ring.
    invite: Option<String>,
    /// Whether the page has our answer already, for early media.
    has_answer: bool,
    /// The frame of the page that waits for our answer.
    waiting: Option<Waiting>,
    /// The identity of the page's media connection.
    media: Option<MediaIdentity>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ringing,
    Answered,
    Over,
}

/// An offer of the page that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The page restarts ICE.
    Reinvite,
    /// The page was reloaded, and has a new media connection.
    Resume,
}

/// The ICE user name and the certificate of a media connection. Both are equal if the connection is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MediaIdentity(Option<String>, Option<String>);

impl MediaIdentity {
    fn of(sdp: &str) -> Self {
        let value = |name: &str| sdp.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        Self(value("a=ice-ufrag:"), value("a=fingerprint:"))
    }
}

/// The things that a new call needs.
pub(super) struct NewLine {
    pub(super) calls: Calls,
    pub(super) lines: Lines,
    pub(super) user: User,
    pub(super) called_by: CalledBy,
    pub(super) sid: String,
    /// The leg, or the branch of the leg.
    pub(super) id: LegId,
    /// The page's own id of the call.
    pub(super) temporary: Option<String>,
    /// The description of the page, if it has made the offer.
    pub(super) sdp: Option<String>,
}

impl Line {
    /// Creates a call of this page. The page and the table of calls know the call until it ends.
    pub(super) fn new(new: NewLine, page: &Arc<Page>) -> Arc<Self> {
        let NewLine { calls, lines, user, called_by, sid, id, temporary, sdp } = new;
        let reconnect: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
        let state = State {
            id,
            temporary,
            page: Some(Arc::clone(page)),
            held: Vec::new(),
            phase: Phase::Ringing,
            invite: None,
            has_answer: false,
            waiting: None,
            media: sdp.as_deref().map(MediaIdentity::of),
        };
        let line = Arc::new(Self { calls, lines, user, called_by, sid, reconnect, state: Mutex::new(state) });
        line.lines.add(&line);
        page.add(&line);
        if called_by == CalledBy::Page {
            line.calls.services().pages.add_call(id, line.clone());
        }
        line
    }

    pub(super) fn reconnect(&self) -> &Arc<str> {
        &self.reconnect
    }

    /// The SID of the call.
    pub(super) fn sid(&self) -> &str {
        &self.sid
    }

    pub(super) fn user(&self) -> &User {
        &self.user
    }

    /// Whether the page knows the call by this id.
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.sid == id || self.state.lock().temporary.as_deref() == Some(id)
    }

    /// The leg, or the branch of the leg.
    pub(super) fn leg(&self) -> LegId {
        self.state.lock().id
    }

    /// Lets the page ring. `parameters` are those of the call, as the page shows them.
    pub(super) fn ring(&self, offer: &Bytes, parameters: &Value) {
        let offer = String::from_utf8_lossy(offer);
        let payload = json!({
            "callsid": self.sid, "sdp": offer, "parameters": parameters, "reconnect": self.reconnect,
        });
        let invite = frame::write("invite", &payload);
        self.state.lock().invite = Some(invite.clone());
        self.to_page(invite);
        // The SDK does not say that the page rings.
        self.signal(SignalEvent::Ringing { status: 180, sdp: None });
    }

    /// Tells the page the SID of the call that it has made.
    pub(super) fn tell_sid(&self) {
        self.to_page(frame::write("ringing", &json!({ "callsid": self.sid })));
    }

    // ---- frames of the page ----

    /// The page has accepted the call.
    pub(super) fn answered(&self, sdp: String) {
        {
            let mut state = self.state.lock();
            if self.called_by == CalledBy::Page || state.phase != Phase::Ringing {
                return;
            }
            state.phase = Phase::Answered;
            state.media = Some(MediaIdentity::of(&sdp));
        }
        self.signal(SignalEvent::Accepted { sdp: Some(sdp.into()), headers: HeaderFields::new(), dialog: None });
    }

    /// The page makes a new offer on an answered call, to restart ICE.
    pub(super) fn reinvited(&self, sdp: String) {
        self.offered(sdp, Waiting::Reinvite);
    }

    /// The page has hung up.
    pub(super) fn hung_up(&self) {
        let cause = match self.state.lock().phase {
            Phase::Ringing => SignalEndCause::Cancelled,
            Phase::Answered | Phase::Over => SignalEndCause::HungUp,
        };
        self.end(SignalEnd::of(cause));
    }

    /// The page has refused the call. Other pages and phones of the user go on ringing.
    pub(super) fn refused(&self) {
        self.end(SignalEnd { status: Some(486), ..SignalEnd::of(SignalEndCause::Refused) });
    }

    /// The page presses keys.
    pub(super) fn pressed(&self, digits: &str) {
        for digit in digits.chars().filter(|c| c.is_ascii_digit() || "*#ABCD".contains(*c)) {
            self.signal(SignalEvent::Digit(digit));
        }
    }

    /// The socket of the page is lost. The call goes on, and waits for the page. A call of the page that was not answered
    /// ends, because the page has no reconnect token before the answer.
    pub(super) fn lost(&self) {
        let phase = {
            let mut state = self.state.lock();
            state.page = None;
            state.phase
        };
        match (phase, self.called_by) {
            (Phase::Over, _) => {}
            (Phase::Ringing, CalledBy::Page) => self.end(SignalEnd::of(SignalEndCause::Cancelled)),
            _ => self.signal(SignalEvent::Lost),
        }
    }

    /// The page takes up the call over this socket. A description of another media connection is an offer, because the
    /// page was reloaded. A description that answers our ringing accepts the call, because the socket was lost with the
    /// acceptance.
    pub(super) fn resumed(self: &Arc<Self>, page: &Arc<Page>, sdp: String) {
        self.attach(page);
        let media = MediaIdentity::of(&sdp);
        let (phase, is_same) = {
            let state = self.state.lock();
            (state.phase, state.media.as_ref() == Some(&media))
        };
        match phase {
            Phase::Over => {}
            Phase::Ringing if self.called_by == CalledBy::Server => {
                self.answered(sdp);
                self.tell_resumed(None);
            }
            _ if is_same => self.tell_resumed(None),
            Phase::Ringing => self.fail(),
            Phase::Answered => self.offered(sdp, Waiting::Resume),
        }
    }

    /// Rings again at a page whose socket was lost, if it still rings.
    pub(super) fn ring_again(self: &Arc<Self>, page: &Arc<Page>) {
        let invite = {
            let state = self.state.lock();
            if state.page.is_some() || state.phase != Phase::Ringing || self.called_by == CalledBy::Page {
                return;
            }
            state.invite.clone()
        };
        self.attach(page);
        invite.into_iter().for_each(|invite| self.to_page(invite));
    }

    // ---- common parts ----

    fn attach(self: &Arc<Self>, page: &Arc<Page>) {
        let (before, held) = {
            let mut state = self.state.lock();
            (state.page.replace(Arc::clone(page)), std::mem::take(&mut state.held))
        };
        match before {
            // The page knows of the lost socket before this server does.
            Some(before) => before.forget(self),
            None => self.signal(SignalEvent::Resumed),
        }
        page.add(self);
        held.into_iter().for_each(|frame| self.to_page(frame));
    }

    fn tell_resumed(&self, sdp: Option<&str>) {
        let mut payload = json!({ "callsid": self.sid, "reconnect": self.reconnect });
        if let (Some(sdp), Some(fields)) = (sdp, payload.as_object_mut()) {
            fields.insert("sdp".to_owned(), sdp.into());
        }
        self.to_page(frame::write("answer", &payload));
    }

    fn offered(&self, sdp: String, waiting: Waiting) {
        {
            let mut state = self.state.lock();
            if state.phase != Phase::Answered {
                return;
            }
            state.waiting = Some(waiting);
            state.media = Some(MediaIdentity::of(&sdp));
        }
        self.signal(SignalEvent::Offered { sdp: Some(sdp.into()), refusable: true });
    }

    /// Ends a call whose media connection cannot be continued.
    fn fail(&self) {
        self.to_page(self.hangup(Some((NOT_CONTINUED, "the media connection cannot be continued"))));
        self.end(SignalEnd::of(SignalEndCause::HungUp));
    }

    fn hangup(&self, error: Option<(u32, &str)>) -> String {
        let payload = match error {
            Some((code, message)) => json!({ "callsid": self.sid, "error": { "code": code, "message": message } }),
            None => json!({ "callsid": self.sid }),
        };
        frame::write("hangup", &payload)
    }

    fn to_page(&self, frame: String) {
        let mut state = self.state.lock();
        match &state.page {
            Some(page) => page.send(frame),
            None if state.held.len() < MAX_HELD => state.held.push(frame),
            None => tracing::warn!(call = self.sid, "a frame for a page that is not connected was dropped"),
        }
    }

    fn signal(&self, event: SignalEvent) {
        let id = self.state.lock().id;
        self.calls.signal_of_page(id, event);
    }

    fn end(&self, end: SignalEnd) {
        let page = {
            let mut state = self.state.lock();
            if state.phase == Phase::Over {
                return;
            }
            state.phase = Phase::Over;
            state.page.take()
        };
        self.lines.remove(&self.reconnect);
        self.calls.services().pages.remove_call(self.leg());
        page.iter().for_each(|page| page.forget(self));
        self.signal(SignalEvent::Ended(Box::new(end)));
    }

    fn is_over(&self) -> bool {
        self.state.lock().phase == Phase::Over
    }
}

impl WebCall for Line {
    fn send(&self, order: SignalCommand) {
        if self.is_over() {
            return;
        }
        match order {
            SignalCommand::Ring { sdp, .. } => {
                let mut payload = json!({ "callsid": self.sid });
                if let (Some(sdp), Some(fields)) = (sdp, payload.as_object_mut()) {
                    fields.insert("sdp".to_owned(), String::from_utf8_lossy(&sdp).into());
                    self.state.lock().has_answer = true;
                }
                self.to_page(frame::write("ringing", &payload));
            }
            SignalCommand::Accept { sdp, .. } => {
                let has_answer = {
                    let mut state = self.state.lock();
                    state.phase = Phase::Answered;
                    std::mem::replace(&mut state.has_answer, true)
                };
                let sdp = String::from_utf8_lossy(&sdp);
                self.tell_resumed(Some(&*sdp).filter(|_| !has_answer));
            }
            SignalCommand::Refuse { status, .. } => {
                self.to_page(self.hangup(Some(refusal(status))));
                self.end(SignalEnd::of(SignalEndCause::Local));
            }
            SignalCommand::End { .. } => {
                let rings = self.state.lock().phase == Phase::Ringing && self.called_by == CalledBy::Server;
                match rings {
                    true => self.to_page(frame::write("cancel", &json!({ "callsid": self.sid }))),
                    false => self.to_page(self.hangup(None)),
                }
                self.end(SignalEnd::of(SignalEndCause::Local));
            }
            SignalCommand::Answer { sdp } => {
                let waiting = self.state.lock().waiting.take();
                let sdp = String::from_utf8_lossy(&sdp);
                match waiting {
                    Some(Waiting::Reinvite) => {
                        self.to_page(frame::write("answer", &json!({ "callsid": self.sid, "sdp": sdp })));
                    }
                    Some(Waiting::Resume) => self.tell_resumed(Some(&*sdp)),
                    None => {}
                }
            }
            SignalCommand::RefuseOffer { .. } => {
                // The page repeats a refused restart of ICE. A reloaded page has no other media.
                if self.state.lock().waiting.take() == Some(Waiting::Resume) {
                    self.fail();
                }
            }
            // The protocol has no offer to the page, and no transfer.
            SignalCommand::Offer { .. } => self.signal(SignalEvent::OfferRefused { status: 488 }),
            SignalCommand::Refer { .. } => self.signal(SignalEvent::ReferAnswered { status: 501 }),
            SignalCommand::Message { content_type, body } => {
                let payload = json!({
                    "callsid": self.sid,
                    "content": serde_json::from_slice::<Value>(&body).unwrap_or_default(),
                    "contenttype": content_type,
                    "messagetype": "user-defined-message",
                    "voiceeventsid": sid::spell("KX", rand::random()),
                });
                self.to_page(frame::write("message", &payload));
            }
            SignalCommand::Digit { .. } | SignalCommand::AnswerRefer { .. } | SignalCommand::NotifyRefer { .. } => {}
        }
    }

    fn adopt(self: Arc<Self>, leg: LegId) {
        self.state.lock().id = leg;
        self.calls.services().pages.add_call(leg, self.clone());
    }
}

/// Returns the SDK's code and text for the status of a refused call.
fn refusal(status: u16) -> (u32, &'static str) {
    match status {
        403 => (31_002, "the call was declined"),
        404 => (31_404, "not found"),
        408 => (31_003, "timeout"),
        480 => (31_480, "temporarily unavailable"),
        486 | 600 => (31_486, "busy"),
        603 => (31_603, "declined"),
        488 | 500..=599 => (31_005, "the server cannot take the call"),
        _ => (31_000, "the call was refused"),
    }
}
