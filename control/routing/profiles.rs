//! The functions that store and delete outbound profiles. The connections and applications of an account can share an
//! outbound profile.

use std::sync::Arc;

use tandem_store::resources::Resource;
use tandem_store::{Store, StoreError};

use crate::Routing;
use crate::inventory::{InventoryError, OutboundProfile};

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

impl Routing {
    /// Returns how many connections and applications of the account use a profile.
    pub fn users_of_profile(&self, account: &str, profile: u128) -> usize {
        let applications = self.inventory.applications.all(account);
        let applications = applications.iter().filter(|row| row.details.limits.profile == Some(profile)).count();
        applications + self.phones.connections().of_profile(account, profile)
    }

    /// Stores a new profile or a changed profile. The profile applies from the next call.
    pub async fn keep_profile(
        &self,
        store: &Store,
        row: Resource<OutboundProfile>,
    ) -> Result<Arc<Resource<OutboundProfile>>, InventoryError> {
        self.inventory.profiles.put(store, row).await
    }

    /// Deletes a profile that neither a connection nor an application uses.
    pub async fn delete_profile(&self, store: &Store, row: &Resource<OutboundProfile>) -> Result<(), ProfileError> {
        if self.users_of_profile(&row.account, row.id) > 0 {
            return Err(ProfileError::InUse);
        }
        let deleted = self.inventory.profiles.delete(store, &row.account, row.id).await?;
        deleted.then_some(()).ok_or(ProfileError::Unknown)
    }
}
