//! Makes calls, and deletes the records of ended calls.

use tandem_call::leg::Direction;
use tandem_id::{AccountName, LegId};
use tandem_routing::new_call::{CreateError, Created, NewCall};
use tandem_runtime::Calls;
use tandem_store::StoreFailed;

/// The reason why the record of a call or of a recording was not deleted.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum DeleteError {
    /// The account has no such record.
    #[error("there is no such record")]
    Unknown,
    /// The call or the recording has not ended.
    #[error("it has not ended")]
    Live,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// Makes a call, if the account may use the calling number of this call. If the new call forwards an inbound call,
/// `forwards` is the leg of the inbound call. The new call may then show the calling number of the inbound call.
pub async fn place(calls: &Calls, new: NewCall, forwards: Option<LegId>) -> Result<Created, CreateError> {
    let shows_its_caller = match forwards {
        Some(leg) => {
            let inbound = calls.get(&new.owner.account, leg).await?;
            inbound.is_some_and(|leg| leg.direction == Direction::Inbound && leg.from == new.invite.from)
        }
        None => false,
    };
    if shows_its_caller { calls.create_from_anywhere(new).await } else { calls.create(new).await }
}

/// Deletes the record of an ended call.
pub async fn delete(calls: &Calls, account: &AccountName, leg: LegId) -> Result<(), DeleteError> {
    match calls.get(account, leg).await? {
        None => Err(DeleteError::Unknown),
        Some(leg) if !leg.status.is_final() => Err(DeleteError::Live),
        Some(_) => calls.delete(account, leg).await?.then_some(()).ok_or(DeleteError::Unknown),
    }
}
