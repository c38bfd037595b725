//! `Calls`: list, create, fetch, update and delete calls. Requests for a resource below a call are forwarded to the
//! module of this resource.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use tandem_call::command::{Accepted, Command};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::Status;
use tandem_history::query::LegFilter;
use tandem_host::clock;
use tandem_http::exchange;
use tandem_id::LegId;
use tandem_operations::calls;
use tandem_runtime::reporting::ProblemOwner;

use super::super::error::{ApiError, allow};
use super::super::form::Parameters;
use super::super::list::{self};
use super::super::request::{self, Change};
use super::super::{call, format};
use super::{
    Answer, RestContext, Verb, events, notifications, ok, recordings, siprec, streams, transcriptions,
    user_defined_messages,
};

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    let Some((name, below)) = below.split_first() else {
        return match x.verb {
            Verb::Get => list(x).await,
            Verb::Post => create(x).await,
            _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
        };
    };
    let id = x.ids().parse_call(name).ok_or_else(|| x.not_found())?;
    match (below, x.verb) {
        ([], Verb::Get) => Ok(ok(call::call(x.owner(), &*x.leg(id).await?))),
        ([], Verb::Post) => update(x, id).await,
        ([], Verb::Delete) => delete(x, id).await,
        ([], Verb::Other) => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
        (["Recordings", below @ ..], _) => recordings::of_call_answer(x, id, below).await,
        (["Siprec", below @ ..], _) => siprec::answer(x, id, below).await,
        (["Streams", below @ ..], _) => streams::answer(x, id, below).await,
        (["Events", below @ ..], _) => events::answer(x, id, below).await,
        (["Notifications", below @ ..], _) => notifications::answer(x, Some(id), below).await,
        (["Transcriptions", below @ ..], _) => transcriptions::live(x, id, below).await,
        (["UserDefinedMessages", below @ ..], _) => user_defined_messages::messages(x, id, below).await,
        (["UserDefinedMessageSubscriptions", below @ ..], _) => {
            user_defined_messages::subscriptions(x, id, below).await
        }
        _ => Err(x.not_found()),
    }
}

async fn list(x: &RestContext<'_>) -> Answer {
    let paging = x.paging("CA")?;
    let filter = leg_filter(x.parameters)?;
    let Some(filter) = filter else { return Ok(ok(x.list("calls", "Calls", &paging, Vec::new()))) };
    let legs = x.app.calls.list(&x.account.name, &filter, paging.page()).await?;
    let items = legs.iter().map(|leg| (x.ids().call(leg.id), call::call(x.owner(), leg))).collect();
    Ok(ok(x.list("calls", "Calls", &paging, items)))
}

async fn create(x: &RestContext<'_>) -> Answer {
    let (account, routing) = (&x.account.name, x.app.calls.services().routing.load_full());
    let new = request::new_call(x.parameters, account, &|sid| routing.application(account, x.provider.name(), sid))?;
    let began = clock::time();
    let leg = calls::place(&x.app.calls, new, request::passed_on(x.parameters)).await?.leg;
    let body = call::created(x.owner(), &leg);
    let exchange = exchange(x, began, StatusCode::CREATED, &body.to_string());
    x.warn(ProblemOwner::from(&*leg), Some(&exchange), request::warnings(x.parameters));
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// The request that creates a call, together with the answer, for a notification. The value of `SipAuthPassword` is
/// masked.
fn exchange(x: &RestContext<'_>, began: Timestamp, status: StatusCode, body: &str) -> exchange::HttpExchange {
    let secret = |name: &str| name == "SipAuthPassword";
    let pairs = x
        .parameters
        .pairs()
        .map(|(name, value)| (name.to_owned(), if secret(name) { "***".to_owned() } else { value.to_owned() }));
    let elapsed = clock::time().duration_since(began).unsigned_abs();
    let (url, pairs) = (format!("{}{}", x.app.public_url, x.path), pairs.collect::<Vec<_>>());
    let mut exchange = exchange::HttpExchange::new(began, "POST", &url, &pairs, elapsed);
    exchange.answer = Some(exchange::HttpAnswer::ours(status.as_u16(), "application/json", body));
    exchange
}

async fn update(x: &RestContext<'_>, id: LegId) -> Answer {
    let leg = x.leg(id).await?;
    let update = request::call_update(x.parameters)?;
    match &update.change {
        Some(Change::Complete) if leg.status.is_final() => return Err(x.not_found()),
        Some(Change::Redirect(_)) if leg.status != Status::InProgress => return Err(cannot_redirect()),
        _ => {}
    }
    if !leg.status.is_final() {
        for command in update.settings {
            x.request(id, command).await.map_err(|refused| x.refused(refused))?;
        }
        let done = match update.change {
            None => Ok(Accepted::default()),
            // If the call was answered or has ended in the meantime, `canceled` has no effect, as Twilio documents.
            Some(Change::Cancel) => x.request(id, Command::Cancel).await.or(Ok(Accepted::default())),
            Some(Change::Complete) => {
                x.request(id, Command::Hangup { headers: HeaderFields::new() }).await.map_err(|r| x.refused(r))
            }
            Some(Change::Redirect(command)) => x.request(id, *command).await.map_err(|_| cannot_redirect()),
        };
        done?;
    }
    let leg = x.leg(id).await?;
    Ok(ok(call::call(x.owner(), &leg)))
}

async fn delete(x: &RestContext<'_>, id: LegId) -> Answer {
    let live = "Call is still in progress. Cannot delete.";
    calls::delete(&x.app.calls, &x.account.name, id).await.map_err(|why| x.not_deleted(why, live))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The filter of a list of calls. `None` if no call can match.
pub(super) fn leg_filter(parameters: &Parameters) -> Result<Option<LegFilter>, ApiError> {
    let mut filter = LegFilter {
        to: parameters.get("To").map(request::filter_party),
        from: parameters.get("From").map(request::filter_party),
        // The resource shows the time of the answer as `start_time`.
        answered: list::range(parameters, "StartTime")?,
        ended: list::range(parameters, "EndTime")?,
        ..LegFilter::default()
    };
    if let Some(parent) = parameters.get("ParentCallSid") {
        filter.parent = parameters.ids().parse_call(parent);
        if filter.parent.is_none() {
            return Ok(None);
        }
    }
    if let Some(status) = parameters.get("Status") {
        let states = format::parse_status(status);
        filter.status = states.ok_or_else(|| ApiError::bad(20001, format!("Status is not valid: {status}")))?.to_vec();
    }
    Ok(Some(filter))
}

fn cannot_redirect() -> ApiError {
    ApiError::bad(21220, "Call is not in-progress. Cannot redirect.")
}
