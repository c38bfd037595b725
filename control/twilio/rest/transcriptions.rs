//! `Transcriptions` of recordings (list, fetch, delete), and live transcriptions of a call (create, stop).

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use jiff::Timestamp;
use tandem_call::command::Command;
use tandem_call::leg::Status;
use tandem_id::{LegId, RecordingId};
use tandem_operations::recordings;
use tandem_runtime::transcripts::TRANSCRIPTS;
use tandem_store::resources::{self, Filter};

use super::super::error::{ApiError, allow};
use super::super::transcription;
use super::{Answer, RestContext, StartOrStop, Verb, ok};

/// Answers requests for the transcriptions of the account. If `of` is given, the answer has only the transcriptions of
/// this recording.
pub(super) async fn answer(x: &RestContext<'_>, of: Option<RecordingId>, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => {
            let name = of.map_or_else(
                || "Transcriptions".to_owned(),
                |id| format!("Recordings/{}/Transcriptions", x.ids().recording(id)),
            );
            let filter = Filter { parent: of.map(|id| id.0), ..Filter::default() };
            let represent = |row: &_| transcription::transcript(x.owner(), row);
            x.resources(TRANSCRIPTS, ("transcriptions", &name, "TR"), &filter, represent).await
        }
        ([name], verb) => one(x, of, name, verb).await,
        ([], _) => Err(ApiError::method_not_allowed(allow::GET)),
        _ => Err(x.not_found()),
    }
}

async fn one(x: &RestContext<'_>, of: Option<RecordingId>, name: &str, verb: Verb) -> Answer {
    let (name, plain) = name.strip_suffix(".txt").map_or((name, false), |name| (name, true));
    let id = x.ids().parse_transcript(name).ok_or_else(|| x.not_found())?;
    let found = resources::get(x.store(), TRANSCRIPTS, &x.account.name, id.0).await?;
    let row = found.filter(|row| of.is_none_or(|of| row.parent == Some(of.0))).ok_or_else(|| x.not_found())?;
    match verb {
        Verb::Get if plain => {
            let text = transcription::text(&row.details).unwrap_or_default();
            Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
        }
        Verb::Get => Ok(ok(transcription::transcript(x.owner(), &row))),
        Verb::Delete => {
            let deleted = recordings::delete_transcript(x.services(), &x.account.name, id.0).await?;
            if deleted { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(x.not_found()) }
        }
        Verb::Post | Verb::Other => Err(ApiError::method_not_allowed(allow::GET_DELETE)),
    }
}

/// Answers requests for the live transcriptions of a call.
pub(super) async fn live(x: &RestContext<'_>, leg: LegId, below: &[&str]) -> Answer {
    match x.leg_start_or_stop(leg, below).await? {
        StartOrStop::Start => create(x, leg).await,
        StartOrStop::Stop(name) => stop(x, leg, name).await,
    }
}

async fn create(x: &RestContext<'_>, id: LegId) -> Answer {
    let leg = x.leg(id).await?;
    let spec = transcription::spec(x.parameters)?;
    if leg.status != Status::InProgress {
        return Err(ApiError::bad(21220, "Call is not in-progress."));
    }
    let name = spec.name.clone();
    let accepted = x.request(id, Command::StartTranscription(Box::new(spec))).await;
    let begun = accepted.map_err(|refused| x.refused(refused))?.transcription.ok_or_else(ApiError::internal)?;
    let now = Timestamp::now();
    Ok(ok(transcription::live(x.owner(), id, begun, name.as_deref(), "in-progress", now)))
}

async fn stop(x: &RestContext<'_>, id: LegId, name: &str) -> Answer {
    let known = x.ids().parse_transcription(name);
    let command = match known {
        Some(transcription) => Command::StopTranscription(transcription),
        None => Command::StopNamedTranscription(name.to_owned()),
    };
    let accepted = x.request(id, command).await.map_err(|refused| x.refused(refused))?;
    let stopped = known.or(accepted.transcription).ok_or_else(ApiError::internal)?;
    let name = known.is_none().then_some(name);
    Ok(ok(transcription::live(x.owner(), id, stopped, name, "stopped", Timestamp::now())))
}
