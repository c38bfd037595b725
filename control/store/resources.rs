//! What applications make and keep by REST: numbers, applications, queues, keys, transcriptions, ... Each kind keeps what is its
//! own as JSON.
//!
//! These change seldom, so they are written at once rather than by the writer task. Deleting one deletes what has it as parent.

use std::marker::PhantomData;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::column::{Columns, hex, microseconds};
use super::select::Conditions;
use super::writer::Write;
use super::{Cursor, Page, Store, StoreError, TimeRange, unique};

/// The word of what went wrong with calls, which is pruned as their logs are.
pub const TROUBLE: &str = "trouble";
/// The word of what went wrong, for people; pruned likewise.
pub const REPORT: &str = "report";

/// A kind of resource: its word in the column, and what it keeps beside the columns.
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
    /// Named by one word, which stays for ever.
    pub const fn new(word: &'static str) -> Self {
        Self { word, details: PhantomData }
    }

    /// Its word: for claims of its own.
    pub const fn word(&self) -> &'static str {
        self.word
    }
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource<T> {
    /// Its id.
    pub id: u128,
    /// The owner's name in the configuration.
    pub account: String,
    /// What it hangs on, of whatever kind.
    pub parent: Option<u128>,
    /// What it is looked for by: a friendly name, a number.
    pub name: String,
    /// What only one resource of the server may have (`number +15551230001`); nobody else is given the same.
    pub claim: Option<String>,
    /// The rest.
    pub details: T,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl<T> Resource<T> {
    /// A new one with an id of its own, made now, without parent and claim.
    pub fn new(account: &str, name: impl Into<String>, details: T) -> Self {
        let now = Timestamp::now();
        Self {
            id: rand::random(),
            account: account.to_owned(),
            parent: None,
            name: name.into(),
            claim: None,
            details,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Which of an account's resources of a kind.
#[derive(Debug, Clone, Default)]
pub struct Filter<'a> {
    /// Those that hang on this.
    pub parent: Option<u128>,
    /// Those of this name.
    pub name: Option<&'a str>,
    /// Those made then.
    pub created: TimeRange,
    /// Those changed then.
    pub updated: TimeRange,
}

const PUT: &str = "INSERT INTO resources (id, account, kind, parent, name, claim, details, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
    ON CONFLICT (id) DO UPDATE SET account = excluded.account, parent = excluded.parent, name = excluded.name, \
    claim = excluded.claim, details = excluded.details, updated_at = excluded.updated_at";

/// Adds it, or replaces the one with its id. `false`: its claim is another's.
pub async fn put<T: Serialize>(store: &Store, kind: Kind<T>, row: &Resource<T>) -> Result<bool, StoreError> {
    // These types always serialise.
    let details = serde_json::to_string(&row.details).unwrap_or_default();
    unique(
        sqlx::query(PUT)
            .bind(hex(row.id))
            .bind(row.account.clone())
            .bind(kind.word)
            .bind(row.parent.map(hex))
            .bind(row.name.clone())
            .bind(row.claim.clone())
            .bind(details)
            .bind(microseconds(row.created_at))
            .bind(microseconds(row.updated_at))
            .execute(&store.pool)
            .await,
    )
}

/// A resource that nobody waits for, as its row.
#[derive(Debug)]
pub struct Row {
    resource: Resource<String>,
    kind: &'static str,
}

/// Has it added beside what calls write. When the writer's queue is full it is dropped and counted, as lines of a log are.
pub fn submit<T: Serialize>(store: &Store, kind: Kind<T>, row: &Resource<T>) {
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
    store.writer.try_submit(Write::Resource(Box::new(Row { resource, kind: kind.word })));
}

/// Adds it within the writer's transaction.
pub(super) async fn write(connection: &mut AnyConnection, row: &Row) -> Result<(), sqlx::Error> {
    let Row { resource, kind } = row;
    sqlx::query(PUT)
        .bind(hex(resource.id))
        .bind(resource.account.clone())
        .bind(*kind)
        .bind(resource.parent.map(hex))
        .bind(resource.name.clone())
        .bind(resource.claim.clone())
        .bind(resource.details.clone())
        .bind(microseconds(resource.created_at))
        .bind(microseconds(resource.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}

/// The resource, when `account` owns it and it is of that kind.
pub async fn get<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    account: &str,
    id: u128,
) -> Result<Option<Resource<T>>, StoreError> {
    let row = sqlx::query("SELECT * FROM resources WHERE account = $1 AND kind = $2 AND id = $3")
        .bind(account.to_owned())
        .bind(kind.word)
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The newest of the account's resources of a kind with that name.
pub async fn named<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    account: &str,
    name: &str,
) -> Result<Option<Resource<T>>, StoreError> {
    let filter = Filter { name: Some(name), ..Filter::default() };
    Ok(list(store, kind, account, &filter, &Page::first(1)).await?.pop())
}

/// One page of the account's resources of a kind, newest first.
pub async fn list<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    account: &str,
    filter: &Filter<'_>,
    page: &Page,
) -> Result<Vec<Resource<T>>, StoreError> {
    let rows = conditions(account, kind.word, filter).page(store, "resources", "created_at", page).await?;
    rows.iter().map(read).collect()
}

/// All of the account's resources of a kind, newest first: where few are allowed, and more is asked of them than columns know.
pub async fn every<T: DeserializeOwned>(
    store: &Store,
    kind: Kind<T>,
    account: &str,
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

/// The place of a resource in [`list`], for the page behind it.
pub async fn cursor(store: &Store, account: &str, id: u128) -> Result<Option<Cursor>, StoreError> {
    let row = sqlx::query("SELECT created_at FROM resources WHERE account = $1 AND id = $2")
        .bind(account.to_owned())
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.map(|row| Ok(Cursor { at: Columns(&row).time("created_at")?, id })).transpose()
}

/// How many [`list`] would find.
pub async fn count<T>(store: &Store, kind: Kind<T>, account: &str, filter: &Filter<'_>) -> Result<u64, StoreError> {
    conditions(account, kind.word, filter).count(store, "resources").await
}

/// Every resource of a kind, of everybody, oldest first: for what is kept in memory.
pub async fn all<T: DeserializeOwned>(store: &Store, kind: Kind<T>) -> Result<Vec<Resource<T>>, StoreError> {
    let rows = sqlx::query("SELECT * FROM resources WHERE kind = $1 ORDER BY created_at, id")
        .bind(kind.word)
        .fetch_all(&store.pool)
        .await?;
    rows.iter().map(read).collect()
}

/// Removes it and what hangs on it; false when `account` has none of that kind with this id.
pub async fn delete<T>(store: &Store, kind: Kind<T>, account: &str, id: u128) -> Result<bool, StoreError> {
    let mut transaction = store.pool.begin().await?;
    let done = sqlx::query("DELETE FROM resources WHERE account = $1 AND kind = $2 AND id = $3")
        .bind(account.to_owned())
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

fn conditions(account: &str, kind: &'static str, filter: &Filter<'_>) -> Conditions {
    let mut conditions = Conditions::account(account);
    conditions.equal("kind", Some(kind));
    conditions.equal_id("parent", filter.parent);
    conditions.equal("name", filter.name);
    conditions.within("created_at", filter.created);
    conditions.within("updated_at", filter.updated);
    conditions
}

fn read<T: DeserializeOwned>(row: &AnyRow) -> Result<Resource<T>, StoreError> {
    let columns = Columns(row);
    let details = columns.text("details")?;
    Ok(Resource {
        id: columns.id("id")?,
        account: columns.text("account")?,
        parent: columns.optional_id("parent")?,
        name: columns.text("name")?,
        claim: columns.optional_text("claim")?,
        details: serde_json::from_str(&details)
            .map_err(|_| StoreError::Corrupt { column: "details", value: details })?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}
