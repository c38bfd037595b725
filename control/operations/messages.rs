//! Messages to a live call, and the subscriptions to these messages. The callback of every subscriber receives each
//! message as a webhook. The order of the messages is kept.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_call::Target;
use tandem_call::leg::{LegInfo, Status};
use tandem_dialect::Notice;
use tandem_dialect::delivery;
use tandem_id::{AccountName, LegId};
use tandem_runtime::Calls;
use tandem_store::resources::{self, Filter, Kind, NotAdded, Resource};
use tandem_store::{Page, StoreError, StoreFailed};

const MESSAGES: Kind<Message> = Kind::new("user-defined-message");
const SUBSCRIPTIONS: Kind<Subscription> = Kind::new("user-defined-message-subscription");
/// Maximum number of messages of a call. Further messages are refused.
const MAX_MESSAGES: u64 = 1_000;
/// Maximum number of subscriptions to a call. Further subscriptions are refused.
const MAX_SUBSCRIPTIONS: u64 = 10;

/// A message that was sent. The content of the message is not stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {}

/// A subscription to the messages of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subscription {
    callback: Target,
}

/// The reason why a message was not sent, or why a subscription was not created.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum MessageError {
    /// The account has no such call.
    #[error("there is no such call")]
    NoCall,
    /// The call is not answered, or has ended.
    #[error("the call is not in progress")]
    NotInProgress,
    /// The call has the maximum number of messages or subscriptions.
    #[error("the call has the maximum number of these")]
    TooMany,
    /// The dialect of the call is not part of this server, or another request has deleted the resource with this key in
    /// the meantime.
    #[error("the message could not be sent")]
    Internal,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl From<StoreError> for MessageError {
    fn from(error: StoreError) -> Self {
        StoreFailed::from(error).into()
    }
}

/// The messages of a call that is in progress.
pub struct CallMessages<'a> {
    calls: &'a Calls,
    leg: Arc<LegInfo>,
}

impl<'a> CallMessages<'a> {
    /// Returns the messages of this call.
    ///
    /// # Errors
    /// Returns [`MessageError::NoCall`] or [`MessageError::NotInProgress`].
    pub async fn of(calls: &'a Calls, account: &AccountName, leg: LegId) -> Result<Self, MessageError> {
        let leg = calls.get(account, leg).await?.ok_or(MessageError::NoCall)?;
        if leg.status != Status::InProgress {
            return Err(MessageError::NotInProgress);
        }
        Ok(Self { calls, leg })
    }

    /// Sends a message to all subscribers. For each subscriber, `notice` builds the message from the subscriber's
    /// callback and the number of the message. The first message has the number 1. If an earlier message has the same
    /// `key`, the message is not sent again. An empty `key` is not equal to any other key.
    pub async fn send(
        &self,
        key: &str,
        notice: impl Fn(Target, u64) -> Notice,
    ) -> Result<Resource<Message>, MessageError> {
        let (message, is_new) = self.keep(MESSAGES, key, Message {}, MAX_MESSAGES).await?;
        if !is_new {
            return Ok(message);
        }
        let services = self.calls.services();
        let (store, all) = (&services.store, self.all());
        let number = resources::count(store, MESSAGES, &self.leg.account, &all).await?;
        let page = Page::first(MAX_SUBSCRIPTIONS as u32);
        for subscriber in resources::list(store, SUBSCRIPTIONS, &self.leg.account, &all, &page).await? {
            let dialect = services.dialects.get(&self.leg.dialect).ok_or(MessageError::Internal)?;
            let notice = notice(subscriber.details.callback, number);
            let delivery = delivery::of_leg(notice, dialect.as_ref(), &self.leg, rand::random());
            services.deliveries.enqueue(delivery).await?;
        }
        Ok(message)
    }

    /// Subscribes to the messages. If an earlier subscription has the same `key`, returns the earlier subscription.
    pub async fn subscribe(&self, key: &str, callback: Target) -> Result<Resource<Subscription>, MessageError> {
        let subscription = Subscription { callback };
        Ok(self.keep(SUBSCRIPTIONS, key, subscription, MAX_SUBSCRIPTIONS).await?.0)
    }

    /// Stores a new resource of the call and returns it with `true`. If the key was used before, returns the existing
    /// resource with `false`.
    async fn keep<T: Serialize + DeserializeOwned>(
        &self,
        kind: Kind<T>,
        key: &str,
        details: T,
        max: u64,
    ) -> Result<(Resource<T>, bool), MessageError> {
        let (store, leg) = (&self.calls.services().store, self.leg.id);
        let mut resource = Resource::new(&self.leg.account, key, details);
        resource.parent = Some(leg.0);
        resource.claim = (!key.is_empty()).then(|| format!("{} {leg} {key}", kind.word()));
        match resources::add(store, kind, &resource, &self.all(), max).await {
            Ok(()) => return Ok((resource, true)),
            Err(NotAdded::Taken) => {}
            Err(NotAdded::Full(_)) => return Err(MessageError::TooMany),
            Err(NotAdded::Store(error)) => return Err(error.into()),
        }
        let filter = Filter { name: Some(key), ..self.all() };
        let found = resources::list(store, kind, &self.leg.account, &filter, &Page::first(1)).await?.pop();
        found.map(|found| (found, false)).ok_or(MessageError::Internal)
    }

    fn all(&self) -> Filter<'static> {
        Filter { parent: Some(self.leg.id.0), ..Filter::default() }
    }
}

/// Deletes a subscription. Returns `false` if the call has no such subscription.
pub async fn unsubscribe(calls: &Calls, account: &AccountName, leg: LegId, id: u128) -> Result<bool, StoreFailed> {
    let store = &calls.services().store;
    let found = resources::get(store, SUBSCRIPTIONS, account, id).await?;
    if found.is_none_or(|found| found.parent != Some(leg.0)) {
        return Ok(false);
    }
    // Another request may have deleted the subscription meanwhile, which is as good.
    resources::delete(store, SUBSCRIPTIONS, account, id).await?;
    Ok(true)
}
