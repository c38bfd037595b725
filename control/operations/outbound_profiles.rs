//! The functions that store and delete outbound profiles. The connections and applications of an account can share an
//! outbound profile.

use std::sync::Arc;

use tandem_id::AccountName;
use tandem_routing::Routing;
use tandem_routing::inventory::{InventoryError, OutboundProfile};
use tandem_store::resources::Resource;
use tandem_store::{Store, StoreError};

/// The reason why a profile was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Connections or applications use the profile.
    #[error("the profile is in use")]
    InUse,
    /// The account has no such profile.
    #[error("the account has no such profile")]
    Unknown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns how many connections and applications of the account use a profile.
pub fn users(routing: &Routing, account: &AccountName, profile: u128) -> usize {
    let applications = routing.inventory().applications.all(account);
    let applications = applications.iter().filter(|row| row.details.limits.profile == Some(profile)).count();
    applications + routing.phones().connections().of_profile(account, profile)
}

/// Stores a new profile or a changed profile. The profile applies from the next call.
pub async fn keep(
    routing: &Routing,
    store: &Store,
    row: Resource<OutboundProfile>,
) -> Result<Arc<Resource<OutboundProfile>>, InventoryError> {
    routing.inventory().profiles.put(store, row).await
}

/// Deletes a profile that neither a connection nor an application uses.
pub async fn delete(routing: &Routing, store: &Store, row: &Resource<OutboundProfile>) -> Result<(), ProfileError> {
    if users(routing, &row.account, row.id) > 0 {
        return Err(ProfileError::InUse);
    }
    let deleted = routing.inventory().profiles.delete(store, &row.account, row.id).await?;
    deleted.then_some(()).ok_or(ProfileError::Unknown)
}

#[cfg(test)]
mod tests {
    use tandem_routing::inventory::{Limits, VoiceApplication};

    use super::*;
    use crate::testing::store;

    #[tokio::test]
    async fn a_profile_is_deleted_only_when_no_application_uses_it() {
        let (store, _folder) = store().await;
        let routing = Routing::new(Vec::new(), Arc::default(), Vec::new(), |_| None);
        let profile =
            keep(&routing, &store, Resource::new(&AccountName::new("acme"), "main", OutboundProfile::default()))
                .await
                .unwrap();
        let limits = Limits { profile: Some(profile.id), ..Limits::default() };
        let details = VoiceApplication { id: "1".into(), limits, ..VoiceApplication::default() };
        let application =
            routing.inventory().applications.put(&store, Resource::new(&AccountName::new("acme"), "a", details));
        let application = application.await.unwrap();
        assert_eq!(users(&routing, &AccountName::new("acme"), profile.id), 1);
        assert!(matches!(delete(&routing, &store, &profile).await, Err(ProfileError::InUse)));
        routing.inventory().applications.delete(&store, &AccountName::new("acme"), application.id).await.unwrap();
        delete(&routing, &store, &profile).await.unwrap();
        assert!(matches!(delete(&routing, &store, &profile).await, Err(ProfileError::Unknown)));
    }
}
