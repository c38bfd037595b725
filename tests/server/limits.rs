//! Limits for an account whose application does harm: internal calls without end, forged callers, forbidden addresses.

use serde_json::{Value, json};

use crate::app::App;
use crate::phone::{Phone, SipEvent};
use crate::test_server::{ACCOUNT_SID, API_KEY, PROJECT_ID, PROJECT_TOKEN, TestServer, basic, commanded, inline};

/// The call records of the account.
async fn records(server: &TestServer) -> Vec<Value> {
    server.api.get(&format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json?PageSize=1000")).await.json()["calls"]
        .as_array()
        .unwrap()
        .clone()
}

async fn notifications(server: &TestServer) -> Vec<Value> {
    let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Notifications.json?PageSize=1000");
    server.api.get(&path).await.json()["notifications"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_dials_itself_makes_at_most_a_hundred_internal_calls() {
    let dials = "<Dial>+15551230002</Dial>".repeat(90);
    let number = inline("+15551230002", &format!("<Response>{dials}</Response>"));
    let server = TestServer::start(&format!("[speech]\ntts = \"off\"\n{number}")).await;
    let mut phone = Phone::new().await;
    // A call from outside, and a call by REST. The document of each dials again and again by itself.
    phone.invite(server.udp, "+15551230002").await;
    assert_eq!(phone.outcome().await, 200);
    phone.until(SipEvent::Bye).await;
    server.quiet().await;
    let legs = records(&server).await;
    let made = legs.iter().filter(|leg| leg["direction"] == "inbound").count() - 1;
    assert!(made <= 100, "{made} internal calls");
    assert!(legs.len() <= 310, "{} records of calls", legs.len());
    let loops = notifications(&server).await.iter().filter(|one| one["error_code"] == "14106").count();
    assert!((1..=101).contains(&loops), "{loops} loops");

    let form = format!("From=%2B15551230002&To=%2B15551230002&Twiml=<Response>{dials}</Response>");
    assert_eq!(server.api.post("/Calls.json", &form.replace('+', "%2B")).await.status, 201);
    server.quiet().await;
    let further = records(&server).await.len() - legs.len();
    assert!(further <= 310, "{further} records of calls");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_cannot_set_a_foreign_caller_in_a_header_with_strict_caller_id() {
    let more = format!(
        "[twilio]\nstrict_caller_id = true\n\
         [[applications]]\nid = \"1000000000000000001\"\naccount = \"acme\"\nprovider = \"telnyx\"\n\
         webhook_url = \"http://127.0.0.1:9/\"\n{}{}",
        inline(
            "+15551230001",
            "<Response><Dial><Sip>sip:a@127.0.0.1:9?Remote-Party-ID=%3Csip:1@h%3E</Sip></Dial></Response>"
        ),
        inline("+15551230002", "<Response><Gather timeout=\"3\"/></Response>"),
    );
    let server = TestServer::start(&more).await;
    for name in ["Remote-Party-ID", "P-Preferred-Identity"] {
        let form = format!("From=%2B15551230001&To=sip:a@127.0.0.1:9%3F{name}=%253Csip:1@h%253E&Twiml=<Response/>");
        let refused = server.api.post("/Calls.json", &form).await;
        assert_eq!((refused.status, refused.json()["code"].clone()), (400, json!(21228)), "{name}");
    }
    for (name, status) in
        [("P-Asserted-Identity", 422), ("Diversion", 422), ("Identity", 422), ("Via", 422), ("X-A", 200)]
    {
        let order = json!({
            "connection_id": "1000000000000000001", "from": "+15551230001", "to": "sip:a@127.0.0.1:9",
            "custom_headers": [{ "name": name, "value": "<sip:+15559999999@h>" }],
        });
        let answer = server.api.post_as(&format!("Bearer {API_KEY}"), "/v2/calls", &order.to_string()).await;
        assert_eq!(answer.status, status, "{name}: {}", String::from_utf8_lossy(&answer.body));
    }
    let script = json!({ "sections": { "main": [{ "connect": {
        "to": "sip:a@127.0.0.1:9", "headers": [{ "name": "P-Asserted-Identity", "value": "<sip:1@h>" }],
    } }] } });
    let order = json!({ "command": "dial", "params": {
        "from": "+15551230001", "to": "+15551230002", "swml": script.to_string(),
    } });
    let login = basic(PROJECT_ID, PROJECT_TOKEN);
    let answer = server.api.post_as(&login, "/api/calling/calls", &order.to_string()).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let mut phone = Phone::new().await;
    phone.invite(server.udp, "+15551230001").await;
    phone.outcome().await;
    phone.until(SipEvent::Bye).await;
    server.quiet().await;
    let reasons: Vec<_> = notifications(&server).await.iter().map(|one| one["message_text"].to_string()).collect();
    assert!(
        reasons.iter().any(|text| text.contains("Remote-Party-ID+may+not+be+set") && text.contains("13214")),
        "{reasons:?}"
    );
    let errors = server.api.get("/console/errors").await;
    let errors = String::from_utf8_lossy(&errors.body).into_owned();
    assert!(errors.contains("P-Asserted-Identity may not be set"), "{errors}");
    assert!(errors.contains("foreign-caller-id"), "{errors}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audio_of_a_media_fork_goes_to_no_forbidden_address() {
    let app = App::start(|_| String::new()).await;
    let application = commanded("200", &app.url("/telnyx"));
    let server = TestServer::start(&application).await;
    let mut phone = Phone::new().await;
    phone.invite(server.udp, "200").await;
    let leg = app.event("call.initiated").await;
    let control = leg["call_control_id"].as_str().unwrap();
    server.api.command(control, "answer", &json!({})).await;
    assert_eq!(phone.outcome().await, 200);
    let path = format!("/v2/calls/{}/actions/fork_start", control.replace(':', "%3A"));
    for (name, address) in
        [("rx", "169.254.169.254"), ("tx", "169.254.169.254"), ("rx", "224.0.0.1"), ("rx", "[fe80::1]")]
    {
        let order = json!({ name: format!("udp:{address}:5000") });
        let answer = server.api.post_as(&format!("Bearer {API_KEY}"), &path, &order.to_string()).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 422, "{name} {address}: {text}");
        assert!(text.contains("allow_networks"), "{text}");
    }
    phone.hangup().await;
    server.quiet().await;
    server.end().await;
}
