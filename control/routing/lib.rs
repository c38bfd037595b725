//! Routing of calls. An inbound call goes to the owner of its number. An outbound call goes to a trunk or a URI.
#![forbid(unsafe_code)]

mod applications;
mod arrival;
pub mod channels;
mod configured;
pub mod connections;
pub mod country;
pub mod customer_trunk;
mod inbound;
mod internal;
pub mod inventory;
pub mod new_call;
pub mod number_pool;
mod outbound;
mod ownership;
pub mod phones;
mod programs;
pub mod trunk;
mod unknown_number;

use std::sync::Arc;

use tandem_accounts::Accounts;
use tandem_call::StatusEvent;
use tandem_call::program::instruction::Program;
use tandem_id::AccountName;
use tandem_settings::{Application, NumberConfig, TrunkConfig};
use tandem_sip as sip;

use crate::configured::{ConfiguredApplications, ConfiguredNumbers};
use crate::inventory::Inventory;
use crate::number_pool::NumberPool;
use crate::phones::Phones;

pub use self::arrival::{Arrival, TakingNumber, UnknownCaller, calling_account, calling_phone};
pub use self::internal::InternalDestination;
pub use outbound::{Outbound, address_in, weighted_sort_key};
pub use ownership::CallerIdCheck;
pub use programs::{agent_program, bridge_program};
pub use tandem_call::program::instruction::is_trunk_id;
pub use unknown_number::UnknownNumber;

/// The numbers, applications and trunks of the configuration, and the resources of accounts.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    numbers: Arc<ConfiguredNumbers>,
    applications: Arc<ConfiguredApplications>,
    trunks: Vec<Arc<TrunkConfig>>,
    phones: Arc<Phones>,
    inventory: Arc<Inventory>,
    pool: Arc<NumberPool>,
    strict_callers: bool,
    unknown_sources: sip::UnknownSources,
    accounts: Arc<Accounts>,
}

impl Routing {
    /// Creates the routing from the configuration. `inline` parses the document in the settings of a number.
    pub fn new(
        numbers: Vec<NumberConfig>,
        applications: Arc<Vec<Application>>,
        trunks: Vec<TrunkConfig>,
        inline: impl Fn(&NumberConfig) -> Option<Program>,
    ) -> Self {
        let numbers = numbers
            .into_iter()
            .map(|number| {
                let program = inline(&number);
                (number, program)
            })
            .collect();
        Self {
            numbers: Arc::new(ConfiguredNumbers::new(numbers)),
            applications: Arc::new(ConfiguredApplications::new(applications)),
            trunks: trunks.into_iter().map(Arc::new).collect(),
            ..Self::default()
        }
    }

    /// Sets the phones.
    pub fn with_phones(self, phones: Arc<Phones>) -> Self {
        Self { phones, ..self }
    }

    /// Sets the inventory of accounts, and the numbers that accounts may take.
    pub fn with_inventory(self, inventory: Arc<Inventory>, pool: NumberPool) -> Self {
        Self { inventory, pool: Arc::new(pool), ..self }
    }

    /// Sets whether a call must use a calling number that belongs to its account.
    pub fn with_strict_callers(self, strict: bool) -> Self {
        Self { strict_callers: strict, ..self }
    }

    /// Sets what the server does with requests from unknown sources.
    pub fn with_unknown_sources(self, unknown_sources: sip::UnknownSources) -> Self {
        Self { unknown_sources, ..self }
    }

    /// Returns the inventory of accounts.
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inventory
    }

    /// Returns the numbers that accounts may take.
    pub fn pool(&self) -> &NumberPool {
        &self.pool
    }

    /// Returns an iterator over the numbers of the configuration.
    pub fn configured(&self) -> impl Iterator<Item = &NumberConfig> {
        self.numbers.iter()
    }

    /// Returns the entry of a complete number in the configuration.
    pub fn configured_number(&self, number: &str) -> Option<&NumberConfig> {
        self.numbers.exact(number)
    }

    /// Returns the numbers of an account in the configuration.
    pub fn configured_of(&self, account: &AccountName) -> impl Iterator<Item = &NumberConfig> {
        self.numbers.of_account(account)
    }

    /// Sets the accounts. A subaccount uses the trunks of the account that created it.
    pub fn with_accounts(self, accounts: Arc<Accounts>) -> Self {
        Self { accounts, ..self }
    }

    /// Returns the phones of the accounts.
    pub fn phones(&self) -> &Arc<Phones> {
        &self.phones
    }

    /// Returns the applications of the configuration.
    pub fn applications(&self) -> &[Application] {
        self.applications.all()
    }

    /// Returns the application of the configuration with this id.
    pub fn configured_application(&self, id: &str) -> Option<&Application> {
        self.applications.get(id)
    }

    /// Whether the configuration has trunks. Without trunks, every client on this host may call.
    pub fn has_trunks(&self) -> bool {
        !self.trunks.is_empty()
    }

    /// Returns all trunks, in the order of the configuration.
    pub fn trunks(&self) -> &[Arc<TrunkConfig>] {
        &self.trunks
    }

    /// Returns the settings of the trunk with this name.
    pub fn trunk(&self, name: Option<&str>) -> Option<&Arc<TrunkConfig>> {
        self.trunks.iter().find(|trunk| Some(&*trunk.name) == name)
    }

    /// Returns the default dialect for the documents of an account.
    pub fn documents(&self, account: &AccountName) -> Arc<str> {
        self.accounts.documents(account).into()
    }
}

/// The status events that an application with commands receives.
pub const ALL_EVENTS: [StatusEvent; 6] = [
    StatusEvent::Initiated,
    StatusEvent::Ringing,
    StatusEvent::Answered,
    StatusEvent::Completed,
    StatusEvent::InProgress,
    StatusEvent::Absent,
];

/// Replaces or adds the user part in a URI of the form `sip:host:port;params`. `user` has no percent escapes; the URI
/// gets the escapes that the grammar requires (RFC 3261 §25.1).
pub fn with_user(uri: &str, user: &str) -> String {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("sip", uri));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}:{}@{host}", sip::escape_user(user))
}

#[cfg(test)]
mod tests;
