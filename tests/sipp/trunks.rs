//! Trunks: registration, authentication, failover, limits, and the formats of numbers and caller IDs for each trunk.

use tandem_sip::{Health, Registered};
use tandem_test_support::wait_until;

use crate::log::PATIENCE;
use crate::sipp::{Running, Sipp, is_missing};
use crate::test_server::TestServer;

/// Returns the configuration of a number. The document of the number dials `to`.
fn dials(to: &str) -> String {
    let document = format!("<Response><Dial>{to}</Dial></Response>");
    format!("[[numbers]]\nnumber = \"600\"\naccount = \"acme\"\ntwiml = '{document}'\n")
}

/// Waits until the status of a trunk meets the condition.
async fn until(server: &TestServer, trunk: &str, so: impl Fn(tandem_sip::TrunkStatus) -> bool) {
    let status = || server.calls().services().sip.trunk_status(trunk);
    wait_until(PATIENCE, &format!("the expected status of the trunk {trunk}"), async || so(status())).await;
}

async fn one_call(server: &TestServer, caller: Sipp, answerer: Running) -> String {
    let caller = caller.to("600").call(server.udp);
    caller.succeed().await;
    let messages = answerer.succeed().await;
    server.quiet().await;
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_registers_with_its_password_and_unregisters_at_the_end() {
    if is_missing() {
        return;
    }
    let registrar = Sipp::new("registrar");
    let settings = "register = true\nregister_expires = 60\nusername = \"tandem\"\npassword = \"secret\"";
    let trunk = registrar.trunk("carrier", settings);
    let registrar = registrar.answer().await;
    let server = TestServer::start(&trunk).await;
    until(&server, "carrier", |status| status.registered == Registered::Yes).await;
    let metrics = String::from_utf8(server.api.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("tandem_trunk_registered{trunk=\"carrier\"} 1\n"), "{metrics}");
    server.end().await;
    registrar.succeed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_the_registered_contact_belongs_to_the_trunk_from_every_source() {
    if is_missing() {
        return;
    }
    let registrar = Sipp::new("registrar");
    let settings = "register = true\nregister_expires = 60\nusername = \"tandem\"\npassword = \"secret\"";
    let trunk = registrar.trunk("carrier", settings)
        + "[[numbers]]\nnumber = \"600\"\naccount = \"acme\"\ntwiml = '<Response><Hangup/></Response>'\n";
    let registrar = registrar.answer().await;
    let server = TestServer::start(&trunk).await;
    until(&server, "carrier", |status| status.registered == Registered::Yes).await;
    let messages = registrar.messages();
    let line = messages.split(";line=").nth(1).unwrap().get(..32).unwrap().to_owned();
    let stranger = || Sipp::new("to_contact").to("600").key("line", &line);
    stranger().call(server.udp).succeed().await;
    server.quiet().await;
    server.end().await;
    registrar.succeed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_strongest_digest_challenge_is_answered_and_a_stale_nonce_is_retried_once() {
    if is_missing() {
        return;
    }
    for scenario in ["challenge", "challenge_md5"] {
        let (caller, carrier) = (Sipp::new("call"), Sipp::new(scenario));
        let settings = "prefixes = [\"+\"]\nusername = \"tandem\"\npassword = \"secret\"";
        let server = TestServer::start(
            &(caller.trunk("caller", "") + &carrier.trunk("carrier", settings) + &dials("+15551230002")),
        )
        .await;
        let carrier = carrier.answer().await;
        one_call(&server, caller, carrier).await;
        server.end().await;
    }
}

/// Makes a call over the trunks. The server ends the call after the answer.
async fn place(server: &TestServer) {
    let reply = server.api.post("/Calls.json", "To=%2B493012345678&From=%2B15550100&Twiml=%3CResponse%2F%3E").await;
    assert_eq!(reply.status, 201);
}

/// Starts a server and both SIPps. Calls of this server use the trunk `first`, and then the trunk `second`.
async fn one_after_the_other(first: Sipp, second: Sipp) -> (TestServer, Running, Running) {
    let trunks =
        first.trunk("first", "prefixes = [\"+\"]") + &second.trunk("second", "prefixes = [\"+\"]\npriority = 1");
    let server = TestServer::start(&trunks).await;
    (server, first.answer().await, second.answer().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_uses_the_next_trunk_after_a_failed_trunk_and_the_next_call_begins_with_this_trunk() {
    if is_missing() {
        return;
    }
    let (bad, good) = (Sipp::new("unavailable"), Sipp::new("answer").calls(2));
    let (server, bad, good) = one_after_the_other(bad, good).await;
    place(&server).await;
    bad.succeed().await;
    server.quiet().await;
    assert_eq!(server.calls().services().sip.trunk_status("first").health, Health::Doubtful);
    // The failed trunk no longer runs. The second call does not use this trunk.
    place(&server).await;
    good.succeed().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_callee_causes_no_attempt_over_another_trunk() {
    if is_missing() {
        return;
    }
    let (first, second) = (Sipp::new("busy"), Sipp::new("answer"));
    let (server, first, second) = one_after_the_other(first, second).await;
    place(&server).await;
    first.succeed().await;
    server.quiet().await;
    assert_eq!(server.api.calls().await[0]["status"], "busy");
    assert_eq!(second.messages(), "");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_no_trunk_accepts_fails() {
    if is_missing() {
        return;
    }
    let (first, second) = (Sipp::new("broken"), Sipp::new("unavailable"));
    let (server, first, second) = one_after_the_other(first, second).await;
    place(&server).await;
    first.succeed().await;
    second.succeed().await;
    server.quiet().await;
    assert_eq!(server.api.calls().await[0]["status"], "failed");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_fails_its_options_probe_is_tried_last() {
    if is_missing() {
        return;
    }
    let (unwell, well) = (Sipp::new("unwell").calls(2), Sipp::new("answer"));
    let trunks = unwell.trunk("unwell", "prefixes = [\"+\"]\noptions_interval = 1")
        + &well.trunk("well", "prefixes = [\"+\"]\npriority = 1");
    let (unwell, well) = (unwell.answer().await, well.answer().await);
    let server = TestServer::start(&trunks).await;
    until(&server, "unwell", |status| status.health == Health::Down).await;
    unwell.succeed().await;
    place(&server).await;
    well.succeed().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_beyond_max_calls_gets_503_with_retry_after() {
    if is_missing() {
        return;
    }
    let (first, second) = (Sipp::new("hung_up_on"), Sipp::new("one_too_many"));
    let trunk = format!(
        "[[trunks]]\nname = \"carrier\"\naccount = \"acme\"\ninbound_from = [\"{}/32\", \"{}/32\"]\nmax_calls = 1\n",
        first.address().ip(),
        second.address().ip()
    );
    let number = "[[numbers]]\nnumber = \"600\"\naccount = \"acme\"\ntwiml = '<Response><Echo/></Response>'\n";
    let server = TestServer::start(&(trunk + number)).await;
    let first = first.to("600").call(server.udp);
    until(&server, "carrier", |status| status.calls == 1).await;
    second.to("600").call(server.udp).succeed().await;
    let metrics = String::from_utf8(server.api.get("/metrics").await.body).unwrap();
    for line in ["tandem_trunk_calls{trunk=\"carrier\"} 1\n", "tandem_trunk_limited_total{trunk=\"carrier\"} 1\n"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    wait_until(PATIENCE, "the first call is answered", async || first.messages().contains("ACK sip:")).await;
    server.calls().hangup_all();
    first.succeed().await;
    until(&server, "carrier", |status| status.calls == 0).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_trunk_gets_numbers_and_caller_ids_in_its_format() {
    if is_missing() {
        return;
    }
    let german = "number_format = \"national\"\ncountry_code = \"49\"\ncaller_id = \"pai\"\ntrusted = true";
    for (privacy, from) in [("none", "sip:493022222222@"), ("id", "sip:anonymous@anonymous.invalid>")] {
        let (caller, carrier) = (Sipp::new("asserted").key("privacy", privacy), Sipp::new("answer"));
        let settings = "number_format = \"digits\"\nprefixes = [\"+\"]\ncaller_id = \"pai\"\ntrusted = true";
        let trunks = caller.trunk("caller", german) + &carrier.trunk("carrier", settings);
        let server = TestServer::start(&(trunks + &dials("+493012345678"))).await;
        let carrier = carrier.answer().await;
        let messages = one_call(&server, caller, carrier).await;
        let invite = messages.split("\n\n").find(|message| message.contains("INVITE sip:")).unwrap_or(&messages);
        assert!(messages.contains("INVITE sip:493012345678@"), "{invite}");
        let line =
            |name: &str| messages.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{messages}"));
        assert!(line("From: ").contains(from), "{}", line("From: "));
        assert!(line("Diversion: ").contains("<sip:600@"), "{}", line("Diversion: "));
        if privacy == "none" {
            assert!(line("P-Asserted-Identity: ").contains("\"Real\" <sip:493022222222@"), "{messages}");
        } else {
            assert!(line("P-Asserted-Identity: ").contains("493022222222@"), "{messages}");
            assert!(line("Privacy: ").contains("id"));
        }
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_without_an_address_authenticates_with_its_password() {
    if is_missing() {
        return;
    }
    let trunk = "[[trunks]]\nname = \"roaming\"\naccount = \"acme\"\ninbound_username = \"pbx\"\ninbound_password = \"secret\"\n";
    let number = "[[numbers]]\nnumber = \"600\"\naccount = \"acme\"\ntwiml = '<Response><Echo/></Response>'\n";
    let server = TestServer::start(&format!("{trunk}{number}")).await;
    let phone = |scenario, password| Sipp::new(scenario).to("+4930").option("-au", "pbx").option("-ap", password);
    phone("phone_call", "secret").key("callee", "600").call(server.udp).succeed().await;
    server.quiet().await;
    let call = &server.api.calls().await[0];
    assert_eq!((&call["from"], &call["to"]), (&"+4930".into(), &"600".into()));
    phone("phone_refused", "a guess").key("callee", "600").call(server.udp).succeed().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_during_a_call_applies_to_the_next_call_only() {
    if is_missing() {
        return;
    }
    let (caller, first, second) = (Sipp::new("call_two_seconds"), Sipp::new("answer"), Sipp::new("answer"));
    let straight = |to: &str| format!("[[numbers]]\nnumber = \"1*\"\naccount = \"acme\"\nbridge = \"trunk:{to}\"\n");
    let again = Sipp::new("call");
    let callers = caller.trunk("caller", "") + &again.trunk("again", "");
    let trunks = |name: &str, trunk: &Sipp| callers.clone() + &trunk.trunk(name, "") + &straight(name);
    let (before, after) = (trunks("first", &first), trunks("second", &second));
    let stranger = Sipp::new("call");
    let stranger_is = stranger.trunk("new", "");
    let gone = caller.at_its_place("refused_403");
    let server = TestServer::start(&before).await;
    let (first, second) = (first.answer().await, second.answer().await);
    let caller = caller.to("1234").call(server.udp);
    wait_until(PATIENCE, "the first call is answered", async || caller.messages().contains("ACK sip:")).await;

    assert_eq!(server.reload(&after).await, Vec::<String>::new());
    let names = || {
        server.calls().services().sip.trunk_statuses().into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    wait_until(PATIENCE, "the new trunks", async || names() == ["here", "caller", "again", "second"]).await;
    again.to("1235").call(server.udp).succeed().await;
    assert!(second.succeed().await.contains("INVITE sip:1235@"));
    caller.succeed().await;
    first.succeed().await;
    server.quiet().await;

    // The old trunk is now unknown, and the new trunk is known.
    let number = "[[numbers]]\nnumber = \"600\"\naccount = \"acme\"\ntwiml = '<Response><Echo/></Response>'\n";
    server.reload(&(stranger_is + number)).await;
    gone.to("600").call(server.udp).succeed().await;
    stranger.to("600").call(server.udp).succeed().await;
    server.quiet().await;
    server.end().await;
}
