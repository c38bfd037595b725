//! The applications to which calls go: those of the configuration file, and those that an account has created.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::Method;
use tandem_call::leg::LegOwner;
use tandem_call::route::Route;
use tandem_id::AccountName;
use tandem_settings::{Application, ApplicationKind};

use crate::Routing;
use crate::inventory::{Voice, VoiceApplication};

impl Routing {
    /// Returns the application of the account with this id, if the application sends commands. The application is
    /// either in the configuration file, or is an active application that the account has created.
    pub fn commanding(&self, account: &AccountName, id: &str) -> Option<Application> {
        if let Some(application) = self.configured_application(id).filter(|app| app.account == *account) {
            return Some(application.clone()).filter(|app| app.works_by == ApplicationKind::Commands);
        }
        let held = self.inventory.applications.find(id).filter(|held| held.account == *account)?;
        let VoiceApplication { dialect, voice, inactive, first_command_within, .. } = &held.details;
        let works_by = ApplicationKind::of(dialect);
        if *inactive || works_by != ApplicationKind::Commands {
            return None;
        }
        Some(Application {
            id: id.into(),
            account: account.clone(),
            provider: dialect.as_str().into(),
            works_by,
            webhook_url: Arc::clone(voice.url.as_ref()?),
            webhook_failover_url: voice.fallback_url.clone(),
            webhook_method: Method::Post,
            webhook_timeout_secs: voice.timeout,
            first_command_within: first_command_within.map(|seconds| Duration::from_secs(seconds.into())),
            status_callback: None,
        })
    }

    /// Returns the URLs of an account's application with this dialect and id.
    pub fn application(&self, account: &AccountName, dialect: &str, id: &str) -> Option<Voice> {
        let held = self.inventory.applications.find(id);
        let held = held.filter(|held| held.account == *account && held.details.dialect == dialect);
        let held = held.map(|held| held.details.voice.clone());
        let own = |app: &&Application| app.account == *account && &*app.provider == dialect;
        let file = || self.configured_application(id).filter(own).map(Voice::from);
        match held {
            // If the stored application has no URL, the settings in the file still apply.
            Some(Voice { url: None, .. }) => file().or(held),
            Some(_) => held,
            None => file(),
        }
    }

    /// Returns the route of an internal call to an application. The application belongs to the account, or is an
    /// application of another account that is open to all accounts.
    pub fn to_own_application(&self, account: &AccountName, dialect: &str, id: &str) -> Option<Route> {
        let held = self.inventory.applications.find(id).filter(|held| held.details.open);
        self.to_document_of(held.as_ref().map_or(account, |held| &held.account), dialect, id)
    }

    /// Returns the route to the document of the account's application with this dialect and id.
    pub(crate) fn to_document_of(&self, account: &AccountName, dialect: &str, id: &str) -> Option<Route> {
        let voice = self.application(account, dialect, id)?;
        Some(Route {
            owner: LegOwner { application: Some(id.into()), ..LegOwner::new(account.clone(), dialect) },
            status: voice.status(),
            record: None,
            decision: voice.decision()?,
        })
    }
}
