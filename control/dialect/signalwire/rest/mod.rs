//! SignalWire's APIs are not served yet. Who asks for them is told so in their own shape of an error, which its libraries show.

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::json;

use crate::app::App;

/// The APIs, by the beginnings of their paths.
const APIS: [&str; 4] = ["/api/laml", "/api/relay", "/api/calling", "/api/fabric"];

/// Their paths, each refused.
pub fn routes() -> Router<App> {
    APIS.iter().fold(Router::new(), |router, api| {
        router.route(api, any(refuse)).route(&format!("{api}/{{*path}}"), any(refuse))
    })
}

/// The compatibility API has one error, the others a list of them.
async fn refuse(uri: Uri) -> Response {
    let path = uri.path();
    let message = format!("SignalWire is not served yet by this server, which speaks Twilio and Telnyx: {path}");
    let body = if path.starts_with("/api/laml") {
        json!({ "code": 20404, "message": message, "more_info": null, "status": 404 })
    } else {
        json!({ "errors": [{ "type": "not_found", "code": "not_found", "message": message, "attribute": null, "url": null }] })
    };
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_api_is_refused_in_its_own_shape() {
        for (path, pointer) in [
            ("/api/laml/2010-04-01/Accounts/x/Calls", "/message"),
            ("/api/calling/calls", "/errors/0/message"),
            ("/api/fabric/subscribers", "/errors/0/message"),
        ] {
            let answer = refuse(path.parse().unwrap()).await;
            assert_eq!(answer.status(), 404, "{path}");
            let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let message = body.pointer(pointer).and_then(|message| message.as_str()).unwrap_or_default();
            assert!(message.contains("SignalWire is not served yet"), "{path}: {body}");
        }
    }
}
