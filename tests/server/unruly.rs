//! Stream applications that send invalid messages, do not answer, or crash.

use axum::extract::ws::Message;
use serde_json::{Value, json};
use tandem_test_support::wait_until;

use crate::app::{App, AppRequest};
use crate::audio::tone;
use crate::log::PATIENCE;
use crate::phone::{Phone, SipEvent};
use crate::test_server::{TestServer, asks, commanded};

/// An application with a document that connects a stream to this application and then hangs up.
async fn connecting() -> App {
    App::start(|request: &AppRequest| match request.path.as_str() {
        "/voice" => format!(
            "<Response><Connect action=\"/after\"><Stream url=\"ws://{}/stream\" statusCallback=\"http://{0}/stream-told\"/>\
             </Connect></Response>",
            request.headers["host"].to_str().unwrap()
        ),
        "/after" => "<Response><Hangup/></Response>".to_owned(),
        _ => String::new(),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_messages_harm_neither_the_stream_nor_the_call() {
    let mut app = connecting().await;
    let server = TestServer::start(&asks("100", app.address)).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let stream = app.stream().await;
    stream.event("start").await;
    for wrong in ["", "{", "null", "[1]", "{\"event\":7}", "{\"event\":\"dance\"}", "\u{0}"] {
        stream.send(Message::text(wrong));
    }
    for wrong in [
        json!({ "event": "media" }),
        json!({ "event": "media", "media": { "payload": "no base64!" } }),
        json!({ "event": "media", "media": { "payload": "" } }),
        json!({ "event": "media", "streamSid": "MZ00000000000000000000000000000000", "media": { "payload": "AAAA" } }),
        json!({ "event": "mark" }),
        json!({ "event": "clear", "clear": [[[[]]]] }),
        json!({ "event": "x".repeat(100_000) }),
    ] {
        stream.say(wrong);
    }
    stream.send(Message::binary(vec![0xFF; 1_000]));
    stream.send(Message::Ping(vec![1; 100].into()));
    // The queue cannot contain this amount of audio. The server keeps the audio that fits and drops the rest.
    for _ in 0..5 {
        stream.play(&vec![0; 8_000 * 30]);
    }
    stream.clear();
    let heard = phone.audio.heard().len();
    stream.play(&tone(100));
    stream.mark("well");
    stream.marked("well").await;
    phone.audio.heard().find_after(heard, "the tone", super::audio::Packet::is_loud).await;
    phone.hangup().await;
    stream.event("stop").await;
    stream.closed().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_continues_after_the_application_of_a_stream_disconnects() {
    let mut app = connecting().await;
    let server = TestServer::start(&asks("100", app.address)).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let stream = app.stream().await;
    stream.listen(100).await;
    stream.vanish();
    phone.until(SipEvent::Bye).await;
    assert!(!app.request("/after").await.field("StreamError").is_empty());
    let is_stream_error =
        |request: &AppRequest| request.path == "/stream-told" && request.field("StreamEvent") == "stream-error";
    assert!(app.requests.find("stream-error", is_stream_error).await.is_signed());
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_cannot_connect_leaves_the_call_running() {
    let app = App::start(|_| String::new()).await;
    let server = TestServer::start(&commanded("200", &app.url("/telnyx"))).await;
    let mut phone = Phone::new().await;
    phone.invite(server.udp, "200").await;
    let leg = app.event("call.initiated").await;
    let control = leg["call_control_id"].as_str().unwrap();
    server.api.command(control, "answer", &json!({})).await;
    assert_eq!(phone.outcome().await, 200);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    server.api.command(control, "streaming_start", &json!({ "stream_url": format!("ws://{nobody}/") })).await;
    let failed = app.event("streaming.failed").await;
    assert_ne!(failed["failure_reason"], Value::Null);
    wait_until(PATIENCE, "the media of the leg", async || server.live_legs() == 1).await;
    server.api.command(control, "hangup", &json!({})).await;
    phone.until(SipEvent::Bye).await;
    app.event("call.hangup").await;
    server.quiet().await;
    server.end().await;
}
