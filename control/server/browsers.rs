//! The WebSockets of browser SDKs at `/`. Several SDKs use this path, and the first frame says which one it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::RequestExt as _;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;
use tandem_pages::socket;
use tandem_runtime::app::App;
use tandem_signalwire as signalwire;
use tandem_telnyx as telnyx;

use crate::sip_websocket::TrustedProxies;

/// Time limit for the first frame.
const FIRST_FRAME: Duration = Duration::from_secs(5);

/// The state of the sockets.
pub(crate) struct Browsers {
    app: App,
    proxies: TrustedProxies,
    telnyx: telnyx::browser::Sessions,
    signalwire: signalwire::browser::Sessions,
}

impl Browsers {
    pub(crate) fn new(app: App, proxies: TrustedProxies) -> Self {
        Self {
            app,
            proxies,
            telnyx: telnyx::browser::Sessions::default(),
            signalwire: signalwire::browser::Sessions::default(),
        }
    }
}

/// Middleware for sockets of pages: behind a trusted proxy, the peer of the request becomes the proxy's client. The address
/// decides at which address of this server the page is told to send its audio.
pub(crate) async fn name_client(State(proxies): State<TrustedProxies>, mut request: Request, next: Next) -> Response {
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() {
        let client = proxies.address(peer, request.headers());
        request.extensions_mut().insert(ConnectInfo(client));
    }
    next.run(request).await
}

/// Middleware that opens the WebSocket of a page at `/` and at `/rtc`. All other requests go to the next handler.
pub(crate) async fn open(State(browsers): State<Arc<Browsers>>, mut request: Request, next: Next) -> Response {
    let is_socket = request.headers().contains_key(header::SEC_WEBSOCKET_KEY)
        && !request.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    if !is_socket || !["/", "/rtc"].contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map(|peer| browsers.proxies.address(peer.0, request.headers()));
    match (request.extract_parts::<WebSocketUpgrade>().await, peer) {
        (Ok(upgrade), Some(peer)) => upgrade
            .max_message_size(socket::MAX_FRAME)
            .on_upgrade(async move |socket| browsers.serve(socket, peer).await),
        (Err(refused), _) => axum::response::IntoResponse::into_response(refused),
        (Ok(_), None) => next.run(request).await,
    }
}

impl Browsers {
    async fn serve(&self, mut socket: WebSocket, peer: SocketAddr) {
        let Ok(Some(Ok(Message::Text(first)))) = tokio::time::timeout(FIRST_FRAME, socket.recv()).await else { return };
        let frame = serde_json::from_str::<Value>(&first).unwrap_or_default();
        match frame.get("method").and_then(Value::as_str) {
            Some("login") if frame.get("params").is_some_and(|params| self.is_verto(params)) => {
                self.serve_first(socket, peer, first.to_string()).await;
            }
            Some("blade.connect") => self.serve_first(socket, peer, first.to_string()).await,
            Some("login" | "anonymous_login") => {
                telnyx::browser::serve(socket, self.app.clone(), self.telnyx.clone(), peer, first.to_string()).await;
            }
            Some("signalwire.connect") => {
                signalwire::browser::serve(socket, self.app.clone(), self.signalwire.clone(), peer, first.to_string())
                    .await;
            }
            method => tracing::debug!(%peer, ?method, "a WebSocket begins with a frame of no known SDK"),
        }
    }

    /// Whether a login is of the class `Verto` of SignalWire's SDK 1.x. Telnyx's SDK says its version, and logs in with
    /// tokens, too. Its old versions send the same frame as `Verto`, so the account of the user decides.
    fn is_verto(&self, params: &Value) -> bool {
        if ["User-Agent", "login_token"].iter().any(|name| params.get(name).is_some()) {
            return false;
        }
        // After a lost socket, `Verto` first sends the id of its session alone.
        let Some(login) = params.get("login").and_then(Value::as_str) else { return params.get("sessid").is_some() };
        let name = login.split('@').next().unwrap_or(login);
        let routing = self.app.calls.services().routing.load_full();
        let accounts = self.app.accounts.all();
        let mut own = accounts.iter().filter(|account| account.signalwire.is_some() && account.telnyx.is_none());
        own.any(|account| routing.phones().endpoint(&account.name, name).is_some())
    }

    async fn serve_first(&self, socket: WebSocket, peer: SocketAddr, first: String) {
        signalwire::browser::serve_first(socket, self.app.clone(), self.signalwire.clone(), peer, first).await;
    }
}
