//! Reads with filters and pages. The newest row comes first. A page does not change when rows are added.

use jiff::Timestamp;
use sqlx::any::{Any, AnyArguments, AnyRow};
use sqlx::{Arguments as _, Encode, Type};

use super::column::{hex, microseconds};
use super::{Store, StoreError, assembled};

/// Maximum number of rows in a page.
const MAXIMUM_LIMIT: u32 = 1000;

/// A position in a list. Lists are ordered by time and then by id, newest row first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The row's value of `created_at` (calls) or `started_at` (recordings).
    pub at: Timestamp,
    /// Id of the row.
    pub id: u128,
}

/// A page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Maximum number of rows, from 1 to 1000. A higher value means 1000.
    pub limit: u32,
    /// If set, the page contains only rows after this position. These rows are older. Rows that are added later are
    /// newer, so they do not change the page.
    pub after: Option<Cursor>,
    /// If set, the page contains only rows before this position. These rows are newer. The page then has the `limit`
    /// rows that are nearest to the position, newest row first.
    pub before: Option<Cursor>,
    /// Number of rows to skip. The count begins at the position in `after` or `before`. If there is no such position,
    /// the count begins at the start of the list.
    pub offset: u64,
}

impl Page {
    /// Returns the page of the first `limit` rows.
    pub fn first(limit: u32) -> Page {
        Page { limit, ..Page::default() }
    }
}

/// A half-open range of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// Start of the range, inclusive.
    pub since: Option<Timestamp>,
    /// End of the range, exclusive.
    pub before: Option<Timestamp>,
}

/// The conditions of a `WHERE` clause, and the arguments of the conditions. `sqlx::QueryBuilder` cannot write these
/// conditions. For [`Any`], the builder writes the placeholder `?`, which PostgreSQL does not know.
pub(super) struct Conditions {
    sql: String,
    arguments: AnyArguments,
}

impl Conditions {
    pub(super) fn account(account: &str) -> Conditions {
        let mut conditions = Conditions { sql: String::new(), arguments: AnyArguments::default() };
        conditions.equal("account", Some(account));
        conditions
    }

    pub(super) fn equal(&mut self, column: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            let placeholder = self.bind(value.to_owned());
            self.and(&format!("{column} = {placeholder}"));
        }
    }

    pub(super) fn equal_id(&mut self, column: &'static str, id: Option<u128>) {
        if let Some(id) = id {
            self.equal(column, Some(&hex(id)));
        }
    }

    /// Adds the condition that `column` is not the id of a resource of the account.
    pub(super) fn no_resource(&mut self, column: &'static str) {
        // The placeholder $1 is the account (see `Conditions::account`).
        self.and(&format!("{column} NOT IN (SELECT id FROM resources WHERE account = $1)"));
    }

    /// Adds the condition on the leg whose id is in `leg_column`. In the table `calls`, the column `column` of this leg
    /// must have this value.
    pub(super) fn equal_in_call(&mut self, leg_column: &'static str, column: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            let placeholder = self.bind(value.to_owned());
            // The placeholder $1 is the account (see `Conditions::account`).
            let legs = format!("SELECT id FROM calls WHERE account = $1 AND {column} = {placeholder}");
            self.and(&format!("{leg_column} IN ({legs})"));
        }
    }

    /// Adds the condition that the column has one of these values. An empty list allows every value.
    pub(super) fn one_of(&mut self, column: &'static str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        let placeholders: Vec<String> = values.iter().map(|value| self.bind(value.clone())).collect();
        self.and(&format!("{column} IN ({})", placeholders.join(", ")));
    }

    pub(super) fn within(&mut self, column: &'static str, range: TimeRange) {
        if let Some(since) = range.since {
            let placeholder = self.bind(microseconds(since));
            self.and(&format!("{column} >= {placeholder}"));
        }
        if let Some(before) = range.before {
            let placeholder = self.bind(microseconds(before));
            self.and(&format!("{column} < {placeholder}"));
        }
    }

    /// Returns a page of `table`. The rows are ordered by `(time_column, id)`, newest row first.
    pub(super) async fn page(
        mut self,
        store: &Store,
        table: &'static str,
        time_column: &'static str,
        page: &Page,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let backwards = page.before.is_some() && page.after.is_none();
        for (cursor, comparison) in [(page.after, "<"), (page.before, ">")] {
            if let Some(cursor) = cursor {
                let at = self.bind(microseconds(cursor.at));
                let id = self.bind(hex(cursor.id));
                self.and(&format!("({time_column}, id) {comparison} ({at}, {id})"));
            }
        }
        let limit = self.bind(i64::from(page.limit.clamp(1, MAXIMUM_LIMIT)));
        let offset = self.bind(i64::try_from(page.offset).unwrap_or(i64::MAX));
        let order = if backwards { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT * FROM {table} WHERE {} ORDER BY {time_column} {order}, id {order} LIMIT {limit} OFFSET {offset}",
            self.sql
        );
        store.flush().await?;
        let mut rows = sqlx::query_with(assembled(sql), self.arguments).fetch_all(&store.pool).await?;
        if backwards {
            rows.reverse();
        }
        Ok(rows)
    }

    pub(super) async fn count(self, store: &Store, table: &'static str) -> Result<u64, StoreError> {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE {}", self.sql);
        store.flush().await?;
        let count: i64 = sqlx::query_scalar_with(assembled(sql), self.arguments).fetch_one(&store.pool).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Adds an argument and returns its placeholder.
    fn bind<'t>(&mut self, argument: impl Encode<'t, Any> + Type<Any>) -> String {
        // Encoding a text or an integer cannot fail.
        let _ = self.arguments.add(argument);
        format!("${}", self.arguments.len())
    }

    fn and(&mut self, condition: &str) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.sql.push_str(condition);
    }
}
