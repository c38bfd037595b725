//! The messages that a developer gets about mistakes of the application, in the words of the provider.

use serde_json::{Value, json};
use tandem_test_support::{wait_for, wait_until};

use crate::app::App;
use crate::log::PATIENCE;
use crate::phone::{Phone, SipEvent};
use crate::test_server::{ACCOUNT_SID, API_KEY, PROJECT_ID, PROJECT_TOKEN, TestServer, basic};

const APPLICATION: &str = "1000000000000000001";

/// A number whose documents are scripts.
fn script(number: &str, url: &str) -> String {
    format!("[[numbers]]\nnumber = \"{number}\"\naccount = \"acme\"\nprovider = \"swml\"\nvoice_url = \"{url}\"\n")
}

/// A number of an application that sends commands.
fn commanded(number: &str, url: &str) -> String {
    format!(
        "[[applications]]\nid = \"{APPLICATION}\"\naccount = \"acme\"\nprovider = \"telnyx\"\nwebhook_url = \"{url}\"\n\
         [[numbers]]\nnumber = \"{number}\"\naccount = \"acme\"\napplication = \"{APPLICATION}\"\n"
    )
}

/// The list of errors. The newest error comes first.
async fn errors(server: &TestServer) -> Vec<Value> {
    let errors = server.api.get("/console/errors?limit=100").await.json()["errors"].take();
    errors.as_array().cloned().unwrap_or_default()
}

/// Waits until the list of errors has an error with this cause, and returns the error.
async fn error(server: &TestServer, cause: &str) -> Value {
    let found = async || errors(server).await.into_iter().find(|error| error["cause"] == cause);
    wait_for(PATIENCE, &format!("{cause} is in the list of errors"), found).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mistake_of_a_script_has_its_own_cause() {
    let app = App::start(|request| {
        let text = match &*request.path {
            "/empty" => "",
            "/xml" => "<Response><Hangup/></Response>",
            "/page" => "<!DOCTYPE html><html></html>",
            "/comma" => "{\"sections\": {\"main\": [\"hangup\",]}}",
            "/method" => "sections: {main: [{sing: {}}]}",
            "/silent" => "sections: {main: [{set: {a: 1}}]}",
            "/condition" => "sections: {main: [answer, {cond: [{when: 'x.y.z == 1', then: [hangup]}]}, hangup]}",
            "/request" => "sections: {main: [answer, {request: {url: 'http://127.0.0.1:9/', method: GET}}, hangup]}",
            _ => "sections: {main: [answer, hangup]}",
        };
        text.to_owned()
    })
    .await;
    let cases = [
        ("/empty", "empty-answer"),
        ("/xml", "other-provider"),
        ("/page", "html-answer"),
        ("/comma", "script-syntax"),
        ("/method", "script-invalid"),
        ("/silent", "script-unanswered"),
        ("/condition", "script-step"),
        ("/request", "connection-refused"),
    ];
    let number = |place: usize| format!("30{place}");
    let numbers: String =
        cases.iter().enumerate().map(|(place, (path, _))| script(&number(place), &app.url(path))).collect();
    let server = TestServer::start(&numbers).await;
    for (place, (path, cause)) in cases.iter().enumerate() {
        let mut phone = Phone::new().await;
        phone.invite(server.udp, &number(place)).await;
        let outcome = phone.outcome().await;
        assert_eq!(outcome, if *cause == "script-unanswered" { 480 } else { 200 }, "{path}");
        let error = error(&server, cause).await;
        assert_eq!(error["code"], Value::Null, "{path}: {error}");
        let message = error["message"].as_str().unwrap();
        let is_document = !["/silent", "/condition", "/request"].contains(path);
        assert_eq!(message.contains(&app.url(path)), is_document, "{message}");
        if *path == "/condition" {
            assert!(message.contains("main.[1].cond"), "{message}");
        }
        server.calls().hangup_all();
        server.quiet().await;
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_of_another_provider_is_an_error_that_names_the_provider() {
    let app = App::start(|_| "{\"version\": \"1.0.0\", \"sections\": {\"main\": [\"hangup\"]}}".to_owned()).await;
    let server = TestServer::start(&crate::test_server::asks("100", app.address)).await;
    let mut phone = Phone::new().await;
    phone.invite(server.udp, "100").await;
    phone.outcome().await;
    let error = error(&server, "other-provider").await;
    assert!(error["message"].as_str().unwrap().contains("the provider \"swml\""), "{error}");
    server.calls().hangup_all();
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refused_request_is_an_error_with_its_reason() {
    let server = TestServer::start("").await;
    let project = basic(PROJECT_ID, PROJECT_TOKEN);
    let unknown = "00000000-0000-4000-8000-00000000000f";
    let key = format!("Bearer {API_KEY}");
    let texml = "/v2/texml/Accounts/nobody/Calls";
    let calling = "/api/calling/calls";
    for (login, path, body, cause, reason) in [
        (&project, calling, "{\"command\":\"dial\",\"params\":{}}".to_owned(), "api-request-refused", "is missing"),
        (
            &project,
            calling,
            "{\"a\":".to_owned(),
            "api-request-refused",
            "400 to POST /api/calling/calls: the body is not JSON",
        ),
        (&project, calling, "[]".to_owned(), "api-request-refused", "must be a JSON object"),
        (&project, calling, "{\"command\":\"dial\",\"params\":[]}".to_owned(), "api-request-refused", "params must be"),
        (
            &project,
            calling,
            json!({ "command": "calling.end", "id": unknown, "params": {} }).to_string(),
            "api-request-refused",
            "has no call with this id",
        ),
        (
            &project,
            calling,
            json!({ "command": "calling.disconnect", "id": unknown }).to_string(),
            "api-request-refused",
            "use calling.end",
        ),
        (
            &project,
            calling,
            json!({ "command": "dial", "params": { "from": "+15550001", "to": "+44201", "url": "http://h/" } })
                .to_string(),
            "no-trunk",
            "no trunk, number or phone matches",
        ),
        (&key, "/v2/calls", "{\"to\": \"+1\"}".to_owned(), "api-request-refused", "connection_id: "),
        (&key, texml, "{}".to_owned(), "api-request-refused", "/v2/texml/Ac"),
    ] {
        // In one second, the server stores only a few errors with the same cause. So the request is repeated.
        let reported = async || {
            let reply = server.api.post_as(login, path, &body).await;
            assert!((400..500).contains(&reply.status), "{body}: {}", reply.status);
            errors(&server).await.into_iter().find(|error| error["message"].as_str().unwrap().contains(reason))
        };
        let error = wait_for(PATIENCE, &format!("{reason} is reported"), reported).await;
        assert_eq!(error["cause"], cause, "{body}: {error}");
    }
    // Only an account learns of requests for paths that do not exist.
    let before = errors(&server).await.len();
    assert_eq!(server.api.post_as("", "/nowhere", "{}").await.status, 404);
    assert_eq!(errors(&server).await.len(), before);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_after_the_end_of_a_call_is_no_error_and_an_invalid_command_shows_its_code() {
    let app = App::start(|_| String::new()).await;
    let server = TestServer::start(&commanded("200", &app.url("/telnyx"))).await;
    let mut phone = Phone::new().await;
    phone.invite(server.udp, "200").await;
    let call = app.event("call.initiated").await;
    let id = call["call_control_id"].as_str().unwrap().to_owned();
    server.api.command(&id, "answer", &json!({})).await;
    phone.outcome().await;
    let key = format!("Bearer {API_KEY}");
    let path = |action: &str| format!("/v2/calls/{}/actions/{action}", id.replace(':', "%3A"));
    let wrong = server.api.post_as(&key, &path("gather"), "{\"maximum_digits\": 1000}").await;
    assert_eq!(wrong.status, 422);
    let error = error(&server, "api-request-refused").await;
    assert_eq!(error["code"], 90023, "{error}");
    assert!(error["message"].as_str().unwrap().contains(": maximum_digits: "), "{error}");
    phone.hangup().await;
    app.event("call.hangup").await;
    server.quiet().await;
    let late = server.api.post_as(&key, &path("hangup"), "{}").await;
    assert_eq!(late.status, 422);
    let story = server.api.get("/console/calls/last").await.json();
    assert_eq!(story["errors"].as_array().unwrap().len(), 1, "{story}");
    let lines = story["timeline"].as_array().unwrap();
    let has = |text: &str| lines.iter().any(|line| line["text"].as_str().unwrap().contains(text));
    assert!(has("(90018); the call has ended"), "{story}");
    assert!(has("hangup_cause=normal_clearing"), "{story}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signature_page_shows_the_signature_of_each_provider() {
    let app = App::start(|_| {
        "sections: {main: [answer, {request: {url: 'http://127.0.0.1:9/x', method: GET}}, hangup]}".to_owned()
    })
    .await;
    let more = format!("{}{}", script("300", &app.url("/swml")), commanded("200", &app.url("/telnyx")));
    let server = TestServer::start(&more).await;
    let signature = || async { server.api.get("/console/signature?call=last").await.json() };

    let mut phone = Phone::new().await;
    phone.call(server.udp, "300").await;
    phone.until(SipEvent::Bye).await;
    server.quiet().await;
    let signature_page = signature().await;
    let sent = app.request("/swml").await;
    assert_eq!(signature_page["key"], format!("the signing key of {PROJECT_ID}"));
    assert_eq!(
        signature_page["requests"][0]["headers"][0],
        json!(["X-SignalWire-Signature", sent.headers["x-signalwire-signature"].to_str().unwrap()])
    );
    assert_eq!(
        (&signature_page["requests"][1]["headers"], &signature_page["covers_url"]),
        (&json!([]), &json!(true)),
        "{signature_page}"
    );

    let mut phone = Phone::new().await;
    phone.invite(server.udp, "200").await;
    app.event("call.initiated").await;
    phone.cancel().await;
    app.event("call.hangup").await;
    server.quiet().await;
    let signature_page = signature().await;
    let sent = app.request("/telnyx").await;
    let headers = signature_page["requests"][0]["headers"].as_array().unwrap();
    let value = |name: &str| headers.iter().find(|header| header[0] == name).map(|header| header[1].clone());
    for name in ["telnyx-timestamp", "telnyx-signature-ed25519"] {
        assert_eq!(value(name).unwrap(), sent.headers[name].to_str().unwrap(), "{signature_page}");
    }
    assert_eq!(signature_page["covers_url"], false);
    assert!(
        signature_page["check"].as_str().unwrap().contains("TELNYX_PUBLIC_KEY") && signature_page["usual"] == json!([]),
        "{signature_page}"
    );
    assert!(!signature_page.to_string().contains(ACCOUNT_SID), "{signature_page}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unused_parameter_causes_a_note() {
    let app = App::start(|_| "sections: {main: [answer]}".to_owned()).await;
    let server = TestServer::start(&commanded("200", &app.url("/telnyx"))).await;
    let mut phone = Phone::new().await;
    phone.invite(server.udp, "200").await;
    let id = app.event("call.initiated").await["call_control_id"].as_str().unwrap().to_owned();
    server.api.command(&id, "answer", &json!({ "langauge": "en-US" })).await;
    phone.outcome().await;
    let note = error(&server, "unused-parameter").await;
    assert!(note["message"].as_str().unwrap().ends_with("/actions/answer: without effect: langauge"), "{note}");
    assert_eq!(note["level"], "warning");
    server.calls().hangup_all();
    server.quiet().await;

    let callee = Phone::new().await;
    let params = json!({
        "from": "+15550001", "to": callee.uri(), "url": app.url("/swml"), "timout": 5, "status_url": app.url("/status"),
        "status_events": ["answred"],
    });
    let body = json!({ "command": "dial", "params": params }).to_string();
    let reply = server.api.post_as(&basic(PROJECT_ID, PROJECT_TOKEN), "/api/calling/calls", &body).await;
    assert_eq!(reply.status, 200);
    let message = "POST /api/calling/calls: without effect: timout, status_events answred";
    let is_reported = async || errors(&server).await.iter().any(|error| error["message"] == message);
    wait_until(PATIENCE, "the note about the Calling API", is_reported).await;
    server.calls().hangup_all();
    server.end().await;
}
