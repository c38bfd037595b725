//! The places, queues and budgets of accounts. An account has one of each, together with its subaccounts, because an
//! account can create many subaccounts. So one account that waits for itself stops no other account.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tandem_id::AccountName;

/// Number of values from which the values that nobody uses are removed. Accounts may be deleted.
const FULL: usize = 1_024;

/// Returns the main account of a subaccount, and `None` for a main account. The function must not wait.
pub type ParentOf = Arc<dyn Fn(&AccountName) -> Option<AccountName> + Send + Sync>;

/// One value for each account that uses a value now. Subaccounts use the value of their main account.
pub struct PerAccount<T> {
    values: Mutex<HashMap<AccountName, Arc<T>>>,
    parent_of: OnceLock<ParentOf>,
    make: fn() -> T,
}

impl<T> PerAccount<T> {
    /// `make` creates the value of an account. Without [`Self::share`], a subaccount has a value of its own.
    pub fn new(make: fn() -> T) -> Self {
        Self { values: Mutex::default(), parent_of: OnceLock::new(), make }
    }

    /// Sets the function that returns the main account of a subaccount. Further calls have no effect.
    pub fn share(&self, parent_of: ParentOf) {
        // An error means that there is a function already.
        let _ = self.parent_of.set(parent_of);
    }

    /// Returns the value of this account. The value exists at least as long as somebody uses it.
    pub fn of(&self, account: &AccountName) -> Arc<T> {
        let main = self.parent_of.get().and_then(|parent_of| parent_of(account));
        let account = main.as_ref().unwrap_or(account);
        let mut values = self.values.lock();
        if let Some(value) = values.get(account) {
            return Arc::clone(value);
        }
        if values.len() >= FULL {
            values.retain(|_, value| Arc::strong_count(value) > 1);
        }
        Arc::clone(values.entry(account.clone()).or_insert_with(|| Arc::new((self.make)())))
    }
}

impl<T> fmt::Debug for PerAccount<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerAccount").field("accounts", &self.values.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subaccounts_use_the_value_of_their_main_account() {
        let values = PerAccount::new(Mutex::<u32>::default);
        assert!(!Arc::ptr_eq(&values.of(&AccountName::new("acme")), &values.of(&AccountName::new("acme/one"))));
        values.share(Arc::new(|account| account.as_str().split_once('/').map(|(main, _)| AccountName::new(main))));
        assert!(Arc::ptr_eq(&values.of(&AccountName::new("acme")), &values.of(&AccountName::new("acme/one"))));
        assert!(!Arc::ptr_eq(&values.of(&AccountName::new("acme")), &values.of(&AccountName::new("other"))));
    }

    #[test]
    fn values_without_a_user_are_forgotten() {
        let values = PerAccount::new(Mutex::<u32>::default);
        let used = values.of(&AccountName::new("used"));
        *used.lock() = 7;
        for account in 0..3 * FULL {
            values.of(&AccountName::new(account.to_string()));
        }
        assert!(values.values.lock().len() <= FULL);
        assert_eq!(*values.of(&AccountName::new("used")).lock(), 7);
    }
}
