//! `IncomingPhoneNumbers`: those that the account holds and those that the file gives it.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use tandem_call::address::Address;

use super::super::error::ApiError;
use super::super::family::Owner;
use super::super::holding;
use super::{Answer, Exchange, Verb, held, ok};
use crate::config::NumberConfig;
use crate::holdings::{self, NotHeld, Number, Voice};
use crate::markup::party;
use crate::number_pool::NumberKind;
use crate::store::resources::Resource;

/// The lists of one kind of number.
const KINDS: [(&str, NumberKind); 3] =
    [("Local", NumberKind::Local), ("Mobile", NumberKind::Mobile), ("TollFree", NumberKind::TollFree)];

pub(super) async fn answer(x: &Exchange<'_>, below: &[&str]) -> Answer {
    let kind = |name: &str| KINDS.iter().find(|(known, _)| *known == name).copied();
    match (below, x.verb) {
        ([], Verb::Get) => list(x, "IncomingPhoneNumbers", None),
        ([], Verb::Post) => create(x).await,
        ([name], verb) => match (kind(name), verb) {
            (Some((name, kind)), Verb::Get) => list(x, &format!("IncomingPhoneNumbers/{name}"), Some(kind)),
            (Some(_), Verb::Post) => create(x).await,
            (None, verb) => one(x, name, verb).await,
            _ => Err(ApiError::method_not_allowed()),
        },
        ([], _) => Err(ApiError::method_not_allowed()),
        _ => Err(x.not_found()),
    }
}

fn list(x: &Exchange<'_>, name: &str, kind: Option<NumberKind>) -> Answer {
    let beta = x.parameters.get("Beta").is_some().then(|| x.parameters.flag("Beta", false)).transpose()?;
    let fits = |row: &Arc<Resource<Number>>| {
        kind.is_none_or(|kind| holding::kind(row) == kind)
            && x.parameters.get("PhoneNumber").is_none_or(|pattern| holding::contains(&row.name, pattern))
            && x.parameters.get("FriendlyName").is_none_or(|name| name == row.details.friendly_name)
            && x.parameters.get("Origin").is_none_or(|origin| origin.eq_ignore_ascii_case(holding::ORIGIN))
            && beta.is_none_or(|beta| beta == holding::is_beta(&row.details))
    };
    let rows = numbers(x).into_iter().filter(fits).collect();
    held::page(x, ("incoming_phone_numbers", name, "PN"), rows, |row| holding::number(x.owner(), row))
}

async fn create(x: &Exchange<'_>) -> Answer {
    let mut details = Number { dialect: x.provider.name().to_owned(), ..Number::default() };
    let candidates = match (x.parameters.get("PhoneNumber"), x.parameters.get("AreaCode")) {
        (Some(text), _) => vec![free(x, text)?],
        (None, Some(area)) => in_area(x, area)?,
        (None, None) => return Err(ApiError::bad(21421, "PhoneNumber or AreaCode is required")),
    };
    check(x)?;
    holding::change_number(&mut details, x.parameters)?;
    for number in &candidates {
        let pooled = x.routing().pool().find(&x.taker(), number).map(holding::pooled);
        let mut details = details.clone();
        details.other.extend(pooled.unwrap_or_default());
        if details.friendly_name.is_empty() {
            details.friendly_name = holding::name_of(number);
        }
        let row = Resource::new(&x.account.name, number, details);
        match x.holdings().numbers.put(x.store(), row).await {
            Ok(row) => return Ok((StatusCode::CREATED, Json(holding::number(x.owner(), &row))).into_response()),
            // Somebody was faster.
            Err(NotHeld::Taken) if candidates.len() > 1 => {}
            Err(error) => return Err(held::not_held(error, unavailable(number))),
        }
    }
    Err(ApiError::bad(21452, "No phone numbers found in area code"))
}

/// The number, if the account may take it: nobody has it, and it is in the pool if there is one.
fn free(x: &Exchange<'_>, text: &str) -> Result<String, ApiError> {
    let number = match party::north_american(text) {
        Some(Address::Phone(number)) if number.is_e164() => number.to_string(),
        _ => return Err(ApiError::bad(21421, format!("PhoneNumber is invalid: {text}"))),
    };
    let routing = x.routing();
    let pool = routing.pool();
    let offered = pool.is_open() || pool.find(&x.taker(), &number).is_some();
    if offered && !routing.is_taken(&x.account.name, &number) { Ok(number) } else { Err(unavailable(&number)) }
}

fn in_area(x: &Exchange<'_>, area: &str) -> Result<Vec<String>, ApiError> {
    /// How many are tried when others take numbers at the same time.
    const TRIES: usize = 16;
    let routing = x.routing();
    let taker = x.taker();
    let numbers = routing.pool().numbers(&taker, |_| true);
    let fits = |number: &str| holding::area_code(number).is_some_and(|code| code == area);
    let free = numbers
        .filter(|(number, _)| fits(number) && !routing.is_taken(&x.account.name, number))
        .map(|(number, _)| number);
    let found: Vec<String> = free.take(TRIES).collect();
    match found.is_empty() {
        true => Err(ApiError::bad(21452, format!("No phone numbers found in area code {area}"))),
        false => Ok(found),
    }
}

fn unavailable(number: &str) -> ApiError {
    ApiError::bad(21422, format!("{number} is not available"))
}

async fn one(x: &Exchange<'_>, name: &str, verb: Verb) -> Answer {
    let id = x.ids().parse("PN", name).ok_or_else(|| x.not_found())?;
    let row = numbers(x).into_iter().find(|row| row.id == id).ok_or_else(|| x.not_found())?;
    match verb {
        Verb::Get => Ok(ok(holding::number(x.owner(), &row))),
        Verb::Post => update(x, &row).await,
        Verb::Delete if holdings::is_of_the_file(&row) => Err(held::in_the_file(&row.name)),
        Verb::Delete => match x.holdings().numbers.delete(x.store(), &x.account.name, id).await? {
            true => Ok(StatusCode::NO_CONTENT.into_response()),
            false => Err(x.not_found()),
        },
        Verb::Other => Err(ApiError::method_not_allowed()),
    }
}

async fn update(x: &Exchange<'_>, row: &Resource<Number>) -> Answer {
    let mut row = held::changed(row);
    check(x)?;
    holding::change_number(&mut row.details, x.parameters)?;
    let mut account_sid = x.account_sid().to_owned();
    if let Some(sid) = x.parameters.get("AccountSid").filter(|sid| *sid != account_sid) {
        let heir = x.heir(sid)?;
        if is_in_the_file(x, &row.name) {
            return Err(held::in_the_file(&row.name));
        }
        row.account = heir.name.to_string();
        sid.clone_into(&mut account_sid);
        // They are the giver's.
        let stays = |id: &String| x.parameters.get("VoiceApplicationSid") == Some(id);
        row.details.application = row.details.application.filter(stays);
        row.details.trunk = None;
    }
    Ok(ok(holding::number(Owner::new(x.provider, &account_sid), &*keep(x, row).await?)))
}

/// Keeps a changed number; of one of the file, only what was changed. Calls feel it at once.
pub(super) async fn keep(x: &Exchange<'_>, mut row: Resource<Number>) -> Result<Arc<Resource<Number>>, ApiError> {
    let floor = of_the_file(x).into_iter().find(|floor| floor.name == row.name && floor.account == row.account);
    if let Some(floor) = &floor {
        row.details = row.details.without(&floor.details);
    }
    let taken = unavailable(&row.name);
    let kept = x.holdings().numbers.put(x.store(), row).await.map_err(|error| held::not_held(error, taken))?;
    Ok(over(kept, floor.as_ref()))
}

fn over(held: Arc<Resource<Number>>, floor: Option<&Resource<Number>>) -> Arc<Resource<Number>> {
    match floor {
        Some(floor) => Arc::new(Resource { details: held.details.over(&floor.details), ..(*held).clone() }),
        None => held,
    }
}

/// What a form names must be there.
fn check(x: &Exchange<'_>) -> Result<(), ApiError> {
    if let Some(text) = x.parameters.get("TrunkSid") {
        let trunk = x.ids().parse("TK", text);
        let pbxs = x.routing().phones().pbxs();
        trunk
            .and_then(|id| pbxs.get(&x.account.name, id))
            .ok_or_else(|| ApiError::bad(20001, format!("TrunkSid {text} is not valid")))?;
    }
    if let Some(sid) = x.parameters.get("VoiceApplicationSid") {
        let owner = match x.parameters.get("AccountSid") {
            Some(account) if account != x.account_sid() => x.heir(account)?.name.clone(),
            _ => Arc::clone(&x.account.name),
        };
        x.routing()
            .application(&owner, x.provider.name(), sid)
            .ok_or_else(|| ApiError::bad(21218, format!("VoiceApplicationSid {sid} is not valid")))?;
    }
    Ok(())
}

/// All numbers of the account that are not only beginnings of numbers.
pub(super) fn numbers(x: &Exchange<'_>) -> Vec<Arc<Resource<Number>>> {
    let (routing, mut file) = (x.routing(), of_the_file(x));
    let held = x.holdings().numbers.all(&x.account.name).into_iter().filter(|row| !routing.is_anothers(row));
    let mut numbers: Vec<_> = held
        .map(|row| {
            let place = file.iter().position(|floor| floor.name == row.name);
            over(row, place.map(|place| file.swap_remove(place)).as_ref())
        })
        .collect();
    numbers.extend(file.into_iter().map(Arc::new));
    numbers
}

/// What the file says of the account's numbers, but for those whose applications speak other words.
fn of_the_file(x: &Exchange<'_>) -> Vec<Resource<Number>> {
    let routing = x.routing();
    let own = |number: &&NumberConfig| number.account == x.account.name;
    let provider = |one: &NumberConfig| {
        let id = one.application.as_ref()?;
        routing.applications().iter().find(|app| app.id == *id).map(|app| Arc::clone(&app.provider))
    };
    let ours = |one: &&NumberConfig| {
        provider(one).or_else(|| one.provider.clone()).is_none_or(|name| &*name == x.provider.name())
    };
    let row = |config: &NumberConfig| {
        let number = config.number.exact()?;
        let details = Number {
            friendly_name: holding::name_of(number),
            dialect: x.provider.name().to_owned(),
            voice: Voice::from(config),
            application: config.application.as_deref().map(str::to_owned),
            ..Number::default()
        };
        let id = holdings::file_id(&config.account, number);
        Some(holdings::of_the_file(id, &config.account, number, details))
    };
    routing.configured().filter(own).filter(ours).filter_map(row).collect()
}

fn is_in_the_file(x: &Exchange<'_>, number: &str) -> bool {
    x.routing().configured().any(|one| one.number.exact() == Some(number))
}
