//! `SIP/Domains`: the SIP domains of an account.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tandem_operations::sip_domains::{self, AccessError, DomainRefusal};
use tandem_store::domains::{self, DomainDetails, DomainRow, Purpose};

use super::super::super::error::{ApiError, allow};
use super::super::super::form::Parameters;
use super::super::super::{format, path, sid};
use super::super::{Answer, RestContext, Verb, created, ok};
use super::{base, gone, mappings, named, not_added, page, shown};

/// Error number: a parameter is invalid.
const INVALID: u32 = 21231;
/// Error number: the name is not a host name, or another domain has this name.
const INVALID_NAME: u32 = 21232;
pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    let Some((name, below)) = below.split_first() else {
        return match x.verb {
            Verb::Get => list(x).await,
            Verb::Post => create(x).await,
            _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
        };
    };
    let id = sid::parse("SD", name).ok_or_else(|| x.not_found())?;
    let row = domains::domain(x.store(), &x.account.name, id).await?;
    let row = row.filter(|row| !row.details.trunk).ok_or_else(|| x.not_found())?;
    match (below, x.verb) {
        ([], Verb::Get) => shown(domain(x.account_sid(), &row, &purposes(x, id).await?)),
        ([], Verb::Post) => update(x, row).await,
        ([], Verb::Delete) => gone(x, sip_domains::delete_domain(x.services(), &x.account.name, id).await?),
        ([], Verb::Other) => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
        (below, _) => mappings::answer(x, id, below).await,
    }
}

async fn list(x: &RestContext<'_>) -> Answer {
    let paging = x.paging("SD")?;
    let (store, account) = (x.store(), &x.account.name);
    let place = async |id| Ok(domains::domain(store, account, id).await?.map(|row| row.cursor()));
    let rows = domains::domains(store, account, &page(&paging, place).await?).await?;
    let used = domains::purposes(store, account).await?;
    let items = rows.iter().map(|row| {
        let purposes: Vec<_> = used.iter().filter(|(id, _)| *id == row.id).map(|(_, purpose)| *purpose).collect();
        (sid::spell("SD", row.id), domain(x.account_sid(), row, &purposes))
    });
    Ok(ok(x.list("domains", "SIP/Domains", &paging, items.collect())))
}

async fn create(x: &RestContext<'_>) -> Answer {
    let name = x.parameters.get("DomainName").ok_or_else(|| ApiError::bad(INVALID_NAME, "DomainName is required"))?;
    let name = host_name(x, name, INVALID_NAME).await?;
    let mut details = DomainDetails::default();
    apply(x.parameters, &mut details)?;
    check_owned(x)?;
    let now = Timestamp::now();
    let account = x.account.name.clone();
    let row = DomainRow { id: rand::random(), account, name, details, created_at: now, updated_at: now };
    sip_domains::add_domain(x.services(), &row).await.map_err(|why| not_kept(why, &row))?;
    Ok(created(domain(x.account_sid(), &row, &[])))
}

async fn update(x: &RestContext<'_>, mut row: DomainRow) -> Answer {
    if let Some(name) = x.parameters.get("DomainName") {
        row.name = host_name(x, name, INVALID_NAME).await?;
    }
    apply(x.parameters, &mut row.details)?;
    check_owned(x)?;
    sip_domains::change_domain(x.services(), &mut row).await.map_err(|why| not_kept(why, &row))?;
    let purposes = purposes(x, row.id).await?;
    Ok(ok(domain(x.account_sid(), &row, &purposes)))
}

/// Checks that the trunk and the number that the form names are the account's own.
fn check_owned(x: &RestContext<'_>) -> Result<(), ApiError> {
    let given = |name| x.parameters.given(name).filter(|text| !text.is_empty());
    let wrong =
        |name: &str, text: &str| ApiError::bad(INVALID, format!("{name} is not a resource of the account: {text}"));
    if let Some(text) = given("ByocTrunkSid").filter(|text| !x.routing().has_trunk_id(&x.account.name, text)) {
        return Err(wrong("ByocTrunkSid", text));
    }
    let number = |text: &&str| sid::parse("PN", text).is_none_or(|id| x.numbers().get(id).is_none());
    match given("EmergencyCallerSid").filter(number) {
        Some(text) => Err(wrong("EmergencyCallerSid", text)),
        None => Ok(()),
    }
}

fn not_kept(why: AccessError, row: &DomainRow) -> ApiError {
    let full = |max| ApiError::bad(INVALID, format!("An account has at most {max} SIP domains"));
    not_added(why, full, || ApiError::bad(INVALID_NAME, format!("DomainName is taken: {}", row.name)))
}

async fn purposes(x: &RestContext<'_>, id: u128) -> Result<Vec<Purpose>, ApiError> {
    let all = domains::purposes(x.store(), &x.account.name).await?;
    Ok(all.into_iter().filter(|(domain, _)| *domain == id).map(|(_, purpose)| purpose).collect())
}

/// Parses a host name that the account may use, in lower case.
pub(in super::super) async fn host_name(x: &RestContext<'_>, text: &str, code: u32) -> Result<String, ApiError> {
    match sip_domains::domain_name(x.services(), &x.account.name, text).await {
        Ok(name) => Ok(name),
        Err(DomainRefusal::Store(error)) => Err(error.into()),
        Err(why) => Err(ApiError::bad(code, format!("DomainName {why}: {text}"))),
    }
}

/// Settings of a domain that are stored but have no effect on calls.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredFields {
    voice_method: Option<String>,
    fallback_method: Option<String>,
    status_method: Option<String>,
    emergency_calling_enabled: bool,
    byoc_trunk_sid: Option<String>,
    emergency_caller_sid: Option<String>,
}

impl StoredFields {
    fn of(details: &DomainDetails) -> Self {
        serde_json::from_value(Value::Object(details.other.clone())).unwrap_or_default()
    }
}

/// Changes the settings that the parameters name.
pub(super) fn apply(parameters: &Parameters, details: &mut DomainDetails) -> Result<(), ApiError> {
    let mut kept = StoredFields::of(details);
    if let Some(name) = parameters.given("FriendlyName") {
        details.friendly_name = named(name, INVALID)?;
    }
    details.registration = parameters.flag("SipRegistration", details.registration)?;
    details.secure = parameters.flag("Secure", details.secure)?;
    kept.emergency_calling_enabled = parameters.flag("EmergencyCallingEnabled", kept.emergency_calling_enabled)?;
    for (name, prefix, value) in
        [("ByocTrunkSid", "BY", &mut kept.byoc_trunk_sid), ("EmergencyCallerSid", "PN", &mut kept.emergency_caller_sid)]
    {
        if let Some(text) = parameters.given(name) {
            if !text.is_empty() && sid::parse(prefix, text).is_none() {
                return Err(ApiError::bad(INVALID, format!("{name} is not a SID: {text}")));
            }
            *value = Some(text.to_owned()).filter(|text| !text.is_empty());
        }
    }
    for (url, method, target, kept) in [
        ("VoiceUrl", "VoiceMethod", &mut details.voice, &mut kept.voice_method),
        ("VoiceFallbackUrl", "VoiceFallbackMethod", &mut details.fallback, &mut kept.fallback_method),
        ("VoiceStatusCallbackUrl", "VoiceStatusCallbackMethod", &mut details.status_callback, &mut kept.status_method),
    ] {
        if parameters.get(method).is_some() {
            *kept = Some(parameters.method(method)?.name().to_owned());
        }
        let address = match parameters.given(url) {
            Some("") => None,
            Some(_) => parameters.url(url, INVALID)?.map(|url| url.to_string()),
            None => target.take().map(|(url, _)| url),
        };
        *target = address.map(|url| (url, kept.clone().unwrap_or_else(|| "POST".into())));
    }
    if let Ok(Value::Object(other)) = serde_json::to_value(kept) {
        details.other = other;
    }
    Ok(())
}

/// The Domain resource.
pub(super) fn domain(account_sid: &str, row: &DomainRow, purposes: &[Purpose]) -> Value {
    let mut body = base(account_sid, ("SD", row.id), "Domains", (row.created_at, row.updated_at));
    let (kept, details) = (StoredFields::of(&row.details), &row.details);
    let below = |name: &str| path::uri(account_sid, &format!("SIP/Domains/{}/{name}", sid::spell("SD", row.id)));
    let url = |target: &Option<(String, String)>| target.as_ref().map(|(url, _)| url.clone());
    let method = |method: Option<String>| method.unwrap_or_else(|| "POST".into());
    format::extend(
        &mut body,
        json!({
            "api_version": path::VERSION,
            "auth_type": auth_type(purposes),
            "domain_name": row.name,
            "friendly_name": details.friendly_name,
            "sip_registration": details.registration,
            "subresource_uris": {
                "credential_list_mappings": below("CredentialListMappings"),
                "ip_access_control_list_mappings": below("IpAccessControlListMappings"),
            },
            "voice_fallback_method": method(kept.fallback_method),
            "voice_fallback_url": url(&details.fallback),
            "voice_method": method(kept.voice_method),
            "voice_status_callback_method": method(kept.status_method),
            "voice_status_callback_url": url(&details.status_callback),
            "voice_url": url(&details.voice),
            "emergency_calling_enabled": kept.emergency_calling_enabled,
            "secure": details.secure,
            "byoc_trunk_sid": kept.byoc_trunk_sid,
            "emergency_caller_sid": kept.emergency_caller_sid,
        }),
    );
    body
}

/// `auth_type_set`: the kinds of authentication for the callers of a domain or a trunk.
pub(in super::super) fn auth_type_set(purposes: &[Purpose]) -> Vec<&'static str> {
    let words = [(Purpose::CallsByAddress, "IP_ACL"), (Purpose::CallsByPassword, "CREDENTIAL_LIST")];
    words.into_iter().filter(|(purpose, _)| purposes.contains(purpose)).map(|(_, word)| word).collect()
}

fn auth_type(purposes: &[Purpose]) -> String {
    auth_type_set(purposes).join(",")
}
