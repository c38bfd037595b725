//! Answering machine detection of outbound calls. Both dialects report the result. The called party is a speaking
//! document of the same server.

use serde_json::json;

use crate::app::{App, AppRequest};
use crate::test_server::{TestServer, inline};

const PERSON: &str = "<Response><Say>Hello?</Say><Pause length=\"20\"/></Response>";
const MACHINE: &str = "<Response><Say>Hello. You have reached the office of the lighthouse keepers. Nobody is here at the \
     moment, as all of us are out at sea. Please leave a message after the tone and somebody will call you back.</Say>\
     <Pause length=\"20\"/></Response>";

fn application(app: &App) -> String {
    let telnyx = format!(
        "[[applications]]\nid = \"1000000000000000001\"\naccount = \"acme\"\nprovider = \"telnyx\"\nwebhook_url = \"{}\"\n",
        app.url("/telnyx")
    );
    [telnyx, inline("810", PERSON), inline("811", MACHINE)].concat()
}

fn hangs_up(request: &AppRequest) -> String {
    let document = if request.path == "/voice" { "<Response><Hangup/></Response>" } else { "" };
    document.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_requested_after_the_greeting_of_an_answering_machine() {
    let app = App::start(hangs_up).await;
    let server = TestServer::start(&application(&app)).await;
    let form = format!(
        "To=sip:811@{}&From=%2B15551230001&Url={}&StatusCallback={}&MachineDetection=DetectMessageEnd\
         &MachineDetectionSilenceTimeout=10000",
        server.udp,
        app.url("/voice"),
        app.url("/status")
    );
    let made = server.api.post("/Calls.json", &form).await;
    assert_eq!(made.status, 201);
    let request = app.request("/voice").await;
    assert_eq!(request.field("AnsweredBy"), "machine_end_silence");
    let duration: u64 = request.field("MachineDetectionDuration").parse().unwrap();
    assert!((4_000..30_000).contains(&duration), "after {duration} ms");
    assert_eq!(app.request("/status").await.field("AnsweredBy"), "machine_end_silence");
    let sid = made.json()["sid"].as_str().unwrap().to_owned();
    let calls = server.api.calls().await;
    let call = calls.iter().find(|call| call["sid"] == sid.as_str()).unwrap();
    assert_eq!(call["answered_by"], "machine_end_silence");
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn async_machine_detection_reports_a_person_while_the_document_runs() {
    let app = App::start(|request: &AppRequest| match request.path.as_str() {
        "/voice" => "<Response><Pause length=\"20\"/></Response>".to_owned(),
        _ => String::new(),
    })
    .await;
    let server = TestServer::start(&application(&app)).await;
    let form = format!(
        "To=sip:810@{}&From=%2B15551230001&Url={}&MachineDetection=Enable&AsyncAmd=true&AsyncAmdStatusCallback={}\
         &MachineDetectionSilenceTimeout=10000",
        server.udp,
        app.url("/voice"),
        app.url("/amd")
    );
    let made = server.api.post("/Calls.json", &form).await;
    let sid = made.json()["sid"].as_str().unwrap().to_owned();
    let told = app.request("/amd").await;
    assert_eq!((told.field("AnsweredBy").as_str(), told.field("CallSid")), ("human", sid.clone()));
    assert!(app.requests.all()[0].path == "/voice", "it did not wait");
    server.api.post(&format!("/Calls/{sid}.json"), "Status=completed").await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_with_machine_detection_reports_an_answering_machine_by_webhook() {
    let app = App::start(|_| String::new()).await;
    let server = TestServer::start(&application(&app)).await;
    let order = json!({
        "connection_id": "1000000000000000001",
        "to": format!("sip:811@{}", server.udp),
        "from": "+15551230001",
        "answering_machine_detection": "detect",
        // On a busy computer, the speech may start late.
        "answering_machine_detection_config": { "total_analysis_time_millis": 60_000, "initial_silence_millis": 30_000 },
    });
    server.api.dial(&order).await;
    let told = app.event("call.machine.detection.ended").await;
    assert_eq!((told["result"].as_str(), &told["from"]), (Some("machine"), &json!("+15551230001")));
    server.api.command(told["call_control_id"].as_str().unwrap(), "hangup", &json!({})).await;
    app.event("call.hangup").await;
    server.quiet().await;
    server.end().await;
}
