//! The usage of accounts, and the usage triggers. The server counts the usage in the records of calls and recordings. A
//! trigger sends a report when the usage reaches a value.
//!
//! ```text
//!   a call ends, or a minute passes ──▶ check ──▶ the figure of each trigger ──▶ its callback, once a period
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_accounts::subaccount::AccountStatus;
use tandem_accounts::usage::{TRIGGER, Trigger, Usage, today, with_subaccounts};
use tandem_cluster::Note;
use tandem_dialect::delivery;
use tandem_host::clock;
use tandem_id::{AccountName, node};
use tandem_store::StoreError;
use tandem_store::resources::{self, Resource};

use crate::services::Services;

/// Interval between two checks of the triggers while no call ends and no trigger changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Pause after a check, as a multiple of the duration of the check.
const BACKOFF: u32 = 20;
/// Time for which a check waits, so that calls that end at nearly the same time are counted in one check.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// A note that calls have ended, for the node that checks the triggers.
#[derive(Serialize, Deserialize)]
struct UsageChanged;

impl Note for UsageChanged {
    const NAME: &'static str = "usage";
}

/// Checks the triggers until the server stops. In a cluster, the first node checks them.
pub async fn watch(services: Arc<Services>) {
    let woken = Arc::downgrade(&services);
    services.cluster.listen(move |_: UsageChanged, _| {
        if let Some(services) = woken.upgrade().filter(|services| services.cluster.is_first()) {
            services.usage_changed();
        }
    });
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = services.usage.notified() => tokio::time::sleep(DEBOUNCE).await,
        }
        if !services.cluster.is_first() {
            services.cluster.post(&UsageChanged);
            continue;
        }
        let begun = clock::now().instant;
        if let Err(error) = check(&services).await {
            tracing::error!(%error, "usage triggers could not be checked");
        }
        // On a server with many calls a check takes longer, so the checks are less frequent.
        tokio::time::sleep(clock::now().instant.saturating_duration_since(begun) * BACKOFF).await;
    }
}

async fn check(services: &Arc<Services>) -> Result<(), StoreError> {
    let mut triggers = resources::all(&services.store, TRIGGER).await?;
    let today = today();
    triggers.retain(|row| !row.details.is_reported(today));
    triggers.sort_by(|a, b| a.account.cmp(&b.account));
    let mut known: Option<(AccountName, Usage)> = None;
    for row in triggers {
        if services.accounts.status(&row.account) != AccountStatus::Active {
            continue;
        }
        if known.as_ref().is_none_or(|(account, _)| *account != row.account) {
            let names = with_subaccounts(&services.accounts, &row.account);
            known = Some((row.account.clone(), Usage::read(&services.store, &names, (None, None)).await?));
        }
        let figure = known.as_ref().map_or(0.0, |(_, usage)| row.details.figure(usage, today));
        if row.details.is_due(figure, today) {
            fire(services, row, figure).await?;
        }
    }
    Ok(())
}

async fn fire(services: &Arc<Services>, mut row: Resource<Trigger>, figure: f64) -> Result<(), StoreError> {
    let now = clock::time();
    row.details.fired_at = Some(now);
    row.updated_at = now;
    let found = services.dialects.get(&row.details.dialect).zip(services.accounts.by_name(&row.account));
    if let Some((dialect, account)) = found
        && let Some(notice) = dialect.usage_reached(&account, &row, figure)
    {
        // The end of the name is the owner of the queue.
        let queue = format!("usage {:032x}", node::sign(row.id));
        let delivery = delivery::of_account(notice, &**dialect, &row.account, queue, rand::random());
        services.deliveries.enqueue(delivery).await?;
    }
    // If this write fails, the trigger fires again. A second report is better than no report.
    resources::put(&services.store, TRIGGER, &row).await.map(drop)
}
