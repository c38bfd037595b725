//! Stored resources that SIP uses: phones and trunks that accounts have created. A change is in the database first, and
//! then applies from the next SIP message on.

use serde::Serialize;
use tandem_routing::phones::provisioned::ProvisionedPhone;
use tandem_runtime::services::Services;
use tandem_store::StoreError;
use tandem_store::resources::{self, Filter, Kind, NotAdded, Resource};

/// Stores a phone, new or changed. User names are unique within an account.
pub async fn keep_phone(
    services: &Services,
    kind: Kind<ProvisionedPhone>,
    row: &mut Resource<ProvisionedPhone>,
    max: u64,
) -> Result<(), NotAdded> {
    row.claim = Some(ProvisionedPhone::claim(&row.account, &row.name));
    keep(services, kind, row, max).await
}

/// Stores a resource, new or changed. An account has at most `max` resources of the kind.
pub async fn keep<T: Serialize>(
    services: &Services,
    kind: Kind<T>,
    row: &Resource<T>,
    max: u64,
) -> Result<(), NotAdded> {
    if row.is_new() {
        return add(services, kind, row, &Filter::default(), max).await;
    }
    if !resources::put(&services.store, kind, row).await? {
        return Err(NotAdded::Taken);
    }
    Ok(services.phones_changed().await?)
}

/// Adds a resource. The account has at most `max` resources of the kind that fit the filter.
pub async fn add<T: Serialize>(
    services: &Services,
    kind: Kind<T>,
    row: &Resource<T>,
    filter: &Filter<'_>,
    max: u64,
) -> Result<(), NotAdded> {
    resources::add(&services.store, kind, row, filter, max).await?;
    Ok(services.phones_changed().await?)
}

/// Deletes a resource and the resources below it. Returns `false` if the account has none with this id.
pub async fn remove<T>(services: &Services, kind: Kind<T>, account: &str, id: u128) -> Result<bool, StoreError> {
    let deleted = resources::delete(&services.store, kind, account, id).await?;
    services.phones_changed().await?;
    Ok(deleted)
}
