//! Reads with filters and pages. The newest row comes first. A page does not change when rows are added.
//!
//! A page costs only its own rows, because each list has an index with the columns of its conditions, followed by the
//! columns of its order (`migrations/0005_indexes_for_lists.sql`). Such an index works for one value of each column. So
//! a list of several accounts or of several statuses first reads the newest row of each combination of the values. Then it
//! reads one page for each combination that can be on the page, and takes the newest rows of these pages.

use jiff::{SignedDuration, Timestamp};
use sqlx::any::{Any, AnyArguments, AnyRow};
use sqlx::{Arguments as _, Encode, Type};
use tandem_id::AccountName;

use super::column::{hex, microseconds};
use super::{Store, StoreError};

/// Maximum number of rows in a page.
const MAXIMUM_LIMIT: u32 = 1000;

/// A position in a list. Lists are ordered by time and then by id, newest row first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The row's value of the column by which the list is ordered.
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
    /// Number of rows to skip. The count begins at the position in `after`. If there is no such position, the count begins
    /// at the start of the list.
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

impl TimeRange {
    /// Whether the time is in the range.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.before.is_none_or(|before| at < before)
    }
}

/// The longest time from the beginning of a call or a recording to its answer or its end. The time limit of a call is at
/// most 24 hours after the answer.
const LONGEST: SignedDuration = SignedDuration::from_hours(48);

/// Returns a range in which each call or recording began whose answer or end is in `range`. With this range, a list does
/// not read the whole history for the last rows.
pub(super) fn began(range: TimeRange) -> TimeRange {
    TimeRange { since: range.since.map(|since| since.checked_sub(LONGEST).unwrap_or(Timestamp::MIN)), ..range }
}

/// The conditions of a `WHERE` clause, and the arguments of the conditions. `sqlx::QueryBuilder` cannot write these
/// conditions. For [`Any`], the builder writes the placeholder `?`, which PostgreSQL does not know.
pub(super) struct Conditions {
    sql: String,
    arguments: AnyArguments,
    /// The account that reads. `None` for an operator.
    reader: Option<AccountName>,
    /// Columns with several allowed values.
    several: Vec<(&'static str, Vec<String>)>,
    /// The index of a condition that also has the order of the list. The empty text forbids such an index.
    index: Option<&'static str>,
}

impl Conditions {
    pub(super) fn account(account: &AccountName) -> Conditions {
        Conditions::accounts(std::slice::from_ref(account))
    }

    /// The rows of several accounts. With one account, the placeholder $1 is this account.
    pub(super) fn accounts(accounts: &[AccountName]) -> Conditions {
        let one = match accounts {
            [one] => Some(one),
            _ => None,
        };
        let mut conditions = Conditions {
            sql: String::new(),
            arguments: AnyArguments::default(),
            reader: one.cloned(),
            several: Vec::new(),
            index: None,
        };
        match one {
            Some(one) => conditions.equal("account", Some(one.as_str())),
            None => {
                let accounts = accounts.iter().map(AccountName::to_string).collect();
                conditions.several.push(("account", accounts));
            }
        }
        conditions
    }

    /// The rows of all accounts and of the server.
    pub(super) fn everything() -> Conditions {
        let arguments = AnyArguments::default();
        Conditions { sql: String::new(), arguments, reader: None, several: Vec::new(), index: None }
    }

    /// Makes the later conditions use no index of their own.
    pub(super) fn without_index(self) -> Conditions {
        Conditions { index: Some(""), ..self }
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
        self.and(&format!("NOT EXISTS (SELECT 1 FROM resources WHERE resources.id = {column} AND account = $1)"));
    }

    /// Adds a condition on the call whose id is in `leg_column`, which has the form `table.column`.
    pub(super) fn in_call(&mut self, leg_column: &'static str, call: &[(&'static str, &str)]) {
        let mut condition = format!("EXISTS (SELECT 1 FROM calls WHERE calls.id = {leg_column}");
        for (column, value) in call {
            let placeholder = self.bind((*value).to_owned());
            condition.push_str(&format!(" AND calls.{column} = {placeholder}"));
        }
        self.and(&(condition + ")"));
    }

    /// Adds the condition that the column contains this text.
    pub(super) fn contains(&mut self, columns: &[&'static str], part: &str) {
        let escaped: String = part
            .chars()
            .flat_map(|one| ['\\'].into_iter().filter(move |_| matches!(one, '\\' | '%' | '_')).chain([one]))
            .collect();
        let placeholder = self.bind(format!("%{escaped}%"));
        let alternatives: Vec<String> =
            columns.iter().map(|column| format!("{column} LIKE {placeholder} ESCAPE '\\'")).collect();
        self.and(&format!("({})", alternatives.join(" OR ")));
    }

    /// Adds the condition that the column has one of these values. An empty list allows every value. The column has this
    /// index, which also has the order of the list. Only the first such condition uses its index, because SQLite, which
    /// has no statistics, would take any of several indexes. So the conditions that fewer rows fulfil must come first.
    pub(super) fn one_of(&mut self, (column, index): (&'static str, &'static str), values: &[String]) {
        if values.is_empty() {
            return;
        }
        if self.index.is_some() {
            let placeholders: Vec<String> = values.iter().map(|value| self.bind(value.clone())).collect();
            // An expression has no index.
            self.and(&format!("COALESCE({column}, '') IN ({})", placeholders.join(", ")));
            return;
        }
        self.index = Some(index);
        match values {
            [one] => self.equal(column, Some(one)),
            several => self.several.push((column, several.to_vec())),
        }
    }

    /// Adds the condition that the column has this value, as [`Self::one_of`] does.
    pub(super) fn is(&mut self, indexed: (&'static str, &'static str), value: Option<String>) {
        self.one_of(indexed, &Vec::from_iter(value));
    }

    /// Adds the condition that the column is null. This index has only such rows, as for [`Self::one_of`].
    pub(super) fn is_null(&mut self, (column, index): (&'static str, &'static str)) {
        self.index.get_or_insert(index);
        self.and(&format!("{column} IS NULL"));
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
        self,
        store: &Store,
        table: &'static str,
        time_column: &'static str,
        page: &Page,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let reader = self.reader.clone();
        let (sql, arguments) = self.page_query(store.reads.is_sqlite(), table, time_column, page);
        store.flush().await?;
        store.reads.rows(reader.as_ref(), sql, arguments).await
    }

    /// Returns the query of a page, and its arguments.
    pub(super) fn page_query(
        mut self,
        sqlite: bool,
        table: &'static str,
        time_column: &'static str,
        page: &Page,
    ) -> (String, AnyArguments) {
        if let Some(cursor) = page.after {
            let at = self.bind(microseconds(cursor.at));
            let id = self.bind(hex(cursor.id));
            self.and(&format!("({time_column}, id) < ({at}, {id})"));
        }
        let (rows, skipped) = (page.limit.clamp(1, MAXIMUM_LIMIT), i64::try_from(page.offset).unwrap_or(i64::MAX));
        let limit = self.bind(i64::from(rows));
        let offset = self.bind(skipped);
        let source = match self.index.filter(|index| sqlite && !index.is_empty()) {
            Some(index) => format!("{table} INDEXED BY {index}"),
            None => table.to_owned(),
        };
        if self.index == Some("") {
            // Most rows do not match, so the newest row of each combination would cost as much as the page.
            self.allow_several(sqlite);
        }
        let several = std::mem::take(&mut self.several);
        if several.is_empty() {
            let sql = format!(
                "SELECT * FROM {source} WHERE {} ORDER BY {time_column} DESC, id DESC LIMIT {limit} OFFSET {offset}",
                self.sql
            );
            return (sql, self.arguments);
        }
        let most = self.bind(i64::from(rows).saturating_add(skipped));
        let mut lists = Vec::new();
        for (index, (_, values)) in several.iter().enumerate() {
            let values = self.bind_list(values);
            lists.push(match sqlite {
                true => format!("json_each({values}) AS list{index}"),
                false => format!("json_array_elements_text(CAST({values} AS json)) AS list{index}(value)"),
            });
        }
        let numbers = 0..several.len();
        let names: Vec<_> = numbers.clone().map(|index| format!("list{index}.value AS value{index}")).collect();
        // The rows of one combination of values, newest row first.
        let each = |columns: &str, value: &dyn Fn(usize) -> String, limit: &str| {
            let mut condition = self.sql.clone();
            for (index, (column, _)) in several.iter().enumerate() {
                condition.push_str(&format!(" AND {column} = {}", value(index)));
            }
            let condition = condition.trim_start_matches(" AND ");
            format!(
                "SELECT {columns} FROM {source} WHERE {condition} ORDER BY {time_column} DESC, id DESC LIMIT {limit}"
            )
        };
        // A page has rows of at most as many combinations as it has rows: of those whose newest row is the newest.
        let newest = |column: &str| each(column, &|index| format!("list{index}.value"), "1");
        let best = format!(
            "(SELECT {} FROM {} ORDER BY ({}) DESC NULLS LAST, ({}) DESC NULLS LAST LIMIT {most}) AS best",
            names.join(", "),
            lists.join(" CROSS JOIN "),
            newest(time_column),
            newest("id"),
        );
        // PostgreSQL reads the page of each combination in a lateral join. SQLite has no such join, but reads the list of
        // an `IN` again for each combination.
        let value = |index| format!("best.value{index}");
        let sql = match sqlite {
            true => format!(
                "SELECT {table}.* FROM {best} CROSS JOIN {table} WHERE {table}.id IN ({}) ORDER BY \
                 {table}.{time_column} DESC, {table}.id DESC LIMIT {limit} OFFSET {offset}",
                each("id", &value, &most)
            ),
            false => format!(
                "SELECT part.* FROM {best} CROSS JOIN LATERAL ({}) AS part ORDER BY part.{time_column} DESC, \
                 part.id DESC LIMIT {limit} OFFSET {offset}",
                each("*", &value, &most)
            ),
        };
        (sql, self.arguments)
    }

    /// Returns one row for each value of the column `by`, with these columns. The index has all of them.
    pub(super) async fn groups(
        self,
        store: &Store,
        (table, index): (&'static str, &'static str),
        columns: &str,
        by: &str,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let hint = if store.reads.is_sqlite() { format!(" INDEXED BY {index}") } else { String::new() };
        let sql = format!("SELECT {columns} FROM {table}{hint} WHERE {} GROUP BY {by}", self.sql);
        store.flush().await?;
        store.reads.rows(self.reader.as_ref(), sql, self.arguments).await
    }

    pub(super) async fn count(mut self, store: &Store, table: &'static str) -> Result<u64, StoreError> {
        self.allow_several(store.reads.is_sqlite());
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE {}", self.sql);
        store.flush().await?;
        let count = store.reads.number(self.reader.as_ref(), sql, self.arguments).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Makes one condition of each column with several allowed values.
    fn allow_several(&mut self, sqlite: bool) {
        for (column, values) in std::mem::take(&mut self.several) {
            let values = self.bind_list(&values);
            let list = match sqlite {
                true => format!("SELECT value FROM json_each({values})"),
                false => format!("SELECT json_array_elements_text(CAST({values} AS json))"),
            };
            self.and(&format!("{column} IN ({list})"));
        }
    }

    /// Adds an argument and returns its placeholder.
    fn bind<'t>(&mut self, argument: impl Encode<'t, Any> + Type<Any>) -> String {
        // Encoding a text or an integer cannot fail.
        let _ = self.arguments.add(argument);
        format!("${}", self.arguments.len())
    }

    /// Adds a list as JSON, and returns its placeholder.
    fn bind_list(&mut self, values: &[String]) -> String {
        // The serialisation of texts cannot fail.
        self.bind(serde_json::to_string(values).unwrap_or_default())
    }

    pub(super) fn and(&mut self, condition: &str) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.sql.push_str(condition);
    }
}
