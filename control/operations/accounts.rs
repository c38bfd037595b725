//! Creates subaccounts and changes accounts. Each change is made in the database first, and then in memory. A change in
//! memory applies at once.

use std::sync::Arc;

use jiff::Timestamp;
use tandem_accounts::subaccount::{AccountStatus, Subaccount};
use tandem_accounts::{Account, Accounts};
use tandem_id::AccountName;
use tandem_store::{Store, StoreError};

/// Maximum number of subaccounts of an account.
pub const MAX_SUBACCOUNTS: usize = 1000;

/// The reason why an account was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Subaccounts cannot have subaccounts.
    #[error("a subaccount cannot have subaccounts")]
    IsSubaccount,
    /// The account already has [`MAX_SUBACCOUNTS`] subaccounts.
    #[error("the account has {MAX_SUBACCOUNTS} subaccounts already, the maximum")]
    TooManySubaccounts,
    /// Accounts of this provider are created in the configuration only.
    #[error("accounts are created in the configuration")]
    ConfigurationOnly,
    /// Only the parent of a subaccount may suspend or close the subaccount.
    #[error("only the parent of a subaccount may change its status")]
    StatusIsForParent,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A change of an account. Fields that are `None` stay as they are.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    /// The name shown to people.
    pub friendly_name: Option<String>,
    /// Whether the account may make calls and requests.
    pub status: Option<AccountStatus>,
}

/// Creates a subaccount. `make` creates the account from an id, with new credentials. `make` returns `None` if the
/// provider's accounts exist only in the configuration.
pub async fn create(
    accounts: &Accounts,
    store: &Store,
    parent: &AccountName,
    friendly_name: String,
    make: impl FnOnce(u128) -> Option<Account>,
) -> Result<Subaccount, AccountError> {
    if accounts.parent(parent).is_some() {
        return Err(AccountError::IsSubaccount);
    }
    if accounts.below(parent).len() >= MAX_SUBACCOUNTS {
        return Err(AccountError::TooManySubaccounts);
    }
    let id = rand::random();
    let account = make(id).ok_or(AccountError::ConfigurationOnly)?;
    let subaccount = Subaccount::new(id, account, parent, friendly_name);
    subaccount.store(store).await?;
    accounts.put(subaccount.clone());
    Ok(subaccount)
}

/// Changes an account. `id` is the account's id at its provider. This id is used only for the first change of an
/// account of the configuration. `by_itself` says whether the account itself requests the change. If `by_itself` is
/// false, the account's parent requests the change.
pub async fn change(
    accounts: &Accounts,
    store: &Store,
    account: &Arc<Account>,
    id: u128,
    by_itself: bool,
    change: AccountChange,
) -> Result<(), AccountError> {
    let mut record = match accounts.subaccount(&account.name) {
        Some(record) => (*record).clone(),
        None => Subaccount::of_configured(id, account),
    };
    if let Some(name) = change.friendly_name {
        record.friendly_name = name;
    }
    if let Some(status) = change.status {
        // An account of the configuration is removed in the configuration. An account cannot suspend or close
        // itself, because it could not undo that.
        if status != AccountStatus::Active && (record.parent.is_none() || by_itself) {
            return Err(AccountError::StatusIsForParent);
        }
        record.status = status;
    }
    record.updated_at = Timestamp::now();
    record.store(store).await?;
    accounts.put(record);
    Ok(())
}

/// Whether a resource of account `from` may be transferred to account `to`. The transfer is allowed if `to` is a
/// subaccount of `from`, or if `from` is an operator account. A transfer to the parent of `from` is allowed only if
/// the parent requests the transfer. `by_itself` says whether `from` itself requests the transfer.
pub fn may_transfer(accounts: &Accounts, from: &Account, to: &Account, by_itself: bool) -> bool {
    accounts.is_operator(from)
        || accounts.parent(&to.name).as_ref() == Some(&from.name)
        || (accounts.parent(&from.name).as_ref() == Some(&to.name) && !by_itself)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, store};

    #[tokio::test]
    async fn only_a_parent_suspends_its_subaccount_and_a_subaccount_creates_none() {
        let (store, _folder) = store().await;
        let accounts = Accounts::new([account("acme"), account("other")]);
        let acme = AccountName::new("acme");
        let made = create(&accounts, &store, &acme, "sub".into(), |_| Some(account("AC2"))).await.unwrap();
        let below = create(&accounts, &store, &made.account.name, "below".into(), |_| Some(account("AC3"))).await;
        assert!(matches!(below, Err(AccountError::IsSubaccount)));
        let none = create(&accounts, &store, &acme, "none".into(), |_| None).await;
        assert!(matches!(none, Err(AccountError::ConfigurationOnly)));

        let suspend = || AccountChange { status: Some(AccountStatus::Suspended), ..AccountChange::default() };
        let by_itself = change(&accounts, &store, &made.account, made.id, true, suspend()).await;
        assert!(matches!(by_itself, Err(AccountError::StatusIsForParent)));
        change(&accounts, &store, &made.account, made.id, false, suspend()).await.unwrap();
        assert_eq!(accounts.status(&AccountName::new("AC2")), AccountStatus::Suspended);
        let configured = accounts.by_name(&AccountName::new("acme")).unwrap();
        let closed = change(&accounts, &store, &configured, 1, false, suspend()).await;
        assert!(matches!(closed, Err(AccountError::StatusIsForParent)), "it is in the configuration");
    }

    #[tokio::test]
    async fn a_resource_moves_between_a_parent_and_its_subaccounts_or_by_the_operator() {
        let (store, _folder) = store().await;
        let operator = Account { operator: true, ..account("operator") };
        let accounts = Accounts::new([account("acme"), account("other"), operator]);
        create(&accounts, &store, &AccountName::new("acme"), "sub".into(), |_| Some(account("AC2"))).await.unwrap();
        let may = |from: &str, to: &str, by_itself| {
            may_transfer(
                &accounts,
                &accounts.by_name(&AccountName::new(from)).unwrap(),
                &accounts.by_name(&AccountName::new(to)).unwrap(),
                by_itself,
            )
        };
        assert!(may("acme", "AC2", true) && !may("acme", "other", true));
        assert!(may("AC2", "acme", false) && !may("AC2", "acme", true), "by its parent only");
        assert!(may("operator", "other", true) && !may("other", "operator", true));
    }
}
