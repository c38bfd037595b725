//! A page with a socket: its calls, and the frames that wait to be sent.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tandem_call::address::Address;
use tandem_clients::User;
use tandem_id::LegId;
use tandem_leg::signal::{SignalCommand, SignalEnd, SignalEndCause, SignalEvent};
use tandem_legs::browser::{Ringing, WebCall, WebPhone};
use tandem_runtime::Calls;
use tokio::sync::{Notify, mpsc};

use super::super::path;
use super::super::sid::Ids;
use super::line::{CalledBy, Line, NewLine};
use super::{Lines, frame};

/// Maximum number of calls of one page.
const MAX_LINES: usize = 16;
/// Maximum number of frames that wait for the network. If there are more, the socket is closed.
pub(super) const MAX_WAITING: usize = 256;

/// A page that is connected.
pub(super) struct Page {
    calls: Calls,
    table: Lines,
    user: User,
    account_sid: String,
    out: mpsc::Sender<String>,
    /// Notified when a frame was lost. The socket is closed then, because the page would miss the frame.
    overflow: Notify,
    lines: Mutex<Vec<Arc<Line>>>,
    /// Weak reference to itself, because a ringing call names its page.
    own: std::sync::Weak<Page>,
}

impl Page {
    /// Creates the page of a socket. Frames go to `out`.
    pub(super) fn new(
        calls: Calls,
        table: Lines,
        user: User,
        account_sid: String,
        out: mpsc::Sender<String>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|own| {
            let (overflow, lines, own) = (Notify::new(), Mutex::default(), own.clone());
            Self { calls, table, user, account_sid, out, overflow, lines, own }
        })
    }

    pub(super) fn user(&self) -> &User {
        &self.user
    }

    pub(super) fn account_sid(&self) -> &str {
        &self.account_sid
    }

    /// Sends a frame. If too many frames wait, the frame is lost, and the socket is closed.
    pub(super) fn send(&self, frame: String) {
        if self.out.try_send(frame).is_err() {
            self.overflow.notify_one();
        }
    }

    /// Waits until a frame was lost.
    pub(super) async fn overflows(&self) {
        self.overflow.notified().await;
    }

    pub(super) fn add(&self, line: &Arc<Line>) {
        self.lines.lock().push(Arc::clone(line));
    }

    pub(super) fn forget(&self, line: &Line) {
        self.lines.lock().retain(|one| !std::ptr::eq(&**one, line));
    }

    /// Returns the call with this id.
    pub(super) fn line(&self, id: &str) -> Option<Arc<Line>> {
        self.lines.lock().iter().find(|line| line.has_id(id)).cloned()
    }

    pub(super) fn has_room(&self) -> bool {
        self.lines.lock().len() < MAX_LINES
    }

    /// Tells each call that the socket is lost.
    pub(super) fn lose(&self) {
        let lines = std::mem::take(&mut *self.lines.lock());
        lines.iter().for_each(|line| line.lost());
    }

    /// Creates a call of this page.
    pub(super) fn new_line(
        self: &Arc<Self>,
        called_by: CalledBy,
        (leg, id): (LegId, LegId),
        temporary: Option<String>,
        sdp: Option<String>,
    ) -> Arc<Line> {
        let new = NewLine {
            calls: self.calls.clone(),
            lines: self.table.clone(),
            user: self.user.clone(),
            called_by,
            sid: Ids::Prefixed.call(leg),
            id,
            temporary,
            sdp,
        };
        Line::new(new, self)
    }
}

impl WebPhone for Page {
    fn ring(&self, ringing: Ringing) -> Arc<dyn WebCall> {
        let Ringing { leg, branch, from, to, headers, offer, .. } = ringing;
        let Some(page) = self.own.upgrade().filter(|page| page.has_room() && !self.out.is_closed()) else {
            let end = SignalEnd { status: Some(486), ..SignalEnd::of(SignalEndCause::Refused) };
            self.calls.signal_of_page(branch, SignalEvent::Ended(Box::new(end)));
            return Arc::new(NoCall);
        };
        let line = page.new_line(CalledBy::Server, (leg, branch), None, None);
        // The application wrote parameters of the page, which are header fields at a phone.
        let own = headers.iter().map(|(name, value)| (name.strip_prefix("X-").unwrap_or(name), value.as_str()));
        let parameters = json!({
            "CallSid": Ids::Prefixed.call(leg),
            "AccountSid": self.account_sid,
            "From": shown(&from),
            "To": shown(&to),
            "ApiVersion": path::VERSION,
            "Params": frame::url_encoded(own),
        });
        line.ring(&offer, &parameters);
        line
    }
}

fn shown(address: &Address) -> String {
    address.text().into_owned()
}

/// A call that never began.
struct NoCall;

impl WebCall for NoCall {
    fn send(&self, _: SignalCommand) {}

    fn adopt(self: Arc<Self>, _: LegId) {}
}
