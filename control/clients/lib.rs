//! Who is reachable as `client:`. A user of an account has contacts: the phones that have registered, and the web pages
//! that are connected. A call to the user rings at each contact, whatever its signalling.
//!
//! ```text
//!   SIP registrations ──► Clients ──► contacts of a user ──► the branches of a leg (tandem_leg::fork)
//!   connected pages ─────►
//! ```
//!
//! The table is a copy for decisions. The registrar of each signalling owns the contacts, and limits their number. A
//! contact that has just gone is refused by its signalling, as if it had never been called.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tandem_id::AccountName;
use tandem_leg::fork::Contact;

/// A user of an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    /// The account.
    pub account: AccountName,
    /// The name of the user.
    pub name: Arc<str>,
    /// The domain. `None` means any domain.
    pub domain: Option<Arc<str>>,
}

/// A contact of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The contact.
    pub contact: Contact,
    /// The id of the device, for example `urn:uuid:...` (RFC 5626 §4.1), if the device has one.
    pub device: Option<String>,
    /// Whether the device may have several contacts, of which a call uses one (RFC 5626 §5.3).
    pub shares_device: bool,
    /// Whether the contact is a page, which has proved its name to the account. Then the name needs no user of SIP.
    pub has_token: bool,
}

/// The contacts of all users.
#[derive(Debug, Default)]
pub struct Clients(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    by_user: HashMap<UserKey, Vec<Entry>>,
    /// The number of changes, for the order of contacts.
    changes: u64,
}

/// The account and the name of a user.
type UserKey = (AccountName, Arc<str>);

#[derive(Debug)]
struct Entry {
    client: Client,
    domain: Option<Arc<str>>,
    /// The number of the change that added or refreshed the contact.
    refreshed: u64,
}

impl Clients {
    /// Adds a contact of a user, or refreshes it.
    pub fn add(&self, user: &User, client: Client) {
        let mut table = self.0.write();
        table.changes += 1;
        let refreshed = table.changes;
        let entries = table.by_user.entry(key(user)).or_default();
        entries.retain(|entry| entry.client.contact.id != client.contact.id);
        entries.push(Entry { client, domain: user.domain.clone(), refreshed });
    }

    /// Removes a contact of a user.
    pub fn remove(&self, user: &User, id: u128) {
        let by_user = &mut self.0.write().by_user;
        if let Some(entries) = by_user.get_mut(&key(user)) {
            entries.retain(|entry| entry.client.contact.id != id);
            if entries.is_empty() {
                by_user.remove(&key(user));
            }
        }
    }

    /// Returns the contacts of a user that a call rings at, best first. At the same preference, the most recently
    /// refreshed contact comes first. Of several contacts of one device, one is returned. If `device` is given, only the
    /// contact of this device is returned.
    pub fn contacts(&self, user: &User, device: Option<&str>) -> Vec<Contact> {
        let table = self.0.read();
        let in_domain = |entry: &&Entry| match (&user.domain, &entry.domain) {
            (Some(called), Some(own)) => called.eq_ignore_ascii_case(own),
            _ => true,
        };
        let of_device = |entry: &&Entry| {
            let own = entry.client.device.as_deref();
            device.is_none_or(|device| own.is_some_and(|own| own.eq_ignore_ascii_case(device)))
        };
        let entries = table.by_user.get(&key(user)).into_iter().flatten();
        let mut found: Vec<&Entry> = entries.filter(in_domain).filter(of_device).collect();
        found.sort_by_key(|entry| Reverse((entry.client.contact.q, entry.refreshed)));
        let mut devices = HashSet::new();
        found.retain(|entry| !entry.client.shares_device || devices.insert(entry.client.device.as_deref()));
        found.truncate(if device.is_some() { 1 } else { usize::MAX });
        found.into_iter().map(|entry| entry.client.contact).collect()
    }
}

impl Clients {
    /// Returns the pages with this name, the most recently connected first.
    pub fn contacts_with_token(&self, user: &User) -> Vec<Contact> {
        let table = self.0.read();
        let entries = table.by_user.get(&key(user)).into_iter().flatten();
        let mut found: Vec<&Entry> = entries.filter(|entry| entry.client.has_token).collect();
        found.sort_by_key(|entry| Reverse(entry.refreshed));
        found.into_iter().map(|entry| entry.client.contact).collect()
    }
}

impl Clients {
    /// Returns all pages: each with its user and the id of its contact.
    pub fn pages(&self) -> Vec<(User, u128)> {
        let table = self.0.read();
        let entries = table.by_user.iter().flat_map(|(key, entries)| entries.iter().map(move |entry| (key, entry)));
        let pages = entries.filter(|(_, entry)| entry.client.has_token).map(|((account, name), entry)| {
            let user = User { account: account.clone(), name: Arc::clone(name), domain: entry.domain.clone() };
            (user, entry.client.contact.id)
        });
        pages.collect()
    }
}

fn key(user: &User) -> UserKey {
    (user.account.clone(), Arc::clone(&user.name))
}

#[cfg(test)]
mod tests {
    use tandem_leg::fork::MediaKind;

    use super::*;

    fn user(name: &str, domain: Option<&str>) -> User {
        User { account: AccountName::new("a"), name: name.into(), domain: domain.map(Into::into) }
    }

    fn client(id: u128, q: u16, device: Option<&str>, shares_device: bool) -> Client {
        let (contact, device) = (Contact { id, q, media: MediaKind::Plain }, device.map(Into::into));
        Client { contact, device, shares_device, has_token: false }
    }

    fn ids(clients: &Clients, user: &User, device: Option<&str>) -> Vec<u128> {
        clients.contacts(user, device).into_iter().map(|contact| contact.id).collect()
    }

    #[test]
    fn contacts_are_ordered_by_q_and_then_by_the_latest_registration() {
        let (clients, alice) = (Clients::default(), user("alice", None));
        for (id, q) in [(1, 500), (2, 1_000), (3, 500), (4, 1_000)] {
            clients.add(&alice, client(id, q, None, false));
        }
        assert_eq!(ids(&clients, &alice, None), [4, 2, 3, 1]);
        clients.add(&alice, client(1, 500, None, false));
        assert_eq!(ids(&clients, &alice, None), [4, 2, 1, 3], "a refreshed contact is not there twice");
        assert_eq!(ids(&clients, &user("bob", None), None), [0; 0]);
    }

    #[test]
    fn a_user_without_contacts_uses_no_memory() {
        let (clients, alice) = (Clients::default(), user("alice", None));
        clients.add(&alice, client(1, 1_000, None, false));
        clients.remove(&alice, 2);
        assert_eq!(ids(&clients, &alice, None), [1]);
        clients.remove(&alice, 1);
        assert!(clients.0.read().by_user.is_empty());
    }

    #[test]
    fn a_device_with_several_contacts_is_called_once() {
        let (clients, alice) = (Clients::default(), user("alice", None));
        clients.add(&alice, client(1, 1_000, Some("urn:x"), true));
        clients.add(&alice, client(2, 1_000, Some("urn:x"), true));
        clients.add(&alice, client(3, 1_000, Some("urn:y"), false));
        clients.add(&alice, client(4, 1_000, Some("urn:y"), false));
        assert_eq!(ids(&clients, &alice, None), [4, 3, 2]);
        assert_eq!(ids(&clients, &alice, Some("URN:X")), [2]);
        assert_eq!(ids(&clients, &alice, Some("urn:z")), [0; 0]);
    }

    #[test]
    fn only_contacts_with_a_token_need_no_user_of_sip() {
        let (clients, alice) = (Clients::default(), user("alice", None));
        clients.add(&user("alice", Some("one.example")), client(1, 1_000, None, false));
        assert_eq!(clients.contacts_with_token(&alice), []);
        for id in [2, 3] {
            clients.add(&alice, Client { has_token: true, ..client(id, 1_000, None, false) });
        }
        let found = clients.contacts_with_token(&alice);
        assert_eq!(found.iter().map(|contact| contact.id).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(ids(&clients, &alice, None), [3, 2, 1], "phones and pages of one name ring together");
        let pages = clients.pages();
        assert!(pages.len() == 2 && pages.iter().all(|(user, id)| *user == alice && *id > 1), "{pages:?}");
    }

    #[test]
    fn a_call_to_a_domain_excludes_contacts_of_other_domains() {
        let clients = Clients::default();
        clients.add(&user("alice", Some("one.example")), client(1, 1_000, None, false));
        clients.add(&user("alice", Some("two.example")), client(2, 1_000, None, false));
        clients.add(&user("alice", None), client(3, 1_000, None, false));
        assert_eq!(ids(&clients, &user("alice", Some("ONE.example")), None), [3, 1]);
        assert_eq!(ids(&clients, &user("alice", None), None), [3, 2, 1]);
    }
}
