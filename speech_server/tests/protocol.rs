//! The API over loopback, with a recogniser and a voice that need no models.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tandem_speech_server::http::Server;
use tandem_speech_server::http::engines::{Energy, Engines, Speak, Speech};
use tandem_speech_server::recognise::{Options, Recognise, RecogniseError, Transcript, wav};
use tandem_speech_server::voice;
use tandem_test_support::wait_for_blocking;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

const KEY: &str = "a key for tests";

/// Answers with the length and the options of the audio. With the hint `wait`, only when nobody holds the lock.
#[derive(Default)]
struct StandIn {
    gate: Mutex<()>,
    /// Number of recognitions.
    count: AtomicUsize,
}

impl Recognise for StandIn {
    fn languages(&self) -> Vec<String> {
        vec!["en".to_owned()]
    }

    fn names(&self) -> Vec<String> {
        vec!["stand-in".to_owned()]
    }

    fn can(&self, language: Option<&str>) -> Result<(), RecogniseError> {
        match language {
            None | Some("en" | "en-US") => Ok(()),
            Some(other) => Err(RecogniseError::NoModel(other.to_owned())),
        }
    }

    fn recognise(&self, audio: &[f32], options: &Options) -> Result<Transcript, RecogniseError> {
        self.can(options.language.as_deref())?;
        self.count.fetch_add(1, Ordering::SeqCst);
        if options.hints == ["wait"] {
            drop(self.gate.lock().unwrap());
        }
        assert!(options.hints != ["panic"], "a test of a model that fails");
        let tenths = audio.len() / 1_600;
        let text =
            format!("{tenths} tenths, {} hints{}", options.hints.len(), if options.digits { ", digits" } else { "" });
        Ok(Transcript { text, confidence: 0.5, language: "en".to_owned(), no_speech: 0.1 })
    }
}

/// Says one piece of a hundred samples for each word. `endless` is a text without an end: when nobody takes its speech any more,
/// the value drops its sender.
#[derive(Default)]
struct Clicks(Mutex<Option<mpsc::Sender<()>>>);

impl Speak for Clicks {
    fn name(&self) -> String {
        "clicks".to_owned()
    }

    fn rate(&self) -> u32 {
        22_050
    }

    fn begin(self: Arc<Self>, text: &str, _options: &voice::Options) -> Result<Box<Speech>, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if words == ["endless"] {
            let sender = self.0.lock().unwrap().take();
            return Ok(Box::new(std::iter::repeat_with(move || {
                let _ = &sender;
                Ok::<_, String>(vec![1_i16; 10_000])
            })));
        }
        Ok(Box::new(words.into_iter().map(|word| match word.as_str() {
            "fail" => Err("the voice has failed".to_owned()),
            word => Ok(vec![word.len() as i16; 100]),
        })))
    }
}

/// A server with so many threads for the models, and its stand-ins.
fn server_with(threads: usize) -> (SocketAddr, Arc<StandIn>, Arc<Clicks>) {
    let (recogniser, voice) = (Arc::<StandIn>::default(), Arc::<Clicks>::default());
    let engines = Engines {
        recogniser: recogniser.clone(),
        voices: vec![voice.clone()],
        activity: Arc::new(Energy),
        turns: None,
    };
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), engines, threads, Some(KEY.to_owned())).unwrap();
    let address = server.address().unwrap();
    thread::spawn(move || server.run());
    (address, recogniser, voice)
}

fn server() -> SocketAddr {
    server_with(2).0
}

/// Sends octets and reads until the server closes the connection.
fn exchange(address: SocketAddr, request: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let at = response.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&response[..at]).into_owned();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), response[at + 4..].to_vec())
}

fn request(method: &str, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in fields {
        body.extend(format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--b--\r\n");
    body
}

fn transcribe(address: SocketAddr, fields: &[(&str, &[u8])]) -> (u16, Value) {
    let kind = "multipart/form-data; boundary=b";
    let (status, body) = exchange(address, &request("POST", "/v1/audio/transcriptions", kind, &form(fields)));
    (status, serde_json::from_slice(&body).unwrap())
}

#[test]
fn a_recording_becomes_words() {
    let address = server();
    let file = wav::write(8_000, &[0; 16_000]);
    let (status, body) = transcribe(address, &[("model", b"x"), ("file", &file), ("language", b"en-US")]);
    assert_eq!((status, body["text"].as_str()), (200, Some("20 tenths, 0 hints")));
    let fields: &[(&str, &[u8])] = &[
        ("file", &file),
        ("prompt", b"Tandem, bicycle shop"),
        ("digits", b"true"),
        ("response_format", b"verbose_json"),
    ];
    let (status, body) = transcribe(address, fields);
    assert_eq!((status, body["text"].as_str()), (200, Some("20 tenths, 2 hints, digits")));
    assert_eq!((body["language"].as_str(), body["duration"].as_f64()), (Some("en"), Some(2.0)));
    assert_eq!(body["segments"].as_array().unwrap().len(), 1);
}

#[test]
fn a_recording_longer_than_a_window_is_recognised_in_pieces() {
    let file = wav::write(8_000, &[0; 45 * 8_000]);
    let (status, body) = transcribe(server(), &[("file", &file), ("response_format", b"verbose_json")]);
    assert_eq!((status, body["segments"].as_array().unwrap().len()), (200, 2), "{body}");
}

#[test]
fn wrong_recordings_are_errors_in_openais_form() {
    let address = server();
    let file = wav::write(8_000, &[0; 8_000]);
    for (fields, status, words) in [
        (&[("file", b"hello".as_slice())][..], 400, "not WAV"),
        (&[("language", b"en")], 400, "no file"),
        (&[("file", &file), ("language", b"tlh")], 400, "tandem-speech install tlh"),
        (&[("file", &file), ("response_format", b"srt")], 400, "response_format"),
        (&[("file", &file), ("prompt", b"panic")], 500, "failed"),
    ] {
        let (found, body) = transcribe(address, fields);
        assert_eq!(found, status, "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(words), "{body}");
    }
    // A model that failed does not end the thread.
    assert_eq!(transcribe(address, &[("file", &file)]).0, 200);
}

#[test]
fn a_text_becomes_audio_in_chunks() {
    let address = server();
    let body = br#"{"model":"x","input":"one three","voice":"clicks","response_format":"pcm","sample_rate":8000}"#;
    let (status, audio) = exchange(address, &request("POST", "/v1/audio/speech", "application/json", body));
    assert_eq!(status, 200);
    // Two chunks of 200 octets and the end.
    assert!(audio.starts_with(b"c8\r\n\x03\x00") && audio.ends_with(b"0\r\n\r\n"), "{audio:?}");
    assert_eq!(audio.len(), 2 * (4 + 200 + 2) + 5);
    let (status, audio) = exchange(address, &request("POST", "/v1/audio/speech", "", br#"{"input":"one"}"#));
    assert_eq!((status, &audio[..8]), (200, b"2c\r\nRIFF".as_slice()));
}

#[test]
fn wrong_texts_are_errors() {
    let address = server();
    let long = format!(r#"{{"input":"{}"}}"#, "x".repeat(17_000));
    for (body, expected) in [
        ("{", 400),
        (r#"{"input":"a","voice":"nobody"}"#, 400),
        (r#"{"input":"a","response_format":"mp3"}"#, 400),
        (r#"{"input":"a","stream_format":"sse"}"#, 400),
        (r#"{"input":"a","sample_rate":4000}"#, 400),
        (r#"{"input":"a","speed":0}"#, 400),
        (r#"{"voice":"clicks"}"#, 400),
        (r#"{"input":"fail"}"#, 500),
        (&long, 413),
    ] {
        let (status, answer) = exchange(address, &request("POST", "/v1/audio/speech", "", body.as_bytes()));
        assert_eq!(status, expected, "{body}");
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
    }
}

/// Asks for the speech of a text and reads the begin of the answer.
fn begin_to_speak(address: SocketAddr, text: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let body = format!(r#"{{"input":"{text}"}}"#);
    stream.write_all(&request("POST", "/v1/audio/speech", "", body.as_bytes())).unwrap();
    let mut octets = [0; 12];
    stream.read_exact(&mut octets).unwrap();
    (stream, String::from_utf8_lossy(&octets).into_owned())
}

#[test]
fn a_text_whose_client_is_slow_keeps_no_thread_and_ends_when_the_client_leaves() {
    let (address, _, voice) = server_with(1);
    let (sender, ended) = mpsc::channel();
    *voice.0.lock().unwrap() = Some(sender);
    let (slow, status) = begin_to_speak(address, "endless");
    assert_eq!(status, "HTTP/1.1 200");
    // The only thread of the models also serves others.
    let file = wav::write(8_000, &[0; 16_000]);
    assert_eq!(transcribe(address, &[("file", &file)]).0, 200);
    assert_eq!(begin_to_speak(address, "one").1, "HTTP/1.1 200");
    assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
    drop(slow);
    assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn more_texts_at_a_time_than_64_are_refused() {
    let (address, ..) = server_with(1);
    let speaking: Vec<_> = (0..64).map(|_| begin_to_speak(address, "endless")).collect();
    assert!(speaking.iter().all(|(_, status)| status == "HTTP/1.1 200"));
    assert_eq!(begin_to_speak(address, "one").1, "HTTP/1.1 429");
}

#[test]
fn a_recording_whose_client_has_left_is_not_recognised_further() {
    let (address, recogniser, _) = server_with(1);
    let gate = recogniser.gate.lock().unwrap();
    let file = wav::write(8_000, &[0; 100 * 8_000]);
    let body = form(&[("file", &file), ("prompt", b"wait")]);
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(&request("POST", "/v1/audio/transcriptions", "multipart/form-data; boundary=b", &body)).unwrap();
    let is_begun = || (recogniser.count.load(Ordering::SeqCst) == 1).then_some(());
    wait_for_blocking(Duration::from_secs(20), Duration::from_millis(5), "the first window", is_begun);
    drop(client);
    drop(gate);
    let short = wav::write(8_000, &[0; 8_000]);
    assert_eq!(transcribe(address, &[("file", &short)]).0, 200);
    assert_eq!(recogniser.count.load(Ordering::SeqCst), 2);
}

#[test]
fn requests_need_the_key_and_come_from_no_web_page() {
    let address = server();
    let plain = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(address, plain).0, 401);
    let wrong = b"GET /health HTTP/1.1\r\nAuthorization: Bearer other\r\n\r\n";
    assert_eq!(exchange(address, wrong).0, 401);
    assert_eq!(exchange(address, &request("GET", "/health", "", b"")).0, 200);
    let page = format!("GET /health HTTP/1.1\r\nAuthorization: Token {KEY}\r\nOrigin: https://example.com\r\n\r\n");
    assert_eq!(exchange(address, page.as_bytes()).0, 403);
    let (status, body) = exchange(address, &request("GET", "/v1/models", "", b""));
    assert_eq!(status, 200);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((body["data"][0]["id"].as_str(), body["data"][1]["id"].as_str()), (Some("stand-in"), Some("clicks")));
    assert_eq!(exchange(address, &request("GET", "/other", "", b"")).0, 404);
    assert_eq!(exchange(address, &request("DELETE", "/v1/models", "", b"")).0, 405);
    assert_eq!(exchange(address, b"hello\r\n\r\n").0, 400);
}

#[test]
fn only_a_loopback_address_is_served() {
    let engines =
        Engines { recogniser: Arc::<StandIn>::default(), voices: Vec::new(), activity: Arc::new(Energy), turns: None };
    assert!(Server::bind(SocketAddr::from(([0, 0, 0, 0], 0)), engines, 1, None).is_err());
}

type Socket = WebSocket<TcpStream>;

fn listen(address: SocketAddr, query: &str) -> Socket {
    let mut request = format!("ws://{address}/v1/listen?{query}").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Token {KEY}").parse().unwrap());
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    tungstenite::client(request, stream).unwrap().0
}

/// Sends audio at 8 kHz: tone or silence.
fn send(socket: &mut Socket, milliseconds: usize, is_loud: bool) {
    for _ in 0..milliseconds / 20 {
        let frame: Vec<u8> = (0..160)
            .map(|n| {
                if is_loud && n % 4 < 2 {
                    0x10
                } else if is_loud {
                    0x90
                } else {
                    0xff
                }
            })
            .collect();
        socket.send(Message::binary(frame)).unwrap();
    }
}

fn receive(socket: &mut Socket) -> Value {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Close(_) => return Value::Null,
            _ => {}
        }
    }
}

/// The next result with final words.
fn receive_final(socket: &mut Socket) -> Value {
    loop {
        let message = receive(socket);
        if message["is_final"] != false {
            return message;
        }
    }
}

const QUERY: &str = "encoding=mulaw&sample_rate=8000&channels=1&interim_results=true&endpointing=300";

#[test]
fn the_words_of_an_utterance_come_at_the_pause() {
    let mut socket = listen(server(), QUERY);
    send(&mut socket, 500, false);
    send(&mut socket, 1_500, true);
    send(&mut socket, 500, false);
    let result = receive_final(&mut socket);
    assert_eq!(
        (result["type"].as_str(), result["is_final"].as_bool(), result["speech_final"].as_bool()),
        (Some("Results"), Some(true), Some(true))
    );
    let best = &result["channel"]["alternatives"][0];
    assert!(best["transcript"].as_str().unwrap().ends_with("tenths, 0 hints"), "{result}");
    assert_eq!((best["confidence"].as_f64(), best["languages"][0].as_str()), (Some(0.5), Some("en")));
    assert!(result["start"].as_f64().unwrap() < 0.5, "{result}");
    socket.send(Message::text(r#"{"type":"CloseStream"}"#)).unwrap();
    let metadata = receive(&mut socket);
    assert_eq!((metadata["type"].as_str(), metadata["channels"].as_i64()), (Some("Metadata"), Some(1)));
    assert_eq!(receive(&mut socket), Value::Null);
}

#[test]
fn words_before_the_end_are_not_final() {
    let mut socket = listen(server(), QUERY);
    send(&mut socket, 200, false);
    send(&mut socket, 2_000, true);
    let result = receive(&mut socket);
    assert_eq!(
        (result["is_final"].as_bool(), result["speech_final"].as_bool()),
        (Some(false), Some(false)),
        "{result}"
    );
}

#[test]
fn ten_calls_with_one_thread_all_get_words_before_the_end() {
    let (address, recogniser, _) = server_with(1);
    let gate = recogniser.gate.lock().unwrap();
    let mut sockets: Vec<Socket> = (0..10).map(|_| listen(address, &format!("{QUERY}&keyterm=wait"))).collect();
    for socket in &mut sockets {
        send(socket, 200, false);
        send(socket, 800, true);
        // The answer comes when the audio has been heard.
        socket.send(Message::Ping(Vec::new().into())).unwrap();
        while !matches!(socket.read().unwrap(), Message::Pong(_)) {}
    }
    drop(gate);
    for socket in &mut sockets {
        assert_eq!(receive(socket)["is_final"], false);
    }
}

#[test]
fn the_steps_between_words_before_the_end_grow_with_the_utterance() {
    let (address, recogniser, _) = server_with(1);
    let mut socket = listen(address, QUERY);
    send(&mut socket, 200, false);
    for _ in 0..135 {
        send(&mut socket, 200, true);
        // One after the other, so that no job is still running when the next one is due.
        socket.send(Message::Ping(Vec::new().into())).unwrap();
        while !matches!(socket.read().unwrap(), Message::Pong(_)) {}
    }
    let count = recogniser.count.load(Ordering::SeqCst);
    assert!((10..=20).contains(&count), "{count} recognitions in 27 s");
}

#[test]
fn samples_that_are_split_between_messages_are_joined() {
    let mut socket = listen(server(), "encoding=linear16&sample_rate=8000");
    let tone = |n: usize| if n % 4 < 2 { 8_000_i16 } else { -8_000 };
    let audio: Vec<u8> = (0..8_000).flat_map(|n| tone(n).to_le_bytes()).chain([0; 8_001]).collect();
    for piece in audio.chunks(33) {
        socket.send(Message::binary(piece.to_vec())).unwrap();
    }
    let result = receive_final(&mut socket);
    let duration = result["duration"].as_f64().unwrap();
    assert!((1.2..1.5).contains(&duration), "{result}");
}

#[test]
fn messages_that_are_not_understood_are_reported_and_have_no_effect() {
    let mut socket = listen(server(), QUERY);
    for (text, words) in [("{", "not JSON"), (r#"{"type":"Sing"}"#, "type"), ("[]", "type")] {
        socket.send(Message::text(text)).unwrap();
        let message = receive(&mut socket);
        assert_eq!(message["type"], "Error");
        assert!(message["description"].as_str().unwrap().contains(words), "{message}");
    }
    socket.send(Message::text(r#"{"type":"Finalize"}"#)).unwrap();
    assert_eq!(receive(&mut socket)["from_finalize"], true);
}

#[test]
fn the_end_of_a_connection_has_a_message_with_the_reason() {
    let mut socket = listen(server(), QUERY);
    socket.send(Message::binary(vec![0xff; 2 << 20])).unwrap();
    let close = loop {
        if let Message::Close(close) = socket.read().unwrap() {
            break close.unwrap();
        }
    };
    assert_eq!(u16::from(close.code), 1009);
    let mut socket = listen(server(), QUERY);
    socket.close(None).unwrap();
    assert!(matches!(socket.read(), Ok(Message::Close(_))));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
}

#[test]
fn finalize_gives_the_words_so_far_or_an_empty_result() {
    let mut socket = listen(server(), QUERY);
    socket.send(Message::text(r#"{"type":"Finalize"}"#)).unwrap();
    let result = receive_final(&mut socket);
    assert_eq!(
        (result["from_finalize"].as_bool(), result["channel"]["alternatives"][0]["transcript"].as_str()),
        (Some(true), Some(""))
    );
    send(&mut socket, 1_000, true);
    socket.send(Message::text(r#"{"type":"KeepAlive"}"#)).unwrap();
    socket.send(Message::text(r#"{"type":"Finalize"}"#)).unwrap();
    let result = receive_final(&mut socket);
    assert_eq!((result["from_finalize"].as_bool(), result["speech_final"].as_bool()), (Some(true), Some(true)));
    assert!(!result["channel"]["alternatives"][0]["transcript"].as_str().unwrap().is_empty());
}

#[test]
fn the_results_of_several_utterances_come_in_their_order_and_all_before_the_end() {
    let mut socket = listen(server(), QUERY);
    for length in [600, 1_200, 2_400, 900, 1_500, 600] {
        send(&mut socket, length, true);
        send(&mut socket, 600, false);
    }
    send(&mut socket, 800, true);
    socket.send(Message::text(r#"{"type":"CloseStream"}"#)).unwrap();
    let mut starts = Vec::new();
    loop {
        let message = receive_final(&mut socket);
        if message["type"] == "Metadata" {
            break;
        }
        starts.push(message["start"].as_f64().unwrap());
    }
    assert_eq!(starts.len(), 7, "{starts:?}");
    assert!(starts.is_sorted(), "{starts:?}");
}

#[test]
fn a_model_that_fails_gives_an_empty_result() {
    let mut socket = listen(server(), &format!("{QUERY}&keyterm=panic"));
    send(&mut socket, 1_000, true);
    socket.send(Message::text(r#"{"type":"CloseStream"}"#)).unwrap();
    let result = receive_final(&mut socket);
    assert_eq!(result["channel"]["alternatives"][0]["transcript"].as_str(), Some(""));
}

#[test]
fn parameters_that_are_not_known_are_refused_before_the_handshake() {
    let address = server();
    for query in ["encoding=opus", "language=tlh"] {
        let head = format!(
            "GET /v1/listen?{query} HTTP/1.1\r\nAuthorization: Token {KEY}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let (status, body) = exchange(address, head.as_bytes());
        assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
    }
    assert_eq!(exchange(address, &request("GET", "/v1/listen", "", b"")).0, 400);
}
