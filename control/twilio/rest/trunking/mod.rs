//! `/v1/Trunks`: the customer trunks of accounts. This API is newer than the 2010-04-01 API. Paths name no account,
//! dates have the ISO 8601 format, and lists have `meta`. URLs are absolute, because clients request each URL without a
//! change.

mod lists;
mod origination_urls;
mod phone_numbers;
mod recording;
#[cfg(test)]
mod tests;
mod trunks;

use serde_json::Value;
use tandem_routing::customer_trunk;
use tandem_store::domains::ListKind;
use tandem_store::resources;

use super::super::error::ApiError;
use super::super::list::Paging;
use super::super::sid;
use super::v1::{base, date, envelope};
use super::{Answer, Request, RestContext, ok};

/// The API's root path.
const ROOT: &str = "/v1/Trunks";
/// Error number: a parameter is invalid.
const INVALID: u32 = 20001;
/// Maximum length of a `FriendlyName`, in characters.
const LONGEST_NAME: usize = 64;

/// The path segments below this API's root. `None` for a path of the 2010-04-01 API.
pub(super) fn below(path: &str) -> Option<Vec<&str>> {
    let rest = path.strip_prefix(ROOT).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    Some(rest.split('/').filter(|segment| !segment.is_empty()).take(8).collect())
}

pub(super) async fn answer(request: &Request<'_>, below: &[&str]) -> Answer {
    // The path names no account, so the request concerns the client's own account.
    let x = request.about_itself()?;
    let v = TrunkingContext { base: base(request.host(), &x.app.public_url), x: &x };
    let Some((name, below)) = below.split_first() else { return trunks::all(&v).await };
    let id = sid::parse("TK", name).ok_or_else(|| x.not_found())?;
    let trunk =
        resources::get(x.store(), customer_trunk::TRUNK, &x.account.name, id).await?.ok_or_else(|| x.not_found())?;
    match below {
        [] => trunks::answer(&v, trunk).await,
        ["OriginationUrls", below @ ..] => origination_urls::answer(&v, &trunk, below).await,
        ["CredentialLists", below @ ..] => lists::answer(&v, &trunk, ListKind::Credentials, below).await,
        ["IpAccessControlLists", below @ ..] => lists::answer(&v, &trunk, ListKind::Addresses, below).await,
        ["PhoneNumbers", below @ ..] => phone_numbers::answer(&v, &trunk, below).await,
        ["Recording"] => recording::answer(&v, trunk).await,
        _ => Err(x.not_found()),
    }
}

/// A request to this API.
struct TrunkingContext<'a> {
    x: &'a RestContext<'a>,
    /// Scheme and host of this server's URLs, without a trailing slash.
    base: String,
}

impl TrunkingContext<'_> {
    /// One page of the list at `place`. `items` are pairs of a SID and a resource.
    fn list(&self, key: &'static str, place: &str, paging: &Paging, items: Vec<(String, Value)>) -> Answer {
        let page = paging.envelope(key, &url(&self.base, place), self.x.parameters, items);
        Ok(ok(envelope(key, &page)))
    }
}

/// The URL of a resource. `place` is the resource's path below the API's root.
fn url(base: &str, place: &str) -> String {
    format!("{base}{ROOT}{place}")
}

/// The path of a trunk below the API's root.
fn place(trunk: u128) -> String {
    format!("/{}", sid::spell("TK", trunk))
}

/// The optional parameter `FriendlyName`.
fn friendly_name(x: &RestContext<'_>) -> Result<Option<String>, ApiError> {
    let Some(name) = x.parameters.given("FriendlyName") else { return Ok(None) };
    match name.chars().count() <= LONGEST_NAME {
        true => Ok(Some(name.to_owned())),
        false => Err(ApiError::bad(INVALID, format!("FriendlyName is longer than {LONGEST_NAME} characters"))),
    }
}
