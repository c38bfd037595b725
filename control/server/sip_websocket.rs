//! SIP over WebSocket (RFC 7118) on the HTTP listener. This module performs the WebSocket handshake. After the
//! handshake, the SIP driver handles the connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, Response, StatusCode, header};
use axum::response::IntoResponse;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tandem_runtime::app::App;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::listener::HeldSlot;

/// The networks of the proxies whose `X-Forwarded-For` is true (`http.trusted_proxies`).
#[derive(Clone, Debug)]
pub(crate) struct TrustedProxies(pub(crate) Arc<[IpNet]>);

/// The client of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// The peer of the connection itself.
    Peer,
    /// The client that a trusted proxy names.
    Of(IpAddr),
    /// A client behind a trusted proxy that does not name an IP address.
    Unknown,
}

impl TrustedProxies {
    /// Returns the address of the client of a request from `peer`: the client that a trusted proxy names, or the peer.
    pub(crate) fn address(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        match self.client(peer.ip(), headers) {
            // Each connection of the proxy has its own port, so the address stays unique.
            Client::Of(address) => SocketAddr::new(address, peer.port()),
            Client::Peer | Client::Unknown => peer,
        }
    }

    /// Returns the client of a handshake from `peer`. Each proxy appends the address of its own client to
    /// `X-Forwarded-For`. So the last address that is no trusted proxy is the client, and earlier addresses are claims of
    /// this client.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let is_trusted = |address: IpAddr| self.0.iter().any(|network| network.contains(&address.to_canonical()));
        let lines: Vec<_> = headers.get_all("x-forwarded-for").into_iter().collect();
        if lines.is_empty() || !is_trusted(peer) {
            return Client::Peer;
        }
        let hops = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
        let mut nearest = Client::Unknown;
        for hop in hops {
            let Some(address) = address(hop.trim()) else { break };
            nearest = Client::Of(address);
            if !is_trusted(address) {
                break;
            }
        }
        nearest
    }
}

/// Parses an address with or without a port: `192.0.2.1`, `192.0.2.1:4000`, `2001:db8::1`, `[2001:db8::1]:4000`.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.trim_matches(['[', ']']).parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

/// `GET /sip`: opens the WebSocket of a phone in a browser. A request that is not a handshake for the subprotocol `sip`
/// receives 426 or 400.
pub(crate) async fn open(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(proxies): Extension<TrustedProxies>,
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
    let (peer, proxied) = match proxies.client(peer.ip(), headers) {
        Client::Peer => (peer, false),
        // Each connection of the proxy has its own port, so the address stays unique.
        Client::Of(address) => (SocketAddr::new(address, peer.port()), true),
        Client::Unknown => {
            tracing::debug!(%peer, "SIP over WebSocket refused: X-Forwarded-For of the proxy has no IP address");
            return (StatusCode::BAD_REQUEST, "X-Forwarded-For must end in an IP address\n").into_response();
        }
    };
    let from_page = proxied || headers.contains_key(header::ORIGIN);
    let accept = derive_accept_key(key.as_bytes());
    // `sip.max_connections` counts the WebSockets of phones.
    let slot = request.extensions().get::<HeldSlot>().cloned();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => {
                slot.iter().for_each(HeldSlot::give_back);
                app.calls.services().sip.adopt_websocket(TokioIo::new(stream), peer, from_page).await;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_behind_trusted_proxies_is_the_last_untrusted_address() {
        let proxies = TrustedProxies(["127.0.0.0/8", "10.0.0.0/8"].map(|text| text.parse().unwrap()).into());
        let client = |peer: &str, lines: &[&str]| {
            let lines = lines.iter().map(|line| (HeaderName::from_static("x-forwarded-for"), line.parse().unwrap()));
            proxies.client(peer.parse().unwrap(), &lines.collect())
        };
        let of = |text: &str| Client::Of(text.parse().unwrap());
        for (peer, lines, expected) in [
            ("127.0.0.1", &["203.0.113.66"][..], of("203.0.113.66")),
            ("::ffff:127.0.0.1", &["203.0.113.66:4711"], of("203.0.113.66")),
            ("127.0.0.1", &["198.51.100.1, 203.0.113.66"], of("203.0.113.66")),
            ("127.0.0.1", &["198.51.100.1", "203.0.113.66, 10.0.0.9"], of("203.0.113.66")),
            ("127.0.0.1", &["[2001:db8::1]:4711"], of("2001:db8::1")),
            ("127.0.0.1", &["2001:db8::1"], of("2001:db8::1")),
            ("127.0.0.1", &["10.0.0.8, 10.0.0.9"], of("10.0.0.8")),
            ("127.0.0.1", &["203.0.113.66, unknown"], Client::Unknown),
            ("127.0.0.1", &[""], Client::Unknown),
            ("127.0.0.1", &[], Client::Peer),
            // A client that is no proxy can claim anything.
            ("203.0.113.9", &["203.0.113.66"], Client::Peer),
        ] {
            assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
        }
    }
}
