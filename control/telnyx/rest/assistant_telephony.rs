//! The TeXML application of an assistant. A call to a number with this application talks with the assistant. The setting
//! `default_texml_app_id` of an assistant has the id of its application.

use std::sync::Arc;

use serde_json::{Map, Value};
use tandem_accounts::Account;
use tandem_operations::applications::{ApplicationError, Applications};
use tandem_routing::inventory::{StoredAgent, Voice, VoiceApplication};
use tandem_runtime::app::App;
use tandem_store::StoreFailed;
use tandem_store::resources::Resource;

use super::error::ApiError;
use super::resources::{TEXML, inventory_error};
use crate::id;

const SETTINGS: &str = "telephony_settings";
const APPLICATION: &str = "default_texml_app_id";

/// The id of the application in the settings of the assistant.
fn application(definition: &Map<String, Value>) -> Option<&str> {
    definition.get(SETTINGS)?.get(APPLICATION)?.as_str().filter(|id| !id.is_empty())
}

/// Removes the application from the settings of an assistant, for example of a copy.
pub(super) fn forget(definition: &mut Map<String, Value>) {
    if let Some(Value::Object(settings)) = definition.get_mut(SETTINGS) {
        settings.remove(APPLICATION);
    }
}

/// Whether the assistant takes telephone calls and names no application.
fn wants_one(definition: &Map<String, Value>) -> bool {
    let features = definition.get("enabled_features").and_then(Value::as_array);
    let by_telephone = features.is_some_and(|features| features.iter().any(|feature| feature == "telephony"));
    by_telephone && application(definition).is_none()
}

fn applications<'a>(app: &'a App, account: &'a Account) -> Applications<'a> {
    let services = app.calls.services();
    Applications::new(services.routing.load_full(), &services.store, &account.name, TEXML, |_| None)
}

/// Creates the application of an assistant that needs one, and writes its id into the settings.
pub(super) async fn attach(app: &App, account: &Account, row: &mut Resource<StoredAgent>) -> Result<(), ApiError> {
    if !wants_one(&row.details.definition) {
        return Ok(());
    }
    let agent = Some(Arc::from(row.details.id.as_str()));
    let details = VoiceApplication {
        dialect: TEXML.to_owned(),
        voice: Voice { agent, ..Voice::default() },
        ..VoiceApplication::default()
    };
    let mut application = Resource::new(&account.name, row.details.id.clone(), details);
    application.details.id = id::decimal(application.id).to_string();
    let application = applications(app, account).keep(application).await.map_err(inventory_error)?;
    if let Some(Value::Object(settings)) = row.details.definition.get_mut(SETTINGS) {
        settings.insert(APPLICATION.to_owned(), application.details.id.as_str().into());
    }
    Ok(())
}

/// Deletes the application that was made for a deleted assistant, unless a number still uses the application.
pub(super) async fn detach(app: &App, account: &Account, row: &Resource<StoredAgent>) -> Result<(), ApiError> {
    let applications = applications(app, account);
    let own = application(&row.details.definition).and_then(|id| applications.find(|one| one.details.id == id));
    let Some(own) = own.filter(|one| one.details.voice.agent.as_deref() == Some(row.details.id.as_str())) else {
        return Ok(());
    };
    match applications.delete_unused(&own).await {
        Err(ApplicationError::Store(error)) => Err(StoreFailed::from(error).into()),
        Ok(()) | Err(ApplicationError::InUse(_) | ApplicationError::InTheFile(_) | ApplicationError::Unknown) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_assistant_for_telephone_calls_needs_an_application_unless_it_names_one() {
        let wants = |definition: Value| wants_one(definition.as_object().unwrap());
        assert!(wants(json!({ "enabled_features": ["telephony"], "telephony_settings": {} })));
        assert!(!wants(json!({ "enabled_features": ["messaging"], "telephony_settings": {} })));
        let named = json!({ "enabled_features": ["telephony"], "telephony_settings": { "default_texml_app_id": "1" } });
        assert!(!wants(named.clone()));
        let mut copy = named.as_object().unwrap().clone();
        forget(&mut copy);
        assert!(wants(Value::Object(copy)));
    }
}
