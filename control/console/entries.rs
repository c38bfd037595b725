//! `/console/entries/{list}`: the numbers, applications, trunks, phones and agents of the configuration. The entries of the file
//! are only shown. The others are made, changed and removed here, and take effect at once.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tandem_id::AccountName;
use tandem_runtime::app::App;
use tandem_settings::entry::{Entry, EntryChange, EntryList, EntryRefused, Fields, ShownEntry};

use super::{Scope, json};
use crate::access::{Denied, Itself};
use crate::session::refused;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/console/entries/{list}", get(list).post(create))
        .route("/console/entries/{list}/{id}", put(change).delete(remove))
}

#[derive(Deserialize)]
struct Asked {
    /// Whether the entry is only checked.
    #[serde(default)]
    check: bool,
}

#[derive(Serialize)]
struct Entries {
    entries: Vec<ShownEntry>,
}

#[derive(Serialize)]
struct Changed {
    id: String,
    /// The entry as text for the configuration file, without secrets.
    text: String,
    notes: Vec<String>,
}

/// Returns the account whose entries the client may change. `None` stands for all entries. An account itself changes only its
/// applications and its phones: the other entries decide about the calls of other accounts, or about the cost.
fn owner(scope: &Scope, list: EntryList) -> Result<Option<AccountName>, Denied> {
    match list {
        _ if scope.is_operator() => Ok(None),
        EntryList::Applications | EntryList::Endpoints => Ok(Some(scope.account().clone())),
        EntryList::Numbers | EntryList::Trunks | EntryList::Agents => Err(Denied::NoOperator),
    }
}

async fn list(State(app): State<App>, Itself(scope): Itself, Path(list): Path<EntryList>) -> Response {
    let owner = match owner(&scope, list) {
        Ok(owner) => owner,
        Err(denied) => return denied.into_response(),
    };
    match app.configuration.entries(list).await {
        Some(Ok(mut entries)) => {
            entries.retain(|entry| owner.is_none() || entry.account == owner);
            json(&Entries { entries })
        }
        Some(Err(why)) => refused(StatusCode::SERVICE_UNAVAILABLE, &why),
        None => unserved(),
    }
}

async fn create(
    State(app): State<App>,
    itself: Itself,
    Path(list): Path<EntryList>,
    Query(asked): Query<Asked>,
    Json(fields): Json<Fields>,
) -> Response {
    apply(&app, itself, list, None, Some(fields), asked.check).await
}

async fn change(
    State(app): State<App>,
    itself: Itself,
    Path((list, id)): Path<(EntryList, String)>,
    Query(asked): Query<Asked>,
    Json(fields): Json<Fields>,
) -> Response {
    apply(&app, itself, list, Some(&id), Some(fields), asked.check).await
}

async fn remove(
    State(app): State<App>,
    itself: Itself,
    Path((list, id)): Path<(EntryList, String)>,
    Query(asked): Query<Asked>,
) -> Response {
    apply(&app, itself, list, Some(&id), None, asked.check).await
}

async fn apply(
    app: &App,
    Itself(scope): Itself,
    list: EntryList,
    id: Option<&str>,
    fields: Option<Fields>,
    is_check: bool,
) -> Response {
    let owner = match owner(&scope, list) {
        Ok(owner) => owner,
        Err(denied) => return denied.into_response(),
    };
    let id = match id.map(|id| u128::from_str_radix(id, 16)).transpose() {
        Ok(id) => id,
        Err(_) => return unknown(),
    };
    let entry = fields.map(|fields| Entry { list, fields });
    let Some(changed) = app.configuration.change(EntryChange { id, entry, owner, is_check }).await else {
        return unserved();
    };
    match changed {
        Ok(changed) => json(&Changed { id: format!("{:032x}", changed.id), text: changed.text, notes: changed.notes }),
        Err(EntryRefused::Unknown) => unknown(),
        Err(EntryRefused::Faults(faults)) => {
            let message = faults.first().map_or("", |fault| &fault.message);
            let body = serde_json::json!({ "message": message, "faults": faults });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
        Err(EntryRefused::TooMany(max)) => {
            let text = format!("there are {max} entries, the maximum; applications can make more numbers with the API");
            refused(StatusCode::CONFLICT, &text)
        }
        Err(EntryRefused::Failed(why)) => refused(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn unknown() -> Response {
    refused(StatusCode::NOT_FOUND, "there is no such entry, or the configuration file has it")
}

fn unserved() -> Response {
    refused(StatusCode::SERVICE_UNAVAILABLE, "the server cannot change its configuration now; try again")
}
