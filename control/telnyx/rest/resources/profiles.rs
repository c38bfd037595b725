//! `/v2/outbound_voice_profiles`: limits for the outbound calls of the connections that share a profile.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_operations::outbound_profiles::{self, ProfileError};
use tandem_routing::inventory::OutboundProfile;
use tandem_runtime::app::App;
use tandem_store::StoreFailed;
use tandem_store::resources::Resource;

use super::super::error::ApiError;
use super::super::parameters::Parameters;
use super::inventory_error;
use super::listing::ListFields;
use super::resource::Kind;

/// An outbound voice profile.
pub(super) struct Profile;

type Row = Resource<OutboundProfile>;

impl Kind for Profile {
    type Details = OutboundProfile;

    const RECORD_TYPE: &'static str = "outbound_voice_profile";
    const PATH: &'static str = "/v2/outbound_voice_profiles";
    const MADE: StatusCode = StatusCode::OK;
    const LIST_FIELDS: ListFields = ListFields {
        filters: &[("name", "/name")],
        sorts: &[
            ("-created_at", "/created_at"),
            ("name", "/name"),
            ("enabled", "/enabled"),
            ("service_plan", "/service_plan"),
            ("traffic_type", "/traffic_type"),
            ("usage_payment_method", "/usage_payment_method"),
        ],
    };

    async fn all(app: &App, account: &Account) -> Result<Vec<Arc<Row>>, ApiError> {
        Ok(app.calls.services().routing.load_full().inventory().profiles.all(&account.name))
    }

    fn settings(details: &mut OutboundProfile) -> &mut Map<String, Value> {
        &mut details.other
    }

    fn apply(_: &App, row: &mut Row, _: Parameters<'_>) -> Result<(), ApiError> {
        const DESTINATIONS: &str = "whitelisted_destinations";
        let shown = super::settings::show(Self::RECORD_TYPE, &row.details.other);
        let kept = Parameters(&shown);
        let countries: Vec<String> = kept
            .get(DESTINATIONS)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|country| country.as_str().map(str::to_ascii_uppercase))
            .collect();
        if !countries.iter().all(|country| country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase())) {
            return Err(ApiError::bad_value(DESTINATIONS, "Each country must be an ISO 3166-1 alpha-2 code."));
        }
        let disabled = kept.get("enabled") == Some(&Value::Bool(false));
        let most_calls = kept.integer("concurrent_call_limit", 0..=u32::MAX)?;
        row.name = kept.required("name")?.to_owned();
        (row.details.disabled, row.details.most_calls, row.details.destinations) = (disabled, most_calls, countries);
        Ok(())
    }

    async fn keep(app: &App, row: Row) -> Result<Arc<Row>, ApiError> {
        let services = app.calls.services();
        outbound_profiles::keep(&services.routing.load_full(), &services.store, row).await.map_err(inventory_error)
    }

    async fn remove(app: &App, row: &Row) -> Result<(), ApiError> {
        let services = app.calls.services();
        outbound_profiles::delete(&services.routing.load_full(), &services.store, row).await.map_err(|why| match why {
            ProfileError::InUse => ApiError::in_use("Connections still use this profile."),
            ProfileError::Unknown => ApiError::no_resource(),
            ProfileError::Store(error) => StoreFailed::from(error).into(),
        })
    }

    fn more(app: &App, row: &Row) -> Value {
        let routing = app.calls.services().routing.load_full();
        json!({ "connections_count": outbound_profiles::users(&routing, &row.account, row.id) })
    }
}
