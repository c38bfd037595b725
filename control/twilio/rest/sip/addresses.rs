//! `IpAddresses` of an IP access control list.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_store::domains::{self, AddressRow};

use super::super::super::error::ApiError;
use super::super::super::form::Parameters;
use super::super::super::{format, sid};
use super::super::{Answer, RestContext, Verb, created, ok};
use super::{base, changed, friendly_name, gone, named, page, shown};

/// Error number: a parameter is invalid.
const INVALID: u32 = 20001;
/// Maximum number of networks in a list.
const MOST: u64 = 100;

pub(super) async fn answer(x: &RestContext<'_>, list: u128, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => all(x, list).await,
        ([], Verb::Post) => create(x, list).await,
        ([name], Verb::Get) => shown(represent(x.account_sid(), &find(x, list, name).await?)),
        ([name], Verb::Post) => update(x, find(x, list, name).await?).await,
        ([name], Verb::Delete) => {
            let id = find(x, list, name).await?.id;
            gone(x, domains::delete_address(x.store(), &x.account.name, id).await?).await
        }
        ([] | [_], _) => Err(ApiError::method_not_allowed()),
        _ => Err(x.not_found()),
    }
}

async fn find(x: &RestContext<'_>, list: u128, name: &str) -> Result<AddressRow, ApiError> {
    let id = sid::parse("IP", name).ok_or_else(|| x.not_found())?;
    let row = domains::address(x.store(), &x.account.name, id).await?;
    row.filter(|row| row.list == list).ok_or_else(|| x.not_found())
}

async fn all(x: &RestContext<'_>, list: u128) -> Answer {
    let paging = x.paging("IP")?;
    let (store, account) = (x.store(), &*x.account.name);
    let cursor = async |id| Ok(domains::address(store, account, id).await?.map(|row| row.cursor()));
    let rows = domains::addresses(store, account, list, &page(&paging, cursor).await?).await?;
    let items = rows.iter().map(|row| (sid::spell("IP", row.id), represent(x.account_sid(), row))).collect();
    let place = format!("SIP/IpAccessControlLists/{}/IpAddresses", sid::spell("AL", list));
    Ok(ok(x.list("ip_addresses", &place, &paging, items)))
}

async fn create(x: &RestContext<'_>, list: u128) -> Answer {
    let name = friendly_name(x, INVALID)?;
    let network = network(x.parameters, None)?.ok_or_else(|| ApiError::bad(INVALID, "IpAddress is required"))?;
    if domains::count_addresses(x.store(), &x.account.name, list).await? >= MOST {
        return Err(ApiError::bad(INVALID, format!("A list has at most {MOST} addresses")));
    }
    let now = Timestamp::now();
    let account = x.account.name.to_string();
    let row = AddressRow { id: rand::random(), account, list, name, network, created_at: now, updated_at: now };
    domains::upsert_address(x.store(), &row).await?;
    changed(x, created(represent(x.account_sid(), &row))).await
}

async fn update(x: &RestContext<'_>, mut row: AddressRow) -> Answer {
    if let Some(name) = x.parameters.get("FriendlyName") {
        row.name = named(name, INVALID)?;
    }
    if let Some(network) = network(x.parameters, Some(row.network))? {
        row.network = network;
    }
    row.updated_at = Timestamp::now();
    domains::upsert_address(x.store(), &row).await?;
    changed(x, ok(represent(x.account_sid(), &row))).await
}

/// The network from `IpAddress` and `CidrPrefixLength`. Missing parameters are taken from `now`, the current network.
/// `None` if there is no address.
pub(super) fn network(parameters: &Parameters, now: Option<IpNet>) -> Result<Option<IpNet>, ApiError> {
    let address: Option<IpAddr> = match parameters.get("IpAddress") {
        Some(text) => {
            let address =
                text.parse().map_err(|_| ApiError::bad(INVALID, format!("IpAddress is not valid: {text}")))?;
            Some(address)
        }
        None => now.map(|network| network.addr()),
    };
    let Some(address) = address else { return Ok(None) };
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let kept = now.filter(|network| network.addr().is_ipv4() == address.is_ipv4()).map(|network| network.prefix_len());
    let length = match parameters.number("CidrPrefixLength", 0..=whole, INVALID)? {
        Some(length) => u8::try_from(length).unwrap_or(u8::MAX),
        None => kept.unwrap_or(u8::try_from(whole).unwrap_or(u8::MAX)),
    };
    // A prefix length of 0 would admit every address and so disable the access control.
    if length == 0 {
        return Err(ApiError::bad(INVALID, "CidrPrefixLength must be at least 1"));
    }
    let network = IpNet::new(address, length);
    network.map(Some).map_err(|_| ApiError::bad(INVALID, "CidrPrefixLength is not valid"))
}

/// The IpAddress resource.
pub(super) fn represent(account: &str, row: &AddressRow) -> Value {
    let list = sid::spell("AL", row.list);
    let place = format!("IpAccessControlLists/{list}/IpAddresses");
    let mut body = base(account, ("IP", row.id), &place, (row.created_at, row.updated_at));
    format::extend(
        &mut body,
        json!({
            "friendly_name": row.name,
            "ip_access_control_list_sid": list,
            "ip_address": row.network.addr().to_string(),
            "cidr_prefix_length": row.network.prefix_len(),
        }),
    );
    body
}
