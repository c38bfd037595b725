//! `tandem load` with a running server. The report includes all calls and packets. The tests also run with applications
//! that behave badly.

use std::net::{SocketAddr, UdpSocket};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::app::{App, AppRequest};
use crate::phone::Phone;
use crate::test_server::{TestServer, asks, inline};

/// An address without a listener. The address is on a separate host, so that the system gives the address to no other
/// test during this test.
fn free(host: u8) -> SocketAddr {
    UdpSocket::bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap().local_addr().unwrap()
}

/// Runs `tandem load` against `target` and asserts that both calls succeed. Returns the report.
async fn load(target: SocketAddr, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.arg("load").arg(target.to_string()).args(["--caller", "127.0.0.1:0"]).args(arguments);
    let done = command.kill_on_drop(true).output().await.unwrap();
    let output = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && output.contains("2 of 2 well"), "{output}");
    serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// Makes two calls. The server relays both calls to the answerer. Returns the report.
async fn relayed(server: &TestServer, answerer: SocketAddr) -> Value {
    let answerer = answerer.to_string();
    load(server.udp, &["--answerer", &answerer, "--calls", "2", "--seconds", "1", "--media", "--ring", "50"]).await
}

fn bridge(answerer: SocketAddr) -> String {
    format!("[[numbers]]\nnumber = \"1*\"\naccount = \"acme\"\nbridge = \"sip:{{number}}@{answerer}\"\n")
}

fn assert_nothing_is_lost(report: &Value) {
    let media = &report["media"];
    for way in ["to_answerer", "to_caller"] {
        assert!(media[way]["sent"].as_u64().unwrap() > 0, "{report:#}");
        assert_eq!(media[way]["received"], media[way]["sent"], "{report:#}");
    }
    assert_eq!(media["dropped_here"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_packet_of_relayed_calls_and_of_media_streams_is_accounted_for() {
    let (answerer, sink) = (free(3), free(4));
    let stream = format!("<Response><Start><Stream url=\"ws://{sink}/\"/></Start><Pause length=\"60\"/></Response>");
    let server = TestServer::start(&(bridge(answerer) + &inline("7*", &stream))).await;
    let sink = sink.to_string();
    let streams = ["--number", "7", "--no-answerer", "--calls", "2", "--seconds", "1", "--media", "--sink", &sink];
    let (relayed, streamed) = tokio::join!(relayed(&server, answerer), load(server.udp, &streams));
    assert_nothing_is_lost(&relayed);
    assert_eq!(relayed["clean"], true);
    assert_eq!(relayed["added_delay_ms"]["n"], 2);

    let streams = &streamed["streams"];
    assert_eq!((&streams["streams"], &streams["dropped"]), (&json!(2), &json!(0)));
    let stamps = |name: &str| streams["stamps"][name].as_u64().unwrap();
    assert_eq!(stamps("found") + stamps("missing_between") + stamps("before_or_after"), stamps("sent"));
    assert!(stamps("found") > 0, "{streamed:#}");
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_with_webrtc_and_the_answerer_hear_each_other_with_each_codec() {
    let answerer = free(6);
    let server = TestServer::start(&format!("codecs = [\"opus\", \"PCMU\"]\n{}", bridge(answerer))).await;
    let answerer = answerer.to_string();
    let arguments = ["--answerer", &answerer, "--calls", "2", "--seconds", "3", "--media", "--webrtc"];
    let pcmu = load(server.udp, &[&arguments[..], &["pcmu"]].concat()).await;
    let opus = load(server.udp, &[&arguments[..], &["opus"]].concat()).await;
    assert_nothing_is_lost(&pcmu);
    for report in [&pcmu, &opus] {
        let media = &report["media"];
        assert_eq!((&media["first_audio_ms"]["n"], &media["connected_ms"]["n"]), (&json!(2), &json!(2)), "{report:#}");
        for way in ["to_answerer", "to_caller"] {
            assert_eq!(media[way]["lost"], 0, "{report:#}");
        }
    }
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_flood_or_disconnect_do_not_disturb_other_calls() {
    let mut app = App::start(|request: &AppRequest| match request.path.as_str() {
        "/voice" => format!(
            "<Response><Connect><Stream url=\"ws://{}/stream\"/></Connect><Pause length=\"60\"/></Response>",
            request.headers["host"].to_str().unwrap()
        ),
        _ => String::new(),
    })
    .await;
    let answerer = free(5);
    let server = TestServer::start(&(bridge(answerer) + &asks("300", app.address))).await;
    let mut phones = Vec::new();
    for place in 0..4 {
        let mut phone = Phone::new().await;
        phone.call(server.udp, "300").await;
        let stream = app.stream().await;
        stream.event("start").await;
        phones.push((place, phone, stream));
    }
    let others = tokio::join!(relayed(&server, answerer), async {
        for (place, _, stream) in &phones {
            match place % 2 {
                0 => (0..20).for_each(|_| stream.play(&vec![0; 8_000 * 30])),
                _ => stream.vanish(),
            }
        }
    });
    assert_nothing_is_lost(&others.0);
    for (_, mut phone, _) in phones {
        phone.hangup().await;
    }
    server.quiet().await;
    server.end().await;
}
