//! The side of the proxy that faces the application. The application sends CONNECT requests and absolute-form requests
//! (RFC 9110 §9.3.6, RFC 9112 §3.2.2), or starts with TLS.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::hosts::{HOSTS, is_provider};
use anyhow::{Context, anyhow};
use axum::body::Body;
use axum::http::uri::{Authority as Named, Scheme};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::relay::relay;
use crate::authority::Authority;

/// Time limit for receiving the head of a request. The time between two requests on a connection has the same limit.
const HEAD: Duration = Duration::from_secs(15);
/// Maximum size of a request head, in octets.
const MAX_HEAD: usize = 64 * 1024;
/// Time limit for a TCP connection from the proxy to the server or to another host.
const CONNECT: Duration = Duration::from_secs(10);
/// Time limit for each half of a TLS handshake: the ClientHello, and the rest of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time limit for a response from the server.
const ANSWER: Duration = Duration::from_secs(120);
/// Time after which a tunnel is closed if no octets have passed through the tunnel.
const IDLE: Duration = Duration::from_secs(600);
/// Pause after a failed accept. The most likely cause of the failure is a lack of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Maximum number of different warnings. Each warning is logged once. When the maximum is reached, new warnings are not
/// logged.
const MAX_WARNINGS: usize = 256;

/// A port, together with a host name or an IP address without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    pub(super) host: String,
    pub(super) port: u16,
}

impl HostPort {
    /// Returns the host and the port of an `http://` URL.
    pub(super) fn of(url: &Uri) -> anyhow::Result<Self> {
        let wrong = || anyhow!("{url} does not have the form http://HOST:PORT");
        if url.scheme() != Some(&Scheme::HTTP) {
            return Err(wrong());
        }
        Ok(Self::named(url.authority().ok_or_else(wrong)?, 80))
    }

    fn named(authority: &Named, default: u16) -> Self {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Self { host, port: authority.port_u16().unwrap_or(default) }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The listening side of the proxy. All clones share one state.
#[derive(Clone)]
pub(super) struct Front {
    shared: Arc<Shared>,
}

struct Shared {
    authority: Authority,
    /// Address of the server. The server receives the requests for the providers.
    server: HostPort,
    /// All addresses of the server. Connections to these addresses pass through unchanged.
    own: Vec<HostPort>,
    pass_through: bool,
    /// Limits the number of simultaneous connections, including tunnels. Further connections wait.
    places: Arc<Semaphore>,
    /// The warnings that have been logged.
    logged: Mutex<HashSet<String>>,
}

/// The destination of a request.
enum Destination {
    /// The server, which replaces the provider.
    Server,
    /// The host that the application requested.
    RequestedHost,
}

impl Front {
    pub(super) fn new(
        authority: Authority,
        server: HostPort,
        own: Vec<HostPort>,
        pass_through: bool,
        max_connections: usize,
    ) -> Self {
        let places = Arc::new(Semaphore::new(max_connections.max(1)));
        Self { shared: Arc::new(Shared { authority, server, own, pass_through, places, logged: Mutex::default() }) }
    }

    /// Accepts connections as an HTTP proxy. This function returns only when the proxy ends.
    pub(super) async fn serve(&self, listener: TcpListener) {
        loop {
            let Some((stream, permit)) = self.accept(&listener).await else { return };
            let this = self.clone();
            tokio::spawn(async move {
                let permit = Arc::new(permit);
                let service = service_fn(move |request| {
                    let (this, permit) = (this.clone(), Arc::clone(&permit));
                    async move { Ok::<_, Infallible>(this.answer(request, permit).await) }
                });
                let ended = server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .max_buf_size(MAX_HEAD)
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection");
                }
            });
        }
    }

    /// Accepts TLS connections for the providers' host names. This function returns only when the proxy ends.
    pub(super) async fn serve_tls(&self, listener: TcpListener) {
        loop {
            let Some((stream, permit)) = self.accept(&listener).await else { return };
            let this = self.clone();
            tokio::spawn(async move {
                let ended = async {
                    let stream = this.end_tls(stream, None).await?;
                    let server = connect(&this.shared.server).await?;
                    Ok::<_, anyhow::Error>(relay(stream, server, IDLE).await?)
                };
                if let Err(error) = ended.await {
                    tracing::debug!("TLS connection: {error:#}");
                }
                drop(permit);
            });
        }
    }

    /// Accepts one connection. Returns `None` when the proxy ends.
    async fn accept(&self, listener: &TcpListener) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    drop(stream.set_nodelay(true));
                    // The permit is acquired only after the accept. A listener that waits for a connection must not
                    // hold a permit, because the other listener may need it.
                    return Some((stream, Arc::clone(&self.shared.places).acquire_owned().await.ok()?));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, permit: Arc<OwnedSemaphorePermit>) -> Response<Body> {
        let answered = match *request.method() {
            Method::CONNECT => self.tunnel(request, permit).await,
            _ => self.forward(request).await,
        };
        answered.unwrap_or_else(Refusal::into_response)
    }

    async fn tunnel(
        &self,
        request: Request<Incoming>,
        permit: Arc<OwnedSemaphorePermit>,
    ) -> Result<Response<Body>, Refusal> {
        let place = request.uri().authority().map(|authority| HostPort::named(authority, 443));
        let place = place.ok_or_else(|| Refusal::bad("CONNECT needs HOST:PORT"))?;
        let destination = self.destination(&place)?;
        // The proxy connects to the server before it responds to the application. If there is no server, the
        // application still gets an error response.
        let there = connect(match destination {
            Destination::Server => &self.shared.server,
            Destination::RequestedHost => &place,
        });
        let there = there.await.map_err(|error| self.unreachable(&destination, &error))?;
        let this = self.clone();
        tokio::spawn(async move {
            let ended = async {
                let here = TokioIo::new(hyper::upgrade::on(request).await?);
                match destination {
                    // On port 80, the tunnel contains a WebSocket without TLS. Clients use a tunnel for such a
                    // WebSocket too.
                    Destination::Server if place.port != 80 => {
                        relay(this.end_tls(here, Some(&place.host)).await?, there, IDLE).await?;
                    }
                    _ => relay(here, there, IDLE).await?,
                }
                Ok::<_, anyhow::Error>(())
            };
            if let Err(error) = ended.await {
                tracing::debug!("tunnel to {place}: {error:#}");
            }
            drop(permit);
        });
        Ok(Response::new(Body::empty()))
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let Some(authority) = request.uri().authority().cloned() else {
            return Err(Refusal::bad(
                "This is a proxy, not a web server: set HTTPS_PROXY to this address (see tandem proxy --help)",
            ));
        };
        let secure = request.uri().scheme() == Some(&Scheme::HTTPS);
        let place = HostPort::named(&authority, if secure { 443 } else { 80 });
        let destination = self.destination(&place)?;
        let there = match destination {
            Destination::Server => &self.shared.server,
            Destination::RequestedHost if secure => return Err(Refusal::bad("https requests need CONNECT")),
            Destination::RequestedHost => &place,
        };
        let there = connect(there).await.map_err(|error| self.unreachable(&destination, &error))?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse();
        *request.uri_mut() = path.map_err(|_| Refusal::bad("invalid path"))?;
        strip(request.headers_mut());
        let host = HeaderValue::try_from(authority.as_str()).map_err(|_| Refusal::bad("invalid host"))?;
        request.headers_mut().insert(header::HOST, host);
        let failed = |error: &dyn fmt::Display| Refusal::new(StatusCode::BAD_GATEWAY, format!("{place}: {error}"));
        let (mut sender, connection) =
            client::conn::http1::handshake(TokioIo::new(there)).await.map_err(|error| failed(&error))?;
        tokio::spawn(connection);
        let response = timeout(ANSWER, sender.send_request(request)).await;
        let response = response.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let mut response = response.map(Body::new);
        strip(response.headers_mut());
        Ok(response)
    }

    fn destination(&self, place: &HostPort) -> Result<Destination, Refusal> {
        if is_provider(&place.host) {
            return Ok(Destination::Server);
        }
        if self.shared.pass_through || self.shared.own.contains(place) {
            return Ok(Destination::RequestedHost);
        }
        let text = format!("tandem proxy is for {HOSTS}; {place} needs --pass-through, or NO_PROXY in the application");
        self.warn_once(&text);
        Err(Refusal::new(StatusCode::FORBIDDEN, text))
    }

    fn unreachable(&self, destination: &Destination, error: &anyhow::Error) -> Refusal {
        let text = match destination {
            Destination::Server => {
                format!("Cannot reach the Tandem server: {error:#}. Is `tandem serve` running? Name it with --url")
            }
            Destination::RequestedHost => format!("{error:#}"),
        };
        self.warn_once(&text);
        Refusal::new(StatusCode::BAD_GATEWAY, text)
    }

    /// Terminates TLS. If the client requests the host name of a provider, the certificate is for this host name.
    /// Otherwise the certificate is for `host`. Returns an error if there is no such name and no `host`.
    async fn end_tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: Option<&str>,
    ) -> anyhow::Result<TlsStream<S>> {
        let start = timeout(HANDSHAKE, LazyConfigAcceptor::new(Acceptor::default(), stream)).await??;
        let asked = start.client_hello().server_name().filter(|name| is_provider(name)).map(str::to_owned);
        let name = asked.or_else(|| host.map(str::to_owned)).context("the client requests no provider's host name")?;
        let config = self.shared.authority.server(&name)?;
        let ended = timeout(HANDSHAKE, start.into_stream(config)).await?;
        if let Err(error) = &ended
            && is_alert(error)
        {
            self.warn_once(&format!(
                "an application does not accept the certificate for {name} ({error}): does it trust {}? See `tandem ca`",
                self.shared.authority.certificate().display()
            ));
        }
        Ok(ended?)
    }

    fn warn_once(&self, text: &str) {
        let mut logged = self.shared.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < MAX_WARNINGS && logged.insert(text.to_owned()) {
            tracing::warn!("{text}");
        }
    }
}

async fn connect(place: &HostPort) -> anyhow::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect((place.host.as_str(), place.port))).await;
    let stream = stream.map_err(io::Error::from).and_then(|stream| stream).with_context(|| place.to_string())?;
    drop(stream.set_nodelay(true));
    Ok(stream)
}

/// Returns whether the client ended the handshake with a TLS alert.
fn is_alert(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::AlertReceived(_)))
}

/// Removes the headers that apply only to a single connection (RFC 9110 §7.6.1).
fn strip(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let always = ["connection", "proxy-connection", "proxy-authorization", "keep-alive", "te", "upgrade"];
    for name in named.iter().map(String::as_str).chain(always) {
        headers.remove(name);
    }
}

/// The response to a request that is not forwarded.
struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, text: String) -> Self {
        Self { status, text }
    }

    fn bad(text: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text.to_owned())
    }

    /// Returns the HTTP response. The status line also contains the reason, because most clients show no other part of
    /// a response to CONNECT.
    fn into_response(self) -> Response<Body> {
        let reason = ReasonPhrase::try_from(self.text.as_bytes());
        let mut response = Response::new(Body::from(self.text + "\n"));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Ok(reason) = reason {
            response.extensions_mut().insert(reason);
        }
        response
    }
}
