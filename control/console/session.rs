//! Sign-in to the web console. A session is a random cookie, so that the browser stores no password.
//!
//! Only the routes of the console read the cookie. So a session cannot be used at the APIs of the providers. Three barriers
//! keep other pages from using it: `SameSite=Strict`, the check of `Origin` for all requests that change something, and the
//! header field `X-Tandem-Console`, which no form and no simple request can have.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tandem_accounts::Account;
use tandem_cluster::{AskError, Cluster, Question};
use tandem_host::{clock, hash};
use tandem_id::{AccountName, node};
use tandem_runtime::app::App;
use tandem_settings::{ConsoleRole, ConsoleUser};

use crate::Scope;

/// The name of the cookie.
const COOKIE: &str = "tandem_console";
/// The header field of every request of the page that changes something.
const FIELD: HeaderName = HeaderName::from_static("x-tandem-console");
/// A session ends after this time without a request, and after [`LONGEST`] in any case.
const IDLE: Duration = Duration::from_secs(2 * 3_600);
const LONGEST: Duration = Duration::from_secs(12 * 3_600);
/// Maximum number of sessions. If there are more, the one that has been idle longest ends.
const MOST: usize = 1_000;
/// Maximum number of failed sign-ins from one address within [`WINDOW`]. Then the address must wait.
const MOST_FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of addresses with failed sign-ins that are remembered. If there are more, all of them wait together.
const MOST_ADDRESSES: usize = 10_000;
/// Maximum length of the body of a sign-in, in octets.
const MAX_BODY: usize = 4_096;

/// The sessions of the web console. In a cluster, each session is in the memory of the node at which the user has signed in.
/// The cookie ends with the tag of this node, and the other nodes ask it.
pub struct Sessions {
    users: Vec<ConsoleUser>,
    table: Mutex<Table>,
    cluster: Cluster,
}

/// Asks the node of a session for its user.
#[derive(Serialize, Deserialize)]
struct UserOf {
    /// The key of the session, so that no message contains the cookie.
    key: [u8; 32],
    /// Whether the session ends now.
    ends: bool,
}

impl Question for UserOf {
    const NAME: &'static str = "session";
    type Answer = Option<SignedIn>;
}

#[derive(Default)]
struct Table {
    /// The key is the hash of the cookie, so that the memory of the process contains no cookie.
    sessions: HashMap<[u8; 32], Session>,
    failures: HashMap<IpAddr, Failures>,
}

struct Session {
    signed_in: SignedIn,
    began: Instant,
    used: Instant,
}

struct Failures {
    since: Instant,
    count: u32,
}

/// A user that has signed in. The middleware [`identify`] adds this value to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignedIn {
    /// The name with which the user has signed in.
    pub name: Arc<str>,
    /// The role of the user, which decides about its changes.
    pub role: ConsoleRole,
    /// The account that the user sees. `None` means all accounts.
    account: Option<AccountName>,
}

impl SignedIn {
    /// Returns what this user sees. Returns `None` if the account no longer exists.
    pub(crate) fn scope(&self, app: &App) -> Option<Scope> {
        let own = match &self.account {
            Some(name) => app.accounts.by_name(name)?,
            None => app.accounts.all().iter().find(|account| app.accounts.is_operator(account)).cloned()?,
        };
        Some(Scope::signed_in(own, self.account.is_none(), self.role, Arc::clone(&self.name)))
    }
}

/// The description of a session for the page.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    role: ConsoleRole,
    /// The account that the user sees. `None` means all accounts.
    account: Option<&'a str>,
    version: &'static str,
}

#[derive(Deserialize)]
struct Credentials {
    user: String,
    password: String,
}

impl Sessions {
    /// Creates the sessions of these users and of all accounts.
    pub fn new(users: Vec<ConsoleUser>, cluster: &Cluster) -> Arc<Self> {
        let sessions = Arc::new(Self { users, table: Mutex::default(), cluster: cluster.clone() });
        let asked = Arc::downgrade(&sessions);
        cluster.answer(move |question: UserOf| {
            let user = asked.upgrade().and_then(|sessions| sessions.take(&question, clock::now().instant));
            std::future::ready(user)
        });
        sessions
    }

    /// Returns the user of a session of this node. Ends the session if the question says so.
    fn take(&self, question: &UserOf, now: Instant) -> Option<SignedIn> {
        let mut table = self.table();
        let session = table.sessions.get_mut(&question.key).filter(|session| !session.is_over(now))?;
        session.used = now;
        let user = session.signed_in.clone();
        if question.ends {
            table.sessions.remove(&question.key);
        }
        Some(user)
    }

    /// Returns the user of a cookie, from the node at which the user has signed in. With `ends`, the session ends.
    ///
    /// # Errors
    /// The node of the session does not answer.
    async fn ask(&self, cookie: &str, ends: bool) -> Result<Option<SignedIn>, AskError> {
        let question = UserOf { key: key(cookie), ends };
        let node = cookie.get(32..).and_then(|end| u128::from_str_radix(end, 16).ok());
        match node.and_then(|id| self.cluster.other_owner_of(id)) {
            Some(node) => match self.cluster.ask(&node, &question).await {
                // The sessions of a node end with the node.
                Err(AskError::NoNode) => Ok(None),
                answer => answer,
            },
            None => Ok(self.take(&question, clock::now().instant)),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the user with these credentials: a user of the console, or an account with its own credentials.
    fn find(&self, app: &App, given: &Credentials) -> Option<SignedIn> {
        let is = |known: &str, given: &str| bool::from(known.as_bytes().ct_eq(given.as_bytes()));
        let user =
            self.users.iter().find(|one| is(&one.name, &given.user) & is(one.password.expose(), &given.password));
        if let Some(user) = user {
            return Some(SignedIn { name: user.name.as_str().into(), role: user.role, account: user.account.clone() });
        }
        let account = Self::owner(app, given)?;
        let is_operator = app.accounts.is_operator(&account);
        let role = if is_operator { ConsoleRole::Operator } else { ConsoleRole::Account };
        let name = account.name.as_str().into();
        Some(SignedIn { name, role, account: (!is_operator).then(|| account.name.clone()) })
    }

    /// Finds the account whose own credentials these are, in the form of any provider: a user name and a password, or a
    /// key alone.
    fn owner(app: &App, given: &Credentials) -> Option<Arc<Account>> {
        let pair = BASE64_STANDARD.encode(format!("{}:{}", given.user, given.password));
        [format!("Basic {pair}"), format!("Bearer {}", given.password)].iter().find_map(|text| {
            let value = HeaderValue::from_str(text).ok()?;
            app.owner(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
        })
    }

    /// Begins a session. Returns the cookie's value.
    fn begin(&self, signed_in: SignedIn, now: Instant) -> String {
        let cookie = format!("{:032x}{:032x}", rand::random::<u128>(), node::sign(rand::random::<u128>()));
        let mut table = self.table();
        table.sessions.retain(|_, session| !session.is_over(now));
        if table.sessions.len() >= MOST
            && let Some(oldest) = table.sessions.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key)
        {
            table.sessions.remove(&oldest);
        }
        table.sessions.insert(key(&cookie), Session { signed_in, began: now, used: now });
        cookie
    }

    /// Whether an address must wait before its next sign-in.
    fn must_wait(&self, address: IpAddr, now: Instant) -> bool {
        let mut table = self.table();
        table.failures.retain(|_, failures| now.saturating_duration_since(failures.since) < WINDOW);
        table.failures.len() >= MOST_ADDRESSES
            || table.failures.get(&address).is_some_and(|failures| failures.count >= MOST_FAILURES)
    }

    fn note_failure(&self, address: IpAddr, now: Instant) {
        self.table().failures.entry(address).or_insert(Failures { since: now, count: 0 }).count += 1;
    }
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= IDLE || now.saturating_duration_since(self.began) >= LONGEST
    }
}

fn key(cookie: &str) -> [u8; 32] {
    hash::sha256([cookie.as_bytes()])
}

/// Returns the cookie of a request.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Builds the routes of the session.
pub(crate) fn routes(sessions: Arc<Sessions>) -> Router<App> {
    let routes = get(show).post(sign_in).delete(sign_out).layer(DefaultBodyLimit::max(MAX_BODY));
    Router::new().route("/console/session", routes).layer(axum::Extension(sessions))
}

/// Middleware that adds the user of the cookie to a request ([`SignedIn`]). A request that changes something also needs the
/// header field `X-Tandem-Console`. A script of a page gets no challenge, because the browser would ask for a password in a window of
/// its own.
pub async fn identify(State(sessions): State<Arc<Sessions>>, mut request: Request, next: Next) -> Response {
    let user = match cookie(request.headers()) {
        Some(cookie) => match sessions.ask(cookie, false).await {
            Ok(user) => user,
            Err(error) => return away(&error),
        },
        None => None,
    };
    // Credentials in the request itself take precedence: a program has sent them.
    if let Some(user) = user.filter(|_| !request.headers().contains_key(header::AUTHORIZATION)) {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if !reads && !request.headers().contains_key(&FIELD) {
            let text = "a change with a session needs the header field X-Tandem-Console: 1";
            return refused(StatusCode::FORBIDDEN, text);
        }
        request.extensions_mut().insert(user);
    }
    let mode = request.headers().get("sec-fetch-mode").and_then(|mode| mode.to_str().ok());
    let is_script = request.headers().contains_key(&FIELD) || mode.is_some_and(|mode| mode != "navigate");
    let mut response = next.run(request).await;
    if is_script {
        response.headers_mut().remove(header::WWW_AUTHENTICATE);
    }
    response
}

/// `GET /console/session`: the user that has signed in.
async fn show(user: Option<axum::Extension<SignedIn>>) -> Response {
    match user {
        Some(axum::Extension(user)) => shown(&user),
        None => refused(StatusCode::UNAUTHORIZED, "sign in"),
    }
}

fn shown(user: &SignedIn) -> Response {
    let account = user.account.as_ref().map(AccountName::as_str);
    Json(Shown { name: &user.name, role: user.role, account, version: env!("CARGO_PKG_VERSION") }).into_response()
}

/// `POST /console/session`: begins a session.
async fn sign_in(
    State(app): State<App>,
    axum::Extension(sessions): axum::Extension<Arc<Sessions>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Json(given): Json<Credentials>,
) -> Response {
    let (now, address) = (clock::now().instant, peer.ip().to_canonical());
    if sessions.must_wait(address, now) {
        return refused(StatusCode::TOO_MANY_REQUESTS, "too many wrong passwords; try again in a minute");
    }
    let Some(user) = sessions.find(&app, &given) else {
        sessions.note_failure(address, now);
        tracing::warn!(%peer, "a sign-in to the console failed: no account and no user has this name and password");
        let text =
            "no account and no user has this name and password; `tandem env` prints the credentials of an account";
        return refused(StatusCode::UNAUTHORIZED, text);
    };
    // A session of the same browser ends, so that nobody can prepare a cookie for somebody else.
    if let Some(cookie) = cookie(&headers)
        && let Err(error) = sessions.ask(cookie, true).await
    {
        return away(&error);
    }
    tracing::info!(%peer, user = &*user.name, "signed in to the console");
    let value = sessions.begin(user.clone(), now);
    // A browser sends the origin of the page with every POST.
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
    let secure = if origin.starts_with("https:") { "; Secure" } else { "" };
    let seconds = LONGEST.as_secs();
    let set = format!("{COOKIE}={value}; Path=/console; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    ([(header::SET_COOKIE, set)], shown(&user)).into_response()
}

/// `DELETE /console/session`: ends the session.
async fn sign_out(axum::Extension(sessions): axum::Extension<Arc<Sessions>>, headers: HeaderMap) -> Response {
    if let Some(cookie) = cookie(&headers)
        && let Err(error) = sessions.ask(cookie, true).await
    {
        return away(&error);
    }
    let set = format!("{COOKIE}=; Path=/console; Max-Age=0; HttpOnly; SameSite=Strict");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, set)]).into_response()
}

/// The answer if the node of a session does not answer.
fn away(error: &AskError) -> Response {
    refused(StatusCode::SERVICE_UNAVAILABLE, &format!("the node at which you signed in: {error}; try again"))
}

/// A refusal that the page shows together with advice.
pub(crate) fn advised(status: StatusCode, message: &str, advice: &str) -> Response {
    (status, Json(serde_json::json!({ "message": message, "advice": advice }))).into_response()
}

/// A refusal that the page shows.
pub(crate) fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(serde_json::json!({ "message": message }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> SignedIn {
        SignedIn { name: "ana".into(), role: ConsoleRole::Reader, account: None }
    }

    impl Sessions {
        fn user(&self, cookie: &str, now: Instant) -> Option<SignedIn> {
            self.take(&UserOf { key: key(cookie), ends: false }, now)
        }

        fn end(&self, cookie: &str) {
            self.take(&UserOf { key: key(cookie), ends: true }, clock::now().instant);
        }
    }

    #[test]
    fn a_session_ends_when_it_is_idle_old_or_signed_out() {
        let (sessions, now) = (Sessions::new(Vec::new(), &Cluster::alone()), clock::now().instant);
        let cookie = sessions.begin(user(), now);
        assert_eq!(cookie.len(), 64);
        assert!(sessions.user(&cookie, now + IDLE - Duration::from_secs(1)).is_some());
        assert!(sessions.user(&cookie, now + 2 * IDLE).is_none());
        let mut at = now;
        let cookie = sessions.begin(user(), at);
        while at < now + LONGEST - IDLE / 2 {
            assert!(sessions.user(&cookie, at).is_some());
            at += IDLE / 2;
        }
        assert!(sessions.user(&cookie, now + LONGEST).is_none());
        let cookie = sessions.begin(user(), now);
        sessions.end(&cookie);
        assert!(sessions.user(&cookie, now).is_none());
    }

    #[test]
    fn the_number_of_sessions_is_limited_and_the_most_idle_one_ends() {
        let (sessions, now) = (Sessions::new(Vec::new(), &Cluster::alone()), clock::now().instant);
        let first = sessions.begin(user(), now);
        let second = sessions.begin(user(), now + Duration::from_secs(1));
        for _ in 0..MOST - 1 {
            sessions.begin(user(), now + Duration::from_secs(2));
        }
        let later = now + Duration::from_secs(3);
        assert_eq!([&first, &second].map(|cookie| sessions.user(cookie, later).is_some()), [false, true]);
    }

    #[test]
    fn an_address_waits_a_minute_after_ten_failures_and_others_do_not() {
        let (sessions, now) = (Sessions::new(Vec::new(), &Cluster::alone()), clock::now().instant);
        let [one, other]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        for _ in 0..MOST_FAILURES {
            assert!(!sessions.must_wait(one, now));
            sessions.note_failure(one, now);
        }
        assert!(sessions.must_wait(one, now) && !sessions.must_wait(other, now));
        assert!(!sessions.must_wait(one, now + WINDOW));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let headers = |text: &'static str| HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(text))]);
        assert_eq!(cookie(&headers("a=1; tandem_console=abc; b=2")), Some("abc"));
        assert_eq!(cookie(&headers("tandem_console_2=abc; x_tandem_console=d")), None);
    }
}
