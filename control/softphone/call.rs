//! A call of the page: the request that makes it, and the response with its events.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tandem_call::address::PhoneNumber;
use tandem_call::event::EventKind;
use tandem_call::header_fields::HeaderFields;
use tandem_call::route::Route;
use tandem_clients::User;
use tandem_events::{Event, Filter, Item, Kind, Subscription};
use tandem_id::{AccountName, CallId, LegId};
use tandem_leg::signal::Identity;
use tandem_pages::socket::{Outbox, Waiting};
use tandem_pages::{Line, Page, PageCall, PageSpec, printable};
use tandem_runtime::Calls;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, Sleep, interval, sleep};

use crate::frame::{Frame, JsonLines, Problem};
use crate::{Desk, FROM, MAX_CALLS, Softphone, ending, refused};

/// The media type of an offer (RFC 9725 §4.2). No page of another origin can send it without asking first.
const SDP: &str = "application/sdp";
/// Maximum number of characters of a called number, and of a caller.
const MAX_PARTY: usize = 128;
/// Maximum number of problems that the page shows for one call. The call's timeline has all of them.
const MAX_PROBLEMS: usize = 20;
/// Time for which the response waits for the reason of the end.
const REASON: Duration = Duration::from_secs(3);
/// Time between two empty lines, which show that the connection is alive.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The parties of the call.
#[derive(Deserialize)]
pub(crate) struct Parties {
    /// The called number. Empty means the number of the application.
    #[serde(default)]
    to: String,
    /// The caller: a number or a name. Empty means the usual one.
    #[serde(default)]
    from: String,
}

/// `POST /dev/phone/calls`: makes a call. The body is the page's offer with all its candidates.
pub(crate) async fn call(
    State(phone): State<Arc<Softphone>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(parties): Query<Parties>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let (account, place) = (phone.dialled.account.clone(), "the page /dev/phone");
    let to = chosen(&parties.to, &phone.dialled.number);
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(SDP) {
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("The body must be an SDP offer: {SDP}."));
    }
    let Ok(offer) = body else {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "The SDP offer is longer than 64 KiB.");
    };
    let offer = String::from_utf8_lossy(&offer).into_owned();
    let call = Call { account, place, name: "dev-phone", peer, to, from: parties.from, offer, route: None };
    phone.desk.call(call)
}

/// Returns the text that a person has entered, or the usual text.
fn chosen(text: &str, usual: &str) -> String {
    match printable(text.trim()) {
        text if text.is_empty() => usual.to_owned(),
        text => text,
    }
}

/// A call of a page.
pub struct Call {
    /// The account whose numbers and phones the page calls.
    pub account: AccountName,
    /// The page, as the call's log names it.
    pub place: &'static str,
    /// The user of the page.
    pub name: &'static str,
    /// The address of the browser.
    pub peer: SocketAddr,
    /// The called number or user.
    pub to: String,
    /// The calling number or name. Empty means the usual one.
    pub from: String,
    /// The page's offer with all its candidates.
    pub offer: String,
    /// The route, if the page has chosen one. Without it, the called number decides.
    pub route: Option<Route>,
}

impl Desk {
    /// Makes a call. The response has a line of JSON for each event, and lasts as long as the call. The caller of this
    /// function checks who may call.
    pub fn call(&self, mut call: Call) -> Response {
        (call.to, call.from) = (printable(call.to.trim()), chosen(&call.from, FROM));
        let is_party = |text: &String| {
            !text.is_empty() && text.chars().count() <= MAX_PARTY && !text.contains(char::is_whitespace)
        };
        if ![&call.to, &call.from].into_iter().all(is_party) {
            return refused(StatusCode::BAD_REQUEST, "A number or a name has 1 to 128 characters and no spaces.");
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let text = format!(
                "{MAX_CALLS} calls of this page are in progress, and more are not possible. Hang up one of them."
            );
            return refused(StatusCode::SERVICE_UNAVAILABLE, text);
        };
        let filter = Filter::kinds(&[Kind::Call, Kind::Problem]).of_account(call.account.clone());
        let Ok(events) = self.app.calls.services().events.subscribe(filter) else {
            return refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "The server has too many readers of events. Call again later.",
            );
        };
        let stream = CallStream::begin(self, call, events, place);
        let lines = stream::unfold(stream, async |mut stream| {
            let line = stream.next().await?;
            Some((Ok::<_, Infallible>(line), stream))
        });
        ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
    }
}

/// The response to the request of a call. When it is dropped, the page has hung up.
struct CallStream {
    calls: Calls,
    line: Arc<Line>,
    /// The id of the call in a refusal.
    signalling_id: String,
    /// The call, as soon as it is known.
    session: Option<CallId>,
    frames: Waiting,
    events: Subscription,
    /// Whether the call was refused before it had a leg. Then no leg will end.
    has_no_leg: bool,
    /// The status with which the call was refused.
    status: Option<u16>,
    /// Whether the last frame has come.
    has_over: bool,
    /// Runs while the response waits for the reason of the end.
    reason: Option<Pin<Box<Sleep>>>,
    keepalive: Interval,
    problems: usize,
    has_error: bool,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Drop for CallStream {
    fn drop(&mut self) {
        self.line.left();
    }
}

impl CallStream {
    /// Makes the call.
    fn begin(desk: &Desk, call: Call, events: Subscription, place: OwnedSemaphorePermit) -> Self {
        let Call { account, place: page_name, name: user, peer, to, from, offer, route } = call;
        let calls = desk.app.calls.clone();
        let (out, frames) = Outbox::new();
        let page = Page::new(PageSpec {
            calls: calls.clone(),
            lines: desk.lines.clone(),
            protocol: JsonLines::shared(),
            id_of: |leg, _| leg.to_string(),
            session: "".into(),
            user: User { account, name: user.into(), domain: None },
            out,
        });
        let line = page.new_call(|leg| leg.to_string(), None, offer);
        let signalling_id = format!("{user}-{:032x}", rand::random::<u128>());
        let is_number = from.parse::<PhoneNumber>().is_ok();
        let name = from.strip_prefix("client:").unwrap_or(&from).to_owned();
        Arc::clone(&line).make(PageCall {
            peer,
            transport: "HTTP",
            // The page has no user. The request has shown who may call.
            identity: Identity::Sip { username: None, domain: None },
            line: format!("call of {page_name}: {from} -> {to}"),
            from_uri: if is_number { from } else { format!("client:{name}") },
            from_user: name,
            from_display: None,
            to_uri: to.clone(),
            to_user: to,
            signalling_id: signalling_id.clone(),
            headers: HeaderFields::new(),
            parameters: Vec::new(),
            client_state: None,
            route,
        });
        Self {
            calls,
            line,
            signalling_id,
            session: None,
            frames,
            events,
            has_no_leg: false,
            status: None,
            has_over: false,
            reason: None,
            keepalive: interval(KEEPALIVE),
            problems: 0,
            has_error: false,
            is_over: false,
            _place: place,
        }
    }

    /// Waits for the next line. Returns `None` after the last line.
    async fn next(&mut self) -> Option<String> {
        while !self.is_over {
            let frame = tokio::select! {
                frame = self.frames.next(), if !self.has_over => self.on_frame(frame),
                item = self.events.next() => match item {
                    Some(Item::Event(event)) => self.on_event(&event),
                    // Other calls of the account have filled the queue. The end may be among what was lost.
                    Some(Item::Missed(_) | Item::Away(_)) => None,
                    None => Some(ending::unknown()),
                },
                () = at(&mut self.reason) => Some(self.status.map_or_else(ending::unknown, ending::refused)),
                _ = self.keepalive.tick() => return Some("\n".to_owned()),
            };
            let Some(frame) = frame else { continue };
            self.is_over = matches!(frame, Frame::Ended { .. });
            return Some(frame.line());
        }
        None
    }

    fn on_frame(&mut self, frame: Option<String>) -> Option<Frame> {
        match frame.and_then(|frame| serde_json::from_str(&frame).ok()) {
            // A frame was lost.
            None => self.over(None),
            Some(Frame::Over { status }) => self.over(status),
            frame => return frame,
        }
        None
    }

    /// The call is over. The bus says why.
    fn over(&mut self, status: Option<u16>) {
        (self.has_over, self.status) = (true, status);
        let patience = if self.has_no_leg { Duration::ZERO } else { REASON };
        self.reason = Some(Box::pin(sleep(patience)));
    }

    fn on_event(&mut self, event: &Event) -> Option<Frame> {
        match event {
            Event::Call(event) if event.leg.id == self.leg() => {
                let is_new = self.session.replace(event.leg.session).is_none();
                match &event.kind {
                    EventKind::Ended => Some(ending::of_leg(&event.leg, self.has_error)),
                    _ => is_new.then(|| Frame::Call { id: self.calls.services().call_id(&event.leg) }),
                }
            }
            Event::Problem(event) => {
                let report = &event.report.details;
                let is_refusal = report.request.as_ref().is_some_and(|of| of.sip_call_id == self.signalling_id);
                let session = self.session.map(|session| session.to_string());
                let is_own = event.leg == Some(self.leg()) || session.is_some() && report.session == session;
                self.has_no_leg |= is_refusal;
                if self.has_no_leg && self.has_over {
                    self.reason = Some(Box::pin(sleep(Duration::ZERO)));
                }
                if is_own || is_refusal { self.problem(Problem::of(&event.report)) } else { None }
            }
            _ => None,
        }
    }

    fn problem(&mut self, problem: Problem) -> Option<Frame> {
        self.has_error |= problem.level == "error";
        self.problems += 1;
        (self.problems <= MAX_PROBLEMS).then(|| Frame::Problem(Box::new(problem)))
    }

    fn leg(&self) -> LegId {
        self.line.facts().leg
    }
}

/// Waits for the end of a timer, if it runs.
async fn at(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => std::future::pending().await,
    }
}
