//! A media thread that has too much to do takes no new calls, and everybody who should know is told.

use tandem_test_support::wait_for;

use crate::audio::noise;
use crate::bridge::through;
use crate::log::PATIENCE;
use crate::phone::{Phone, SipEvent};
use crate::test_server::TestServer;

/// Waits until `/readyz` answers with this status. Returns the body.
async fn readiness(server: &TestServer, status: u16) -> String {
    let ready = async || Some(server.api.get("/readyz").await).filter(|reply| reply.status == status);
    String::from_utf8(wait_for(PATIENCE, "the readiness changes", ready).await.body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_media_thread_refuses_new_calls_until_its_load_falls() {
    let (mut caller, mut called) = (Phone::with("G722", "127.0.0.1").await, Phone::new().await);
    // With this budget, a single transcoded call is too much.
    let environment = [
        ("TANDEM_MEDIA__TRANSCODING_BUDGET", "0"),
        ("TANDEM_MEDIA__WORKERS", "1"),
        ("TANDEM_MEDIA__CODECS", "PCMU, G722"),
        ("TANDEM_MEDIA__KERNEL_RELAY", "off"),
    ];
    let server = TestServer::start_under(&environment, &through("700", &called, "off")).await;
    readiness(&server, 200).await;
    caller.invite(server.udp, "700").await;
    called.until(SipEvent::Invited).await;
    called.pick_up().await;
    assert_eq!(caller.outcome().await, 200);
    caller.audio.say(&noise(20_000, 21));
    assert_eq!(readiness(&server, 503).await, "every media thread of the server is overloaded\n");

    let mut late = Phone::new().await;
    late.invite(server.udp, "700").await;
    assert_eq!(late.outcome().await, 503);
    let metrics = String::from_utf8(server.api.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("\ntandem_media_threads 1\n"), "{metrics}");
    assert!(metrics.contains("\ntandem_media_threads_overloaded 1\n"), "{metrics}");
    let errors = server.api.get("/console/errors").await.json().to_string();
    assert!(errors.contains("media-full") && errors.contains("every media thread"), "{errors}");

    caller.hangup().await;
    called.until(SipEvent::Bye).await;
    readiness(&server, 200).await;
    server.end().await;
}
