//! The web pages of a cluster. A page has its WebSocket at one node, and is called from all nodes. The leg stays at the node
//! that makes the call, and the media goes from the page to this node. Only the signals go over the bus:
//!
//! ```text
//!   node B: leg ── OtherPage, OtherCall ──── orders, in order ────► node A: Guest ── WebCall ── WebSocket of the page
//!                         ◄───────────────── reports, in order ─────────┘
//! ```
//!
//! Each node tells the others which pages are connected to it. A note may be lost, so the changes have numbers, and a node
//! that has missed a change asks for the whole list.
//!
//! The bus may be away. A page that does not report that it rings within one second has no part in the call. An answered
//! call continues; when the page hangs up, the media ends, and then the leg does. When a node dies, the other node ends the
//! calls between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::LegInfo;
use tandem_causes::{PAGE_AWAY, PAGE_GONE};
use tandem_clients::{Client, User};
use tandem_cluster::{AskError, Note, Question};
use tandem_id::LegId;
use tandem_leg::fork::{Contact, MediaKind};
use tandem_leg::signal::{SignalCommand, SignalEnd, SignalEndCause, SignalEvent};
use tandem_legs::browser::{Ringing, WebCall, WebPhone};
use tandem_store::nodes::NodeRow;
use tokio::sync::mpsc;

use super::Calls;

/// Time within which a page of another node must report that it rings.
const RINGS_WITHIN: Duration = Duration::from_secs(1);

/// Maximum number of messages that wait for one node. Further messages are lost.
const WAITING: usize = 4_096;

/// Maximum number of pages in one answer. A page has some 150 octets.
const PAGES_OF_ANSWER: usize = 2_000;

/// Maximum number of answers that are read for the list of one node. Further pages are not called from other nodes.
const ANSWERS: usize = 50;

/// Maximum number of attempts to read a list that changes meanwhile.
const ATTEMPTS: usize = 3;

/// A page that is connected to a node.
#[derive(Clone, Serialize, Deserialize)]
struct Listed {
    contact: u128,
    /// The user as which calls ring at the page. `None`: the page is called only by its contact.
    user: Option<User>,
    /// The name of the page's SDK.
    sdk: String,
}

/// A change of the pages of a node.
#[derive(Serialize, Deserialize)]
struct Changed {
    /// The number of this change.
    version: u64,
    change: Change,
}

#[derive(Serialize, Deserialize)]
enum Change {
    Connected(Listed),
    Gone(u128),
}

impl Note for Changed {
    const NAME: &'static str = "pages";
}

/// Asks for the pages of a node.
#[derive(Serialize, Deserialize)]
struct PagesOf {
    /// The number of changes that the asking node knows, if it knows the pages.
    known: Option<u64>,
    /// The last contact of the answer before.
    after: Option<u128>,
}

/// Pages of a node, in the order of their contacts.
#[derive(Serialize, Deserialize)]
struct Pages {
    version: u64,
    pages: Vec<Listed>,
    is_last: bool,
}

impl Question for PagesOf {
    const NAME: &'static str = "pages-of";
    /// `None` if the asking node knows all changes.
    type Answer = Option<Pages>;
}

/// A message about a call between the node of the leg and the node of the page. `branch` is the branch of the leg that rings
/// at the page, also after the leg has adopted it.
#[derive(Serialize, Deserialize)]
enum Message {
    /// To the page: ring. `info` is the state of the leg.
    Ring { contact: u128, ringing: Ringing, info: Option<Box<LegInfo>> },
    /// To the page: an order of the leg.
    Order { branch: LegId, order: SignalCommand },
    /// To the page: the branch is the far end of this leg now.
    Adopt { branch: LegId, leg: LegId },
    /// To the leg: a report of the page.
    Report { branch: LegId, event: SignalEvent },
}

impl Note for Message {
    const NAME: &'static str = "page";
}

/// The pages of other nodes, and the calls between pages and legs of different nodes.
#[derive(Default)]
pub(super) struct OtherPages {
    own: Mutex<Own>,
    /// The pages of other nodes, by epoch.
    known: Mutex<HashMap<i64, Known>>,
    /// The calls of legs of this node at pages of other nodes, by branch. The limits of calls bound the number.
    calls: Mutex<HashMap<LegId, Arc<OtherCall>>>,
    guests: Mutex<Guests>,
    /// The messages that wait, by the epoch of the receiver.
    waiting: Mutex<HashMap<i64, mpsc::Sender<Message>>>,
}

/// The pages of this node.
#[derive(Default)]
struct Own {
    version: u64,
    pages: BTreeMap<u128, Listed>,
}

/// The known pages of another node.
#[derive(Default)]
struct Known {
    /// The number of the last change that this node has applied. `None` until the list has come.
    version: Option<u64>,
    /// The number of the last change that this node has heard of.
    latest: u64,
    /// The users of the pages, by contact.
    pages: HashMap<u128, Option<User>>,
    /// Whether this node asks for the list now.
    is_asked: bool,
}

/// The calls of legs of other nodes at pages of this node. The limit of calls of each page bounds the number.
#[derive(Default)]
struct Guests {
    by_branch: HashMap<LegId, Guest>,
    by_leg: HashMap<LegId, GuestLeg>,
}

struct Guest {
    /// The epoch of the node of the leg.
    node: i64,
    leg: LegId,
    /// `None` while the page begins to ring.
    call: Option<Arc<dyn WebCall>>,
}

/// A leg of another node that has calls at pages of this node.
#[derive(Default)]
struct GuestLeg {
    /// The state of the leg when it rang.
    info: Option<Arc<LegInfo>>,
    branches: usize,
    /// The branch that is the far end of the leg.
    adopted: Option<LegId>,
}

impl Guests {
    fn add(&mut self, node: i64, ringing: &Ringing, info: Option<Box<LegInfo>>) {
        self.by_branch.insert(ringing.branch, Guest { node, leg: ringing.leg, call: None });
        let leg = self.by_leg.entry(ringing.leg).or_default();
        leg.branches += 1;
        leg.info = info.map(Arc::from);
    }

    fn remove(&mut self, branch: LegId) -> Option<Guest> {
        let guest = self.by_branch.remove(&branch)?;
        if let Some(leg) = self.by_leg.get_mut(&guest.leg) {
            leg.branches -= 1;
            if leg.branches == 0 {
                self.by_leg.remove(&guest.leg);
            }
        }
        Some(guest)
    }

    /// Returns the branch whose signals have this id: the id of the branch itself, or of the leg that has adopted it.
    fn branch_of(&self, id: LegId) -> Option<LegId> {
        let adopted = || self.by_leg.get(&id).and_then(|leg| leg.adopted);
        if self.by_branch.contains_key(&id) { Some(id) } else { adopted() }
    }
}

impl Calls {
    fn others(&self) -> &OtherPages {
        &self.0.other_pages
    }

    /// Starts to exchange pages and their calls with the other nodes.
    pub(super) fn exchange_pages(&self) {
        let cluster = &self.services().cluster;
        let calls = self.clone();
        cluster.answer(move |asked: PagesOf| std::future::ready(calls.others().own.lock().answer(&asked)));
        let calls = self.clone();
        cluster.listen(move |changed: Changed, sender| calls.page_changed(changed, sender));
        let calls = self.clone();
        cluster.listen(move |message: Message, sender| calls.handle_page_message(message, sender));
    }

    // ---- the lists of pages ----

    /// Tells the other nodes about a page of this node.
    pub(super) fn announce_page(&self, contact: u128, user: Option<User>, sdk: &str) {
        let listed = Listed { contact, user, sdk: sdk.to_owned() };
        self.tell_change(|own| {
            own.pages.insert(contact, listed.clone());
            Some(Change::Connected(listed))
        });
    }

    /// Tells the other nodes that a page of this node has gone.
    pub(super) fn withdraw_page(&self, contact: u128) {
        self.tell_change(|own| own.pages.remove(&contact).map(|_| Change::Gone(contact)));
    }

    fn tell_change(&self, change: impl FnOnce(&mut Own) -> Option<Change>) {
        let cluster = &self.services().cluster;
        if cluster.is_on() {
            // The lock keeps the changes in order.
            let mut own = self.others().own.lock();
            if let Some(change) = change(&mut own) {
                own.version += 1;
                cluster.post(&Changed { version: own.version, change });
            }
        }
    }

    fn page_changed(&self, changed: Changed, sender: i64) {
        let Some(node) = self.services().cluster.other(sender) else { return };
        {
            let mut all = self.others().known.lock();
            let known = all.entry(sender).or_default();
            known.latest = known.latest.max(changed.version);
            if known.version.is_some_and(|version| changed.version <= version) {
                return;
            }
            if !known.is_asked && known.version == changed.version.checked_sub(1) {
                known.version = Some(changed.version);
                return match changed.change {
                    Change::Connected(listed) => self.learn_page(known, &node, listed),
                    Change::Gone(contact) => self.forget_page(known, contact),
                };
            }
        }
        self.read_pages_of(node);
    }

    /// Reads the pages of other nodes again, as far as they have changed.
    pub fn read_other_pages(&self) {
        self.services().cluster.others().into_iter().for_each(|node| self.read_pages_of(node));
    }

    /// Reads the pages of a node in the background.
    pub fn read_pages_of(&self, node: NodeRow) {
        let version = {
            let mut all = self.others().known.lock();
            let known = all.entry(node.epoch).or_default();
            if std::mem::replace(&mut known.is_asked, true) {
                return;
            }
            known.version
        };
        let calls = self.clone();
        tokio::spawn(async move {
            let read = calls.ask_for_pages(&node, version).await;
            let has_more = {
                let mut all = calls.others().known.lock();
                // The node may have left meanwhile.
                let Some(known) = all.get_mut(&node.epoch) else { return };
                known.is_asked = false;
                match read {
                    Ok(Some((version, pages))) => calls.replace_pages(known, &node, version, pages),
                    Ok(None) => {}
                    Err(error) => {
                        return tracing::warn!(%error, node = node.name, "the web pages of a node cannot be read");
                    }
                }
                known.version.is_some_and(|version| version < known.latest)
            };
            // Changes have come while the list was on its way.
            if has_more {
                calls.read_pages_of(node);
            }
        });
    }

    /// Asks for all pages of a node, and the number of its last change. Without this number, pages may be missing. Returns
    /// `None` if this node knows all changes.
    async fn ask_for_pages(
        &self,
        node: &NodeRow,
        known: Option<u64>,
    ) -> Result<Option<(Option<u64>, Vec<Listed>)>, AskError> {
        let (mut version, mut all) = (0, Vec::new());
        for _ in 0..ATTEMPTS {
            let mut asked = PagesOf { known, after: None };
            all.clear();
            for _ in 0..ANSWERS {
                let Some(answer) = self.services().cluster.ask(node, &asked).await? else { return Ok(None) };
                let is_first = all.is_empty();
                all.extend(answer.pages);
                if !is_first && answer.version != version {
                    break;
                }
                version = answer.version;
                if answer.is_last {
                    return Ok(Some((Some(version), all)));
                }
                asked = PagesOf { known: None, after: all.last().map(|page| page.contact) };
            }
        }
        // The list changes too quickly, or is too long: the next search goes on.
        Ok(Some((None, all)))
    }

    fn replace_pages(&self, known: &mut Known, node: &NodeRow, version: Option<u64>, pages: Vec<Listed>) {
        if version.is_some() && known.version >= version {
            return;
        }
        known.version = version;
        let listed: HashSet<u128> = pages.iter().map(|page| page.contact).collect();
        let gone: Vec<u128> = known.pages.keys().copied().filter(|contact| !listed.contains(contact)).collect();
        gone.into_iter().for_each(|contact| self.forget_page(known, contact));
        pages.into_iter().for_each(|page| self.learn_page(known, node, page));
    }

    fn learn_page(&self, known: &mut Known, node: &NodeRow, listed: Listed) {
        let Listed { contact, user, sdk } = listed;
        let page =
            OtherPage { calls: self.clone(), node: node.epoch, node_name: node.name.as_str().into(), contact, sdk };
        self.services().pages.add(contact, Arc::new(page));
        if let Some(user) = &user {
            let contact = Contact { id: contact, q: 1_000, media: MediaKind::WebRtc };
            let client = Client { contact, device: None, shares_device: false, has_token: true };
            self.services().clients.add(user, client);
        }
        known.pages.insert(contact, user);
    }

    fn forget_page(&self, known: &mut Known, contact: u128) {
        if let Some(user) = known.pages.remove(&contact) {
            self.services().pages.remove(contact);
            user.iter().for_each(|user| self.services().clients.remove(user, contact));
        }
    }

    /// Forgets the pages of a node that takes part no more, and ends the calls between its legs and pages and those of this
    /// node.
    pub(super) fn node_of_pages_left(&self, epoch: i64) {
        let others = self.others();
        if let Some(mut known) = others.known.lock().remove(&epoch) {
            let contacts: Vec<u128> = known.pages.keys().copied().collect();
            contacts.into_iter().for_each(|contact| self.forget_page(&mut known, contact));
        }
        others.waiting.lock().remove(&epoch);
        let calls: Vec<_> = others.calls.lock().values().filter(|call| call.node == epoch).cloned().collect();
        for call in calls {
            call.end(SignalEnd { detail: PAGE_GONE.into(), ..SignalEnd::of(SignalEndCause::Expired) });
        }
        let guests: Vec<_> = {
            let mut guests = others.guests.lock();
            let of_node = guests.by_branch.iter().filter(|(_, guest)| guest.node == epoch);
            let branches: Vec<LegId> = of_node.map(|(branch, _)| *branch).collect();
            branches.into_iter().filter_map(|branch| guests.remove(branch)?.call).collect()
        };
        guests.into_iter().for_each(|call| call.send(hang_up(480)));
    }

    // ---- the calls ----

    /// Returns the state of a leg whose far end is a page of this node. The state of a leg of another node is that of the
    /// moment when the page began to ring.
    pub fn leg_of_page(&self, leg: LegId) -> Option<Arc<LegInfo>> {
        self.live_leg(leg).or_else(|| self.others().guests.lock().by_leg.get(&leg)?.info.clone())
    }

    /// Sends a signal of a page to the node of its leg. Returns the signal if the leg is of this node.
    pub(super) fn report_elsewhere(&self, id: LegId, event: SignalEvent) -> Option<SignalEvent> {
        let mut guests = self.others().guests.lock();
        let Some((branch, node)) =
            guests.branch_of(id).and_then(|branch| Some((branch, guests.by_branch.get(&branch)?.node)))
        else {
            return Some(event);
        };
        if matches!(event, SignalEvent::Ended(_)) {
            guests.remove(branch);
        }
        // The lock keeps the signals in order.
        self.send_page_message(node, Message::Report { branch, event });
        None
    }

    /// Sends a message to a node after those that were sent before. Never waits.
    fn send_page_message(&self, node: i64, message: Message) {
        let mut waiting = self.others().waiting.lock();
        let sender = waiting.entry(node).or_insert_with(|| {
            let (sender, messages) = mpsc::channel(WAITING);
            tokio::spawn(send_messages(self.clone(), node, messages));
            sender
        });
        if sender.try_send(message).is_err() {
            tracing::warn!(node, "a message about a call of a web page was lost: too many messages wait");
        }
    }

    fn handle_page_message(&self, message: Message, sender: i64) {
        match message {
            Message::Ring { contact, ringing, info } => self.ring_guest(sender, contact, ringing, info),
            Message::Order { branch, order } => {
                let call = self.guest(branch, sender);
                call.iter().for_each(|call| call.send(order.clone()));
            }
            Message::Adopt { branch, leg } => {
                let Some(call) = self.guest(branch, sender) else { return };
                if let Some(leg) = self.others().guests.lock().by_leg.get_mut(&leg) {
                    leg.adopted = Some(branch);
                }
                call.adopt(leg);
            }
            Message::Report { branch, event } => {
                let call = self.others().calls.lock().get(&branch).filter(|call| call.node == sender).cloned();
                call.iter().for_each(|call| call.report(event.clone()));
            }
        }
    }

    fn guest(&self, branch: LegId, node: i64) -> Option<Arc<dyn WebCall>> {
        let guests = self.others().guests.lock();
        guests.by_branch.get(&branch).filter(|guest| guest.node == node)?.call.clone()
    }

    /// Rings at a page of this node for a leg of another node.
    fn ring_guest(&self, node: i64, contact: u128, ringing: Ringing, info: Option<Box<LegInfo>>) {
        let branch = ringing.branch;
        let page = self.others().own.lock().pages.contains_key(&contact).then(|| self.services().pages.get(contact));
        let Some(page) = page.flatten() else {
            let detail = "the page is no longer connected".into();
            let end = SignalEnd { detail, ..SignalEnd::of(SignalEndCause::Unreachable) };
            return self.send_page_message(node, Message::Report { branch, event: SignalEvent::Ended(Box::new(end)) });
        };
        // The page reports at once that it rings.
        self.others().guests.lock().add(node, &ringing, info);
        let call = page.ring(ringing);
        if let Some(guest) = self.others().guests.lock().by_branch.get_mut(&branch) {
            guest.call = Some(call);
        }
    }
}

impl Own {
    fn answer(&self, asked: &PagesOf) -> Option<Pages> {
        if asked.known == Some(self.version) {
            return None;
        }
        let after = |page: &&Listed| asked.after.is_none_or(|after| page.contact > after);
        let mut rest = self.pages.values().filter(after);
        let pages = rest.by_ref().take(PAGES_OF_ANSWER).cloned().collect();
        Some(Pages { version: self.version, pages, is_last: rest.next().is_none() })
    }
}

/// Sends the messages to one node, in order.
async fn send_messages(calls: Calls, node: i64, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        let Err(error) = calls.services().cluster.tell(node, &message).await else { continue };
        tracing::warn!(%error, node, "a message about a call of a web page was lost");
        if let Message::Ring { ringing, .. } = message {
            let call = calls.others().calls.lock().get(&ringing.branch).cloned();
            call.iter().for_each(|call| call.fail(&error.to_string()));
        }
    }
}

fn hang_up(status: u16) -> SignalCommand {
    SignalCommand::End { status, reason: None, headers: HeaderFields::new() }
}

/// A page that is connected to another node.
struct OtherPage {
    calls: Calls,
    node: i64,
    node_name: Arc<str>,
    contact: u128,
    sdk: String,
}

impl WebPhone for OtherPage {
    fn sdk(&self) -> &str {
        &self.sdk
    }

    fn ring(&self, ringing: Ringing) -> Arc<dyn WebCall> {
        let (calls, node, branch) = (self.calls.clone(), self.node, ringing.branch);
        let state = Mutex::new(CallState { id: branch, is_heard: false, is_adopted: false, is_over: false });
        let call = Arc::new(OtherCall { calls, node, branch, state });
        self.calls.others().calls.lock().insert(branch, Arc::clone(&call));
        let info = self.calls.live_leg(ringing.leg).map(|info| Box::new((*info).clone()));
        self.calls.send_page_message(node, Message::Ring { contact: self.contact, ringing, info });
        let (waiting, name) = (Arc::downgrade(&call), Arc::clone(&self.node_name));
        tokio::spawn(async move {
            tokio::time::sleep(RINGS_WITHIN).await;
            if let Some(call) = waiting.upgrade().filter(|call| !call.state.lock().is_heard) {
                call.fail(&format!("node {name}"));
            }
        });
        call
    }
}

/// The call of a leg of this node at a page of another node.
struct OtherCall {
    calls: Calls,
    node: i64,
    branch: LegId,
    state: Mutex<CallState>,
}

struct CallState {
    /// The leg, or the branch of the leg.
    id: LegId,
    /// Whether the page has reported something.
    is_heard: bool,
    is_adopted: bool,
    is_over: bool,
}

impl OtherCall {
    /// Handles a report of the page.
    fn report(&self, event: SignalEvent) {
        if let SignalEvent::Ended(end) = event {
            return self.end(*end);
        }
        let mut state = self.state.lock();
        state.is_heard = true;
        if !state.is_over {
            // The state is locked, so that an adoption does not come between.
            self.calls.registry().signal(state.id, event);
        }
    }

    /// Ends a call that has not reached the page.
    fn fail(&self, why: &str) {
        // The page may ring nevertheless.
        self.post(Message::Order { branch: self.branch, order: hang_up(480) });
        let detail = format!("{PAGE_AWAY}: {why}").into();
        let end = SignalEnd { detail, ..SignalEnd::of(SignalEndCause::Unreachable) };
        self.end(end);
    }

    fn end(&self, end: SignalEnd) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.is_over, true) {
            return;
        }
        self.calls.others().calls.lock().remove(&self.branch);
        if state.is_adopted {
            self.calls.services().pages.remove_call(state.id);
        }
        self.calls.registry().signal(state.id, SignalEvent::Ended(Box::new(end)));
    }

    fn post(&self, message: Message) {
        self.calls.send_page_message(self.node, message);
    }
}

impl WebCall for OtherCall {
    fn send(&self, order: SignalCommand) {
        if self.state.lock().is_over {
            return;
        }
        let is_last = matches!(order, SignalCommand::End { .. } | SignalCommand::Refuse { .. });
        self.post(Message::Order { branch: self.branch, order });
        // The end of the leg does not wait for the page.
        if is_last {
            self.end(SignalEnd::of(SignalEndCause::Local));
        }
    }

    fn adopt(self: Arc<Self>, leg: LegId) {
        let mut state = self.state.lock();
        (state.id, state.is_adopted) = (leg, true);
        if !state.is_over {
            self.calls.services().pages.add_call(leg, self.clone());
            self.post(Message::Adopt { branch: self.branch, leg });
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem_call::address::Address;
    use tandem_id::AccountName;

    use super::*;

    fn listed(contact: u128) -> Listed {
        let user = User { account: AccountName::new("acme"), name: "alice".into(), domain: None };
        Listed { contact, user: Some(user), sdk: "sdk".to_owned() }
    }

    #[test]
    fn a_node_that_knows_all_changes_gets_no_list_and_a_long_list_comes_in_parts() {
        let mut own = Own { version: 7, ..Own::default() };
        (0..2 * PAGES_OF_ANSWER as u128).for_each(|contact| drop(own.pages.insert(contact, listed(contact))));
        assert!(own.answer(&PagesOf { known: Some(7), after: None }).is_none());
        let first = own.answer(&PagesOf { known: Some(6), after: None }).unwrap();
        assert_eq!((first.version, first.pages.len(), first.is_last), (7, PAGES_OF_ANSWER, false));
        assert!(serde_json::to_vec(&first).unwrap().len() < tandem_cluster::MAX_MESSAGE);
        let after = first.pages.last().map(|page| page.contact);
        let second = own.answer(&PagesOf { known: None, after }).unwrap();
        assert_eq!((second.pages.len(), second.is_last), (PAGES_OF_ANSWER, true));
        assert!(Own::default().answer(&PagesOf { known: None, after: None }).is_some_and(|list| list.is_last));
    }

    #[test]
    fn the_signals_of_a_branch_and_of_the_leg_that_has_adopted_it_belong_to_the_same_call() {
        let (leg, one, other) = (LegId(1), LegId(2), LegId(3));
        let ringing = |branch| Ringing {
            account: AccountName::new("acme"),
            leg,
            branch,
            from: Address::Client("bob".into()),
            from_display: None,
            to: Address::Client("alice".into()),
            headers: HeaderFields::new(),
            offer: "v=0".into(),
        };
        let mut guests = Guests::default();
        guests.add(9, &ringing(one), None);
        guests.add(9, &ringing(other), None);
        assert_eq!((guests.branch_of(one), guests.branch_of(leg)), (Some(one), None));
        guests.by_leg.get_mut(&leg).unwrap().adopted = Some(other);
        assert_eq!((guests.branch_of(other), guests.branch_of(leg)), (Some(other), Some(other)));
        assert!(guests.remove(one).is_some() && guests.remove(one).is_none());
        assert_eq!(guests.branch_of(leg), Some(other));
        assert!(guests.remove(other).is_some());
        assert!(guests.by_branch.is_empty() && guests.by_leg.is_empty());
    }

    #[test]
    fn a_message_keeps_each_field_on_the_bus() {
        let report = SignalEvent::Accepted { sdp: Some("v=0\r\n".into()), headers: HeaderFields::new(), dialog: None };
        let message = Message::Report { branch: LegId(u128::MAX), event: report.clone() };
        let text = serde_json::to_vec(&message).unwrap();
        let Ok(Message::Report { branch: LegId(u128::MAX), event }) = serde_json::from_slice(&text) else {
            panic!("{}", String::from_utf8_lossy(&text))
        };
        assert_eq!(event, report);
    }
}
