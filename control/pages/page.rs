//! A page with a socket: its calls, and the frames that wait to be sent.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde_json::Value;
use tandem_clients::User;
use tandem_host::clock;
use tandem_id::LegId;
use tandem_leg::signal::{SignalCommand, SignalEnd, SignalEndCause, SignalEvent};
use tandem_legs::browser::{Ringing, WebCall, WebPhone};
use tandem_runtime::Calls;

use crate::ends::{Ends, SessionKey};
use crate::socket::Outbox;
use crate::{CalledBy, Line, Lines, NewLine, Protocol};

/// Maximum number of calls of one page.
const MAX_LINES: usize = 16;

/// The parts of a page.
pub struct PageSpec {
    /// All calls of the server.
    pub calls: Calls,
    /// The calls of all pages of the protocol.
    pub lines: Lines,
    /// The protocol of the page's SDK.
    pub protocol: Arc<dyn Protocol>,
    /// Returns the id in frames for a call that rings at the page, from the leg and the branch.
    pub id_of: fn(LegId, LegId) -> String,
    /// The id of the page's session, which survives the socket. Empty if the protocol has none.
    pub session: Arc<str>,
    /// The user of the page.
    pub user: User,
    /// The frames for the page.
    pub out: Outbox,
}

/// A page that is connected.
pub struct Page {
    spec: PageSpec,
    session: SessionKey,
    lines: Mutex<Vec<Arc<Line>>>,
    /// A ringing call names its page.
    own: Weak<Page>,
}

impl Page {
    /// Creates the page of a socket.
    pub fn new(spec: PageSpec) -> Arc<Self> {
        let session = SessionKey { user: spec.user.clone(), id: Arc::clone(&spec.session) };
        Arc::new_cyclic(|own| Self { spec, session, lines: Mutex::default(), own: own.clone() })
    }

    /// The user of the page.
    pub fn user(&self) -> &User {
        &self.spec.user
    }

    pub(crate) fn session(&self) -> &SessionKey {
        &self.session
    }

    /// The ends of calls, if the session survives the socket.
    fn ends(&self) -> Option<&Ends> {
        self.session.is_lasting().then(|| self.spec.lines.ends())
    }

    pub(crate) fn parts(&self) -> (Calls, Lines, Arc<dyn Protocol>) {
        (self.spec.calls.clone(), self.spec.lines.clone(), Arc::clone(&self.spec.protocol))
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.spec.calls
    }

    /// Sends a frame.
    pub fn send(&self, frame: String) {
        self.spec.out.send(frame);
    }

    /// Returns the calls of the page's session that this page may take up. With `reconnects`, the page says that it has lost
    /// its socket, which this server may not have noticed yet.
    pub fn lost_calls(self: &Arc<Self>, reconnects: bool) -> Vec<Arc<Line>> {
        let mut lost = self.spec.lines.of_user(self.user());
        lost.retain(|line| line.is_of(&self.session) && line.can_be_taken_by(self, reconnects));
        lost
    }

    /// Rings again for the calls that rang at a page of the user whose socket was lost.
    pub fn ring_again(self: &Arc<Self>) {
        self.spec.lines.of_user(self.user()).iter().for_each(|line| line.ring_again(self));
    }

    /// Rings again for the calls that rang at this page before it lost its socket: the calls of its session.
    pub fn ring_again_in_session(self: &Arc<Self>) {
        let mut own = self.spec.lines.of_user(self.user());
        own.retain(|line| line.is_of(&self.session));
        own.iter().for_each(|line| line.ring_again(self));
    }

    /// From now on, the page learns the end of each call of its session, even if it has the call from an earlier socket.
    pub(crate) fn open(&self) {
        self.ends().iter().for_each(|ends| ends.open(self.session.clone(), &self.spec.out));
    }

    /// Sends the ends of calls that the pages of the session have not confirmed.
    pub fn send_ends_again(&self) {
        let now = clock::now().instant;
        self.ends().iter().for_each(|ends| ends.send_again(&self.session, &self.spec.out, now));
    }

    /// The page has answered the request with this id.
    pub fn confirmed(&self, id: &Value) {
        if let (Some(ends), Some(id)) = (self.ends(), id.as_u64().and_then(|id| u32::try_from(id).ok())) {
            ends.confirm(&self.session, id);
        }
    }

    pub(crate) fn add(&self, line: &Arc<Line>) {
        let mut lines = self.lines.lock();
        if !lines.iter().any(|one| Arc::ptr_eq(one, line)) {
            lines.push(Arc::clone(line));
        }
    }

    pub(crate) fn forget(&self, line: &Line) {
        self.lines.lock().retain(|one| !std::ptr::eq(&**one, line));
    }

    /// Returns the call with this id.
    pub fn line(&self, id: &str) -> Option<Arc<Line>> {
        self.lines.lock().iter().find(|line| line.has_id(id)).cloned()
    }

    /// Whether the page can have another call.
    pub fn has_room(&self) -> bool {
        self.lines.lock().len() < MAX_LINES
    }

    /// Ends each call, because nobody will take it up over another socket.
    pub fn leave(&self) {
        let lines = self.lines.lock().clone();
        lines.iter().for_each(|line| line.left());
    }

    /// Tells each call that the socket is lost.
    pub(crate) fn lose(&self) {
        self.ends().iter().for_each(|ends| ends.close(&self.session, &self.spec.out));
        let lines = std::mem::take(&mut *self.lines.lock());
        lines.iter().for_each(|line| line.lost(self));
    }

    /// Creates a call that the page makes. `id_of` returns its id in frames. `page_id` is the page's own id of the call, if it
    /// differs.
    pub fn new_call(
        self: &Arc<Self>,
        id_of: impl FnOnce(LegId) -> String,
        page_id: Option<String>,
        sdp: String,
    ) -> Arc<Line> {
        let leg = LegId::new(clock::time(), &mut rand::rng());
        let (called_by, id, sdp) = (CalledBy::Page, id_of(leg), Some(sdp));
        Line::new(NewLine { called_by, leg, signals: leg, id, page_id, sdp }, self)
    }
}

impl WebPhone for Page {
    fn sdk(&self) -> &str {
        self.spec.protocol.name()
    }

    fn ring(&self, ringing: Ringing) -> Arc<dyn WebCall> {
        let (leg, signals) = (ringing.leg, ringing.branch);
        let Some(page) = self.own.upgrade().filter(|page| page.has_room() && !self.spec.out.is_closed()) else {
            let end = SignalEnd { status: Some(486), ..SignalEnd::of(SignalEndCause::Refused) };
            self.spec.calls.signal_of_page(signals, SignalEvent::Ended(Box::new(end)));
            return Arc::new(NoCall);
        };
        let (called_by, id) = (CalledBy::Server, (self.spec.id_of)(leg, signals));
        let line = Line::new(NewLine { called_by, leg, signals, id, page_id: None, sdp: None }, &page);
        line.ring(ringing);
        line
    }
}

/// A call that never began.
struct NoCall;

impl WebCall for NoCall {
    fn send(&self, _: SignalCommand) {}

    fn adopt(self: Arc<Self>, _: LegId) {}
}
