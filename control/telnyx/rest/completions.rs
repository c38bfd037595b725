//! `/v2/ai/chat/completions` and `/v2/ai/openai/chat/completions`: one question to the language model of an agent. The server
//! passes the request and the answer on, with the model's own name and key.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Map, Value};
use tandem_agent::{Agents, ModelConfig};
use tandem_http::{Request, Timeouts};
use tandem_runtime::app::App;
use tokio::sync::Semaphore;

use super::error::{ApiError, sentence};
use super::parameters::Parameters;
use super::{Caller, Payload, only};

/// Maximum time of a request to the model.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum size of an answer of the model, in octets.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
/// Maximum number of requests at the same time. Further requests are refused.
const MAX_REQUESTS: usize = 64;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v2/ai/chat/completions", only(post(complete)))
        .route("/v2/ai/openai/chat/completions", only(post(complete)))
        .layer(Extension(Arc::new(Semaphore::new(MAX_REQUESTS))))
}

async fn complete(
    State(app): State<App>,
    Caller(account): Caller,
    Extension(places): Extension<Arc<Semaphore>>,
    Payload(body): Payload,
) -> Result<Response, ApiError> {
    let services = app.calls.services();
    let request = request(&services.conversations.agents.load(), body)?;
    let busy = |_| ApiError::too_many_requests("Too many requests to language models run at the same time.");
    let _place = places.try_acquire().map_err(busy)?;
    let answer = services.client.of_account(&account.name).send(&request).await;
    let answer = answer.map_err(|why| ApiError::unavailable(&sentence(format!("the language model failed: {why}"))))?;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    Ok((status, [(header::CONTENT_TYPE, "application/json")], answer.body).into_response())
}

/// The request to the model that an application has named, or to the model of the first agent.
fn request(agents: &Agents, mut body: Map<String, Value>) -> Result<Request, ApiError> {
    let given = Parameters(&body);
    given.get("messages").ok_or_else(|| ApiError::missing("messages"))?;
    given.refuse(&["stream"])?;
    let named = given.text("model")?.and_then(|name| agents.get(name));
    let agent = named.or_else(|| agents.default_agent()).filter(|agent| !agent.model.is_realtime());
    let model: &ModelConfig = &agent
        .ok_or_else(|| {
            ApiError::limit_reached("This server has no language model for chats: see [[agents]] in its configuration.")
        })?
        .model;
    body.remove("model");
    if let Some(name) = &model.name {
        body.insert("model".to_owned(), (&**name).into());
    }
    if let Some(most) = body.remove("max_tokens") {
        body.insert(model.max_tokens_field.to_string(), most);
    }
    for (name, value) in &model.extra {
        body.entry(name).or_insert_with(|| value.clone());
    }
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(model.authorization());
    Ok(Request {
        method: http::Method::POST,
        url: model.endpoint(),
        headers,
        body: Value::Object(body).to_string().into(),
        timeouts: Timeouts { connect: None, total: TIMEOUT },
        max_body: LARGEST_ANSWER,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agents() -> Agents {
        let agent = |name: &str, url: &str| {
            let model = json!({ "url": url, "name": "llama", "key": "k", "extra": { "seed": 1 } });
            serde_json::from_value(json!({ "name": name, "model": model })).unwrap()
        };
        Agents::new([agent("reception", "http://127.0.0.1:1/v1"), agent("night", "http://127.0.0.1:2/v1")]).unwrap()
    }

    fn asked(body: Value) -> Result<Request, ApiError> {
        let Value::Object(body) = body else { panic!() };
        request(&agents(), body)
    }

    #[test]
    fn a_question_goes_to_the_named_model_with_its_own_name_and_key() {
        let messages = json!([{ "role": "user", "content": "Hi" }]);
        let sent = asked(json!({ "model": "night", "messages": messages, "max_tokens": 5, "stream": false })).unwrap();
        assert_eq!(sent.url, "http://127.0.0.1:2/v1/chat/completions");
        assert!(sent.headers.contains(&("Authorization".to_owned(), "Bearer k".to_owned())));
        let body: Value = serde_json::from_slice(&sent.body).unwrap();
        let expected =
            json!({ "model": "llama", "messages": messages, "max_completion_tokens": 5, "seed": 1, "stream": false });
        assert_eq!(body, expected);
        // A model of Telnyx is the first one here.
        let sent = asked(json!({ "model": "openai/gpt-4o", "messages": messages })).unwrap();
        assert_eq!(sent.url, "http://127.0.0.1:1/v1/chat/completions");
    }

    #[test]
    fn a_question_without_messages_and_a_stream_of_pieces_are_refused() {
        assert_eq!(asked(json!({})).unwrap_err().code, 10004);
        assert_eq!(asked(json!({ "messages": [], "stream": true })).unwrap_err().code, 10038);
        let nothing = Agents::default();
        let body = json!({ "messages": [] }).as_object().unwrap().clone();
        assert_eq!(request(&nothing, body).unwrap_err().code, 10027);
    }
}
