//! Registered phones, so that a restart does not make them unreachable until they register again.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::column::{Columns, hex, microseconds};
use super::{Store, StoreError};

/// One contact of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingRow {
    /// Its id.
    pub id: u128,
    /// The owner's name in the configuration.
    pub account: String,
    /// Its user.
    pub username: String,
    /// When it is over.
    pub expires_at: Timestamp,
    /// The rest.
    pub details: BindingDetails,
}

/// What nothing is looked for by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingDetails {
    /// The domain it registered at.
    pub domain: Option<String>,
    /// The Contact URI.
    pub contact: String,
    /// Preference, 0 to 1000.
    pub q: u16,
    /// Path values, the first hop from us first.
    pub path: Vec<String>,
    /// Instance and registration number.
    pub instance: Option<String>,
    /// Call-ID of its REGISTER.
    pub sip_call_id: String,
    /// CSeq of its REGISTER.
    pub cseq: u32,
    /// Where its REGISTER came from.
    pub source: SocketAddr,
    /// The address of its Contact, when that can be reached.
    pub direct: Option<SocketAddr>,
    /// Our address that it came to.
    pub local: SocketAddr,
    /// `udp`, `tcp`, ...
    pub transport: String,
    /// What the phone calls itself.
    pub user_agent: Option<String>,
}

/// Every binding that still holds at `now`; the others are removed.
pub async fn restore(store: &Store, now: Timestamp) -> Result<Vec<BindingRow>, StoreError> {
    store.flush().await?;
    sqlx::query("DELETE FROM bindings WHERE expires_at <= $1").bind(microseconds(now)).execute(&store.pool).await?;
    sqlx::query("SELECT * FROM bindings ORDER BY expires_at").fetch_all(&store.pool).await?.iter().map(read).collect()
}

/// Every binding that holds at `now`.
pub async fn list(store: &Store, now: Timestamp) -> Result<Vec<BindingRow>, StoreError> {
    store.flush().await?;
    let rows = sqlx::query("SELECT * FROM bindings WHERE expires_at > $1 ORDER BY expires_at");
    rows.bind(microseconds(now)).fetch_all(&store.pool).await?.iter().map(read).collect()
}

/// Adds or replaces one within the writer's transaction.
pub(super) async fn write(connection: &mut AnyConnection, row: &BindingRow) -> Result<(), sqlx::Error> {
    // These types always serialise.
    let details = serde_json::to_string(&row.details).unwrap_or_default();
    sqlx::query(
        "INSERT INTO bindings (id, account, username, expires_at, details) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, details = excluded.details",
    )
    .bind(hex(row.id))
    .bind(row.account.clone())
    .bind(row.username.clone())
    .bind(microseconds(row.expires_at))
    .bind(details)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes one within the writer's transaction.
pub(super) async fn remove(connection: &mut AnyConnection, id: u128) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM bindings WHERE id = $1").bind(hex(id)).execute(connection).await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<BindingRow, StoreError> {
    let columns = Columns(row);
    let details = columns.text("details")?;
    Ok(BindingRow {
        id: columns.id("id")?,
        account: columns.text("account")?,
        username: columns.text("username")?,
        expires_at: columns.time("expires_at")?,
        details: serde_json::from_str(&details)
            .map_err(|_| StoreError::Corrupt { column: "details", value: details.clone() })?,
    })
}
