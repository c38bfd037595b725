//! `/v2/media`: audio files that the account stores on the server. An application plays such a file by its
//! `media_name`.

use axum::body::Body;
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, RawQuery, Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tandem_accounts::Account;
use tandem_audio as audio;
use tandem_audio::stored_media::{MAX_FILE_OCTETS, NotStored, StoredFile};
use tandem_host::clock;
use tandem_runtime::app::App;
use tandem_store::StoreFailed;
use tandem_store::resources::Resource;

use super::super::error::ApiError;
use super::super::parameters::{Parameters, WEB};
use super::super::{Caller, Payload, Segments, only};
use super::listing::{ListFields, Listing};
use crate::{id, time};

/// Maximum size of a multipart body in octets. The body has the file and the file's headers.
const LARGEST_BODY: usize = MAX_FILE_OCTETS + 64 * 1024;
/// `DEFAULT_LIFETIME` is the default lifetime of a file: two days, in seconds. `MAX_LIFETIME` is the maximum lifetime:
/// 20 years, in seconds.
const DEFAULT_LIFETIME: u32 = 2 * 24 * 3_600;
const MAX_LIFETIME: u32 = 630_720_000;
const LONGEST_NAME: usize = 255;
const LIST_FIELDS: ListFields =
    ListFields { filters: &[("content_type", "/content_type")], sorts: &[("-created_at", "/created_at")] };

type Row = Resource<StoredFile>;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v2/media", only(get(list).post(create)))
        .route("/v2/media/{name}", only(get(show).put(update).delete(remove)))
        .route("/v2/media/{name}/download", only(get(download)))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
}

/// A request that uploads or changes a file.
#[derive(Default)]
struct Upload {
    name: Option<String>,
    life: Option<u32>,
    /// The content of the file, and its content type.
    content: Option<(Bytes, Option<String>)>,
    /// The URL of the content. The server fetches the content from this URL.
    url: Option<String>,
}

impl FromRequest<App> for Upload {
    type Rejection = ApiError;

    async fn from_request(request: HttpRequest, app: &App) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.to_ascii_lowercase().starts_with("multipart/form-data") {
            let form = Multipart::from_request(request, app).await;
            let form = form.map_err(|error| ApiError::bad_value("media", error.body_text()))?;
            return Self::of_form(form).await.inspect_err(|_| app.calls.services().counters.body_refused());
        }
        let Payload(body) = Payload::from_request(request, app).await?;
        let parameters = Parameters(&body);
        Ok(Self {
            name: parameters.text("media_name")?.map(str::to_owned),
            life: parameters.integer("ttl_secs", 1..=MAX_LIFETIME)?,
            content: None,
            url: parameters.url("media_url", WEB)?,
        })
    }
}

impl Upload {
    async fn of_form(mut form: Multipart) -> Result<Self, ApiError> {
        let unreadable = |error: MultipartError| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            _ => ApiError::bad_value("media", error.body_text()),
        };
        let mut upload = Self::default();
        while let Some(field) = form.next_field().await.map_err(unreadable)? {
            match field.name().unwrap_or_default() {
                "media" => {
                    let kind = field.content_type().map(str::to_owned);
                    upload.content = Some((field.bytes().await.map_err(unreadable)?, kind));
                }
                "media_name" => upload.name = Some(field.text().await.map_err(unreadable)?),
                "ttl_secs" => {
                    let text = field.text().await.map_err(unreadable)?;
                    let number = text.trim().parse().map_err(|_| ApiError::wrong_type("ttl_secs", "integer"))?;
                    if !(1..=MAX_LIFETIME).contains(&number) {
                        return Err(ApiError::out_of_range("ttl_secs", 1, MAX_LIFETIME.into()));
                    }
                    upload.life = Some(number);
                }
                _ => {}
            }
        }
        Ok(upload)
    }

    /// The content and the content type of the file. If the request has a URL, the server downloads the content. `None`
    /// if the request has no file.
    async fn content(&mut self, app: &App, account: &Account) -> Result<Option<(Bytes, String)>, ApiError> {
        let (field, (bytes, kind)) = match (self.content.take(), &self.url) {
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_value("media_url", "Only one source of media may be given."));
            }
            (Some(content), None) => ("media", content),
            (None, Some(url)) => {
                let client = app.calls.services().client.of_account(&account.name);
                let fetched = audio::file(&client, url, MAX_FILE_OCTETS).await;
                ("media_url", fetched.map_err(|error| ApiError::audio_download_failed("media_url", error.to_string()))?)
            }
            (None, None) => return Ok(None),
        };
        if bytes.is_empty() {
            return Err(ApiError::bad_value(field, "The file is empty."));
        }
        if bytes.len() > MAX_FILE_OCTETS {
            return Err(too_large());
        }
        let kind = kind.filter(|kind| is_content_type(kind)).unwrap_or_else(|| "application/octet-stream".to_owned());
        Ok(Some((bytes, kind)))
    }
}

async fn list(
    State(app): State<App>,
    Caller(account): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let listing = Listing::parse(query.as_deref().unwrap_or_default())?;
    let rows = app.stored_media.all(&account.name, clock::time());
    listing.answer(rows.iter().map(|row| shown(row)).collect(), &LIST_FIELDS)
}

async fn create(
    State(app): State<App>,
    Caller(account): Caller,
    mut upload: Upload,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let name = match upload.name.take().filter(|name| !name.is_empty()) {
        Some(name) => checked(name)?,
        None => id::uuid_v4(rand::random()),
    };
    let content = upload.content(&app, &account).await?.ok_or_else(|| ApiError::missing("media_url"))?;
    let services = app.calls.services();
    let kept = app.stored_media.add(&services.store, &account.name, &name, content, expiry(upload.life)).await;
    Ok((StatusCode::CREATED, Json(json!({ "data": shown(&*kept?) }))))
}

async fn show(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(name): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "data": shown(&*found(&app, &account, &name)?) })))
}

async fn update(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(name): Segments<String>,
    mut upload: Upload,
) -> Result<Json<Value>, ApiError> {
    let row = found(&app, &account, &name)?;
    let content = upload.content(&app, &account).await?;
    let expires_at = match (upload.life, &content) {
        (None, None) => row.details.expires_at,
        (life, _) => expiry(life),
    };
    let services = app.calls.services();
    let changed = app.stored_media.change(&services.store, &row, content, expires_at).await?;
    Ok(Json(json!({ "data": shown(&changed) })))
}

async fn remove(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let row = found(&app, &account, &name)?;
    let services = app.calls.services();
    let deleted = app.stored_media.delete(&services.store, &row).await.map_err(StoreFailed::from)?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::no_resource()) }
}

/// Returns the file without changes.
async fn download(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(name): Segments<String>,
) -> Result<Response, ApiError> {
    let row = found(&app, &account, &name)?;
    let path = app.stored_media.path(&row.details);
    let bytes = tokio::fs::read(&path).await.map_err(|error| {
        tracing::error!("{} cannot be read: {error}", path.display());
        ApiError::no_resource()
    })?;
    // These headers stop a browser from guessing another content type.
    let headers =
        [(header::CONTENT_TYPE, row.details.content_type.clone()), (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into())];
    Ok((headers, Body::from(bytes)).into_response())
}

fn found(app: &App, account: &Account, name: &str) -> Result<std::sync::Arc<Row>, ApiError> {
    let found = app.stored_media.find(&account.name, name, clock::time());
    found.ok_or_else(ApiError::no_resource)
}

/// Checks that a media name can be part of a URL path.
fn checked(name: String) -> Result<String, ApiError> {
    if name.chars().count() > LONGEST_NAME {
        return Err(ApiError::wrong_length("media_name", 1, LONGEST_NAME));
    }
    match name.chars().any(|c| c.is_control() || c == '/') || name == "." || name == ".." {
        true => Err(ApiError::bad_value("media_name", "The name must not contain slashes or control characters.")),
        false => Ok(name),
    }
}

fn is_content_type(text: &str) -> bool {
    (1..=127).contains(&text.len()) && text.contains('/') && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

fn expiry(life: Option<u32>) -> Timestamp {
    let life = SignedDuration::from_secs(life.unwrap_or(DEFAULT_LIFETIME).into());
    clock::time().checked_add(life).unwrap_or(Timestamp::MAX)
}

fn too_large() -> ApiError {
    ApiError::bad_value("media", "A file may have at most 20 MB.")
}

fn shown(row: &Row) -> Value {
    json!({
        "media_name": row.name,
        "content_type": row.details.content_type,
        "created_at": time(row.created_at),
        "updated_at": time(row.updated_at),
        "expires_at": time(row.details.expires_at),
    })
}

impl From<NotStored> for ApiError {
    fn from(why: NotStored) -> Self {
        match why {
            NotStored::NameTaken => Self::duplicate("media_name", "A medium with this name already exists."),
            NotStored::Full => Self::limit_reached(why.to_string()),
            NotStored::Disk(error) => {
                tracing::error!(%error, "a medium could not be written");
                Self::unavailable("The file could not be written.")
            }
            NotStored::Store(error) => StoreFailed::from(error).into(),
        }
    }
}
