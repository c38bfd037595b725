//! Speech of the whole server: the engine on this computer, a program that speaks, and speech that is played while it is
//! made. The engines are stand-ins that speak the published messages.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tandem_test_support::{Needs, skip, wait_for};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::app::{App, AppRequest};
use crate::audio::tone;
use crate::log::{Log, PATIENCE};
use crate::phone::{Phone, SipEvent};
use crate::program::Program;
use crate::test_server::{Api, TestServer, asks, inline, settings};

fn has_espeak() -> bool {
    let there = std::process::Command::new("espeak-ng").arg("--version").output().is_ok();
    if !there {
        skip(Needs::Package("espeak-ng"));
    }
    there
}

/// Waits for an error with this cause.
async fn error(api: Api, cause: &str) -> Value {
    let path = format!("/console/errors?limit=100&cause={cause}");
    let first = async || {
        let errors = api.get(&path).await.json();
        errors["errors"].as_array()?.first().cloned()
    };
    wait_for(PATIENCE, cause, first).await
}

/// An engine over a WebSocket. As a voice (`/v1/speak`), it sends 2 s of a tone for a text, and never the end. As a
/// recogniser (`/v1/listen`), it hears a number after 1 s of audio.
async fn engine() -> (SocketAddr, Arc<Log<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let log = Arc::new(Log::default());
    let received = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve(tcp, Arc::clone(&received)));
        }
    });
    (address, log)
}

async fn serve(tcp: TcpStream, log: Arc<Log<String>>) {
    #[expect(clippy::result_large_err, reason = "the library's own type")]
    let look = |request: &Request, response: Response| {
        let key = request.headers().get("authorization").and_then(|key| key.to_str().ok()).unwrap_or_default();
        log.push(format!("{} {key}", request.uri()));
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(tcp, look).await else { return };
    let mut octets = 0;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => {
                log.push(text.to_string());
                let message: Value = serde_json::from_str(&text).unwrap();
                let reply = match message["type"].as_str() {
                    Some("Flush") => Message::binary(crate::audio::encode(&tone(2_000))),
                    Some("Clear") => Message::text(json!({ "type": "Cleared", "sequence_id": 0 }).to_string()),
                    _ => continue,
                };
                socket.send(reply).await.unwrap();
            }
            Message::Binary(audio) => {
                let before = octets;
                octets += audio.len();
                if before < 8_000 && octets >= 8_000 {
                    let words = json!({ "type": "Results", "is_final": true, "speech_final": true, "end_of_turn": 0.9,
                        "channel": { "alternatives": [{ "transcript": "4 7 1 9 2", "confidence": 0.9 }] } });
                    socket.send(Message::text(words.to_string())).await.unwrap();
                }
            }
            _ => {}
        }
    }
}

/// Writes a stand-in for the program `tandem-speech`, which says that the engine at this address is ready. Each start adds
/// its process id to the file `pids`.
fn local_program(directory: &Path, engine: SocketAddr) {
    let ready = json!({ "listening": engine.to_string(), "recognition": ["en"], "voices": [] });
    let pids = directory.join("pids");
    let text = format!("#!/bin/sh\necho $$ >> {}\necho '{ready}'\nexec cat > /dev/null\n", pids.display());
    let unfinished = directory.join("unfinished");
    std::fs::write(&unfinished, text).unwrap();
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&unfinished, directory.join("tandem-speech")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_use_of_a_missing_local_engine_names_the_command_that_installs_it() {
    let server = TestServer::start(&format!(
        "[speech]\nstt = \"local\"\ntts = \"off\"\nmodels = \"/nowhere\"\n{}",
        inline("100", "<Response><Gather input=\"speech\" timeout=\"1\"/><Hangup/></Response>")
    ))
    .await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.until(SipEvent::Bye).await;
    let found = error(server.api, "speech-not-installed").await;
    assert!(found["advice"].as_str().unwrap().contains("tandem speech install"), "{found}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_engine_recognises_a_caller_and_its_death_ends_no_call() {
    let app = App::start(|request: &AppRequest| match request.path.as_str() {
        "/voice" => {
            "<Response><Gather input=\"speech\" speechTimeout=\"1\" timeout=\"20\" hints=\"$OOV_CLASS_DIGIT_SEQUENCE\" \
                     action=\"/heard\"/></Response>"
                .to_owned()
        }
        "/heard" => "<Response><Gather input=\"speech\" speechTimeout=\"1\" timeout=\"60\" action=\"/more\"/>\
                     <Redirect>/alive</Redirect></Response>"
            .to_owned(),
        "/alive" => "<Response><Hangup/></Response>".to_owned(),
        _ => String::new(),
    })
    .await;
    let (engine, log) = engine().await;
    let folder = TempDir::new_in(Program::TEMPORARY).unwrap();
    local_program(folder.path(), engine);
    let file = folder.path().join("tandem.toml");
    let speech = "[speech]\nstt = \"local\"\ntts = \"off\"\n";
    std::fs::write(&file, settings(folder.path(), &(speech.to_owned() + &asks("100", app.address)))).unwrap();
    let program = Program::start_beside(&file, folder.path()).await;
    program.says("tandem-speech listens on").await;
    let mut phone = Phone::new().await;
    phone.call(program.udp, "100").await;
    phone.audio.say(&tone(3_000));
    let heard = app.request("/heard").await;
    assert_eq!(heard.field("SpeechResult"), "4 7 1 9 2");
    let request = log.find("the session", |line| line.starts_with("/v1/listen")).await;
    assert!(request.contains("digits=true") && request.contains("Token "), "{request}");
    let pids = async || {
        let text = std::fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
        let pids: Vec<String> = text.lines().map(str::to_owned).collect();
        (!pids.is_empty()).then_some(pids)
    };
    let pid = wait_for(PATIENCE, "a child", pids).await.remove(0);
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    program.says("the local speech engine does not run: tandem-speech ended (signal: 9").await;
    let second = async || pids().await.filter(|pids| pids.len() == 2);
    wait_for(PATIENCE, "the second child", second).await;
    // The stand-in's address is the same, so the session of the second Gather continues and hears the caller.
    phone.audio.say(&tone(3_000));
    app.request("/more").await;
    phone.hangup().await;
    program.terminate();
    assert!(program.ended().await.success());
    let last = pids().await.unwrap().pop().unwrap();
    let gone = async || (!Path::new(&format!("/proc/{last}")).exists()).then_some(());
    wait_for(PATIENCE, "the end of the child", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_language_without_a_model_names_its_command_and_a_killed_server_leaves_no_engine() {
    let (engine, _log) = engine().await;
    let folder = TempDir::new_in(Program::TEMPORARY).unwrap();
    local_program(folder.path(), engine);
    let file = folder.path().join("tandem.toml");
    let number =
        inline("100", "<Response><Gather input=\"speech\" language=\"de-DE\" timeout=\"1\"/><Hangup/></Response>");
    let speech = "[speech]\nstt = \"local\"\ntts = \"off\"\n";
    std::fs::write(&file, settings(folder.path(), &(speech.to_owned() + &number))).unwrap();
    let program = Program::start_beside(&file, folder.path()).await;
    program.says("tandem-speech listens on").await;
    let mut phone = Phone::new().await;
    phone.call(program.udp, "100").await;
    phone.until(SipEvent::Bye).await;
    let found = error(program.api, "speech-not-installed").await;
    assert!(found["message"].as_str().unwrap().contains("`tandem speech install de`"), "{found}");
    let pid = std::fs::read_to_string(folder.path().join("pids")).unwrap().trim().to_owned();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    program.kill().await;
    let gone = async || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(());
    wait_for(PATIENCE, "the end of the child", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_engine_that_cannot_start_is_an_error_of_the_call_that_needs_it() {
    let folder = TempDir::new_in(Program::TEMPORARY).unwrap();
    let script = folder.path().join("tandem-speech");
    std::fs::write(&script, "#!/bin/sh\necho 'out of memory' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("tandem.toml");
    let number = inline("100", "<Response><Gather input=\"speech\" timeout=\"10\"/><Hangup/></Response>");
    let speech = "[speech]\nstt = \"local\"\ntts = \"off\"\n";
    std::fs::write(&file, settings(folder.path(), &(speech.to_owned() + &number))).unwrap();
    let program = Program::start_beside(&file, folder.path()).await;
    program.says("out of memory").await;
    let mut phone = Phone::new().await;
    phone.call(program.udp, "100").await;
    phone.until(SipEvent::Bye).await;
    let found = error(program.api, "local-speech-down").await;
    assert!(found["message"].as_str().unwrap().contains("does not run"), "{found}");
    program.terminate();
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn espeak_speaks_and_the_cause_is_known_if_the_program_of_the_voice_fails() {
    if !has_espeak() {
        return;
    }
    let server = TestServer::start(&format!(
        "[speech]\ntts = [\"sh\", \"-c\", \"echo 'no such voice' >&2; exit 2\"]\n{}",
        inline("100", "<Response><Say>This sentence is spoken in any case.</Say><Hangup/></Response>")
    ))
    .await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.audio.heard().find("speech", crate::audio::Packet::is_loud).await;
    phone.until(SipEvent::Bye).await;
    let found = error(server.api, "voice-replaced").await;
    assert!(found["message"].as_str().unwrap().contains("no such voice"), "{found}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_hears_speech_before_it_is_complete_and_an_interruption_cancels_the_rest() {
    let mut app = App::start(|request: &AppRequest| {
        let socket = format!("ws://{}/stream", request.headers["host"].to_str().unwrap());
        match request.path.as_str() {
            "/voice" => format!(
                "<Response><Connect><ConversationRelay url=\"{socket}\" dtmfDetection=\"true\" interruptible=\"any\"/>\
                 </Connect></Response>"
            ),
            _ => String::new(),
        }
    })
    .await;
    let (engine, log) = engine().await;
    let server = TestServer::start(&format!(
        "[webhooks]\nallow_networks = [\"127.0.0.0/8\"]\n\
         [speech]\ntts = \"ws://{engine}/v1/speak\"\ntts_key = \"a key of the tests\"\ntts_voice = \"aura-2-thalia-en\"\n{}",
        asks("100", app.address)
    ))
    .await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let stream = app.stream().await;
    let request = log.find("a connection", |line| line.starts_with("/v1/speak")).await;
    assert!(request.contains("model=aura-2-thalia-en") && request.contains("encoding=mulaw"), "{request}");
    assert!(request.ends_with("Token a key of the tests"), "{request}");
    stream.say(json!({ "type": "text", "token": "A long story about nothing at all.", "last": true }));
    // The engine never says that the text is complete.
    phone.audio.heard().find("the first audio", crate::audio::Packet::is_loud).await;
    phone.audio.press("7");
    log.find("the end of the text", |line| line.contains("Clear")).await;
    let interrupted = stream.frames.find("the interruption", |(_, frame)| frame["type"] == "interrupt").await;
    let heard = interrupted.1["utteranceUntilInterrupt"].as_str().unwrap().to_owned();
    assert!("A long story about nothing at all.".starts_with(&heard), "{heard}");
    stream.say(json!({ "type": "text", "token": "Another story.", "last": true }));
    log.find("the next text", |line| line.contains("Another story.")).await;
    assert_eq!(log.all().iter().filter(|line| line.starts_with("/v1/speak")).count(), 1, "one connection for the call");
    tokio::time::timeout(Duration::from_secs(20), phone.hangup()).await.unwrap();
    server.end().await;
}
