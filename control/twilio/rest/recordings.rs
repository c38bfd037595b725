//! `Recordings` of an account or a call: list, create, fetch, update and delete recordings. This module also answers
//! requests for a recording's audio.

use axum::Json;
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;
use jiff::Timestamp;
use tandem_call::command::Command;
use tandem_call::leg::Status;
use tandem_call::recording::{Recording, RecordingChannels, RecordingSpec, RecordingStatus};
use tandem_history::query::{Page, RecordingFilter};
use tandem_id::{CallId, LegId, RecordingId};
use tandem_runtime::reporting::ProblemOwner;

use super::super::error::{ApiError, allow};
use super::super::family::Provider;
use super::super::list::{self};
use super::super::path::Path;
use super::super::request::{self, RecordingUpdate};
use super::super::{media, recording};
use super::{Answer, Request, RestContext, Verb, ok, transcriptions};

/// The requested audio format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Audio {
    /// The extension `.wav`, or no extension.
    Wav,
    /// The extension `.mp3`.
    Mp3,
}

/// The name of a call's recording in a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RecordingName {
    /// The recording with this SID.
    Id(RecordingId),
    /// `Twilio.CURRENT`: the only running recording.
    Current,
}

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => list(x, None).await,
        ([name], verb) => {
            let recording = found(x, x.ids().parse_recording(audio_name(name).0).ok_or_else(|| x.not_found())?).await?;
            match verb {
                Verb::Get => Ok(ok(recording::recording(x.owner(), &x.app.public_url, &recording))),
                Verb::Delete => delete(x, &recording).await,
                _ => Err(ApiError::method_not_allowed(allow::GET_DELETE)),
            }
        }
        ([name, "Transcriptions", below @ ..], _) => {
            let recording = found(x, x.ids().parse_recording(name).ok_or_else(|| x.not_found())?).await?;
            transcriptions::answer(x, Some(recording.id), below).await
        }
        ([], _) => Err(ApiError::method_not_allowed(allow::GET)),
        _ => Err(x.not_found()),
    }
}

pub(super) async fn of_call_answer(x: &RestContext<'_>, leg: LegId, below: &[&str]) -> Answer {
    let which = match below {
        [] => {
            return match x.verb {
                Verb::Get => list(x, Some(leg)).await,
                Verb::Post => create(x, leg).await,
                _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
            };
        }
        ["Twilio.CURRENT"] => RecordingName::Current,
        [name] => RecordingName::Id(x.ids().parse_recording(name).ok_or_else(|| x.not_found())?),
        _ => return Err(x.not_found()),
    };
    match x.verb {
        Verb::Get => Ok(ok(recording::call_recording(x.owner(), &x.app.public_url, &of_call(x, leg, which).await?))),
        Verb::Post => update(x, leg, which).await,
        Verb::Delete => delete(x, &of_call(x, leg, which).await?).await,
        Verb::Other => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
    }
}

/// The recording and the audio format, if the path names a recording's audio. Such a path has an audio extension. If
/// this provider's recording URLs have no extension, such a path may also have no extension.
pub(super) fn audio(provider: &dyn Provider, path: &Path<'_>) -> Option<(RecordingId, Audio)> {
    let ids = provider.ids();
    let below: Vec<&str> = path.below.iter().map(AsRef::as_ref).collect();
    let (name, bare_is_audio) = match below[..] {
        ["Recordings", name] => (name, !path.json && provider.audio_extension().is_empty()),
        ["Calls", call, "Recordings", name] if ids.parse_call(call).is_some() => (name, false),
        ["Conferences", of, "Recordings", name] if ids.parse_conference(of).is_some() => (name, false),
        _ => return None,
    };
    match audio_name(name) {
        (name, Some(audio)) => Some((ids.parse_recording(name)?, audio)),
        (name, None) if bare_is_audio => Some((ids.parse_recording(name)?, Audio::Wav)),
        _ => None,
    }
}

fn audio_name(name: &str) -> (&str, Option<Audio>) {
    let forms = [(".wav", Audio::Wav), (".mp3", Audio::Mp3)];
    let found = forms.iter().find_map(|(extension, audio)| Some((name.strip_suffix(extension)?, Some(*audio))));
    found.unwrap_or((name, None))
}

async fn create(x: &RestContext<'_>, id: LegId) -> Answer {
    let leg = x.leg(id).await?;
    let spec = request::call_recording(x.parameters)?;
    if leg.status != Status::InProgress {
        return Err(ApiError::bad(21220, "Requested resource is not eligible for recording"));
    }
    let accepted = x.request(id, Command::StartRecording(spec.clone())).await;
    let recording = accepted.map_err(|refused| x.refused(refused))?.recording.ok_or_else(ApiError::internal)?;
    let stored = x.app.recordings.get(&x.account.name, recording).await?;
    let facts = stored.unwrap_or_else(|| just_begun(recording, id, spec));
    x.warn(ProblemOwner::from(&*leg), None, request::recording_warnings(x.parameters));
    let body = recording::call_recording(x.owner(), &x.app.public_url, &facts);
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

async fn update(x: &RestContext<'_>, id: LegId, which: RecordingName) -> Answer {
    let update = request::recording_update(x.parameters)?;
    let before = of_call(x, id, which).await?;
    if !matches!(before.status, RecordingStatus::InProgress | RecordingStatus::Paused) {
        return Err(ApiError::bad(21220, "The recording is not in progress."));
    }
    let (command, status) = match update {
        RecordingUpdate::Pause(pause_behavior) => {
            (Command::PauseRecording { which: Some(before.id), pause_behavior }, "paused")
        }
        RecordingUpdate::Resume => (Command::ResumeRecording(Some(before.id)), "in-progress"),
        RecordingUpdate::Stop => (Command::StopRecording(Some(before.id)), "stopped"),
    };
    x.request(id, command).await.map_err(|refused| x.refused(refused))?;
    let after = x.app.recordings.get(&x.account.name, before.id).await?.unwrap_or(before);
    let mut body = recording::call_recording(x.owner(), &x.app.public_url, &after);
    // The answer has the requested status even if the recording's file is not closed yet.
    if let Some(fields) = body.as_object_mut() {
        fields.insert("status".into(), status.into());
    }
    Ok(ok(body))
}

async fn list(x: &RestContext<'_>, leg: Option<LegId>) -> Answer {
    let paging = x.paging("RE")?;
    let started = list::range_to(x.parameters, "DateCreated")?;
    let mut filter = RecordingFilter { leg, started, ..RecordingFilter::default() };
    let name = match leg {
        Some(id) => {
            x.leg(id).await?;
            format!("Calls/{}/Recordings", x.ids().call(id))
        }
        None => "Recordings".into(),
    };
    let mut nothing = false;
    if let Some(conference) = x.parameters.get("ConferenceSid") {
        // The store keeps the conference's id as the call id of the conference's recordings.
        filter.session = x.ids().parse_conference(conference).map(|id| CallId(id.0));
        nothing = filter.session.is_none();
    }
    if let (None, Some(call)) = (leg, x.parameters.get("CallSid")) {
        filter.leg = x.ids().parse_call(call);
        nothing |= filter.leg.is_none();
    }
    let found =
        if nothing { Vec::new() } else { x.app.recordings.list(&x.account.name, &filter, paging.page()).await? };
    let items = found.iter().map(|facts| {
        let item = match leg {
            Some(_) => recording::call_recording(x.owner(), &x.app.public_url, facts),
            None => recording::recording(x.owner(), &x.app.public_url, facts),
        };
        (x.ids().recording(facts.id), item)
    });
    Ok(ok(x.list("recordings", &name, &paging, items.collect())))
}

async fn found(x: &RestContext<'_>, id: RecordingId) -> Result<Recording, ApiError> {
    x.app.recordings.get(&x.account.name, id).await?.ok_or_else(|| x.not_found())
}

async fn of_call(x: &RestContext<'_>, leg: LegId, which: RecordingName) -> Result<Recording, ApiError> {
    match which {
        RecordingName::Id(id) => {
            let recording = found(x, id).await?;
            if recording.leg == leg { Ok(recording) } else { Err(x.not_found()) }
        }
        RecordingName::Current => {
            let filter = RecordingFilter { leg: Some(leg), ..RecordingFilter::default() };
            let page = Page { limit: 1000, after: None, offset: 0 };
            let mut all = x.app.recordings.list(&x.account.name, &filter, page).await?;
            // A recording of the conference does not belong to the call.
            all.retain(|r| r.conference.is_none());
            all.retain(|r| matches!(r.status, RecordingStatus::InProgress | RecordingStatus::Paused));
            match (all.pop(), all.is_empty()) {
                (Some(recording), true) => Ok(recording),
                (Some(_), false) => Err(ApiError::bad(16108, "Several recordings of this call are active")),
                (None, _) => Err(x.not_found()),
            }
        }
    }
}

pub(super) async fn delete(x: &RestContext<'_>, recording: &Recording) -> Answer {
    let live = "The recording is still in progress. Cannot delete.";
    let deleted = tandem_operations::recordings::delete(&x.app.recordings, &x.account.name, recording).await;
    deleted.map_err(|why| x.not_deleted(why, live))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Answers with the audio of a recording. Credentials are optional unless `recordings.require_credentials` is set,
/// because the URL itself is secret. Wrong credentials are an error in any case.
pub(super) async fn serve(x: &Request<'_>, account_sid: &str, id: RecordingId, form: Audio) -> Answer {
    let head = *x.method == Method::HEAD;
    if !head && *x.method != Method::GET {
        return Err(ApiError::method_not_allowed(allow::GET));
    }
    let account = match x.headers.contains_key(header::AUTHORIZATION) || !x.app.recordings.are_open() {
        true => x.subject(&x.login()?, Some(account_sid), &["Recordings"])?,
        false => x.provider.account(&x.app.accounts, account_sid).ok_or_else(|| x.not_found())?,
    };
    let recording = x.app.recordings.get(&account.name, id).await?.ok_or_else(|| x.not_found())?;
    if !recording.has_audio() {
        return Err(x.not_found());
    }
    let channels = x.parameters.number("RequestedChannels", 1..=2, 20001)?;
    if channels == Some(2) && recording.spec.channels == RecordingChannels::Mono {
        return Err(ApiError::bad(16113, "The recording has only one channel"));
    }
    if form == Audio::Mp3 {
        let audio = x.app.recordings.mp3(&recording).await.map_err(|error| media::unreadable(&error))?;
        return Ok(media::serve(Ok(audio), "audio/mpeg", head, x.headers));
    }
    let audio = x.app.recordings.wav(id, channels == Some(1)).await;
    Ok(media::serve(audio, "audio/x-wav", head, x.headers))
}

/// A recording that has just started and is not yet in the store.
fn just_begun(id: RecordingId, leg: LegId, spec: RecordingSpec) -> Recording {
    let status = RecordingStatus::InProgress;
    Recording {
        id,
        leg,
        conference: None,
        spec,
        started_at: Timestamp::now(),
        ended_at: None,
        duration: None,
        limit: None,
        status,
    }
}
