//! `SIP`: domains, credential lists, IP access control lists, and the mappings of the lists to the domains. A change
//! takes effect with the next SIP message of a phone.

mod domains;
mod entries;
mod lists;
mod mappings;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_operations::sip_domains::AccessError;
use tandem_store::domains::ListKind;
use tandem_store::{Cursor, Page, StoreError};

use super::super::error::ApiError;
use super::super::list::Paging;
use super::super::{format, path, sid};
use super::{Answer, RestContext, deleted, ok};

pub(super) use domains::{auth_type_set, host_name};
pub(super) use lists::find as list;

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    match below {
        ["Domains", below @ ..] => domains::answer(x, below).await,
        ["CredentialLists", below @ ..] => lists::answer(x, ListKind::Credentials, below).await,
        ["IpAccessControlLists", below @ ..] => lists::answer(x, ListKind::Addresses, below).await,
        _ => Err(x.not_found()),
    }
}

/// Three words for a kind of list: the name in paths, the key in envelopes, and the prefix of the lists' SIDs.
pub(super) fn words(kind: ListKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        ListKind::Credentials => ("CredentialLists", "credential_lists", "CL"),
        ListKind::Addresses => ("IpAccessControlLists", "ip_access_control_lists", "AL"),
    }
}

/// The requested page. If the request has a page token, the page starts after the row that the token names.
pub(super) async fn page(
    paging: &Paging,
    place: impl AsyncFnOnce(u128) -> Result<Option<Cursor>, StoreError>,
) -> Result<Page, StoreError> {
    let page = paging.page();
    let after = match page.after {
        Some(id) => place(id).await?,
        None => None,
    };
    Ok(page.after(after))
}

/// The keys that every SIP resource has: SID, account, dates and URI.
fn base(account_sid: &str, (prefix, id): (&str, u128), place: &str, dates: (Timestamp, Timestamp)) -> Value {
    let sid = sid::spell(prefix, id);
    json!({
        "account_sid": account_sid,
        "date_created": format::rfc2822(dates.0),
        "date_updated": format::rfc2822(dates.1),
        "uri": path::uri(account_sid, &format!("SIP/{place}/{sid}")),
        "sid": sid,
    })
}

/// The answer to a deletion.
fn gone(x: &RestContext<'_>, done: bool) -> Answer {
    if done { Ok(deleted()) } else { Err(x.not_found()) }
}

/// Converts the reason why a domain, list, entry or mapping was not added to an error. `full` returns the error if the
/// maximum number is reached. `taken` returns the error if there is already an equal domain, list, entry or mapping.
pub(super) fn not_added(
    why: AccessError,
    full: impl FnOnce(u64) -> ApiError,
    taken: impl FnOnce() -> ApiError,
) -> ApiError {
    match why {
        AccessError::Full(max) => full(max),
        AccessError::Taken => taken(),
        AccessError::Store(error) => error.into(),
    }
}

/// The required parameter `FriendlyName`, with 1 to 255 characters. `code` is the error number of an invalid name.
fn friendly_name(x: &RestContext<'_>, code: u32) -> Result<String, ApiError> {
    let name = x.parameters.get("FriendlyName").ok_or_else(|| ApiError::bad(code, "FriendlyName is required"))?;
    named(name, code)
}

fn named(name: &str, code: u32) -> Result<String, ApiError> {
    match name.chars().count() {
        0..=255 => Ok(name.to_owned()),
        _ => Err(ApiError::bad(code, "FriendlyName is longer than 255 characters")),
    }
}

fn shown(body: Value) -> Answer {
    Ok(ok(body))
}
