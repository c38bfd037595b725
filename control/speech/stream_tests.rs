//! Tests of speech that is played while it is made, with engines on the loopback interface that speak the published
//! messages.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tandem_http::NetworkPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;

/// Time limit for an event that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Number of samples in a chunk of the engine.
const CHUNK: usize = 1_600;

/// A WebSocket engine. A text with the word `hang` gets one chunk and no end. A text with the word `break` gets one chunk,
/// and then the engine closes the connection. Any other text gets two chunks. After a text with the word `close`, the engine
/// closes the connection normally, without a message about the end of the text.
struct SocketEngine {
    url: String,
    /// Each message that the engine received.
    received: mpsc::UnboundedReceiver<Value>,
    connections: Arc<AtomicUsize>,
}

impl SocketEngine {
    async fn start(path: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}{path}", listener.local_addr().unwrap());
        let interface = SocketInterface::of(&url.parse().unwrap()).unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(socket, interface, sender.clone()));
            }
        });
        Self { url, received, connections }
    }

    fn config(&self) -> SpeechConfig {
        let url: url::Url = self.url.parse().unwrap();
        let interface = SocketInterface::of(&url).unwrap();
        SpeechConfig { tts: Tts::WebSocket(url, interface), tts_voice: "ana".into(), ..SpeechConfig::default() }
    }

    /// Waits for a message that has this text in it.
    async fn gets(&mut self, text: &str) -> Value {
        let found = async {
            loop {
                let message = self.received.recv().await.expect("the engine runs");
                if message.to_string().contains(text) {
                    return message;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no message with {text}"))
    }
}

async fn converse(
    mut socket: WebSocketStream<TcpStream>,
    interface: SocketInterface,
    received: mpsc::UnboundedSender<Value>,
) {
    use base64::Engine as _;
    let audio = base64::engine::general_purpose::STANDARD.encode([0x80; CHUNK]);
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        let _ = received.send(message.clone());
        let context = message["context_id"].clone();
        let (chunk, end) = match interface {
            SocketInterface::ElevenLabs | SocketInterface::ElevenLabsMulti => (
                json!({ "audio": audio, "isFinal": null, "contextId": context, "alignment": null }),
                json!({ "audio": null, "isFinal": true, "contextId": context }),
            ),
            SocketInterface::Cartesia => (
                json!({ "type": "chunk", "context_id": context, "data": audio, "done": false, "status_code": 206,
                    "step_time": 3.5 }),
                json!({ "type": "done", "context_id": context, "done": true, "status_code": 200 }),
            ),
            SocketInterface::Deepgram => (Value::Null, json!({ "type": "Flushed", "sequence_id": 0 })),
        };
        if message["type"] == "Clear" {
            let cleared = json!({ "type": "Cleared", "sequence_id": 0 });
            let _ = socket.send(Message::text(cleared.to_string())).await;
        }
        let words = [&message["transcript"], &message["text"]].into_iter().find_map(Value::as_str).unwrap_or_default();
        if words.trim().is_empty() {
            continue;
        }
        for index in 0..2 {
            let chunk = match interface {
                SocketInterface::Deepgram => Message::binary(vec![0x80; CHUNK]),
                _ => Message::text(chunk.to_string()),
            };
            let _ = socket.send(chunk).await;
            if index == 0 && words.contains("break") {
                let _ = socket.close(None).await;
                return;
            }
            if index == 0 && words.contains("hang") {
                break;
            }
        }
        if words.contains("close") {
            let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            let _ = socket.close(Some(normal)).await;
            return;
        }
        if !words.contains("hang") {
            let _ = socket.send(Message::text(end.to_string())).await;
        }
    }
}

fn client() -> Client {
    let policy = NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()] };
    Client::new(policy, Duration::from_secs(5)).unwrap()
}

fn speech(text: &str) -> Speech {
    Speech { text: text.to_owned(), ssml: false, voice: None, language: Some("en-US".to_owned()) }
}

fn voice(config: SpeechConfig, directory: &tempfile::TempDir) -> Arc<Voice> {
    Arc::new(Voice::new(config, directory.path().join("speech"), client(), Default::default()))
}

fn has_espeak() -> bool {
    let there = std::process::Command::new(PROGRAM).arg("--version").output().is_ok();
    if !there {
        tandem_test_support::skip(tandem_test_support::Needs::Package("espeak-ng"));
    }
    there
}

async fn part(stream: &mut SpeechStream) -> Option<SpokenPart> {
    let part = tokio::time::timeout(PATIENCE, stream.next()).await.expect("the next part");
    part.map(Result::unwrap)
}

/// Returns the number of samples of a whole speech.
async fn length(stream: &mut SpeechStream) -> usize {
    let mut length = 0;
    while let Some(part) = part(stream).await {
        let SpokenPart::Samples(samples) = part else { panic!("{part:?}") };
        length += samples.len();
    }
    length
}

const PATHS: [&str; 4] =
    ["/v1/text-to-speech/ana/stream-input", "/v1/text-to-speech/ana/multi-stream-input", "/tts/websocket", "/v1/speak"];

#[tokio::test]
async fn a_conversation_speaks_all_texts_over_one_connection_and_repeats_none() {
    for path in PATHS {
        let directory = tempfile::tempdir().unwrap();
        let mut engine = SocketEngine::start(path).await;
        let voice = voice(engine.config(), &directory);
        let (session, account) = (voice.session(), AccountName::new("acme"));
        for text in ["Hello.", "How are you?", "Hello."] {
            let mut stream = voice.stream(&session, &account, &speech(text));
            assert_eq!(length(&mut stream).await, 2 * CHUNK, "{path}: {text}");
        }
        engine.gets("How are you?").await;
        let (single, connections) = (path == PATHS[0], engine.connections.load(Ordering::SeqCst));
        assert_eq!(connections, if single { 2 } else { 1 }, "{path}: the third text comes from the cache");
    }
}

#[tokio::test]
async fn the_first_audio_comes_before_the_last_and_a_dropped_text_is_cancelled() {
    for (path, cancelled) in
        PATHS.into_iter().zip(["", "\"close_context\":true", "\"cancel\":true", "\"type\":\"Clear\""])
    {
        let directory = tempfile::tempdir().unwrap();
        let mut engine = SocketEngine::start(path).await;
        let voice = voice(engine.config(), &directory);
        let (session, account) = (voice.session(), AccountName::new("acme"));
        let mut stream = voice.stream(&session, &account, &speech("Please hang on."));
        assert!(
            matches!(part(&mut stream).await, Some(SpokenPart::Samples(samples)) if samples.len() == CHUNK),
            "{path}"
        );
        drop(stream);
        engine.gets(cancelled).await;
        let mut next = voice.stream(&session, &account, &speech("Go on."));
        assert_eq!(length(&mut next).await, 2 * CHUNK, "{path}: without audio of the cancelled text");
    }
}

#[tokio::test]
async fn espeak_speaks_the_rest_of_a_text_that_breaks_off() {
    if !has_espeak() {
        return;
    }
    for path in PATHS {
        let directory = tempfile::tempdir().unwrap();
        let engine = SocketEngine::start(path).await;
        let voice = voice(engine.config(), &directory);
        let (session, account) = (voice.session(), AccountName::new("acme"));
        let text = "We break this off, and nobody must miss the number: four seven one.";
        let mut stream = voice.stream(&session, &account, &speech(text));
        assert!(matches!(part(&mut stream).await, Some(SpokenPart::Samples(samples)) if samples.len() == CHUNK));
        let Some(SpokenPart::InsteadOf(why)) = part(&mut stream).await else { panic!("{path}") };
        assert!(why.contains(ESPEAK_SPEAKS) && why.contains("closed the connection"), "{path}: {why}");
        let rest = length(&mut stream).await;
        assert!(rest > 16_000, "{path}: {rest} samples");
        // The engine rests for 10 s, without a further report.
        let mut next = voice.stream(&session, &account, &speech("Something else."));
        assert!(length(&mut next).await > 2 * CHUNK);
    }
}

#[tokio::test]
async fn a_text_outside_of_conversations_is_spoken_by_a_websocket_engine_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = SocketEngine::start("/tts/websocket").await;
    let config = SpeechConfig { tts_model: "sonic-2".into(), ..engine.config() };
    let voice = voice(config, &directory);
    let markup = Speech { ssml: true, ..speech("<speak>One.<break time=\"1s\"/>Two.</speak>") };
    assert_eq!(voice.speak(&markup).await.unwrap().len(), 4 * CHUNK + 8_000);
    let request = engine.gets("Two.").await;
    assert_eq!(request["model_id"], "sonic-2");
    assert_eq!(request["voice"], json!({ "mode": "id", "id": "ana" }));
}

#[tokio::test]
async fn a_text_that_waits_for_another_text_of_its_line_is_not_late() {
    let directory = tempfile::tempdir().unwrap();
    let mut socket = SocketEngine::start("/tts/websocket").await;
    let voice = voice(socket.config(), &directory);
    let (engine, account) = (voice.engine.load_full(), AccountName::new("acme"));
    let Some(Engine::Other(other, _)) = Option::as_ref(&engine) else { panic!() };
    let line = other.line(false);
    let voicing = other.voicing(&speech(""));
    let (sender, mut parts) = mpsc::unbounded_channel();
    let mut reader = |samples| sender.send(samples).unwrap();
    let first = other.in_chunks(line.as_ref(), &account, &voicing, "Please hang on.", (PATIENCE, Some(&mut reader)));
    let mut first = Box::pin(first);
    tokio::select! {
        _ = &mut first => panic!("the first text has no end"),
        _ = socket.gets("hang") => {}
    }
    // The second text may not wait at all, as soon as it is its turn.
    let second = other.in_chunks(line.as_ref(), &account, &voicing, "Go on.", (Duration::ZERO, None));
    tokio::pin!(second);
    tokio::select! {
        biased;
        _ = &mut second => panic!("its turn has not come"),
        _ = &mut first => panic!("the first text has no end"),
        part = parts.recv() => assert!(part.is_some()),
    }
    drop(first);
    assert!(matches!(second.await, Err(broken) if matches!(broken.why, SpeechError::Timeout(_))));
}

#[tokio::test]
async fn callers_who_need_a_text_at_the_same_time_hear_the_same_audio_and_the_last_one_cancels_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = SocketEngine::start("/tts/websocket").await;
    let voice = voice(engine.config(), &directory);
    let (one, other, account) = (voice.session(), voice.session(), AccountName::new("acme"));
    let text = speech("Please hang on.");
    let mut first = voice.stream(&one, &account, &text);
    assert!(part(&mut first).await.is_some());
    let mut second = voice.stream(&other, &account, &text);
    assert!(part(&mut second).await.is_some(), "the second caller hears the text from its beginning");
    drop(first);
    // The first conversation goes on, and the second one still listens to the first text.
    let mut next = voice.stream(&other, &account, &speech("Go on."));
    assert_eq!(length(&mut next).await, 2 * CHUNK);
    drop(second);
    let mut texts = Vec::new();
    loop {
        let message = engine.gets("context_id").await;
        if message["cancel"] == true {
            break;
        }
        texts.push(message["transcript"].clone());
    }
    assert_eq!(texts, ["Please hang on.", "Go on."]);
    assert_eq!(engine.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_engine_that_closes_the_connection_of_one_text_has_spoken_the_whole_text() {
    let directory = tempfile::tempdir().unwrap();
    let engine = SocketEngine::start(PATHS[0]).await;
    let voice = voice(engine.config(), &directory);
    let (session, account) = (voice.session(), AccountName::new("acme"));
    let mut stream = voice.stream(&session, &account, &speech("We close at nine."));
    assert_eq!(length(&mut stream).await, 2 * CHUNK);
}

#[tokio::test]
async fn a_key_in_the_url_of_an_engine_is_in_no_message() {
    use tandem_http::testing::{Answer, WebServer};
    if !has_espeak() {
        return;
    }
    let server = WebServer::start(|_| Answer::status(401)).await;
    let directory = tempfile::tempdir().unwrap();
    let url: url::Url = server.url("/tts/websocket?api_key=s3cret").replace("http", "ws").parse().unwrap();
    let config = SpeechConfig { tts: Tts::WebSocket(url, SocketInterface::Cartesia), ..SpeechConfig::default() };
    let spoken = voice(config, &directory).say(&AccountName::new("acme"), &speech("Hello.")).await.unwrap();
    let why = spoken.instead_of.unwrap();
    assert!(why.contains("401") && !why.contains("s3cret"), "{why}");
}

#[tokio::test]
async fn an_engine_that_refuses_one_text_speaks_the_next_text() {
    use tandem_http::testing::{Answer, WebServer};
    if !has_espeak() {
        return;
    }
    let server = WebServer::start(|request| match request.body.contains("Wrong") {
        true => Answer::status(400),
        false => Answer::status(500),
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let url = server.url("/v1/audio/speech").parse().unwrap();
    let voice = voice(SpeechConfig { tts: Tts::Http(url), ..SpeechConfig::default() }, &directory);
    let (session, account) = (voice.session(), AccountName::new("acme"));
    for (text, rests) in [("Wrong.", false), ("Hello.", true)] {
        let mut stream = voice.stream(&session, &account, &speech(text));
        assert!(matches!(part(&mut stream).await, Some(SpokenPart::InsteadOf(_))), "{text}");
        while part(&mut stream).await.is_some() {}
        assert_eq!(voice.retry_at.lock().is_some(), rests, "{text}");
    }
}

/// An HTTP engine that sends the first part of a WAV file, and the second part after a signal.
async fn http_engine(first: Vec<u8>, second: Vec<u8>) -> (url::Url, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/audio/speech", listener.local_addr().unwrap()).parse().unwrap();
    let (go_on, signal) = oneshot::channel();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4_096];
        let _ = tcp.read(&mut request).await.unwrap();
        tcp.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: audio/wav\r\n\r\n")
            .await
            .unwrap();
        for part in [first, second].into_iter().zip([Some(signal), None]) {
            tcp.write_all(format!("{:x}\r\n", part.0.len()).as_bytes()).await.unwrap();
            tcp.write_all(&part.0).await.unwrap();
            tcp.write_all(b"\r\n").await.unwrap();
            if let Some(signal) = part.1 {
                signal.await.unwrap();
            }
        }
        tcp.write_all(b"0\r\n\r\n").await.unwrap();
    });
    (url, go_on)
}

/// The head of a WAV file at 8,000 Hz with samples of 16 bits, without its length.
const HEAD: &[u8] =
    b"RIFF\xFF\xFF\xFF\xFFWAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\xFF\xFF\xFF\xFF";

#[tokio::test]
async fn a_chunked_answer_of_an_http_engine_is_played_while_it_arrives() {
    let directory = tempfile::tempdir().unwrap();
    let first = [HEAD, &[1; 3_200]].concat();
    let (url, go_on) = http_engine(first, vec![1; 1_600]).await;
    let voice = voice(SpeechConfig { tts: Tts::Http(url), ..SpeechConfig::default() }, &directory);
    let session = voice.session();
    let mut stream = voice.stream(&session, &AccountName::new("acme"), &speech("Hello."));
    let mut heard = 0;
    while heard < 1_600 {
        let Some(SpokenPart::Samples(samples)) = part(&mut stream).await else { panic!("the first part") };
        heard += samples.len();
    }
    go_on.send(()).unwrap();
    assert_eq!(heard + length(&mut stream).await, 2_400);
    let mut again = voice.stream(&session, &AccountName::new("acme"), &speech("Hello."));
    assert_eq!(length(&mut again).await, 2_400, "the cache has the whole text");
}

/// Settings with a program that writes the text that it reads to a file, and then copies a WAV file.
fn program(directory: &tempfile::TempDir, script: &str) -> SpeechConfig {
    let wav = directory.path().join("voice.wav");
    std::fs::write(&wav, [HEAD, &[1; 3_200]].concat()).unwrap();
    let said = directory.path().join("said");
    let words = ["sh", "-c", script, wav.to_str().unwrap(), said.to_str().unwrap(), "{voice}/{language}"];
    let words: Vec<Box<str>> = words.into_iter().map(Into::into).collect();
    let voices = [("man".to_owned(), "joe".to_owned())].into();
    SpeechConfig { tts: Tts::Command(words.into()), tts_voices: voices, ..SpeechConfig::default() }
}

#[tokio::test]
async fn a_program_gets_the_text_and_the_voice_and_speaks() {
    let directory = tempfile::tempdir().unwrap();
    let config = program(&directory, r#"cat > "$1"; echo "$2" >> "$1"; cat "$0""#);
    let voice = voice(config, &directory);
    let polite = Speech { voice: Some("Polly.Matthew".to_owned()), ..speech("$(reboot) -h") };
    assert_eq!(voice.speak(&polite).await.unwrap().len(), 1_600);
    let said = std::fs::read_to_string(directory.path().join("said")).unwrap();
    assert_eq!(said, "$(reboot) -h\njoe/en-US\n");
    let session = voice.session();
    let mut stream = voice.stream(&session, &AccountName::new("acme"), &speech("In a conversation."));
    assert_eq!(length(&mut stream).await, 1_600);
}

#[tokio::test]
async fn espeak_replaces_a_program_that_fails() {
    if !has_espeak() {
        return;
    }
    for (script, reason) in [
        ("cat > /dev/null; echo 'no such model' >&2; exit 3", "exit status: 3 no such model"),
        ("cat > /dev/null; echo hello", "the audio is not a WAV file"),
        ("cat > /dev/null", "the audio is not a WAV file"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let voice = voice(program(&directory, script), &directory);
        let spoken = voice.say(&AccountName::new("acme"), &speech("Hello there.")).await.unwrap();
        let why = spoken.instead_of.unwrap();
        assert!(why.contains(reason) && why.contains(ESPEAK_SPEAKS), "{script}: {why}");
        assert!(spoken.samples.len() > 4_000);
    }
    let directory = tempfile::tempdir().unwrap();
    let words: Vec<Box<str>> = vec!["/nowhere/piper".into()];
    let config = SpeechConfig { tts: Tts::Command(words.into()), ..SpeechConfig::default() };
    let spoken = voice(config, &directory).say(&AccountName::new("acme"), &speech("Hello.")).await.unwrap();
    assert!(spoken.instead_of.unwrap().contains("/nowhere/piper"));
}

/// The length of the samples in the header.
const LENGTH: &[u8] = &[0x80, 0x0C, 0, 0];

#[tokio::test]
async fn the_audio_of_a_program_is_complete_although_the_program_still_runs() {
    for script in
        ["cat > /dev/null; cat \"$0\"; exec sleep 1000", "cat > /dev/null; cat \"$0\"; sleep 1000 >&- & exit 0"]
    {
        let directory = tempfile::tempdir().unwrap();
        let config = program(&directory, script);
        let wav = [&HEAD[..HEAD.len() - 4], LENGTH, &[1; 3_200]].concat();
        std::fs::write(directory.path().join("voice.wav"), wav).unwrap();
        let spoken = voice(config, &directory).say(&AccountName::new("acme"), &speech("Hello.")).await.unwrap();
        assert_eq!((spoken.samples.len(), spoken.instead_of), (1_600, None), "{script}");
    }
}

#[tokio::test]
async fn a_program_without_an_end_fails_with_the_reason() {
    if !has_espeak() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let voice = voice(program(&directory, r#"cat > /dev/null; exec cat "$0" /dev/zero"#), &directory);
    let spoken = voice.say(&AccountName::new("acme"), &speech("Hello.")).await.unwrap();
    let why = spoken.instead_of.unwrap();
    assert!(why.contains("the audio of the text is too long"), "{why}");
}

#[tokio::test]
async fn the_programs_that_a_program_has_started_end_with_the_text() {
    let directory = tempfile::tempdir().unwrap();
    let voice = voice(program(&directory, r#"sleep 1000 & echo $! > "$1"; wait"#), &directory);
    let session = voice.session();
    let stream = voice.stream(&session, &AccountName::new("acme"), &speech("Hello."));
    let said = directory.path().join("said");
    let pid = async || std::fs::read_to_string(&said).ok().filter(|pid| pid.ends_with('\n'));
    let pid = tandem_test_support::wait_for(PATIENCE, "the second program", pid).await;
    drop(stream);
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let is_over = async || {
        state().rsplit(')').next().is_none_or(|state| state.trim().is_empty() || state.trim().starts_with('Z'))
    };
    tandem_test_support::wait_until(PATIENCE, "the end of the second program", is_over).await;
}
