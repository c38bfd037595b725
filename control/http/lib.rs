//! The outbound HTTP client for webhooks, documents and media files. The client checks every target and limits the size
//! of every answer.
//!
//! ```text
//!  URL ─▶ Origins ─▶ literal address? ──────────▶ NetworkPolicy ─▶ connect to exactly that address
//!                 └▶ name ─▶ Lookup ─▶ addresses ─▶ NetworkPolicy ─┘   (each hop of a redirect again)
//! ```
//!
//! When a name is resolved, the client checks the addresses of the name. The connection then uses exactly the checked
//! addresses. So the check also works if a name resolves to another address the second time (DNS rebinding). The client
//! does not use the proxies of the environment, because a proxy would resolve names itself.
#![forbid(unsafe_code)]

mod budget;
mod connection;
mod cookies;
pub mod exchange;
mod failure;
mod maybe_tls;
mod origins;
mod policy;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod tls;
pub mod websocket;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use arc_swap::ArcSwap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use tandem_id::AccountName;
use tandem_net::digest::{self, Login, SignedParts};
use tokio::net::TcpStream;
use tokio::time::Instant;
use url::{Host, Url};

use budget::Share;
use connection::{Observe, Reused};

pub use budget::Budget;
pub use cookies::CookieJar;
pub use failure::FetchError;
pub use origins::{Origin, OriginConfig, Origins};
pub use policy::NetworkPolicy;
pub use tls::tls_config;

/// Converts the method that an application has chosen to the type of the HTTP library.
pub fn method(method: tandem_call::Method) -> Method {
    match method {
        tandem_call::Method::Get => Method::GET,
        tandem_call::Method::Post => Method::POST,
    }
}

/// Maximum number of connection pools. There is one pool for each connect timeout. If there are too many pools, the
/// oldest pool is dropped.
const POOLS: usize = 16;

/// The client closes an idle connection after this time. Common web servers close an idle connection after 5 s, and
/// some after 2 s. A server may close the connection at the moment at which the client sends a request.
const IDLE: Duration = Duration::from_millis(1500);

/// The client. All clones share the client's connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// The account that makes the requests. `None` for the server's own requests.
    account: Option<AccountName>,
    /// The limit on the bodies of all running requests together. `None` means that only each single body is limited.
    budget: Option<Budget>,
}

struct Shared {
    gate: Arc<Gate>,
    origins: ArcSwap<Origins>,
    tls: ArcSwap<rustls::ClientConfig>,
    connect_timeout: Duration,
    pools: Mutex<Vec<(PoolKey, reqwest::Client)>>,
    local_responder: OnceLock<Box<LocalResponder>>,
}

/// Answers a request within this process. The arguments are the URL (without user name, password and fragment) and the
/// body. `None` means that the request is sent over the network.
type LocalResponder = dyn Fn(&Url, &[u8]) -> Option<LocalResponse> + Send + Sync;

/// An answer from within this process. The status of the answer is 200.
#[derive(Debug, Clone)]
pub struct LocalResponse {
    /// The content type of the body.
    pub content_type: &'static str,
    pub body: Bytes,
}

/// Settings of an HTTP library client. The settings cannot change during the life of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PoolKey {
    connect_timeout: Duration,
    /// Whether a connection is kept for later requests.
    keeps: bool,
}

/// A request to send.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    /// An `http` or `https` URL. The client uses the user name and password of the URL for Basic authentication. If the
    /// server demands Digest authentication, the client uses the user name and password for Digest. The fragment is not
    /// sent.
    pub url: String,
    /// Names and values of the header fields. Names may be in upper or lower case.
    pub headers: Vec<(String, String)>,
    /// The body. Empty if the request has no body.
    pub body: Bytes,
    /// The time limits of the request.
    pub timeouts: Timeouts,
    /// Maximum size of the answer's body in octets. A larger body is the error [`FetchError::TooLarge`].
    pub max_body: usize,
}

/// The time limits of a request.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Limit for name resolution, TCP and TLS together, rounded up to a multiple of 50 ms. `None` means the client's
    /// own limit.
    pub connect: Option<Duration>,
    /// Limit for the whole request until the last octet of the body. The limit includes redirects.
    pub total: Duration,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status, 100 to 999. In this crate, no status is an error.
    pub status: u16,
    /// The header fields, as received.
    pub headers: HeaderMap,
    /// The body, with at most `max_body` octets.
    pub body: Bytes,
    /// The URL of the last hop, without user name, password and fragment.
    pub final_url: String,
    /// The redirects that led to this answer, in order.
    pub redirects: Vec<Redirect>,
    /// The time from the start of the request to the last octet of the answer.
    pub elapsed: Duration,
}

/// A redirect that the client followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    pub status: u16,
    /// The method of the next request.
    pub method: Method,
    /// The URL of the next request, without user name and password.
    pub url: String,
    /// Whether the redirect turned the request into a GET (after a 301, 302 or 303, RFC 9110 §15.4).
    pub turned_into_get: bool,
}

/// The words in the detail of a failure if a redirect changed the method of the request.
pub const TURNED_INTO_GET: &str = "a redirect turned the POST into a GET";

impl fmt::Display for Redirect {
    /// Writes `302 -> GET http://app/next`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.status, self.method, self.url)
    }
}

/// A response with a body that is still arriving.
#[derive(Debug)]
pub struct StreamingResponse(reqwest::Response);

impl StreamingResponse {
    /// The HTTP status, 100 to 999. In this crate, no status is an error.
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    /// The first value of a header field. `None` if the value is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.headers().get(name)?.to_str().ok()
    }

    /// Waits without a time limit for the next piece of the body. `None` at the end of the body.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, FetchError> {
        self.0.chunk().await.map_err(failure::classify)
    }
}

impl Response {
    /// The first value of a header field. `None` if the value is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The target URL of a redirect. `None` if the answer is not a redirect. `from` is the URL of the request.
    ///
    /// # Errors
    /// The target is not an `http` or `https` URL.
    pub fn redirect_target(&self, from: &Url) -> Result<Option<Url>, FetchError> {
        if !matches!(self.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(location) = self.headers.get(header::LOCATION) else { return Ok(None) };
        let location = String::from_utf8_lossy(location.as_bytes());
        let mut target = from.join(&location).map_err(|error| FetchError::Url(format!("Location: {error}")))?;
        if target.fragment().is_none() {
            target.set_fragment(from.fragment());
        }
        parse(target.as_str()).map(Some)
    }
}

/// The redirects that the client follows. After 301, 302 and 303, the client sends a GET without a body. After 307 and
/// 308, the client repeats the method and the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirectRules {
    /// Maximum number of hops. A further hop is the error [`FetchError::TooManyRedirects`].
    pub limit: u32,
}

impl RedirectRules {
    /// The redirect rules of webhook providers.
    pub const PROVIDER: RedirectRules = RedirectRules { limit: 10 };
}

/// Signs a request again. The client calls this function for each hop of a redirect, after the change of method, URL
/// and body.
pub type RedirectSigner<'a> = &'a mut (dyn FnMut(&mut Request) + Send);

/// Resolves names to addresses.
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of `host`.
    fn lookup(&self, host: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

impl Client {
    /// Creates a client that trusts this computer's certificate authorities and uses the system's resolver.
    ///
    /// `connect_timeout` applies to requests without their own connect timeout.
    pub fn new(policy: NetworkPolicy, connect_timeout: Duration) -> io::Result<Client> {
        Client::with(policy, connect_timeout, tls_config(None)?, Arc::new(SystemResolver))
    }

    /// Creates a client with other TLS settings (see [`tls_config`]) or another resolver.
    pub fn with(
        policy: NetworkPolicy,
        connect_timeout: Duration,
        tls: Arc<rustls::ClientConfig>,
        names: Arc<dyn Lookup>,
    ) -> io::Result<Client> {
        let shared = Shared {
            gate: Arc::new(Gate { policy, names }),
            origins: ArcSwap::default(),
            tls: ArcSwap::new(tls),
            connect_timeout: rounded(connect_timeout),
            pools: Mutex::default(),
            local_responder: OnceLock::new(),
        };
        let client = Client { shared: Arc::new(shared), account: None, budget: None };
        client.pool(client.shared.connect_timeout, true).map_err(io::Error::other)?;
        Ok(client)
    }

    /// Returns a clone for the requests of one account. The `[[origins]]` of the account apply to the clone.
    pub fn of_account(&self, account: &AccountName) -> Client {
        Client { account: Some(account.clone()), ..self.clone() }
    }

    /// Returns a clone for requests whose answers share a budget.
    pub fn with_budget(&self, budget: Budget) -> Client {
        Client { budget: Some(budget), ..self.clone() }
    }

    /// Replaces the `[[origins]]` of all clones. The next request uses the new `[[origins]]`.
    pub fn set_origins(&self, origins: Origins) {
        self.shared.origins.store(Arc::new(origins));
    }

    /// Replaces the TLS settings of all clones. The next connection uses the new settings. The client closes idle
    /// connections.
    pub fn set_tls(&self, tls: Arc<rustls::ClientConfig>) {
        // No pool with the old settings may be added after the pools were dropped.
        let mut pools = self.shared.pools.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.tls.store(tls);
        pools.clear();
    }

    /// Sets the function that answers requests within this process, for all clones. If the function answers a request,
    /// the host in the URL of the request need not exist. The operator's `[[origins]]` have priority. Only the first
    /// use of `set_local_responder` has an effect.
    pub fn set_local_responder(
        &self,
        local_responder: impl Fn(&Url, &[u8]) -> Option<LocalResponse> + Send + Sync + 'static,
    ) {
        let _ = self.shared.local_responder.set(Box::new(local_responder));
    }

    /// Returns the account of this client, if some `[[origins]]` apply only to this account. In this case the files
    /// that this account fetches must not be shared with other accounts.
    pub fn account_with_origins(&self) -> Option<AccountName> {
        self.account.clone().filter(|account| self.shared.origins.load_full().names(account))
    }

    /// The origin to which the client connects for a request to `url`.
    pub fn route(&self, url: &Url) -> Result<Route, FetchError> {
        let named = Origin::of(url).ok_or_else(|| FetchError::Url("no host".into()))?;
        let origins = self.shared.origins.load_full();
        match origins.place(self.account.as_ref(), url) {
            None => Ok(Route { to: named, named: None }),
            Some(to) => Ok(Route { to: to.clone(), named: Some(named) }),
        }
    }

    /// The TLS settings, for WebSocket clients that make their own connections.
    pub fn tls(&self) -> Arc<rustls::ClientConfig> {
        self.shared.tls.load_full()
    }

    /// Sends one request and reads the answer. The client does not follow redirects.
    pub async fn send(&self, request: &Request) -> Result<Response, FetchError> {
        let began = Instant::now();
        let exchange = self.exchange(request, began);
        match tokio::time::timeout(request.timeouts.total, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(FetchError::Timeout(format!("no complete answer in {} ms", request.timeouts.total.as_millis())))
            }
        }
    }

    /// Sends one request. The calling code reads the answer piece by piece. `timeouts.total` limits the time until the
    /// answer starts. The calling code limits the time after that. Dropping the answer ends the request. `max_body` is
    /// ignored.
    pub async fn open(&self, request: &Request) -> Result<StreamingResponse, FetchError> {
        let opening = async {
            let mut url = parse(&request.url)?;
            let mut headers = header_map(&request.headers)?;
            if let Some(credentials) = take_credentials(&mut url)
                && !headers.contains_key(header::AUTHORIZATION)
            {
                headers.insert(header::AUTHORIZATION, credentials.basic()?);
            }
            url.set_fragment(None);
            let route = self.route(&url)?;
            for (name, value) in route.headers() {
                let value = HeaderValue::from_str(&value).map_err(|error| FetchError::Url(error.to_string()))?;
                headers.insert(name, value);
            }
            let place = route.place(url);
            self.begin(&place, headers, request).await.map_err(|error| route.annotate(error))
        };
        match tokio::time::timeout(request.timeouts.total, opening).await {
            Ok(opened) => Ok(StreamingResponse(opened?)),
            Err(_) => Err(FetchError::Timeout(format!("no answer in {} ms", request.timeouts.total.as_millis()))),
        }
    }

    /// Sends a request and follows redirects. The client checks each hop, sends and stores the cookies of the jar, and
    /// signs each redirected request again. At the first hop to another origin, the client drops the credentials in the
    /// headers.
    pub async fn send_following(
        &self,
        mut request: Request,
        rules: RedirectRules,
        jar: Option<&CookieJar>,
        mut sign_redirect: Option<RedirectSigner<'_>>,
    ) -> Result<Response, FetchError> {
        let began = Instant::now();
        let total = request.timeouts.total;
        let mut redirects: Vec<Redirect> = Vec::new();
        loop {
            let mut hop = request.clone();
            hop.timeouts.total = total.saturating_sub(began.elapsed());
            let url = parse(&hop.url)?;
            if let Some(cookie) = jar.and_then(|jar| jar.header(&url)) {
                hop.headers.push(("Cookie".into(), cookie));
            }
            let mut response = self.send(&hop).await?;
            if let Some(jar) = jar {
                jar.store(&url, &response.headers);
            }
            let Some(target) = response.redirect_target(&url)? else {
                response.elapsed = began.elapsed();
                response.redirects = redirects;
                return Ok(response);
            };
            if redirects.len() >= rules.limit as usize {
                return Err(FetchError::TooManyRedirects(rules.limit));
            }
            let before = request.method.clone();
            redirect(&mut request, response.status, &url, &target);
            redirects.push(Redirect {
                status: response.status,
                method: request.method.clone(),
                url: without_credentials(&request.url),
                turned_into_get: before != request.method,
            });
            if let Some(sign_redirect) = &mut sign_redirect {
                sign_redirect(&mut request);
            }
        }
    }

    /// Returns the address if the network policy allows connections to this address. Otherwise returns an error.
    pub fn permits(&self, address: IpAddr) -> Result<IpAddr, FetchError> {
        self.shared.gate.policy.check(address)
    }

    /// Opens a TCP connection under the network policy, for WebSocket clients. `host` is a name or an address. An IPv6
    /// address may have brackets. Without a `timeout`, the connect timeout of the client applies.
    pub async fn connect(&self, host: &str, port: u16, timeout: Option<Duration>) -> Result<TcpStream, FetchError> {
        let timeout = timeout.unwrap_or(self.shared.connect_timeout);
        let gate = &self.shared.gate;
        let attempt = async {
            let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            let addresses = match literal {
                Ok(address) => vec![gate.policy.check(address)?],
                Err(_) => match Host::parse(host).map_err(|error| FetchError::Url(format!("{host}: {error}")))? {
                    Host::Domain(name) => gate.addresses(&name).await?,
                    Host::Ipv4(address) => vec![gate.policy.check(address.into())?],
                    Host::Ipv6(address) => vec![gate.policy.check(address.into())?],
                },
            };
            let mut last = String::from("no address");
            for address in addresses {
                match TcpStream::connect(SocketAddr::new(address, port)).await {
                    Ok(stream) => {
                        // Small frames must be sent immediately. If the socket refuses the option, small frames are
                        // only delayed.
                        let _ = stream.set_nodelay(true);
                        return Ok(stream);
                    }
                    Err(error) => last = format!("{address} port {port}: {error}"),
                }
            }
            Err(FetchError::ConnectRefused(last))
        };
        match tokio::time::timeout(timeout, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(FetchError::ConnectTimeout(format!("no connection in {} ms", timeout.as_millis()))),
        }
    }

    async fn exchange(&self, request: &Request, began: Instant) -> Result<Response, FetchError> {
        let mut url = parse(&request.url)?;
        let mut headers = header_map(&request.headers)?;
        let of_url = take_credentials(&mut url).filter(|_| !headers.contains_key(header::AUTHORIZATION));
        if let Some(credentials) = &of_url {
            headers.insert(header::AUTHORIZATION, credentials.basic()?);
        }
        url.set_fragment(None);
        let final_url = url.to_string();
        let route = self.route(&url)?;
        if route.named.is_none()
            && let Some(served) =
                self.shared.local_responder.get().and_then(|local_responder| local_responder(&url, &request.body))
        {
            let content_type = HeaderValue::from_static(served.content_type);
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
            return Ok(Response {
                status: 200,
                headers,
                body: served.body,
                final_url,
                redirects: Vec::new(),
                elapsed: began.elapsed(),
            });
        }
        for (name, value) in route.headers() {
            headers.insert(name, HeaderValue::from_str(&value).map_err(|error| FetchError::Url(error.to_string()))?);
        }
        let place = route.place(url.clone());
        let answered = self.exchange_at(&place, headers.clone(), request).await;
        let (mut status, mut answer, mut body) = answered.map_err(|error| route.annotate(error))?;
        // If the server wants Digest instead of Basic (RFC 7616), the client sends the request a second time. A signed
        // request has the credentials in a header field and not in the URL.
        let credentials = || of_url.or_else(|| UrlCredentials::of_basic(headers.get(header::AUTHORIZATION)?));
        if status == 401
            && let Some(digest) = credentials().and_then(|credentials| credentials.digest(&answer, request, &url))
        {
            headers.insert(header::AUTHORIZATION, digest);
            let answered = self.exchange_at(&place, headers, request).await;
            (status, answer, body) = answered.map_err(|error| route.annotate(error))?;
        }
        let headers = answer;
        Ok(Response { status, headers, body, final_url, redirects: Vec::new(), elapsed: began.elapsed() })
    }

    /// Sends a request to exactly the origin of this URL and reads the answer.
    async fn exchange_at(
        &self,
        url: &Url,
        headers: HeaderMap,
        request: &Request,
    ) -> Result<(u16, HeaderMap, Bytes), FetchError> {
        let mut incoming = self.begin(url, headers, request).await?;
        let status = incoming.status().as_u16();
        let too_large = FetchError::TooLarge { status, limit: request.max_body };
        if incoming.content_length().is_some_and(|length| length > request.max_body as u64) {
            return Err(too_large);
        }
        let mut body = BytesMut::new();
        let mut share = Share::of(self.budget.clone());
        if let Some(length) = incoming.content_length() {
            share.reserve(usize::try_from(length).unwrap_or(usize::MAX)).await?;
        }
        while let Some(chunk) = incoming.chunk().await.map_err(failure::classify)? {
            if body.len() + chunk.len() > request.max_body {
                return Err(too_large);
            }
            share.grow(body.len() + chunk.len()).await?;
            body.extend_from_slice(&chunk);
        }
        Ok((status, std::mem::take(incoming.headers_mut()), share.into_body(body)))
    }

    /// Sends a request to exactly the origin of this URL. The body of the answer is not read yet.
    async fn begin(&self, url: &Url, headers: HeaderMap, request: &Request) -> Result<reqwest::Response, FetchError> {
        self.shared.gate.check_literal(url)?;
        let mut outgoing = reqwest::Request::new(request.method.clone(), url.clone());
        *outgoing.headers_mut() = headers;
        if !request.body.is_empty() || request.method == Method::POST {
            *outgoing.body_mut() = Some(request.body.clone().into());
        }
        self.execute(outgoing, request.timeouts.connect).await.map_err(failure::classify)
    }

    /// Sends a request. A request that failed because its kept connection was dead is repeated on a new connection.
    async fn execute(
        &self,
        request: reqwest::Request,
        connect_timeout: Option<Duration>,
    ) -> reqwest::Result<reqwest::Response> {
        let timeout = connect_timeout.unwrap_or(self.shared.connect_timeout);
        // The body is in memory, so the request can be cloned.
        let again = request.try_clone();
        let (outcome, reused) = connection::observed(self.pool(timeout, true)?.execute(request)).await;
        match (outcome, again) {
            (Err(error), Some(again)) if reused == Reused::Yes && connection::is_dead(&error) => {
                self.pool(timeout, false)?.execute(again).await
            }
            (outcome, _) => outcome,
        }
    }

    /// The connection pool for a connect timeout.
    fn pool(&self, connect_timeout: Duration, keeps: bool) -> reqwest::Result<reqwest::Client> {
        let timeout = rounded(connect_timeout);
        let pool_key = PoolKey { connect_timeout: timeout, keeps };
        let mut pools = self.shared.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pool)) = pools.iter().find(|(key, _)| *key == pool_key) {
            return Ok(pool.clone());
        }
        let pool = reqwest::Client::builder()
            .tls_backend_preconfigured((**self.shared.tls.load()).clone())
            .dns_resolver(GateResolver(self.shared.gate.clone()))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(if keeps { 64 } else { 0 })
            .connector_layer(Observe)
            .http1_title_case_headers()
            .http1_only()
            .build()?;
        if pools.len() >= POOLS {
            pools.remove(0);
        }
        pools.push((pool_key, pool.clone()));
        Ok(pool)
    }
}

/// The origin to which the client connects for a request.
#[derive(Debug, Clone)]
pub struct Route {
    /// The origin of the connection. The server's certificate must be valid for the host of this origin.
    pub to: Origin,
    /// The origin in the URL, if `[[origins]]` replace this origin with another origin.
    named: Option<Origin>,
}

impl Route {
    /// Returns the headers that tell the application which URL was requested. A reverse proxy sends the same headers.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, String)> {
        let host = HeaderName::from_static("x-forwarded-host");
        let scheme = HeaderName::from_static("x-forwarded-proto");
        self.named.iter().flat_map(move |named| {
            let proto = if named.is_secure() { "https" } else { "http" };
            [(header::HOST, named.authority()), (host.clone(), named.authority()), (scheme.clone(), proto.to_owned())]
        })
    }

    fn place(&self, url: Url) -> Url {
        if self.named.is_some() { self.to.place(&url) } else { url }
    }

    /// Adds the origin of the connection to an error, if this origin is not the origin in the URL.
    pub(crate) fn annotate(&self, error: FetchError) -> FetchError {
        match self.named {
            Some(_) => error.add(&format!(" (origins lead to {})", self.to)),
            None => error,
        }
    }
}

/// Resolves names to addresses that the policy allows.
struct Gate {
    policy: NetworkPolicy,
    names: Arc<dyn Lookup>,
}

impl Gate {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, FetchError> {
        let found = self.names.lookup(host).await.map_err(|error| FetchError::Dns(format!("{host}: {error}")))?;
        let mut refusal = FetchError::Dns(format!("{host}: no address"));
        let mut allowed = Vec::new();
        for address in found {
            match self.policy.check(address) {
                Ok(address) => allowed.push(address),
                Err(error) => refusal = FetchError::Refused(format!("{host}: {error}")),
            }
        }
        if allowed.is_empty() { Err(refusal) } else { Ok(allowed) }
    }

    /// Checks an address that is written in the URL. The resolver does not check such an address, because the address
    /// is never resolved.
    fn check_literal(&self, url: &Url) -> Result<(), FetchError> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.policy.check(address.into()).map(drop),
            Some(Host::Ipv6(address)) => self.policy.check(address.into()).map(drop),
            Some(Host::Domain(_)) => Ok(()),
            None => Err(FetchError::Url("no host".into())),
        }
    }
}

/// The resolver, in the form that the HTTP library needs.
struct GateResolver(Arc<Gate>);

impl reqwest::dns::Resolve for GateResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let gate = self.0.clone();
        Box::pin(async move {
            let addresses = gate.addresses(name.as_str()).await?;
            // The port is 0, because the library sets the port of the URL.
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as reqwest::dns::Addrs)
        })
    }
}

/// The system's resolver.
pub struct SystemResolver;

impl Lookup for SystemResolver {
    fn lookup(&self, host: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let host = host.to_owned();
        Box::pin(
            async move { Ok(tokio::net::lookup_host((host.as_str(), 0)).await?.map(|address| address.ip()).collect()) },
        )
    }
}

/// The URL without user name and password, for display.
pub fn without_credentials(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return url.to_owned() };
    if parsed.username().is_empty() && parsed.password().is_none() {
        return url.to_owned();
    }
    // `set_username` and `set_password` fail only for URLs that cannot have a host. Such URLs have no user name.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.to_string()
}

fn parse(url: &str) -> Result<Url, FetchError> {
    let parsed = Url::parse(url).map_err(|error| FetchError::Url(error.to_string()))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        other => Err(FetchError::Url(format!("scheme {other} is not http or https"))),
    }
}

fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, FetchError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let invalid = || FetchError::Protocol(format!("header {name:?} cannot be sent"));
        let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        map.append(HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?, value);
    }
    Ok(map)
}

/// The user name and password of a URL.
struct UrlCredentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl UrlCredentials {
    /// Decodes the credentials of a Basic header field.
    fn of_basic(value: &HeaderValue) -> Option<Self> {
        let pair = BASE64_STANDARD.decode(value.to_str().ok()?.strip_prefix("Basic ")?).ok()?;
        let colon = pair.iter().position(|octet| *octet == b':')?;
        let (user, password) = pair.split_at(colon);
        Some(Self { user: user.to_vec(), password: password.get(1..)?.to_vec() })
    }

    /// The header value for Basic authentication (RFC 7617).
    fn basic(&self) -> Result<HeaderValue, FetchError> {
        let pair = [&*self.user, b":", &*self.password].concat();
        let value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair)));
        let mut value = value.map_err(|error| FetchError::Url(error.to_string()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The header value that answers the challenges of a 401 response. `None` if the client can answer none of the
    /// challenges.
    fn digest(&self, refused: &HeaderMap, request: &Request, url: &Url) -> Option<HeaderValue> {
        let challenges: Vec<&str> =
            refused.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).ok();
        let (username, password) = (text(&self.user)?, text(&self.password)?);
        let login = Login { username: &username, password: &password };
        let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let cnonce = format!("{:032x}", rand::random::<u128>());
        let parts = SignedParts { method: request.method.as_str(), uri: &target, body: &request.body };
        let value = digest::answer(&challenges, login, parts, &cnonce)?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Removes the user name and the password from the URL, and returns the user name and the password.
fn take_credentials(url: &mut Url) -> Option<UrlCredentials> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let credentials = UrlCredentials {
        user: percent_decode(url.username()),
        password: percent_decode(url.password().unwrap_or_default()),
    };
    // `set_username` and `set_password` fail only for URLs that cannot have a host, and this URL has a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(credentials)
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        let hex = (first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(octet) => {
                decoded.push(octet);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => decoded.push(first),
        }
    }
    decoded
}

fn redirect(request: &mut Request, status: u16, from: &Url, target: &Url) {
    request.url = target.to_string();
    let mut dropped: Vec<&str> = Vec::new();
    if matches!(status, 301..=303) && request.method != Method::HEAD {
        request.method = Method::GET;
        request.body = Bytes::new();
        dropped.extend(["content-type", "content-length", "content-encoding"]);
    }
    if from.origin() != target.origin() {
        dropped.extend(["authorization", "cookie", "proxy-authorization"]);
    }
    request.headers.retain(|(name, _)| !dropped.iter().any(|drop| name.eq_ignore_ascii_case(drop)));
}

/// Rounds up to a multiple of 50 ms, so that there are few pools.
fn rounded(timeout: Duration) -> Duration {
    let step = 50;
    let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).clamp(step, 60_000);
    Duration::from_millis(milliseconds.div_ceil(step) * step)
}
