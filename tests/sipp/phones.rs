//! Phones that register with a password, receive calls, make calls, and share a user.

use crate::sipp::{Sipp, is_missing};
use crate::test_server::{TestServer, inline};

const ENDPOINTS: &str = "[[endpoints]]\naccount = \"acme\"\nusername = \"alice\"\npassword = \"of alice\"\n\
                         [[endpoints]]\naccount = \"acme\"\nusername = \"bob\"\npassword = \"of bob\"\n";

/// Creates a phone of this user. The phone will run the scenario.
fn phone(scenario: &'static str, user: &str) -> Sipp {
    Sipp::new(scenario).to(user).option("-au", user).option("-ap", &format!("of {user}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registrar_adds_lists_refuses_and_removes_bindings() {
    if is_missing() {
        return;
    }
    let server = TestServer::start(ENDPOINTS).await;
    for transport in ["u1", "t1"] {
        let address = if transport == "u1" { server.udp } else { server.tcp };
        phone("register_all", "alice").over(transport).call(address).succeed().await;
    }
    Sipp::new("register_wrong")
        .to("alice")
        .option("-au", "alice")
        .option("-ap", "a guess")
        .call(server.udp)
        .succeed()
        .await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn phones_call_each_other_but_no_forbidden_destination() {
    if is_missing() {
        return;
    }
    let trunk = "[[trunks]]\nname = \"out\"\naccount = \"acme\"\nuri = \"sip:127.0.0.1:9\"\nprefixes = [\"+\"]\n";
    let server = TestServer::start(&format!("{ENDPOINTS}{trunk}")).await;
    let register = phone("register", "alice");
    let alice = register.at_its_place("answer");
    register.call(server.udp).succeed().await;
    let alice = alice.answer().await;
    phone("phone_call", "bob").key("callee", "alice").call(server.udp).succeed().await;
    alice.succeed().await;
    // A phone may not make calls over the trunks.
    phone("phone_refused", "bob").key("callee", "+15550001").call(server.udp).succeed().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gruu_calls_one_of_several_phones() {
    if is_missing() {
        return;
    }
    let server = TestServer::start(ENDPOINTS).await;
    let named = |scenario, user, id: &str| phone(scenario, user).key("uuid", id);
    let (desk, cell) = (named("register_gruu", "alice", "desk"), named("register_gruu", "alice", "cell"));
    let (left_alone, called) = (desk.at_its_place("answer"), cell.at_its_place("answer"));
    desk.call(server.udp).succeed().await;
    cell.call(server.udp).succeed().await;
    let (left_alone, called) = (left_alone.answer().await, called.answer().await);
    named("gruu_call", "bob", "cell").key("callee", "alice").call(server.udp).succeed().await;
    called.succeed().await;
    assert!(!left_alone.messages().contains("INVITE"), "{}", left_alone.messages());
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_phones_of_a_user_ring_and_the_first_phone_that_answers_is_connected() {
    if is_missing() {
        return;
    }
    let caller = Sipp::new("call");
    let number = inline("600", "<Response><Dial><Client>alice</Client></Dial></Response>");
    let server = TestServer::start(&(caller.trunk("caller", "") + ENDPOINTS + &number)).await;
    let (slow, quick) = (phone("register", "alice"), phone("register", "alice"));
    let (ringing, answering) = (slow.at_its_place("ring_until_cancelled"), quick.at_its_place("answer"));
    slow.call(server.udp).succeed().await;
    quick.call(server.udp).succeed().await;
    let (ringing, answering) = (ringing.answer().await, answering.answer().await);
    caller.to("600").call(server.udp).succeed().await;
    answering.succeed().await;
    ringing.succeed().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_calls_a_phone_by_name_only_with_the_setting_phones() {
    if is_missing() {
        return;
    }
    let (caller, other) = (Sipp::new("call"), Sipp::new("refused_404"));
    let trunks = caller.trunk("pbx", "phones = true") + &other.trunk("carrier", "");
    let server = TestServer::start(&(trunks + ENDPOINTS)).await;
    let register = phone("register", "alice");
    let alice = register.at_its_place("answer");
    register.call(server.udp).succeed().await;
    let alice = alice.answer().await;
    caller.to("alice").call(server.udp).succeed().await;
    alice.succeed().await;
    other.to("alice").call(server.udp).succeed().await;
    server.quiet().await;
    server.end().await;
}
