//! `OutgoingCallerIds`: numbers of other parties that the account may show as the caller ID. First, a verification call
//! must prove that the account's user owns the number.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;
use tandem_call::address::Address;
use tandem_markup::party;
use tandem_operations::verification::{self, Begun, ResultNotice, Verification, VerificationError};
use tandem_operations::verified_callers;
use tandem_routing::inventory::VerifiedCaller;
use tandem_store::resources::Resource;

use super::super::error::{ApiError, allow};
use super::super::family::Owner;
use super::super::{resource_fields, webhook};
use super::{Answer, RestContext, Verb, ok, resource_pages};

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => list(x),
        ([], Verb::Post) => verify(x).await,
        ([name], verb) => one(x, name, verb).await,
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        _ => Err(x.not_found()),
    }
}

fn list(x: &RestContext<'_>) -> Answer {
    let fits = |row: &Arc<Resource<VerifiedCaller>>| {
        x.parameters.get("PhoneNumber").is_none_or(|number| resource_fields::same(&row.name, number))
            && x.parameters.get("FriendlyName").is_none_or(|name| name == row.details.friendly_name)
    };
    let rows = verified_callers::all(&x.routing(), &x.account.name).into_iter().filter(fits).collect();
    resource_pages::page(x, ("outgoing_caller_ids", "OutgoingCallerIds", "PN"), rows, |row| {
        resource_fields::caller(x.owner(), row)
    })
}

async fn verify(x: &RestContext<'_>) -> Answer {
    let text = x.parameters.get("PhoneNumber").unwrap_or_default();
    let number = match party::north_american(text) {
        Some(Address::Phone(number)) if number.is_e164() => number,
        _ => return Err(ApiError::bad(21401, format!("PhoneNumber is invalid: {text}"))),
    };
    let mut friendly_name = resource_fields::name_of(number.as_str());
    resource_fields::change_name(&mut friendly_name, x.parameters)?;
    let extension = match x.parameters.get("Extension") {
        None => None,
        Some(text) => {
            let digits = party::send_digits(text).filter(|digits| digits.len() <= 32);
            Some(digits.ok_or_else(|| ApiError::bad(20001, format!("Extension is not valid: {text}")))?)
        }
    };
    let delay = x.parameters.number("CallDelay", 0..=60, 20001)?.unwrap_or(0);
    let (provider, account_sid) = (x.provider, x.account_sid().to_owned());
    let result_notice =
        x.parameters.target("StatusCallback", "StatusCallbackMethod", 21502)?.map(|target| -> ResultNotice {
            let account_sid = account_sid.clone();
            Box::new(move |leg, verified| {
                webhook::verification(Owner::new(provider, &account_sid), leg, target, verified)
            })
        });
    let verification = Verification {
        account: x.account.name.clone(),
        dialect: x.provider.name(),
        number: number.clone(),
        friendly_name: friendly_name.clone(),
        extension,
        delay: Duration::from_secs(delay),
        result_notice,
    };
    let Begun { leg, code } = verification::begin(&x.app.calls, verification).await.map_err(|why| match why {
        VerificationError::AlreadyVerified => {
            ApiError::bad(21450, format!("{number} is already validated for your account"))
        }
        VerificationError::NotCalled(why) => why.into(),
    })?;
    Ok(ok(json!({
        "account_sid": account_sid,
        "call_sid": x.ids().call(leg),
        "friendly_name": friendly_name,
        "phone_number": number.as_str(),
        "validation_code": code,
    })))
}

async fn one(x: &RestContext<'_>, name: &str, verb: Verb) -> Answer {
    let id = x.ids().parse("PN", name).ok_or_else(|| x.not_found())?;
    let routing = x.routing();
    let rows = verified_callers::all(&routing, &x.account.name);
    let row = rows.into_iter().find(|row| row.id == id).ok_or_else(|| x.not_found())?;
    match verb {
        Verb::Get => Ok(ok(resource_fields::caller(x.owner(), &row))),
        Verb::Post => {
            let mut friendly_name = row.details.friendly_name.clone();
            resource_fields::change_name(&mut friendly_name, x.parameters)?;
            let renamed = verified_callers::rename(&routing, x.store(), &row, friendly_name).await;
            let row = renamed.map_err(|error| resource_pages::inventory_error(error, x.not_found()))?;
            Ok(ok(resource_fields::caller(x.owner(), &row)))
        }
        Verb::Delete => match verified_callers::delete(&routing, x.store(), &x.account.name, id).await? {
            true => Ok(StatusCode::NO_CONTENT.into_response()),
            false => Err(x.not_found()),
        },
        Verb::Other => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
    }
}
