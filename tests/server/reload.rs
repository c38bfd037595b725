//! SIGHUP and `POST /console/reload`. The settings change while calls continue.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::phone::Phone;
use crate::program::Program;
use crate::test_server::{TestServer, inline, settings};

const WAIT: &str = "<Response><Say>Hello</Say><Pause length=\"60\"/></Response>";
const BUSY: &str = "<Response><Reject reason=\"busy\"/></Response>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reloads_the_configuration_and_an_invalid_file_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    let before = settings(folder.path(), &inline("100", WAIT));
    std::fs::write(&file, &before).unwrap();
    let program = Program::start(&file).await;
    let mut phone = Phone::new().await;
    phone.call(program.udp, "100").await;

    std::fs::write(&file, format!("{before}[[numbers]]\nnumber = \"101\"\nacount = \"acme\"\n")).unwrap();
    program.hang_up();
    program.says("not reloaded: ").await;
    program.says("unknown key; did you mean \"account\"?").await;
    let mut late = Phone::new().await;
    late.invite(program.udp, "101").await;
    assert_eq!(late.outcome().await, 404);

    std::fs::write(&file, before.replace("drain_timeout = 20", "drain_timeout = 21") + &inline("101", BUSY)).unwrap();
    program.hang_up();
    program.says("reloaded: trunks: 1, numbers: 2, endpoints: 0").await;
    let mut late = Phone::new().await;
    late.invite(program.udp, "101").await;
    assert_eq!(late.outcome().await, 486);

    let elsewhere =
        before.replace("tcp://127.0.0.1:0", "tcp://127.0.0.2:0").replace("ports = \"", "workers = 1\nports = \"");
    std::fs::write(&file, elsewhere).unwrap();
    let answer = program.api.reload().await;
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200);
    assert!(text.contains("numbers: 1") && text.contains("restart needed: media.workers, sip.listen\n"), "{text}");
    program.says("restart needed: media.workers, sip.listen").await;
    assert!(text.contains("\nremoved: 1 number (101)\n"), "{text}");
    program.says("removed: 1 number (101)").await;
    // An editor that has just emptied the file, and a file whose end is lost.
    let cut = before.split("[[accounts]]").next().unwrap();
    for text in ["", "\n# nothing\n", "data_dir = \"data\"\n", cut] {
        std::fs::write(&file, text).unwrap();
        let answer = program.api.reload().await;
        assert_eq!(answer.status, 422, "{text}");
        assert!(String::from_utf8(answer.body).unwrap().contains("no [[accounts]] any more"));
    }
    program.hang_up();
    program.says("not reloaded: the file has no [[accounts]] any more").await;
    std::fs::write(&file, "sip = 1").unwrap();
    let answer = program.api.reload().await;
    assert_eq!(answer.status, 422);
    assert!(String::from_utf8(answer.body).unwrap().contains(":1: sip: "));

    let heard = phone.audio.heard().len();
    phone.audio.heard().reach(heard + 25, "half a second of RTP after all that").await;
    phone.hangup().await;
    program.terminate();
    assert_eq!(program.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_json_on_request_and_its_level_changes_at_runtime() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    let before = settings(folder.path(), "[log]\nformat = \"json\"\nlevel = \"info\"\n");
    std::fs::write(&file, &before).unwrap();
    let program = Program::start_with(&file, None).await;
    let answer = program.api.get("/console/log").await.json();
    assert_eq!(answer, json!({ "level": "info", "usual": "info", "seconds": null }));
    let wrong = program.api.console("/log", &json!({ "level": "louder" })).await;
    assert_eq!(wrong.status, 400);
    assert!(String::from_utf8(wrong.body).unwrap().contains("\"louder\" is not a level"));
    assert_eq!(program.api.console("/log", &json!({ "level": "info", "seconds": 0 })).await.status, 400);
    assert_eq!(program.api.console("/log", &json!({ "level": "info", "for": "1h" })).await.status, 400);

    let answer = program.api.console("/log", &json!({ "level": "tandem_sip=trace,info", "seconds": 1 })).await;
    assert_eq!(answer.json(), json!({ "level": "tandem_sip=trace,info", "usual": "info", "seconds": 1 }));
    // The usual filter is active again after one second.
    let is_usual = async || program.api.get("/console/log").await.json()["level"] == "info";
    tandem_test_support::wait_until(crate::log::PATIENCE, "the usual filter", is_usual).await;

    std::fs::write(&file, before.replace("level = \"info\"", "level = \"warn\"")).unwrap();
    assert_eq!(program.api.reload().await.status, 200);
    assert_eq!(program.api.get("/console/log").await.json()["usual"], "warn");
    assert_eq!(program.api.get_as("Basic bm9ib2R5", "/console/log").await.status, 401);
    program.says("401: wrong credentials").await;
    for line in program.output() {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["time"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    program.terminate();
    assert_eq!(program.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_the_speech_engine() {
    let server = TestServer::start(&format!(
        "[speech]\ntts = \"off\"\n{}",
        inline("100", "<Response><Say>Hello</Say></Response>")
    ))
    .await;
    let timeline = async || {
        let mut phone = Phone::new().await;
        phone.call(server.udp, "100").await;
        phone.until(crate::phone::SipEvent::Bye).await;
        server.quiet().await;
        let newest = server.api.calls().await.remove(0);
        let path = format!("/console/sessions/{}/events?format=text", newest["sid"].as_str().unwrap());
        String::from_utf8(server.api.get(&path).await.body).unwrap()
    };
    let text = timeline().await;
    assert!(text.contains("text to speech is off (speech.tts)"), "{text}");
    // No server listens on this port, so the engine over HTTP fails. If espeak-ng is installed, the server then speaks
    // with espeak-ng. With or without espeak-ng, text to speech is not off.
    let other = "[speech]\ntts = \"http://127.0.0.1:9/v1/audio/speech\"\n";
    let number = inline("100", "<Response><Say>Hello</Say></Response>");
    let restart = server.reload(&format!("{other}{number}")).await;
    assert!(restart.iter().all(|key| !key.starts_with("speech")), "no restart is needed: {restart:?}");
    let text = timeline().await;
    assert!(!text.contains("text to speech is off"), "{text}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_credentials() {
    let server = TestServer::start("").await;
    assert_eq!(server.api.calls().await.len(), 0);
    let other = "[[accounts]]\nname = \"other\"\n\
                 twilio = { account_sid = \"AC00000000000000000000000000000002\", auth_token = \"another\" }\n";
    let path = "/2010-04-01/Accounts/AC00000000000000000000000000000002/Calls.json";
    let login = crate::test_server::basic("AC00000000000000000000000000000002", "another");
    assert_eq!(server.api.get_as(&login, path).await.status, 401);
    server.reload(other).await;
    assert_eq!(server.api.get_as(&login, path).await.status, 200);
    server.reload("").await;
    assert_eq!(server.api.get_as(&login, path).await.status, 401);
    server.end().await;
}
