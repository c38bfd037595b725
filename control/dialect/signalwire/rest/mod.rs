//! SignalWire's newer APIs are not served yet. Who asks for them is told so in the shape of their errors, which its libraries show.

pub(super) mod answer;

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::json;

use crate::app::App;

/// The APIs, by the beginnings of their paths.
const APIS: [&str; 3] = ["/api/relay", "/api/calling", "/api/fabric"];

/// Their paths, each refused.
pub fn routes() -> Router<App> {
    APIS.iter().fold(Router::new(), |router, api| {
        router.route(api, any(refuse)).route(&format!("{api}/{{*path}}"), any(refuse))
    })
}

async fn refuse(uri: Uri) -> Response {
    let path = uri.path();
    let message = format!("This server has SignalWire's Compatibility API (/api/laml), and not {path} yet");
    let error = json!({ "type": "not_found", "code": "not_found", "message": message, "attribute": null, "url": null });
    (StatusCode::NOT_FOUND, Json(json!({ "errors": [error] }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_api_is_refused_in_its_own_shape() {
        for path in ["/api/calling/calls", "/api/fabric/subscribers"] {
            let answer = refuse(path.parse().unwrap()).await;
            assert_eq!(answer.status(), 404, "{path}");
            let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let message = body.pointer("/errors/0/message").and_then(|message| message.as_str()).unwrap_or_default();
            assert!(message.contains(path), "{path}: {body}");
        }
    }
}
