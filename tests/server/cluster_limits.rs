//! Limits and commands that hold for all nodes of a cluster together.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;
use tandem_test_support::wait_until;

use crate::cluster::{Engines, Pair, sees};
use crate::log::PATIENCE;
use crate::phone::{Phone, SipEvent};
use crate::program::Program;
use crate::test_server::{API_KEY, commanded};

/// A trunk that is known by its address.
fn trunk(address: &str, limit: &str) -> String {
    format!("[[trunks]]\nname = \"carrier\"\naccount = \"acme\"\ninbound_from = [\"{address}/32\"]\n{limit}\n")
}

/// The calls of a trunk.
struct Calls {
    address: &'static str,
    /// The calls that were answered and not ended, with their nodes.
    live: Vec<(SocketAddr, Phone)>,
    /// Number of calls that were refused.
    refused: usize,
}

impl Calls {
    fn of_trunk(address: &'static str) -> Self {
        Self { address, live: Vec::new(), refused: 0 }
    }

    /// Calls a node, and returns whether the call was answered.
    async fn call(&mut self, node: &Program) -> bool {
        let mut phone = Phone::at(self.address).await;
        phone.invite(node.udp, "100").await;
        let status = phone.outcome().await;
        assert!(matches!(status, 200 | 503), "{status}");
        match status {
            200 => self.live.push((node.udp, phone)),
            _ => self.refused += 1,
        }
        status == 200
    }

    /// Calls a node until it has taken so many calls.
    async fn fill(&mut self, node: &Program, count: usize) {
        for number in 0..count {
            let what = format!("call {number} of {count} is taken");
            let calls = tokio::sync::Mutex::new(&mut *self);
            wait_until(PATIENCE, &what, async || calls.lock().await.call(node).await).await;
        }
    }

    /// Ends so many calls of a node.
    async fn end(&mut self, node: &Program, count: usize) {
        for _ in 0..count {
            let index = self.live.iter().position(|(address, _)| *address == node.udp).expect("a call of the node");
            self.live.swap_remove(index).1.hangup().await;
        }
    }

    fn of(&self, node: &Program) -> usize {
        self.live.iter().filter(|(address, _)| *address == node.udp).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_of_a_trunk_at_all_nodes_together_are_not_above_its_limit() {
    let Some(Pair { a, b, app: _app, engines: _engines, .. }) =
        Pair::start_with(&trunk("127.0.0.5", "max_calls = 10")).await
    else {
        return;
    };
    let mut calls = Calls::of_trunk("127.0.0.5");
    // One node can use the whole limit, although the other had a half.
    let start = Instant::now();
    calls.fill(&a, 10).await;
    println!("one node has all 10 calls after {:?} and {} refusals", start.elapsed(), calls.refused);
    for node in [&a, &b] {
        assert!(!calls.call(node).await, "the limit is reached");
    }
    // Places that become free can be used at both nodes.
    calls.end(&a, 6).await;
    calls.refused = 0;
    calls.fill(&b, 3).await;
    calls.fill(&a, 3).await;
    println!("the free places were used after {} refusals", calls.refused);
    for node in [&b, &a, &b] {
        assert!(!calls.call(node).await, "the limit is reached");
    }
    // Calls come and go at both nodes.
    for round in 0..60 {
        let node = if rand::random_bool(0.5) { &a } else { &b };
        if rand::random_bool(0.4) && calls.of(node) > 0 {
            calls.end(node, 1).await;
        } else {
            calls.call(node).await;
        }
        assert!(calls.live.len() <= 10, "round {round}: {} calls", calls.live.len());
    }
    // A node that was killed frees its slices when another node has ended its calls.
    let count = calls.of(&a);
    calls.end(&a, count).await;
    let count = calls.of(&b);
    calls.fill(&b, 6 - count.min(6)).await;
    let gone = b.udp;
    b.kill().await;
    sees(&a, 1).await;
    calls.live.retain(|(address, _)| *address != gone);
    calls.fill(&a, 10).await;
    assert!(!calls.call(&a).await, "the limit is reached");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_calls_of_a_second_at_all_nodes_together_are_not_above_the_rate() {
    let Some(Pair { a, b, app: _app, engines: _engines, .. }) =
        Pair::start_with(&trunk("127.0.0.6", "max_cps = 4")).await
    else {
        return;
    };
    let mut calls = Calls::of_trunk("127.0.0.6");
    for nodes in [[&a, &b], [&b, &b]] {
        let (start, mut taken) = (Instant::now(), 0);
        while taken < 16 {
            for node in nodes {
                if calls.call(node).await {
                    taken += 1;
                    calls.end(node, 1).await;
                }
                assert!(start.elapsed() < PATIENCE, "{taken} calls were taken");
                // A burst of 4 calls, and then 4 calls a second.
                let most = 4.0 + 4.0 * start.elapsed().as_secs_f64();
                assert!(f64::from(taken) <= most, "{taken} calls, at most {most}");
            }
        }
        println!("16 calls were taken after {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_below_the_number_of_nodes_lets_calls_through_at_each_node() {
    let more = trunk("127.0.0.7", "max_calls = 1\nmax_cps = 1");
    let Some(Pair { a, b, app: _app, engines: _engines, .. }) = Pair::start_with(&more).await else { return };
    let mut calls = Calls::of_trunk("127.0.0.7");
    for node in [&a, &b, &a] {
        calls.fill(node, 1).await;
        for other in [&a, &b] {
            assert!(!calls.call(other).await, "the limit is reached");
        }
        calls.end(node, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_channels_of_a_connection_hold_for_all_nodes_together() {
    let Some(Pair { a, b, app: _app, engines: _engines, .. }) = Pair::start_with("").await else { return };
    let connection = json!({
        "application_name": "limited", "webhook_event_url": "http://127.0.0.1:9/", "outbound": { "channel_limit": 4 },
    });
    let key = format!("Bearer {API_KEY}");
    let made = a.api.post_as(&key, "/v2/call_control_applications", &connection.to_string()).await;
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    let made = made.json()["data"].take();
    let body =
        |phone: &Phone| json!({ "connection_id": made["id"], "from": "+15551230001", "to": phone.uri() }).to_string();
    let dial = async |node: &Program, phone: &Phone| node.api.post_as(&key, "/v2/calls", &body(phone)).await;
    let mut phones = Vec::new();
    for node in [&a, &a, &a, &b] {
        let phone = Phone::new().await;
        wait_until(PATIENCE, "the call is made", async || dial(node, &phone).await.status == 200).await;
        phones.push(phone);
    }
    for node in [&a, &b] {
        let refused = dial(node, &Phone::new().await).await;
        assert_eq!((refused.status, refused.json()["errors"][0]["code"].as_str()), (422, Some("90043")));
    }
    for phone in &mut phones {
        phone.until(SipEvent::Invited).await;
        phone.refuse(486).await;
    }
    let phone = Phone::new().await;
    for _ in 0..4 {
        wait_until(PATIENCE, "one node gets all channels", async || dial(&b, &phone).await.status == 200).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_that_comes_to_two_nodes_with_one_command_id_makes_one_call() {
    let Some(engines) = Engines::start().await else { return };
    let application = commanded("100", "http://127.0.0.1:9/");
    let (a, b) = (engines.node("a", &application).await, engines.node("b", &application).await);
    sees(&b, 2).await;
    let mut phone = Phone::new().await;
    let body = json!({
        "connection_id": "1000000000000000001", "from": "+15551230001", "to": phone.uri(), "command_id": "once",
    });
    let (first, second) = tokio::join!(a.api.telnyx("/calls", &body), b.api.telnyx("/calls", &body));
    assert_eq!(first, second);
    assert_eq!(b.api.telnyx("/calls", &body).await, first);
    phone.until(SipEvent::Invited).await;
    phone.refuse(486).await;
    assert_eq!(a.api.telnyx("/calls", &body).await, first, "also after the end of the call");
    // A command that has failed is executed by the next attempt, at any node.
    let failing = json!({ "connection_id": "7", "from": "+15551230001", "to": phone.uri(), "command_id": "again" });
    let key = format!("Bearer {API_KEY}");
    let refused = a.api.post_as(&key, "/v2/calls", &failing.to_string()).await;
    assert_eq!(refused.status, 422, "{}", String::from_utf8_lossy(&refused.body));
    let mut other = body.clone();
    other["command_id"] = json!("again");
    let made = b.api.telnyx("/calls", &other).await;
    assert_ne!(made["call_control_id"], first["call_control_id"]);
    phone.until(SipEvent::Invited).await;
    phone.refuse(486).await;
    // Without the database no node knows whether another has executed the command.
    engines.postgres.freeze(true);
    other["command_id"] = json!("away");
    let refused = b.api.post_as(&key, "/v2/calls", &other.to_string()).await;
    engines.postgres.freeze(false);
    assert_eq!(refused.status, 503, "{}", String::from_utf8_lossy(&refused.body));
}
