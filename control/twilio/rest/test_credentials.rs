//! Twilio's test credentials: a second pair of SID and token, with which an application tests its requests. Nothing is
//! called, nothing is stored, and no webhook is sent. The numbers `+1500555000x` have the documented results.

use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::IntoResponse;
use subtle::ConstantTimeEq;
use tandem_accounts::{Account, Accounts};
use tandem_call::address::Address;
use tandem_host::clock;
use tandem_id::{CallId, LegId};
use tandem_markup::party;
use tandem_routing::inventory::Number;
use tandem_routing::new_call;
use tandem_runtime::app::App;
use tandem_store::resources::Resource;

use super::super::error::{ApiError, allow};
use super::super::family::{Owner, Provider};
use super::super::form::Parameters;
use super::super::{Twilio, call, path, request, resource_fields};
use super::{Answer, basic};

/// The only number from which a test may call, and the number that a test may take.
const VALID: &str = "+15005550006";
/// The area code with free numbers.
const AREA: &str = "500";

/// The numbers to which a call fails, with the error number and the reason.
const TO: [(&str, u32, &str); 4] = [
    ("+15005550001", 21217, "is not a valid phone number"),
    ("+15005550002", 21214, "cannot be reached"),
    ("+15005550003", 21215, "is in a country to which the account may not call"),
    ("+15005550004", 21216, "is blocked for the account"),
];

/// The account whose test credentials a request has. `None` for any other credentials.
pub(super) fn login(accounts: &Accounts, headers: &HeaderMap) -> Option<(Arc<Account>, String)> {
    let (username, password) = basic(headers)?;
    let (account, token) = accounts.by_test_sid(&username)?;
    bool::from(password.as_bytes().ct_eq(token.as_bytes())).then_some((account, username))
}

/// Answers a request with test credentials. `sid` is the test SID of the account.
pub(super) fn answer(
    app: &App,
    (account, sid): &(Arc<Account>, String),
    method: &Method,
    requested: &str,
    parameters: &Parameters,
) -> Answer {
    let path = path::parse(requested).ok_or_else(|| ApiError::not_found(requested))?;
    let below: Vec<&str> = path.below.iter().map(AsRef::as_ref).collect();
    if path.account.as_deref() != Some(sid) {
        return Err(ApiError::unauthenticated());
    }
    match (&below[..], method) {
        (["Calls"], &Method::POST) => call(app, account, sid, parameters),
        (["IncomingPhoneNumbers"] | ["IncomingPhoneNumbers", "Local" | "Mobile" | "TollFree"], &Method::POST) => {
            number(account, sid, parameters)
        }
        (["Calls" | "IncomingPhoneNumbers"], method) if *method != Method::GET => {
            Err(ApiError::method_not_allowed(allow::GET_POST))
        }
        _ => Err(ApiError::forbidden(
            20008,
            "Test credentials can only create calls and take phone numbers (POST to Calls and IncomingPhoneNumbers)",
        )),
    }
}

/// Checks a request for a call, and answers as if the call had been created.
fn call(app: &App, account: &Account, sid: &str, parameters: &Parameters) -> Answer {
    let routing = app.calls.services().routing.load_full();
    let application = |sid: &str| routing.application(&account.name, Twilio.name(), sid);
    let new = request::new_call(parameters, &account.name, &application)?;
    let from = new.invite.from.to_string();
    if from == "+15005550001" {
        return Err(ApiError::bad(21212, format!("From is not a valid phone number: {from}")));
    }
    if from != VALID {
        let message = format!("{from} is not verified for the test credentials: the only valid From is {VALID}");
        return Err(ApiError::bad(21210, message));
    }
    let to = new.invite.to.to_string();
    if let Some((_, code, why)) = TO.iter().find(|(number, ..)| *number == to) {
        return Err(ApiError::bad(*code, format!("{to} {why}")));
    }
    let now = clock::time();
    let (id, session) = (LegId::new(now, &mut rand::rng()), CallId::new(now, &mut rand::rng()));
    let (leg, _) = new_call::outbound_legs(id, session, new, now);
    let body = call::created(Owner::new(&Twilio, sid), &leg.info);
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Checks a request for a number, and answers as if the account had taken the number.
fn number(account: &Account, sid: &str, parameters: &Parameters) -> Answer {
    match (parameters.get("PhoneNumber"), parameters.get("AreaCode")) {
        (Some(text), _) => {
            let number = match party::north_american(text) {
                Some(Address::Phone(number)) => number.to_string(),
                _ => text.to_owned(),
            };
            match number.as_str() {
                VALID => {}
                "+15005550000" => return Err(ApiError::bad(21422, format!("{number} is not available"))),
                _ => return Err(ApiError::bad(21421, format!("PhoneNumber is invalid: {text}"))),
            }
        }
        (None, Some(AREA)) => {}
        (None, Some(area)) => {
            return Err(ApiError::bad(21452, format!("No phone numbers found in area code {area}")));
        }
        (None, None) => return Err(ApiError::bad(21421, "PhoneNumber or AreaCode is required")),
    }
    let mut details = Number { dialect: Twilio.name().to_owned(), ..Number::default() };
    resource_fields::change_number(&mut details, parameters)?;
    let row = Arc::new(Resource::new(&account.name, VALID, details));
    Ok((StatusCode::CREATED, Json(resource_fields::number(Owner::new(&Twilio, sid), &row))).into_response())
}
