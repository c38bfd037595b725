//! The records and logs of legs and sessions, live or ended.

use std::sync::Arc;

use tandem_call::leg::LegInfo;
use tandem_history::event_log::{self, Exchanged, Line};
use tandem_history::query::{LegFilter, Page};
use tandem_history::records;
use tandem_id::{CallId, LegId};
use tandem_store::{self as store, StoreFailed};
use tokio::sync::oneshot;

use super::Calls;
use crate::inbox::Message;

impl Calls {
    /// Returns a leg of this account, live or ended.
    pub async fn get(&self, account: &str, leg: LegId) -> Result<Option<Arc<LegInfo>>, StoreFailed> {
        let store = &self.services().store;
        let row = store::calls::get(store, account, leg.0).await?;
        Ok(row.as_ref().and_then(records::leg_of).map(Arc::new))
    }

    /// Returns a leg of any account, live or ended.
    pub async fn find(&self, leg: LegId) -> Result<Option<LegInfo>, StoreFailed> {
        let store = &self.services().store;
        let row = store::calls::find(store, leg.0).await?;
        Ok(row.as_ref().and_then(records::leg_of))
    }

    /// Whether any account has a leg with this id.
    pub async fn is_known(&self, leg: LegId) -> Result<bool, StoreFailed> {
        let store = &self.services().store;
        Ok(store::calls::find(store, leg.0).await?.is_some())
    }

    /// Returns legs of this account, newest leg first. Returns at most `page.limit + 1` legs. The additional leg shows
    /// that another page follows.
    pub async fn list(&self, account: &str, filter: &LegFilter, page: Page) -> Result<Vec<Arc<LegInfo>>, StoreFailed> {
        let store = &self.services().store;
        let columns = filter.columns();
        let after = match page.after {
            Some(id) => store::calls::get(store, account, id).await?.map(|row| row.cursor(&columns)),
            None => None,
        };
        let rows = store::calls::list(store, &[account], &columns, &page.after(after)).await?;
        Ok(rows.iter().filter_map(records::leg_of).filter(|leg| filter.fits(leg)).map(Arc::new).collect())
    }

    /// Deletes the record of an ended leg. Returns `false` if there is no such record.
    pub async fn delete(&self, account: &str, leg: LegId) -> Result<bool, StoreFailed> {
        let store = &self.services().store;
        Ok(store::calls::delete(store, account, leg.0).await?)
    }

    /// Returns the log lines of a call, live or ended, sorted by time. `session` is the id of the call in which a leg
    /// was created.
    pub async fn log(&self, session: CallId) -> Result<Vec<Line>, StoreFailed> {
        let live = self.ask(session, Message::Log).await;
        let store = &self.services().store;
        let mut lines = event_log::read(store, session).await?.and(live);
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }

    /// Returns the HTTP exchanges (requests and responses) of a call, live or ended, oldest exchange first.
    pub async fn exchanges(&self, session: CallId) -> Result<Vec<Exchanged>, StoreFailed> {
        let live = self.ask(session, Message::Exchanges).await;
        let store = &self.services().store;
        let mut exchanges = event_log::read_exchanges(store, session).await?.and(live);
        exchanges.sort_by_key(|(_, exchange)| exchange.at);
        Ok(exchanges)
    }

    /// Requests data from a live call. Returns an empty list if the call has ended.
    async fn ask<T>(&self, session: CallId, question: impl FnOnce(oneshot::Sender<Vec<T>>) -> Message) -> Vec<T> {
        let Some(inbox) = self.0.registry.inbox(session.0) else { return Vec::new() };
        let (reply, answer) = oneshot::channel();
        if inbox.offer(question(reply)).is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }
}
