//! The lists of the console. Each list is one implementation of [`List`]: the page of rows, and the rows that an event
//! changes.

use std::collections::BTreeSet;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tandem_events::{Event, Kind};
use tandem_id::CallId;
use tandem_runtime::app::App;

use super::{ListQuery, QueryError, Scope};

/// A list of the console.
pub(super) trait List: Send + Sync + 'static {
    /// A row of the list.
    type Row: Serialize + Send;
    /// The path of the list.
    const PATH: &'static str;
    /// The key of the rows in the response.
    const ROWS: &'static str;
    /// The key of a row in a line of a followed list.
    const ROW: &'static str;
    /// The kinds of events that can change rows.
    const KINDS: &'static [Kind];

    /// Returns the key of a row. The row replaces an earlier row with this key.
    fn key(row: &Self::Row) -> String;

    /// Returns the calls of a row, if [`Change::Call`] changes rows of this list. The key of a row is then the id of a
    /// call.
    fn calls(_row: &Self::Row) -> Vec<CallId> {
        Vec::new()
    }

    /// Returns a page of the list, newest row first.
    fn page(
        app: &App,
        scope: &Scope,
        query: &ListQuery,
    ) -> impl Future<Output = Result<Page<Self::Row>, QueryError>> + Send;

    /// Returns the rows of these calls, newest row first.
    fn rows_of(
        _app: &App,
        _scope: &Scope,
        _query: &ListQuery,
        _calls: &BTreeSet<CallId>,
    ) -> impl Future<Output = Page<Self::Row>> + Send {
        std::future::ready(Page::whole(Vec::new()))
    }

    /// Returns the change of the list by an event of one of the [`Self::KINDS`].
    fn change(app: &App, scope: &Scope, query: &ListQuery, event: &Event) -> Change<Self::Row>;
}

/// The change of a list by an event.
pub(super) enum Change<T> {
    /// The event does not change the list.
    Nothing,
    /// This row is new or has changed.
    Row(T),
    /// The row with this key is not in the list, or not any more.
    Gone(String),
    /// Something that belongs to a row has changed. The first value is a JSON object for the followers. If there is a call,
    /// its row must be read again too.
    Part(String, Option<CallId>),
    /// The row of this call must be read again.
    Call(CallId),
    /// The list must be read again.
    List,
}

/// A page of a list.
#[derive(Debug, PartialEq)]
pub(super) struct Page<T> {
    /// The rows.
    pub(super) rows: Vec<T>,
    /// The cursor of the next page, if the list has pages. `Some(None)` is the last page.
    pub(super) next: Option<Option<String>>,
    /// If the list has the calls whose parties contain a text: the number of calls that were searched, the newest calls.
    pub(super) searched: Option<u32>,
    /// Whether rows are missing, because calls have not replied in time.
    pub(super) is_partial: bool,
}

impl<T> Page<T> {
    /// Creates the page of a list that has no further pages.
    pub(super) fn whole(rows: Vec<T>) -> Self {
        Self { rows, next: None, searched: None, is_partial: false }
    }
}

/// A page with the key of its rows.
pub(super) struct Keyed<T>(pub(super) &'static str, pub(super) Page<T>);

impl<T: Serialize> Serialize for Keyed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(key, Page { rows, next, searched, .. }) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(key, rows)?;
        if let Some(next) = next {
            map.serialize_entry("next", next)?;
        }
        if let Some(searched) = searched {
            map.serialize_entry("searched", searched)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_rows_and_the_keys_of_its_kind_of_list() {
        let text = |page| serde_json::to_string(&Keyed("calls", page)).unwrap();
        assert_eq!(text(Page::whole(vec![1])), r#"{"calls":[1]}"#);
        let last = Page { next: Some(None), ..Page::whole(vec![1, 2]) };
        assert_eq!(text(last), r#"{"calls":[1,2],"next":null}"#);
        let searched = Page { next: Some(Some("1-0a".to_owned())), searched: Some(20_000), ..Page::whole(vec![]) };
        assert_eq!(text(searched), r#"{"calls":[],"next":"1-0a","searched":20000}"#);
    }
}
