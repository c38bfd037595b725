//! The records and logs of legs and sessions, live or ended.

use std::sync::Arc;

use tandem_call::leg::LegInfo;
use tandem_history::event_log::LogContent;
use tandem_history::query::{self, LegFilter, Page};
use tandem_history::{records, stored_log};
use tandem_id::{AccountName, CallId, LegId};
use tandem_store::calls::{CallFilter, Parts};
use tandem_store::{self as store, StoreFailed};
use tokio::sync::oneshot;

use super::{Calls, merge};
use crate::inbox::Message;

/// Maximum number of rows of one read of the database.
const MAX_ROWS: u32 = 1_000;

impl Calls {
    /// Returns a leg of this account, live or ended. A live leg is found without the database.
    pub async fn get(&self, account: &AccountName, leg: LegId) -> Result<Option<Arc<LegInfo>>, StoreFailed> {
        Ok(self.find(leg).await?.filter(|leg| leg.account == *account))
    }

    /// Returns a leg of any account, live or ended. A live leg is found without the database, on another node by a
    /// question to this node.
    pub async fn find(&self, leg: LegId) -> Result<Option<Arc<LegInfo>>, StoreFailed> {
        if let Some(live) = self.0.registry.live().get(leg) {
            return Ok(Some(live));
        }
        if let Some(live) = self.live_elsewhere(leg).await {
            return Ok(Some(live));
        }
        let row = store::calls::find(&self.services().store, leg.0).await?;
        Ok(row.as_ref().and_then(records::leg_of).map(Arc::new))
    }

    /// Whether any account has a leg with this id.
    pub async fn is_known(&self, leg: LegId) -> Result<bool, StoreFailed> {
        Ok(self.find(leg).await?.is_some())
    }

    /// Returns legs of this account, newest leg first. Returns at most `page.limit + 1` legs. The additional leg shows
    /// that another page follows.
    pub async fn list(
        &self,
        account: &AccountName,
        filter: &LegFilter,
        page: Page,
    ) -> Result<Vec<Arc<LegInfo>>, StoreFailed> {
        let columns = filter.columns();
        let after = match page.after {
            Some(id) => self.get(account, LegId(id)).await?.map(|leg| query::cursor(&columns, &leg)),
            None => None,
        };
        let mut legs = self.page(std::slice::from_ref(account), &columns, &page.after(after)).await?;
        legs.retain(|leg| filter.fits(leg));
        Ok(legs)
    }

    /// Returns a page of the legs of these accounts, newest leg first. Live legs come from memory, ended legs from the
    /// database. In a cluster, the live legs of other nodes come from the database too, which knows a change after at most
    /// one second.
    ///
    /// Each leg is on its page once, although legs end in the meantime. The live legs are read first. A leg that is not
    /// among them has ended before, and its record was submitted before the leg left the memory. The read of the database
    /// waits for all submitted records, so it finds this leg. A leg that ends between the two reads is found twice, and
    /// then the record counts.
    pub async fn page(
        &self,
        accounts: &[AccountName],
        filter: &CallFilter,
        page: &store::Page,
    ) -> Result<Vec<Arc<LegInfo>>, StoreFailed> {
        let is_after = |leg: &LegInfo| page.after.is_none_or(|after| query::cursor(filter, leg) < after);
        let live = self.0.registry.live();
        let live = live.select(|leg| query::selects(filter, accounts, leg) && is_after(leg));
        let node = self.services().cluster.tag();
        if filter.live && node.is_none() {
            return Ok(merge::page(filter, live, Vec::new(), page.offset, page.limit));
        }
        let (skipped, wanted) = merge::read(page, live.len());
        let filter = CallFilter { over: filter.over || node.is_none(), without_live_of: node, ..filter.clone() };
        let mut over = Vec::new();
        // One read returns at most 1,000 rows.
        while over.len() < wanted {
            let limit = u32::try_from(wanted - over.len()).unwrap_or(u32::MAX).min(MAX_ROWS);
            let part = store::Page { limit, offset: skipped + over.len() as u64, ..page.clone() };
            let rows = store::calls::list(&self.services().store, accounts, &filter, &part).await?;
            let is_last = rows.len() < limit as usize;
            over.extend(rows);
            if is_last {
                break;
            }
        }
        let over = over.iter().filter_map(records::leg_of).map(Arc::new).collect();
        Ok(merge::page(&filter, live, over, page.offset - skipped, page.limit))
    }

    /// Returns a page of the legs of these accounts that contain these parts, newest leg first. The search reads the
    /// database, because it also finds texts in the stored records. Live legs have their current state.
    pub async fn search(
        &self,
        accounts: &[AccountName],
        filter: &CallFilter,
        parts: Parts<'_>,
        page: &store::Page,
    ) -> Result<Vec<Arc<LegInfo>>, StoreFailed> {
        let rows = store::calls::search(&self.services().store, accounts, filter, parts, page).await?;
        let live = self.0.registry.live();
        let legs = rows.iter().filter_map(records::leg_of);
        Ok(legs.map(|leg| live.get(leg.id).unwrap_or_else(|| Arc::new(leg))).collect())
    }

    /// Deletes the record of an ended leg. Returns `false` if there is no such record.
    pub async fn delete(&self, account: &AccountName, leg: LegId) -> Result<bool, StoreFailed> {
        let store = &self.services().store;
        Ok(store::calls::delete(store, account, leg.0).await?)
    }

    /// Returns the log of a call, live or ended. `session` is the id of the call in which a leg was created.
    pub async fn log(&self, session: CallId) -> Result<LogContent, StoreFailed> {
        let live = self.live_log(session).await;
        Ok(stored_log::read(&self.services().store, session, live).await?)
    }

    /// Returns the log of a live call. The log is empty if the call has ended.
    async fn live_log(&self, session: CallId) -> LogContent {
        let Some(inbox) = self.0.registry.inbox(session.0) else { return LogContent::default() };
        let (reply, answer) = oneshot::channel();
        if inbox.offer(Message::Log(reply)).is_err() {
            return LogContent::default();
        }
        answer.await.unwrap_or_default()
    }
}
