//! Creates, changes and deletes queues, and takes callers out of queues.

use tandem_call::Target;
use tandem_call::command::{Command, Request};
use tandem_id::{AccountName, LegId, QueueId};
use tandem_queues::{Member, QueueError, QueueSnapshot};
use tandem_runtime::Calls;

pub use tandem_queues::QueueFailure;

/// The reason why a call cannot enter a queue.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// The queue is full.
    #[error("the queue is full")]
    Full,
    /// The queue exists with another maximum size.
    #[error("the queue has another maximum size")]
    OtherSize,
    /// The queue does not exist and could not be created.
    #[error(transparent)]
    NotCreated(#[from] QueueFailure),
}

/// Creates a queue. `max_size` is the maximum number of waiting calls.
pub async fn create(
    calls: &Calls,
    account: &AccountName,
    name: &str,
    max_size: u32,
) -> Result<QueueSnapshot, QueueFailure> {
    calls.services().queues.create(account, name, max_size).await
}

/// Changes the name or the maximum size of a queue.
pub async fn change(
    calls: &Calls,
    account: &AccountName,
    id: QueueId,
    name: Option<&str>,
    max_size: Option<u32>,
) -> Result<QueueSnapshot, QueueFailure> {
    calls.services().queues.change(account, id, name, max_size).await
}

/// Deletes an empty queue.
pub async fn delete(calls: &Calls, account: &AccountName, id: QueueId) -> Result<(), QueueFailure> {
    calls.services().queues.delete(account, id).await
}

/// Checks that a call can enter the queue with this name, at whatever node of the cluster the queue is. If the queue does not
/// exist, creates the queue with the size `max_size`. If `max_size` is `None`, the new queue has the size `default`.
pub async fn admit(
    calls: &Calls,
    account: &AccountName,
    name: &str,
    max_size: Option<u32>,
    default: u32,
) -> Result<(), NotAdmitted> {
    let queue = calls.services().queues.open(account, name, max_size.unwrap_or(default)).await?.queue;
    if max_size.is_some_and(|max_size| max_size != queue.queue.max_size) {
        return Err(NotAdmitted::OtherSize);
    }
    if queue.waiting >= queue.queue.max_size as usize {
        return Err(NotAdmitted::Full);
    }
    Ok(())
}

/// Redirects a waiting call to another document. `which` is the leg of the call. If `which` is `None`, redirects the
/// first call that can be redirected. Returns the queue member that was redirected, or `None` if no such call waits.
pub async fn redirect_member(
    calls: &Calls,
    account: &AccountName,
    id: QueueId,
    which: Option<LegId>,
    target: &Target,
) -> Option<Member> {
    let queues = &calls.services().queues;
    // Calls that could not be redirected because they are leaving the queue. They stay reserved until the loop ends, so
    // that each is tried only once.
    let mut leaving = Vec::new();
    let redirected = loop {
        let Some(next) = queues.call(account, id, which) else { break None };
        let request = Request { client_state: None, command: Command::Dequeue(target.clone()) };
        match calls.request(next.leg, request).await {
            Ok(_) => break Some(next),
            Err(_) => leaving.push(next.leg),
        }
    };
    for leg in leaving {
        calls.connect_to_agent(queues.wait_again(id, leg));
    }
    redirected
}

/// Reserves the first caller in the queue with this name, so that no agent gets the caller. The queue and the caller may be at
/// other nodes of the cluster. [`remove`] must be called afterwards. Returns `None` if there is no such queue, or if no caller
/// waits in the queue.
///
/// # Errors
/// [`QueueError::NoOwner`] if the node of the queue does not answer.
pub async fn reserve_first(calls: &Calls, account: &AccountName, name: &str) -> Result<Option<LegId>, QueueError> {
    Ok(calls.services().queues.call_first(account, name).await?.map(|member| member.leg))
}

/// Removes a call from the queue in which the call waits.
pub async fn remove(calls: &Calls, leg: LegId) {
    // If the command is refused, the call has already left.
    let _ = calls.request(leg, Request { client_state: None, command: Command::LeaveQueue }).await;
}

/// Removes a call from this queue of this node.
pub async fn remove_member(calls: &Calls, account: &AccountName, id: QueueId, leg: LegId) {
    let services = calls.services();
    if services.cluster.other_owner_of(leg.0).is_none() {
        return remove(calls, leg).await;
    }
    // The other node says only later that the call has left. From now on, the call does not wait any more for clients.
    services.queues.call(account, id, Some(leg));
    let request = Request { client_state: None, command: Command::LeaveQueue };
    if calls.request(leg, request).await.is_err() {
        calls.connect_to_agent(services.queues.wait_again(id, leg));
    }
}
