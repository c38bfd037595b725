//! SIP over WebSocket (RFC 7118) on the HTTP listener. This module performs the WebSocket handshake. After the
//! handshake, the SIP driver handles the connection.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, Response, StatusCode, header};
use axum::response::IntoResponse;
use hyper_util::rt::TokioIo;
use tandem_runtime::app::App;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// `GET /sip`: opens the WebSocket of a phone in a browser. A request that is not a handshake for the subprotocol `sip`
/// receives 426 or 400.
pub(crate) async fn open(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response<Body> {
    let headers = request.headers();
    if !has(headers, header::CONNECTION, "upgrade") || !has(headers, header::UPGRADE, "websocket") {
        let upgrade = [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")];
        return (StatusCode::UPGRADE_REQUIRED, upgrade, "SIP over WebSocket (RFC 7118)\n").into_response();
    }
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let (true, Some(key)) = (version, headers.get(header::SEC_WEBSOCKET_KEY)) else {
        let version = [(header::SEC_WEBSOCKET_VERSION, "13")];
        return (StatusCode::BAD_REQUEST, version, "not a WebSocket handshake of version 13\n").into_response();
    };
    if !has(headers, header::SEC_WEBSOCKET_PROTOCOL, "sip") {
        return (StatusCode::BAD_REQUEST, "the WebSocket subprotocol must be \"sip\" (RFC 7118)\n").into_response();
    }
    let from_page = headers.contains_key(header::ORIGIN);
    let accept = derive_accept_key(key.as_bytes());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => app.calls.services().sip.adopt_websocket(TokioIo::new(stream), peer, from_page).await,
            Err(error) => tracing::debug!(%peer, %error, "SIP over WebSocket"),
        }
    });
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
        (header::SEC_WEBSOCKET_PROTOCOL, "sip"),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Whether a header field contains this word. All lines of the header field are checked.
fn has(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
}
