//! Tests of the endpoint with hand-written messages. Each test checks one behaviour.

mod callee;
mod caller;
mod completed;
mod delayed_offer;
mod dialogs;
pub(crate) mod edge;
mod floods;
mod locate;
mod recording;
mod resume;
mod torture;
mod trunks;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::flow::Target;
use crate::header::Header;
use crate::leg::{Command, EndCause};
use crate::testing::{self, SDP, answer, hangup, instant, outgoing};

/// An endpoint at 127.0.0.1:5060. The test acts as the far end at 127.0.0.2:5060.
struct Bench {
    start: Instant,
    now: Instant,
    endpoint: Endpoint,
    sent: VecDeque<String>,
    events: VecDeque<Event>,
    /// The transport and destination of each sent message, written as in `sip.listen`.
    ways: VecDeque<String>,
    asked: VecDeque<(LookupId, String, Option<TrunkName>)>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let now = instant();
        let endpoint = testing::endpoint("127.0.0.1:5060", 7, change);
        Self {
            start: now,
            now,
            endpoint,
            sent: VecDeque::new(),
            events: VecDeque::new(),
            ways: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    fn collect(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Transmit { data, destination, transport, .. } => {
                    self.ways.push_back(format!("{}://{destination}", transport.parameter()));
                    self.sent.push_back(String::from_utf8(data.to_vec()).unwrap());
                }
                Output::Event(event) => self.events.push_back(event),
                Output::Resolve { lookup, uri, trunk } => self.asked.push_back((lookup, uri, trunk)),
                Output::Trust(_) | Output::Alias { .. } => {}
            }
        }
    }

    fn receive(&mut self, message: impl Into<Bytes>) {
        self.receive_over(Transport::Udp, message);
    }

    fn receive_over(&mut self, transport: Transport, message: impl Into<Bytes>) {
        let arrival = Arrival {
            source: "127.0.0.2:5060".parse().unwrap(),
            local: "127.0.0.1:5060".parse().unwrap(),
            transport,
            connection: (transport == Transport::Tcp).then_some(ConnectionId(1)),
            certified_trunk: None,
            from_page: false,
            data: message.into(),
        };
        self.endpoint.handle_datagram(self.now, arrival);
        self.collect();
    }

    fn command(&mut self, command: Command) {
        self.endpoint.handle_command(self.now, command);
        self.collect();
    }

    /// Advances the clock. Each timer fires at its own time.
    fn wait(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
    }

    /// Returns the oldest sent message that the test has not read yet.
    #[track_caller]
    fn sent(&mut self) -> String {
        self.sent.pop_front().expect("a message was sent")
    }

    /// Returns the oldest sent message that the test has not read yet. The message must begin with `start`.
    #[track_caller]
    fn expect(&mut self, start: &str) -> String {
        let message = self.sent();
        assert!(message.starts_with(start), "expected {start}, sent:\n{message}");
        message
    }

    #[track_caller]
    fn silent(&mut self) {
        assert!(self.sent.is_empty(), "sent:\n{}", self.sent.iter().map(String::as_str).collect::<String>());
    }

    #[track_caller]
    fn event(&mut self) -> Event {
        self.events.pop_front().expect("an event was emitted")
    }

    #[track_caller]
    fn ended(&mut self) -> (EndCause, Option<u16>, Option<String>) {
        match self.event() {
            Event::Ended { cause, status, reason, .. } => {
                assert!(self.events.is_empty(), "Ended is the last event");
                (cause, status, reason)
            }
            other => panic!("not the end: {other:?}"),
        }
    }

    /// Waits until all timers have fired, and checks that the endpoint is empty.
    #[track_caller]
    fn empty(&mut self) {
        self.wait(200_000);
        assert_eq!((self.endpoint.legs(), self.endpoint.table_sizes()), (0, [0; 7]));
    }
}

/// Returns the value of the first header field with this name.
#[track_caller]
fn field<'a>(message: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    message
        .split("\r\n")
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap_or_else(|| panic!("no {name} in:\n{message}"))
}

/// Returns the value of Retry-After in seconds.
fn retry_after(message: &str) -> u32 {
    field(message, "Retry-After").parse().unwrap()
}

/// Returns the value of a parameter in a header value, for example the tag of To.
fn parameter<'a>(value: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}=");
    value.split(';').find_map(|part| part.strip_prefix(&prefix)).unwrap_or_default()
}

/// Returns a response of the far end. The response is for a request that the endpoint sent.
pub(super) fn response_to(request: &str, status: u16, tag: &str, more: &str) -> String {
    let copied: String =
        ["Via", "From", "Call-ID", "CSeq"].iter().map(|name| format!("{name}: {}\r\n", field(request, name))).collect();
    let to = field(request, "To");
    let to = if tag.is_empty() || to.contains(";tag=") { to.to_owned() } else { format!("{to};tag={tag}") };
    let (lines, body) = more.split_once("\r\n\r\n").unwrap_or((more, ""));
    let lines = if lines.is_empty() { String::new() } else { format!("{}\r\n", lines.trim_end()) };
    format!(
        "SIP/2.0 {status} Status {status}\r\n{copied}To: {to}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const WITH_SDP: &str = "Contact: <sip:peer@127.0.0.2:5060>\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n";
