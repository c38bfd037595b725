//! Access rights of the HTTP interfaces. The tests check which credentials may read and change which data.

use std::net::TcpListener;

use crate::phone::{Phone, SipEvent};
use crate::test_server::{ACCOUNT_SID, API_KEY, AUTH_TOKEN, Api, TestServer, basic, inline};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_need_an_operator_unless_the_client_is_local() {
    let server = TestServer::start("").await;
    assert_eq!(server.api.get_as("", "/metrics").await.status, 200);
    // The headers of a request that a proxy on this computer forwards.
    let strange = "nobody\r\nX-Forwarded-For: 203.0.113.1";
    assert_eq!(server.api.get_as(strange, "/metrics").await.status, 401);
    let operator = format!("{}\r\nX-Forwarded-For: 203.0.113.1", basic(ACCOUNT_SID, AUTH_TOKEN));
    assert_eq!(server.api.get_as(&operator, "/metrics").await.status, 200);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_foreign_origin_changes_nothing_with_the_credentials_of_the_browser() {
    let server = TestServer::start("").await;
    for (origin, status) in [("https://evil.example", 403), ("null", 403), ("http://localhost:3000", 201)] {
        let page = format!("{}\r\nOrigin: {origin}", basic(ACCOUNT_SID, AUTH_TOKEN));
        assert_eq!(
            server.api.send_as(&page, "POST", &format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Keys.json")).await.status,
            status,
            "{origin}"
        );
    }
    let page = format!("{}\r\nOrigin: https://evil.example", basic(ACCOUNT_SID, AUTH_TOKEN));
    assert_eq!(server.api.send_as(&page, "POST", "/console/reload").await.status, 403);
    assert_eq!(
        server.api.get_as(&page, &format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Keys.json")).await.status,
        200,
        "without CORS headers the page cannot read it"
    );
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_with_a_separate_listener_are_absent_from_the_main_listener() {
    let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = TestServer::start_under(&[("TANDEM_HTTP__METRICS_LISTEN", &own.to_string())], "").await;
    let metrics = Api(own);
    assert_eq!(server.api.get("/metrics").await.status, 404);
    let strange = "nobody\r\nX-Forwarded-For: 203.0.113.1";
    let shown = metrics.get_as(strange, "/metrics").await;
    assert_eq!(shown.status, 200);
    assert!(String::from_utf8(shown.body).unwrap().contains("tandem_database_ready 1"));
    assert_eq!(metrics.get_as("", "/readyz").await.status, 200);
    assert_eq!(metrics.get("/2010-04-01/Accounts.json").await.status, 404);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_of_an_operator_reads_bans_but_neither_lifts_bans_nor_reloads() {
    let server = TestServer::start("").await;
    let made = server.api.post("/Keys.json", "").await;
    assert_eq!(made.status, 201);
    let (sid, secret) = (made.json()["sid"].clone(), made.json()["secret"].clone());
    let key = basic(sid.as_str().unwrap(), secret.as_str().unwrap());
    assert_eq!(server.api.get_as(&key, "/console/sip/bans").await.status, 200);
    let ban = "/console/sip/bans/203.0.113.1";
    for (method, path) in [("POST", "/console/reload"), ("DELETE", ban)] {
        assert_eq!(server.api.send_as(&key, method, path).await.status, 403, "{method} {path}");
    }
    for own in [basic(ACCOUNT_SID, AUTH_TOKEN), format!("Bearer {API_KEY}")] {
        assert_eq!(server.api.send_as(&own, "DELETE", ban).await.status, 404, "there is no such ban");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_need_credentials_when_the_setting_requires_them() {
    let document = "<Response><Record playBeep=\"false\" maxLength=\"1\"/></Response>";
    let number = inline("100", document);
    for closed in [false, true] {
        let server = TestServer::start(&format!("{number}\n[recordings]\nrequire_credentials = {closed}\n")).await;
        let mut phone = Phone::new().await;
        phone.call(server.udp, "100").await;
        phone.audio.say(&crate::audio::noise(2_000, 3));
        phone.until(SipEvent::Bye).await;
        server.quiet().await;
        let recording = server.api.recordings().await.remove(0);
        assert_eq!(recording["status"], "completed");
        let sid = recording["sid"].as_str().unwrap();
        let audio = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{sid}.wav");
        let uuid = sid.strip_prefix("RE").unwrap();
        let uuid = [&uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]].join("-");
        let download = format!("/v2/recordings/{uuid}/download.wav");
        for (path, own) in [(audio, basic(ACCOUNT_SID, AUTH_TOKEN)), (download, format!("Bearer {API_KEY}"))] {
            let expected = if closed { 401 } else { 200 };
            assert_eq!(server.api.get_as("", &path).await.status, expected, "{path}");
            assert_eq!(server.api.get_as(&own, &path).await.status, 200, "{path}");
        }
        server.end().await;
    }
}
