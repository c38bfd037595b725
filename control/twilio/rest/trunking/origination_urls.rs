//! `OriginationUrls` of a trunk: the SIP URIs of the PBX. This server sends calls to these URIs.

use serde_json::{Value, json};
use tandem_operations::trunks::{self, TargetError};
use tandem_routing::customer_trunk::{CustomerTrunk, ORIGINATION, Origination};
use tandem_store::resources::{self, Filter, Resource};

use super::super::super::error::{ApiError, allow};
use super::super::super::form::Parameters;
use super::super::super::sid;
use super::super::sip::page;
use super::super::{Answer, Verb, created, deleted, not_added, ok};
use super::{INVALID, TrunkingContext, date, friendly_name, place, url};

pub(super) async fn answer(v: &TrunkingContext<'_>, trunk: &Resource<CustomerTrunk>, below: &[&str]) -> Answer {
    match (below, v.x.verb) {
        ([], Verb::Get) => list(v, trunk).await,
        ([], Verb::Post) => create(v, trunk).await,
        ([name], Verb::Get) => Ok(ok(represent(&v.base, v.x.account_sid(), &find(v, trunk, name).await?))),
        ([name], Verb::Post) => update(v, find(v, trunk, name).await?).await,
        ([name], Verb::Delete) => {
            let id = find(v, trunk, name).await?.id;
            trunks::delete_origination(v.x.services(), &v.x.account.name, id).await?;
            Ok(deleted())
        }
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        ([_], _) => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
        _ => Err(v.x.not_found()),
    }
}

async fn find(
    v: &TrunkingContext<'_>,
    trunk: &Resource<CustomerTrunk>,
    name: &str,
) -> Result<Resource<Origination>, ApiError> {
    let id = sid::parse("OU", name).ok_or_else(|| v.x.not_found())?;
    let row = resources::get(v.x.store(), ORIGINATION, &v.x.account.name, id).await?;
    row.filter(|row| row.parent == Some(trunk.id)).ok_or_else(|| v.x.not_found())
}

async fn list(v: &TrunkingContext<'_>, trunk: &Resource<CustomerTrunk>) -> Answer {
    let x = v.x;
    let (paging, account) = (x.paging("OU")?, &x.account.name);
    let cursor = async |id| resources::cursor(x.store(), account, id).await;
    let page = page(&paging, cursor).await?;
    let filter = Filter { parent: Some(trunk.id), ..Filter::default() };
    let rows = resources::list(x.store(), ORIGINATION, account, &filter, &page).await?;
    let represent = |row| represent(&v.base, x.account_sid(), row);
    let items = rows.iter().map(|row| (sid::spell("OU", row.id), represent(row))).collect();
    v.list("origination_urls", &format!("{}/OriginationUrls", place(trunk.id)), &paging, items)
}

async fn create(v: &TrunkingContext<'_>, trunk: &Resource<CustomerTrunk>) -> Answer {
    let x = v.x;
    for name in ["Weight", "Priority", "Enabled", "FriendlyName", "SipUrl"] {
        if x.parameters.get(name).is_none() {
            return Err(ApiError::bad(INVALID, format!("{name} is required")));
        }
    }
    let mut details = Origination { uri: String::new(), priority: 0, weight: 1, enabled: true };
    apply(x.parameters, &mut details)?;
    let mut row = Resource::new(&x.account.name, friendly_name(x)?.unwrap_or_default(), details);
    row.parent = Some(trunk.id);
    let full = |max| format!("A trunk has at most {max} origination URLs");
    trunks::add_origination(x.services(), &row).await.map_err(|why| not_stored(why, full))?;
    Ok(created(represent(&v.base, x.account_sid(), &row)))
}

async fn update(v: &TrunkingContext<'_>, mut row: Resource<Origination>) -> Answer {
    let x = v.x;
    if let Some(name) = friendly_name(x)? {
        row.name = name;
    }
    apply(x.parameters, &mut row.details)?;
    trunks::change_origination(x.services(), &mut row).await.map_err(|why| not_stored(why, |max| max.to_string()))?;
    Ok(ok(represent(&v.base, x.account_sid(), &row)))
}

/// Changes the settings that the parameters name, except the name.
pub(super) fn apply(parameters: &Parameters, url: &mut Origination) -> Result<(), ApiError> {
    let small = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    if let Some(weight) = parameters.number("Weight", 1..=65_535, INVALID)? {
        url.weight = small(weight);
    }
    if let Some(priority) = parameters.number("Priority", 0..=65_535, INVALID)? {
        url.priority = small(priority);
    }
    url.enabled = parameters.flag("Enabled", url.enabled)?;
    if let Some(uri) = parameters.get("SipUrl") {
        if !is_sip(uri) {
            return Err(ApiError::bad(INVALID, format!("SipUrl is not a SIP URI: {uri}")));
        }
        uri.clone_into(&mut url.uri);
    }
    Ok(())
}

fn not_stored(why: TargetError, full: impl FnOnce(u64) -> String) -> ApiError {
    match why {
        TargetError::Forbidden(uri, why) => {
            ApiError::bad(INVALID, format!("SipUrl: calls may not go to {uri}: this address is {why}"))
        }
        TargetError::NotAdded(why) => not_added(why, full),
    }
}

/// Whether the text is `sip:HOST...` or `sips:HOST...`. `//` after the scheme is allowed. The text has at most 255
/// octets and no SIP headers.
fn is_sip(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let name = if host.starts_with('[') { host.split(']').next() } else { host.split([':', ';']).next() };
    ["sip", "sips"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        && name.is_some_and(|name| !name.is_empty())
        && uri.len() <= 255
        && !rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?<>\"/".contains(c))
}

/// The OriginationUrl resource.
pub(super) fn represent(base: &str, account_sid: &str, row: &Resource<Origination>) -> Value {
    let (sid, trunk) = (sid::spell("OU", row.id), row.parent.unwrap_or_default());
    let details = &row.details;
    json!({
        "weight": details.weight,
        "priority": details.priority,
        "enabled": details.enabled,
        "friendly_name": row.name,
        "sip_url": details.uri,
        "account_sid": account_sid,
        "trunk_sid": sid::spell("TK", trunk),
        "date_created": date(row.created_at),
        "date_updated": date(row.updated_at),
        "url": url(base, &format!("{}/OriginationUrls/{sid}", place(trunk))),
        "sid": sid,
    })
}
