//! The numbers of an account, as every provider's API changes them: which there are, taking one, changing it, handing it to
//! another account, giving it up.
//!
//! What the file says of a number is its floor: a change of such a number is held beside the file, and holds over it.

use std::sync::Arc;

use tandem_accounts::Accounts;
use tandem_settings::NumberConfig;
use tandem_store::resources::Resource;
use tandem_store::{Store, StoreError};

use crate::Routing;
use crate::holdings::{self, NotHeld, Number, Voice};
use crate::number_pool::Block;

/// How many free numbers are tried when others take numbers at the same time.
const TRIES: usize = 16;

/// A number, as it is held.
pub type Held = Arc<Resource<Number>>;

/// Why a number cannot be taken or changed.
#[derive(Debug, thiserror::Error)]
pub enum NumberError {
    /// Somebody has it, or the pool does not offer it to the account.
    #[error("{0} is not available")]
    NotAvailable(String),
    /// The configuration file says whose it is; only there it can be given up or handed over.
    #[error("{0} is in the server's configuration file and can be removed only there")]
    InTheFile(String),
    /// The account has no such number.
    #[error("the account has no such number")]
    Unknown,
    /// The account holds as many numbers as it may.
    #[error("the account holds too many numbers")]
    Full,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The numbers of one account whose applications speak one dialect, or another that belongs to it.
pub struct Numbers<'a> {
    routing: Arc<Routing>,
    store: &'a Store,
    accounts: &'a Accounts,
    account: &'a str,
    dialect: &'static str,
    also: Option<&'static str>,
}

impl<'a> Numbers<'a> {
    /// Those of this account.
    pub fn new(
        routing: Arc<Routing>,
        store: &'a Store,
        accounts: &'a Accounts,
        account: &'a str,
        dialect: &'static str,
    ) -> Self {
        Self { routing, store, accounts, account, dialect, also: None }
    }

    /// The same, and those of the file whose applications speak this dialect.
    pub fn and(self, dialect: &'static str) -> Self {
        Self { also: Some(dialect), ..self }
    }

    /// All that are numbers in full, not the beginnings of numbers.
    pub fn all(&self) -> Vec<Held> {
        let mut file = self.of_the_file();
        let held = self.routing.holdings().numbers.all(self.account);
        let mut numbers: Vec<_> = held
            .into_iter()
            .filter(|row| !self.routing.is_anothers(row))
            .map(|row| {
                let place = file.iter().position(|floor| floor.name == row.name);
                over(row, place.map(|place| file.swap_remove(place)).as_ref())
            })
            .collect();
        numbers.extend(file.into_iter().map(Arc::new));
        numbers
    }

    /// The one of this id.
    pub fn get(&self, id: u128) -> Option<Held> {
        self.all().into_iter().find(|row| row.id == id)
    }

    /// The account whose part of the pool this one takes from: its parent's, if it has one.
    fn taker(&self) -> Arc<str> {
        self.accounts.parent(self.account).unwrap_or_else(|| self.account.into())
    }

    /// The block of the pool that a number is in.
    pub fn block(&self, number: &str) -> Option<&Block> {
        self.routing.pool().find(&self.taker(), number)
    }

    /// Free numbers of the pool that fit, some of them.
    pub fn free(&self, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let taker = self.taker();
        let numbers = self.routing.pool().numbers(&taker, |_| true).map(|(number, _)| number);
        numbers.filter(|number| fits(number) && !self.routing.is_taken(self.account, number)).take(TRIES).collect()
    }

    /// Takes the first of these numbers that is to be had. Several are tried, as others may be faster.
    pub async fn take(&self, wanted: &[String], details: impl Fn(&str) -> Number) -> Result<Held, NumberError> {
        for number in wanted {
            let offered = self.routing.pool().is_open() || self.block(number).is_some();
            if !offered || self.routing.is_taken(self.account, number) {
                continue;
            }
            let row = Resource::new(self.account, number, details(number));
            match self.routing.holdings().numbers.put(self.store, row).await {
                Err(NotHeld::Taken) => {}
                kept => return kept.map_err(|why| not_held(why, number)),
            }
        }
        Err(NumberError::NotAvailable(wanted.first().cloned().unwrap_or_default()))
    }

    /// Keeps a changed number; of one of the file, only what was changed. Calls feel it at once.
    pub async fn keep(&self, row: Resource<Number>) -> Result<Held, NumberError> {
        let mut row = holdings::changed(&row);
        let floor = self.of_the_file().into_iter().find(|floor| floor.name == row.name && floor.account == row.account);
        if let Some(floor) = &floor {
            row.details = row.details.without(&floor.details);
        }
        let number = row.name.clone();
        let kept = self.routing.holdings().numbers.put(self.store, row).await;
        Ok(over(kept.map_err(|why| not_held(why, &number))?, floor.as_ref()))
    }

    /// Makes a number another account's. The giver's application and trunk do not go with it; `application` is the heir's own.
    pub async fn hand_over(
        &self,
        mut row: Resource<Number>,
        heir: &str,
        application: Option<String>,
    ) -> Result<Held, NumberError> {
        if self.routing.configured().any(|one| one.number.exact() == Some(&row.name)) {
            return Err(NumberError::InTheFile(row.name));
        }
        heir.clone_into(&mut row.account);
        (row.details.application, row.details.trunk) = (application, None);
        self.keep(row).await
    }

    /// Gives a number up.
    pub async fn release(&self, row: &Resource<Number>) -> Result<(), NumberError> {
        if holdings::is_of_the_file(row) {
            return Err(NumberError::InTheFile(row.name.clone()));
        }
        let released = self.routing.holdings().numbers.delete(self.store, self.account, row.id).await?;
        released.then_some(()).ok_or(NumberError::Unknown)
    }

    /// What the file says of the account's numbers, but for those whose applications speak other words.
    fn of_the_file(&self) -> Vec<Resource<Number>> {
        let applications = self.routing.applications();
        let provider = |one: &NumberConfig| {
            let id = one.application.as_ref()?;
            applications.iter().find(|app| app.id == *id).map(|app| Arc::clone(&app.provider))
        };
        let ours = |one: &&NumberConfig| {
            let provider = provider(one).or_else(|| one.provider.clone());
            &*one.account == self.account
                && provider.is_none_or(|name| &*name == self.dialect || Some(&*name) == self.also)
        };
        let row = |config: &NumberConfig| {
            let number = config.number.exact()?;
            let details = Number {
                dialect: self.dialect.to_owned(),
                voice: Voice::from(config),
                application: config.application.as_deref().map(str::to_owned),
                ..Number::default()
            };
            let id = holdings::file_id(&config.account, number);
            Some(holdings::of_the_file(id, &config.account, number, details))
        };
        self.routing.configured().filter(ours).filter_map(row).collect()
    }
}

fn over(held: Held, floor: Option<&Resource<Number>>) -> Held {
    match floor {
        Some(floor) => Arc::new(Resource { details: held.details.over(&floor.details), ..(*held).clone() }),
        None => held,
    }
}

fn not_held(why: NotHeld, number: &str) -> NumberError {
    match why {
        NotHeld::Taken => NumberError::NotAvailable(number.to_owned()),
        NotHeld::Full => NumberError::Full,
        NotHeld::Store(error) => NumberError::Store(error),
    }
}
