//! `IncomingPhoneNumbers`: the account's numbers. Either the account took the number by REST, or the configuration file
//! assigns the number to the account.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use tandem_call::address::Address;
use tandem_markup::party;
use tandem_operations::numbers::{NumberError, NumberRow};
use tandem_routing::inventory::Number;
use tandem_routing::number_pool::NumberKind;
use tandem_store::resources::Resource;

use super::super::error::{ApiError, allow};
use super::super::family::Owner;
use super::super::resource_fields;
use super::{Answer, RestContext, Verb, addresses, ok, resource_pages};

/// The lists with only one kind of number.
const KINDS: [(&str, NumberKind); 3] =
    [("Local", NumberKind::Local), ("Mobile", NumberKind::Mobile), ("TollFree", NumberKind::TollFree)];

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    let kind = |name: &str| KINDS.iter().find(|(known, _)| *known == name).copied();
    match (below, x.verb) {
        ([], Verb::Get) => list(x, "IncomingPhoneNumbers", None),
        ([], Verb::Post) => create(x).await,
        ([name], verb) => match (kind(name), verb) {
            (Some((name, kind)), Verb::Get) => list(x, &format!("IncomingPhoneNumbers/{name}"), Some(kind)),
            (Some(_), Verb::Post) => create(x).await,
            (None, verb) => one(x, name, verb).await,
            _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
        },
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        _ => Err(x.not_found()),
    }
}

fn list(x: &RestContext<'_>, name: &str, kind: Option<NumberKind>) -> Answer {
    let beta = x.parameters.get("Beta").is_some().then(|| x.parameters.flag("Beta", false)).transpose()?;
    let fits = |row: &NumberRow| {
        kind.is_none_or(|kind| resource_fields::kind(row) == kind)
            && x.parameters.get("PhoneNumber").is_none_or(|pattern| resource_fields::contains(&row.name, pattern))
            && x.parameters.get("FriendlyName").is_none_or(|name| name == resource_fields::friendly_name(row))
            && x.parameters.get("Origin").is_none_or(|origin| origin.eq_ignore_ascii_case(resource_fields::ORIGIN))
            && beta.is_none_or(|beta| beta == resource_fields::is_beta(&row.details))
    };
    let rows = x.numbers().all().into_iter().filter(fits).collect();
    resource_pages::page(x, ("incoming_phone_numbers", name, "PN"), rows, |row| resource_fields::number(x.owner(), row))
}

async fn create(x: &RestContext<'_>) -> Answer {
    let numbers = x.numbers();
    let numbers_to_take = match (x.parameters.get("PhoneNumber"), x.parameters.get("AreaCode")) {
        (Some(text), _) => vec![number(text)?],
        (None, Some(area)) => numbers.free(|number| resource_fields::area_code(number) == Some(area)),
        (None, None) => return Err(ApiError::bad(21421, "PhoneNumber or AreaCode is required")),
    };
    let none = || {
        let area = x.parameters.get("AreaCode").unwrap_or_default();
        ApiError::bad(21452, format!("No phone numbers found in area code {area}"))
    };
    if numbers_to_take.is_empty() {
        return Err(none());
    }
    check(x).await?;
    let mut details = Number { dialect: x.provider.name().to_owned(), ..Number::default() };
    resource_fields::change_number(&mut details, x.parameters)?;
    let of = |number: &str| {
        let mut details = details.clone();
        details.other.extend(numbers.block(number).map(resource_fields::pooled).unwrap_or_default());
        details
    };
    let taken = numbers.take(&numbers_to_take, of).await;
    let row = taken.map_err(|why| match why {
        NumberError::NotAvailable(_) | NumberError::NoPool(_) if x.parameters.get("PhoneNumber").is_none() => none(),
        why => why.into(),
    })?;
    Ok((StatusCode::CREATED, Json(resource_fields::number(x.owner(), &row))).into_response())
}

fn number(text: &str) -> Result<String, ApiError> {
    match party::north_american(text) {
        Some(Address::Phone(number)) if number.is_e164() => Ok(number.to_string()),
        _ => Err(ApiError::bad(21421, format!("PhoneNumber is invalid: {text}"))),
    }
}

async fn one(x: &RestContext<'_>, name: &str, verb: Verb) -> Answer {
    let numbers = x.numbers();
    let row = x.ids().parse("PN", name).and_then(|id| numbers.get(id)).ok_or_else(|| x.not_found())?;
    match verb {
        Verb::Get => Ok(ok(resource_fields::number(x.owner(), &row))),
        Verb::Post => update(x, &row).await,
        Verb::Delete => match numbers.release(&row).await {
            Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
            Err(NumberError::Unknown) => Err(x.not_found()),
            Err(why) => Err(why.into()),
        },
        Verb::Other => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
    }
}

async fn update(x: &RestContext<'_>, row: &Resource<Number>) -> Answer {
    let mut row = row.clone();
    check(x).await?;
    resource_fields::change_number(&mut row.details, x.parameters)?;
    let (owner, kept) = match x.parameters.get("AccountSid").filter(|sid| *sid != x.account_sid()) {
        Some(sid) => {
            let new_owner = x.new_owner(sid)?;
            let application = x.parameters.get("VoiceApplicationSid").map(str::to_owned);
            (Owner::new(x.provider, sid), x.numbers().hand_over(row, &new_owner.name, application).await?)
        }
        None => (x.owner(), x.numbers().keep(row).await?),
    };
    Ok(ok(resource_fields::number(owner, &kept)))
}

/// Checks that the resources that the form names are the account's own.
async fn check(x: &RestContext<'_>) -> Result<(), ApiError> {
    for name in ["AddressSid", "EmergencyAddressSid"] {
        if let Some(text) = x.parameters.get(name) {
            let id = x.ids().parse("AD", text);
            let is_own = match id {
                Some(id) => addresses::exists(x, id).await?,
                None => false,
            };
            is_own.then_some(()).ok_or_else(|| ApiError::bad(20001, format!("{name} {text} is not valid")))?;
        }
    }
    // This server has no identities and bundles. So only the form of these ids can be checked.
    for (name, prefix) in [("IdentitySid", "RI"), ("BundleSid", "BU")] {
        if let Some(text) = x.parameters.get(name).filter(|text| x.ids().parse(prefix, text).is_none()) {
            return Err(ApiError::bad(20001, format!("{name} {text} is not valid")));
        }
    }
    if let Some(sid) = x.parameters.get("SmsApplicationSid") {
        let owned = x.routing().application(&x.account.name, x.provider.name(), sid);
        owned.ok_or_else(|| ApiError::bad(21218, format!("SmsApplicationSid {sid} is not valid")))?;
    }
    if let Some(text) = x.parameters.get("TrunkSid") {
        let trunk = x.ids().parse("TK", text);
        let customer_trunks = x.routing().phones().customer_trunks();
        trunk
            .and_then(|id| customer_trunks.get(&x.account.name, id))
            .ok_or_else(|| ApiError::bad(20001, format!("TrunkSid {text} is not valid")))?;
    }
    if let Some(sid) = x.parameters.get("VoiceApplicationSid") {
        let owner = match x.parameters.get("AccountSid") {
            Some(account) if account != x.account_sid() => x.new_owner(account)?.name.clone(),
            _ => x.account.name.clone(),
        };
        x.routing()
            .application(&owner, x.provider.name(), sid)
            .ok_or_else(|| ApiError::bad(21218, format!("VoiceApplicationSid {sid} is not valid")))?;
    }
    Ok(())
}
