//! `POST /console/legs/{id}`: what a person does to a live call in the web console.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use tandem_call::address::Address;
use tandem_call::command::{Command, Refused, Request};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::LegInfo;
use tandem_call::program::instruction::{AfterBridge, Dial, DialTarget};
use tandem_runtime::app::App;

use super::{QueryError, Scope};
use crate::access::Changer;
use crate::session::refused;

/// Maximum time until the target of a transfer answers, and the maximum duration of the call with it.
const ANSWER: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(4 * 3_600);

pub(super) fn routes() -> Router<App> {
    Router::new().route("/console/legs/{id}", post(act))
}

/// An action on a live leg.
#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
enum Action {
    /// Ends the leg.
    HangUp,
    /// Nobody hears the far end.
    Mute,
    /// The others hear the far end again.
    Unmute,
    /// Calls a number or a user, and bridges the leg with it. The leg's document ends.
    Transfer { to: String },
}

impl Action {
    fn command(self, leg: &LegInfo) -> Result<Command, &'static str> {
        Ok(match self {
            Self::HangUp => Command::Hangup { headers: HeaderFields::new() },
            Self::Mute => Command::Mute(true),
            Self::Unmute => Command::Mute(false),
            Self::Transfer { to } => {
                let to = Address::from(to.trim());
                if matches!(to, Address::Name(_)) {
                    return Err("not a number, a SIP URI or client:NAME");
                }
                Command::Transfer(Box::new(transfer(leg, to)))
            }
        })
    }
}

/// The dial of a transfer. The target sees the number that the far end has called, or from which it was called.
fn transfer(leg: &LegInfo, to: Address) -> Dial {
    let own = leg.to.clone();
    Dial {
        targets: vec![DialTarget::new(to)],
        queue: None,
        sequential: false,
        timeout: ANSWER,
        time_limit: Some(LONGEST),
        caller_name: None,
        caller_id: Some(own),
        answer_on_bridge: true,
        ring_tone: Some("us".into()),
        hangup_on_star: false,
        record: None,
        action: None,
        after: AfterBridge::Hangup,
        pass_failure: false,
        refer: None,
    }
}

/// `POST /console/legs/{id}`: mutes, unmutes, transfers or ends a live leg.
async fn act(
    State(app): State<App>,
    Changer(scope): Changer,
    Path(id): Path<String>,
    Json(action): Json<Action>,
) -> Response {
    let leg = match find(&app, &scope, &id).await {
        Ok(leg) => leg,
        Err(response) => return *response,
    };
    let command = match action.command(&leg) {
        Ok(command) => command,
        Err(text) => return refused(StatusCode::BAD_REQUEST, text),
    };
    match app.calls.request(leg.id, Request { client_state: None, command }).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(why @ (Refused::NoSuchLeg | Refused::Ended)) => refused(StatusCode::NOT_FOUND, &why.to_string()),
        Err(why) => refused(StatusCode::CONFLICT, &why.to_string()),
    }
}

/// Finds a live leg that the client sees.
async fn find(app: &App, scope: &Scope, id: &str) -> Result<std::sync::Arc<LegInfo>, Box<Response>> {
    let leg = app.calls.services().dialects.parse_call_id(id);
    let leg = match leg {
        Some(leg) => app.calls.find(leg).await,
        None => Ok(None),
    };
    match leg {
        Ok(Some(leg)) if scope.sees(&leg.account) => Ok(leg),
        Ok(_) => Err(Box::new(refused(StatusCode::NOT_FOUND, "no such call"))),
        Err(failed) => Err(Box::new(QueryError::from(failed).into_response())),
    }
}
