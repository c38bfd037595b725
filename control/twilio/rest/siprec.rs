//! `Siprec` of a call: create and stop a SIPREC session.

use jiff::Timestamp;
use tandem_call::command::Command;
use tandem_id::LegId;

use super::super::error::ApiError;
use super::super::siprec;
use super::{Answer, RestContext, StartOrStop, ok};

pub(super) async fn answer(x: &RestContext<'_>, leg: LegId, below: &[&str]) -> Answer {
    match x.leg_start_or_stop(leg, below).await? {
        StartOrStop::Start => create(x, leg).await,
        StartOrStop::Stop(name) => stop(x, leg, name).await,
    }
}

async fn create(x: &RestContext<'_>, id: LegId) -> Answer {
    let spec = siprec::spec(x.parameters)?;
    let services = x.app.calls.services();
    let (account, parent) = (&x.account.name, services.accounts.parent(&x.account.name));
    if services.siprec.load_full().find(&spec.connector, account, parent.as_ref()).is_none() {
        let message = format!("ConnectorName: there is no connector {:?}", spec.connector);
        return Err(ApiError::bad(siprec::NO_CONNECTOR, message));
    }
    let accepted = x.request(id, Command::StartSiprec(spec)).await.map_err(|refused| x.refused(refused))?;
    let begun = accepted.siprec.ok_or_else(ApiError::internal)?;
    Ok(ok(siprec::resource(x.owner(), id, &begun, "in-progress", Timestamp::now())))
}

async fn stop(x: &RestContext<'_>, id: LegId, name: &str) -> Answer {
    let command = match x.ids().parse_siprec(name) {
        Some(session) => Command::StopSiprec(session),
        None => Command::StopNamedSiprec(name.to_owned()),
    };
    let accepted = x.request(id, command).await.map_err(|refused| x.refused(refused))?;
    let stopped = accepted.siprec.ok_or_else(ApiError::internal)?;
    Ok(ok(siprec::resource(x.owner(), id, &stopped, "stopped", Timestamp::now())))
}
