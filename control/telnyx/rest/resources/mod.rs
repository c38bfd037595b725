//! The stored resources of an account: media, applications, numbers, outbound voice profiles, SIP connections and
//! credentials.
//!
//! ```text
//!   listing    filter, sort, page            settings   checks and shows the published settings (settings.json)
//!   resource   list, create, fetch, change, delete: one implementation for all kinds
//!   stored     kinds with changes that SIP must know
//! ```

mod applications;
mod connection;
pub(super) mod listing;
pub(super) mod media;
mod numbers;
mod phones;
mod profiles;
mod resource;
mod settings;
mod stored;
mod trunks;

use axum::Router;
use tandem_operations::connections::ConnectionError;
use tandem_routing::inventory::InventoryError;
use tandem_runtime::app::App;
use tandem_store::StoreFailed;

use self::applications::CallControl;
pub(super) use self::connection::TEXML;
use self::phones::{CredentialConnection, TelephonyCredential};
use self::profiles::Profile;
use self::trunks::{AddressResource, Addresses, Hosts, Trunk};
use super::error::ApiError;

/// The routes of all resources.
pub(super) fn routes() -> Router<App> {
    media::routes()
        .merge(resource::routes::<CallControl>())
        .merge(numbers::routes())
        .merge(resource::routes::<Profile>())
        .merge(phones::routes())
        .merge(resource::routes::<CredentialConnection>())
        .merge(resource::routes::<TelephonyCredential>())
        .merge(connection::routes())
        .merge(resource::routes::<Trunk<Hosts>>())
        .merge(resource::routes::<Trunk<Addresses>>())
        .merge(resource::routes::<AddressResource<Hosts>>())
        .merge(resource::routes::<AddressResource<Addresses>>())
}

pub(super) fn inventory_error(why: InventoryError) -> ApiError {
    match why {
        InventoryError::Store(error) => StoreFailed::from(error).into(),
        refused => ApiError::limit_reached(refused.to_string()),
    }
}

fn connection_error(why: ConnectionError) -> ApiError {
    match why {
        ConnectionError::InUse(number) => ApiError::in_use(format!("{number} still uses this connection.")),
        ConnectionError::Unknown => ApiError::no_resource(),
        ConnectionError::Store(error) => StoreFailed::from(error).into(),
    }
}
