//! A page that takes calls. A request with credentials makes an id for the page; the page opens its WebSocket with this id, which
//! nobody else knows.
//!
//! ```text
//!   page ── WebSocket ──► PhoneSession ──► tandem_pages ──► the leg that rings at the page
//!        ◄── one frame of JSON for each event ──┘
//! ```
//!
//! The calls of a page end with its socket, so a page that is closed leaves no call behind.
//!
//! In a cluster, the socket may be opened at another node than the one that made the id, and any node can call the page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::WebSocket;
use foldhash::HashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_call::event::EventKind;
use tandem_call::header_fields::HeaderFields;
use tandem_clients::User;
use tandem_cluster::{AskError, Question};
use tandem_events::{Event, Filter, Item};
use tandem_host::clock;
use tandem_id::{LegId, node};
use tandem_legs::browser::Ringing;
use tandem_pages::socket::{self, Outbox};
use tandem_pages::{End, Facts, Page, PageOffer, PageSpec, Presence, Protocol};
use tandem_routing::new_call::{CreateError, Created, NewCall};

use crate::Desk;

/// Time within which a page must open its socket.
const OPENING: Duration = Duration::from_secs(30);
/// Maximum number of pages of all users. Further pages are refused.
const MAX_PHONES: usize = 1_000;

/// The pages that take calls, by their ids.
pub(crate) type Phones = Arc<Mutex<HashMap<u128, Phone>>>;

/// A page that takes calls.
pub(crate) enum Phone {
    /// The page has not opened its socket yet.
    Expected(Expected, Instant),
    Connected,
}

/// A page that will open its socket.
#[derive(Serialize, Deserialize)]
pub struct Expected {
    id: u128,
    user: User,
}

/// Asks the node that has made an id for its page, which opens its socket at this node.
#[derive(Serialize, Deserialize)]
struct TakeExpected {
    id: u128,
}

impl Question for TakeExpected {
    const NAME: &'static str = "softphone";
    type Answer = Option<Expected>;
}

/// A frame of the page.
#[derive(Deserialize, Debug)]
#[serde(tag = "action", rename_all = "kebab-case")]
enum FromPage {
    /// The page takes the call that rings.
    Answer { id: String, sdp: String },
    /// The page refuses the call that rings, or hangs up.
    Leave { id: String },
}

/// A frame for the page.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum ToPage<'a> {
    /// The page is connected. With a name, calls to the user ring at it.
    Ready { name: Option<&'a str> },
    /// The user has too many pages, so no call rings at this one.
    Full,
    /// A call rings. `call` is an id of the call for the console. `sdp` is our offer.
    Incoming { id: &'a str, call: String, from: String, name: Option<&'a str>, to: String, sdp: &'a str },
    /// The call is over.
    Over { id: &'a str, elsewhere: bool },
}

impl ToPage<'_> {
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The reason why a call does not ring at a page.
#[derive(Debug, thiserror::Error)]
pub enum NotRung {
    /// No page with this id is connected.
    #[error("the softphone of this page is not connected; open the page again")]
    NoPhone,
    /// The server has too many readers of events.
    #[error("the server has too many readers of events; try again later")]
    Busy,
    /// The call cannot be made.
    #[error(transparent)]
    NotCalled(#[from] CreateError),
}

impl Desk {
    /// Answers the nodes at which pages open their sockets.
    pub fn answer_other_nodes(&self) {
        let desk = self.clone();
        let cluster = &self.app.calls.services().cluster;
        cluster.answer(move |asked: TakeExpected| std::future::ready(desk.take_own(asked.id)));
    }

    /// Makes an id for a page that will take calls: the calls to this user, if it has a name, and the calls of
    /// [`Self::ring`]. Returns `None` if there are too many pages.
    pub fn expect(&self, user: User) -> Option<String> {
        let now = clock::now().instant;
        let mut phones = self.phones.lock();
        phones.retain(|_, phone| match phone {
            Phone::Expected(_, since) => now.duration_since(*since) < OPENING,
            Phone::Connected => true,
        });
        if phones.len() >= MAX_PHONES {
            return None;
        }
        let id = node::sign(rand::random());
        phones.insert(id, Phone::Expected(Expected { id, user }, now));
        Some(format!("{id:032x}"))
    }

    /// Returns the page that may open its socket with this id, once.
    ///
    /// # Errors
    /// The node that has made the id does not answer.
    pub async fn take(&self, id: &str) -> Result<Option<Expected>, AskError> {
        let Some(id) = read_id(id) else { return Ok(None) };
        let cluster = &self.app.calls.services().cluster;
        match cluster.other_owner_of(id) {
            Some(node) => cluster.ask(&node, &TakeExpected { id }).await,
            None => Ok(self.take_own(id)),
        }
    }

    fn take_own(&self, id: u128) -> Option<Expected> {
        let mut phones = self.phones.lock();
        match phones.remove(&id)? {
            Phone::Expected(expected, _) => Some(expected),
            Phone::Connected => {
                phones.insert(id, Phone::Connected);
                None
            }
        }
    }

    /// Serves the socket of a page until it is closed.
    pub async fn serve(&self, socket: WebSocket, expected: Expected) {
        let desk = self.clone();
        socket::serve(socket, None, move |out| PhoneSession::begin(desk, expected, out)).await;
    }

    /// Calls the page with this id, and no other one. `call` makes the call from the address of the page. Until the page
    /// has answered, the account has a user with a random name.
    pub async fn ring(&self, id: &str, user: User, call: impl FnOnce(&User) -> NewCall) -> Result<Created, NotRung> {
        let calls = self.app.calls.clone();
        let page = read_id(id).and_then(|id| calls.services().pages.get(id)).ok_or(NotRung::NoPhone)?;
        let leg = LegId::new(clock::time(), &mut rand::rng());
        let mut events = calls.services().events.subscribe(Filter::leg(leg)).map_err(|_| NotRung::Busy)?;
        let contact = rand::random();
        if !calls.lend_page(&user, contact, page) {
            return Err(NotRung::NoPhone);
        }
        let created = calls.create_as(leg, call(&user)).await;
        let made = created.is_ok();
        tokio::spawn(async move {
            while made && let Some(item) = events.next().await {
                if let Item::Event(event) = item
                    && let Event::Call(event) = &*event
                    && matches!(event.kind, EventKind::Answered { .. } | EventKind::Ended)
                {
                    break;
                }
            }
            calls.disconnect_page(&user, contact);
        });
        Ok(created?)
    }
}

/// Returns the id that a page has sent.
fn read_id(text: &str) -> Option<u128> {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// The socket of a page.
struct PhoneSession {
    desk: Desk,
    id: u128,
    presence: Presence,
}

impl PhoneSession {
    fn begin(desk: Desk, Expected { id, user }: Expected, out: Outbox) -> Self {
        let is_named = !user.name.is_empty();
        let page = Page::new(PageSpec {
            calls: desk.app.calls.clone(),
            lines: desk.lines.clone(),
            protocol: Arc::new(Frames),
            id_of: |_, branch| branch.to_string(),
            session: "".into(),
            user,
            out,
        });
        let mut presence = Presence::new(Arc::clone(&page), None);
        let is_full = is_named && !presence.connect();
        let name = Some(&*page.user().name).filter(|_| is_named && !is_full);
        page.send(ToPage::Ready { name }.text());
        if is_full {
            page.send(ToPage::Full.text());
        }
        desk.phones.lock().insert(id, Phone::Connected);
        desk.app.calls.connect_unnamed_page(id, page);
        Self { desk, id, presence }
    }
}

impl Drop for PhoneSession {
    fn drop(&mut self) {
        self.desk.phones.lock().remove(&self.id);
        self.desk.app.calls.disconnect_unnamed_page(self.id);
        self.presence.page().leave();
    }
}

impl socket::Session for PhoneSession {
    const PINGS: bool = true;

    async fn handle(&mut self, text: &str) {
        let page = self.presence.page();
        match serde_json::from_str(text) {
            Ok(FromPage::Answer { id, sdp }) => {
                page.line(&id).iter().for_each(|line| line.answered(sdp.clone(), HeaderFields::new()));
            }
            Ok(FromPage::Leave { id }) => page.line(&id).iter().for_each(|line| line.left()),
            Err(error) => tracing::debug!(%error, "unknown frame of a softphone"),
        }
    }

    async fn wait(&mut self) {
        self.presence.expires().await;
    }

    fn heartbeat(&mut self) -> Option<String> {
        None
    }

    fn is_known(&self) -> bool {
        true
    }
}

/// The frames of the pages.
struct Frames;

impl Protocol for Frames {
    fn name(&self) -> &'static str {
        "web console"
    }

    fn ring(&self, call: &Facts, ringing: &Ringing) -> Vec<String> {
        let frame = ToPage::Incoming {
            id: &call.id,
            call: call.leg.to_string(),
            from: ringing.from.to_string(),
            name: ringing.from_display.as_deref(),
            to: ringing.to.to_string(),
            sdp: &String::from_utf8_lossy(&ringing.offer),
        };
        vec![frame.text()]
    }

    fn progress(&self, _: &Facts, _: Option<&str>) -> Vec<String> {
        Vec::new()
    }

    fn accepted(&self, _: &Facts, _: Option<&str>) -> Vec<String> {
        Vec::new()
    }

    fn described(&self, _: &Facts, _: PageOffer, _: Option<&str>) -> Vec<String> {
        Vec::new()
    }

    fn resumed(&self, _: &Facts) -> Vec<String> {
        Vec::new()
    }

    fn ended(&self, call: &Facts, end: &End) -> Vec<String> {
        let elsewhere = matches!(end, End::Cancelled { answered_elsewhere: true });
        vec![ToPage::Over { id: &call.id, elsewhere }.text()]
    }

    fn message(&self, _: &Facts, _: &str, _: &[u8]) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_a_page_are_read_and_others_are_not() {
        let read = |text: &str| serde_json::from_str::<FromPage>(text).is_ok();
        assert!(read(r#"{"action":"answer","id":"1","sdp":"v=0"}"#) && read(r#"{"action":"leave","id":"1"}"#));
        assert!(!read(r#"{"action":"answer","id":"1"}"#) && !read("[]") && !read(""));
        let over = ToPage::Over { id: "1", elsewhere: true }.text();
        assert_eq!(over, r#"{"event":"over","id":"1","elsewhere":true}"#);
    }
}
