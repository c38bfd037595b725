//! Resources that applications create by REST: numbers, applications, queues, API keys, transcriptions, ... Each kind
//! of resource stores its own values as JSON.
//!
//! Resources seldom change, so they are written at once, without the writer task. If a resource is deleted, its
//! children are also deleted.

use std::marker::PhantomData;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use tandem_id::AccountName;

use super::column::{Columns, hex, microseconds};
use super::select::Conditions;
use super::writer::Write;
use super::{Cursor, Page, Store, StoreError, TimeRange, unique};

/// The word for the kind "notifications about calls". Notifications are pruned together with the logs of calls.
pub const NOTIFICATION: &str = "trouble";
/// The word for the kind "reports to operators and users". Reports are pruned together with the logs of calls.
pub const REPORT: &str = "report";
/// The word of the changes, which are deleted like reports.
pub const CHANGE: &str = "change";

/// A kind of resource. A kind has a word, which the column `kind` contains, and a Rust type for the details.
#[derive(Debug)]
pub struct Kind<T> {
    word: &'static str,
    details: PhantomData<fn() -> T>,
}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Kind<T> {}

impl<T> Kind<T> {
    /// Creates a kind. The word of an existing kind must never change, because the database contains the word.
    pub const fn new(word: &'static str) -> Self {
        Self { word, details: PhantomData }
    }

    /// Returns the word of this kind. The claims of resources of this kind contain the word.
    pub const fn word(&self) -> &'static str {
        self.word
    }
}

/// A resource of an account, with details of the type that belongs to its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource<T> {
    pub id: u128,
    /// Name of the account.
    pub account: AccountName,
    /// Id of the parent resource, which may have any kind.
    pub parent: Option<u128>,
    /// A friendly name or a number. Queries can use this name as a filter.
    pub name: String,
    /// A claim, for example `number +15551230001`. Only one resource in the server can have a given claim.
    pub claim: Option<String>,
    /// The other values, stored as JSON.
    pub details: T,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

impl<T> Resource<T> {
    /// Creates a resource with a new id and the current time. The resource has no parent and no claim.
    pub fn new(account: &AccountName, name: impl Into<String>, details: T) -> Self {
        let now = Timestamp::now();
        Self {
            id: rand::random(),
            account: account.clone(),
            parent: None,
            name: name.into(),
            claim: None,
            details,
            created_at: now,
            updated_at: now,
        }
    }

    /// Whether the resource has not changed since its creation.
    pub fn is_new(&self) -> bool {
        self.created_at == self.updated_at
    }
}

/// The reason why a resource was not added.
#[derive(Debug, thiserror::Error)]
pub enum NotAdded {
    /// The account already has the maximum number of resources of this kind.
    #[error("the account already has the maximum of {0}")]
    Full(u64),
    /// Another resource has the same claim.
    #[error("it is already in use")]
    Taken,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Criteria for the account's resources of one kind.
#[derive(Debug, Clone, Default)]
pub struct Filter<'a> {
    /// The id of the parent resource.
    pub parent: Option<u128>,
    /// The cause of the report.
    pub cause: Option<&'a str>,
    /// The name of the resource. The comparison is exact.
    pub name: Option<&'a str>,
    /// Range of the time of creation.
    pub created: TimeRange,
    /// Range of the time of the last change.
    pub updated: TimeRange,
}

const PUT: &str = "INSERT INTO resources (id, account, kind, parent, name, claim, details, created_at, updated_at, cause) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
    ON CONFLICT (id) DO UPDATE SET account = excluded.account, parent = excluded.parent, name = excluded.name, \
    claim = excluded.claim, details = excluded.details, updated_at = excluded.updated_at";

/// Adds the resource, or replaces the resource with the same id. Returns `false` if another resource has the same
/// claim.
pub async fn put<T: Serialize>(store: &Store, kind: Kind<T>, row: &Resource<T>) -> Result<bool, StoreError> {
    // The serialisation of these types cannot fail.
    let details = serde_json::to_string(&row.details).unwrap_or_default();
    store.written.add_kind(kind.word);
    unique(
        sqlx::query(PUT)
            .bind(hex(row.id))
            .bind(row.account.to_string())
            .bind(kind.word)
            .bind(row.parent.map(hex))
            .bind(row.name.clone())
            .bind(row.claim.clone())
            .bind(details)
            .bind(microseconds(row.created_at))
            .bind(microseconds(row.updated_at))
            .bind(None::<String>)
            .execute(&store.pool)
            .await,
    )
}

/// Adds a new resource. The resource is not added if the account already has `max` resources of this kind that match
/// the filter. The resource is also not added if another resource has the same claim.
pub async fn add<T: Serialize>(
    store: &Store,
    kind: Kind<T>,
    row: &Resource<T>,
    filter: &Filter<'_>,
    max: u64,
) -> Result<(), NotAdded> {
    if count(store, kind, &row.account, filter).await? >= max {
        return Err(NotAdded::Full(max));
    }
    if put(store, kind, row).await? { Ok(()) } else { Err(NotAdded::Taken) }
}

/// A resource in the form of a database row. The writer task writes this row.
#[derive(Debug)]
pub struct Row {
    resource: Resource<String>,
    kind: &'static str,
    cause: Option<&'static str>,
}

/// Submits the resource to the writer task. If the writer's queue is full, the resource is dropped and counted, as a
/// log line would be.
pub fn submit<T: Serialize>(store: &Store, kind: Kind<T>, row: &Resource<T>) {
    submit_with_cause(store, kind, row, None);
}

/// Submits a report to the writer task, as [`submit`] does. [`causes`] counts the reports of each cause.
pub fn submit_report<T: Serialize>(store: &Store, kind: Kind<T>, row: &Resource<T>, cause: &'static str) {
    submit_with_cause(store, kind, row, Some(cause));
}

fn submit_with_cause<T: Serialize>(store: &Store, kind: Kind<T>, row: &Resource<T>, cause: Option<&'static str>) {
    let resource = Resource {
        id: row.id,
        account: row.account.clone(),
        parent: row.parent,
        name: row.name.clone(),
        claim: row.claim.clone(),
        details: serde_json::to_string(&row.details).unwrap_or_default(),
        created_at: row.created_at,
        updated_at: row.updated_at,
    };
    store.writer.try_submit(Write::Resource(Box::new(Row { resource, kind: kind.word, cause })));
}

/// Adds the resource. The change is part of the writer's transaction.
pub(super) async fn write(connection: &mut AnyConnection, row: &Row) -> Result<(), sqlx::Error> {
    let Row { resource, kind, cause } = row;
    sqlx::query(PUT)
        .bind(hex(resource.id))
        .bind(resource.account.to_string())
        .bind(*kind)
        .bind(resource.parent.map(hex))
        .bind(resource.name.clone())
        .bind(resource.claim.clone())
        .bind(resource.details.clone())
        .bind(microseconds(resource.created_at))
        .bind(microseconds(resource.updated_at))
        .bind(cause.map(str::to_owned))
        .execute(connection)
        .await?;
    Ok(())
}

/// Returns a resource, if the resource belongs to `account` and has this kind.
pub async fn get<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    account: &AccountName,
    id: u128,
) -> Result<Option<Resource<T>>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM resources WHERE account = $1 AND kind = $2 AND id = $3")
        .bind(account.to_string())
        .bind(kind.word)
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Returns the account's newest resource of this kind with this name.
pub async fn named<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    account: &AccountName,
    name: &str,
) -> Result<Option<Resource<T>>, StoreError> {
    let filter = Filter { name: Some(name), ..Filter::default() };
    Ok(list(store, kind, account, &filter, &Page::first(1)).await?.pop())
}

/// Returns the resource of any account with this id, if it has this kind. Use this function only for resources that are
/// written at once.
pub async fn find<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    id: u128,
) -> Result<Option<Resource<T>>, StoreError> {
    let row = sqlx::query("SELECT * FROM resources WHERE kind = $1 AND id = $2")
        .bind(kind.word)
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Returns the account's newest resource of this kind with this name, as [`named`] does, but without the limits for the
/// lists of an account. Use this function only for resources that are written at once.
pub async fn newest<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    account: &AccountName,
    name: &str,
) -> Result<Option<Resource<T>>, StoreError> {
    let sql = "SELECT * FROM resources WHERE kind = $1 AND name = $2 AND account = $3 ORDER BY created_at DESC, id DESC LIMIT 1";
    let row = sqlx::query(sql)
        .bind(kind.word)
        .bind(name.to_owned())
        .bind(account.to_string())
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Returns a page of the account's resources of this kind, newest resource first.
pub async fn list<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    account: &AccountName,
    filter: &Filter<'_>,
    page: &Page,
) -> Result<Vec<Resource<T>>, StoreError> {
    list_of(store, kind, std::slice::from_ref(account), filter, page).await
}

/// Returns a page of the resources of this kind that these accounts have, newest resource first.
pub async fn list_of<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    accounts: &[AccountName],
    filter: &Filter<'_>,
    page: &Page,
) -> Result<Vec<Resource<T>>, StoreError> {
    let rows = conditions(accounts, kind.word, filter).page(store, "resources", "created_at", page).await?;
    rows.iter().map(read).collect()
}

/// Returns all resources of this kind that the account has, newest resource first. Use this function to search by
/// values that have no column, and only for kinds with a limited number of resources.
pub async fn every<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    account: &AccountName,
    filter: &Filter<'_>,
) -> Result<Vec<Resource<T>>, StoreError> {
    let (word, mut page, mut all) = (kind.word, Page::first(1000), Vec::new());
    loop {
        let rows = list(store, Kind::new(word), account, filter, &page).await?;
        let more = rows.len() == 1000;
        all.extend(rows);
        match all.last() {
            Some(last) if more => page.after = Some(Cursor { at: last.created_at, id: last.id }),
            _ => return Ok(all),
        }
    }
}

/// Returns the position of a resource in the result of [`list`]. The next page begins after this position.
pub async fn cursor(store: &Store, account: &AccountName, id: u128) -> Result<Option<Cursor>, StoreError> {
    let row = sqlx::query("SELECT created_at FROM resources WHERE account = $1 AND id = $2")
        .bind(account.to_string())
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.map(|row| Ok(Cursor { at: Columns(&row).time("created_at")?, id })).transpose()
}

/// Returns the number of resources that [`list`] would return.
pub async fn count<T>(
    store: &Store,
    kind: Kind<T>,
    account: &AccountName,
    filter: &Filter<'_>,
) -> Result<u64, StoreError> {
    conditions(std::slice::from_ref(account), kind.word, filter).count(store, "resources").await
}

/// The reports of one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CauseCount {
    pub cause: String,
    pub count: u64,
    /// The number of these reports whose name is `error`.
    pub errors: u64,
    /// Times of the oldest and of the newest of these reports.
    pub first: Timestamp,
    pub last: Timestamp,
}

/// Counts the reports of each cause, the cause with the newest report first. `account` is one account, or `None` for all
/// accounts and the server. Reads an index and no report.
pub async fn causes(
    store: &Store,
    account: Option<&AccountName>,
    filter: &Filter<'_>,
) -> Result<Vec<CauseCount>, StoreError> {
    let mut conditions = account.map_or_else(Conditions::everything, Conditions::account);
    conditions.and("cause IS NOT NULL");
    conditions.equal("cause", filter.cause);
    conditions.equal("name", filter.name);
    conditions.within("created_at", filter.created);
    let columns = "cause, COUNT(*) AS entries, COUNT(CASE WHEN name = 'error' THEN 1 END) AS errors, \
                   MIN(created_at) AS first, MAX(created_at) AS last";
    let rows = conditions.groups(store, ("resources", "resources_by_cause"), columns, "cause").await?;
    let count = |row: &AnyRow| {
        let columns = Columns(row);
        let number = |name| Ok::<_, StoreError>(u64::try_from(columns.integer(name)?).unwrap_or(0));
        Ok(CauseCount {
            cause: columns.text("cause")?,
            count: number("entries")?,
            errors: number("errors")?,
            first: columns.time("first")?,
            last: columns.time("last")?,
        })
    };
    let mut counts = rows.iter().map(count).collect::<Result<Vec<_>, StoreError>>()?;
    counts.sort_by_key(|one| std::cmp::Reverse(one.last));
    Ok(counts)
}

/// Returns the causes of the children of these resources, each with the name of the child: `error` or `warning`. Each
/// combination is returned once, the errors of a resource before its warnings. Without parents, the result is empty.
pub async fn causes_of<T>(
    store: &Store,
    kind: Kind<T>,
    parents: &[u128],
) -> Result<Vec<(u128, String, String)>, StoreError> {
    if parents.is_empty() {
        return Ok(Vec::new());
    }
    let placeholders: Vec<String> = (2..).take(parents.len()).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT DISTINCT parent, name, cause FROM resources WHERE kind = $1 AND parent IN ({}) AND cause IS NOT NULL \
         ORDER BY parent, name, cause",
        placeholders.join(", ")
    );
    let query =
        parents.iter().fold(sqlx::query(super::assembled(sql)).bind(kind.word), |query, id| query.bind(hex(*id)));
    let rows = query.fetch_all(&store.pool).await?;
    rows.iter()
        .map(|row| {
            let columns = Columns(row);
            Ok((columns.id("parent")?, columns.text("name")?, columns.text("cause")?))
        })
        .collect()
}

/// Returns all resources of this kind of all accounts, oldest resource first. Use this function only for resources that
/// the calling code keeps in memory.
pub async fn all<T: DeserializeOwned>(store: &Store, kind: Kind<T>) -> Result<Vec<Resource<T>>, StoreError> {
    let rows = sqlx::query("SELECT * FROM resources WHERE kind = $1 ORDER BY created_at, id")
        .bind(kind.word)
        .fetch_all(&store.pool)
        .await?;
    rows.iter().map(read).collect()
}

/// Deletes a resource and its children. Returns `false` if `account` has no resource of this kind with this id.
pub async fn delete<T>(store: &Store, kind: Kind<T>, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    store.written.add_kind(kind.word);
    let mut transaction = store.pool.begin().await?;
    let done = sqlx::query("DELETE FROM resources WHERE account = $1 AND kind = $2 AND id = $3")
        .bind(account.to_string())
        .bind(kind.word)
        .bind(hex(id))
        .execute(&mut *transaction)
        .await?;
    if done.rows_affected() > 0 {
        sqlx::query("DELETE FROM resources WHERE parent = $1").bind(hex(id)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(done.rows_affected() > 0)
}

pub(super) fn conditions(accounts: &[AccountName], kind: &'static str, filter: &Filter<'_>) -> Conditions {
    let mut conditions = Conditions::accounts(accounts);
    conditions.equal("kind", Some(kind));
    conditions.is(("parent", "resources_by_parent"), filter.parent.map(hex));
    conditions.is(("cause", "resources_by_cause"), filter.cause.map(str::to_owned));
    conditions.is(("name", "resources_by_name"), filter.name.map(str::to_owned));
    conditions.within("created_at", filter.created);
    conditions.within("updated_at", filter.updated);
    conditions
}

fn read<T: DeserializeOwned>(row: &AnyRow) -> Result<Resource<T>, StoreError> {
    let columns = Columns(row);
    let details = columns.text("details")?;
    Ok(Resource {
        id: columns.id("id")?,
        account: columns.account()?,
        parent: columns.optional_id("parent")?,
        name: columns.text("name")?,
        claim: columns.optional_text("claim")?,
        details: serde_json::from_str(&details)
            .map_err(|_| StoreError::Corrupt { column: "details", value: details })?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}
