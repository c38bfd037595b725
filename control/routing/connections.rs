//! Connections: SIP equipment that an account has created with the API of its provider. A connection is a phone that
//! registers (with further phones below it), or a trunk to hosts or addresses. Calls to a number can go to a
//! connection, and the calls of a connection have limits.
//!
//! ```text
//!   phone   user name, password ──► registers and calls          its number ──► rings the phone
//!   trunk   password, or its addresses ──► calls                 its number ──► its hosts or addresses
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tandem_id::AccountName;
use tandem_sip as sip;
use tandem_store::domains::{DomainDetails, DomainRow};
use tandem_store::resources::{self, Kind, Resource};
use tandem_store::{Store, StoreError};

use crate::customer_trunk::{CustomerTrunk, Origination};
use crate::inventory::Limits;
use crate::phones::provisioned::ProvisionedPhone;

/// The phones. A phone either is a connection, or belongs to a phone that is a connection. Every phone has its own
/// credentials.
pub const CONNECTION_PHONES: Kind<ProvisionedPhone> = Kind::new("connection-phone");
/// The trunks whose destinations are hosts.
pub const TO_HOSTS: Kind<CustomerTrunk> = Kind::new("connection-to-hosts");
/// The trunks whose destinations are addresses.
pub const TO_ADDRESSES: Kind<CustomerTrunk> = Kind::new("connection-to-addresses");
/// The hosts of trunks. The parent of a host is its trunk.
pub const HOSTS: Kind<TrunkAddress> = Kind::new("connection-host");
/// The addresses of trunks. The parent of an address is its trunk.
pub const ADDRESSES: Kind<TrunkAddress> = Kind::new("connection-address");
/// Maximum number of resources of each kind in one account.
pub const MAX_ROWS: u64 = 1_000;

/// A host or an address to which calls of a trunk go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrunkAddress {
    /// The SIP URI in the form `sip:HOST:PORT`.
    pub uri: String,
    /// The source address of calls from the trunk. The called URI of such a call may contain any host name.
    pub source: Option<IpAddr>,
    /// Other fields of the provider's API, stored unchanged.
    pub other: Map<String, Value>,
}

/// A connection, with the data that calls need.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The name of the account that owns the connection.
    pub account: AccountName,
    /// The name that people see.
    pub name: String,
    /// The limits on the concurrent calls of the connection.
    pub limits: Limits,
    /// Whether the connection is disabled. A disabled connection can neither make nor receive calls.
    pub inactive: bool,
    /// The user name of the phone. `None` for a trunk.
    pub phone: Option<Arc<str>>,
}

/// All connections in the database, held in memory.
#[derive(Debug, Default)]
pub struct Connections {
    by_id: HashMap<u128, Connection>,
    /// The connection of each phone, by account and user name.
    phones: HashMap<(AccountName, String), u128>,
    phone_rows: Vec<Resource<ProvisionedPhone>>,
    trunks: Vec<(Resource<CustomerTrunk>, Vec<Resource<TrunkAddress>>)>,
    expires_at: Option<Timestamp>,
}

impl Connections {
    /// Loads the connections from the database. Expired phones are not loaded.
    pub async fn load(store: &Store, now: Timestamp) -> Result<Self, StoreError> {
        let mut connections = Self::default();
        let mut phones = resources::all(store, CONNECTION_PHONES).await?;
        phones.retain(|row| row.details.expires_at.is_none_or(|at| at > now));
        connections.expires_at = phones.iter().filter_map(|row| row.details.expires_at).min();
        for row in &phones {
            connections.phones.insert((row.account.clone(), row.name.clone()), row.parent.unwrap_or(row.id));
            if row.parent.is_none() {
                let ProvisionedPhone { limits, inactive, label, .. } = &row.details;
                let phone = Some(row.name.as_str().into());
                let (account, name) = (row.account.clone(), label.clone());
                let connection = Connection { account, name, limits: *limits, inactive: *inactive, phone };
                connections.by_id.insert(row.id, connection);
            }
        }
        let mut places = resources::all(store, HOSTS).await?;
        places.extend(resources::all(store, ADDRESSES).await?);
        let mut trunks = resources::all(store, TO_HOSTS).await?;
        trunks.extend(resources::all(store, TO_ADDRESSES).await?);
        for row in trunks {
            let CustomerTrunk { limits, inactive, .. } = row.details;
            let (account, name) = (row.account.clone(), row.name.clone());
            connections.by_id.insert(row.id, Connection { account, name, limits, inactive, phone: None });
            let own = places.iter().filter(|place| place.parent == Some(row.id)).cloned().collect();
            connections.trunks.push((row, own));
        }
        let inactive = |row: &Resource<ProvisionedPhone>| {
            connections.by_id.get(&row.parent.unwrap_or(row.id)).is_none_or(|connection| connection.inactive)
        };
        phones.retain(|row| !inactive(row));
        connections.phone_rows = phones;
        Ok(connections)
    }

    /// Returns the account's connection with this id. `id` is in decimal digits.
    pub fn get(&self, account: &AccountName, id: &str) -> Option<(u128, &Connection)> {
        let id = id.parse().ok()?;
        self.by_id.get(&id).filter(|connection| connection.account == *account).map(|connection| (id, connection))
    }

    /// Returns the limits of the connections of all accounts.
    pub fn limits(&self) -> impl Iterator<Item = (u128, &Limits)> {
        self.by_id.iter().map(|(id, connection)| (*id, &connection.limits))
    }

    /// Returns the number of the account's connections that use this outbound profile.
    pub fn of_profile(&self, account: &AccountName, profile: u128) -> usize {
        let of_it = |one: &&Connection| one.account == *account && one.limits.profile == Some(profile);
        self.by_id.values().filter(of_it).count()
    }

    /// Returns the id of the connection that makes a call, in decimal digits. This is the connection of the trunk
    /// `trunk`, or of the phone with this user name.
    pub fn calling(&self, account: &AccountName, username: Option<&str>, trunk: Option<u128>) -> Option<String> {
        let phone = || self.phones.get(&(account.clone(), username?.to_owned())).copied();
        trunk.or_else(phone).filter(|id| self.by_id.contains_key(id)).map(|id| id.to_string())
    }

    /// Whether one of the phones has expired at `now`.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Returns the phones that may register and call.
    pub fn phones(&self) -> &[Resource<ProvisionedPhone>] {
        &self.phone_rows
    }

    /// Returns the trunks, each with its destinations.
    pub fn trunks(&self) -> impl Iterator<Item = (&Resource<CustomerTrunk>, Vec<Origination>)> {
        self.trunks.iter().map(|(row, places)| (row, originations(row, places)))
    }

    /// Returns the SIP domains that represent trunks. The names of these domains are internal and cannot be called.
    pub fn domains(&self) -> impl Iterator<Item = DomainRow> {
        let domain = |row: &Resource<CustomerTrunk>| DomainRow {
            id: row.id,
            account: row.account.clone(),
            name: domain_of(row.id),
            details: DomainDetails { trunk: true, ..DomainDetails::default() },
            created_at: row.created_at,
            updated_at: row.updated_at,
        };
        self.active_trunks().map(move |(row, _)| domain(row))
    }

    /// Returns the SIP domains of the trunks for the SIP layer, each with the source addresses of the trunk's calls.
    pub fn sip_domains(&self) -> impl Iterator<Item = sip::Domain> {
        self.active_trunks().map(|(row, places)| sip::Domain {
            name: domain_of(row.id).into(),
            account: row.account.clone(),
            networks: places.iter().filter_map(|place| place.details.source).map(IpNet::from).collect(),
            for_any_host: true,
        })
    }

    /// Returns the SIP users of the trunks that authenticate with a password.
    pub fn sip_users(&self) -> impl Iterator<Item = sip::User> {
        self.active_trunks().filter_map(|(row, _)| {
            let login = row.details.login.as_ref()?;
            Some(sip::User {
                account: row.account.clone(),
                username: login.username.as_str().into(),
                ha1: sip::Ha1 { md5: login.ha1_md5.as_str().into(), sha256: login.ha1_sha256.as_str().into() },
                domain: Some(domain_of(row.id).into()),
                trunk: None,
                registers: false,
                calls: true,
            })
        })
    }

    fn active_trunks(&self) -> impl Iterator<Item = (&Resource<CustomerTrunk>, &[Resource<TrunkAddress>])> {
        self.trunks.iter().filter(|(row, _)| !row.details.inactive).map(|(row, places)| (row, &**places))
    }
}

/// Returns the destinations of a trunk. The destinations that are tried first have the lowest priority values, in the
/// order of `first`. The other destinations follow in the order of their creation. If `in_turn` is set, the other
/// destinations follow in random order.
fn originations(row: &Resource<CustomerTrunk>, places: &[Resource<TrunkAddress>]) -> Vec<Origination> {
    let CustomerTrunk { first, in_turn, transport, inactive, .. } = &row.details;
    let priority = |place: usize, id: u128| match first.iter().position(|one| *one == id) {
        Some(place) => place,
        None if *in_turn => first.len(),
        None => first.len() + place,
    };
    let transport = transport.as_deref().map(|word| format!(";transport={word}")).unwrap_or_default();
    let origination = |(place, row): (usize, &Resource<TrunkAddress>)| Origination {
        uri: format!("{}{transport}", row.details.uri),
        priority: priority(place, row.id).try_into().unwrap_or(u16::MAX),
        weight: 1,
        enabled: !inactive,
    };
    places.iter().enumerate().map(origination).collect()
}

fn domain_of(id: u128) -> String {
    format!("{id}.connection.invalid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunk_is_called_at_its_preferred_addresses_and_then_in_order_of_creation() {
        let place = |id, uri: &str| Resource {
            id,
            ..Resource::new(&AccountName::new("acme"), "", TrunkAddress { uri: uri.into(), ..TrunkAddress::default() })
        };
        let places = [place(1, "sip:a:5060"), place(2, "sip:b:5060"), place(3, "sip:c:5060")];
        let called = |trunk: CustomerTrunk| -> Vec<(String, u16)> {
            originations(&Resource::new(&AccountName::new("acme"), "", trunk), &places)
                .into_iter()
                .map(|one| (one.uri, one.priority))
                .collect()
        };
        let uris = |priorities: [u16; 3], more: &str| {
            ["a", "b", "c"].map(|host| format!("sip:{host}:5060{more}")).into_iter().zip(priorities).collect::<Vec<_>>()
        };
        assert_eq!(called(CustomerTrunk::default()), uris([0, 1, 2], ""));
        assert_eq!(
            called(CustomerTrunk { first: vec![3], transport: Some("tcp".into()), ..CustomerTrunk::default() }),
            uris([1, 2, 0], ";transport=tcp")
        );
        assert_eq!(called(CustomerTrunk { in_turn: true, ..CustomerTrunk::default() }), uris([0, 0, 0], ""));
    }
}
