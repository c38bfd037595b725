//! Creates, changes and deletes queues, and takes callers out of queues.

use jiff::Timestamp;
use tandem_call::Target;
use tandem_call::command::{Command, Request};
use tandem_id::{AccountName, LegId, QueueId};
use tandem_queues::{self as queues, Member, QueueError, QueueSnapshot};
use tandem_runtime::Calls;
use tandem_store::StoreFailed;

/// The reason why a queue was not created, changed or deleted.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum QueueFailure {
    /// The operation on the queue is not possible. The value is the reason.
    #[error(transparent)]
    Refused(#[from] QueueError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

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
    let services = calls.services();
    let created = services.queues.create(account, name, max_size, Timestamp::now())?;
    if let Err(error) = queues::keep(&services.store, &created.queue).await {
        // No client knows the new queue yet.
        let _ = services.queues.delete(account, created.queue.id);
        return Err(StoreFailed::from(error).into());
    }
    Ok(created)
}

/// Changes the name or the maximum size of a queue.
pub async fn change(
    calls: &Calls,
    account: &AccountName,
    id: QueueId,
    name: Option<&str>,
    max_size: Option<u32>,
) -> Result<QueueSnapshot, QueueFailure> {
    let services = calls.services();
    let (changed, pair) = services.queues.change(account, id, name, max_size, Timestamp::now())?;
    // An agent may wait for a caller under the new name.
    calls.connect_to_agent(pair);
    queues::keep(&services.store, &changed.queue).await.map_err(StoreFailed::from)?;
    Ok(changed)
}

/// Deletes an empty queue.
pub async fn delete(calls: &Calls, account: &AccountName, id: QueueId) -> Result<(), QueueFailure> {
    let services = calls.services();
    let deleted = services.queues.delete(account, id)?;
    queues::forget(&services.store, &deleted).await.map_err(StoreFailed::from)?;
    Ok(())
}

/// Checks that a call can enter the queue with this name. If the queue does not exist, creates the queue with the size
/// `max_size`. If `max_size` is `None`, the new queue has the size `default`.
pub async fn admit(
    calls: &Calls,
    account: &AccountName,
    name: &str,
    max_size: Option<u32>,
    default: u32,
) -> Result<(), NotAdmitted> {
    let named = || calls.services().queues.named(account, name, Timestamp::now());
    let queue = match named() {
        Some(queue) => queue,
        None => match create(calls, account, name, max_size.unwrap_or(default)).await {
            // Another request has created the queue in the meantime.
            Err(QueueFailure::Refused(QueueError::NameTaken)) => {
                named().ok_or(QueueFailure::Refused(QueueError::Unknown))?
            }
            created => created?,
        },
    };
    if max_size.is_some_and(|max_size| max_size != queue.queue.max_size) {
        return Err(NotAdmitted::OtherSize);
    }
    if queue.members.len() >= queue.queue.max_size as usize {
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

/// Reserves the first caller in the queue with this name, so that no agent gets the caller. [`remove`] must be called
/// afterwards. Returns `None` if there is no such queue, or if no caller waits in the queue.
pub fn reserve_first(calls: &Calls, account: &AccountName, name: &str) -> Option<LegId> {
    let queues = &calls.services().queues;
    let queue = queues.named(account, name, Timestamp::now())?.queue.id;
    queues.call(account, queue, None).map(|member| member.leg)
}

/// Removes a call from the queue in which the call waits.
pub async fn remove(calls: &Calls, leg: LegId) {
    // If the command is refused, the call has already left.
    let _ = calls.request(leg, Request { client_state: None, command: Command::LeaveQueue }).await;
}
