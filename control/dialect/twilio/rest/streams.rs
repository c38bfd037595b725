//! `Streams` of a call: create, stop.

use jiff::Timestamp;
use tandem_call::command::Command;
use tandem_call::id::LegId;

use super::super::error::ApiError;
use super::super::{recording, request, sid};
use super::{Answer, Exchange, Verb, ok};

pub(super) async fn answer(x: &Exchange<'_>, leg: LegId, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Post) => create(x, leg).await,
        ([name], Verb::Post) => stop(x, leg, name).await,
        ([] | [_], _) => Err(ApiError::method_not_allowed()),
        _ => Err(x.not_found()),
    }
}

async fn create(x: &Exchange<'_>, id: LegId) -> Answer {
    x.leg(id).await?;
    let spec = request::stream(x.parameters)?;
    let name = spec.name.clone();
    let accepted =
        x.request(id, Command::StartStream { spec, alone: false }).await.map_err(|refused| x.refused(refused))?;
    let stream = accepted.stream.ok_or_else(ApiError::internal)?;
    let account_sid = x.account_sid();
    Ok(ok(recording::stream(account_sid, id, stream, name.as_deref(), "in-progress", Timestamp::now())))
}

async fn stop(x: &Exchange<'_>, id: LegId, name: &str) -> Answer {
    x.leg(id).await?;
    if x.parameters.get("Status") != Some("stopped") {
        return Err(ApiError::bad(20001, "Status is required and must be stopped"));
    }
    let command = match sid::parse_stream(name) {
        Some(stream) => Command::StopStream(Some(stream)),
        None => Command::StopNamedStream(name.to_owned()),
    };
    let accepted = x.request(id, command).await.map_err(|refused| x.refused(refused))?;
    let stream = accepted.stream.ok_or_else(ApiError::internal)?;
    let name = accepted.stream_name.as_deref();
    Ok(ok(recording::stream(x.account_sid(), id, stream, name, "stopped", Timestamp::now())))
}
