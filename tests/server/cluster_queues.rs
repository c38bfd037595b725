//! Call queues over the nodes of a cluster, and bridges of legs of two nodes.

use tandem_test_support::wait_until;

use crate::app::{App, AppRequest};
use crate::audio::noise;
use crate::bridge::arrived;
use crate::cluster::{Pair, call_path, sees};
use crate::log::PATIENCE;
use crate::phone::{Phone, SipEvent};
use crate::program::Program;
use crate::test_server::{ACCOUNT_SID, asks};

const ENQUEUE: &str =
    "<Response><Enqueue action=\"/left\" waitUrl=\"/wait\">support</Enqueue><Gather timeout=\"60\"/></Response>";
const WAIT: &str = "<Response><Pause length=\"60\"/></Response>";
const DEQUEUE: &str = "<Response><Dial action=\"/dialed\"><Queue url=\"/whisper\">support</Queue></Dial></Response>";
const STAY: &str = "<Response><Gather timeout=\"60\"/></Response>";

/// The number of the callers, and that of the agents.
const CALLERS: &str = "100";
const AGENTS: &str = "200";

/// Starts two nodes with the application of the callers and the agents.
async fn nodes() -> Option<Pair> {
    let app = App::start(|request: &AppRequest| {
        let document = match &*request.path {
            "/voice" if request.field("To").contains(AGENTS) => DEQUEUE,
            "/voice" => ENQUEUE,
            "/wait" => WAIT,
            "/left" | "/dialed" => STAY,
            "/whisper" => "<Response/>",
            _ => "",
        };
        document.to_owned()
    })
    .await;
    let numbers = asks(CALLERS, app.address) + &asks(AGENTS, app.address);
    Pair::of(app, numbers).await
}

/// Returns the nth request for this path.
async fn nth(app: &App, path: &str, nth: usize) -> AppRequest {
    let requests = || app.requests.all().into_iter().filter(|one| one.path == path);
    wait_until(PATIENCE, path, async || requests().count() > nth).await;
    requests().nth(nth).unwrap()
}

/// Waits until the queue has this number of members, by a node. Returns the SID of the queue.
async fn members(node: &Program, count: usize) -> String {
    let folder = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Queues");
    let mut sid = String::new();
    wait_until(PATIENCE, "the members of the queue", async || {
        let queues = node.api.get(&format!("{folder}.json")).await.json();
        let Some(queue) = queues["queues"].as_array().and_then(|all| all.first()).cloned() else { return false };
        sid = queue["sid"].as_str().unwrap_or_default().to_owned();
        let members = node.api.get(&format!("{folder}/{sid}/Members.json")).await.json();
        let waiting = members["queue_members"].as_array().map_or(0, Vec::len);
        waiting == count && queue["current_size"] == count
    })
    .await;
    sid
}

/// Checks that each phone hears what the other says.
async fn hear_each_other(one: &Phone, other: &Phone) {
    for (speaker, listener) in [(one, other), (other, one)] {
        let frames = noise(1_000, 21);
        let from = listener.audio.heard().len();
        speaker.audio.say(&frames);
        wait_until(PATIENCE, "the words arrive", async || {
            arrived(&frames, &listener.audio.heard().all()[from..]).len() > 10
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_takes_callers_of_other_nodes_out_of_one_queue() {
    let Some(Pair { a, b, app, engines: _engines, .. }) = nodes().await else { return };
    // A caller of each node waits.
    let (mut first, mut second) = (Phone::new().await, Phone::new().await);
    first.call(b.udp, CALLERS).await;
    let queue = members(&b, 1).await;
    second.call(a.udp, CALLERS).await;
    for node in [&a, &b] {
        assert_eq!(members(node, 2).await, queue, "one queue");
    }
    let waits = nth(&app, "/wait", 1).await;
    assert_eq!((waits.field("QueuePosition"), waits.field("CurrentQueueSize")), ("2".to_owned(), "2".to_owned()));

    // The agent of node A takes the first caller, which is at node B.
    let mut agent = Phone::new().await;
    agent.call(a.udp, AGENTS).await;
    let whisper = nth(&app, "/whisper", 0).await;
    assert_eq!(whisper.field("QueueSid"), queue);
    let (caller_sid, agent_sid) = (whisper.field("CallSid"), whisper.field("DequeingCallSid"));
    assert!(a.api.get(&call_path(&agent_sid)).await.json()["to"].to_string().contains(AGENTS));
    hear_each_other(&first, &agent).await;
    for node in [&a, &b] {
        members(node, 1).await;
    }
    // The caller hangs up, and the agent continues.
    first.hangup().await;
    let dialed = nth(&app, "/dialed", 0).await;
    assert_eq!((dialed.field("CallSid"), dialed.field("DialCallStatus")), (agent_sid, "completed".to_owned()));
    let left = nth(&app, "/left", 0).await;
    assert_eq!((left.field("CallSid"), left.field("QueueResult")), (caller_sid, "bridged".to_owned()));

    // An agent of node B takes the second caller, which is at node A. The agent hangs up, and the caller continues.
    let mut other = Phone::new().await;
    other.call(b.udp, AGENTS).await;
    nth(&app, "/whisper", 1).await;
    hear_each_other(&second, &other).await;
    other.hangup().await;
    let left = nth(&app, "/left", 1).await;
    assert_eq!(left.field("QueueResult"), "bridged");
    assert_eq!(a.api.get(&call_path(&left.field("CallSid"))).await.json()["status"], "in-progress");

    // An agent waits, and the next caller comes to the other node.
    let mut waiting = Phone::new().await;
    waiting.call(b.udp, AGENTS).await;
    let mut third = Phone::new().await;
    third.call(a.udp, CALLERS).await;
    nth(&app, "/whisper", 2).await;
    hear_each_other(&third, &waiting).await;
    let records = a.api.get(&format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json")).await.json();
    assert_eq!(records["calls"].as_array().map(Vec::len), Some(6), "a call has one record");
    third.hangup().await;
    nth(&app, "/dialed", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_keep_their_places_when_the_node_of_the_queue_dies() {
    let Some(Pair { engines, app, numbers, a, b }) = nodes().await else { return };
    // Node A has the queue, because its caller comes first.
    let (mut at_a, mut at_b, mut last) = (Phone::new().await, Phone::new().await, Phone::new().await);
    at_a.call(a.udp, CALLERS).await;
    members(&a, 1).await;
    at_b.call(b.udp, CALLERS).await;
    members(&b, 2).await;
    last.call(b.udp, CALLERS).await;
    members(&b, 3).await;
    let sid = nth(&app, "/wait", 1).await.field("CallSid");
    a.kill().await;
    at_a.until(SipEvent::Bye).await;
    members(&b, 2).await;
    let mut agent = Phone::new().await;
    agent.call(b.udp, AGENTS).await;
    assert_eq!(nth(&app, "/whisper", 0).await.field("CallSid"), sid, "the caller that came first");
    hear_each_other(&at_b, &agent).await;

    // The node of an agent dies: the caller continues after the queue.
    let a = engines.node("a", &numbers).await;
    sees(&a, 2).await;
    let mut second = Phone::new().await;
    second.call(a.udp, AGENTS).await;
    nth(&app, "/whisper", 1).await;
    hear_each_other(&last, &second).await;
    a.kill().await;
    second.until(SipEvent::Bye).await;
    let left = nth(&app, "/left", 0).await;
    assert_eq!(left.field("QueueResult"), "bridged");
    assert_eq!(b.api.get(&call_path(&left.field("CallSid"))).await.json()["status"], "in-progress");
}
