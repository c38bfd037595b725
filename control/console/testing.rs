//! Scopes for the tests of this crate.

use std::sync::Arc;

use tandem_accounts::Account;
use tandem_settings::ConsoleRole;

use crate::Scope;

/// Creates the scope of the account `name`. The scope of an operator has all accounts.
pub(crate) fn scope(name: &str, all_accounts: bool) -> Scope {
    let role = if all_accounts { ConsoleRole::Operator } else { ConsoleRole::Account };
    Scope { account: Arc::new(Account::of_subaccount(name, None, None)), all_accounts, role, name: name.into() }
}
