//! The audio of recordings over HTTP.

use tandem_test_support::wait_until;
use tokio::task::JoinSet;

use crate::audio::noise;
use crate::log::PATIENCE;
use crate::phone::Phone;
use crate::test_server::{ACCOUNT_SID, TestServer, inline};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mp3_is_encoded_once_and_deleted_with_its_recording() {
    let record =
        "<Response><Record playBeep=\"false\" timeout=\"0\" trim=\"do-not-trim\" maxLength=\"60\"/></Response>";
    let server = TestServer::start(&inline("100", record)).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.audio.say(&noise(200, 3));
    phone.audio.heard().reach(100, "2 s of RTP").await;
    let folder = server.calls().services().recordings.folder.clone();
    let files = || std::fs::read_dir(&folder).unwrap().count();
    let running = server.api.recordings().await.remove(0);
    let sid = running["sid"].as_str().unwrap();
    let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{sid}");
    let mp3 = format!("{path}.mp3");
    assert_eq!(server.api.get(&mp3).await.status, 404, "{running}");
    phone.hangup().await;
    server.quiet().await;
    assert_eq!(server.api.recordings().await.remove(0)["status"], "completed");
    assert_eq!(files(), 1);

    let mut asking = JoinSet::new();
    for _ in 0..8 {
        let (api, mp3) = (server.api, mp3.clone());
        asking.spawn(async move { api.get(&mp3).await });
    }
    let replies = asking.join_all().await;
    for reply in &replies {
        assert_eq!((reply.status, &reply.body), (200, &replies[0].body));
    }
    let samples = tandem_media::decode(&replies[0].body, None).unwrap().samples().len();
    assert!((12_000..40_000).contains(&samples), "{samples}");
    let (a, b, c, d, e) = (&sid[2..10], &sid[10..14], &sid[14..18], &sid[18..22], &sid[22..]);
    let download = server.api.get_as("", &format!("/v2/recordings/{a}-{b}-{c}-{d}-{e}/download.mp3")).await;
    assert_eq!((download.status, &download.body), (200, &replies[0].body));
    let metrics = String::from_utf8(server.api.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("\ntandem_mp3s_made_total 1\n"), "{metrics}");
    assert_eq!(files(), 2);

    assert_eq!(server.api.delete(&path).await.status, 204);
    assert_eq!(files(), 0);
    assert_eq!(server.api.get(&mp3).await.status, 404);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_waits_on_the_disk_and_is_served_while_its_bucket_is_away() {
    let record = "<Response><Record playBeep=\"false\" timeout=\"0\" trim=\"do-not-trim\"/></Response>";
    // Nothing listens at the port for the protocol Discard.
    let bucket =
        "[recordings.s3]\nendpoint = \"http://127.0.0.1:9\"\naccess_key_id = \"i\"\nsecret_access_key = \"k\"\n";
    let server = TestServer::start_as(&[], &(inline("100", record) + bucket), |config| {
        config.recordings.url = "s3://calls/eu".into();
    })
    .await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.audio.say(&noise(200, 3));
    phone.audio.heard().reach(50, "1 s of RTP").await;
    phone.hangup().await;
    server.quiet().await;
    let files = server.calls().services().recordings.clone();
    wait_until(PATIENCE, "the recording waits", async || files.waiting().await.unwrap() == 1).await;
    wait_until(PATIENCE, "the error is reported", async || {
        let errors = server.api.get("/console/errors?cause=recordings-bucket").await.json();
        !errors["errors"].as_array().unwrap().is_empty()
    })
    .await;
    let recording = server.api.recordings().await.remove(0);
    let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{}", recording["sid"].as_str().unwrap());
    assert_eq!(server.api.get(&path.clone()).await.status, 200);
    assert_eq!(server.api.get(&format!("{path}.mp3")).await.status, 200);
    std::fs::remove_file(files.folder.join("waiting").join(format!("{}.wav", &path[path.len() - 32..]))).unwrap();
    std::fs::remove_file(files.folder.join("copies").join(format!("{}.mp3", &path[path.len() - 32..]))).unwrap();
    assert_eq!(server.api.get(&path).await.status, 503);
    server.end().await;
}
