//! Scopes for the tests of this crate.

use std::sync::Arc;

use tandem_accounts::Account;

use crate::Scope;

/// Creates the scope of the account `name`. The scope of an operator has all accounts.
pub(crate) fn scope(name: &str, all_accounts: bool) -> Scope {
    Scope { account: Arc::new(Account::of_subaccount(name, None, None)), all_accounts }
}
