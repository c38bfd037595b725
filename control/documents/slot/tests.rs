//! A script that is written while it runs, and continued in another process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

use std::sync::Arc;
use std::time::Duration;

use tandem_accounts::Account;
use tandem_call::fetch::{Fetch, FetchReason, Scope};
use tandem_call::program::instruction::Instruction;
use tandem_call::{Method, Target};
use tandem_dialect::fake::{self, Fake};
use tandem_dialect::script::{Request, Response, Step, Timeouts};
use tandem_dialect::{Context, Dialect};
use tandem_http::{Client, CookieJar, NetworkPolicy};
use tandem_id::AccountName;

use super::*;
use crate::{RequestContext, Turns, fetch};

/// A script that counts its steps. For `FetchReason::Wait` it sends a request to `url`, whose result has no effect.
struct Count {
    steps: u64,
    url: String,
    awaits: bool,
}

impl Count {
    /// Reads the written form of a script, or creates a new script.
    fn make(url: &str, written: Option<&[u8]>) -> Box<dyn Script> {
        let text = String::from_utf8_lossy(written.unwrap_or(b"0 false"));
        let (steps, awaits) = text.split_once(' ').unwrap();
        Box::new(Self { steps: steps.parse().unwrap(), url: url.to_owned(), awaits: awaits == "true" })
    }

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

struct Process {
    dialects: Dialects,
    client: Client,
}

impl Process {
    fn new(url: &str) -> Self {
        let url = url.to_owned();
        let counting = Fake::with_scripts("counting", move |written| Count::make(&url, written));
        let dialect: Arc<dyn Dialect> = Arc::new(counting);
        let policy = NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()] };
        Self { dialects: Dialects::new([dialect]), client: Client::new(policy, Duration::from_secs(5)).unwrap() }
    }

    /// Requests the next instructions. Returns the length of the pause, which is the number of the step.
    async fn next(&self, slot: &ScriptSlot, id: u64, reason: FetchReason) -> u64 {
        let target = Target { url: "http://app.test/".into(), method: Method::Post };
        let first_method = Method::Post;
        let leg = Arc::new(fake::leg());
        let asked = Fetch { id: FetchId(id), leg, target, reason, scope: Scope::Leg, first_method };
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
