//! The contents of the server's own HTTP paths, and the credentials that may read them.

use serde_json::Value;
use tandem_history::query::{LegFilter, Page};
use tandem_id::AccountName;
use tandem_telnyx::id::{call_control_id, uuid};
use tandem_test_support::wait_until;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;

use crate::app::{App, AppRequest};
use crate::log::PATIENCE;
use crate::phone::{Phone, SipEvent};
use crate::test_server::{ACCOUNT_SID, API_KEY, AUTH_TOKEN, Api, TestServer, asks, basic, inline};

const OTHER_SID: &str = "AC00000000000000000000000000000002";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_page_lists_the_apis() {
    let server = TestServer::start("").await;
    let root = server.api.get_as("", "/").await;
    let text = String::from_utf8(root.body).unwrap();
    assert_eq!((root.status, text.lines().count()), (200, 9), "{text}");
    assert!(text.contains("/2010-04-01/") && text.contains("/readyz") && text.contains(": /console/\n"), "{text}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_account_of_a_call_sees_its_event_log() {
    let other = format!(
        "[[accounts]]\nname = \"other\"\ntwilio = {{ account_sid = \"{OTHER_SID}\", auth_token = \"theirs\" }}\n"
    );
    let server = TestServer::start(&(other + &inline("100", "<Response><Echo/></Response>"))).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let page = Page { limit: 1, after: None, offset: 0 };
    let session =
        server.calls().list(&AccountName::new("acme"), &LegFilter::default(), page).await.unwrap().remove(0).session;
    let path = format!("/console/sessions/{session}/events");
    let nobody = "/console/sessions/00000000000010008000000000000001/events";
    let (ours, theirs) = (basic(ACCOUNT_SID, AUTH_TOKEN), basic(OTHER_SID, "theirs"));

    let live = server.api.get_as(&ours, &path).await;
    assert_eq!(live.status, 200);
    assert!(live.json().as_array().unwrap().iter().any(|line| line["kind"] == "sip"), "{}", live.json());
    phone.hangup().await;
    server.quiet().await;

    let wrong = [
        basic(ACCOUNT_SID, "theirs"),
        basic(ACCOUNT_SID, ""),
        "Bearer KEYwrong".into(),
        "Bearer ".into(),
        String::new(),
    ];
    for wrong in wrong {
        assert_eq!(server.api.get_as(&wrong, &path).await.status, 401, "{wrong}");
        assert_eq!(server.api.get_as(&wrong, nobody).await.status, 401, "{wrong}");
    }
    assert_eq!(server.api.get_as(&theirs, &path).await.status, 404);
    for nothing in [nobody, "/console/sessions/x/events"] {
        assert_eq!(server.api.get_as(&ours, nothing).await.status, 404, "{nothing}");
    }
    for right in [ours, format!("Bearer {API_KEY}")] {
        let over = server.api.get_as(&right, &path).await;
        assert_eq!(over.status, 200);
        assert!(over.json().as_array().unwrap().len() >= live.json().as_array().unwrap().len());
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_found_by_every_form_of_its_legs_id_and_shown_as_text() {
    let server = TestServer::start(&inline("100", "<Response><Echo/></Response>")).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.hangup().await;
    server.quiet().await;
    let page = Page { limit: 1, after: None, offset: 0 };
    let leg = server.calls().list(&AccountName::new("acme"), &LegFilter::default(), page).await.unwrap().remove(0);
    let by_session = server.api.get(&format!("/console/sessions/{}/events", leg.session)).await.body;
    assert!(by_session.ends_with(b"]\n"));
    for id in [format!("CA{}", leg.id), call_control_id(leg.id).replace(':', "%3A"), uuid(leg.id.0), leg.id.to_string()]
    {
        assert_eq!(server.api.get(&format!("/console/sessions/{id}/events")).await.body, by_session, "{id}");
    }
    let text = server.api.get(&format!("/console/sessions/CA{}/events?format=text", leg.id)).await.body;
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with(&format!("caller: CA{}, inbound ", leg.id)), "{text}");
    assert!(text.contains("trunk here, PCMU, completed: hung up (the far end)\n"), "{text}");
    assert!(text.contains("  caller    call     ended: hung up (the far end)\n"), "{text}");
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} in {text}"));
    assert!(place("100 Trying (INVITE)") < place("answered") && place("answered") < place("ended"), "{text}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_call_shows_its_reason() {
    let trunks = "[[trunks]]\nname = \"away\"\nuri = \"sip:127.0.0.1:9;transport=tcp\"\nprefixes = [\"+\"]\n";
    let server = TestServer::start(trunks).await;
    let call =
        server.api.post("/Calls.json", "From=%2B15551230001&To=%2B15551230002&Twiml=%3CResponse%2F%3E").await.json();
    server.quiet().await;
    let sid = call["sid"].as_str().unwrap();
    let text = server.api.get(&format!("/console/sessions/{sid}/events?format=text")).await.body;
    let text = String::from_utf8(text).unwrap();
    let why = "trunk \"away\" (sip:127.0.0.1:9;transport=tcp): connection refused\n";
    assert!(text.contains(&format!(", trunk away, failed: {why}")), "{text}");
    assert!(text.contains(&format!("call     ended: {why}")), "{text}");
    let metrics = String::from_utf8(server.api.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("\ntandem_legs_ended_total{cause=\"failed\"} 1\n"), "{metrics}");
    server.end().await;
}

/// The row of a list with this value in the field `key`.
fn row<'a>(list: &'a Value, rows: &str, key: &str, value: &str) -> &'a Value {
    let found = list[rows].as_array().unwrap().iter().find(|row| row[key] == value);
    found.unwrap_or_else(|| panic!("no {key} {value} in {list}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_application_is_reported_with_advice_in_the_call_and_in_the_errors() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = TestServer::start(&asks("100", nobody)).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.until(SipEvent::Bye).await;
    server.quiet().await;

    let story = server.api.get("/console/calls/last").await.json();
    let end = story["calls"][0]["end"]["text"].as_str().unwrap();
    assert!(end.starts_with("apologised and hung up: the document failed (http://"), "{end}");
    assert_eq!(story["calls"][0]["end"]["cause"], "connection-refused");
    let lines: Vec<&str> =
        story["timeline"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap()).collect();
    let place = |what: &str| {
        lines.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{what} in {lines:#?}"))
    };
    // The lines are in causal order.
    assert!(
        place("POST http://") < place("document failed") && place("document failed") < place("Start the application")
    );
    assert!(place("Start the application") < place("apologises") && place("apologises") < place("ended: apologised"));
    assert!(lines[place("document failed")].ends_with("(11202)"), "{lines:#?}");
    assert_eq!(story["timeline"][place("Start the application")]["cause"], "connection-refused");
    let problems = serde_json::json!([{ "level": "error", "cause": "connection-refused" }]);
    assert_eq!(story["calls"][0]["problems"], problems);
    let calls = server.api.get("/console/calls").await.json();
    assert_eq!(calls["calls"][0]["problems"], problems);
    let errors = server.api.get("/console/errors?level=error").await.json();
    for list in [&story, &errors] {
        let error = row(list, "errors", "cause", "connection-refused");
        assert_eq!((error["code"].as_u64(), error["call"].as_str()), (Some(11202), story["calls"][0]["id"].as_str()));
        assert_eq!(error["page"], "docs/troubleshooting.md#connection-refused");
        assert!(error["advice"].as_str().unwrap().starts_with("Start the application"), "{error}");
    }
    assert_eq!(story["timeline"][place("document failed")]["data"]["level"], "error");
    let causes = server.api.get("/console/errors/causes").await.json();
    let cause = row(&causes, "causes", "cause", "connection-refused");
    assert_eq!((&cause["count"], &cause["level"]), (&1.into(), &"error".into()), "{causes}");
    assert_eq!((&cause["newest"][0]["call"], &cause["first_at"]), (&story["calls"][0]["id"], &cause["last_at"]));
    assert!(cause["more"].as_str().unwrap().contains("curl"), "{causes}");
    for other in ["cause=timeout", "level=warning&cause=connection-refused", "since=2100-01-01T00:00:00Z"] {
        let path = format!("/console/errors/causes?{other}");
        assert_eq!(server.api.get(&path).await.json()["causes"], serde_json::json!([]), "{other}");
        assert_eq!(server.api.get(&format!("/console/errors?{other}")).await.json()["errors"], serde_json::json!([]));
    }
    let notifications = server.api.get(&format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Notifications.json")).await.json();
    let message = notifications["notifications"][0]["message_text"].as_str().unwrap();
    assert!(message.contains("&cause=connection-refused&advice=Start+the+application"), "{message}");
    server.end().await;
}

/// The names and the contents of the files in a tar file.
fn unpacked(mut tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = |octets: &[u8]| String::from_utf8(octets.split(|octet| *octet == 0).next().unwrap().to_vec()).unwrap();
    let mut files = Vec::new();
    while let Some((head, rest)) = tar.split_at_checked(512).filter(|(head, _)| head[0] != 0) {
        let length = usize::from_str_radix(&text(&head[124..136]), 8).unwrap();
        files.push((text(&head[..100]), rest[..length].to_vec()));
        tar = &rest[length.next_multiple_of(512)..];
    }
    assert_eq!(tar, [0; 1024]);
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_call_has_its_verb_its_recording_and_its_quality_as_data_and_in_one_archive() {
    let record =
        "<Response><Record playBeep=\"false\" timeout=\"0\" trim=\"do-not-trim\" maxLength=\"60\"/></Response>";
    let server = TestServer::start(&inline("100", record)).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.audio.say(&crate::audio::noise(200, 3));
    phone.audio.heard().reach(100, "2 s of RTP").await;
    phone.hangup().await;
    server.quiet().await;

    let story = server.api.get("/console/calls/last").await.json();
    let states = |event: &str| {
        let lines = story["timeline"].as_array().unwrap().iter().filter(|line| line["data"]["event"] == event);
        lines.map(|line| line["data"]["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (states("verb"), states("recording")),
        (vec!["started".into(), "ended".into()], vec!["started".into(), "ended".into()])
    );
    let series = &story["quality_series"][0];
    assert_eq!(series["call"], "caller", "{story}");
    let packets: u64 =
        series["points"].as_array().unwrap().iter().map(|point| point["packets"].as_u64().unwrap()).sum();
    assert_eq!(story["calls"][0]["quality"]["packets_in"], packets, "{series}");
    assert!(series["points"][0]["mos"].as_f64().unwrap() > 3.0, "{series}");

    let archive = server.api.get("/console/calls/last/archive").await;
    assert_eq!(archive.status, 200);
    let files = unpacked(&archive.body);
    let file =
        |name: &str| &files.iter().find(|(known, _)| known.ends_with(name)).unwrap_or_else(|| panic!("{name}")).1;
    let report: Value = serde_json::from_slice(file("/report.json")).unwrap();
    assert_eq!((&report["session"], &report["timeline"]), (&story["session"], &story["timeline"]));
    assert!(file("/sip.pcap").starts_with(&[0xd4, 0xc3, 0xb2, 0xa1]) && file("/sip.txt").len() > 500);
    let audio =
        server.api.get(&format!("/console/recordings/{}/audio", story["recordings"][0]["id"].as_str().unwrap())).await;
    assert_eq!(*file(".wav"), audio.body);
    let readme = String::from_utf8(file("/README.txt").clone()).unwrap();
    assert_eq!(readme.lines().filter(|line| line.contains(": ")).count(), files.len() - 1, "{readme}");
    assert_eq!(server.api.get("/console/calls/CA00000000000000000000000000000001/archive").await.status, 404);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_ended_after_a_failed_stream_names_the_stream_and_an_error() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let document = format!("<Response><Connect><Stream url=\"ws://{nobody}/media\"/></Connect></Response>");
    let server = TestServer::start(&inline("100", &document)).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.until(SipEvent::Bye).await;
    server.quiet().await;
    let end = server.api.get("/console/calls/last").await.json()["calls"][0]["end"].clone();
    assert_eq!(end["text"], "the document ended (its stream had failed)", "{end}");
    assert_eq!((&end["by"], &end["cause"]), (&"the application".into(), &"stream-refused".into()));
    let errors = server.api.get("/console/errors").await.json();
    assert_eq!(row(&errors, "errors", "cause", "stream-refused")["level"], "error");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_an_unknown_number_is_an_error_with_caller_call_id_and_advice() {
    let server = TestServer::start(&inline("+15551230001", "<Response><Echo/></Response>")).await;
    let mut phone = Phone::new().await;
    phone.invite(server.udp, "15551230001").await;
    assert_eq!(phone.outcome().await, 404);
    let errors = server.api.get("/console/errors").await.json();
    let error = row(&errors, "errors", "cause", "unknown-number");
    let advice = error["advice"].as_str().unwrap();
    let remedy =
        r#"Trunk "here" sends +15551230001 without "+": set inbound_add_prefix = "+" in its [[trunks]] entry. "#;
    assert!(advice.starts_with(remedy), "{advice}");
    let request = &error["request"];
    let from = request["from"].as_str().unwrap();
    assert!(error["message"].as_str().unwrap().starts_with(&format!("call from {from:?} at 127.0.0.1:")), "{error}");
    assert_eq!((&request["to"], &request["transport"]), (&"15551230001".into(), &"UDP".into()));
    let call_id = request["sip_call_id"].as_str().unwrap();
    for (id, reply_text) in [(call_id, "`tandem trace "), ("602", "`tandem calls --to 602`")] {
        let reply = server.api.get(&format!("/console/calls/{id}")).await;
        let text = String::from_utf8(reply.body).unwrap();
        assert!(reply.status == 404 && text.contains(reply_text), "{text}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_listed_in_pages_and_found_by_the_prefix_of_an_id() {
    let server = TestServer::start(&inline("100", "<Response><Echo/></Response>")).await;
    let mut phones = Vec::new();
    for _ in 0..3 {
        let mut phone = Phone::new().await;
        phone.call(server.udp, "100").await;
        phones.push(phone);
    }
    let live = server.api.get("/console/calls?status=live").await.json();
    assert_eq!((live["calls"].as_array().unwrap().len(), &live["next"]), (3, &Value::Null), "{live}");
    assert_eq!(server.api.get("/console/calls?status=ended").await.json()["calls"], Value::Array(Vec::new()));
    for mut phone in phones {
        phone.hangup().await;
    }
    server.quiet().await;
    let first = server.api.get("/console/calls?limit=2").await.json();
    let next =
        server.api.get(&format!("/console/calls?limit=2&cursor={}", first["next"].as_str().unwrap())).await.json();
    let ids = |page: &Value| -> Vec<String> {
        page["calls"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut all = [ids(&first), ids(&next)].concat();
    assert_eq!((ids(&first).len(), all.len(), &next["next"]), (2, 3, &Value::Null));
    let call = &first["calls"][0];
    assert_eq!((&call["status"], &call["live"], &call["to"]), (&"completed".into(), &false.into(), &"100".into()));
    let found = server.api.get(&format!("/console/calls/{}", &all[1][..20])).await.json();
    assert_eq!(found["calls"][0]["id"], all[1].as_str());
    let last = server.api.get("/console/calls/last").await.json();
    assert_eq!(last["calls"][0]["id"], all[0].as_str());
    for path in ["sessions/last/events", "calls/last/webhooks", "calls/last/trace"] {
        assert_eq!(server.api.get(&format!("/console/{path}")).await.status, 200, "{path}");
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3);
    for wrong in ["cursor=x", "status=x", "direction=x"] {
        assert_eq!(server.api.get(&format!("/console/calls?{wrong}")).await.status, 400, "{wrong}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_account_sees_its_own_lists_and_an_operator_sees_all() {
    let more = format!(
        "[[accounts]]\nname = \"other\"\noperator = true\ntwilio = {{ account_sid = \"{OTHER_SID}\", auth_token = \"theirs\" }}\n\
         [[endpoints]]\naccount = \"acme\"\nusername = \"alice\"\npassword = \"secret of alice\"\n\
         [[endpoints]]\naccount = \"other\"\nusername = \"bob\"\npassword = \"secret of bob\"\n"
    );
    let server = TestServer::start(&(more + &inline("100", "<Response><Echo/></Response>"))).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let count = async |who: &str, list: &str| {
        let reply = server.api.get_as(who, &format!("/console/{list}")).await;
        assert_eq!(reply.status, 200, "{list}");
        reply.json()[list].as_array().unwrap().len()
    };
    let (acme, operator) = (basic(ACCOUNT_SID, AUTH_TOKEN), basic(OTHER_SID, "theirs"));
    for (list, own, all) in [("calls", 1, 1), ("phones", 1, 2), ("trunks", 1, 1), ("numbers", 1, 1)] {
        assert_eq!((count(&acme, list).await, count(&operator, list).await), (own, all), "{list}");
        assert_eq!(server.api.get_as("", &format!("/console/{list}")).await.status, 401, "{list}");
    }
    // A request without credentials belongs to no account. So only operators see its error.
    assert_eq!(count(&acme, "errors").await, 0);
    let errors = server.api.get_as(&operator, "/console/errors").await.json();
    assert_eq!(row(&errors, "errors", "cause", "wrong-credentials")["account"], Value::Null);
    assert_eq!(server.api.get_as(&operator, "/console/calls/last").await.status, 200);
    let phones = server.api.get_as(&acme, "/console/phones").await.json();
    assert_eq!(row(&phones, "phones", "username", "alice")["registered"], false);
    let numbers = server.api.get_as(&acme, "/console/numbers").await.json();
    assert_eq!(row(&numbers, "numbers", "number", "100")["goes_to"]["kind"], "document");
    let trunks = server.api.get_as(&acme, "/console/trunks").await.json();
    let trunk = row(&trunks, "trunks", "name", "here");
    assert_eq!((&trunk["live_calls"], &trunk["registration"]), (&1.into(), &"none".into()));
    phone.hangup().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_filter_of_a_list_shows_rows_of_another_account() {
    let other = format!(
        "[[accounts]]\nname = \"other\"\ntwilio = {{ account_sid = \"{OTHER_SID}\", auth_token = \"theirs\" }}\n\
         [[endpoints]]\naccount = \"acme\"\nusername = \"alice\"\npassword = \"secret of alice\"\n"
    );
    let server = TestServer::start(&(other + &inline("100", "<Response><Echo/></Response>"))).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let theirs = basic(OTHER_SID, "theirs");
    let leg = server.api.get("/console/calls").await.json()["calls"][0]["id"].as_str().unwrap().to_owned();
    // Each of the first digits is a part of one of the two parties.
    let parts = ["from=1", "from=0", "from=sip", "to=1", "to=100", "to=0&from=1", "status=live", "direction=inbound"];
    for account in ["", "account=acme", "account=other", "account=nobody", "account="] {
        for list in ["calls", "phones", "trunks", "numbers", "errors"] {
            for part in std::iter::once("").chain(parts) {
                let path = format!("/console/{list}?{account}&{part}");
                let reply = server.api.get_as(&theirs, &path).await;
                assert_eq!((reply.status, &reply.json()[list]), (200, &Value::Array(Vec::new())), "{path}");
            }
        }
    }
    for id in ["last", &leg, &leg[2..12]] {
        assert_eq!(server.api.get_as(&theirs, &format!("/console/calls/{id}")).await.status, 404, "{id}");
    }
    phone.hangup().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followed_list_sends_changes_until_the_server_stops() {
    let server = TestServer::start(&inline("100", "<Response><Echo/></Response>")).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let following = server.api.get("/console/calls?follow=true");
    let over = async {
        phone.hangup().await;
        server.quiet().await;
        server.calls().stop_accepting();
    };
    let (followed, ()) = tokio::join!(following, over);
    let text = String::from_utf8(followed.body).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    assert!(lines.iter().any(|line| line.contains("\"status\":\"completed\"")), "{text}");
    assert!(lines.last().unwrap().contains("{\"note\":\"the server is stopping\"}"), "{text}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_calls_show_the_running_verb_and_the_quality_of_each_leg_until_they_end() {
    let server = TestServer::start(&inline("100", "<Response><Echo/></Response>")).await;
    assert_eq!(server.api.get("/console/live").await.json()["live"], serde_json::json!([]));
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let live = server.api.get("/console/live").await.json();
    let leg = &live["live"][0]["legs"][0];
    assert_eq!((&leg["name"], &leg["verb"], &leg["status"]), (&"caller".into(), &"echo".into(), &"in-progress".into()));
    assert_eq!((&leg["bridged_with"], &leg["codec"]), (&Value::Null, &"PCMU".into()));
    assert!(leg["quality"]["packets_in"].is_u64(), "{live}");
    phone.hangup().await;
    server.quiet().await;
    assert_eq!(server.api.get("/console/live").await.json()["live"], serde_json::json!([]));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followed_call_sends_its_timeline_until_its_end_and_then_its_report() {
    let server = TestServer::start(&inline("100", "<Response><Echo/></Response>")).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let (followed, ()) = tokio::join!(server.api.get("/console/calls/last?follow=true"), phone.hangup());
    let text = String::from_utf8(followed.body).unwrap();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let texts: Vec<&str> = lines.iter().filter_map(|line| line["line"]["text"].as_str()).collect();
    assert_eq!(texts.iter().filter(|text| **text == "answered").count(), 1, "{text}");
    assert_eq!(lines.last().unwrap()["report"]["calls"][0]["status"], "completed", "{text}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_has_live_and_ended_calls_each_once() {
    let server = TestServer::start(&inline("100", "<Response><Echo/></Response>")).await;
    let (mut first, mut second) = (Phone::new().await, Phone::new().await);
    first.call(server.udp, "100").await;
    second.call(server.udp, "100").await;
    first.hangup().await;
    let live = async || server.api.get("/console/live").await.json()["live"].as_array().unwrap().len();
    wait_until(PATIENCE, "the end of the first call", async || live().await == 1).await;
    let statuses = |list: Value| -> Vec<String> {
        list["calls"].as_array().unwrap().iter().map(|call| call["status"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(statuses(server.api.get("/console/calls").await.json()), ["in-progress", "completed"]);
    assert_eq!(statuses(server.api.get("/console/calls?status=live").await.json()), ["in-progress"]);
    assert_eq!(statuses(server.api.get("/console/calls?status=ended").await.json()), ["completed"]);
    second.hangup().await;
    server.quiet().await;
    assert_eq!(statuses(server.api.get("/console/calls").await.json()), ["completed", "completed"]);
    server.end().await;
}

/// Requests a list with these additional header lines. Returns the connection.
async fn request_list(api: Api, list: &str, authorization: &str, lines: &str) -> TcpStream {
    let mut stream = TcpStream::connect(api.0).await.unwrap();
    let request =
        format!("GET /console/{list} HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\n{lines}\r\n", api.0);
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The lines of a followed list, as server-sent events.
pub(crate) struct Followed {
    lines: Lines<BufReader<TcpStream>>,
    pub(crate) seen: Vec<Value>,
}

impl Followed {
    /// Follows a list with the Twilio credentials of the account.
    pub(crate) async fn start(api: Api, list: &str) -> Self {
        let account = basic(ACCOUNT_SID, AUTH_TOKEN);
        let stream = request_list(api, list, &account, "Accept: text/event-stream\r\n").await;
        Self { lines: BufReader::new(stream).lines(), seen: Vec::new() }
    }

    /// Waits until the lines so far have this property.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&[Value]) -> bool) {
        let read = async {
            while !holds(&self.seen) {
                let line = self.lines.next_line().await.unwrap().expect("a further line");
                let json = line.strip_prefix("data: ").map(|json| serde_json::from_str(json).unwrap());
                self.seen.extend(json);
            }
        };
        let found = tokio::time::timeout(PATIENCE, read).await;
        assert!(found.is_ok(), "{what}: {:#?}", self.seen);
    }

    /// Waits until the last row with this key has left the list.
    pub(crate) async fn gone(&mut self, key: &Value) {
        self.until("the row leaves the list", |lines| {
            lines
                .iter()
                .rev()
                .find(|line| line["key"] == *key || line["gone"] == *key)
                .is_some_and(|line| line["gone"] == *key)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_live_calls_gets_all_calls_and_each_verb_measurement_and_end() {
    let server = TestServer::start(&inline("100", "<Response><Echo/></Response>")).await;
    let (mut one, mut other) = (Phone::new().await, Phone::new().await);
    one.call(server.udp, "100").await;
    other.call(server.udp, "100").await;
    let page = server.api.get("/console/live?limit=1").await.json();
    assert_eq!((page["live"].as_array().unwrap().len(), page["next"].is_string()), (1, true), "{page}");
    let mut live = Followed::start(server.api, "live?follow=true&limit=1").await;
    let mut calls = Followed::start(server.api, "calls?follow=true&status=live").await;
    let rows =
        |lines: &[Value]| -> Vec<Value> { lines.iter().filter(|line| line["live"].is_object()).cloned().collect() };
    live.until("both calls are listed", |lines| rows(lines).len() == 2).await;
    calls.until("both calls are listed", |lines| lines.len() == 2).await;
    let (oldest, newest) = (rows(&live.seen).remove(0), rows(&live.seen).remove(1));
    assert_eq!((&oldest["key"], &oldest["live"]["legs"][0]["verb"]), (&oldest["live"]["session"], &"echo".into()));
    assert_ne!(oldest["key"], newest["key"]);
    let sid = &oldest["live"]["legs"][0]["id"];
    // A pause causes no event of the leg.
    let twiml = "Twiml=%3CResponse%3E%3CPause%20length%3D%2260%22%2F%3E%3C%2FResponse%3E";
    assert_eq!(server.api.post(&format!("/Calls/{}.json", sid.as_str().unwrap()), twiml).await.status, 200);
    live.until("the pause is shown", |lines| {
        rows(lines).iter().any(|line| line["key"] == oldest["key"] && line["live"]["legs"][0]["verb"] == "pause")
    })
    .await;
    live.until("the quality is shown", |lines| {
        lines.iter().any(|line| {
            line["leg"] == *sid && line["quality"]["packets_in"].is_u64() && line["lacks_audio"].is_boolean()
        })
    })
    .await;
    one.hangup().await;
    live.gone(&oldest["key"]).await;
    calls.gone(sid).await;
    assert!(live.seen.iter().chain(&calls.seen).all(|line| line["gone"] != newest["key"]));
    other.hangup().await;
    live.gone(&newest["key"]).await;
    server.quiet().await;
    server.end().await;
}

/// Follows the list of calls. Returns the connection, and the first line of the response.
async fn follow(server: &TestServer, authorization: &str) -> (TcpStream, String) {
    let mut stream = request_list(server.api, "calls?follow=true", authorization, "").await;
    let mut head = [0; 12];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut head));
    read.await.expect("a response in time").unwrap();
    (stream, String::from_utf8_lossy(&head).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subaccounts_share_the_limit_of_followers_with_their_account() {
    let other = format!(
        "[[accounts]]\nname = \"many\"\ntwilio = {{ account_sid = \"{OTHER_SID}\", auth_token = \"theirs\" }}\n"
    );
    let server = TestServer::start(&other).await;
    let theirs = basic(OTHER_SID, "theirs");
    let (form, path) = ("application/x-www-form-urlencoded", "/2010-04-01/Accounts.json");
    let below = server.api.request("POST", path, &theirs, form, "FriendlyName=below").await.json();
    let below = basic(below["sid"].as_str().unwrap(), below["auth_token"].as_str().unwrap());
    let mut open = Vec::new();
    for number in 0..8 {
        let (stream, status) = follow(&server, if number % 2 == 0 { &theirs } else { &below }).await;
        assert_eq!(status, "HTTP/1.1 200", "{number}");
        open.push(stream);
    }
    for login in [&theirs, &below] {
        assert_eq!(follow(&server, login).await.1, "HTTP/1.1 503");
    }
    drop(open);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signature_page_shows_the_signed_text_and_names_a_different_host() {
    let app = App::start(|_: &AppRequest| "<Response><Hangup/></Response>".to_owned()).await;
    let server = TestServer::start(&asks("100", app.address)).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.until(SipEvent::Bye).await;
    server.quiet().await;
    let signed = server.api.get("/console/signature?call=last&url=https%3A%2F%2Fapp.example%2Fvoice").await.json();
    let request = app.request("/voice").await;
    assert_eq!(signed["key"], format!("the auth token of {ACCOUNT_SID}"));
    assert_eq!(signed["requests"][0]["url"], format!("http://{}/voice", app.address));
    assert!(request.is_signed());
    let differences = signed["comparison"]["differences"].as_array().unwrap();
    let heads: Vec<&str> = differences.iter().map(|text| text.as_str().unwrap().split(':').next().unwrap()).collect();
    assert_eq!(heads, ["scheme", "host", "port"]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_explanation_of_a_call_is_what_happens_to_the_call_of_each_caller() {
    let server = TestServer::start(
        "[[trunks]]\nname = \"away\"\naccount = \"acme\"\nuri = \"sip:127.0.0.1:9\"\nprefixes = [\"+44\"]\n\
         [[endpoints]]\naccount = \"acme\"\nusername = \"alice\"\npassword = \"secret of alice\"\noutbound = true\n\
         caller_id = \"+15551230001\"\n\
         [[endpoints]]\naccount = \"acme\"\nusername = \"bob\"\npassword = \"secret of bob\"\n",
    )
    .await;
    let acme = basic(ACCOUNT_SID, AUTH_TOKEN);
    let explained = async |query: &str| {
        let answer = server.api.get_as(&acme, &format!("/console/explain?{query}")).await;
        assert_eq!(answer.status, 200, "{query}");
        answer.json()
    };
    let alice = explained("to=%2B442071234567&from=alice").await;
    assert_eq!(alice["outcomes"].as_array().unwrap().len(), 1, "{alice}");
    assert_eq!((&alice["ok"], &alice["goes_to"]["kind"]), (&true.into(), &"bridge".into()), "{alice}");
    let steps = alice["steps"].to_string();
    assert!(steps.contains("over trunk away") && steps.contains("the calling number +15551230001"), "{alice}");
    let bob = explained("to=%2B442071234567&from=bob").await;
    assert_eq!((&bob["ok"], &bob["status"]), (&false.into(), &403.into()), "{bob}");
    assert!(bob["advice"].as_str().unwrap().contains("outbound = true"), "{bob}");

    let to_phone = explained("to=bob&from=alice").await;
    assert_eq!((&to_phone["goes_to"]["kind"], &to_phone["status"]), (&"phone".into(), &480.into()), "{to_phone}");
    let all = explained("to=bob").await;
    let outcome = |caller: &str| {
        let outcomes = all["outcomes"].as_array().unwrap();
        outcomes.iter().find(|one| one["callers"].to_string().contains(caller)).unwrap()
    };
    assert_eq!((&outcome("tandem call")["status"], &outcome("trunk away")["status"]), (&480.into(), &404.into()));
    assert_eq!(outcome("any other address")["status"], 401);
    assert!(!outcome("trunk away")["advice"].to_string().contains("[[numbers]]"), "{all}");
    server.end().await;
}
