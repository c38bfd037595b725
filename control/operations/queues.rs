//! Creates, changes and deletes queues, and takes callers out of queues.

use tandem_call::Target;
use tandem_call::command::{Command, Refused, Request};
use tandem_id::{AccountName, LegId, QueueId};
use tandem_queues::{Member, QueueError, QueueSnapshot, Reservation};
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
///
/// # Errors
/// [`Refused::NoAnswer`]: the node of a call did not answer. The call may have been redirected.
pub async fn redirect_member(
    calls: &Calls,
    account: &AccountName,
    id: QueueId,
    which: Option<LegId>,
    target: &Target,
) -> Result<Option<Member>, Refused> {
    let queues = &calls.services().queues;
    // Calls that could not be redirected because they are leaving the queue. They stay reserved until the loop ends, so
    // that each is tried only once.
    let mut leaving = Vec::new();
    while let Some(next) = queues.call(account, id, which) {
        let request = Request { client_state: None, command: Command::Dequeue(target.clone()) };
        match calls.request(next.leg(), request).await {
            Ok(_) => return Ok(Some(next.leaves())),
            // Another call must not be redirected too.
            Err(Refused::NoAnswer) => return Err(Refused::NoAnswer),
            Err(_) => leaving.push(next),
        }
    }
    Ok(None)
}

/// Reserves the first caller in the queue with this name, so that no agent gets the caller. The queue and the caller may be at
/// other nodes of the cluster. [`remove`] must be called afterwards; if it is not, the caller waits again. Returns `None` if
/// there is no such queue, or if no caller waits in the queue.
///
/// # Errors
/// [`QueueError::NoOwner`] if the node of the queue does not answer.
pub async fn reserve_first(
    calls: &Calls,
    account: &AccountName,
    name: &str,
) -> Result<Option<Reservation>, QueueError> {
    calls.services().queues.call_first(account, name).await
}

/// Removes a reserved call from the queue in which the call waits. If the node of the call does not answer, the call waits again.
pub async fn remove(calls: &Calls, reserved: Reservation) {
    if leave(calls, reserved.leg()).await.is_ok() {
        reserved.leaves();
    }
}

/// Removes a call from this queue of this node.
///
/// # Errors
/// [`Refused::NoAnswer`]: the node of the call did not answer. The call may have left.
pub async fn remove_member(calls: &Calls, account: &AccountName, id: QueueId, leg: LegId) -> Result<(), Refused> {
    let services = calls.services();
    let is_of_other = services.cluster.other_owner_of(leg.0).is_some();
    // The other node says only later that the call has left. From now on, the call does not wait any more for clients.
    let reserved = is_of_other.then(|| services.queues.call(account, id, Some(leg))).flatten();
    leave(calls, leg).await?;
    reserved.map(Reservation::leaves);
    Ok(())
}

/// Lets a call leave its queue.
async fn leave(calls: &Calls, leg: LegId) -> Result<(), Refused> {
    match calls.request(leg, Request { client_state: None, command: Command::LeaveQueue }).await {
        Err(Refused::NoAnswer) => Err(Refused::NoAnswer),
        // If the command is refused, the call has already left.
        Ok(_) | Err(_) => Ok(()),
    }
}
