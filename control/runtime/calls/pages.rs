//! Web pages as phones. The crate of a provider speaks the protocol of its browser SDK, and tells this module which pages
//! are connected, which calls they make, and what their far ends signal.

use std::sync::Arc;

use tandem_call::route::Route;
use tandem_clients::{self as clients, Client};
use tandem_events::{Event, Kind, PhoneEvent, Topic};
use tandem_id::LegId;
use tandem_leg::fork::{Contact, MediaKind};
use tandem_leg::signal::{IncomingCall, SignalEvent};
use tandem_legs::Signalling;
use tandem_legs::browser::{WebCall, WebPhone};
use tandem_legs::sip::PendingCall;

use super::Calls;

/// Maximum number of pages of one user. A call to the user rings at each of them.
const MAX_PAGES: usize = 32;

impl Calls {
    /// Makes a page reachable as this user, who has proved the name with a token or a password. `contact` is an id that no
    /// other contact has. From now on, calls to the user ring at the page, from all nodes of a cluster. Returns `false` if the
    /// user has too many pages.
    pub fn connect_page(&self, user: &clients::User, contact: u128, page: Arc<dyn WebPhone>) -> bool {
        let sdk = page.sdk().to_owned();
        let connected = self.lend_page(user, contact, page);
        if connected {
            self.announce_page(contact, Some(user.clone()), &sdk);
        }
        connected
    }

    /// Makes a page reachable by its contact alone, from all nodes of a cluster.
    pub fn connect_unnamed_page(&self, contact: u128, page: Arc<dyn WebPhone>) {
        let sdk = page.sdk().to_owned();
        self.services().pages.add(contact, page);
        self.announce_page(contact, None, &sdk);
    }

    /// Ends the reachability of a page that is known by its contact alone.
    pub fn disconnect_unnamed_page(&self, contact: u128) {
        self.services().pages.remove(contact);
        self.withdraw_page(contact);
    }

    /// Makes a page, of any node, reachable as this user for the calls of this node. Returns `false` if the user has too many
    /// pages.
    pub fn lend_page(&self, user: &clients::User, contact: u128, page: Arc<dyn WebPhone>) -> bool {
        let services = self.services();
        if services.clients.contacts_with_token(user).len() >= MAX_PAGES {
            return false;
        }
        services.pages.add(contact, page);
        let contact = Contact { id: contact, q: 1_000, media: MediaKind::WebRtc };
        services.clients.add(user, Client { contact, device: None, shares_device: false, has_token: true });
        self.publish_page(user, true);
        true
    }

    /// Ends the reachability of a page. Its calls continue.
    pub fn disconnect_page(&self, user: &clients::User, contact: u128) {
        let services = self.services();
        services.clients.remove(user, contact);
        services.pages.remove(contact);
        self.withdraw_page(contact);
        self.publish_page(user, false);
    }

    /// Handles a signal of a page about the leg or the branch with this id. Never waits.
    pub fn signal_of_page(&self, id: LegId, event: SignalEvent) {
        if let Some(event) = self.report_elsewhere(id, event) {
            self.registry().signal(id, event);
        }
    }

    /// Handles a call of a page: admits it as the leg with this new id, or refuses it. Without a `route`, the called
    /// number decides. Never waits.
    pub fn call_of_page(&self, leg: LegId, page: Arc<dyn WebCall>, call: IncomingCall, route: Option<Route>) {
        self.incoming(leg, Signalling::Web(page), call, PendingCall::default(), route);
    }

    fn publish_page(&self, user: &clients::User, registered: bool) {
        self.services().events.publish(Topic::new(Kind::Phone, &user.account), || {
            let clients::User { account, name: username, domain } = user.clone();
            Event::Phone(PhoneEvent { account, username, domain, registered })
        });
    }
}
