//! A script that is written while it runs, and continued in another process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_accounts::Account;
use tandem_call::address::Address;
use tandem_call::event::CallEvent;
use tandem_call::fetch::{Fetch, FetchReason, Scope};
use tandem_call::leg::{LegInfo, LegOwner};
use tandem_call::program::instruction::Instruction;
use tandem_call::stream::StreamSpec;
use tandem_call::{Method, Target};
use tandem_dialect::script::{Request, Response, Step, Timeouts};
use tandem_dialect::{Context, Dialect, Documents, Notice, StreamWire};
use tandem_http::{Client, CookieJar, NetworkPolicy};
use tandem_id::{AccountName, CallId, LegId, StreamId};
use tandem_webhooks::{Body, SignInput, SignedRequest};
use url::Url;

use super::*;
use crate::{RequestContext, Turns, fetch};

/// A dialect of scripts. A script counts its steps. Every second step is a request to `url`, whose result has no effect.
struct Counting {
    url: String,
}

struct Count {
    steps: u64,
    url: String,
    awaits: bool,
}

impl Count {
    fn done(&mut self) -> Step {
        self.steps += 1;
        let pause = Instruction::Pause(Duration::from_secs(self.steps));
        Step::Done { result: Ok(Program { instructions: vec![pause], warnings: Vec::new() }), line: String::new() }
    }
}

impl Script for Count {
    fn handle_fetch(&mut self, _: &Account, fetch: &Fetch, _: &Context) -> Step {
        if self.awaits || matches!(fetch.reason, FetchReason::Wait) {
            self.awaits = true;
            return Step::Request(Box::new(Request {
                method: http::Method::GET,
                url: self.url.clone(),
                headers: Vec::new(),
                body: bytes::Bytes::new(),
                timeouts: Timeouts { connect: None, total: Duration::from_secs(5) },
                max_body: 10,
            }));
        }
        self.done()
    }

    fn handle_response(&mut self, _: &Fetch, _: Result<&Response, FetchFailure>) -> Step {
        self.awaits = false;
        self.done()
    }

    fn write(&self) -> Result<Vec<u8>, CallSnapshotError> {
        Ok(format!("{} {}", self.steps, self.awaits).into_bytes())
    }
}

impl Dialect for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn call_id(&self, leg: LegId) -> String {
        leg.to_string()
    }

    fn parse_call_id(&self, _: &str) -> Option<LegId> {
        None
    }

    fn documents(&self) -> Option<&dyn Documents> {
        Some(self)
    }

    fn webhook(&self, _: &Account, _: &CallEvent, _: &Context) -> Vec<Notice> {
        Vec::new()
    }

    fn sign(&self, _: &Account, notice: &SignInput<'_>) -> SignedRequest {
        SignedRequest { url: notice.url.to_owned(), headers: Vec::new(), body: bytes::Bytes::new() }
    }

    fn stream(&self, _: &Account, _: &LegInfo, _: StreamId, _: &StreamSpec, _: Timestamp) -> Box<dyn StreamWire> {
        unreachable!("no test of this crate has streams")
    }
}

impl Documents for Counting {
    fn fetch(&self, _: &Account, fetch: &Fetch, _: &Context) -> Notice {
        let (target, body) = (fetch.target.clone(), Body::Form(Vec::new()));
        Notice { event: "document".to_owned(), target, failover: None, body, numbered: false }
    }

    fn reply(
        &self,
        _: &Fetch,
        _: &Notice,
        _: Option<&Url>,
        _: Option<&str>,
        _: &[u8],
    ) -> Result<Program, FetchFailure> {
        Ok(Program::default())
    }

    fn script(&self) -> Option<Box<dyn Script>> {
        Some(Box::new(Count { steps: 0, url: self.url.clone(), awaits: false }))
    }

    fn read_script(&self, octets: &[u8]) -> Result<Box<dyn Script>, CallSnapshotError> {
        let text = String::from_utf8_lossy(octets);
        let (steps, awaits) = text.split_once(' ').unwrap();
        Ok(Box::new(Count { steps: steps.parse().unwrap(), url: self.url.clone(), awaits: awaits == "true" }))
    }
}

struct Process {
    dialects: Dialects,
    client: Client,
}

impl Process {
    fn new(url: &str) -> Self {
        let dialect: Arc<dyn Dialect> = Arc::new(Counting { url: url.to_owned() });
        let policy = NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()] };
        Self { dialects: Dialects::new([dialect]), client: Client::new(policy, Duration::from_secs(5)).unwrap() }
    }

    /// Requests the next instructions. Returns the length of the pause, which is the number of the step.
    async fn next(&self, slot: &ScriptSlot, id: u64, reason: FetchReason) -> u64 {
        let (from, to) = (Address::from("+15550001"), Address::from("+15550002"));
        let owner = LegOwner::new(AccountName::new("main"), "counting");
        let leg = LegInfo::inbound(LegId(1), CallId(2), owner, from, to, Timestamp::UNIX_EPOCH);
        let target = Target { url: "http://app.test/".into(), method: Method::Post };
        let first_method = Method::Post;
        let asked = Fetch { id: FetchId(id), leg: Arc::new(leg), target, reason, scope: Scope::Leg, first_method };
        let account =
            Account { name: AccountName::new("main"), twilio: None, telnyx: None, signalwire: None, operator: false };
        let context = Context { public_url: "http://us".into(), sequence: 0, recording: None, queue: None };
        let request_context = RequestContext {
            client: &self.client,
            dialects: &self.dialects,
            dialect: self.dialects.get("counting").unwrap(),
            account: &account,
            jar: &CookieJar::new(),
            id: 1,
            turns: &Turns::default(),
        };
        let fetched = fetch(request_context, &asked, &context, slot).await;
        match &fetched.result.unwrap().instructions[..] {
            [Instruction::Pause(length)] => length.as_secs(),
            other => panic!("{other:?}"),
        }
    }

    /// Another process reads the slot that was written.
    fn restarted(&self, slot: &ScriptSlot) -> ScriptSlot {
        let written = slot.write().unwrap().unwrap();
        let octets = serde_json::to_vec(&written).unwrap();
        let read = ScriptSlot::read(&self.dialects, serde_json::from_slice(&octets).unwrap()).unwrap();
        assert_eq!(read.write().unwrap().unwrap(), written);
        read
    }
}

#[tokio::test]
async fn a_request_that_is_repeated_after_a_restart_gets_the_same_instructions() {
    let (process, slot) = (Process::new("http://127.0.0.1:1/"), ScriptSlot::default());
    assert_eq!(slot.write().unwrap(), None);
    assert_eq!(process.next(&slot, 1, FetchReason::Start).await, 1);
    let slot = process.restarted(&slot);
    assert_eq!(process.next(&slot, 1, FetchReason::Start).await, 1, "the call may not have got the instructions");
    assert_eq!(process.next(&slot, 2, FetchReason::Redirect).await, 2);
    assert_eq!(process.next(&slot, 3, FetchReason::Redirect).await, 3);
}

#[tokio::test]
async fn a_script_can_be_written_while_it_awaits_a_response() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let process = Process::new(&format!("http://{}/", listener.local_addr().unwrap()));
    let slot = ScriptSlot::default();
    assert_eq!(process.next(&slot, 1, FetchReason::Start).await, 1);
    tokio::select! {
        step = process.next(&slot, 2, FetchReason::Wait) => panic!("there was no response before step {step}"),
        connected = listener.accept() => drop(connected.unwrap()),
    }
    let written = slot.write().unwrap().unwrap();
    assert_eq!(&written.state[..], b"1 true");
    drop(listener);
    // The other process sends the request again.
    let slot = process.restarted(&slot);
    assert_eq!(process.next(&slot, 2, FetchReason::Redirect).await, 2);
}

#[test]
fn a_script_of_an_unknown_dialect_is_refused() {
    let written = WrittenScript { dialect: "other".to_owned(), state: bytes::Bytes::new(), given: None };
    let read = ScriptSlot::read(&Dialects::default(), written).map(|_| ());
    assert!(matches!(read, Err(CallSnapshotError::Malformed(_))), "{read:?}");
}
