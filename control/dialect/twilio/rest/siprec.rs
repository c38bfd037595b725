//! `Siprec` of a call: create, stop.

use jiff::Timestamp;
use tandem_call::command::Command;
use tandem_call::id::LegId;

use super::super::error::ApiError;
use super::super::{sid, siprec};
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
    let spec = siprec::spec(x.parameters)?;
    let services = x.app.calls.services();
    let (account, parent) = (&x.account.name, services.accounts.parent(&x.account.name));
    if services.siprec.get().find(&spec.connector, account, parent.as_deref()).is_none() {
        let message = format!("ConnectorName: there is no connector {:?}", spec.connector);
        return Err(ApiError::bad(siprec::NO_CONNECTOR, message));
    }
    let accepted = x.request(id, Command::StartSiprec(spec)).await.map_err(|refused| x.refused(refused))?;
    let begun = accepted.siprec.ok_or_else(ApiError::internal)?;
    Ok(ok(siprec::resource(x.account_sid(), id, &begun, "in-progress", Timestamp::now())))
}

async fn stop(x: &Exchange<'_>, id: LegId, name: &str) -> Answer {
    x.leg(id).await?;
    if x.parameters.get("Status") != Some("stopped") {
        return Err(ApiError::bad(20001, "Status is required and must be stopped"));
    }
    let command = match sid::parse_siprec(name) {
        Some(session) => Command::StopSiprec(session),
        None => Command::StopNamedSiprec(name.to_owned()),
    };
    let accepted = x.request(id, command).await.map_err(|refused| x.refused(refused))?;
    let stopped = accepted.siprec.ok_or_else(ApiError::internal)?;
    Ok(ok(siprec::resource(x.account_sid(), id, &stopped, "stopped", Timestamp::now())))
}
