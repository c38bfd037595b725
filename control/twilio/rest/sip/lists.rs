//! `SIP/CredentialLists` and `SIP/IpAccessControlLists`: the lists themselves. Another module (`entries`) has the
//! entries of the lists.

use serde_json::{Value, json};
use tandem_operations::sip_domains;
use tandem_store::domains::{self, Credential, ListKind, ListRow, Network};

use super::super::super::error::{ApiError, allow};
use super::super::super::{format, path, sid};
use super::super::{Answer, RestContext, Verb, created, ok};
use super::{base, entries, friendly_name, gone, not_added, page, shown, words};

/// Error number: a parameter is invalid.
fn invalid(kind: ListKind) -> u32 {
    match kind {
        ListKind::Credentials => 21240,
        ListKind::Addresses => 20001,
    }
}

pub(super) async fn answer(x: &RestContext<'_>, kind: ListKind, below: &[&str]) -> Answer {
    let Some((name, below)) = below.split_first() else {
        return match x.verb {
            Verb::Get => list(x, kind).await,
            Verb::Post => create(x, kind).await,
            _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
        };
    };
    let row = find(x, kind, name).await?.ok_or_else(|| x.not_found())?;
    match (below, x.verb) {
        ([], Verb::Get) => shown(represent(x.account_sid(), &row)),
        ([], Verb::Post) => update(x, row).await,
        ([], Verb::Delete) => gone(x, sip_domains::delete_list(x.services(), &x.account.name, row.id).await?),
        ([], Verb::Other) => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
        (["Credentials", below @ ..], _) if kind == ListKind::Credentials => {
            entries::answer::<Credential>(x, row.id, below).await
        }
        (["IpAddresses", below @ ..], _) if kind == ListKind::Addresses => {
            entries::answer::<Network>(x, row.id, below).await
        }
        _ => Err(x.not_found()),
    }
}

/// Finds the account's list of this kind with this SID.
pub(in super::super) async fn find(
    x: &RestContext<'_>,
    kind: ListKind,
    name: &str,
) -> Result<Option<ListRow>, ApiError> {
    let Some(id) = sid::parse(words(kind).2, name) else { return Ok(None) };
    let row = domains::list(x.store(), &x.account.name, id).await?;
    Ok(row.filter(|row| row.kind == kind))
}

async fn list(x: &RestContext<'_>, kind: ListKind) -> Answer {
    let (place, key, prefix) = words(kind);
    let paging = x.paging(prefix)?;
    let (store, account) = (x.store(), &x.account.name);
    let cursor = async |id| Ok(domains::list(store, account, id).await?.map(|row| row.cursor()));
    let rows = domains::lists(store, account, kind, &page(&paging, cursor).await?).await?;
    let items = rows.iter().map(|row| (sid::spell(prefix, row.id), represent(x.account_sid(), row))).collect();
    Ok(ok(x.list(key, &format!("SIP/{place}"), &paging, items)))
}

async fn create(x: &RestContext<'_>, kind: ListKind) -> Answer {
    let name = friendly_name(x, invalid(kind))?;
    let full = |max| ApiError::bad(invalid(kind), format!("An account has at most {max} of these lists"));
    let added = sip_domains::add_list(x.services(), &x.account.name, kind, name).await;
    let row = added.map_err(|why| not_added(why, full, ApiError::internal))?;
    Ok(created(represent(x.account_sid(), &row)))
}

async fn update(x: &RestContext<'_>, mut row: ListRow) -> Answer {
    let name = friendly_name(x, invalid(row.kind))?;
    sip_domains::rename_list(x.services(), &mut row, name).await?;
    shown(represent(x.account_sid(), &row))
}

/// The REST resource of a list.
pub(super) fn represent(account_sid: &str, row: &ListRow) -> Value {
    let (place, _, prefix) = words(row.kind);
    let (key, name) = match row.kind {
        ListKind::Credentials => ("credentials", "Credentials"),
        ListKind::Addresses => ("ip_addresses", "IpAddresses"),
    };
    let mut body = base(account_sid, (prefix, row.id), place, (row.created_at, row.updated_at));
    let inside = path::uri(account_sid, &format!("SIP/{place}/{}/{name}", sid::spell(prefix, row.id)));
    format::extend(&mut body, json!({ "friendly_name": row.name, "subresource_uris": { key: inside } }));
    body
}
