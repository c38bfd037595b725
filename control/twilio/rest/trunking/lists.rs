//! `CredentialLists` and `IpAccessControlLists` of a trunk. With these lists, this server authenticates the calls from
//! the trunk's PBX.

use serde_json::{Value, json};
use tandem_operations::sip_domains;
use tandem_routing::customer_trunk::CustomerTrunk;
use tandem_store::domains::{self, ListKind, ListRow, MappingRow, Purpose};
use tandem_store::resources::Resource;

use super::super::super::error::{ApiError, allow};
use super::super::super::sid;
use super::super::sip::{self, not_added, page, words};
use super::super::{Answer, Verb, created, deleted, ok};
use super::{INVALID, TrunkingContext, date, place, url};

pub(super) async fn answer(
    v: &TrunkingContext<'_>,
    trunk: &Resource<CustomerTrunk>,
    kind: ListKind,
    below: &[&str],
) -> Answer {
    let (x, purpose) = (v.x, purpose(kind));
    let name = match (below, x.verb) {
        ([], Verb::Get) => return all(v, trunk, kind).await,
        ([], Verb::Post) => return create(v, trunk, kind).await,
        ([name], Verb::Get | Verb::Delete) => name,
        ([], _) => return Err(ApiError::method_not_allowed(allow::GET_POST)),
        ([_], _) => return Err(ApiError::method_not_allowed(allow::GET_DELETE)),
        _ => return Err(x.not_found()),
    };
    let list = sip::list(x, kind, name).await?.ok_or_else(|| x.not_found())?;
    let row = domains::mapping(x.store(), &x.account.name, trunk.id, list.id, purpose).await?;
    let row = row.ok_or_else(|| x.not_found())?;
    if x.verb == Verb::Get {
        return Ok(ok(represent(&v.base, x.account_sid(), &row, &list)));
    }
    sip_domains::unmap(x.services(), &x.account.name, trunk.id, list.id, purpose).await?;
    Ok(deleted())
}

fn purpose(kind: ListKind) -> Purpose {
    match kind {
        ListKind::Credentials => Purpose::CallsByPassword,
        ListKind::Addresses => Purpose::CallsByAddress,
    }
}

async fn all(v: &TrunkingContext<'_>, trunk: &Resource<CustomerTrunk>, kind: ListKind) -> Answer {
    let (x, (name, key, prefix), purpose) = (v.x, words(kind), purpose(kind));
    let paging = x.paging(prefix)?;
    let (store, account) = (x.store(), &x.account.name);
    let cursor =
        async |list| Ok(domains::mapping(store, account, trunk.id, list, purpose).await?.map(|row| row.cursor()));
    let rows = domains::mappings(store, account, trunk.id, purpose, &page(&paging, cursor).await?).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(list) = domains::list(store, account, row.list).await? {
            let body = represent(&v.base, x.account_sid(), &row, &list);
            items.push((sid::spell(prefix, row.list), body));
        }
    }
    v.list(key, &format!("{}/{name}", place(trunk.id)), &paging, items)
}

async fn create(v: &TrunkingContext<'_>, trunk: &Resource<CustomerTrunk>, kind: ListKind) -> Answer {
    let x = v.x;
    let name = match kind {
        ListKind::Credentials => "CredentialListSid",
        ListKind::Addresses => "IpAccessControlListSid",
    };
    let sid = x.parameters.get(name).ok_or_else(|| ApiError::bad(INVALID, format!("{name} is required")))?;
    let unknown = || ApiError::bad(INVALID, format!("{name} is not a list of the account: {sid}"));
    let list = sip::list(x, kind, sid).await?.ok_or_else(unknown)?;
    let twice = || ApiError::bad(INVALID, format!("{sid} is already associated with the trunk"));
    let mapped = sip_domains::map(x.services(), &x.account.name, trunk.id, list.id, purpose(kind)).await;
    let row = mapped.map_err(|why| not_added(why, |_| ApiError::internal(), twice))?;
    Ok(created(represent(&v.base, x.account_sid(), &row, &list)))
}

/// The REST resource of a mapping. The SID of the mapping is the SID of the mapped list.
pub(super) fn represent(base: &str, account_sid: &str, row: &MappingRow, list: &ListRow) -> Value {
    let (name, _, prefix) = words(list.kind);
    let sid = sid::spell(prefix, row.list);
    json!({
        "account_sid": account_sid,
        "trunk_sid": sid::spell("TK", row.domain),
        "friendly_name": list.name,
        "date_created": date(row.created_at),
        "date_updated": date(row.created_at),
        "url": url(base, &format!("{}/{name}/{sid}", place(row.domain))),
        "sid": sid,
    })
}
