//! API keys: credentials that a program uses instead of the account's own credentials. Each change is made in the database
//! first, and then in memory. A change in memory applies at once.

use jiff::Timestamp;
use tandem_accounts::Accounts;
use tandem_accounts::subaccount::Key;
use tandem_id::AccountName;
use tandem_store::{Store, StoreError};

/// Maximum number of API keys of an account.
pub const MAX_KEYS: usize = 500;

/// The reason why an API key was not created.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The account already has [`MAX_KEYS`] API keys.
    #[error("the account has {MAX_KEYS} keys already, the maximum")]
    TooMany,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Creates an API key. Returns the key with its secret.
pub async fn create(
    accounts: &Accounts,
    store: &Store,
    account: &AccountName,
    friendly_name: String,
) -> Result<(Key, String), KeyError> {
    if accounts.keys_of(account) >= MAX_KEYS {
        return Err(KeyError::TooMany);
    }
    let (key, secret) = Key::new(account, friendly_name);
    key.store(store).await?;
    accounts.put_key(key.clone());
    Ok((key, secret))
}

/// Renames an API key.
pub async fn rename(
    accounts: &Accounts,
    store: &Store,
    key: &mut Key,
    friendly_name: String,
) -> Result<(), StoreError> {
    (key.friendly_name, key.updated_at) = (friendly_name, Timestamp::now());
    key.store(store).await?;
    accounts.put_key(key.clone());
    Ok(())
}

/// Deletes an API key. After the deletion, the key is no longer accepted.
pub async fn delete(accounts: &Accounts, store: &Store, key: &Key) -> Result<(), StoreError> {
    Key::delete(store, &key.account, key.id).await?;
    accounts.forget_key(key.id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tandem_accounts::subaccount;

    use super::*;
    use crate::testing::{account, store};

    #[tokio::test]
    async fn a_renamed_api_key_is_accepted_until_it_is_deleted() {
        let (store, _folder) = store().await;
        let accounts = Accounts::new([account("acme")]);
        let (mut key, secret) = create(&accounts, &store, &AccountName::new("acme"), "ci".into()).await.unwrap();
        rename(&accounts, &store, &mut key, "build".into()).await.unwrap();
        let stored = subaccount::key(&store, &AccountName::new("acme"), key.id).await.unwrap().unwrap();
        assert_eq!((stored.friendly_name.as_str(), accounts.keys_of(&AccountName::new("acme"))), ("build", 1));
        assert!(accounts.by_key(key.id, &secret).is_some());
        delete(&accounts, &store, &key).await.unwrap();
        assert!(accounts.by_key(key.id, &secret).is_none());
        assert!(subaccount::key(&store, &AccountName::new("acme"), key.id).await.unwrap().is_none());
    }
}
