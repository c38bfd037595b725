//! Turns to work on documents. Reading a document and running a script can take some milliseconds of CPU time, and the
//! application decides how many. So this work runs outside of the threads that serve the network, in turns: an account
//! has one turn at a time, and about half the cores work on turns. An account with many dear documents waits for itself.

use std::sync::Arc;

use tandem_id::AccountName;
use tandem_shares::{ParentOf, PerAccount};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// The turns of all accounts. All clones share the turns.
///
/// A turn waits as long as the turns before it need: those of its own account, and then one of each other account. The
/// number of waiting turns has no limit of its own. Each turn belongs to a call or a request, and their numbers are
/// limited.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The places of the accounts whose work runs.
    all: Semaphore,
    /// The turn of each account, with its subaccounts.
    accounts: PerAccount<Semaphore>,
}

impl Default for Turns {
    /// Returns turns for a machine with as many cores as this one.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(cores / 2)
    }
}

impl Turns {
    /// Creates turns that work on at most `places` documents at the same time, and on at least one.
    fn new(places: usize) -> Self {
        let all = Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS));
        Self(Arc::new(Shared { all, accounts: PerAccount::new(|| Semaphore::new(1)) }))
    }

    /// Sets the function that returns the main account of a subaccount. From then on, a subaccount has the turns of its
    /// main account. Further calls have no effect.
    pub fn share(&self, parent_of: ParentOf) {
        self.0.accounts.share(parent_of);
    }

    /// Waits for the account's turn, and then does the work. The other tasks of the thread continue on another thread
    /// meanwhile.
    pub async fn work<T>(&self, account: &AccountName, work: impl FnOnce() -> T) -> T {
        let own = self.0.accounts.of(account);
        // A semaphore that is never closed always gives a permit.
        let _turn = own.acquire().await;
        let _place = self.0.all.acquire().await;
        match Handle::current().runtime_flavor() {
            RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
            // The runtime of a test with one thread.
            _ => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn long_work_blocks_neither_the_thread_nor_another_account() {
        let turns = Turns::new(2);
        let (started, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let long = tokio::spawn({
            let turns = turns.clone();
            async move {
                let wait = move || {
                    started.send(()).unwrap();
                    ends.recv().unwrap();
                };
                turns.work(&AccountName::new("a"), wait).await;
            }
        });
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.work(&AccountName::new("a"), || "second").await }
        });
        // The only thread of the runtime is free, although the first account's work has not ended.
        turns.work(&AccountName::new("b"), || begins.recv().unwrap()).await;
        assert_eq!(turns.work(&AccountName::new("b"), || "other").await, "other");
        assert!(!second.is_finished());
        end.send(()).unwrap();
        long.await.unwrap();
        assert_eq!(second.await.unwrap(), "second");
    }

    #[tokio::test]
    async fn work_runs_in_a_runtime_with_one_thread() {
        assert_eq!(Turns::default().work(&AccountName::new("a"), || 7).await, 7);
    }
}
