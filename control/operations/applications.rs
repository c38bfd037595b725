//! The applications of an account, in the form in which the REST APIs show and change them. The account has created
//! some of these applications. The others are in the configuration file.

use std::sync::Arc;

use tandem_id::AccountName;
use tandem_routing::Routing;
use tandem_routing::inventory::{self, InventoryError, Voice, VoiceApplication};
use tandem_settings::Application;
use tandem_store::resources::Resource;
use tandem_store::{Store, StoreError};

use crate::connections::{self, ConnectionError};

pub type AccountApplication = Arc<Resource<VoiceApplication>>;

/// The reason why an application was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum ApplicationError {
    /// The application is in the configuration file and can be removed only there.
    #[error("{0} is in the server's configuration file and can be removed only there")]
    InTheFile(String),
    /// A number still uses the application. The value is this number.
    #[error("{0} still uses the application")]
    InUse(String),
    /// The account has no such application.
    #[error("the account has no such application")]
    Unknown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ConnectionError> for ApplicationError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::InUse(number) => Self::InUse(number),
            ConnectionError::Unknown => Self::Unknown,
            ConnectionError::Store(error) => Self::Store(error),
        }
    }
}

/// A function that converts the id of an application in the configuration file into the id of the resource.
type ResourceId<'a> = Box<dyn Fn(&str) -> Option<u128> + Send + Sync + 'a>;

/// The applications of one account that use one dialect.
pub struct Applications<'a> {
    routing: Arc<Routing>,
    store: &'a Store,
    account: &'a AccountName,
    dialect: &'static str,
    /// Whether the list also contains the applications that the account has created for all other dialects.
    every: bool,
    /// Converts the id in the configuration file into the id of the resource. Returns `None` if the application has no
    /// such id.
    id: ResourceId<'a>,
}

impl<'a> Applications<'a> {
    /// Creates a view of the applications. For an application in the configuration file, `id` converts the id in the
    /// file into the id of the resource. The view does not contain an application for which `id` returns `None`.
    pub fn new(
        routing: Arc<Routing>,
        store: &'a Store,
        account: &'a AccountName,
        dialect: &'static str,
        id: impl Fn(&str) -> Option<u128> + Send + Sync + 'a,
    ) -> Self {
        Self { routing, store, account, dialect, every: false, id: Box::new(id) }
    }

    /// Adds the applications that the account has created for all other dialects.
    pub fn with_every_dialect(self) -> Self {
        Self { every: true, ..self }
    }

    /// Returns all applications. The applications that the account has created or changed come first, newest
    /// application first. The unchanged applications of the configuration file follow. If the account has changed an
    /// application of the file, the unchanged settings have the values from the file.
    pub fn all(&self) -> Vec<AccountApplication> {
        let mut file = self.of_the_file();
        let created = self.routing.inventory().applications.all(self.account).into_iter();
        let created = created.filter(|row| self.every || row.details.dialect == self.dialect);
        let mut applications: Vec<_> = created
            .map(|row| {
                let place = file.iter().position(|floor| floor.details.id == row.details.id);
                over(row, place.map(|place| file.swap_remove(place)).as_ref())
            })
            .collect();
        applications.extend(file.into_iter().map(Arc::new));
        applications
    }

    /// Returns the first application for which `is_it` returns `true`.
    pub fn find(&self, is_it: impl Fn(&Resource<VoiceApplication>) -> bool) -> Option<AccountApplication> {
        self.all().into_iter().find(|row| is_it(row))
    }

    /// Stores a new application or a changed application. The voice settings of an application in the configuration
    /// file are stored only if they differ from the settings in the file.
    pub async fn keep(&self, mut row: Resource<VoiceApplication>) -> Result<AccountApplication, InventoryError> {
        let floor = self.of_the_file().into_iter().find(|floor| floor.details.id == row.details.id);
        if floor.as_ref().is_some_and(|floor| floor.details.voice == row.details.voice) {
            row.details.voice = Voice::default();
        }
        let kept = self.routing.inventory().applications.put(self.store, row).await?;
        Ok(over(kept, floor.as_ref()))
    }

    pub async fn delete(&self, row: &Resource<VoiceApplication>) -> Result<(), ApplicationError> {
        if inventory::is_of_the_file(row) {
            return Err(ApplicationError::InTheFile(row.details.id.clone()));
        }
        let deleted = self.routing.inventory().applications.delete(self.store, self.account, row.id).await?;
        deleted.then_some(()).ok_or(ApplicationError::Unknown)
    }

    /// Deletes an application that no number uses.
    pub async fn delete_unused(&self, row: &Resource<VoiceApplication>) -> Result<(), ApplicationError> {
        connections::check_unused(&self.routing, self.account, &row.details.id)?;
        self.delete(row).await
    }

    fn of_the_file(&self) -> Vec<Resource<VoiceApplication>> {
        let own = |app: &&Application| app.account == *self.account && &*app.provider == self.dialect;
        let row = |app: &Application| {
            let (id, voice) = (app.id.to_string(), Voice::from(app));
            let details =
                VoiceApplication { id, dialect: self.dialect.to_owned(), voice, ..VoiceApplication::default() };
            Some(inventory::of_the_file((self.id)(&app.id)?, self.account, &app.id, details))
        };
        self.routing.applications().iter().filter(own).filter_map(row).collect()
    }
}

fn over(held: AccountApplication, floor: Option<&Resource<VoiceApplication>>) -> AccountApplication {
    match floor.filter(|_| held.details.voice.url.is_none()) {
        Some(floor) => {
            let details = VoiceApplication { voice: floor.details.voice.clone(), ..held.details.clone() };
            Arc::new(Resource { details, ..(*held).clone() })
        }
        None => held,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tandem_routing::inventory::{Inventory, Number};
    use tandem_routing::number_pool::NumberPool;

    use super::*;
    use crate::testing::store;

    fn routing() -> Arc<Routing> {
        let application = |id: &str, provider: &str| {
            let url = format!("http://file/{id}");
            serde_json::from_value(json!({ "id": id, "account": "acme", "provider": provider, "webhook_url": url }))
                .unwrap()
        };
        let file = vec![application("1", "one"), application("2", "one"), application("3", "two")];
        let routing = Routing::new(Vec::new(), Arc::new(file), Vec::new(), |_| None);
        Arc::new(routing.with_inventory(Arc::new(Inventory::default()), NumberPool::default()))
    }

    #[tokio::test]
    async fn an_updated_configured_application_keeps_the_other_configured_settings() {
        let (store, _folder) = store().await;
        let acme = AccountName::new("acme");
        let applications = Applications::new(routing(), &store, &acme, "one", |id| id.parse().ok());
        let shown = || {
            let mut all: Vec<_> =
                applications.all().iter().map(|row| (row.details.id.clone(), row.name.clone())).collect();
            all.sort();
            all
        };
        let pair = |id: &str, name: &str| (id.to_owned(), name.to_owned());
        assert_eq!(shown(), [pair("1", "1"), pair("2", "2")]);
        let first = applications.find(|row| row.id == 1).unwrap();
        assert!(matches!(applications.delete(&first).await, Err(ApplicationError::InTheFile(id)) if id == "1"));

        let mut renamed = inventory::changed(&first);
        renamed.name = "desk".into();
        let kept = applications.keep(renamed).await.unwrap();
        assert_eq!(kept.details.voice.url.as_deref(), Some("http://file/1"));
        assert_eq!(shown(), [pair("1", "desk"), pair("2", "2")]);

        let other = VoiceApplication { id: "9".into(), dialect: "two".into(), ..VoiceApplication::default() };
        applications.keep(Resource::new(&AccountName::new("acme"), "other", other)).await.unwrap();
        assert_eq!(shown().len(), 2, "another dialect's");
        applications.delete(&kept).await.unwrap();
        assert_eq!(shown(), [pair("1", "1"), pair("2", "2")], "the file's settings apply again");
        assert!(matches!(applications.delete(&kept).await, Err(ApplicationError::Unknown)));
    }

    #[tokio::test]
    async fn an_application_with_a_number_is_deleted_only_without_the_check() {
        let (store, _folder) = store().await;
        let routing = routing();
        let acme = AccountName::new("acme");
        let applications = Applications::new(Arc::clone(&routing), &store, &acme, "one", |_| None);
        let details = VoiceApplication { id: "9".into(), dialect: "one".into(), ..VoiceApplication::default() };
        let row = applications.keep(Resource::new(&AccountName::new("acme"), "desk", details)).await.unwrap();
        let number = |application: Option<&str>| {
            let details = Number { application: application.map(str::to_owned), ..Number::default() };
            Resource { id: 1, ..Resource::new(&AccountName::new("acme"), "+15551230001", details) }
        };
        routing.inventory().numbers.put(&store, number(Some("9"))).await.unwrap();
        let refused = applications.delete_unused(&row).await;
        assert!(matches!(refused, Err(ApplicationError::InUse(number)) if number == "+15551230001"));
        routing.inventory().numbers.put(&store, number(None)).await.unwrap();
        applications.delete_unused(&row).await.unwrap();
    }
}
