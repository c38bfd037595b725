//! The usage of accounts, and the triggers that report when usage reaches a value.

use jiff::Timestamp;
use tandem_accounts::usage::{self, TRIGGER, Trigger, Usage};
use tandem_id::AccountName;
use tandem_runtime::services::Services;
use tandem_store::StoreError;
use tandem_store::resources::{self, Filter, NotAdded, Resource};

/// Maximum number of triggers of an account.
const MAX_TRIGGERS: u64 = 1000;

/// Returns the total usage of an account and its subaccounts. The usage is not limited to a period.
pub async fn used(services: &Services, account: &AccountName) -> Result<Usage, StoreError> {
    let names = usage::with_subaccounts(&services.accounts, account);
    Usage::read(&services.store, &names, (None, None)).await
}

/// Creates a trigger. The server checks the new trigger at once. Returns the trigger and the current usage that the
/// trigger measures. If `more` is true, the value of the trigger counts from the current usage.
pub async fn create_trigger(
    services: &Services,
    account: &AccountName,
    name: String,
    mut trigger: Trigger,
    more: bool,
) -> Result<(Resource<Trigger>, f64), NotAdded> {
    let figure = trigger.figure(&used(services, account).await?, usage::today());
    if more {
        trigger.value += figure;
        trigger.written = trigger.value.to_string();
    }
    let row = Resource::new(account, name, trigger);
    resources::add(&services.store, TRIGGER, &row, &Filter::default(), MAX_TRIGGERS).await?;
    services.usage_changed();
    Ok((row, figure))
}

/// Stores a changed trigger.
pub async fn change_trigger(services: &Services, row: &mut Resource<Trigger>) -> Result<(), StoreError> {
    row.updated_at = Timestamp::now();
    resources::put(&services.store, TRIGGER, row).await.map(drop)
}

/// Deletes a trigger. Returns `false` if the account has no trigger with this id.
pub async fn delete_trigger(services: &Services, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    resources::delete(&services.store, TRIGGER, account, id).await
}
