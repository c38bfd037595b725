//! `Addresses`: postal addresses. This server stores and returns the addresses but does not use them. To find the
//! numbers that refer to an address, this module searches all numbers of the account.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tandem_routing::inventory::Number;
use tandem_store::resources::{self, Filter, Kind, Resource};

use super::super::error::{ApiError, allow};
use super::super::family::Owner;
use super::super::form::Parameters;
use super::super::{format, path, resource_fields, sid};
use super::{Answer, RestContext, Verb, created, deleted, not_added, ok};

const ADDRESS: Kind<Details> = Kind::new("address");
/// Error number: a parameter is invalid.
const INVALID: u32 = 20001;
/// Maximum length of a value, in characters.
const LONGEST: usize = 255;
/// Maximum number of addresses of an account.
const MAX_ADDRESSES: u64 = 10_000;

/// Keys of the number resource that an item of `DependentPhoneNumbers` does not have.
const ABSENT_KEYS: [&str; 9] = [
    "address_sid",
    "beta",
    "bundle_sid",
    "emergency_address_status",
    "identity_sid",
    "origin",
    "status",
    "type",
    "voice_receive_mode",
];

/// The fields of an address. `FriendlyName` is not among the fields, because `FriendlyName` is stored as the resource's
/// name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    customer_name: String,
    street: String,
    street_secondary: Option<String>,
    city: String,
    region: String,
    postal_code: String,
    /// Country code of two letters (ISO 3166-1).
    iso_country: String,
    emergency_enabled: bool,
}

/// Whether the account has an address with this id.
pub(super) async fn exists(x: &RestContext<'_>, id: u128) -> Result<bool, ApiError> {
    Ok(resources::get(x.store(), ADDRESS, &x.account.name, id).await?.is_some())
}

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    let Some((name, below)) = below.split_first() else {
        return match x.verb {
            Verb::Get => list(x).await,
            Verb::Post => create(x).await,
            _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
        };
    };
    let id = sid::parse("AD", name).ok_or_else(|| x.not_found())?;
    let row = resources::get(x.store(), ADDRESS, &x.account.name, id).await?.ok_or_else(|| x.not_found())?;
    match (below, x.verb) {
        ([], Verb::Get) => Ok(ok(address(x.account_sid(), &row))),
        ([], Verb::Post) => update(x, row).await,
        ([], Verb::Delete) => {
            resources::delete(x.store(), ADDRESS, &x.account.name, id).await?;
            Ok(deleted())
        }
        (["DependentPhoneNumbers"], Verb::Get) => dependent(x, name),
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
        (["DependentPhoneNumbers"], _) => Err(ApiError::method_not_allowed(allow::GET)),
        _ => Err(x.not_found()),
    }
}

async fn list(x: &RestContext<'_>) -> Answer {
    let paging = x.paging("AD")?;
    let filter = Filter { name: x.parameters.get("FriendlyName"), ..Filter::default() };
    let all = resources::every(x.store(), ADDRESS, &x.account.name, &filter).await?;
    let is = |name: &str, value: &str| x.parameters.get(name).is_none_or(|expected| expected == value);
    let emergency = match x.parameters.get("EmergencyEnabled") {
        Some(_) => Some(x.parameters.flag("EmergencyEnabled", false)?),
        None => None,
    };
    let fitting = all.iter().filter(|row| {
        is("CustomerName", &row.details.customer_name)
            && is("IsoCountry", &row.details.iso_country)
            && emergency.is_none_or(|expected| expected == row.details.emergency_enabled)
    });
    let rows: Vec<_> = fitting.map(|row| (sid::spell("AD", row.id), address(x.account_sid(), row))).collect();
    let items = paging.part(rows, |(sid, _)| sid::parse("AD", sid));
    Ok(ok(x.list("addresses", "Addresses", &paging, items)))
}

async fn create(x: &RestContext<'_>) -> Answer {
    for name in ["CustomerName", "Street", "City", "Region", "PostalCode", "IsoCountry"] {
        if x.parameters.get(name).is_none() {
            return Err(ApiError::bad(INVALID, format!("{name} is required")));
        }
    }
    let mut row = Resource::new(&x.account.name, "", Details::default());
    let country = x.parameters.get("IsoCountry").unwrap_or_default().to_ascii_uppercase();
    if country.len() != 2 || !country.bytes().all(|octet| octet.is_ascii_uppercase()) {
        return Err(ApiError::bad(INVALID, format!("IsoCountry is not a country code of two letters: {country}")));
    }
    row.details.iso_country = country;
    apply(x.parameters, &mut row)?;
    let full = |max| format!("An account has at most {max} addresses");
    let added = resources::add(x.store(), ADDRESS, &row, &Filter::default(), MAX_ADDRESSES).await;
    added.map_err(|why| not_added(why, full))?;
    Ok(created(address(x.account_sid(), &row)))
}

async fn update(x: &RestContext<'_>, mut row: Resource<Details>) -> Answer {
    apply(x.parameters, &mut row)?;
    row.updated_at = Timestamp::now();
    resources::put(x.store(), ADDRESS, &row).await?;
    Ok(ok(address(x.account_sid(), &row)))
}

/// Changes the fields that the parameters name.
pub(super) fn apply(parameters: &Parameters, row: &mut Resource<Details>) -> Result<(), ApiError> {
    let details = &mut row.details;
    for (name, value) in [
        ("FriendlyName", &mut row.name),
        ("CustomerName", &mut details.customer_name),
        ("Street", &mut details.street),
        ("City", &mut details.city),
        ("Region", &mut details.region),
        ("PostalCode", &mut details.postal_code),
    ] {
        let Some(text) = parameters.given(name) else { continue };
        if text.chars().count() > LONGEST {
            return Err(ApiError::bad(INVALID, format!("{name} is longer than {LONGEST} characters")));
        }
        text.clone_into(value);
    }
    if let Some(text) = parameters.given("StreetSecondary") {
        details.street_secondary = Some(text.chars().take(LONGEST).collect()).filter(|text: &String| !text.is_empty());
    }
    details.emergency_enabled = parameters.flag("EmergencyEnabled", details.emergency_enabled)?;
    Ok(())
}

/// `DependentPhoneNumbers`: the numbers that refer to the address.
fn dependent(x: &RestContext<'_>, sid: &str) -> Answer {
    let paging = x.paging("PN")?;
    let names = |row: &Resource<Number>| {
        let kept = |key: &str| row.details.other.get(key).and_then(Value::as_str) == Some(sid);
        kept("address_sid") || kept("emergency_address_sid")
    };
    let rows = x.inventory().numbers.all(&x.account.name).into_iter().filter(|row| names(row));
    let rows = rows.map(|row| (sid::spell("PN", row.id), number(x.owner(), &row))).collect();
    let items = paging.part(rows, |(sid, _): &(String, Value)| sid::parse("PN", sid));
    let place = format!("Addresses/{sid}/DependentPhoneNumbers");
    Ok(ok(x.list("dependent_phone_numbers", &place, &paging, items)))
}

/// A number as an item of `DependentPhoneNumbers`. In such an item, the keys of `capabilities` have a different
/// spelling.
pub(super) fn number(owner: Owner<'_>, row: &Resource<Number>) -> Value {
    let mut number = resource_fields::number(owner, row);
    format::without(&mut number, &ABSENT_KEYS);
    let can = |number: &Value, what: &str| number.pointer(&format!("/capabilities/{what}")) == Some(&json!(true));
    let capabilities = json!({
        "Voice": can(&number, "voice"), "SMS": can(&number, "sms"), "MMS": can(&number, "mms"),
    });
    format::extend(&mut number, json!({ "capabilities": capabilities }));
    number
}

/// The Address resource. This server does not verify addresses.
pub(super) fn address(account_sid: &str, row: &Resource<Details>) -> Value {
    let (sid, details) = (sid::spell("AD", row.id), &row.details);
    json!({
        "account_sid": account_sid,
        "city": details.city,
        "customer_name": details.customer_name,
        "date_created": format::rfc2822(row.created_at),
        "date_updated": format::rfc2822(row.updated_at),
        "emergency_enabled": details.emergency_enabled,
        "friendly_name": row.name,
        "iso_country": details.iso_country,
        "postal_code": details.postal_code,
        "region": details.region,
        "street": details.street,
        "street_secondary": details.street_secondary,
        "validated": false,
        "verified": false,
        "uri": path::uri(account_sid, &format!("Addresses/{sid}")),
        "sid": sid,
    })
}
