//! Mappings of credential lists and IP access control lists to a domain. The SID of a mapping is the SID of the mapped
//! list.

use serde_json::{Value, json};
use tandem_operations::sip_domains;
use tandem_store::domains::{self, ListKind, ListRow, MappingRow, Purpose};

use super::super::super::error::{ApiError, allow};
use super::super::super::{format, path, sid};
use super::super::{Answer, RestContext, Verb, created, ok};
use super::{gone, lists, not_added, page, shown, words};

/// Error number: the list is not given, is unknown, or is already mapped.
const LIST_ERROR: u32 = 21231;

/// A REST resource that maps a list to a domain. There are several such resources, one for each path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MappingPath {
    purpose: Purpose,
    /// Whether this resource is one of the older mapping resources. The older resources have more keys and a different
    /// envelope.
    legacy: bool,
}

impl MappingPath {
    fn kind(self) -> ListKind {
        match self.purpose {
            Purpose::CallsByAddress => ListKind::Addresses,
            Purpose::CallsByPassword | Purpose::Registrations => ListKind::Credentials,
        }
    }

    /// The resource's path below the domain.
    fn name(self) -> &'static str {
        match (self.purpose, self.legacy) {
            (Purpose::CallsByPassword, true) => "CredentialListMappings",
            (Purpose::CallsByAddress, true) => "IpAccessControlListMappings",
            (Purpose::CallsByPassword, false) => "Auth/Calls/CredentialListMappings",
            (Purpose::CallsByAddress, false) => "Auth/Calls/IpAccessControlListMappings",
            (Purpose::Registrations, _) => "Auth/Registrations/CredentialListMappings",
        }
    }

    fn key(self) -> &'static str {
        match (self.purpose, self.legacy) {
            (Purpose::CallsByPassword, true) => "credential_list_mappings",
            (Purpose::CallsByAddress, true) => "ip_access_control_list_mappings",
            _ => "contents",
        }
    }
}

/// Parses a path below a domain. Returns the mapping resource, and the path segments that follow the resource.
pub(super) fn parse_path<'a>(below: &'a [&'a str]) -> Option<(MappingPath, &'a [&'a str])> {
    let (purpose, legacy, below) = match below {
        ["CredentialListMappings", below @ ..] => (Purpose::CallsByPassword, true, below),
        ["IpAccessControlListMappings", below @ ..] => (Purpose::CallsByAddress, true, below),
        ["Auth", "Calls", "CredentialListMappings", below @ ..] => (Purpose::CallsByPassword, false, below),
        ["Auth", "Calls", "IpAccessControlListMappings", below @ ..] => (Purpose::CallsByAddress, false, below),
        ["Auth", "Registrations", "CredentialListMappings", below @ ..] => (Purpose::Registrations, false, below),
        _ => return None,
    };
    Some((MappingPath { purpose, legacy }, below))
}

pub(super) async fn answer(x: &RestContext<'_>, domain: u128, below: &[&str]) -> Answer {
    let (path, below) = parse_path(below).ok_or_else(|| x.not_found())?;
    match (below, x.verb) {
        ([], Verb::Get) => all(x, domain, path).await,
        ([], Verb::Post) => create(x, domain, path).await,
        ([name], Verb::Get) => {
            let list = lists::find(x, path.kind(), name).await?.ok_or_else(|| x.not_found())?;
            let row = domains::mapping(x.store(), &x.account.name, domain, list.id, path.purpose).await?;
            shown(represent(x.account_sid(), path, &row.ok_or_else(|| x.not_found())?, &list))
        }
        ([name], Verb::Delete) => {
            let list = lists::find(x, path.kind(), name).await?.ok_or_else(|| x.not_found())?;
            gone(x, sip_domains::unmap(x.services(), &x.account.name, domain, list.id, path.purpose).await?)
        }
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        ([_], _) => Err(ApiError::method_not_allowed(allow::GET_DELETE)),
        _ => Err(x.not_found()),
    }
}

async fn all(x: &RestContext<'_>, domain: u128, path: MappingPath) -> Answer {
    let prefix = words(path.kind()).2;
    let paging = x.paging(prefix)?;
    let (store, account) = (x.store(), &x.account.name);
    let cursor =
        async |list| Ok(domains::mapping(store, account, domain, list, path.purpose).await?.map(|row| row.cursor()));
    let rows = domains::mappings(store, account, domain, path.purpose, &page(&paging, cursor).await?).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(list) = domains::list(store, account, row.list).await? {
            items.push((sid::spell(prefix, row.list), represent(x.account_sid(), path, &row, &list)));
        }
    }
    let place = format!("SIP/Domains/{}/{}", sid::spell("SD", domain), path.name());
    Ok(ok(x.list(path.key(), &place, &paging, items)))
}

async fn create(x: &RestContext<'_>, domain: u128, path: MappingPath) -> Answer {
    let name = match path.kind() {
        ListKind::Credentials => "CredentialListSid",
        ListKind::Addresses => "IpAccessControlListSid",
    };
    let sid = x.parameters.get(name).ok_or_else(|| ApiError::bad(LIST_ERROR, format!("{name} is required")))?;
    let unknown = || ApiError::bad(LIST_ERROR, format!("{name} is not a list of the account: {sid}"));
    let list = lists::find(x, path.kind(), sid).await?.ok_or_else(unknown)?;
    let twice = || ApiError::bad(LIST_ERROR, format!("{sid} is already associated with the domain"));
    let mapped = sip_domains::map(x.services(), &x.account.name, domain, list.id, path.purpose).await;
    let row = mapped.map_err(|why| not_added(why, |_| ApiError::internal(), twice))?;
    Ok(created(represent(x.account_sid(), path, &row, &list)))
}

/// The REST resource of a mapping.
pub(super) fn represent(account_sid: &str, path: MappingPath, row: &MappingRow, list: &ListRow) -> Value {
    let (sid, domain) = (sid::spell(words(path.kind()).2, row.list), sid::spell("SD", row.domain));
    let mut body = json!({
        "account_sid": account_sid,
        "date_created": format::rfc2822(row.created_at),
        "date_updated": format::rfc2822(row.created_at),
        "friendly_name": list.name,
        "sid": sid,
    });
    if path.legacy {
        let uri = path::uri(account_sid, &format!("SIP/Domains/{domain}/{}/{sid}", path.name()));
        format::extend(&mut body, json!({ "domain_sid": domain, "uri": uri }));
    }
    body
}
