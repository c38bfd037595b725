//! The entries of access lists: users with passwords, or networks.

use ipnet::IpNet;
use jiff::Timestamp;
use sqlx::any::{Any, AnyArguments, AnyRow};
use sqlx::query::Query;
use tandem_id::AccountName;

use super::super::column::{Columns, hex, microseconds};
use super::super::nodes::Settings;
use super::super::select::Conditions;
use super::super::{Cursor, Page, Store, StoreError, unique};
use super::{ListKind, delete, one};

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    pub id: u128,
    /// Name of the account.
    pub account: AccountName,
    /// Id of the list.
    pub list: u128,
    /// The user or the network.
    pub details: T,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// A user in a list. `Debug` hides the password hashes.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Digest user name, unique in the list. The user name cannot be changed.
    pub username: String,
    /// MD5 hash `H(A1)` for the server's realm, as 32 hexadecimal digits (RFC 7616 §3.4.2).
    pub ha1_md5: String,
    /// SHA-256 hash `H(A1)` for the server's realm, as 64 hexadecimal digits.
    pub ha1_sha256: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A network in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Name that users see.
    pub name: String,
    /// The network in CIDR notation.
    pub network: IpNet,
}

impl<T> Entry<T> {
    /// Creates an entry with a new id and the current time.
    pub fn new(account: &AccountName, list: u128, details: T) -> Self {
        let now = Timestamp::now();
        Self { id: rand::random(), account: account.clone(), list, details, created_at: now, updated_at: now }
    }

    /// Returns the position of the entry in the result of [`entries`].
    pub fn cursor(&self) -> Cursor {
        Cursor { at: self.created_at, id: self.id }
    }
}

/// The details of an entry: [`Credential`] or [`Network`].
pub trait EntryDetails: columns::EntryColumns {
    /// The kind of the lists that have such entries.
    const KIND: ListKind;
}

mod columns {
    use super::{Any, AnyArguments, AnyRow, Query, StoreError};

    /// The columns of the details, and the statements of their table.
    pub trait EntryColumns: Sized {
        const TABLE: &'static str;
        const SELECT: &'static str;
        const DELETE: &'static str;
        /// The statement that adds or replaces an entry. The first arguments of the statement are the id, the account,
        /// the list and the two times. The arguments of `bind` follow.
        const UPSERT: &'static str;

        fn bind<'q>(&self, query: Query<'q, Any, AnyArguments>) -> Query<'q, Any, AnyArguments>;
        fn of_row(row: &AnyRow) -> Result<Self, StoreError>;
    }
}

impl EntryDetails for Credential {
    const KIND: ListKind = ListKind::Credentials;
}

impl columns::EntryColumns for Credential {
    const TABLE: &'static str = "sip_credentials";
    const SELECT: &'static str = "SELECT * FROM sip_credentials WHERE account = $1 AND id = $2";
    const DELETE: &'static str = "DELETE FROM sip_credentials WHERE account = $1 AND id = $2";
    const UPSERT: &'static str = "INSERT INTO sip_credentials \
        (id, account, list, created_at, updated_at, username, ha1_md5, ha1_sha256) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
        ON CONFLICT (id) DO UPDATE SET ha1_md5 = excluded.ha1_md5, ha1_sha256 = excluded.ha1_sha256, \
        updated_at = excluded.updated_at";

    fn bind<'q>(&self, query: Query<'q, Any, AnyArguments>) -> Query<'q, Any, AnyArguments> {
        query.bind(self.username.clone()).bind(self.ha1_md5.clone()).bind(self.ha1_sha256.clone())
    }

    fn of_row(row: &AnyRow) -> Result<Self, StoreError> {
        let columns = Columns(row);
        Ok(Self {
            username: columns.text("username")?,
            ha1_md5: columns.text("ha1_md5")?,
            ha1_sha256: columns.text("ha1_sha256")?,
        })
    }
}

impl EntryDetails for Network {
    const KIND: ListKind = ListKind::Addresses;
}

impl columns::EntryColumns for Network {
    const TABLE: &'static str = "sip_addresses";
    const SELECT: &'static str = "SELECT * FROM sip_addresses WHERE account = $1 AND id = $2";
    const DELETE: &'static str = "DELETE FROM sip_addresses WHERE account = $1 AND id = $2";
    const UPSERT: &'static str = "INSERT INTO sip_addresses (id, account, list, created_at, updated_at, name, network) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) \
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, network = excluded.network, \
        updated_at = excluded.updated_at";

    fn bind<'q>(&self, query: Query<'q, Any, AnyArguments>) -> Query<'q, Any, AnyArguments> {
        query.bind(self.name.clone()).bind(self.network.to_string())
    }

    fn of_row(row: &AnyRow) -> Result<Self, StoreError> {
        let columns = Columns(row);
        Ok(Self { name: columns.text("name")?, network: network(&columns)? })
    }
}

/// Adds the entry, or replaces the entry with the same id. Returns `false` if the list already has a user with this
/// name.
pub async fn upsert_entry<T: EntryDetails>(store: &Store, row: &Entry<T>) -> Result<bool, StoreError> {
    store.written.add(Settings::Phones);
    let query = sqlx::query(T::UPSERT)
        .bind(hex(row.id))
        .bind(row.account.to_string())
        .bind(hex(row.list))
        .bind(microseconds(row.created_at))
        .bind(microseconds(row.updated_at));
    unique(row.details.bind(query).execute(&store.pool).await)
}

/// Returns an entry, if the entry belongs to `account`.
pub async fn entry<T: EntryDetails>(
    store: &Store,
    account: &AccountName,
    id: u128,
) -> Result<Option<Entry<T>>, StoreError> {
    one(store, T::SELECT, account, id).await?.as_ref().map(read).transpose()
}

/// Returns a page of a list's entries, newest entry first.
pub async fn entries<T: EntryDetails>(
    store: &Store,
    account: &AccountName,
    list: u128,
    page: &Page,
) -> Result<Vec<Entry<T>>, StoreError> {
    of_list(account, list).page(store, T::TABLE, "created_at", page).await?.iter().map(read).collect()
}

/// Returns the number of [`entries`] of a list.
pub async fn count_entries<T: EntryDetails>(
    store: &Store,
    account: &AccountName,
    list: u128,
) -> Result<u64, StoreError> {
    of_list(account, list).count(store, T::TABLE).await
}

/// Deletes an entry. Returns `false` if `account` has no entry with this id.
pub async fn delete_entry<T: EntryDetails>(store: &Store, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    delete(store, T::DELETE, &[], account, id).await
}

/// Reads the column `network`.
pub(super) fn network(columns: &Columns<'_>) -> Result<IpNet, StoreError> {
    let network = columns.text("network")?;
    network.parse().map_err(|_| StoreError::Corrupt { column: "network", value: network })
}

fn of_list(account: &AccountName, list: u128) -> Conditions {
    let mut conditions = Conditions::account(account);
    conditions.equal_id("list", Some(list));
    conditions
}

fn read<T: EntryDetails>(row: &AnyRow) -> Result<Entry<T>, StoreError> {
    let columns = Columns(row);
    Ok(Entry {
        id: columns.id("id")?,
        account: columns.account()?,
        list: columns.id("list")?,
        details: T::of_row(row)?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}
