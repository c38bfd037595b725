//! The 2010 REST API: `/2010-04-01/...`. One route takes them all, so that what does not exist is answered in the API's own
//! words too.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use subtle::ConstantTimeEq;
use tandem_call::command::{Accepted, Command, Refused, Request as LegRequest};
use tandem_call::id::{LegId, RecordingId};
use tandem_call::leg::{LegInfo, Status};
use tandem_call::recording::{Recording, RecordingChannels, RecordingSpec, RecordingStatus};

use super::error::ApiError;
use super::form::Parameters;
use super::list::{self, Paging};
use super::path::{self, Audio, CallRecording, Resource};
use super::request::{self, Change, RecordingUpdate};
use super::{account, call, format, media, recording, sid};
use crate::account::{Account, Accounts, TwilioCredentials};
use crate::app::App;
use crate::new_call::CreateError;
use crate::query::{LegFilter, Page, RecordingFilter};

/// Longest request body, octets.
const MAX_BODY: usize = 256 * 1024;

/// Every path of the API.
pub fn routes() -> Router<App> {
    Router::new().route("/2010-04-01", any(serve)).route("/2010-04-01/{*path}", any(serve))
}

/// Whose credentials a request shows: HTTP Basic with account SID and auth token, compared in constant time.
pub fn caller(accounts: &Accounts, headers: &HeaderMap) -> Option<Arc<Account>> {
    let (username, password) = basic(headers)?;
    let account = accounts.by_twilio_sid(&username)?;
    let auth_token = account.twilio.as_ref()?.auth_token.as_bytes();
    let right = password.as_bytes().ct_eq(auth_token);
    bool::from(right).then_some(account)
}

async fn serve(State(app): State<App>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let encoded = if parts.method == Method::POST {
        // Strangers are not listened to.
        if caller(&app.accounts, &parts.headers).is_none() {
            return identified(ApiError::unauthenticated().into_response());
        }
        match axum::body::to_bytes(body, MAX_BODY).await {
            Ok(body) => body,
            Err(_) => {
                app.calls.services().counters.body_refused();
                return identified(ApiError::bad(20001, "The request body cannot be read").into_response());
            }
        }
    } else {
        parts.uri.query().unwrap_or_default().to_owned().into()
    };
    let exchange = Exchange {
        app: &app,
        method: &parts.method,
        path: parts.uri.path(),
        headers: &parts.headers,
        parameters: Parameters::parse(&encoded),
    };
    identified(exchange.answer().await.unwrap_or_else(IntoResponse::into_response))
}

fn identified(mut response: Response) -> Response {
    let id = format!("RQ{:032x}", rand::random::<u128>());
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("Twilio-Request-Id", id);
    }
    response
}

/// One request.
struct Exchange<'a> {
    app: &'a App,
    method: &'a Method,
    path: &'a str,
    headers: &'a HeaderMap,
    parameters: Parameters,
}

/// Who is logged in.
struct Login {
    account: Arc<Account>,
    credentials: TwilioCredentials,
}

type Answer = Result<Response, ApiError>;

impl Exchange<'_> {
    async fn answer(&self) -> Answer {
        let place = path::parse(self.path);
        let resource = place.as_ref().and_then(|place| place.resource);
        if let (Some(Resource::Audio(id, form)), true) = (resource, self.method != Method::DELETE) {
            let account = place.and_then(|place| place.account).unwrap_or_default();
            return self.audio(account, id, form).await;
        }
        let login = self.login()?;
        let Some(place) = place else { return Err(self.not_found()) };
        if place.account.is_some_and(|account| account != login.credentials.account_sid) {
            return Err(ApiError::unauthenticated());
        }
        let get = matches!(*self.method, Method::GET | Method::HEAD);
        let (post, delete) = (self.method == Method::POST, self.method == Method::DELETE);
        match resource.ok_or_else(|| self.not_found())? {
            Resource::Accounts if get => self.accounts(&login),
            Resource::Account if get => Ok(ok(account::account(&login.account, &login.credentials))),
            Resource::Balance if get => Ok(ok(account::balance(&login.credentials.account_sid))),
            Resource::Calls if get => self.list_calls(&login).await,
            Resource::Calls if post => self.create_call(&login).await,
            Resource::Call(id) if get => {
                let leg = self.leg(&login, id).await?;
                Ok(ok(call::call(&login.credentials.account_sid, &leg)))
            }
            Resource::Call(id) if post => self.update_call(&login, id).await,
            Resource::Call(id) if delete => self.delete_call(&login, id).await,
            Resource::CallRecordings(id) if get => self.list_recordings(&login, Some(id)).await,
            Resource::CallRecordings(id) if post => self.create_recording(&login, id).await,
            Resource::CallRecording(id, which) if get => {
                let recording = self.call_recording(&login, id, which).await?;
                Ok(ok(recording::call_recording(&login.credentials.account_sid, &recording)))
            }
            Resource::CallRecording(id, which) if post => self.update_recording(&login, id, which).await,
            Resource::CallRecording(id, which) if delete => {
                let recording = self.call_recording(&login, id, which).await?;
                self.delete_recording(&login, &recording).await
            }
            Resource::Streams(id) if post => self.create_stream(&login, id).await,
            Resource::Stream(id, name) if post => self.stop_stream(&login, id, name).await,
            Resource::Recordings if get => self.list_recordings(&login, None).await,
            Resource::Recording(id) if get => {
                let recording = self.recording(&login, id).await?;
                Ok(ok(recording::recording(&login.credentials.account_sid, &self.app.public_url, &recording)))
            }
            Resource::Recording(id) | Resource::Audio(id, _) if delete => {
                let recording = self.recording(&login, id).await?;
                self.delete_recording(&login, &recording).await
            }
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    fn login(&self) -> Result<Login, ApiError> {
        let account = caller(&self.app.accounts, self.headers).ok_or_else(ApiError::unauthenticated)?;
        let credentials = account.twilio.clone().ok_or_else(ApiError::unauthenticated)?;
        Ok(Login { account, credentials })
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(self.path)
    }

    fn accounts(&self, login: &Login) -> Answer {
        let paging = Paging::parse(&self.parameters, "AC")?;
        let name_fits = self.parameters.get("FriendlyName").is_none_or(|name| name == &*login.account.name);
        let status_fits = self.parameters.get("Status").is_none_or(|status| status == "active");
        let page = paging.page();
        let here = name_fits && status_fits && page.offset == 0 && page.after.is_none();
        let item = (login.credentials.account_sid.clone(), account::account(&login.account, &login.credentials));
        let items = if here { vec![item] } else { Vec::new() };
        let path = format!("/{}/Accounts.json", path::VERSION);
        Ok(ok(paging.envelope("accounts", &path, &self.parameters, items)))
    }

    async fn leg(&self, login: &Login, id: LegId) -> Result<Arc<LegInfo>, ApiError> {
        self.app.calls.get(&login.account.name, id).await?.ok_or_else(|| self.not_found())
    }

    async fn list_calls(&self, login: &Login) -> Answer {
        let paging = Paging::parse(&self.parameters, "CA")?;
        let filter = leg_filter(&self.parameters)?;
        let Some(filter) = filter else { return Ok(ok(self.list(login, "calls", "Calls", &paging, Vec::new()))) };
        let legs = self.app.calls.list(&login.account.name, &filter, paging.page()).await?;
        let account_sid = &login.credentials.account_sid;
        let items = legs.iter().map(|leg| (sid::call(leg.id), call::call(account_sid, leg))).collect();
        Ok(ok(self.list(login, "calls", "Calls", &paging, items)))
    }

    fn list(
        &self,
        login: &Login,
        key: &'static str,
        name: &str,
        paging: &Paging,
        items: Vec<(String, Value)>,
    ) -> Value {
        let path = format!("/{}/Accounts/{}/{name}.json", path::VERSION, login.credentials.account_sid);
        paging.envelope(key, &path, &self.parameters, items)
    }

    async fn create_call(&self, login: &Login) -> Answer {
        let new = request::new_call(
            &self.parameters,
            &login.account.name,
            self.app.calls.services().routing.get().applications(),
        )?;
        let created = self.app.calls.create(new).await?;
        let body = call::created(&login.credentials.account_sid, &created.leg);
        Ok((StatusCode::CREATED, Json(body)).into_response())
    }

    async fn update_call(&self, login: &Login, id: LegId) -> Answer {
        let leg = self.leg(login, id).await?;
        let update = request::call_update(&self.parameters)?;
        match &update.change {
            Some(Change::Complete) if leg.status.is_final() => return Err(self.not_found()),
            Some(Change::Redirect(_)) if leg.status != Status::InProgress => return Err(cannot_redirect()),
            _ => {}
        }
        if !leg.status.is_final() {
            for command in update.settings {
                self.request(id, command).await.map_err(|refused| self.refused(refused))?;
            }
            let done = match update.change {
                None => Ok(Accepted::default()),
                // Answered or ended meanwhile: no effect, as documented.
                Some(Change::Cancel) => self.request(id, Command::Cancel).await.or(Ok(Accepted::default())),
                Some(Change::Complete) => {
                    self.request(id, Command::Hangup { headers: Vec::new() }).await.map_err(|r| self.refused(r))
                }
                Some(Change::Redirect(command)) => self.request(id, *command).await.map_err(|_| cannot_redirect()),
            };
            done?;
        }
        let leg = self.leg(login, id).await?;
        Ok(ok(call::call(&login.credentials.account_sid, &leg)))
    }

    async fn delete_call(&self, login: &Login, id: LegId) -> Answer {
        let leg = self.leg(login, id).await?;
        if !leg.status.is_final() {
            return Err(ApiError::bad(20009, "Call is still in progress. Cannot delete."));
        }
        let deleted = self.app.calls.delete(&login.account.name, id).await?;
        if deleted { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(self.not_found()) }
    }

    async fn request(&self, id: LegId, command: Command) -> Result<Accepted, Refused> {
        self.app.calls.request(id, LegRequest { client_state: None, command }).await
    }

    fn refused(&self, refused: Refused) -> ApiError {
        match refused {
            Refused::NoSuchLeg | Refused::NotRunning => self.not_found(),
            Refused::Ended | Refused::NotAnswered => ApiError::bad(21220, "Call is not in-progress."),
            Refused::AlreadyAnswered | Refused::AlreadyRunning | Refused::CannotBridge | Refused::NotJoined => {
                ApiError::bad(21220, "The call's state does not allow this.")
            }
            Refused::TooMany => ApiError {
                status: StatusCode::TOO_MANY_REQUESTS,
                code: 20429,
                message: "Too many of these on this call already".into(),
            },
        }
    }

    async fn create_recording(&self, login: &Login, id: LegId) -> Answer {
        let leg = self.leg(login, id).await?;
        let spec = request::call_recording(&self.parameters)?;
        if leg.status != Status::InProgress {
            return Err(ApiError::bad(21220, "Requested resource is not eligible for recording"));
        }
        let accepted = self.request(id, Command::StartRecording(spec.clone())).await;
        let recording = accepted.map_err(|refused| self.refused(refused))?.recording.ok_or_else(ApiError::internal)?;
        let stored = self.app.recordings.get(&login.account.name, recording).await?;
        let facts = stored.unwrap_or_else(|| just_begun(recording, id, spec));
        let body = recording::call_recording(&login.credentials.account_sid, &facts);
        Ok((StatusCode::CREATED, Json(body)).into_response())
    }

    async fn update_recording(&self, login: &Login, id: LegId, which: CallRecording) -> Answer {
        let update = request::recording_update(&self.parameters)?;
        let before = self.call_recording(login, id, which).await?;
        if !matches!(before.status, RecordingStatus::InProgress | RecordingStatus::Paused) {
            return Err(ApiError::bad(21220, "The recording is not in progress."));
        }
        let (command, status) = match update {
            RecordingUpdate::Pause(gap) => (Command::PauseRecording { which: Some(before.id), gap }, "paused"),
            RecordingUpdate::Resume => (Command::ResumeRecording(Some(before.id)), "in-progress"),
            RecordingUpdate::Stop => (Command::StopRecording(Some(before.id)), "stopped"),
        };
        self.request(id, command).await.map_err(|refused| self.refused(refused))?;
        let after = self.app.recordings.get(&login.account.name, before.id).await?.unwrap_or(before);
        let mut body = recording::call_recording(&login.credentials.account_sid, &after);
        // What was asked for is told even if the file is not closed yet.
        if let (None, Some(fields)) = (after.ended_at, body.as_object_mut()) {
            fields.insert("status".into(), status.into());
        }
        Ok(ok(body))
    }

    async fn list_recordings(&self, login: &Login, leg: Option<LegId>) -> Answer {
        let paging = Paging::parse(&self.parameters, "RE")?;
        let account_sid = &login.credentials.account_sid;
        let started = list::range(&self.parameters, "DateCreated")?;
        let mut filter = RecordingFilter { leg, started, ..RecordingFilter::default() };
        let name = match leg {
            Some(id) => {
                self.leg(login, id).await?;
                format!("Calls/{}/Recordings", sid::call(id))
            }
            None => "Recordings".into(),
        };
        // There are no conferences, so nothing was recorded in one.
        let mut nothing = self.parameters.get("ConferenceSid").is_some();
        if let (None, Some(call)) = (leg, self.parameters.get("CallSid")) {
            filter.leg = sid::parse_call(call);
            nothing |= filter.leg.is_none();
        }
        let found = if nothing {
            Vec::new()
        } else {
            self.app.recordings.list(&login.account.name, &filter, paging.page()).await?
        };
        let items = found.iter().map(|facts| {
            let item = match leg {
                Some(_) => recording::call_recording(account_sid, facts),
                None => recording::recording(account_sid, &self.app.public_url, facts),
            };
            (sid::recording(facts.id), item)
        });
        Ok(ok(self.list(login, "recordings", &name, &paging, items.collect())))
    }

    async fn recording(&self, login: &Login, id: RecordingId) -> Result<Recording, ApiError> {
        self.app.recordings.get(&login.account.name, id).await?.ok_or_else(|| self.not_found())
    }

    async fn call_recording(&self, login: &Login, leg: LegId, which: CallRecording) -> Result<Recording, ApiError> {
        match which {
            CallRecording::Id(id) => {
                let recording = self.recording(login, id).await?;
                if recording.leg == leg { Ok(recording) } else { Err(self.not_found()) }
            }
            CallRecording::Current => {
                let filter = RecordingFilter { leg: Some(leg), ..RecordingFilter::default() };
                let page = Page { limit: 1000, after: None, offset: 0 };
                let mut all = self.app.recordings.list(&login.account.name, &filter, page).await?;
                all.retain(|r| matches!(r.status, RecordingStatus::InProgress | RecordingStatus::Paused));
                match (all.pop(), all.is_empty()) {
                    (Some(recording), true) => Ok(recording),
                    (Some(_), false) => Err(ApiError::bad(16108, "Several recordings of this call are active")),
                    (None, _) => Err(self.not_found()),
                }
            }
        }
    }

    async fn delete_recording(&self, login: &Login, recording: &Recording) -> Answer {
        if matches!(recording.status, RecordingStatus::InProgress | RecordingStatus::Paused) {
            return Err(ApiError::bad(20009, "The recording is still in progress. Cannot delete."));
        }
        let deleted = self.app.recordings.delete(&login.account.name, recording.id).await?;
        if deleted { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(self.not_found()) }
    }

    async fn create_stream(&self, login: &Login, id: LegId) -> Answer {
        self.leg(login, id).await?;
        let spec = request::stream(&self.parameters)?;
        let name = spec.name.clone();
        let accepted = self
            .request(id, Command::StartStream { spec, alone: false })
            .await
            .map_err(|refused| self.refused(refused))?;
        let stream = accepted.stream.ok_or_else(ApiError::internal)?;
        let account_sid = &login.credentials.account_sid;
        Ok(ok(recording::stream(account_sid, id, stream, name.as_deref(), "in-progress", Timestamp::now())))
    }

    async fn stop_stream(&self, login: &Login, id: LegId, name: &str) -> Answer {
        self.leg(login, id).await?;
        if self.parameters.get("Status") != Some("stopped") {
            return Err(ApiError::bad(20001, "Status is required and must be stopped"));
        }
        let (known, name) = (sid::parse_stream(name), percent_decode_str(name).decode_utf8_lossy());
        let command = match known {
            Some(stream) => Command::StopStream(Some(stream)),
            None => Command::StopNamedStream(name.to_string()),
        };
        let accepted = self.request(id, command).await.map_err(|refused| self.refused(refused))?;
        let stream = known.or(accepted.stream).ok_or_else(ApiError::internal)?;
        let (account_sid, name) = (&login.credentials.account_sid, known.is_none().then_some(&*name));
        Ok(ok(recording::stream(account_sid, id, stream, name, "stopped", Timestamp::now())))
    }

    /// The audio itself: anonymous, its URL being the secret; but credentials that are shown must be right.
    async fn audio(&self, account_sid: &str, id: RecordingId, form: Audio) -> Answer {
        let head = self.method == Method::HEAD;
        if !head && self.method != Method::GET {
            return Err(ApiError::method_not_allowed());
        }
        if self.headers.contains_key(header::AUTHORIZATION) && self.login()?.credentials.account_sid != account_sid {
            return Err(ApiError::unauthenticated());
        }
        let account = self.app.accounts.by_twilio_sid(account_sid).ok_or_else(|| self.not_found())?;
        let recording = self.app.recordings.get(&account.name, id).await?.ok_or_else(|| self.not_found())?;
        if recording.status != RecordingStatus::Completed {
            return Err(self.not_found());
        }
        let channels = self.parameters.number("RequestedChannels", 1..=2, 20001)?;
        if channels == Some(2) && recording.spec.channels == RecordingChannels::Mono {
            return Err(ApiError::bad(16113, "The recording has one channel only"));
        }
        if form == Audio::Mp3 {
            let audio = self.app.recordings.mp3(&recording).await.map_err(|error| {
                tracing::error!(%error, recording = %id, "a recording cannot be given as MP3");
                ApiError::internal()
            })?;
            return Ok(media::serve(Ok(audio), "audio/mpeg", head, self.headers));
        }
        let audio = self.app.recordings.wav(id, channels == Some(1)).await;
        Ok(media::serve(audio, "audio/x-wav", head, self.headers))
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::NoRoute(to) => {
                Self::bad(21214, format!("'To' number {to} cannot be reached: no trunk takes it"))
            }
            CreateError::NoSuchLeg => Self::bad(21220, "The other call is over"),
            CreateError::Draining => {
                let message = "Service unavailable: the server is shutting down".into();
                Self { status: StatusCode::SERVICE_UNAVAILABLE, code: 20503, message }
            }
            CreateError::Full => {
                let message = "Call concurrency limit exceeded".into();
                Self { status: StatusCode::TOO_MANY_REQUESTS, code: 10004, message }
            }
            CreateError::Store(failed) => failed.into(),
        }
    }
}

/// `None` if nothing can match.
fn leg_filter(parameters: &Parameters) -> Result<Option<LegFilter>, ApiError> {
    let mut filter = LegFilter {
        to: parameters.get("To").map(request::filter_party),
        from: parameters.get("From").map(request::filter_party),
        started: list::range(parameters, "StartTime")?,
        ended: list::range(parameters, "EndTime")?,
        ..LegFilter::default()
    };
    if let Some(parent) = parameters.get("ParentCallSid") {
        filter.parent = sid::parse_call(parent);
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

/// A recording that the store does not know yet.
fn just_begun(id: RecordingId, leg: LegId, spec: RecordingSpec) -> Recording {
    let status = RecordingStatus::InProgress;
    Recording { id, leg, spec, started_at: Timestamp::now(), ended_at: None, duration: None, status }
}

fn cannot_redirect() -> ApiError {
    ApiError::bad(21220, "Call is not in-progress. Cannot redirect.")
}

fn ok(body: Value) -> Response {
    Json(body).into_response()
}

/// User and password of an `Authorization: Basic` header (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
