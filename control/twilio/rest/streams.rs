//! `Streams` of a call: create and stop a media stream.

use jiff::Timestamp;
use tandem_call::command::Command;
use tandem_id::LegId;

use super::super::error::ApiError;
use super::super::{recording, request};
use super::{Answer, RestContext, StartOrStop, ok};

pub(super) async fn answer(x: &RestContext<'_>, leg: LegId, below: &[&str]) -> Answer {
    match x.leg_start_or_stop(leg, below).await? {
        StartOrStop::Start => create(x, leg).await,
        StartOrStop::Stop(name) => stop(x, leg, name).await,
    }
}

async fn create(x: &RestContext<'_>, id: LegId) -> Answer {
    let spec = request::stream(x.parameters)?;
    let name = spec.name.clone();
    let accepted = x
        .request(id, Command::StartStream { spec, if_none_runs: false })
        .await
        .map_err(|refused| x.refused(refused))?;
    let stream = accepted.stream.ok_or_else(ApiError::internal)?;
    Ok(ok(recording::stream(x.owner(), id, stream, name.as_deref(), "in-progress", Timestamp::now())))
}

async fn stop(x: &RestContext<'_>, id: LegId, name: &str) -> Answer {
    let command = match x.ids().parse_stream(name) {
        Some(stream) => Command::StopStream(Some(stream)),
        None => Command::StopNamedStream(name.to_owned()),
    };
    let accepted = x.request(id, command).await.map_err(|refused| x.refused(refused))?;
    let stream = accepted.stream.ok_or_else(ApiError::internal)?;
    let name = accepted.stream_name.as_deref();
    Ok(ok(recording::stream(x.owner(), id, stream, name, "stopped", Timestamp::now())))
}
