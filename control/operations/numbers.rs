//! The operations on the telephone numbers of an account: list, take, change, transfer and release. The REST APIs of
//! all providers use these operations.
//!
//! For a number in the configuration file, the file has the base values. A change of such a number is stored separately
//! and takes precedence over the file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tandem_accounts::Accounts;
use tandem_id::AccountName;
use tandem_routing::Routing;
use tandem_routing::inventory::{self, InventoryError, Number, Voice};
use tandem_routing::number_pool::Block;
use tandem_settings::NumberConfig;
use tandem_store::resources::Resource;
use tandem_store::{Store, StoreError};

use crate::connections;

/// Maximum number of free numbers in one search. Several numbers are useful, because other accounts may take numbers at
/// the same time.
const TRIES: usize = 16;

/// A number of an account.
pub type NumberRow = Arc<Resource<Number>>;

/// The reason why a number cannot be taken, changed or released.
#[derive(Debug, thiserror::Error)]
pub enum NumberError {
    /// Another account owns the number, or the pool does not offer the number to this account.
    #[error("{0} is not available")]
    NotAvailable(String),
    /// The configuration has several accounts and no pool, and this account is no operator account.
    #[error(
        "{0} is not available: without [[number_pool]] in a configuration with several accounts, only an operator's \
         account can take numbers"
    )]
    NoPool(String),
    /// The configuration file assigns the number. So the number can be released or transferred only by a change of the
    /// file.
    #[error("{0} is in the server's configuration file and can be removed only there")]
    InTheFile(String),
    /// The account has no such number.
    #[error("the account has no such number")]
    Unknown,
    /// The account has no connection with this id.
    #[error("the account has no such connection")]
    NoConnection,
    /// The account has reached its limit of numbers.
    #[error("the account holds too many numbers")]
    Full,
    /// The database query failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The numbers of one account. A number in the configuration file is included only if its application uses the dialect
/// of this view. The function `and` adds a second dialect.
pub struct Numbers<'a> {
    routing: Arc<Routing>,
    store: &'a Store,
    accounts: &'a Accounts,
    account: &'a AccountName,
    dialect: &'static str,
    also: Option<&'static str>,
}

impl<'a> Numbers<'a> {
    /// Creates a view of the numbers of this account.
    pub fn new(
        routing: Arc<Routing>,
        store: &'a Store,
        accounts: &'a Accounts,
        account: &'a AccountName,
        dialect: &'static str,
    ) -> Self {
        Self { routing, store, accounts, account, dialect, also: None }
    }

    /// Adds the numbers in the configuration file whose applications use this other dialect.
    pub fn and(self, dialect: &'static str) -> Self {
        Self { also: Some(dialect), ..self }
    }

    /// Returns all complete numbers of the account. Prefixes of numbers are not included.
    pub fn all(&self) -> Vec<NumberRow> {
        let file = self.of_the_file();
        let places: HashMap<&str, usize> =
            file.iter().enumerate().map(|(place, floor)| (floor.name.as_str(), place)).collect();
        let mut changed: HashSet<usize> = HashSet::new();
        let held = self.routing.inventory().numbers.all(self.account);
        let mut numbers: Vec<_> = held
            .into_iter()
            .filter(|row| !self.routing.belongs_to_another(row))
            .map(|row| {
                let place = places.get(row.name.as_str());
                changed.extend(place);
                with_configured(row, place.and_then(|place| file.get(*place)))
            })
            .collect();
        let unchanged = file.into_iter().enumerate().filter(|(place, _)| !changed.contains(place));
        numbers.extend(unchanged.map(|(_, floor)| Arc::new(floor)));
        numbers
    }

    /// Returns the number with this id.
    pub fn get(&self, id: u128) -> Option<NumberRow> {
        self.all().into_iter().find(|row| row.id == id)
    }

    /// Returns the numbers whose calls go to a trunk, newest number first. `trunk` is the id of the trunk in the form
    /// that numbers use.
    pub fn of_trunk(&self, trunk: &str) -> Vec<NumberRow> {
        let held = self.routing.inventory().numbers.all(self.account).into_iter();
        held.filter(|row| row.details.trunk.as_deref() == Some(trunk)).collect()
    }

    /// Assigns a number to a trunk, so that the calls of the number go to the trunk. `None` ends the assignment. A
    /// number with a trunk has no application.
    pub async fn attach(&self, row: &Resource<Number>, trunk: Option<String>) -> Result<NumberRow, NumberError> {
        let mut row = row.clone();
        row.details.trunk = trunk;
        if row.details.trunk.is_some() {
            row.details.application = None;
        }
        self.keep(row).await
    }

    /// Returns the account for the search in the pool: the parent account, or the account itself if it has no parent.
    fn taker(&self) -> AccountName {
        self.accounts.parent(self.account).unwrap_or_else(|| self.account.clone())
    }

    /// Returns the block of the pool that contains a number, if the account may take numbers from this block.
    pub fn block(&self, number: &str) -> Option<&Block> {
        self.routing.pool().find(&self.taker(), number)
    }

    /// Returns the blocks of the pool from which the account may take numbers, in the order of the configuration.
    pub fn blocks(&self) -> Vec<&Block> {
        self.routing.pool().blocks(&self.taker()).collect()
    }

    /// Returns the first `max` free numbers of the pool that `matches` and `fits` accept, each with its block.
    pub fn offered(
        &self,
        matches: impl Fn(&Block) -> bool,
        fits: impl Fn(&str) -> bool,
        max: usize,
    ) -> Vec<(String, &Block)> {
        let taker = self.taker();
        let numbers = self.routing.pool().numbers(&taker, matches);
        numbers.filter(|(number, _)| fits(number) && !self.routing.is_taken(self.account, number)).take(max).collect()
    }

    /// Returns at most 16 free numbers from the pool that `fits` accepts.
    pub fn free(&self, fits: impl Fn(&str) -> bool) -> Vec<String> {
        self.offered(|_| true, fits, TRIES).into_iter().map(|(number, _)| number).collect()
    }

    /// Takes the first available number of this list. The list may have several numbers, because other accounts may
    /// take a number at the same time.
    ///
    /// Calls of all accounts to a number reach the account that took the number. So an account that may not decide for
    /// the other accounts can take only numbers of the pool.
    pub async fn take(
        &self,
        candidates: &[String],
        details: impl Fn(&str) -> Number,
    ) -> Result<NumberRow, NumberError> {
        let is_open = self.routing.pool().is_open();
        let decides = is_open && self.decides_for_all();
        for number in candidates {
            let offered = decides || self.block(number).is_some();
            if !offered && is_open {
                return Err(NumberError::NoPool(number.clone()));
            }
            if !offered || self.routing.is_taken(self.account, number) {
                continue;
            }
            let row = Resource::new(self.account, number, details(number));
            match self.routing.inventory().numbers.put(self.store, row).await {
                Err(InventoryError::Taken) => {}
                kept => return kept.map_err(|why| inventory_error(why, number)),
            }
        }
        Err(NumberError::NotAvailable(candidates.first().cloned().unwrap_or_default()))
    }

    /// Whether the account may take a number that no pool offers to it.
    fn decides_for_all(&self) -> bool {
        let operator =
            || self.accounts.by_name(self.account).is_some_and(|account| self.accounts.is_operator(&account));
        self.accounts.have_one_owner() || operator()
    }

    /// Stores a changed number. The change applies to new calls at once. For a number in the configuration file, only
    /// the differences are stored.
    pub async fn keep(&self, row: Resource<Number>) -> Result<NumberRow, NumberError> {
        let mut row = inventory::changed(&row);
        let floor = self.of_the_file().into_iter().find(|floor| floor.name == row.name && floor.account == row.account);
        if let Some(floor) = &floor {
            row.details = row.details.without(&floor.details);
        }
        let number = row.name.clone();
        let kept = self.routing.inventory().numbers.put(self.store, row).await;
        Ok(with_configured(kept.map_err(|why| inventory_error(why, &number))?, floor.as_ref()))
    }

    /// Transfers a number to another account. The number loses the application and the trunk of the previous account.
    /// `application` belongs to the new account.
    pub async fn hand_over(
        &self,
        mut row: Resource<Number>,
        new_owner: &AccountName,
        application: Option<String>,
    ) -> Result<NumberRow, NumberError> {
        self.check_not_in_the_file(&row.name)?;
        row.account = new_owner.clone();
        (row.details.application, row.details.trunk) = (application, None);
        self.keep(row).await
    }

    /// Checks that the configuration file does not assign a number to any account.
    fn check_not_in_the_file(&self, number: &str) -> Result<(), NumberError> {
        match self.routing.configured_number(number).is_some() {
            true => Err(NumberError::InTheFile(number.to_owned())),
            false => Ok(()),
        }
    }

    /// Releases a number. A changed number of the configuration file returns to the settings in the file.
    pub async fn release(&self, row: &Resource<Number>) -> Result<(), NumberError> {
        if inventory::is_of_the_file(row) {
            return Err(NumberError::InTheFile(row.name.clone()));
        }
        let released = self.routing.inventory().numbers.delete(self.store, self.account, row.id).await?;
        released.then_some(()).ok_or(NumberError::Unknown)
    }

    /// Releases a number that the configuration file does not assign to any account. After the release of a number of the
    /// file, the number would only have the settings of the file again.
    pub async fn release_completely(&self, row: &Resource<Number>) -> Result<(), NumberError> {
        self.check_not_in_the_file(&row.name)?;
        self.release(row).await
    }

    /// Sets the connection that handles the number's calls. If `connection` is `None`, the number has the connection of
    /// the configuration file, or no connection. `dialects` are the dialects of connections that the number can have.
    pub fn connect(
        &self,
        number: &mut Number,
        connection: Option<&str>,
        dialects: &[&'static str],
    ) -> Result<(), NumberError> {
        (number.voice, number.application, number.trunk) = Default::default();
        if let Some(id) = connection {
            let found = connections::find(&self.routing, self.account, id, dialects);
            found.ok_or(NumberError::NoConnection)?.dialect.clone_into(&mut number.dialect);
            number.application = Some(id.to_owned());
        }
        Ok(())
    }

    /// Returns the account's numbers in the configuration file. Numbers whose applications use another dialect are not
    /// included.
    fn of_the_file(&self) -> Vec<Resource<Number>> {
        let provider = |one: &NumberConfig| {
            let application = self.routing.configured_application(one.application.as_ref()?)?;
            Some(Arc::clone(&application.provider))
        };
        let ours = |one: &&NumberConfig| {
            let provider = provider(one).or_else(|| one.provider.clone());
            provider.is_none_or(|name| &*name == self.dialect || Some(&*name) == self.also)
        };
        let row = |config: &NumberConfig| {
            let number = config.number.exact()?;
            let details = Number {
                dialect: self.dialect.to_owned(),
                voice: Voice::from(config),
                application: config.application.as_deref().map(str::to_owned),
                ..Number::default()
            };
            let id = inventory::file_id(&config.account, number);
            Some(inventory::of_the_file(id, &config.account, number, details))
        };
        self.routing.configured_of(self.account).filter(ours).filter_map(row).collect()
    }
}

fn with_configured(held: NumberRow, floor: Option<&Resource<Number>>) -> NumberRow {
    match floor {
        Some(floor) => Arc::new(Resource { details: held.details.with_defaults(&floor.details), ..(*held).clone() }),
        None => held,
    }
}

fn inventory_error(why: InventoryError, number: &str) -> NumberError {
    match why {
        InventoryError::Taken => NumberError::NotAvailable(number.to_owned()),
        InventoryError::Full => NumberError::Full,
        InventoryError::Store(error) => NumberError::Store(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tandem_routing::inventory::VoiceApplication;
    use tandem_routing::number_pool::NumberPool;

    use super::*;
    use crate::testing::store;

    fn routing() -> Routing {
        let number = json!({ "number": "+15551230009", "account": "acme", "voice_url": "http://file/" });
        let numbers = vec![serde_json::from_value(number).unwrap()];
        Routing::new(numbers, Arc::default(), Vec::new(), |_| None)
    }

    /// A server with these accounts, and the result of each account's attempt to take a number. `pool` has the blocks of
    /// `[[number_pool]]`.
    async fn takers(accounts: Vec<tandem_accounts::Account>, pool: serde_json::Value) -> Vec<Result<(), String>> {
        let (store, _folder) = store().await;
        let names: Vec<_> = accounts.iter().map(|account| account.name.clone()).collect();
        let accounts = Arc::new(Accounts::new(accounts));
        let pool = NumberPool::new(serde_json::from_value(pool).unwrap());
        let routing = routing().with_inventory(Arc::default(), pool).with_accounts(Arc::clone(&accounts));
        let routing = Arc::new(routing);
        let mut results = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let numbers = Numbers::new(Arc::clone(&routing), &store, &accounts, name, "twilio");
            let taken = numbers.take(&[format!("+1555123000{place}")], |_| Number::default()).await;
            results.push(taken.map(drop).map_err(|why| why.to_string()));
        }
        results
    }

    #[tokio::test]
    async fn with_several_accounts_only_the_operator_takes_numbers_that_no_pool_offers() {
        let account = |name: &str, operator| {
            let account = serde_json::json!({ "name": name, "operator": operator });
            serde_json::from_value::<tandem_accounts::Account>(account).unwrap()
        };
        let nothing = || serde_json::json!([]);
        assert_eq!(takers(vec![account("acme", false)], nothing()).await, [Ok(())], "an only account");
        let three = || vec![account("acme", false), account("other", false), account("operator", true)];
        let taken = takers(three(), nothing()).await;
        assert!(matches!(&taken[..], [Err(why), Err(_), Ok(())] if why.contains("[[number_pool]]")), "{taken:?}");
        let block = serde_json::json!([{ "number": "+15551230000", "last": "+15551230009", "account": "other" }]);
        let taken = takers(three(), block).await;
        assert!(matches!(&taken[..], [Err(why), Ok(()), Err(_)] if !why.contains("[[number_pool]]")), "{taken:?}");
    }

    #[tokio::test]
    async fn a_number_of_the_file_loses_its_changes_but_is_never_released_completely() {
        let (store, _folder) = store().await;
        let (routing, accounts) = (Arc::new(routing()), Accounts::new([]));
        let acme = AccountName::new("acme");
        let numbers = Numbers::new(routing, &store, &accounts, &acme, "one");
        let url = |text: &str| Some(Arc::from(text));
        let mut row = (*numbers.all().remove(0)).clone();
        assert!(matches!(numbers.release(&row).await, Err(NumberError::InTheFile(_))), "unchanged");
        row.details.voice.url = url("http://rest/");
        let kept = numbers.keep(row).await.unwrap();
        assert_eq!(kept.details.voice.url, url("http://rest/"));
        assert!(matches!(numbers.release_completely(&kept).await, Err(NumberError::InTheFile(_))));
        numbers.release(&kept).await.unwrap();
        assert_eq!(numbers.all().remove(0).details.voice.url, url("http://file/"));
        let moved = numbers.hand_over((*kept).clone(), &AccountName::new("other"), None).await;
        assert!(matches!(moved, Err(NumberError::InTheFile(_))));
    }

    #[tokio::test]
    async fn a_number_gets_only_connections_of_its_account_and_of_the_given_dialects() {
        let (store, _folder) = store().await;
        let (routing, accounts) = (Arc::new(routing()), Accounts::new([]));
        for (account, id, dialect) in [("acme", "1", "one"), ("acme", "2", "two"), ("other", "3", "one")] {
            let details = VoiceApplication { id: id.into(), dialect: dialect.into(), ..VoiceApplication::default() };
            routing
                .inventory()
                .applications
                .put(&store, Resource::new(&AccountName::new(account), id, details))
                .await
                .unwrap();
        }
        let acme = AccountName::new("acme");
        let numbers = Numbers::new(routing, &store, &accounts, &acme, "one");
        let before = Number { trunk: Some("trunk".into()), ..Number::default() };
        let connect = |id: Option<&str>| {
            let mut number = before.clone();
            numbers.connect(&mut number, id, &["one"]).map(|()| (number.application, number.trunk, number.dialect))
        };
        assert_eq!(connect(Some("1")).unwrap(), (Some("1".into()), None, "one".into()));
        assert_eq!(connect(None).unwrap(), (None, None, String::new()));
        for foreign in ["2", "3", "4"] {
            assert!(matches!(connect(Some(foreign)), Err(NumberError::NoConnection)), "{foreign}");
        }
    }
}
