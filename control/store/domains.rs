//! The SIP domains of accounts, and the access lists for these domains. An access list contains credentials or
//! addresses. A mapping connects a list with a domain.
//!
//! ```text
//!   domain ◀── mapping (purpose) ──▶ list ◀── credentials (HA1, never the password)
//!                                         ◀── addresses (networks)
//! ```
//!
//! These rows seldom change, so they are written at once, without the writer task. If a list or a domain is deleted,
//! the rows that depend on it are also deleted.

mod entries;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use tandem_id::AccountName;

use super::column::{Columns, hex, microseconds};
use super::nodes::Settings;
use super::select::Conditions;
use super::{Cursor, Page, Store, StoreError, unique};

pub use entries::{
    Credential, Entry, EntryDetails, Network, count_entries, delete_entry, entries, entry, upsert_entry,
};

/// A SIP domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRow {
    pub id: u128,
    /// Name of the account.
    pub account: AccountName,
    /// Host name in lower case. The name is unique in the server.
    pub name: String,
    /// The settings that have no column of their own.
    pub details: DomainDetails,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// The settings of a domain that no query uses as a filter. These settings are stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DomainDetails {
    /// Name that users see.
    pub friendly_name: String,
    /// Whether the users in the domain's lists may register.
    pub registration: bool,
    /// URL and method of the document for calls to the domain.
    pub voice: Option<(String, String)>,
    /// URL and method of the document that is used if `voice` fails.
    pub fallback: Option<(String, String)>,
    /// URL and method for the notice that a call to the domain has ended.
    pub status_callback: Option<(String, String)>,
    /// Whether calls to the domain, and calls from the domain's users, must be encrypted (TLS and SRTP).
    pub secure: bool,
    /// Whether the domain belongs to a customer trunk. This trunk is the resource that has the same id as the domain.
    /// The domains of trunks are not in lists of domains.
    pub trunk: bool,
    /// Additional members that the provider's API stores.
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// The kind of the entries in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// Users with passwords.
    Credentials,
    /// Networks.
    Addresses,
}

/// An access list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRow {
    pub id: u128,
    /// Name of the account.
    pub account: AccountName,
    /// Kind of the entries.
    pub kind: ListKind,
    /// Name that users see.
    pub name: String,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// The purpose for which a domain uses a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The users in the list may call.
    CallsByPassword,
    /// Calls may come from the networks in the list.
    CallsByAddress,
    /// The users in the list may register.
    Registrations,
}

/// The mapping of a list to a domain, with a purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingRow {
    pub id: u128,
    /// Name of the account.
    pub account: AccountName,
    /// Id of the domain.
    pub domain: u128,
    /// Id of the list.
    pub list: u128,
    /// Purpose of the list.
    pub purpose: Purpose,
    /// Time of creation.
    pub created_at: Timestamp,
}

/// A user of a domain, in the form that the registrar needs.
#[derive(Clone, PartialEq, Eq)]
pub struct DomainUser {
    /// Name of the domain.
    pub domain: String,
    /// Name of the account.
    pub account: AccountName,
    /// User name for digest authentication.
    pub username: String,
    /// MD5 hash `H(A1)` for the server's realm.
    pub ha1_md5: String,
    /// SHA-256 hash `H(A1)` for the server's realm.
    pub ha1_sha256: String,
    /// Time at which the user was created.
    pub created_at: Timestamp,
    /// Whether the user may register.
    pub registers: bool,
    /// Whether the user may call.
    pub calls: bool,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::CallsByPassword, Self::CallsByAddress, Self::Registrations];

    fn word(self) -> &'static str {
        match self {
            Self::CallsByPassword => "calls-password",
            Self::CallsByAddress => "calls-address",
            Self::Registrations => "registrations",
        }
    }

    fn read(word: String) -> Result<Self, StoreError> {
        let found = Self::ALL.into_iter().find(|purpose| purpose.word() == word);
        found.ok_or(StoreError::Corrupt { column: "purpose", value: word })
    }
}

impl ListKind {
    fn word(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Addresses => "addresses",
        }
    }

    fn read(word: String) -> Result<Self, StoreError> {
        match word.as_str() {
            "credentials" => Ok(Self::Credentials),
            "addresses" => Ok(Self::Addresses),
            _ => Err(StoreError::Corrupt { column: "kind", value: word }),
        }
    }
}

/// Adds the domain, or replaces the domain with the same id. Returns `false` if the name belongs to another domain.
pub async fn upsert_domain(store: &Store, row: &DomainRow) -> Result<bool, StoreError> {
    store.written.add(Settings::Phones);
    // The serialisation of these types cannot fail.
    let details = serde_json::to_string(&row.details).unwrap_or_default();
    unique(
        sqlx::query(
            "INSERT INTO sip_domains (id, account, name, details, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, details = excluded.details, \
             updated_at = excluded.updated_at",
        )
        .bind(hex(row.id))
        .bind(row.account.to_string())
        .bind(row.name.to_ascii_lowercase())
        .bind(details)
        .bind(microseconds(row.created_at))
        .bind(microseconds(row.updated_at))
        .execute(&store.pool)
        .await,
    )
}

/// Returns a domain, if the domain belongs to `account`.
pub async fn domain(store: &Store, account: &AccountName, id: u128) -> Result<Option<DomainRow>, StoreError> {
    one(store, "SELECT * FROM sip_domains WHERE account = $1 AND id = $2", account, id)
        .await?
        .as_ref()
        .map(read_domain)
        .transpose()
}

/// Returns a page of the account's domains, newest domain first. The result does not contain the domains of trunks.
pub async fn domains(store: &Store, account: &AccountName, page: &Page) -> Result<Vec<DomainRow>, StoreError> {
    let mut conditions = Conditions::account(account);
    conditions.no_resource("sip_domains.id");
    conditions.page(store, "sip_domains", "created_at", page).await?.iter().map(read_domain).collect()
}

/// Returns the number of [`domains`] of an account.
pub async fn count_domains(store: &Store, account: &AccountName) -> Result<u64, StoreError> {
    let mut conditions = Conditions::account(account);
    conditions.no_resource("sip_domains.id");
    conditions.count(store, "sip_domains").await
}

/// Returns the purposes for which the account's domains use lists. The result has one entry for each domain and
/// purpose.
pub async fn purposes(store: &Store, account: &AccountName) -> Result<Vec<(u128, Purpose)>, StoreError> {
    let rows = sqlx::query("SELECT DISTINCT domain, purpose FROM sip_mappings WHERE account = $1")
        .bind(account.to_string())
        .fetch_all(&store.pool)
        .await?;
    let read = |row: &AnyRow| Ok((Columns(row).id("domain")?, Purpose::read(Columns(row).text("purpose")?)?));
    rows.iter().map(read).collect()
}

/// Returns all domains of all accounts, for routing.
pub async fn all_domains(store: &Store) -> Result<Vec<DomainRow>, StoreError> {
    sqlx::query("SELECT * FROM sip_domains").fetch_all(&store.pool).await?.iter().map(read_domain).collect()
}

/// Deletes a domain and its mappings. Returns `false` if `account` has no domain with this id.
pub async fn delete_domain(store: &Store, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    let also = ["DELETE FROM sip_mappings WHERE account = $1 AND domain = $2"];
    delete(store, "DELETE FROM sip_domains WHERE account = $1 AND id = $2", &also, account, id).await
}

/// Adds the list, or renames the list with the same id.
pub async fn upsert_list(store: &Store, row: &ListRow) -> Result<(), StoreError> {
    store.written.add(Settings::Phones);
    sqlx::query(
        "INSERT INTO sip_lists (id, account, kind, name, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at",
    )
    .bind(hex(row.id))
    .bind(row.account.to_string())
    .bind(row.kind.word())
    .bind(row.name.clone())
    .bind(microseconds(row.created_at))
    .bind(microseconds(row.updated_at))
    .execute(&store.pool)
    .await?;
    Ok(())
}

/// Returns a list, if the list belongs to `account`.
pub async fn list(store: &Store, account: &AccountName, id: u128) -> Result<Option<ListRow>, StoreError> {
    one(store, "SELECT * FROM sip_lists WHERE account = $1 AND id = $2", account, id)
        .await?
        .as_ref()
        .map(read_list)
        .transpose()
}

/// Returns a page of the account's lists of one kind, newest list first.
pub async fn lists(
    store: &Store,
    account: &AccountName,
    kind: ListKind,
    page: &Page,
) -> Result<Vec<ListRow>, StoreError> {
    let mut conditions = Conditions::account(account);
    conditions.equal("kind", Some(kind.word()));
    conditions.page(store, "sip_lists", "created_at", page).await?.iter().map(read_list).collect()
}

/// Returns the number of [`lists`] of an account.
pub async fn count_lists(store: &Store, account: &AccountName, kind: ListKind) -> Result<u64, StoreError> {
    let mut conditions = Conditions::account(account);
    conditions.equal("kind", Some(kind.word()));
    conditions.count(store, "sip_lists").await
}

/// Deletes a list with its entries and mappings. Returns `false` if `account` has no list with this id.
pub async fn delete_list(store: &Store, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    let also = [
        "DELETE FROM sip_credentials WHERE account = $1 AND list = $2",
        "DELETE FROM sip_addresses WHERE account = $1 AND list = $2",
        "DELETE FROM sip_mappings WHERE account = $1 AND list = $2",
    ];
    delete(store, "DELETE FROM sip_lists WHERE account = $1 AND id = $2", &also, account, id).await
}

/// Maps a list to a domain. Returns `false` if the mapping already exists, or if the list or the domain does not belong
/// to the account.
pub async fn map(store: &Store, row: &MappingRow) -> Result<bool, StoreError> {
    store.written.add(Settings::Phones);
    if domain(store, &row.account, row.domain).await?.is_none() || list(store, &row.account, row.list).await?.is_none()
    {
        return Ok(false);
    }
    unique(
        sqlx::query(
            "INSERT INTO sip_mappings (id, account, domain, list, purpose, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(hex(row.id))
        .bind(row.account.to_string())
        .bind(hex(row.domain))
        .bind(hex(row.list))
        .bind(row.purpose.word())
        .bind(microseconds(row.created_at))
        .execute(&store.pool)
        .await,
    )
}

/// Returns a page of a domain's mappings with this purpose, newest mapping first.
pub async fn mappings(
    store: &Store,
    account: &AccountName,
    domain: u128,
    purpose: Purpose,
    page: &Page,
) -> Result<Vec<MappingRow>, StoreError> {
    let mut conditions = Conditions::account(account);
    conditions.equal_id("domain", Some(domain));
    conditions.equal("purpose", Some(purpose.word()));
    conditions.page(store, "sip_mappings", "created_at", page).await?.iter().map(read_mapping).collect()
}

/// Returns the mapping of a list to a domain with this purpose.
pub async fn mapping(
    store: &Store,
    account: &AccountName,
    domain: u128,
    list: u128,
    purpose: Purpose,
) -> Result<Option<MappingRow>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM sip_mappings WHERE account = $1 AND domain = $2 AND list = $3 AND purpose = $4")
            .bind(account.to_string())
            .bind(hex(domain))
            .bind(hex(list))
            .bind(purpose.word())
            .fetch_optional(&store.pool)
            .await?;
    row.as_ref().map(read_mapping).transpose()
}

/// Deletes the mapping of a list to a domain with this purpose. Returns `false` if there is no such mapping.
pub async fn unmap(
    store: &Store,
    account: &AccountName,
    domain: u128,
    list: u128,
    purpose: Purpose,
) -> Result<bool, StoreError> {
    let done =
        sqlx::query("DELETE FROM sip_mappings WHERE account = $1 AND domain = $2 AND list = $3 AND purpose = $4")
            .bind(account.to_string())
            .bind(hex(domain))
            .bind(hex(list))
            .bind(purpose.word())
            .execute(&store.pool)
            .await?;
    Ok(done.rows_affected() > 0)
}

/// Returns all users of all domains.
pub async fn users(store: &Store) -> Result<Vec<DomainUser>, StoreError> {
    let rows = sqlx::query(
        "SELECT d.name AS domain, d.account AS account, d.details AS details, c.username AS username, \
         c.ha1_md5 AS ha1_md5, c.ha1_sha256 AS ha1_sha256, c.created_at AS created_at, m.purpose AS purpose \
         FROM sip_mappings m JOIN sip_domains d ON d.id = m.domain JOIN sip_credentials c ON c.list = m.list \
         ORDER BY d.name, c.username, c.id",
    )
    .fetch_all(&store.pool)
    .await?;
    let mut users: Vec<DomainUser> = Vec::new();
    for row in &rows {
        let columns = Columns(row);
        let registration = read_details(&columns)?.registration;
        let purpose = Purpose::read(columns.text("purpose")?)?;
        let user = DomainUser {
            domain: columns.text("domain")?,
            account: columns.account()?,
            username: columns.text("username")?,
            ha1_md5: columns.text("ha1_md5")?,
            ha1_sha256: columns.text("ha1_sha256")?,
            created_at: columns.time("created_at")?,
            registers: registration && purpose == Purpose::Registrations,
            calls: purpose == Purpose::CallsByPassword,
        };
        let same = |one: &&mut DomainUser| {
            (&one.domain, &one.username, &one.ha1_md5) == (&user.domain, &user.username, &user.ha1_md5)
        };
        match users.iter_mut().rev().take(8).find(same) {
            Some(known) => {
                known.registers |= user.registers;
                known.calls |= user.calls;
            }
            None => users.push(user),
        }
    }
    Ok(users)
}

/// Returns all networks of all domains, each with the name of its domain.
pub async fn networks(store: &Store) -> Result<Vec<(String, IpNet)>, StoreError> {
    let rows = sqlx::query(
        "SELECT d.name AS domain, a.network AS network FROM sip_mappings m JOIN sip_domains d ON d.id = m.domain \
         JOIN sip_addresses a ON a.list = m.list WHERE m.purpose = $1",
    )
    .bind(Purpose::CallsByAddress.word())
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(|row| Ok((Columns(row).text("domain")?, entries::network(&Columns(row))?))).collect()
}

async fn one(store: &Store, sql: &'static str, account: &AccountName, id: u128) -> Result<Option<AnyRow>, StoreError> {
    Ok(sqlx::query(sql).bind(account.to_string()).bind(hex(id)).fetch_optional(&store.pool).await?)
}

async fn delete(
    store: &Store,
    sql: &'static str,
    also: &[&'static str],
    account: &AccountName,
    id: u128,
) -> Result<bool, StoreError> {
    store.written.add(Settings::Phones);
    let mut transaction = store.pool.begin().await?;
    let done = sqlx::query(sql).bind(account.to_string()).bind(hex(id)).execute(&mut *transaction).await?;
    for sql in also {
        sqlx::query(*sql).bind(account.to_string()).bind(hex(id)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(done.rows_affected() > 0)
}

macro_rules! placed {
    ($($row:ident in $list:literal),+) => {$(
        impl $row {
            #[doc = concat!("Its place in [`", $list, "`].")]
            pub fn cursor(&self) -> Cursor {
                Cursor { at: self.created_at, id: self.id }
            }
        }
    )+};
}

placed!(DomainRow in "domains", ListRow in "lists", MappingRow in "mappings");

fn read_details(columns: &Columns<'_>) -> Result<DomainDetails, StoreError> {
    let details = columns.text("details")?;
    serde_json::from_str(&details).map_err(|_| StoreError::Corrupt { column: "details", value: details })
}

fn read_domain(row: &AnyRow) -> Result<DomainRow, StoreError> {
    let columns = Columns(row);
    Ok(DomainRow {
        id: columns.id("id")?,
        account: columns.account()?,
        name: columns.text("name")?,
        details: read_details(&columns)?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}

fn read_list(row: &AnyRow) -> Result<ListRow, StoreError> {
    let columns = Columns(row);
    Ok(ListRow {
        id: columns.id("id")?,
        account: columns.account()?,
        kind: ListKind::read(columns.text("kind")?)?,
        name: columns.text("name")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}

fn read_mapping(row: &AnyRow) -> Result<MappingRow, StoreError> {
    let columns = Columns(row);
    Ok(MappingRow {
        id: columns.id("id")?,
        account: columns.account()?,
        domain: columns.id("domain")?,
        list: columns.id("list")?,
        purpose: Purpose::read(columns.text("purpose")?)?,
        created_at: columns.time("created_at")?,
    })
}
