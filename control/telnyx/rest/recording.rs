//! `/v2/recordings`: lists, fetches, downloads and deletes recordings.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tandem_call::leg::LegInfo;
use tandem_call::recording::Recording;
use tandem_history::query::{Page, RecordingFilter};
use tandem_history::recordings::passing_fault;
use tandem_id::{AccountName, CallId, LegId, RecordingId};
use tandem_runtime::app::App;

use super::error::ApiError;
use super::paging::Paging;
use super::parameters::Parameters;
use super::{Caller, Payload, Segments};
use crate::{id, time, webhook};

/// Maximum number of recordings that one request deletes.
const MAX_DELETED: usize = 1_000;

/// `GET /v2/recordings`: lists recordings.
pub(super) async fn list(
    State(app): State<App>,
    Caller(account): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let (rows, total) = match query.filter {
        Some(filter) => {
            let page = Page { limit: query.page.size, after: None, offset: query.page.offset() };
            let rows = app.recordings.list(&account.name, &filter, page).await?;
            (rows, app.recordings.count(&account.name, &filter).await?)
        }
        None => (Vec::new(), 0),
    };
    let mut legs: HashMap<LegId, Option<Arc<LegInfo>>> = HashMap::new();
    let mut data = Vec::new();
    for recording in rows.iter().take(query.page.size) {
        let leg = match legs.get(&recording.leg) {
            Some(leg) => leg.clone(),
            None => {
                let leg = app.calls.get(&account.name, recording.leg).await?;
                legs.insert(recording.leg, leg.clone());
                leg
            }
        };
        data.push(resource(recording, leg.as_deref(), &app.public_url));
    }
    Ok(Json(json!({ "data": data, "meta": query.page.meta(total) })))
}

/// `GET /v2/recordings/{id}`: one recording.
pub(super) async fn get(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(recording): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "data": one(&app, &account.name, &recording).await? })))
}

/// `DELETE /v2/recordings/{id}`: deletes a recording. Returns the deleted recording.
pub(super) async fn delete(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(recording): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let gone = one(&app, &account.name, &recording).await?;
    let recording = parse(&recording)?;
    if app.recordings.delete(&account.name, recording).await? {
        Ok(Json(json!({ "data": gone })))
    } else {
        Err(ApiError::no_recording())
    }
}

/// `POST /v2/recordings/actions/delete`: deletes several recordings. Unknown ids are skipped.
pub(super) async fn delete_several(
    State(app): State<App>,
    Caller(account): Caller,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let ids = Parameters(&body).get("ids").ok_or_else(|| ApiError::missing("ids"))?;
    let ids = ids.as_array().ok_or_else(|| ApiError::wrong_type("ids", "array"))?;
    if ids.len() > MAX_DELETED {
        return Err(ApiError::out_of_range("ids", 1, 1_000));
    }
    for recording in ids {
        let recording = recording.as_str().ok_or_else(|| ApiError::wrong_type("ids", "array"))?;
        if let Some(recording) = id::parse_uuid(recording) {
            app.recordings.delete(&account.name, RecordingId(recording)).await?;
        }
    }
    Ok(Json(json!({ "status": "ok" })))
}

/// `GET /v2/recordings/{id}/download.{mp3|wav}`: the audio of a recording. If `recordings.require_credentials` is not
/// set, the client needs no credentials, because the id itself is secret.
pub(super) async fn download(
    State(app): State<App>,
    headers: HeaderMap,
    Segments((recording, file)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let recording = parse(&recording)?;
    let known = match app.recordings.are_open() {
        true => app.recordings.get_public(recording).await?,
        false => {
            let account = super::caller(&app.accounts, &headers).ok_or_else(ApiError::unauthenticated)?;
            app.recordings.get(&account.name, recording).await?
        }
    };
    let known = known.filter(|known| known.has_audio()).ok_or_else(ApiError::no_recording)?;
    let lost = |error: std::io::Error| {
        let Some(cause) = passing_fault(&error) else {
            tracing::error!(%recording, %error, "a recording's audio cannot be read");
            return ApiError::no_recording();
        };
        tracing::warn!(%recording, %error, "a recording's audio cannot be read now");
        ApiError::no_audio_now(cause)
    };
    let (audio, kind) = match file.as_str() {
        "download.mp3" => (app.recordings.mp3(&known).await.map_err(lost)?, "audio/mpeg"),
        "download.wav" => (app.recordings.wav(recording, false).await.map_err(lost)?, "audio/wav"),
        _ => return Err(ApiError::no_resource()),
    };
    let length = audio.len();
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    Ok((headers, Body::from_stream(audio.read(0, length))).into_response())
}

fn parse(recording: &str) -> Result<RecordingId, ApiError> {
    id::parse_uuid(recording).map(RecordingId).ok_or_else(ApiError::no_recording)
}

async fn one(app: &App, account: &AccountName, recording: &str) -> Result<Value, ApiError> {
    let recording = app.recordings.get(account, parse(recording)?).await?;
    let recording = recording.filter(|recording| recording.has_audio()).ok_or_else(ApiError::no_recording)?;
    let leg = app.calls.get(account, recording.leg).await?;
    Ok(resource(&recording, leg.as_deref(), &app.public_url))
}

/// The Recording resource. `leg` is `None` if the database no longer has the leg.
fn resource(recording: &Recording, leg: Option<&LegInfo>, public_url: &str) -> Value {
    let format = webhook::format(recording.spec.format);
    let milliseconds = recording.duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    let ended_at = recording.ended_at.unwrap_or(recording.started_at);
    json!({
        "id": id::uuid(recording.id.0),
        "record_type": "recording",
        "call_control_id": id::call_control_id(recording.leg),
        "call_leg_id": id::uuid(recording.leg.0),
        "call_session_id": leg.map(|leg| id::uuid(leg.session.0)),
        "conference_id": recording.conference.map(|conference| id::uuid(conference.0)),
        "connection_id": leg.and_then(|leg| leg.application.as_deref()),
        "channels": webhook::channels(recording.spec.channels),
        "source": if recording.conference.is_some() { "conference" } else { "call" },
        "status": "completed",
        "duration_millis": milliseconds,
        "download_urls": { format: webhook::download_url(public_url, recording) },
        "from": leg.map(|leg| leg.from.to_string()),
        "to": leg.map(|leg| leg.to.to_string()),
        "initiated_by": leg.and_then(|leg| leg.application.as_deref()),
        "recording_started_at": time(recording.started_at),
        "recording_ended_at": recording.ended_at.map(time),
        "created_at": time(recording.started_at),
        "updated_at": time(ended_at),
    })
}

/// The query of a list.
#[derive(PartialEq, Debug)]
struct Query {
    /// The filter for the database. `None` if no recording can match.
    filter: Option<RecordingFilter>,
    page: Paging,
}

impl Query {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut filter = RecordingFilter { completed: true, ..RecordingFilter::default() };
        let (mut page, mut possible) = (Paging::default(), true);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let name = &*name;
            if page.takes(name, &value)? {
                continue;
            }
            match name {
                "filter[call_control_id]" => match id::parse_call_control_id(&value) {
                    Some(leg) => filter.leg = Some(leg),
                    None => possible = false,
                },
                "filter[call_leg_id]" => match id::parse_uuid(&value) {
                    Some(leg) => filter.leg = Some(LegId(leg)),
                    None => possible = false,
                },
                "filter[call_session_id]" => match id::parse_uuid(&value) {
                    Some(session) => filter.session = Some(CallId(session)),
                    None => possible = false,
                },
                "filter[from]" => filter.from = Some(value.into_owned()),
                "filter[to]" => filter.to = Some(value.into_owned()),
                // The store keeps the conference's id as the call id of the conference's recordings.
                "filter[conference_id]" => match id::parse_uuid(&value) {
                    Some(conference) => filter.session = Some(CallId(conference)),
                    None => possible = false,
                },
                name if name.starts_with("filter[") => by_time(&mut filter, name, &value)?,
                _ => {}
            }
        }
        Ok(Self { filter: possible.then_some(filter), page })
    }
}

/// Adds a filter for a time. The creation time of a recording is the time at which the recording started.
fn by_time(filter: &mut RecordingFilter, name: &str, value: &str) -> Result<(), ApiError> {
    let unknown = || ApiError::not_permitted(name).in_query(name);
    let (field, bound) = name.strip_prefix("filter[").and_then(|rest| rest.split_once(']')).ok_or_else(unknown)?;
    let range = match field {
        "created_at" | "start_time" => &mut filter.started,
        "end_time" => &mut filter.ended,
        _ => return Err(unknown()),
    };
    match bound {
        "[gte]" => range.from = Some(parse_time(name, value)?),
        "[gt]" => range.from = Some(just_after(parse_time(name, value)?)),
        "[lt]" => range.until = Some(parse_time(name, value)?),
        "[lte]" => range.until = Some(just_after(parse_time(name, value)?)),
        _ => return Err(unknown()),
    }
    Ok(())
}

/// Parses a time or a date. A date means the start of that day in UTC.
fn parse_time(name: &str, value: &str) -> Result<Timestamp, ApiError> {
    let day = || value.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let time = value.parse().ok().or_else(|| day().map(|day| day.timestamp()));
    time.ok_or_else(|| ApiError::wrong_type(name, "date-time").in_query(name))
}

fn just_after(at: Timestamp) -> Timestamp {
    at.checked_add(SignedDuration::from_micros(1)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, LEG, leg};
    use std::time::Duration;
    use tandem_call::recording::{RecordingChannels, RecordingSource, RecordingSpec, RecordingStatus};

    fn recording() -> Recording {
        Recording {
            id: RecordingId(LEG.0 + 1),
            leg: LEG,
            conference: None,
            spec: RecordingSpec::new(RecordingSource::Request, RecordingChannels::Dual),
            started_at: "2026-11-21T02:00:01Z".parse().unwrap(),
            ended_at: Some("2026-11-21T02:00:04Z".parse().unwrap()),
            duration: Some(Duration::from_secs(3)),
            limit: None,
            status: RecordingStatus::Completed,
        }
    }

    #[test]
    fn a_recording_has_the_published_fields() {
        let shown = resource(&recording(), Some(&leg()), "http://127.0.0.1:8080");
        let expected = json!({
            "id": "1af5aabe-a9b8-11f0-bb0d-02420a1f0a6a", "record_type": "recording",
            "call_control_id": id::call_control_id(LEG), "call_leg_id": "1af5aabe-a9b8-11f0-bb0d-02420a1f0a69",
            "call_session_id": "1af5a4ce-a9b8-11f0-8e2d-02420a1f0a69", "conference_id": null,
            "connection_id": "1000000000000000001", "channels": "dual", "source": "call", "status": "completed",
            "duration_millis": 3000,
            "download_urls": {
                "wav": "http://127.0.0.1:8080/v2/recordings/1af5aabe-a9b8-11f0-bb0d-02420a1f0a6a/download.wav",
            },
            "from": "+15551230001", "to": "+15551230002", "initiated_by": "1000000000000000001",
            "recording_started_at": "2026-11-21T02:00:01.000000Z", "recording_ended_at": "2026-11-21T02:00:04.000000Z",
            "created_at": "2026-11-21T02:00:01.000000Z", "updated_at": "2026-11-21T02:00:04.000000Z",
        });
        assert_eq!(shown, expected);
        let Some(document) = fixture::published() else { return };
        let known = &document["components"]["schemas"]["RecordingResponseData"]["properties"];
        for member in shown.as_object().unwrap().keys() {
            assert!(!known[member].is_null(), "{member}");
        }
    }

    #[test]
    fn filters_and_pages_of_the_recording_list_are_parsed_or_refused() {
        let all = Query::parse("").unwrap();
        let completed = RecordingFilter { completed: true, ..RecordingFilter::default() };
        assert_eq!(all, Query { filter: Some(completed.clone()), page: Paging { number: 1, size: 20 } });
        let parties = Query::parse("filter[from]=%2B1555&filter[to]=alice").unwrap();
        let filter = RecordingFilter { from: Some("+1555".into()), to: Some("alice".into()), ..completed };
        assert_eq!(parties.filter, Some(filter));
        let query = format!(
            "page%5Bnumber%5D=2&page[size]=250&filter[call_control_id]={}&filter[created_at][gte]=2026-11-21\
             &filter[created_at][lte]=2026-11-21T03:00:00Z&unknown=1",
            id::call_control_id(LEG)
        );
        let query = Query::parse(&query).unwrap();
        let filter = query.filter.unwrap();
        assert_eq!((query.page, filter.leg), (Paging { number: 2, size: 250 }, Some(LEG)));
        assert_eq!(filter.started.from, Some("2026-11-21T00:00:00Z".parse().unwrap()));
        assert_eq!(filter.started.until, Some("2026-11-21T03:00:00.000001Z".parse().unwrap()));
        let times = Query::parse("filter[end_time][gte]=2026-11-21&filter[start_time][lt]=2026-11-22").unwrap();
        let RecordingFilter { started, ended, .. } = times.filter.unwrap();
        assert_eq!(ended.from, Some("2026-11-21T00:00:00Z".parse().unwrap()));
        assert_eq!(started.until, Some("2026-11-22T00:00:00Z".parse().unwrap()));
        assert_eq!(Query::parse("filter[call_leg_id]=nothing").unwrap().filter, None);
        for (query, code) in [
            ("page[size]=251", 10033),
            ("page[number]=0", 10033),
            ("page[number]=x", 10033),
            ("filter[created_at][gte]=x", 10026),
            ("filter[connection_id]=1", 10038),
            ("filter[end_time][eq]=2026-11-21", 10038),
        ] {
            assert_eq!(Query::parse(query).unwrap_err().code, code, "{query}");
        }
    }
}
