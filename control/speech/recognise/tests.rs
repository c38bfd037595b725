//! Tests of sessions with engines on the loopback interface. The tests check the data that the engines receive, and the
//! results of the sessions.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_call::program::instruction::Speech;
use tandem_http::NetworkPolicy;
use tandem_http::testing::{Answer, WebServer};
use tandem_settings::Secret;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::*;
use crate::Voice;

fn client() -> Client {
    let policy = NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()] };
    Client::new(policy, Duration::from_secs(5)).unwrap()
}

fn recogniser(stt: Stt) -> Recogniser {
    let config = SpeechConfig { stt, stt_key: Some(Secret::new("s3cret")), ..SpeechConfig::default() };
    Recogniser::new(config, client(), Default::default())
}

/// Returns two sentences. One second of silence follows each sentence. `None` if espeak-ng is not installed.
async fn two_sentences() -> Option<Vec<i16>> {
    let directory = tempfile::tempdir().unwrap();
    let voice = Voice::new(SpeechConfig::default(), directory.path(), client(), Default::default());
    let mut audio = vec![0; 4_000];
    for text in ["I would like to check the balance of my account.", "And then please connect me to an agent."] {
        let speech = Speech { text: text.to_owned(), ssml: false, voice: None, language: None };
        let Ok(samples) = voice.speak(&speech).await else {
            tandem_test_support::skip(tandem_test_support::Needs::Package("espeak-ng"));
            return None;
        };
        audio.extend_from_slice(&samples);
        audio.extend([0; 8_000]);
    }
    Some(audio)
}

async fn everything(session: &mut RecognitionSession) -> Vec<Result<RecognitionEvent, RecogniseError>> {
    let mut all = Vec::new();
    let gather = async {
        while let Some(events) = session.next().await {
            all.push(events);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gather).await.expect("the session ends");
    all
}

fn final_text(text: &str) -> RecognitionEvent {
    RecognitionEvent::Final(RecognisedText { stable: text.to_owned(), confidence: None, ..RecognisedText::default() })
}

#[tokio::test]
async fn utterances_are_split_at_pauses_and_recognised_one_by_one() {
    let Some(audio) = two_sentences().await else { return };
    let mut server = WebServer::start(|request| {
        let confident = "{\"text\":\" balance\",\"language\":\"english\",\"segments\":[{\"avg_logprob\":-0.5}]}";
        let first = !request.body.is_empty() && request.header("authorization") == Some("Bearer s3cret");
        if first { Answer::body(confident) } else { Answer::status(401) }
    })
    .await;
    let recogniser = recogniser(Stt::Http(server.url("/v1/audio/transcriptions").parse().unwrap()));
    let how = RecognitionSpec {
        language: Some("en-US".into()),
        hints: vec!["balance".into(), "agent".into()],
        ..RecognitionSpec::default()
    };
    let mut session = recogniser.listen(&how).unwrap();
    session.push(&audio);
    session.finish();
    let events: Vec<RecognitionEvent> = everything(&mut session).await.into_iter().map(Result::unwrap).collect();
    let edges = events.iter().filter(|event| matches!(event, RecognitionEvent::Began)).count();
    let finals: Vec<&RecognisedText> =
        events.iter().filter_map(|h| if let RecognitionEvent::Final(words) = h { Some(words) } else { None }).collect();
    assert!(matches!(events.first(), Some(RecognitionEvent::Began)), "{events:?}");
    assert_eq!((edges >= 2, finals.len()), (true, 2), "{events:?}");
    assert_eq!(finals[0].stable, "balance");
    assert!((finals[0].confidence.unwrap() - (-0.5_f32).exp()).abs() < 0.001);
    for request in [server.next().await, server.next().await] {
        for field in
            ["name=\"model\"\r\n\r\nwhisper-1", "name=\"language\"\r\n\r\nen\r\n", "\r\n\r\nbalance, agent\r\n", "RIFF"]
        {
            assert!(request.body.contains(field), "{field}");
        }
    }
    assert!(server.rest().is_empty(), "silence is not asked about");
}

#[tokio::test]
async fn a_failed_engine_ends_its_recognition_session() {
    let Some(audio) = two_sentences().await else { return };
    let server = WebServer::start(|_| Answer::status(503)).await;
    let recogniser = recogniser(Stt::Http(server.url("/").parse().unwrap()));
    let mut session = recogniser.listen(&RecognitionSpec::default()).unwrap();
    session.push(&audio);
    let events = everything(&mut session).await;
    assert!(matches!(events.last(), Some(Err(RecogniseError::Failed(why))) if why.contains("503")), "{events:?}");
    let off = Recogniser::new(SpeechConfig::default(), client(), Default::default());
    assert!(off.is_off());
    assert_eq!(off.listen(&RecognitionSpec::default()).err(), Some(RecogniseError::Off));
}

/// Starts an engine over a WebSocket. The engine sends `lines` when the first audio arrives. It sends `last` after the
/// end of the audio.
async fn live_engine(
    lines: &'static [&'static str],
    last: &'static str,
) -> (SocketAddr, tokio::task::JoinHandle<(String, usize)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        use futures_util::{SinkExt, StreamExt};
        use tokio_tungstenite::tungstenite::Message;
        let (tcp, _) = listener.accept().await.unwrap();
        let request = Arc::new(std::sync::Mutex::new(String::new()));
        let note = Arc::clone(&request);
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let look = move |request: &Request, response: Response| {
            let key = request.headers().get("authorization").and_then(|key| key.to_str().ok()).unwrap_or_default();
            *note.lock().unwrap() = format!("{} {key}", request.uri());
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(tcp, look).await.unwrap();
        let mut octets = 0;
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Binary(audio) => {
                    if octets == 0 {
                        for line in lines {
                            socket.send(Message::text(*line)).await.unwrap();
                        }
                    }
                    octets += audio.len();
                }
                Message::Text(text) if text.contains("CloseStream") => {
                    socket.send(Message::text(last)).await.unwrap();
                    socket.close(None).await.unwrap();
                }
                _ => {}
            }
        }
        let request = request.lock().unwrap().clone();
        (request, octets)
    });
    (address, task)
}

#[tokio::test]
async fn live_results_become_partial_and_final_transcripts() {
    const LINES: &[&str] = &[
        r#"{"type":"Metadata","request_id":"x"}"#,
        r#"{"type":"Results","is_final":false,"speech_final":false,"channel":{"alternatives":[{"transcript":"I want","confidence":0.5}]}}"#,
        r#"{"type":"Results","is_final":true,"speech_final":false,"channel":{"alternatives":[{"transcript":"I want to","confidence":0.9}]}}"#,
        r#"{"type":"Results","is_final":false,"speech_final":false,"channel":{"alternatives":[{"transcript":"pay","confidence":0.6}]}}"#,
        "no JSON at all",
        r#"{"type":"Results","is_final":true,"speech_final":true,"channel":{"alternatives":[{"transcript":"pay my bill.","confidence":0.7}]}}"#,
        r#"{"type":"UtteranceEnd","last_word_end":2.5}"#,
    ];
    let last = r#"{"type":"Results","is_final":true,"speech_final":false,"channel":{"alternatives":[{"transcript":"bye","confidence":1.0}]}}"#;
    let (address, engine) = live_engine(LINES, last).await;
    let recogniser = recogniser(Stt::WebSocket(format!("ws://{address}/v1/listen?tier=x").parse().unwrap()));
    let how = RecognitionSpec {
        language: Some("en-GB".into()),
        hints: vec!["bill".into()],
        model: Some("nova-2".into()),
        partials: true,
        no_profanity: true,
        punctuation: true,
        at_pauses: false,
        digits: true,
    };
    let mut session = recogniser.listen(&how).unwrap();
    session.push(&[0; 16_000]);
    session.finish();
    let events: Vec<RecognitionEvent> = everything(&mut session).await.into_iter().map(Result::unwrap).collect();
    let words = |event: &RecognitionEvent| match event {
        RecognitionEvent::Partial(words) => format!("{}|{}", words.stable, words.unstable),
        RecognitionEvent::Final(words) => format!("{}.", words.text()),
        edge => format!("{edge:?}"),
    };
    let texts: Vec<String> = events.iter().map(words).collect();
    assert_eq!(texts, ["|I want", "I want to|", "I want to|pay", "I want to pay my bill..", "bye|", "bye."]);
    let RecognitionEvent::Final(last) = &events[3] else { panic!() };
    assert!((last.confidence.unwrap() - 0.8).abs() < 0.001);
    let (request, octets) = engine.await.unwrap();
    for part in [
        "/v1/listen?tier=x&model=nova-2&language=en-GB",
        "encoding=mulaw",
        "profanity_filter=true",
        "keywords=bill",
        "numerals=true",
        "Token s3cret",
    ] {
        assert!(request.contains(part), "{part}: {request}");
    }
    assert_eq!(octets, 16_000);
}

#[tokio::test]
async fn a_partial_transcript_that_the_engine_retracts_is_withdrawn() {
    const LINES: &[&str] = &[
        // A final result without words ends the utterance.
        r#"{"type":"Results","is_final":false,"channel":{"alternatives":[{"transcript":"ghost","confidence":0.5}]}}"#,
        r#"{"type":"Results","is_final":true,"speech_final":true,"channel":{"alternatives":[{"transcript":"","confidence":0.0}]}}"#,
        r#"{"type":"Results","is_final":true,"speech_final":true,"channel":{"alternatives":[{"transcript":""}]}}"#,
        // An interim result, or a final result within the utterance.
        r#"{"type":"Results","is_final":false,"channel":{"alternatives":[{"transcript":"one"}]}}"#,
        r#"{"type":"Results","is_final":false,"channel":{"alternatives":[{"transcript":""}]}}"#,
        r#"{"type":"Results","is_final":false,"channel":{"alternatives":[{"transcript":"two"}]}}"#,
        r#"{"type":"Results","is_final":true,"channel":{"alternatives":[]}}"#,
        r#"{"type":"Results","is_final":true,"channel":{"alternatives":[{"transcript":""}]}}"#,
        // The words that are final stay.
        r#"{"type":"Results","is_final":true,"channel":{"alternatives":[{"transcript":"three"}]}}"#,
        r#"{"type":"Results","is_final":false,"channel":{"alternatives":[{"transcript":"four"}]}}"#,
        r#"{"type":"Results","is_final":true,"channel":{"alternatives":[{"transcript":""}]}}"#,
        r#"{"type":"Results","is_final":true,"speech_final":true,"channel":{"alternatives":[{"transcript":""}]}}"#,
        // The end of the utterance comes before the final result.
        r#"{"type":"Results","is_final":false,"channel":{"alternatives":[{"transcript":"five"}]}}"#,
        r#"{"type":"UtteranceEnd","last_word_end":2.5}"#,
    ];
    let last =
        r#"{"type":"Results","is_final":true,"speech_final":true,"channel":{"alternatives":[{"transcript":""}]}}"#;
    let (address, _engine) = live_engine(LINES, last).await;
    let recogniser = recogniser(Stt::WebSocket(format!("ws://{address}/").parse().unwrap()));
    let how = RecognitionSpec { partials: true, ..RecognitionSpec::default() };
    let mut session = recogniser.listen(&how).unwrap();
    session.push(&[0; 1_600]);
    session.finish();
    let words = |event: Result<RecognitionEvent, RecogniseError>| match event.unwrap() {
        RecognitionEvent::Partial(words) => words.text(),
        RecognitionEvent::Final(words) => format!("{}.", words.text()),
        edge => format!("{edge:?}"),
    };
    let texts: Vec<String> = everything(&mut session).await.into_iter().map(words).collect();
    assert_eq!(texts, ["ghost", ".", "one", "", "two", "", "three", "three four", "three", "three.", "five", "."],);
}

#[tokio::test]
async fn partial_transcripts_need_a_request() {
    const LINES: &[&str] =
        &[r#"{"type":"Results","is_final":false,"channel":{"alternatives":[{"transcript":"one","confidence":0.5}]}}"#];
    let last = r#"{"type":"Results","is_final":true,"speech_final":true,"channel":{"alternatives":[{"transcript":"one two","confidence":1.0}]}}"#;
    let (address, _engine) = live_engine(LINES, last).await;
    let recogniser = recogniser(Stt::WebSocket(format!("ws://{address}/").parse().unwrap()));
    let mut session = recogniser.listen(&RecognitionSpec::default()).unwrap();
    session.push(&[0; 1_600]);
    session.finish();
    let events = everything(&mut session).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(matches!(&events[0], Ok(RecognitionEvent::Final(words)) if words.stable == "one two"));
}

#[tokio::test]
async fn a_file_is_transcribed_by_both_kinds_of_engines() {
    let wav = Bytes::from(file::wav(&[0; 800]));
    let mut form = WebServer::start(|_| Answer::body("{\"text\":\"from a form\"}")).await;
    let by_form = recogniser(Stt::Http(form.url("/v1/audio/transcriptions").parse().unwrap()));
    let how = RecognitionSpec::default();
    let words = by_form.transcribe(wav.clone(), &how).await.unwrap();
    assert_eq!(RecognitionEvent::Final(words), final_text("from a form"));
    assert!(form.next().await.header("content-type").unwrap().starts_with("multipart/form-data; boundary="));
    let body = r#"{"results":{"channels":[{"alternatives":[{"transcript":"as a body","confidence":0.9}]}]}}"#;
    let mut server = WebServer::start(move |_| Answer::body(body)).await;
    let by_body = recogniser(Stt::WebSocket(server.url("/v1/listen").replace("http", "ws").parse().unwrap()));
    let words = by_body.transcribe(wav, &how).await.unwrap();
    assert_eq!((words.stable.as_str(), words.confidence), ("as a body", Some(0.9)));
    let request = server.next().await;
    assert_eq!(
        (request.header("content-type"), request.header("authorization")),
        (Some("audio/wav"), Some("Token s3cret"))
    );
    assert!(request.body.starts_with("RIFF"));
}

#[tokio::test]
async fn the_probability_that_the_speaker_has_finished_comes_with_the_final_words() {
    const LINES: &[&str] = &[
        r#"{"type":"Results","is_final":false,"channel":{"alternatives":[{"transcript":"my number is"}]}}"#,
        r#"{"type":"Results","is_final":true,"from_finalize":true,"end_of_turn":0.25,"channel":{"alternatives":[{"transcript":"my number is"}]}}"#,
        r#"{"type":"Results","is_final":true,"from_finalize":true,"end_of_turn":1.5,"channel":{"alternatives":[{"transcript":""}]}}"#,
    ];
    let last =
        r#"{"type":"Results","is_final":true,"speech_final":true,"channel":{"alternatives":[{"transcript":"bye"}]}}"#;
    let (address, _engine) = live_engine(LINES, last).await;
    let recogniser = recogniser(Stt::WebSocket(format!("ws://{address}/v1/listen").parse().unwrap()));
    let mut session = recogniser.listen(&RecognitionSpec::default()).unwrap();
    session.push(&[0; 16_000]);
    session.finish();
    let finals: Vec<_> = everything(&mut session)
        .await
        .into_iter()
        .filter_map(|event| match event {
            Ok(RecognitionEvent::Final(words)) => Some((words.text(), words.end_of_turn)),
            _ => None,
        })
        .collect();
    let expected = [("my number is", Some(0.25)), ("", Some(1.0)), ("bye", None)];
    assert_eq!(finals, expected.map(|(text, end)| (text.to_owned(), end)));
}
