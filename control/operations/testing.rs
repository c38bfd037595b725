//! A store and accounts for the tests of this crate.

use tandem_accounts::Account;
use tandem_store::Store;

/// Creates an account with the secret `secret`.
pub(crate) fn account(name: &str) -> Account {
    Account::of_subaccount(name, Some("secret".into()), None)
}

/// Opens a store in a temporary folder. The folder is removed with the second value.
pub(crate) async fn store() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/tandem.db", folder.path().display());
    (Store::open(&url).await.unwrap(), folder)
}
