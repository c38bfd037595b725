//! The page `/dev/phone`, with which a developer talks to the application. It exists only where [`routes`] are served:
//! under `tandem dev`.
//!
//! ```text
//!   page ── POST /dev/phone/calls (SDP offer) ──► CallStream ──► tandem_pages ──► the leg of the call
//!        ◄─ one line of JSON for each event ────┘    ▲
//!                                          the event bus: problems, the end of the leg
//! ```
//!
//! One request is one call. Its response lasts as long as the call, and its last line says why the call has ended. To hang
//! up, the page closes the connection. So a page that is closed leaves no call behind, and no call ends without a reason.
//!
//! `guard.rs` refuses requests that show that they come from elsewhere. A request that makes a call or reads the numbers
//! also needs the [`Key`], which keeps out those that do not show it.
#![forbid(unsafe_code)]

mod call;
mod ending;
mod frame;
mod guard;
mod key;
mod phone;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use serde_json::json;
use tandem_id::AccountName;
use tandem_pages::Lines;
use tandem_pages::socket::MAX_FRAME;
use tandem_runtime::app::App;
use tokio::sync::Semaphore;

pub use call::Call;
pub use guard::OF_PAGES;
pub use key::Key;
pub use phone::{Expected, NotRung};

/// The path of the page.
const PATH: &str = "/dev/phone";
/// Maximum number of calls at the same time, of all tabs together.
const MAX_CALLS: usize = 8;
/// The calling number of the page. It is a fictitious number, and `tandem call` has the same.
const FROM: &str = "+15550109999";
/// Maximum number of numbers that the page suggests.
const MAX_NUMBERS: usize = 200;

const HTML: &str = include_str!("page/phone.html");
const SCRIPT: &str = include_str!("page/phone.js");
const STYLE: &str = include_str!("page/phone.css");
const ICON: &str = include_str!("page/icon.svg");

/// The call that the page makes if nothing else is entered, and the key of the page.
#[derive(Clone, Debug)]
pub struct Dialled {
    /// The account that owns the number.
    pub account: AccountName,
    /// The number of the application.
    pub number: String,
    /// Without this key, the page can neither call nor see the numbers.
    pub key: Key,
}

/// The state of the page's requests.
struct Softphone {
    desk: Desk,
    dialled: Dialled,
}

/// The calls of the pages of a server. Each request with an offer is one call. A page with a socket also takes calls.
#[derive(Clone)]
pub struct Desk {
    app: App,
    lines: Lines,
    places: Arc<Semaphore>,
    /// The pages that take calls.
    phones: phone::Phones,
}

impl Desk {
    /// Creates the state for the pages of one path.
    pub fn new(app: App) -> Self {
        let places = Arc::new(Semaphore::new(MAX_CALLS));
        Self { app, lines: Lines::default(), places, phones: phone::Phones::default() }
    }
}

/// Builds the routes of the page.
pub fn routes(app: App, dialled: Dialled) -> Router {
    let phone = Arc::new(Softphone { desk: Desk::new(app), dialled });
    let keyed = Router::new()
        .route("/dev/phone/settings", get(settings))
        .route("/dev/phone/calls", post(call::call).layer(DefaultBodyLimit::max(MAX_FRAME)))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&phone), key::guard));
    Router::new()
        .route(PATH, get(|| async { file("text/html; charset=utf-8", HTML) }))
        .route("/dev/phone/phone.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/dev/phone/phone.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
        .route("/dev/phone/icon.svg", get(|| async { file("image/svg+xml", ICON) }))
        .merge(keyed)
        .layer(middleware::from_fn(guard::guard))
        .with_state(phone)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// `GET /dev/phone/settings`: the values of the page's fields, and the numbers that the page suggests.
async fn settings(State(phone): State<Arc<Softphone>>) -> Response {
    let Dialled { account, number, .. } = &phone.dialled;
    let routing = phone.desk.app.calls.services().routing.load_full();
    let stored = routing.inventory().numbers.all(account).into_iter().map(|held| held.name.clone());
    // A text with `*` stands for many numbers.
    let configured = routing.configured_of(account).filter_map(|one| one.number.exact().map(str::to_owned));
    let mut numbers: Vec<String> = configured.chain(stored).take(MAX_NUMBERS).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let settings = json!({ "number": number, "from": FROM, "numbers": numbers });
    ([(header::CONTENT_TYPE, "application/json")], settings.to_string()).into_response()
}

/// An error for the page, or for the person who reads it.
fn refused(status: StatusCode, text: impl Into<String>) -> Response {
    let kind: (HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    (status, [kind], text.into() + "\n").into_response()
}
