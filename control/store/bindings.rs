//! The registrations of phones. The database stores the registrations, so that calls can reach the phones right after a
//! restart.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use tandem_id::AccountName;

use super::column::{Columns, hex, microseconds};
use super::{Store, StoreError};

/// A registered contact of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingRow {
    /// Id of the registration.
    pub id: u128,
    /// Name of the account.
    pub account: AccountName,
    /// User name of the phone.
    pub username: String,
    /// Time at which the registration expires.
    pub expires_at: Timestamp,
    /// The name of the node of the cluster at which the phone has registered. `None` for a server that is alone.
    pub node: Option<String>,
    /// The values that have no column of their own.
    pub details: BindingDetails,
}

/// The values of a registration that no query uses as a filter. These values are stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingDetails {
    /// The SIP domain of an account that the phone used for the registration. `None` means that the phone used a name
    /// of this server.
    pub domain: Option<String>,
    /// The host of the registration in lower case, if it is not the domain of an account.
    #[serde(default)]
    pub host: Option<String>,
    /// Contact URI of the phone.
    pub contact: String,
    /// Preference of the contact (`q`) in thousandths, from 0 to 1000.
    pub q: u16,
    /// The values of the Path header. The first value is the hop next to this server.
    pub path: Vec<String>,
    /// Instance id and registration id (`reg-id`) of the phone (RFC 5626).
    pub instance: Option<String>,
    /// Call-ID of the REGISTER request.
    pub sip_call_id: String,
    /// CSeq of the REGISTER request.
    pub cseq: u32,
    /// Source address of the REGISTER request.
    pub source: SocketAddr,
    /// Address in the Contact, if this server can reach this address directly.
    pub direct: Option<SocketAddr>,
    /// Address of this server that received the REGISTER request.
    pub local: SocketAddr,
    /// Transport of the REGISTER request: `udp`, `tcp`, ...
    pub transport: String,
    /// User-Agent header of the phone.
    pub user_agent: Option<String>,
}

/// Returns all registrations that are valid at `now`, and deletes all other registrations.
pub async fn restore(store: &Store, now: Timestamp) -> Result<Vec<BindingRow>, StoreError> {
    store.flush().await?;
    sqlx::query("DELETE FROM bindings WHERE expires_at <= $1").bind(microseconds(now)).execute(&store.pool).await?;
    sqlx::query("SELECT * FROM bindings ORDER BY expires_at").fetch_all(&store.pool).await?.iter().map(read).collect()
}

/// Returns all registrations that are valid at `now`.
pub async fn list(store: &Store, now: Timestamp) -> Result<Vec<BindingRow>, StoreError> {
    store.flush().await?;
    let rows = sqlx::query("SELECT * FROM bindings WHERE expires_at > $1 ORDER BY expires_at");
    rows.bind(microseconds(now)).fetch_all(&store.pool).await?.iter().map(read).collect()
}

/// Returns whether a phone of another account has registered at this host name, and the registration is valid at `now`.
/// `host` must be a host name in lower case, without any character that `LIKE` or JSON treats specially.
pub async fn uses_host(store: &Store, account: &AccountName, host: &str, now: Timestamp) -> Result<bool, StoreError> {
    store.flush().await?;
    let found =
        sqlx::query("SELECT id FROM bindings WHERE account <> $1 AND expires_at > $2 AND details LIKE $3 LIMIT 1")
            .bind(account.to_string())
            .bind(microseconds(now))
            .bind(format!("%\"host\":\"{host}\"%"))
            .fetch_optional(&store.pool)
            .await?;
    Ok(found.is_some())
}

/// Adds or replaces a registration. The change is part of the writer's transaction.
pub(super) async fn write(connection: &mut AnyConnection, row: &BindingRow) -> Result<(), sqlx::Error> {
    // The serialisation of these types cannot fail.
    let details = serde_json::to_string(&row.details).unwrap_or_default();
    sqlx::query(
        "INSERT INTO bindings (id, account, username, expires_at, details, node) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, details = excluded.details, node = excluded.node",
    )
    .bind(hex(row.id))
    .bind(row.account.to_string())
    .bind(row.username.clone())
    .bind(microseconds(row.expires_at))
    .bind(details)
    .bind(row.node.clone())
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes a registration, unless the phone has registered at another node since. The change is part of the writer's
/// transaction.
pub(super) async fn remove(connection: &mut AnyConnection, id: u128, node: Option<&str>) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM bindings WHERE id = $1 AND (node IS NULL OR node = $2)")
        .bind(hex(id))
        .bind(node.unwrap_or_default().to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<BindingRow, StoreError> {
    let columns = Columns(row);
    let details = columns.text("details")?;
    Ok(BindingRow {
        id: columns.id("id")?,
        account: columns.account()?,
        username: columns.text("username")?,
        expires_at: columns.time("expires_at")?,
        node: columns.optional_text("node")?,
        details: serde_json::from_str(&details)
            .map_err(|_| StoreError::Corrupt { column: "details", value: details.clone() })?,
    })
}
