//! The `Trunks` resource itself, without the resources below a trunk.

use serde_json::{Value, json};
use tandem_operations::trunks::{self, TrunkError};
use tandem_routing::customer_trunk::{self, CustomerTrunk, Transfers};
use tandem_store::domains::{self, Purpose};
use tandem_store::resources::{self, Filter, Resource};

use super::super::super::error::{ApiError, allow};
use super::super::super::form::Parameters;
use super::super::super::sid;
use super::super::sip::{auth_type_set, host_name, page};
use super::super::{Answer, Verb, created, deleted, ok};
use super::{INVALID, TrunkingContext, date, friendly_name, place, recording, url};

/// Error number: the domain is not a host name, or is already in use.
const INVALID_DOMAIN: u32 = 21245;

const TRANSFER_MODES: [(&str, Transfers); 3] =
    [("disable-all", Transfers::Off), ("enable-all", Transfers::On), ("sip-only", Transfers::Sip)];
const TRANSFER_CALLERS: [&str; 2] = ["from-transferee", "from-transferor"];

pub(super) async fn all(v: &TrunkingContext<'_>) -> Answer {
    match v.x.verb {
        Verb::Get => list(v).await,
        Verb::Post => create(v).await,
        _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
    }
}

pub(super) async fn answer(v: &TrunkingContext<'_>, row: Resource<CustomerTrunk>) -> Answer {
    match v.x.verb {
        Verb::Get => Ok(ok(trunk(v, v.x.account_sid(), &row, &purposes(v, row.id).await?))),
        Verb::Post => update(v, row).await,
        Verb::Delete => delete(v, &row).await,
        Verb::Other => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
    }
}

async fn list(v: &TrunkingContext<'_>) -> Answer {
    let x = v.x;
    let (paging, account) = (x.paging("TK")?, &x.account.name);
    let cursor = async |id| resources::cursor(x.store(), account, id).await;
    let page = page(&paging, cursor).await?;
    let rows = resources::list(x.store(), customer_trunk::TRUNK, account, &Filter::default(), &page).await?;
    let used = domains::purposes(x.store(), account).await?;
    let items = rows.iter().map(|row| {
        let purposes: Vec<_> = used.iter().filter(|(id, _)| *id == row.id).map(|(_, purpose)| *purpose).collect();
        (sid::spell("TK", row.id), trunk(v, x.account_sid(), row, &purposes))
    });
    v.list("trunks", "", &paging, items.collect())
}

async fn create(v: &TrunkingContext<'_>) -> Answer {
    let x = v.x;
    let mut row = Resource::new(&x.account.name, friendly_name(x)?.unwrap_or_default(), CustomerTrunk::default());
    apply(x.parameters, &mut row.details)?;
    domain(v, &mut row.details).await?;
    trunks::create(x.services(), &row).await.map_err(|why| not_kept(why, &row))?;
    Ok(created(trunk(v, x.account_sid(), &row, &[])))
}

async fn update(v: &TrunkingContext<'_>, mut row: Resource<CustomerTrunk>) -> Answer {
    let x = v.x;
    if let Some(name) = friendly_name(x)? {
        row.name = name;
    }
    apply(x.parameters, &mut row.details)?;
    domain(v, &mut row.details).await?;
    trunks::change(x.services(), &mut row).await.map_err(|why| not_kept(why, &row))?;
    Ok(ok(trunk(v, x.account_sid(), &row, &purposes(v, row.id).await?)))
}

async fn delete(v: &TrunkingContext<'_>, row: &Resource<CustomerTrunk>) -> Answer {
    trunks::delete(v.x.services(), &v.x.numbers(), row, &sid::spell("TK", row.id)).await?;
    Ok(deleted())
}

async fn purposes(v: &TrunkingContext<'_>, id: u128) -> Result<Vec<Purpose>, ApiError> {
    let all = domains::purposes(v.x.store(), &v.x.account.name).await?;
    Ok(all.into_iter().filter(|(domain, _)| *domain == id).map(|(_, purpose)| purpose).collect())
}

/// Applies `DomainName`, if the request has this parameter. If the name is empty, the PBX can no longer send calls to
/// this server.
async fn domain(v: &TrunkingContext<'_>, trunk: &mut CustomerTrunk) -> Result<(), ApiError> {
    if let Some(name) = v.x.parameters.given("DomainName") {
        trunk.domain = match name {
            "" => None,
            name => Some(host_name(v.x, name, INVALID_DOMAIN).await?),
        };
    }
    Ok(())
}

fn not_kept(why: TrunkError, row: &Resource<CustomerTrunk>) -> ApiError {
    match why {
        TrunkError::Full(max) => ApiError::bad(INVALID, format!("An account has at most {max} trunks")),
        TrunkError::DomainTaken => {
            let name = row.details.domain.as_deref().unwrap_or_default();
            ApiError::bad(INVALID_DOMAIN, format!("DomainName is taken: {name}"))
        }
        TrunkError::Store(error) => error.into(),
    }
}

/// Changes the settings that the parameters name, except the name and the domain.
pub(super) fn apply(parameters: &Parameters, trunk: &mut CustomerTrunk) -> Result<(), ApiError> {
    trunk.secure = parameters.flag("Secure", trunk.secure)?;
    match parameters.given("DisasterRecoveryUrl") {
        Some("") => trunk.recovery = None,
        Some(_) => trunk.recovery = parameters.url("DisasterRecoveryUrl", INVALID)?,
        None => {}
    }
    if parameters.get("DisasterRecoveryMethod").is_some() {
        trunk.recovery_method = parameters.method("DisasterRecoveryMethod")?;
    }
    let cnam = trunk.other.get("cnam_lookup_enabled").and_then(Value::as_bool).unwrap_or(false);
    trunk.other.insert("cnam_lookup_enabled".into(), parameters.flag("CnamLookupEnabled", cnam)?.into());
    trunk.transfers = parameters.word("TransferMode", &TRANSFER_MODES, trunk.transfers, INVALID)?;
    if let Some(text) = parameters.get("TransferCallerId") {
        if !TRANSFER_CALLERS.contains(&text) {
            return Err(ApiError::bad(INVALID, format!("TransferCallerId is not valid: {text}")));
        }
        trunk.other.insert("transfer_caller_id".into(), text.into());
    }
    Ok(())
}

/// The Trunk resource.
pub(super) fn trunk(
    v: &TrunkingContext<'_>,
    account_sid: &str,
    row: &Resource<CustomerTrunk>,
    purposes: &[Purpose],
) -> Value {
    represent(&v.base, account_sid, row, purposes)
}

pub(super) fn represent(base: &str, account_sid: &str, row: &Resource<CustomerTrunk>, purposes: &[Purpose]) -> Value {
    let (place, trunk) = (place(row.id), &row.details);
    let kept = |key: &str, default: &str| trunk.other.get(key).cloned().unwrap_or_else(|| default.into());
    let mode = TRANSFER_MODES.iter().find(|(_, transfers)| *transfers == trunk.transfers);
    let types = auth_type_set(purposes);
    let below = |name: &str| url(base, &format!("{place}/{name}"));
    json!({
        "sid": sid::spell("TK", row.id),
        "account_sid": account_sid,
        "domain_name": trunk.domain,
        "disaster_recovery_method": trunk.recovery_method.name(),
        "disaster_recovery_url": trunk.recovery.as_deref(),
        "friendly_name": row.name,
        "secure": trunk.secure,
        "cnam_lookup_enabled": trunk.other.get("cnam_lookup_enabled").and_then(Value::as_bool).unwrap_or(false),
        "symmetric_rtp_enabled": true,
        "recording": recording::represent(trunk.record),
        "transfer_mode": mode.map_or(TRANSFER_MODES[0].0, |(word, _)| word),
        "transfer_caller_id": kept("transfer_caller_id", TRANSFER_CALLERS[0]),
        "auth_type": types.join(","),
        "auth_type_set": types,
        "date_created": date(row.created_at),
        "date_updated": date(row.updated_at),
        "url": url(base, &place),
        "links": {
            "origination_urls": below("OriginationUrls"),
            "credential_lists": below("CredentialLists"),
            "ip_access_control_lists": below("IpAccessControlLists"),
            "phone_numbers": below("PhoneNumbers"),
        },
    })
}
