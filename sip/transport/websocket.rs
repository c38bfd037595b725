//! The server side of SIP over WebSocket (RFC 7118). The subprotocol is `sip`. Each WebSocket message (text or binary)
//! contains one SIP message.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::stream::{Link, Octets, STALL_TIMEOUT};
use crate::message::MAX_MESSAGE;

/// The only WebSocket subprotocol that the server supports.
const SIP: &str = "sip";

/// Returns whether the `Sec-WebSocket-Protocol` values of a handshake offer SIP.
pub(super) fn offers_sip<'a>(protocols: impl Iterator<Item = &'a str>) -> bool {
    protocols.flat_map(|value| value.split(',')).any(|protocol| protocol.trim().eq_ignore_ascii_case(SIP))
}

/// Does the WebSocket handshake with a client. A client that does not offer SIP gets the status 400. The second value
/// says whether the client is a page in a browser: every such page sends `Origin` (RFC 6455 §4.1).
pub(super) async fn accept(stream: Box<dyn Octets>) -> io::Result<(WebSocketStream<Box<dyn Octets>>, bool)> {
    let mut from_page = false;
    #[expect(clippy::result_large_err, reason = "the library's type")]
    let choose = |request: &Request, mut response: Response| {
        from_page = request.headers().contains_key(header::ORIGIN);
        let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
        if offers_sip(offered.iter().filter_map(|value| value.to_str().ok())) {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SIP));
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(Some(
            "this server supports only the WebSocket subprotocol \"sip\" (RFC 7118)\n".to_owned(),
        ));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        Err(refusal)
    };
    let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, choose, Some(limits())).await;
    accepted.map(|socket| (socket, from_page)).map_err(io::Error::other)
}

/// Continues a connection on which another listener has completed the handshake.
pub(super) async fn resumed(stream: Box<dyn Octets>) -> WebSocketStream<Box<dyn Octets>> {
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits())).await
}

fn limits() -> WebSocketConfig {
    let mut limits = WebSocketConfig::default();
    limits.max_message_size = Some(MAX_MESSAGE);
    limits.max_frame_size = Some(MAX_MESSAGE);
    limits.read_buffer_size = 4_096;
    limits.write_buffer_size = 0;
    limits.max_write_buffer_size = 4 * MAX_MESSAGE;
    limits
}

/// Carries messages until one side closes the connection. After some time without input the server sends a ping. Every
/// live client answers a ping (RFC 6455 §5.5.2), so only dead connections stay idle.
pub(super) async fn serve(
    mut socket: WebSocketStream<Box<dyn Octets>>,
    link: &Link,
    mut queued: mpsc::Receiver<Bytes>,
) {
    let never = Duration::from_secs(86_400);
    let every = link.keep_alive.unwrap_or(never).min(link.idle() / 2);
    let mut heard = Instant::now();
    let mut pinged = heard;
    let why = loop {
        let send = tokio::select! {
            message = socket.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                        let data = message.into_data();
                        // This is the keep-alive of RFC 5626. Some browser libraries also send this keep-alive over
                        // WebSocket.
                        if data.as_ref() == b"\r\n\r\n" {
                            Message::text("\r\n")
                        } else if link.deliver(data).await {
                            continue;
                        } else {
                            return;
                        }
                    }
                    // The library answers pings during the next read.
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    Some(Ok(Message::Close(_))) => {
                        // The library has an answer to the close message, which must still be sent.
                        let _ = timeout(STALL_TIMEOUT, socket.flush()).await;
                        break io::ErrorKind::ConnectionReset;
                    }
                    Some(Err(_)) | None => break io::ErrorKind::ConnectionReset,
                }
            }
            data = queued.recv() => match data {
                Some(data) => as_message(data),
                None => {
                    let _ = timeout(STALL_TIMEOUT, socket.close(None)).await;
                    return;
                }
            },
            () = sleep_until(heard.max(pinged) + every) => {
                pinged = Instant::now();
                if pinged.saturating_duration_since(heard) >= link.idle().min(3 * every) {
                    break io::ErrorKind::TimedOut;
                }
                Message::Ping(Bytes::new())
            }
        };
        if !matches!(timeout(STALL_TIMEOUT, socket.send(send)).await, Ok(Ok(()))) {
            break io::ErrorKind::BrokenPipe;
        }
    };
    link.close(why).await;
}

/// Returns a text message if the data is UTF-8, because browser libraries expect text. Otherwise returns a binary
/// message.
fn as_message(data: Bytes) -> Message {
    match Utf8Bytes::try_from(data.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(data),
    }
}
