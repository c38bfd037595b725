//! SignalWire's newer APIs. This server supports the Calling API, the SIP endpoints and the tokens of pages. A request to
//! another API gets an error in the format of that API, because SignalWire's libraries show such an error.

pub(super) mod answer;
mod endpoints;
mod relay_tokens;
mod subscribers;

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tandem_accounts::{Account, Accounts};
use tandem_runtime::app::App;

use super::SignalWire;

/// The unsupported APIs, by path prefix.
const APIS: [&str; 2] = ["/api/relay", "/api/fabric"];

/// The routes of the Calling API, the SIP endpoints and the tokens of pages. All other paths are refused.
pub fn routes() -> Router<App> {
    let own =
        super::calling::routes().merge(endpoints::routes()).merge(subscribers::routes()).merge(relay_tokens::routes());
    APIS.iter().fold(own, |router, api| router.route(api, any(refuse)).route(&format!("{api}/{{*path}}"), any(refuse)))
}

/// The account of the project and the token in the request.
pub(super) fn account(accounts: &Accounts, headers: &HeaderMap) -> Option<Arc<Account>> {
    let account = tandem_twilio::rest::caller(&SignalWire, accounts, headers)?;
    let own = account.signalwire.as_ref()?;
    // The account may also have credentials for other providers of Twilio's family. These credentials are not valid
    // here.
    let expected = STANDARD.encode(format!("{}:{}", own.project_id, own.api_token));
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?.1.trim();
    (shown == expected).then_some(account)
}

async fn refuse(uri: Uri) -> Response {
    let path = uri.path();
    let message = format!(
        "This server supports SignalWire's Compatibility API (/api/laml) and Calling API (/api/calling/calls), but not {path}"
    );
    let error = json!({ "type": "not_found", "code": "not_found", "message": message, "attribute": null, "url": null });
    (StatusCode::NOT_FOUND, Json(json!({ "errors": [error] }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_api_has_its_own_form_of_a_404() {
        for path in ["/api/relay/rest/phone_numbers", "/api/fabric/subscribers"] {
            let answer = refuse(path.parse().unwrap()).await;
            assert_eq!(answer.status(), 404, "{path}");
            let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let message = body.pointer("/errors/0/message").and_then(|message| message.as_str()).unwrap_or_default();
            assert!(message.contains(path), "{path}: {body}");
        }
    }
}
