//! Verified caller IDs: numbers of other parties that an account may show as the calling number. An account gets such a
//! number by a [verification](crate::verification).

use std::sync::Arc;

use tandem_id::AccountName;
use tandem_routing::Routing;
use tandem_routing::inventory::{self, InventoryError, VerifiedCaller};
use tandem_store::resources::Resource;
use tandem_store::{Store, StoreError};

/// A verified caller ID of an account. The name of the resource is the number.
pub type VerifiedCallerRow = Arc<Resource<VerifiedCaller>>;

/// Returns the verified caller IDs of an account, newest first.
pub fn all(routing: &Routing, account: &AccountName) -> Vec<VerifiedCallerRow> {
    routing.inventory().callers.all(account)
}

/// Returns the verified caller ID of an account with this number.
pub fn find(routing: &Routing, account: &AccountName, number: &str) -> Option<VerifiedCallerRow> {
    routing.inventory().callers.find(&VerifiedCaller::key(account, number))
}

/// Stores a verified number. If the account has verified the number already, its verified caller ID stays unchanged.
pub async fn keep(
    routing: &Routing,
    store: &Store,
    account: &AccountName,
    number: &str,
    friendly_name: &str,
) -> Result<VerifiedCallerRow, InventoryError> {
    let row = Resource::new(account, number, VerifiedCaller { friendly_name: friendly_name.to_owned() });
    match routing.inventory().callers.put(store, row).await {
        // Another verification of this number ended at the same time.
        Err(InventoryError::Taken) => find(routing, account, number).ok_or(InventoryError::Taken),
        kept => kept,
    }
}

/// Renames a verified caller ID.
pub async fn rename(
    routing: &Routing,
    store: &Store,
    row: &Resource<VerifiedCaller>,
    friendly_name: String,
) -> Result<VerifiedCallerRow, InventoryError> {
    let row = Resource { details: VerifiedCaller { friendly_name }, ..inventory::changed(row) };
    routing.inventory().callers.put(store, row).await
}

/// Deletes a verified caller ID. From the next call on, the account may not show the number. Returns `false` if the
/// account has no verified caller ID with this id.
pub async fn delete(routing: &Routing, store: &Store, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    routing.inventory().callers.delete(store, account, id).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;

    const NUMBER: &str = "+15551230009";

    fn strict_routing() -> Routing {
        Routing::new(Vec::new(), Arc::default(), Vec::new(), |_| None).with_strict_callers(true)
    }

    #[tokio::test]
    async fn an_account_may_show_a_verified_number_until_the_number_is_deleted() {
        let ((store, _folder), routing) = (store().await, strict_routing());
        let may_show = |account: &str| routing.may_call_from(&AccountName::new(account), &NUMBER.into());
        assert!(!may_show("acme"));
        let row = keep(&routing, &store, &AccountName::new("acme"), NUMBER, "office").await.unwrap();
        assert!(may_show("acme") && !may_show("other"));
        assert!(!delete(&routing, &store, &AccountName::new("other"), row.id).await.unwrap());
        assert!(delete(&routing, &store, &AccountName::new("acme"), row.id).await.unwrap());
        assert!(!may_show("acme") && !delete(&routing, &store, &AccountName::new("acme"), row.id).await.unwrap());
    }

    #[tokio::test]
    async fn a_number_that_is_verified_twice_keeps_its_id_and_name() {
        let ((store, _folder), routing) = (store().await, strict_routing());
        let first = keep(&routing, &store, &AccountName::new("acme"), NUMBER, "office").await.unwrap();
        let renamed = rename(&routing, &store, &first, "reception".into()).await.unwrap();
        let again = keep(&routing, &store, &AccountName::new("acme"), NUMBER, "office").await.unwrap();
        assert_eq!((renamed.id, &*again.details.friendly_name), (first.id, "reception"));
        assert_eq!(all(&routing, &AccountName::new("acme")), [again]);
        let other = keep(&routing, &store, &AccountName::new("other"), NUMBER, "office").await.unwrap();
        assert_eq!(
            find(&routing, &AccountName::new("other"), NUMBER),
            Some(other),
            "each account verifies the number for itself"
        );
    }
}
