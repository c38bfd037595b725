//! The lists of calls and recordings over HTTP: filters, searches and refusals.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use tandem_call::leg::LegInfo;
use tandem_history::query::{LegFilter, Page};
use tandem_history::records;
use tandem_id::{AccountName, LegId};
use tandem_store::calls;

use crate::audio::noise;
use crate::phone::Phone;
use crate::test_server::{ACCOUNT_SID, API_KEY, AUTH_TOKEN, TestServer, basic, inline};

/// Returns the newest leg of the server.
async fn newest(server: &TestServer) -> Arc<LegInfo> {
    let page = Page { limit: 1, after: None, offset: 0 };
    server.calls().list(&AccountName::new("acme"), &LegFilter::default(), page).await.unwrap().remove(0)
}

fn seconds(text: &str) -> i64 {
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
    parsed.unwrap_or_else(|error| panic!("{text}: {error}")).as_second()
}

/// Calls with 0 to 25 s from their creation to their answer, so that the order of the answers is not the order of the
/// creations. One call is not answered, and one is live: the call of the phone.
async fn with_slow_answers() -> (TestServer, Phone) {
    let server = TestServer::start(&inline("100", "<Response><Echo/></Response>")).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.hangup().await;
    server.quiet().await;
    let services = server.calls().services();
    let of = newest(&server).await;
    let midnight: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
    for (number, rings) in [25, 0, 10, 20, 15].into_iter().enumerate() {
        let mut leg = LegInfo::clone(&of);
        let created = midnight + (10 * i64::try_from(number).unwrap() - 30).seconds() + 400.milliseconds();
        leg.id = LegId(u128::try_from(created.as_millisecond()).unwrap() << 80 | 7);
        leg.created_at = created;
        leg.answered_at = (number != 1).then_some(created + rings.seconds());
        match leg.end.as_mut() {
            Some(end) => end.at = created + (rings + 30).seconds(),
            None => panic!("the call has ended"),
        }
        calls::upsert(&services.store, records::call_row(&Arc::new(leg), created)).await.unwrap();
    }
    let mut live = Phone::new().await;
    live.call(server.udp, "100").await;
    (server, live)
}

/// A synchronisation reads `StartTime>=` the last `start_time` that it has seen, so no call may be missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_filter_compares_the_time_that_the_list_shows() {
    let (server, mut phone) = with_slow_answers().await;
    let twilio = (format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json"), basic(ACCOUNT_SID, AUTH_TOKEN));
    // The refusal of a foreign account names the account of the key.
    let key = format!("Bearer {API_KEY}");
    let foreign = server.api.get_as(&key, &format!("/v2/texml/Accounts/{ACCOUNT_SID}/Calls.json")).await.json();
    let own = foreign["errors"][0]["detail"].as_str().unwrap().rsplit(' ').next().unwrap().to_owned();
    let texml = (format!("/v2/texml/Accounts/{own}/Calls.json"), key);
    for (path, login) in [twilio, texml] {
        let list = async |query: String| -> Vec<Value> {
            let reply = server.api.get_as(&login, &format!("{path}?PageSize=50&{query}")).await;
            assert_eq!(reply.status, 200, "{path} {query}: {}", String::from_utf8_lossy(&reply.body));
            reply.json()["calls"].as_array().unwrap().clone()
        };
        let all = list(String::new()).await;
        assert_eq!(all.len(), 7);
        let sids = |rows: &[Value]| rows.iter().map(|row| row["sid"].to_string()).collect::<BTreeSet<_>>();
        for (key, field) in [("StartTime", "start_time"), ("EndTime", "end_time")] {
            let shown = |row: &Value| row[field].as_str().map(seconds);
            let bounds: BTreeSet<i64> = all.iter().filter_map(shown).flat_map(|at| [at - 1, at, at + 1]).collect();
            for bound in bounds {
                let text = Timestamp::from_second(bound).unwrap().to_string();
                let expected = |fits: &dyn Fn(i64) -> bool| {
                    let rows: Vec<_> = all.iter().filter(|row| shown(row).is_some_and(fits)).cloned().collect();
                    sids(&rows)
                };
                let from = list(format!("{key}%3E={text}")).await;
                assert_eq!(sids(&from), expected(&|at| at >= bound), "{path} {key}>={text}");
                let until = list(format!("{key}%3C={text}")).await;
                assert_eq!(sids(&until), expected(&|at| at < bound), "{path} {key}<{text}");
                if path.contains("texml") {
                    assert_eq!(sids(&list(format!("{key}_gt={text}")).await), sids(&from), "{key}_gt={text}");
                    assert_eq!(sids(&list(format!("{key}_lt={text}")).await), sids(&until), "{key}_lt={text}");
                }
            }
            let midnight = seconds("Mon, 02 Mar 2026 00:00:00 +0000");
            let day = list(format!("{key}=2026-03-02")).await;
            assert!(
                !day.is_empty() && day.iter().all(|row| (midnight..midnight + 86_400).contains(&shown(row).unwrap()))
            );
        }
    }
    phone.hangup().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_time_filter_contain_each_call_once() {
    let (server, mut phone) = with_slow_answers().await;
    let mut path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json?PageSize=2&StartTime%3E=2026-03-01");
    let mut seen = Vec::new();
    loop {
        let page = server.api.get(&path).await.json();
        seen.extend(page["calls"].as_array().unwrap().iter().map(|row| row["sid"].to_string()));
        match page["next_page_uri"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (6, 6), "{seen:?}");
    phone.hangup().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_found_by_a_part_of_its_number_its_id_and_its_call_id() {
    let (server, mut phone) = with_slow_answers().await;
    let leg = newest(&server).await;
    let list = async |query: &str| server.api.get(&format!("/console/calls?{query}")).await.json();
    let exact = list("to=100").await;
    assert_eq!((exact["calls"].as_array().unwrap().len(), exact.get("searched")), (7, None));
    let part = list("to=10&limit=3").await;
    assert_eq!((part["calls"].as_array().unwrap().len(), &part["searched"]), (3, &json!(20_000)), "{part}");
    assert!(list("to=99999").await["calls"].as_array().unwrap().is_empty());
    let id = leg.id.to_string();
    let call_id = leg.sip.call_id.clone().unwrap();
    for part in [&id[..12], &id[12..24], &id[8..], &call_id, &call_id[1..call_id.len().min(12)]] {
        let found = server.api.get(&format!("/console/calls/{}", part.replace('@', "%40"))).await;
        assert_eq!(found.status, 200, "{part}");
        assert_eq!(found.json()["session"], leg.session.to_string(), "{part}");
    }
    assert_eq!(server.api.get("/console/calls/0123456789abcdef").await.status, 404);
    phone.hangup().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_json_body_is_refused_with_the_correct_content_type() {
    let server = TestServer::start("").await;
    let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json");
    let body = json!({ "To": "+15551230001", "From": "+15551230002", "Url": "http://127.0.0.1/" }).to_string();
    let login = basic(ACCOUNT_SID, AUTH_TOKEN);
    let reply = server.api.request("POST", &path, &login, "application/json", &body).await;
    assert_eq!(reply.status, 400);
    assert!(
        reply.json()["message"].as_str().unwrap().contains("application/x-www-form-urlencoded"),
        "{}",
        reply.json()
    );
    let multipart = "--x\r\nContent-Disposition: form-data; name=\"FriendlyName\"\r\n\r\na\r\n--x--\r\n";
    for resource in ["Calls", "Applications", "Queues"] {
        let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/{resource}.json");
        for (kind, body) in [
            ("Application/JSON", &*body),
            ("text/json", &body),
            ("", &body),
            ("application/x-www-form-urlencoded", " [1]"),
            ("text/xml", "<Response/>"),
            ("Multipart/Form-Data; boundary=x", multipart),
        ] {
            let reply = server.api.request("POST", &path, &login, kind, body).await;
            let text = String::from_utf8(reply.body.clone()).unwrap();
            assert!(reply.status == 400 && text.contains("application/x-www-form-urlencoded"), "{kind}: {text}");
        }
    }
    // A form with a wrong content type is still a form.
    let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Queues.json");
    assert_eq!(server.api.request("POST", &path, &login, "application/json", "FriendlyName=a").await.status, 201);
    server.end().await;
}

/// A disk of 3 MiB. The test needs root to create the disk.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(disk.0.path()).stderr(std::process::Stdio::null());
        if !mount.status().is_ok_and(|status| status.success()) {
            tandem_test_support::skip(tandem_test_support::Needs::Host("no tmpfs can be mounted"));
            return None;
        }
        Some(disk)
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.path().join("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_on_a_full_disk_keeps_its_audio_and_reports_the_failure() {
    let Some(disk) = SmallDisk::mount() else { return };
    let record =
        "<Response><Record playBeep=\"false\" timeout=\"0\" trim=\"do-not-trim\" maxLength=\"60\"/></Response>";
    let folder = disk.0.path().join("recordings");
    let more = format!("[recordings]\nurl = \"file:{}\"\n{}", folder.display(), inline("100", record));
    let server = TestServer::start(&more).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.audio.say(&noise(600, 3));
    phone.audio.heard().reach(150, "3 s of RTP").await;
    disk.fill();
    phone.audio.heard().reach(400, "5 s more").await;
    phone.hangup().await;
    server.quiet().await;

    let recording = server.api.recordings().await.remove(0);
    assert_eq!((&recording["status"], &recording["error_code"]), (&json!("completed"), &json!(12_400)), "{recording}");
    let length: u64 = recording["duration"].as_str().unwrap().parse().unwrap();
    assert!((1..8).contains(&length), "{recording}");
    let sid = recording["sid"].as_str().unwrap();
    let wav = server.api.wav(sid).await;
    let samples = tandem_media::decode(&wav, None).unwrap().samples().len();
    assert!(samples >= 8_000, "{samples} samples");
    let (a, b, c, d, e) = (&sid[2..10], &sid[10..14], &sid[14..18], &sid[18..22], &sid[22..]);
    let telnyx = server.api.get_as(&format!("Bearer {API_KEY}"), &format!("/v2/recordings/{a}-{b}-{c}-{d}-{e}")).await;
    assert_eq!(telnyx.status, 200, "{}", String::from_utf8_lossy(&telnyx.body));
    // The MP3 file would need space. `wav` gives the path of the audio.
    disk.fill();
    let mp3 = server.api.get(&format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{sid}.mp3")).await;
    assert_eq!((mp3.status, &mp3.json()["code"]), (503, &json!(20_503)), "{}", mp3.json());
    let path = format!("/v2/recordings/{a}-{b}-{c}-{d}-{e}/download.mp3");
    let mp3 = server.api.get_as(&format!("Bearer {API_KEY}"), &path).await;
    assert_eq!(mp3.status, 503, "{}", String::from_utf8_lossy(&mp3.body));
    let errors = server.api.get("/console/errors").await.json();
    let error = errors["errors"].as_array().unwrap().iter().find(|row| row["cause"] == "recording-failed");
    assert!(error.is_some_and(|row| row["advice"].as_str().unwrap().contains("df -h")), "{errors}");
    let notifications = server.api.get(&format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Notifications.json")).await.json();
    let full = errors["errors"].as_array().unwrap().iter().filter(|row| row["cause"] == "recordings-disk-full").count();
    assert!(full >= 1, "{errors}");
    let is_reported = notifications["notifications"].as_array().unwrap().iter().any(|row| row["error_code"] == "12400");
    assert!(is_reported, "{notifications}");
    server.end().await;
}
