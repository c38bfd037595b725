//! A page with a socket: its calls, and the frames that wait to be sent.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tandem_clients::User;
use tandem_id::LegId;
use tandem_leg::signal::{SignalCommand, SignalEnd, SignalEndCause, SignalEvent};
use tandem_legs::browser::{Ringing, WebCall, WebPhone};
use tandem_runtime::Calls;
use tokio::sync::{Notify, mpsc};

use crate::{CalledBy, Line, Lines, NewLine, Protocol};

/// Maximum number of calls of one page.
const MAX_LINES: usize = 16;
/// Maximum number of frames that wait for the network. If there are more, the socket is closed.
pub const MAX_WAITING: usize = 256;

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
    /// The queue of the socket.
    pub out: mpsc::Sender<String>,
}

/// A page that is connected.
pub struct Page {
    spec: PageSpec,
    /// Notified when a frame was lost. The socket is closed then, because the page would miss the frame.
    overflow: Notify,
    lines: Mutex<Vec<Arc<Line>>>,
    /// A ringing call names its page.
    own: Weak<Page>,
}

impl Page {
    /// Creates the page of a socket.
    pub fn new(spec: PageSpec) -> Arc<Self> {
        Arc::new_cyclic(|own| Self { spec, overflow: Notify::new(), lines: Mutex::default(), own: own.clone() })
    }

    /// The user of the page.
    pub fn user(&self) -> &User {
        &self.spec.user
    }

    pub(crate) fn session(&self) -> &Arc<str> {
        &self.spec.session
    }

    pub(crate) fn parts(&self) -> (Calls, Lines, Arc<dyn Protocol>) {
        (self.spec.calls.clone(), self.spec.lines.clone(), Arc::clone(&self.spec.protocol))
    }

    /// Sends a frame. If too many frames wait, the frame is lost, and the socket is closed.
    pub fn send(&self, frame: String) {
        if self.spec.out.try_send(frame).is_err() {
            self.overflow.notify_one();
        }
    }

    /// Waits until a frame was lost.
    pub async fn overflows(&self) {
        self.overflow.notified().await;
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

    /// Tells each call that the socket is lost.
    pub fn lose(&self) {
        let lines = std::mem::take(&mut *self.lines.lock());
        lines.iter().for_each(|line| line.lost(self));
    }

    /// Creates a call of this page.
    pub fn new_line(self: &Arc<Self>, new: NewLine) -> Arc<Line> {
        Line::new(new, self)
    }
}

impl WebPhone for Page {
    fn ring(&self, ringing: Ringing) -> Arc<dyn WebCall> {
        let (leg, signals) = (ringing.leg, ringing.branch);
        let Some(page) = self.own.upgrade().filter(|page| page.has_room() && !self.spec.out.is_closed()) else {
            let end = SignalEnd { status: Some(486), ..SignalEnd::of(SignalEndCause::Refused) };
            self.spec.calls.signal_of_page(signals, SignalEvent::Ended(Box::new(end)));
            return Arc::new(NoCall);
        };
        let (called_by, id) = (CalledBy::Server, (self.spec.id_of)(leg, signals));
        let line = page.new_line(NewLine { called_by, leg, signals, id, page_id: None, sdp: None });
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
