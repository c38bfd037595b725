//! A web page as the far end of a leg: a page that uses a provider's browser SDK. The crate of the provider speaks the
//! protocol of the SDK. This module has only the seam.
//!
//! ```text
//!   a route to a user ──► WebPhone::ring ──► WebCall ──► the SDK of the page
//!   a call of a page  ─────────────────────► WebCall
//! ```

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::HashMap;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tandem_call::address::Address;
use tandem_call::header_fields::HeaderFields;
use tandem_id::{AccountName, LegId};
use tandem_leg::signal::SignalCommand;

/// A page that is connected, and that can be called.
pub trait WebPhone: Send + Sync {
    /// The name of the page's SDK, for people.
    fn sdk(&self) -> &str;
    /// Rings at the page. Never waits. The signals of the call have the id [`Ringing::branch`].
    fn ring(&self, ringing: Ringing) -> Arc<dyn WebCall>;
}

/// A call of a page. No method waits. If the page is not connected, the call keeps the orders until the page is connected
/// again.
pub trait WebCall: Send + Sync {
    /// Sends an order to the page.
    fn send(&self, order: SignalCommand);
    /// Gives an answered branch the id of its leg. The next signals of the call have this id.
    fn adopt(self: Arc<Self>, leg: LegId);
}

/// The call that rings at a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ringing {
    /// The account of the leg.
    pub account: AccountName,
    /// The leg.
    pub leg: LegId,
    /// The branch of the leg that rings at this page.
    pub branch: LegId,
    /// The calling party, as the page shall show it.
    pub from: Address,
    /// The display name of the calling party.
    pub from_display: Option<String>,
    /// The called user.
    pub to: Address,
    /// The header fields that the application has set for the call.
    pub headers: HeaderFields,
    /// The offer.
    pub offer: Bytes,
}

/// The connected pages, and the calls of pages.
#[derive(Default)]
pub struct WebPhones {
    /// The pages, by the id of the page's contact.
    pages: RwLock<HashMap<u128, Arc<dyn WebPhone>>>,
    /// The calls that are not over, by leg. A leg that rings at pages has none.
    calls: RwLock<HashMap<LegId, Arc<dyn WebCall>>>,
}

impl WebPhones {
    /// Adds a page, or replaces it.
    pub fn add(&self, contact: u128, page: Arc<dyn WebPhone>) {
        self.pages.write().insert(contact, page);
    }

    /// Removes a page.
    pub fn remove(&self, contact: u128) {
        self.pages.write().remove(&contact);
    }

    /// Returns the page with this contact. Returns `None` if the contact is no page, or no longer connected.
    pub fn get(&self, contact: u128) -> Option<Arc<dyn WebPhone>> {
        self.pages.read().get(&contact).cloned()
    }

    /// Adds the call of a leg.
    pub fn add_call(&self, leg: LegId, call: Arc<dyn WebCall>) {
        self.calls.write().insert(leg, call);
    }

    /// Removes the call of a leg.
    pub fn remove_call(&self, leg: LegId) {
        self.calls.write().remove(&leg);
    }

    /// Returns the call of a leg. Returns `None` if the far end of the leg is no page.
    pub fn call(&self, leg: LegId) -> Option<Arc<dyn WebCall>> {
        self.calls.read().get(&leg).cloned()
    }
}

impl fmt::Debug for WebPhones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.pages.read().keys()).finish()
    }
}
