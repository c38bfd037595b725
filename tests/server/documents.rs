//! Calls that are controlled by documents, and callers that are refused.

use crate::app::{App, AppRequest};
use crate::phone::{Phone, SipEvent};
use crate::test_server::{TestServer, asks, inline};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inline_document_answers_plays_speech_and_hangs_up() {
    let server =
        TestServer::start(&inline("600", "<Response><Say>Hello, this is a test.</Say><Hangup/></Response>")).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "600").await;
    phone.until(SipEvent::Bye).await;
    let loud = phone.audio.heard().all().iter().filter(|packet| packet.is_loud()).count() * 20;
    assert!((500..5_000).contains(&loud), "{loud} ms of speech");
    server.quiet().await;
    let calls = server.api.calls().await;
    assert_eq!((calls.len(), &calls[0]["status"], &calls[0]["to"]), (1, &"completed".into(), &"600".into()));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_gathers_digits_with_signed_requests() {
    let app = App::start(|request: &AppRequest| match request.path.as_str() {
        "/voice" => "<Response><Gather numDigits=\"4\" timeout=\"10\" action=\"/digits\">\
                     <Say>Please type your number, and take all the time that you need for it.</Say></Gather></Response>"
            .to_owned(),
        "/digits" => "<Response><Hangup/></Response>".to_owned(),
        _ => String::new(),
    })
    .await;
    let server = TestServer::start(&asks("100", app.address)).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let first = app.request("/voice").await;
    assert_eq!((first.field("CallStatus").as_str(), first.field("To").as_str()), ("ringing", "100"));
    phone.audio.heard().find("the prompt", super::audio::Packet::is_loud).await;
    phone.audio.press("1234");
    phone.until(SipEvent::Bye).await;
    let gathered = app.request("/digits").await;
    assert_eq!(gathered.field("Digits"), "1234");
    assert_eq!(gathered.field("CallSid"), first.field("CallSid"));
    assert_eq!(app.request("/status").await.field("CallStatus"), "completed");
    assert!(app.requests.all().iter().all(AppRequest::is_signed));
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_from_an_unknown_source_is_refused_without_a_record() {
    let server = TestServer::start(&inline("600", "<Response><Say>Hello</Say></Response>")).await;
    let mut unknown = Phone::at("127.0.0.2").await;
    unknown.invite(server.udp, "600").await;
    assert_eq!(unknown.outcome().await, 403);
    assert_eq!(server.live_legs(), 0);
    assert!(server.api.calls().await.is_empty());
    let mut unknown = Phone::new().await;
    unknown.invite(server.udp, "601").await;
    assert_eq!(unknown.outcome().await, 404);
    server.quiet().await;
    server.end().await;
}
