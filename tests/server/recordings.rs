//! The audio of recordings over HTTP.

use tokio::task::JoinSet;

use crate::audio::noise;
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
