//! Stored resources that SIP uses: the phones and the trunks that accounts have created. A change is first stored in
//! the database. Then the change applies to all later SIP messages.

use serde::Serialize;
use tandem_id::AccountName;
use tandem_routing::phones::provisioned::ProvisionedPhone;
use tandem_runtime::services::Services;
use tandem_store::StoreError;
use tandem_store::resources::{self, Filter, Kind, NotAdded, Resource};

/// Stores a new phone or a changed phone. User names are unique within an account.
pub async fn keep_phone(
    services: &Services,
    kind: Kind<ProvisionedPhone>,
    row: &mut Resource<ProvisionedPhone>,
    max: u64,
) -> Result<(), NotAdded> {
    row.claim = Some(ProvisionedPhone::claim(&row.account, &row.name));
    keep(services, kind, row, max).await
}

/// Stores a new resource or a changed resource. An account has at most `max` resources of this kind.
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

/// Adds a resource. The account may have at most `max` resources of this kind that match `filter`.
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

/// Deletes a resource and its child resources. Returns `false` if the account has no resource of this kind with this
/// id.
pub async fn remove<T>(
    services: &Services,
    kind: Kind<T>,
    account: &AccountName,
    id: u128,
) -> Result<bool, StoreError> {
    let deleted = resources::delete(&services.store, kind, account, id).await?;
    services.phones_changed().await?;
    Ok(deleted)
}
