//! A WebSocket to an application. It is opened under the policy of the HTTP client. Pings keep the connection alive. A stalled connection is closed.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tandem_call::stream::{StreamFailure, StreamFault};
use tokio::time::{Instant, Interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use url::Url;

use crate::maybe_tls::{self, MaybeTls};
use crate::{Client, FetchError, without_credentials};

/// Close code of a normal end (RFC 6455 §7.4.1).
pub const NORMAL: u16 = 1000;
/// Maximum size of a message in octets. A message of this size contains more than 30 s of linear samples at 24 kHz in
/// base64.
const MAX_MESSAGE: usize = 2 * 1024 * 1024;
/// Time limit from the first packet to the answer to the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Maximum interval between two pings. The interval is shorter if the idle time limit is short.
const PING: Duration = Duration::from_secs(25);
/// Maximum time for which a connection may accept no data. After this time, the connection is closed.
const STALLED: Duration = Duration::from_secs(20);
/// Time limit for both halves of the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A WebSocket connection that has no timeouts and sends no pings.
pub type Connection = WebSocketStream<MaybeTls>;

/// An open WebSocket that has timeouts and sends pings.
pub struct Socket {
    inner: Connection,
    ping: Interval,
    idle: Option<Duration>,
    last_received: Instant,
}

/// A message or event from an application.
#[derive(Debug)]
pub enum SocketMessage {
    Text(Utf8Bytes),
    /// A binary message. No provider's protocol uses binary messages.
    Binary,
    /// The application has closed the socket, or the connection is lost.
    Closed(Result<(), StreamFailure>),
}

impl Socket {
    /// Connects and performs the handshake. `idle` is the maximum time without any message from the application. A pong
    /// counts as a message.
    pub async fn open(
        client: &Client,
        url: &str,
        headers: Vec<(String, String)>,
        idle: Option<Duration>,
    ) -> Result<Self, StreamFailure> {
        let inner = tokio::time::timeout(HANDSHAKE, connect(client, url, headers)).await.map_err(|_| {
            let shown = without_credentials(url);
            StreamFault::Timeout.because(format!("{shown}: the handshake took longer than {} s", HANDSHAKE.as_secs()))
        })??;
        Ok(Self::over(inner, idle))
    }

    fn over(inner: Connection, idle: Option<Duration>) -> Self {
        let now = Instant::now();
        let period = idle.map_or(PING, |idle| PING.min(idle / 2)).max(Duration::from_millis(100));
        Self { inner, ping: tokio::time::interval_at(now + period, period), idle, last_received: now }
    }

    /// Returns the next message of the application. Sends pings during the wait. Cancel-safe.
    pub async fn next(&mut self) -> SocketMessage {
        loop {
            tokio::select! {
                message = self.inner.next() => {
                    self.last_received = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => return SocketMessage::Text(text),
                        Some(Ok(Message::Binary(_))) => return SocketMessage::Binary,
                        Some(Ok(Message::Close(frame))) => return SocketMessage::Closed(self.part(frame).await),
                        Some(Ok(_)) => {}
                        Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) | None => {
                            return SocketMessage::Closed(Ok(()));
                        }
                        Some(Err(error)) => return SocketMessage::Closed(Err(broken(&error))),
                    }
                }
                _ = self.ping.tick() => {
                    if let Some(idle) = self.idle.filter(|idle| self.last_received.elapsed() >= *idle) {
                        let why = format!("the application gave no sign of life for {} s", idle.as_secs());
                        return SocketMessage::Closed(Err(StreamFault::Timeout.because(why)));
                    }
                    if let Err(why) = self.put(Message::Ping(Vec::new().into())).await {
                        return SocketMessage::Closed(Err(why));
                    }
                }
            }
        }
    }

    /// Sends a text message.
    pub async fn send(&mut self, text: String) -> Result<(), StreamFailure> {
        self.put(Message::text(text)).await
    }

    /// Sends a binary message.
    pub async fn send_octets(&mut self, octets: Vec<u8>) -> Result<(), StreamFailure> {
        self.put(Message::binary(octets)).await
    }

    /// Sends a text message as [`Self::send`] does, but the message may stay in the buffer until [`Self::flush`].
    pub async fn feed(&mut self, text: String) -> Result<(), StreamFailure> {
        in_time(self.inner.feed(Message::text(text))).await
    }

    /// Sends all messages that [`Self::feed`] left in the buffer.
    pub async fn flush(&mut self) -> Result<(), StreamFailure> {
        in_time(self.inner.flush()).await
    }

    /// Closes the socket with a code of RFC 6455 §7.4.1 and a reason.
    pub async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        let handshake = async {
            self.inner.close(Some(frame)).await?;
            // Waits for the close frame of the application and ignores all messages before it.
            while let Some(Ok(_)) = self.inner.next().await {}
            Ok::<_, WsError>(())
        };
        // The connection ends even if the application does not answer.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, handshake).await;
    }

    async fn put(&mut self, message: Message) -> Result<(), StreamFailure> {
        in_time(self.inner.send(message)).await
    }

    /// Handles the close frame of the application. The WebSocket library has already queued the close frame of this
    /// server. This function sends the queued frame (RFC 6455 §5.5.1).
    async fn part(&mut self, frame: Option<CloseFrame>) -> Result<(), StreamFailure> {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.inner.flush()).await;
        match frame.map(|frame| frame.code) {
            None | Some(CloseCode::Normal | CloseCode::Away | CloseCode::Status) => Ok(()),
            Some(code) => {
                Err(StreamFault::Closed.because(format!("the application closed the socket with code {code}")))
            }
        }
    }
}

async fn in_time(sending: impl Future<Output = Result<(), WsError>>) -> Result<(), StreamFailure> {
    match tokio::time::timeout(STALLED, sending).await {
        Ok(sent) => sent.map_err(|error| broken(&error)),
        Err(_) => Err(StreamFault::Broken.because("the application's socket accepts no data")),
    }
}

/// Connects under the policy of the client and performs the handshake. This function is for code that needs only the
/// plain connection. Errors contain no password.
pub async fn connect(client: &Client, url: &str, headers: Vec<(String, String)>) -> Result<Connection, StreamFailure> {
    // If a URL cannot be parsed, any part of the URL may be a password. So the error does not show the URL.
    let parsed = Url::parse(url).map_err(|error| StreamFault::Url.because(format!("the URL: {error}")))?;
    let shown = without_credentials(url);
    if !matches!(parsed.scheme(), "ws" | "wss") {
        let why = format!("{shown}: {:?} is neither ws nor wss", parsed.scheme());
        return Err(StreamFault::Scheme.because(why));
    }
    let route = client.route(&parsed).map_err(|_| StreamFault::Url.because(format!("{shown}: no host")))?;
    let host = route.to.host().to_string();
    let tcp = client
        .connect(&host, route.to.port(), Some(HANDSHAKE))
        .await
        .map_err(|error| unreached(&route.annotate(error)))?;
    let stream = maybe_tls::wrap(tcp, route.to.is_secure().then(|| client.tls()), &host)
        .await
        .map_err(|error| unreached(&route.annotate(FetchError::Tls(format!("{shown}: {error}")))))?;
    let malformed = |error: &dyn std::fmt::Display| StreamFault::Url.because(format!("{shown}: {error}"));
    let mut request = url.into_client_request().map_err(|error| malformed(&error))?;
    for (name, value) in route.headers() {
        request.headers_mut().insert(name, http::HeaderValue::try_from(value).map_err(|error| malformed(&error))?);
    }
    for (name, value) in headers {
        let name = http::HeaderName::try_from(name).map_err(|error| malformed(&error))?;
        let value = http::HeaderValue::try_from(value).map_err(|error| malformed(&error))?;
        request.headers_mut().insert(name, value);
    }
    let (socket, _) =
        tokio_tungstenite::client_async_with_config(request, stream, Some(limits())).await.map_err(|error| {
            let why = broken(&error);
            // The status of the answer was not 101.
            let fault = if why.fault == StreamFault::Protocol { StreamFault::Handshake } else { why.fault };
            fault.because(format!("{shown}: {}", why.detail))
        })?;
    Ok(socket)
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .max_write_buffer_size(MAX_MESSAGE)
}

fn unreached(error: &FetchError) -> StreamFailure {
    let fault = match error {
        FetchError::Url(_) => StreamFault::Url,
        FetchError::ConnectTimeout(_) | FetchError::Timeout(_) => StreamFault::Timeout,
        FetchError::ConnectRefused(_) => StreamFault::Refused,
        FetchError::Tls(_) => StreamFault::Tls,
        _ => StreamFault::Unreachable,
    };
    fault.because(error.to_string())
}

fn broken(error: &WsError) -> StreamFailure {
    let fault = match error {
        WsError::Http(_) => StreamFault::Handshake,
        WsError::Url(_) => StreamFault::Url,
        WsError::Tls(_) => StreamFault::Tls,
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => StreamFault::Closed,
        WsError::Io(_) | WsError::ConnectionClosed | WsError::AlreadyClosed => StreamFault::Broken,
        _ => StreamFault::Protocol,
    };
    fault.because(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, WebServer};
    use crate::{NetworkPolicy, Origin, OriginConfig, Origins};

    fn client() -> Client {
        let policy = NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()] };
        Client::new(policy, Duration::from_secs(5)).unwrap()
    }

    async fn fails(url: &str) -> StreamFailure {
        Socket::open(&client(), url, Vec::new(), None).await.err().unwrap()
    }

    #[tokio::test]
    async fn the_reason_of_a_failed_stream_has_no_password() {
        let server = WebServer::start(|_| Answer::status(404)).await;
        let place = server.url("/stream").replace("http://", "");
        for url in [format!("ws://me:hunter2@{place}"), "ws://me:hunter2@127.0.0.1:99999/".to_owned()] {
            let why = fails(&url).await.detail;
            assert!(!why.contains("hunter2") && !why.is_empty(), "{why}");
        }
        let why = fails(&format!("ws://{place}")).await;
        assert!(why.detail.contains(&place) && why.detail.contains("404"), "{why:?}");
        assert_eq!(why.fault, StreamFault::Handshake);
    }

    #[tokio::test]
    async fn each_failure_of_a_websocket_has_its_own_fault() {
        let server = WebServer::start(|_| Answer::status(200)).await;
        let place = server.url("/").replace("http://", "");
        for (url, fault) in [
            ("http://127.0.0.1/".to_owned(), StreamFault::Scheme),
            ("ws://127.0.0.1:99999/".to_owned(), StreamFault::Url),
            ("ws://127.0.0.1:1/".to_owned(), StreamFault::Refused),
            ("ws://10.0.0.1/".to_owned(), StreamFault::Unreachable),
            (format!("wss://{place}"), StreamFault::Tls),
            (format!("ws://{place}"), StreamFault::Handshake),
        ] {
            assert_eq!(fails(&url).await.fault, fault, "{url}");
        }
    }

    #[tokio::test]
    async fn a_websocket_goes_to_the_address_of_its_origin_with_the_public_host() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://{}", listener.local_addr().unwrap());
        let received = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            #[allow(clippy::result_large_err)]
            let look = |request: &http::Request<()>, response| {
                let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                received = vec![Some(request.uri().to_string()), header("host"), header("x-forwarded-proto")];
                Ok(response)
            };
            let _socket = tokio_tungstenite::accept_hdr_async(tcp, look).await.unwrap();
            received
        });
        let client = client();
        let origin = |text: &str| Origin::try_from(text.to_owned()).unwrap();
        let table = OriginConfig { from: origin("https://app.test"), to: origin(&to), account: None };
        client.set_origins(Origins::new(vec![table]));
        Socket::open(&client, "wss://app.test/media?a=b", Vec::new(), None).await.ok().unwrap();
        let received: Vec<String> = received.await.unwrap().into_iter().flatten().collect();
        assert_eq!(received, ["/media?a=b", "app.test", "https"]);
    }

    /// The application performs the handshake and then reads nothing. So the application sends no pongs.
    #[tokio::test]
    async fn a_websocket_without_pongs_times_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let hung = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
            std::future::pending::<()>().await;
            drop(socket);
        });
        let idle = Some(Duration::from_millis(300));
        let mut socket = Socket::open(&client(), &url, Vec::new(), idle).await.unwrap();
        let SocketMessage::Closed(Err(why)) = socket.next().await else { panic!("it is hung") };
        assert_eq!(why.fault, StreamFault::Timeout);
        hung.abort();
    }
}
