//! Tokens of the gateway's older variant. A token is valid for 5 minutes. A token allows one request or one WebSocket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tandem_host::clock;

use super::Starlis;
use crate::{header, text};

const TOKEN_LIFETIME: Duration = Duration::from_secs(300);
/// Maximum number of stored tokens. At this number, expired tokens are removed. If no token has expired, the oldest
/// token is removed.
const MAX_TOKENS: usize = 10_000;

/// The issued tokens. Each token has the time of its issue, and a flag that says whether the token has been used.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<String, (Instant, bool)>>);

impl Tokens {
    fn give(&self, now: Instant) -> String {
        let token = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        let mut known = self.0.lock();
        if known.len() >= MAX_TOKENS {
            known.retain(|_, (given, _)| now.duration_since(*given) < TOKEN_LIFETIME);
        }
        if known.len() >= MAX_TOKENS
            && let Some(oldest) = known.iter().min_by_key(|(_, (given, _))| *given).map(|(token, _)| token.clone())
        {
            known.remove(&oldest);
        }
        known.insert(token.clone(), (now, false));
        token
    }

    /// Marks a token as used. The error is a text for the user.
    fn spend(&self, token: Option<&str>, now: Instant) -> Result<(), &'static str> {
        let token = token.filter(|token| !token.is_empty()).ok_or("No token provided")?;
        match self.0.lock().get_mut(token) {
            Some((given, used)) if now.duration_since(*given) < TOKEN_LIFETIME => match std::mem::replace(used, true) {
                false => Ok(()),
                true => Err("Token has already been used. Please generate a new token."),
            },
            _ => Err("Invalid token"),
        }
    }
}

impl Starlis {
    /// Checks the token of a request or a WebSocket, if the configuration requires tokens. The error is the HTTP status
    /// with a reason.
    pub(super) fn admit(&self, token: Option<&str>) -> Result<(), (StatusCode, &'static str)> {
        if !self.config.tokens {
            return Ok(());
        }
        self.tokens.spend(token, clock::now().instant).map_err(|why| (StatusCode::UNAUTHORIZED, why))
    }
}

/// Middleware that rejects requests without a valid token, if the configuration requires tokens.
pub(super) async fn guard(State(starlis): State<Arc<Starlis>>, request: Request, next: Next) -> Response {
    let token = header(request.headers(), "authorization").and_then(|line| line.strip_prefix("Bearer "));
    match starlis.admit(token) {
        Ok(()) => next.run(request).await,
        Err((status, error)) => (status, Json(json!({ "error": error }))).into_response(),
    }
}

/// `POST /generate-token`: issues a token.
pub(super) async fn generate(State(starlis): State<Arc<Starlis>>, body: Bytes) -> Response {
    let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    if !matches!(text(&body, "source").as_deref(), Some("frontend" | "backend")) {
        let error = r#"Invalid source. Must be either "frontend" or "backend""#;
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    }
    Json(json!({ "token": starlis.tokens.give(clock::now().instant) })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_once_and_for_five_minutes() {
        let (tokens, now) = (Tokens::default(), tandem_host::clock::now().instant);
        let token = tokens.give(now);
        assert_eq!(tokens.spend(None, now), Err("No token provided"));
        assert_eq!(tokens.spend(Some("guessed"), now), Err("Invalid token"));
        assert_eq!(tokens.spend(Some(&token), now), Ok(()));
        let used = Err("Token has already been used. Please generate a new token.");
        assert_eq!(tokens.spend(Some(&token), now), used);
        let late = tokens.give(now);
        assert_eq!(tokens.spend(Some(&late), now + TOKEN_LIFETIME), Err("Invalid token"));
    }

    #[test]
    fn at_most_ten_thousand_tokens_are_stored() {
        let (tokens, now) = (Tokens::default(), tandem_host::clock::now().instant);
        let first = tokens.give(now);
        for later in 1..=MAX_TOKENS as u64 {
            tokens.give(now + Duration::from_nanos(later));
        }
        assert_eq!(tokens.0.lock().len(), MAX_TOKENS);
        assert_eq!(tokens.spend(Some(&first), now), Err("Invalid token"));
    }
}
