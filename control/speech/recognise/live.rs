//! Live speech to text over a WebSocket, with the interface of Deepgram's `/v1/listen`. The engine receives audio as
//! binary messages and sends results as JSON.
//!
//! The words of a result may change until the engine marks the result as final. An utterance has one or more final
//! results. The engine also marks the last final result of an utterance.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tandem_call::recognition::{RecognisedText, RecognitionEvent, RecognitionSpec, joined};
use tandem_http::Client;
use tandem_http::websocket::{self, Connection};
use tandem_media::g711::Law;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use url::Url;

use super::super::{SpeechConfig, without_query};
use super::RecogniseError;
use super::frames::{FRAME, FrameReader};

/// Duration of the silence that ends an utterance, in ms.
const ENDPOINTING: &str = "300";
/// Time limit for the results that arrive after the end of the audio.
const FINAL_RESULTS_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for which the connection may accept no data. After this time, the connection is closed.
const STALLED: Duration = Duration::from_secs(10);

/// A session that has not connected yet.
pub(super) struct Live {
    client: Client,
    url: Url,
    key: Option<String>,
    partials: bool,
    at_pauses: bool,
    time: Duration,
}

impl Live {
    pub(super) fn new(client: Client, url: &Url, config: &SpeechConfig, how: &RecognitionSpec) -> Self {
        let mut url = with_parameters(url.clone(), config, how);
        // The engine uses its interim results to find the end of an utterance.
        for (name, value) in [
            ("encoding", "mulaw"),
            ("sample_rate", "8000"),
            ("channels", "1"),
            ("interim_results", "true"),
            ("endpointing", ENDPOINTING),
            ("utterance_end_ms", "1000"),
        ] {
            set(&mut url, name, value);
        }
        let key = config.stt_key.as_ref().map(|key| format!("Token {}", key.expose()));
        let time = Duration::from_secs(config.timeout_seconds.into());
        Self { client, url, key, partials: how.partials, at_pauses: how.at_pauses, time }
    }

    /// Runs until the audio has ended and all results are delivered.
    pub(super) async fn run(
        self,
        mut reader: FrameReader,
        results: &mpsc::Sender<Result<RecognitionEvent, RecogniseError>>,
    ) -> Result<(), String> {
        let headers = self.key.into_iter().map(|key| ("Authorization".to_owned(), key)).collect();
        let opened = timeout(self.time, websocket::connect(&self.client, self.url.as_str(), headers));
        let mut socket = tokio::select! {
            opened = opened => opened
                .map_err(|_| "the handshake timed out".to_owned())?
                .map_err(|why| without_query(why.detail, self.url.as_str()))?,
            () = results.closed() => return Ok(()),
        };
        let mut utterance = Utterance::default();
        let mut deadline = None;
        loop {
            let found = tokio::select! {
                frame = reader.frame(), if deadline.is_none() => match frame {
                    Some(frame) => {
                        let mut octets = [0; FRAME];
                        Law::Mu.encode(&frame.samples, &mut octets);
                        send(&mut socket, Message::binary(octets.to_vec())).await?;
                        if self.at_pauses && frame.edge == Some(RecognitionEvent::Paused) {
                            send(&mut socket, Message::text(r#"{"type":"Finalize"}"#)).await?;
                        }
                        frame.edge
                    }
                    None => {
                        send(&mut socket, Message::text(r#"{"type":"CloseStream"}"#)).await?;
                        deadline = Some(Instant::now() + FINAL_RESULTS_TIMEOUT);
                        None
                    }
                },
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => utterance.take(&text),
                    Some(Ok(Message::Close(_)) | Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) | None => {
                        let unsaid = utterance.end();
                        if let Some(unsaid) = unsaid {
                            // The application may have dropped the session.
                            let _ = results.send(Ok(unsaid)).await;
                        }
                        return if deadline.is_some() { Ok(()) } else { Err("the engine closed the connection".into()) };
                    }
                    Some(Ok(_)) => None,
                    Some(Err(error)) => return Err(error.to_string()),
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Err("the engine did not send its last results in time".to_owned());
                }
                () = results.closed() => return Ok(()),
            };
            let reported = found.filter(|found| self.partials || !matches!(found, RecognitionEvent::Partial(_)));
            if let Some(found) = reported
                && results.send(Ok(found)).await.is_err()
            {
                return Ok(());
            }
        }
    }
}

async fn send(socket: &mut Connection, message: Message) -> Result<(), String> {
    match timeout(STALLED, socket.send(message)).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("the engine's socket accepts no data".to_owned()),
    }
}

/// The results of one utterance.
#[derive(Default)]
struct Utterance {
    stable: String,
    /// The text of the last reported event, which the engine may withdraw.
    reported: String,
    /// The sum of the confidences of all final results, and the number of these results.
    confidence: (f32, u16),
    language: Option<String>,
    /// The last estimate of the engine whether the speaker has finished.
    end_of_turn: Option<f32>,
}

impl Utterance {
    fn take(&mut self, text: &str) -> Option<RecognitionEvent> {
        // Other messages of the engine contain no words.
        let message: LiveMessage = serde_json::from_str(text).ok()?;
        match message {
            LiveMessage::Results(results) => self.results(results),
            LiveMessage::UtteranceEnd {} => self.end(),
            LiveMessage::Other => None,
        }
    }

    fn results(&mut self, results: Results) -> Option<RecognitionEvent> {
        let best = results.channel.alternatives.into_iter().next().unwrap_or_default();
        self.language = best.languages.into_iter().next().or(self.language.take());
        self.end_of_turn = results.end_of_turn.map(|probability| probability.clamp(0.0, 1.0)).or(self.end_of_turn);
        let has_words = !best.transcript.is_empty();
        if !results.is_final {
            let words = RecognisedText {
                stable: self.stable.clone(),
                unstable: best.transcript,
                stability: Some(best.confidence),
                confidence: Some(best.confidence),
                language: self.language.clone(),
                end_of_turn: self.end_of_turn,
            };
            return self.partial(words, has_words);
        }
        if has_words {
            self.stable = joined(&self.stable, &best.transcript);
            self.confidence = (self.confidence.0 + best.confidence, self.confidence.1.saturating_add(1));
        }
        if results.from_finalize {
            // A result without words is reported too, because no other result will come before the pause.
            let end_of_turn = self.end_of_turn;
            let last = self.end().unwrap_or_else(|| {
                RecognitionEvent::Final(RecognisedText { end_of_turn, ..RecognisedText::default() })
            });
            self.reported.clear();
            return Some(last);
        }
        if results.speech_final {
            // A final result without words withdraws the words of the interim results.
            let withdraws = !self.reported.is_empty();
            return self.end().or_else(|| {
                self.reported.clear();
                withdraws.then(|| RecognitionEvent::Final(RecognisedText::default()))
            });
        }
        let words = self.words();
        self.partial(words, has_words)
    }

    /// Reports the words so far. A result without words is reported only if the engine withdraws words with it.
    fn partial(&mut self, words: RecognisedText, has_words: bool) -> Option<RecognitionEvent> {
        let text = words.text();
        let is_reported = has_words || text != self.reported;
        self.reported = text;
        is_reported.then_some(RecognitionEvent::Partial(words))
    }

    /// Ends the utterance. `None` if the utterance has no final words. Its other words then stay reported, because a
    /// final result may still withdraw them.
    fn end(&mut self) -> Option<RecognitionEvent> {
        let words = (!self.stable.is_empty()).then(|| self.words());
        let reported = std::mem::take(&mut self.reported);
        *self = Self::default();
        if words.is_none() {
            self.reported = reported;
        }
        words.map(RecognitionEvent::Final)
    }

    fn words(&self) -> RecognisedText {
        let (sum, count) = self.confidence;
        RecognisedText {
            stable: self.stable.clone(),
            unstable: String::new(),
            stability: Some(1.0),
            confidence: (count > 0).then(|| sum / f32::from(count)),
            language: self.language.clone(),
            end_of_turn: self.end_of_turn,
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum LiveMessage {
    Results(Results),
    UtteranceEnd {},
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    is_final: bool,
    #[serde(default)]
    speech_final: bool,
    /// Whether this result is the answer to a `Finalize` message.
    #[serde(default)]
    from_finalize: bool,
    /// Probability that the speaker has finished, 0 to 1. Only the program `tandem-speech` sends this member.
    #[serde(default)]
    end_of_turn: Option<f32>,
    channel: Channel,
}

#[derive(Deserialize)]
struct Channel {
    alternatives: Vec<Alternative>,
}

#[derive(Deserialize, Default)]
struct Alternative {
    #[serde(default)]
    transcript: String,
    #[serde(default)]
    confidence: f32,
    #[serde(default)]
    languages: Vec<String>,
}

/// The answer for a whole file.
#[derive(Deserialize)]
pub(super) struct Prerecorded {
    results: PrerecordedResults,
}

#[derive(Deserialize)]
struct PrerecordedResults {
    channels: Vec<Channel>,
}

impl From<Prerecorded> for RecognisedText {
    fn from(found: Prerecorded) -> Self {
        let best = found.results.channels.into_iter().flat_map(|channel| channel.alternatives).next();
        let best = best.unwrap_or_default();
        RecognisedText {
            stable: best.transcript,
            confidence: Some(best.confidence),
            language: best.languages.into_iter().next(),
            ..RecognisedText::default()
        }
    }
}

/// Returns the URL of the same engine for whole files.
pub(super) fn of_files(url: &Url) -> Url {
    let mut url = url.clone();
    let scheme = if url.scheme() == "wss" { "https" } else { "http" };
    // `set_scheme` cannot fail, because `ws` and `http` are special schemes.
    let _ = url.set_scheme(scheme);
    url
}

/// Adds the requested settings to the query of the URL. Parameters that the configured URL already has take precedence.
pub(super) fn with_parameters(mut url: Url, config: &SpeechConfig, how: &RecognitionSpec) -> Url {
    let model = how.model.as_deref().or(config.stt_model.as_deref());
    if let Some(model) = model {
        set(&mut url, "model", model);
    }
    if let Some(language) = &how.language {
        set(&mut url, "language", language);
    }
    set(&mut url, "punctuate", if how.punctuation { "true" } else { "false" });
    set(&mut url, "profanity_filter", if how.no_profanity { "true" } else { "false" });
    if how.digits {
        set(&mut url, "numerals", "true");
    }
    let newer = model.is_some_and(|model| model.starts_with("nova-3") || model.starts_with("flux"));
    for hint in &how.hints {
        url.query_pairs_mut().append_pair(if newer { "keyterm" } else { "keywords" }, hint);
    }
    url
}

fn set(url: &mut Url, name: &str, value: &str) {
    if !url.query_pairs().any(|(known, _)| known == name) {
        url.query_pairs_mut().append_pair(name, value);
    }
}
