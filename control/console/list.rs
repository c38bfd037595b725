//! The lists of the console. Each list is one implementation of [`List`]: the page of rows, and the rows that an event
//! changes. The rows of other nodes of a cluster come in elsewhere.rs.

use std::collections::BTreeSet;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use tandem_events::{Event, Kind};
use tandem_id::CallId;
use tandem_runtime::app::App;

use super::{ListQuery, QueryError, Scope};

/// A row as JSON.
pub(super) type Map = serde_json::Map<String, Value>;

/// The nodes of a cluster that have the rows of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    /// Each node has all rows, from the database.
    ByAll,
    /// Each row is in the memory of one node. Its key is the id of a call or of a conference, which names the node.
    ByOwner,
    /// Each node has a part of each row in its memory ([`List::join`]).
    InParts,
}

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
    /// The nodes that have the rows.
    const HELD: Held = Held::ByAll;

    /// Returns the key of a row. The row replaces an earlier row with this key.
    fn key(row: &Self::Row) -> String;

    /// Returns the calls of a row, if [`Change::Call`] changes rows of this list. The key of a row is then the id of a
    /// call.
    fn calls(_row: &Self::Row) -> Vec<CallId> {
        Vec::new()
    }

    /// Whether this node has a part of a row that other nodes do not have.
    fn has_part(_row: &Self::Row) -> bool {
        true
    }

    /// Adds the part of a row that another node has, as JSON.
    fn join(_row: &mut Map, _part: Map) {}

    /// Returns a page of the list, newest row first. In a cluster, rows and parts of other nodes are missing.
    fn page(
        app: &App,
        scope: &Scope,
        query: &ListQuery,
    ) -> impl Future<Output = Result<Page<Self::Row>, QueryError>> + Send;

    /// Returns the rows of these calls of this node, newest row first.
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
    /// The calls of other nodes whose rows belong to the page. `None` if all rows of other nodes do.
    pub(super) others: Option<BTreeSet<CallId>>,
    /// The names of the nodes that have not answered. Their rows and parts are missing.
    pub(super) away: Vec<String>,
}

impl<T> Page<T> {
    /// Creates the page of a list that has no further pages.
    pub(super) fn whole(rows: Vec<T>) -> Self {
        Self { rows, next: None, searched: None, is_partial: false, others: None, away: Vec::new() }
    }

    /// Returns the page with other rows.
    pub(super) fn with<U>(self, change: impl FnOnce(Vec<T>) -> Vec<U>) -> Page<U> {
        let Self { rows, next, searched, is_partial, others, away } = self;
        Page { rows: change(rows), next, searched, is_partial, others, away }
    }
}

/// A row as JSON, in the form in which nodes exchange rows.
#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) key: String,
    /// As in [`List::calls`].
    pub(super) calls: Vec<CallId>,
    pub(super) json: Box<RawValue>,
}

impl Row {
    /// Returns `None` if the row has no form as JSON, which does not happen.
    pub(super) fn of<L: List>(row: &L::Row) -> Option<Self> {
        let json = serde_json::value::to_raw_value(row).ok()?;
        Some(Self { key: L::key(row), calls: L::calls(row), json })
    }
}

/// Appends the lists with these keys of a part to those of a row.
pub(super) fn append(row: &mut Map, mut part: Map, keys: &[&str]) {
    for key in keys {
        if let (Some(Value::Array(own)), Some(Value::Array(more))) = (row.get_mut(*key), part.get_mut(*key)) {
            own.append(more);
        }
    }
}

/// A page with the key of its rows.
pub(super) struct Keyed<T>(pub(super) &'static str, pub(super) Page<T>);

impl<T: Serialize> Serialize for Keyed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(key, Page { rows, next, searched, away, .. }) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(key, rows)?;
        if let Some(next) = next {
            map.serialize_entry("next", next)?;
        }
        if let Some(searched) = searched {
            map.serialize_entry("searched", searched)?;
        }
        if !away.is_empty() {
            map.serialize_entry("away", away)?;
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
        let incomplete = Page { away: vec!["b".to_owned()], ..Page::whole(vec![1]) };
        assert_eq!(text(incomplete), r#"{"calls":[1],"away":["b"]}"#);
    }
}
