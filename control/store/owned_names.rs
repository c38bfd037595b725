//! The names of conferences and queues that live at a node of a cluster. The row of a name has the id of the conference
//! or of the queue's node, and the id names its owner ([`tandem_id::node`]). So a name has one owner at a time.

use tandem_id::AccountName;

use super::column::{Columns, hex};
use super::{OwnedBy, Store, StoreError};

/// The kinds of things with a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    Conference,
    Queue,
}

impl Named {
    fn word(self) -> &'static str {
        match self {
            Self::Conference => "conference",
            Self::Queue => "queue",
        }
    }
}

/// Takes a name for `id`, if nobody has it. Returns the id that has the name now: this id, or an earlier one.
pub async fn take(store: &Store, what: Named, account: &AccountName, name: &str, id: u128) -> Result<u128, StoreError> {
    let sql = "INSERT INTO owned_names (kind, account, name, id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    loop {
        let taken = sqlx::query(sql)
            .bind(what.word())
            .bind(account.to_string())
            .bind(name.to_owned())
            .bind(hex(id))
            .execute(&store.pool)
            .await?;
        if taken.rows_affected() > 0 {
            return Ok(id);
        }
        // The row may be removed between the two statements.
        if let Some(owner) = find(store, what, account, name).await? {
            return Ok(owner);
        }
    }
}

/// Gives a name to another id. Returns `false` if the id `before` does not have the name any more.
pub async fn replace(
    store: &Store,
    what: Named,
    account: &AccountName,
    name: &str,
    (before, id): (u128, u128),
) -> Result<bool, StoreError> {
    let sql = "UPDATE owned_names SET id = $5 WHERE kind = $1 AND account = $2 AND name = $3 AND id = $4";
    let replaced = sqlx::query(sql)
        .bind(what.word())
        .bind(account.to_string())
        .bind(name.to_owned())
        .bind(hex(before))
        .bind(hex(id))
        .execute(&store.pool)
        .await?;
    Ok(replaced.rows_affected() > 0)
}

/// Returns the id that has a name.
pub async fn find(store: &Store, what: Named, account: &AccountName, name: &str) -> Result<Option<u128>, StoreError> {
    let sql = "SELECT id FROM owned_names WHERE kind = $1 AND account = $2 AND name = $3";
    let found = sqlx::query(sql)
        .bind(what.word())
        .bind(account.to_string())
        .bind(name.to_owned())
        .fetch_optional(&store.pool)
        .await?;
    found.map(|row| Columns(&row).id("id")).transpose()
}

/// Returns the ids that have a name, with their accounts.
pub async fn owners(store: &Store, what: Named, name: &str) -> Result<Vec<(AccountName, u128)>, StoreError> {
    let sql = "SELECT account, id FROM owned_names WHERE kind = $1 AND name = $2";
    let rows = sqlx::query(sql).bind(what.word()).bind(name.to_owned()).fetch_all(&store.pool).await?;
    rows.iter().map(|row| Ok((Columns(row).account()?, Columns(row).id("id")?))).collect()
}

/// Frees the name of an id.
pub async fn free(store: &Store, what: Named, id: u128) -> Result<(), StoreError> {
    let sql = "DELETE FROM owned_names WHERE kind = $1 AND id = $2";
    sqlx::query(sql).bind(what.word()).bind(hex(id)).execute(&store.pool).await?;
    Ok(())
}

/// Frees all names of nodes that have ended.
pub async fn free_all(store: &Store, owner: &OwnedBy) -> Result<(), StoreError> {
    let sql = format!("DELETE FROM owned_names WHERE {}", owner.condition("id"));
    sqlx::query(super::assembled(sql)).execute(&store.pool).await?;
    Ok(())
}
