//! SIGTERM. The server refuses new calls, lets live calls continue, and delivers pending webhooks before it exits.

use tempfile::TempDir;

use crate::app::{App, AppRequest};
use crate::phone::Phone;
use crate::program::Program;
use crate::test_server::{asks, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_refuses_new_calls_and_delivers_the_end_of_live_calls() {
    let app = App::start(|request: &AppRequest| match request.path.as_str() {
        "/voice" => "<Response><Say>Hello</Say><Pause length=\"60\"/></Response>".to_owned(),
        _ => String::new(),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, settings(folder.path(), &asks("100", app.address))).unwrap();
    let program = Program::start(&file).await;
    let mut phone = Phone::new().await;
    phone.call(program.udp, "100").await;
    assert_eq!(program.api.get("/readyz").await.status, 200);

    program.terminate();
    program.says("draining").await;
    let mut late = Phone::new().await;
    late.invite(program.udp, "100").await;
    assert_eq!(late.outcome().await, 503);
    let metrics = String::from_utf8(program.api.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("\ntandem_problems_total{cause=\"shutdown\"} 1\n"), "{metrics}");
    assert_eq!((program.api.get("/healthz").await.status, program.api.get("/readyz").await.status), (200, 503));
    let dial = "To=sip%3A100%40127.0.0.1%3A5070&From=100&Twiml=%3CResponse%2F%3E";
    let refused = program.api.post("/Calls.json", dial).await;
    assert_eq!((refused.status, refused.json()["code"].as_u64()), (503, Some(20503)));
    let heard = phone.audio.heard().len();
    phone.audio.heard().reach(heard + 25, "half a second of RTP after SIGTERM").await;
    assert_eq!(app.count("/status"), 0);

    phone.hangup().await;
    let status = program.ended().await;
    assert_eq!(status.code(), Some(0));
    // The webhook arrived before the exit.
    let ends: Vec<AppRequest> = app.requests.all().into_iter().filter(|request| request.path == "/status").collect();
    assert_eq!(ends.len(), 1);
    assert_eq!((ends[0].field("CallStatus").as_str(), ends[0].is_signed()), ("completed", true));
}
