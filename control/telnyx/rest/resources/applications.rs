//! `/v2/call_control_applications`: applications that a request created, and applications in the configuration file. An
//! application in the configuration file can be changed only in this file.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_id::AccountName;
use tandem_operations::applications::{ApplicationError, Applications};
use tandem_operations::connections::ConnectionError;
use tandem_routing::inventory::{self, Voice, VoiceApplication};
use tandem_runtime::app::App;
use tandem_store::StoreFailed;
use tandem_store::resources::Resource;

use super::super::error::ApiError;
use super::super::parameters::Parameters;
use super::connection;
use super::listing::ListFields;
use super::resource::Kind;
use super::{connection_error, inventory_error};
use crate::NAME;

/// A Call Control application. The application controls its calls with commands.
pub(super) struct CallControl;

type Row = Resource<VoiceApplication>;

/// The account's applications. An application in the configuration file has only a text as its id, so all these
/// applications get the number 0.
fn applications<'a>(app: &'a App, account: &'a AccountName) -> Applications<'a> {
    let services = app.calls.services();
    Applications::new(services.routing.load_full(), &services.store, account, NAME, |_| Some(0))
}

impl Kind for CallControl {
    type Details = VoiceApplication;

    const RECORD_TYPE: &'static str = "call_control_application";
    const PATH: &'static str = "/v2/call_control_applications";
    const LIST_FIELDS: ListFields = ListFields {
        filters: &[
            ("application_name", "/application_name"),
            ("connection_id", "/id"),
            ("outbound.outbound_voice_profile_id", "/outbound/outbound_voice_profile_id"),
            ("outbound_voice_profile_id", "/outbound/outbound_voice_profile_id"),
        ],
        sorts: &[("created_at", "/created_at"), ("connection_name", "/application_name"), ("active", "/active")],
    };

    async fn all(app: &App, account: &Account) -> Result<Vec<Arc<Row>>, ApiError> {
        Ok(applications(app, &account.name).all())
    }

    fn id(row: &Row) -> String {
        row.details.id.clone()
    }

    fn settings(details: &mut VoiceApplication) -> &mut Map<String, Value> {
        &mut details.other
    }

    fn apply(app: &App, row: &mut Row, given: Parameters<'_>) -> Result<(), ApiError> {
        // This server sends webhooks only in the format of API version 2.
        if given.text("webhook_api_version")? == Some("1") {
            return Err(ApiError::not_permitted("webhook_api_version"));
        }
        let details = &mut row.details;
        let kept = Parameters(&details.other);
        let text = |name: &str| kept.text(name).map(|text| text.filter(|text| !text.is_empty()));
        let seconds = kept.integer("webhook_timeout_secs", 0..=30)?.filter(|seconds| *seconds > 0);
        let voice = Voice {
            url: text("webhook_event_url")?.map(Into::into),
            fallback_url: text("webhook_event_failover_url")?.map(Into::into),
            timeout: seconds.and_then(|seconds| seconds.try_into().ok()),
            ..Voice::default()
        };
        let first_command_within = match kept.flag("first_command_timeout")? {
            true => Some(kept.integer("first_command_timeout_secs", 1..=u32::MAX)?.unwrap_or(30)),
            false => None,
        };
        let inactive = kept.get("active") == Some(&Value::Bool(false));
        let limits = connection::limits(app, &row.account, kept)?;
        row.name = kept.required("application_name")?.to_owned();
        (details.id, details.dialect) = (row.id.to_string(), NAME.to_owned());
        (details.voice, details.inactive, details.limits) = (voice, inactive, limits);
        details.first_command_within = first_command_within;
        Ok(())
    }

    async fn keep(app: &App, row: Row) -> Result<Arc<Row>, ApiError> {
        let account = row.account.clone();
        applications(app, &account).keep(row).await.map_err(inventory_error)
    }

    async fn remove(app: &App, row: &Row) -> Result<(), ApiError> {
        applications(app, &row.account).delete_unused(row).await.map_err(|why| match why {
            ApplicationError::InTheFile(id) => ApiError::in_the_file(&id),
            ApplicationError::InUse(number) => connection_error(ConnectionError::InUse(number)),
            ApplicationError::Unknown => ApiError::no_resource(),
            ApplicationError::Store(error) => StoreFailed::from(error).into(),
        })
    }

    fn more(_: &App, row: &Row) -> Value {
        let voice = &row.details.voice;
        let mut more = json!({
            "tags": row.details.other.get("tags").cloned().unwrap_or_else(|| json!([])),
            "webhook_api_version": "2",
        });
        // An application of the configuration file has no other settings than these.
        if let (true, Some(more)) = (inventory::is_of_the_file(row), more.as_object_mut()) {
            more.insert("application_name".into(), row.name.clone().into());
            more.insert("webhook_event_url".into(), voice.url.as_deref().into());
            more.insert("webhook_event_failover_url".into(), voice.fallback_url.as_deref().into());
            more.insert("webhook_timeout_secs".into(), voice.timeout.into());
        }
        more
    }
}
