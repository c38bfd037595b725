//! The view of people and web pages of a cluster: each node shows the calls, conferences and queues of all nodes, and a page that
//! is connected to one node is called from all.

use serde_json::{Value, json};
use tandem_test_support::wait_until;

use crate::cluster::{Pair, sees};
use crate::console::Followed;
use crate::log::PATIENCE;
use crate::pages::{OFFER, Socket, USERS};
use crate::phone::{Phone, SipEvent};
use crate::program::Program;
use crate::test_server::inline;

/// The rows with this key that have come, the newest last.
fn rows<'a>(lines: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    lines.iter().map(move |line| &line[kind]).filter(|row| row.is_object())
}

/// The names of the nodes that are away, as the last line about them says.
fn away(lines: &[Value]) -> Option<&Value> {
    lines.iter().rev().map(|line| &line["away"]).find(|names| names.is_array())
}

/// The number of messages that a node has sent to others.
async fn sent(node: &Program) -> String {
    let metrics = String::from_utf8(node.api.get("/metrics").await.body).unwrap();
    let line = metrics.lines().find(|line| line.starts_with("tandem_bus_messages_total{direction=\"sent\"}"));
    line.unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_shows_what_happens_now_at_all_nodes() {
    let room = inline("200", "<Response><Dial><Conference>room</Conference></Dial></Response>");
    let queue = inline("300", "<Response><Enqueue>sales</Enqueue></Response>");
    let echo = inline("400", "<Response><Echo/></Response>");
    let Some(pair) = Pair::start_with(&format!("{room}{queue}{echo}")).await else { return };
    let (a, b) = (&pair.a, &pair.b);
    // Nobody looks, so a call costs no message. Now and then a node asks another one for its pages.
    wait_until(PATIENCE, "a call without a message", async || {
        let before = sent(a).await;
        let mut phone = Phone::new().await;
        phone.call(a.udp, "400").await;
        phone.hangup().await;
        sent(a).await == before
    })
    .await;

    let mut now = Followed::start(b.api, "now").await;
    let mut calls = Followed::start(b.api, "calls?follow=true").await;

    // A call of node A, which has begun after the followers.
    let mut phone = Phone::new().await;
    phone.call(a.udp, "100").await;
    let sid = pair.app.request("/voice").await.field("CallSid");
    let is_call = |row: &Value| row["legs"][0]["id"] == sid.as_str() && row["legs"][0]["verb"] == "gather";
    now.until("the call is shown", |lines| rows(lines, "live").any(is_call)).await;
    let shown = |status: &'static str| {
        let sid = &sid;
        move |lines: &[Value]| rows(lines, "call").any(|row| row["id"] == sid.as_str() && row["status"] == status)
    };
    calls.until("the call is listed", shown("in-progress")).await;
    let is_measured = |line: &Value| line["leg"] == sid.as_str() && line["quality"]["packets_in"].is_u64();
    now.until("its quality is shown", |lines| lines.iter().any(is_measured)).await;
    // A list that is read once.
    wait_until(PATIENCE, "the call is in the list", async || {
        let listed = b.api.get("/console/live").await.json();
        listed["live"].as_array().is_some_and(|live| live.iter().any(is_call)) && listed["away"].is_null()
    })
    .await;

    // The timeline of the call, until its end.
    let mut story = Followed::start(b.api, &format!("calls/{sid}?follow=true")).await;
    story.until("a line of the timeline", |lines| rows(lines, "line").next().is_some()).await;

    // A conference and a queue, which the follower shows with their callers.
    let (mut host, mut waiting) = (Phone::new().await, Phone::new().await);
    host.call(a.udp, "200").await;
    waiting.call(a.udp, "300").await;
    let has_host =
        |row: &Value| row["name"] == "room" && row["participants"].as_array().is_some_and(|all| all.len() == 1);
    now.until("the conference is shown", |lines| rows(lines, "conference").any(has_host)).await;
    let has_caller =
        |row: &Value| row["name"] == "sales" && row["callers"].as_array().is_some_and(|all| all.len() == 1);
    now.until("the queue is shown", |lines| rows(lines, "queue").any(has_caller)).await;

    // A participant whose call is at node B.
    let mut guest = Phone::new().await;
    guest.call(b.udp, "200").await;
    let has_both = |row: &Value| {
        let participants = row["participants"].as_array();
        participants.is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["session"].is_string()))
    };
    now.until("both participants are shown", |lines| rows(lines, "conference").any(has_both)).await;

    let key = rows(&now.seen, "live").find(|row| is_call(row)).unwrap()["session"].clone();
    phone.hangup().await;
    now.gone(&key).await;
    calls.until("the end is listed", shown("completed")).await;
    story.until("the report", |lines| rows(lines, "report").next().is_some()).await;
    let report = rows(&story.seen, "report").next().unwrap();
    assert_eq!(report["calls"][0]["status"], "completed");
    let told = |kind: &str| rows(&story.seen, "line").any(|line| line["kind"] == kind);
    assert!(told("call") && told("verb"), "{:#?}", story.seen);
    assert!(away(&now.seen).is_none() && away(&calls.seen).is_none() && away(&story.seen).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_answer_is_named_and_its_rows_stay_until_it_is_dead() {
    let Some(mut pair) = Pair::start().await else { return };
    let mut now = Followed::start(pair.b.api, "now").await;
    let mut calls = Followed::start(pair.b.api, "calls?follow=true").await;
    let mut phone = Phone::new().await;
    phone.call(pair.a.udp, "100").await;
    let sid = pair.app.request("/voice").await.field("CallSid");
    let is_call = |row: &Value| row["legs"][0]["id"] == sid.as_str();
    now.until("the call is shown", |lines| rows(lines, "live").any(is_call)).await;
    let key = rows(&now.seen, "live").find(|row| is_call(row)).unwrap()["session"].clone();

    pair.engines.nats.stop();
    let names_a = |lines: &[Value]| away(lines).is_some_and(|names| *names == serde_json::json!(["a"]));
    now.until("node A is named", names_a).await;
    calls.until("node A is named", names_a).await;
    let listed = pair.b.api.get("/console/live").await.json();
    assert_eq!(listed["away"], serde_json::json!(["a"]), "{listed}");
    assert!(now.seen.iter().all(|line| line["gone"] != key), "the call may live");
    pair.engines.nats.start_again();
    let names_nobody = |lines: &[Value]| away(lines).is_some_and(|names| *names == serde_json::json!([]));
    now.until("node A answers again", names_nobody).await;
    calls.until("node A answers again", names_nobody).await;
    // The events come again.
    let mut second = Phone::new().await;
    second.call(pair.a.udp, "100").await;
    now.until("the second call is shown", |lines| {
        rows(lines, "live").any(|row| row["session"] != key && row["legs"][0]["verb"] == "gather")
    })
    .await;

    pair.a.kill().await;
    now.gone(&key).await;
    phone.until(SipEvent::Bye).await;
    let is_over = |lines: &[Value]| {
        let last = rows(lines, "call").filter(|row| row["id"] == sid.as_str()).last();
        last.is_some_and(|row| row["status"] == "completed")
    };
    calls.until("the list has the end that node B has written", is_over).await;
    now.until("nobody is away", names_nobody).await;
    sees(&pair.b, 1).await;
}

/// The settings of the users of pages, and of the number 600, which calls alice.
fn alice() -> String {
    format!("{USERS}{}", inline("600", "<Response><Dial timeout=\"20\"><Client>alice</Client></Dial></Response>"))
}

/// Waits until a node knows that a page of alice is connected, or that none is.
async fn knows(node: &Program, pages: usize) {
    wait_until(PATIENCE, "the node knows the pages", async || {
        let phones = node.api.get("/console/phones").await.json();
        let alice = phones["phones"].as_array().unwrap().iter().find(|row| row["username"] == "alice").cloned();
        alice.is_some_and(|alice| alice["pages"].as_array().unwrap().len() == pages)
    })
    .await;
}

/// Waits for the call that rings at the page. Returns its id in frames.
async fn rings(page: &mut Socket) -> String {
    let invite = page.until(|frame| frame["method"] == "telnyx_rtc.invite").await.unwrap();
    assert!(invite["params"]["sdp"].as_str().unwrap().contains("a=candidate:"), "{invite}");
    invite["params"]["callID"].as_str().or(invite["params"]["dialogParams"]["callID"].as_str()).unwrap().to_owned()
}

async fn answer(page: &mut Socket, id: &str) {
    let sdp = OFFER.replace("actpass", "active");
    page.request(2, "telnyx_rtc.answer", json!({ "sdp": sdp, "dialogParams": { "callID": id } })).await;
}

/// Waits until the newest leg to a page has this status, by its node.
async fn child_is(node: &Program, status: &str) -> String {
    let newest = async || {
        let calls = node.api.calls().await;
        calls.into_iter().find(|call| call["direction"] == "outbound-dial").filter(|call| call["status"] == status)
    };
    wait_until(PATIENCE, status, async || newest().await.is_some()).await;
    newest().await.unwrap()["sid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_called_from_a_node_that_it_is_not_connected_to() {
    let Some(mut pair) = Pair::start_with(&alice()).await else { return };
    let (mut page, _) = Socket::log_in(pair.a.api, "alice", None).await;
    for node in [&pair.a, &pair.b] {
        knows(node, 1).await;
    }
    let b = &pair.b;

    // The page answers, and hangs up.
    let mut phone = Phone::new().await;
    phone.invite(b.udp, "600").await;
    let id = rings(&mut page).await;
    child_is(b, "ringing").await;
    answer(&mut page, &id).await;
    let child = child_is(b, "in-progress").await;
    page.request(3, "telnyx_rtc.bye", json!({ "dialogParams": { "callID": id } })).await;
    phone.until(SipEvent::Bye).await;
    assert_eq!(child_is(b, "completed").await, child);

    // The caller gives up while the page rings.
    let mut phone = Phone::new().await;
    phone.invite(b.udp, "600").await;
    let id = rings(&mut page).await;
    phone.hangup().await;
    let is_bye = |frame: &Value| {
        let params = &frame["params"];
        let of = params["callID"].as_str().or(params["dialogParams"]["callID"].as_str());
        frame["method"] == "telnyx_rtc.bye" && of == Some(&*id)
    };
    page.until(is_bye).await.expect("the page rings no more");

    // The bus is away: the call fails at once, with the reason.
    pair.engines.nats.stop();
    let mut phone = Phone::new().await;
    phone.invite(pair.b.udp, "600").await;
    phone.until(SipEvent::Bye).await;
    let story = pair.b.api.get("/console/calls/last").await.json();
    let end = &story["calls"].as_array().unwrap().iter().find(|leg| leg["name"] == "callee").unwrap()["end"];
    assert_eq!(end["cause"], "bus-away", "{end}");
    pair.engines.nats.start_again();
    for node in [&pair.a, &pair.b] {
        let answers = async || node.api.get("/console/queues").await.json()["away"].is_null();
        wait_until(PATIENCE, "the other node answers", answers).await;
    }

    // The node of the page dies during the call.
    let mut phone = Phone::new().await;
    phone.invite(pair.b.udp, "600").await;
    let id = rings(&mut page).await;
    answer(&mut page, &id).await;
    child_is(&pair.b, "in-progress").await;
    pair.a.kill().await;
    phone.until(SipEvent::Bye).await;
    knows(&pair.b, 0).await;
    let errors = pair.b.api.get("/console/errors?cause=node-died").await.json().to_string();
    assert!(errors.contains("the node of the web page has ended"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_connects_before_a_node_starts_is_known_to_it_and_learns_the_end_of_its_node() {
    let Some(pair) = Pair::start_with(&alice()).await else { return };
    let (mut page, _) = Socket::log_in(pair.b.api, "alice", None).await;
    pair.a.kill().await;
    sees(&pair.b, 1).await;
    let a = pair.engines.node("a", &pair.numbers).await;
    knows(&a, 1).await;
    let phone = Phone::new().await;
    phone.invite(a.udp, "600").await;
    let id = rings(&mut page).await;
    answer(&mut page, &id).await;
    child_is(&a, "in-progress").await;
    a.kill().await;
    page.until(|frame| frame["method"] == "telnyx_rtc.bye").await.expect("the page learns the end");
    drop(page);
    knows(&pair.b, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_softphone_of_the_console_opens_its_socket_at_any_node_and_listens_to_calls_of_all() {
    let Some(pair) = Pair::start().await else { return };
    let (a, b) = (&pair.a, &pair.b);
    let mut phone = Phone::new().await;
    phone.call(a.udp, "100").await;
    let sid = pair.app.request("/voice").await.field("CallSid");
    // A balancer sends each of these requests to another node.
    let id = a.api.console("/phone/socket", &json!({})).await.json()["phone"].as_str().unwrap().to_owned();
    let mut page = Socket::open(b.api, &format!("/console/phone/socket/{id}")).await;
    page.until(|frame| frame["event"] == "ready").await.unwrap();
    for node in [b, a] {
        let listens = async || node.api.console(&format!("/legs/{sid}/listen"), &json!({ "phone": id })).await;
        // The other node learns of the page in a moment.
        let mut listening = listens().await;
        wait_until(PATIENCE, "the softphone is called", async || {
            if listening.status != 200 {
                listening = listens().await;
            }
            listening.status == 200
        })
        .await;
        let ring = page.until(|frame| frame["event"] == "incoming").await.unwrap();
        assert_eq!(ring["to"], format!("client:listener-{}", &id[..8]));
        let sdp = OFFER.replace("actpass", "active");
        page.send(json!({ "action": "answer", "id": ring["id"], "sdp": sdp }).to_string()).await;
        let call = format!("/console/calls/{}", listening.json()["call"].as_str().unwrap());
        wait_until(PATIENCE, "the softphone listens", async || {
            let story = a.api.get(&call).await.json();
            story["calls"].as_array().is_some_and(|legs| {
                legs.iter()
                    .any(|leg| leg["to"].as_str().unwrap().contains("listener") && leg["status"] == "in-progress")
            })
        })
        .await;
        page.send(json!({ "action": "leave", "id": ring["id"] }).to_string()).await;
    }
    phone.hangup().await;
    // The id is used only once.
    let again = a.api.get(&format!("/console/phone/socket/{id}")).await.status;
    assert!(again == 404 || again == 400 || again == 426, "{again}");
}
