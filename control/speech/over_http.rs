//! Text to speech over HTTP. The interface is OpenAI's `/v1/audio/speech`, which many servers have. The request is
//! JSON, and the answer is a WAV file.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::json;
use tandem_call::program::instruction::Speech;
use tandem_http::{Client, Request, Timeouts};
use url::Url;

use super::{SpeechConfig, SpeechError, voices};

/// The usual rate of the audio, in octets per second: 24,000 Hz with 16 bits and one channel.
const RATE: usize = 48_000;
/// Maximum length of the speech for any text, in seconds.
const LONGEST_SPEECH: usize = 10 * 60;
/// Time that an engine may need for a text besides the words: pauses, and the header of the file. In seconds.
const PAUSES: usize = 20;
/// Number of octets of text that a slow voice speaks in a second. A usual voice speaks 15 letters in a second.
const SLOW: usize = 4;

/// Maximum audio for a text, in octets. The audio of a short text is short, so an engine that sends more is broken, and
/// its answers must not fill the memory.
fn largest_audio(text: &str) -> usize {
    (PAUSES + text.len() / SLOW).min(LONGEST_SPEECH) * RATE
}

pub(super) struct HttpVoice {
    client: Client,
    url: Url,
    config: SpeechConfig,
}

impl HttpVoice {
    pub(super) fn new(client: Client, url: Url, config: SpeechConfig) -> Self {
        Self { client, url, config }
    }

    /// Returns the engine's voice for a text. The voice name, the language or the gender selects the voice. If none of
    /// these matches, the result is the default voice.
    pub(super) fn voice(&self, speech: &Speech) -> String {
        let table = &self.config.tts_voices;
        let named =
            |name: &str| table.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, voice)| voice);
        let by_name = speech.voice.as_deref().and_then(named);
        let by_language = || {
            let language = speech.language.as_deref()?;
            named(language).or_else(|| named(language.split(['-', '_']).next()?))
        };
        let by_gender = || named(voices::gender(speech.voice.as_deref()?));
        by_name.or_else(by_language).or_else(by_gender).map_or_else(|| self.config.tts_voice.to_string(), String::clone)
    }

    /// Returns the part of the cache key that identifies the engine, the model and the voice.
    pub(super) fn identity(&self, voice: &str) -> String {
        format!("{} {} {voice}", self.url, self.config.tts_model)
    }

    /// Returns the speech for a plain text as samples at 8,000 Hz.
    pub(super) async fn speak(&self, voice: &str, text: &str) -> Result<Arc<[i16]>, SpeechError> {
        let body = json!({
            "model": &*self.config.tts_model,
            "input": text,
            "voice": voice,
            "response_format": "wav",
        });
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        if let Some(key) = &self.config.tts_key {
            headers.push(("Authorization".to_owned(), format!("Bearer {}", key.expose())));
        }
        let request = Request {
            method: Method::POST,
            url: self.url.to_string(),
            headers,
            body: body.to_string().into(),
            timeouts: Timeouts { connect: None, total: Duration::from_secs(self.config.timeout_seconds.into()) },
            max_body: largest_audio(text),
        };
        let answer = self.client.send(&request).await.map_err(|error| SpeechError::Failed(error.to_string()))?;
        if !(200..300).contains(&answer.status) {
            let why = String::from_utf8_lossy(&answer.body);
            let why: String = why.chars().take(200).collect();
            return Err(SpeechError::Failed(format!("the engine answered {}: {why}", answer.status)));
        }
        super::samples(answer.body).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_synthesised_audio_depends_on_the_length_of_the_text() {
        assert_eq!(largest_audio("Hello."), 21 * RATE);
        assert_eq!(largest_audio(&"a".repeat(400)), 120 * RATE);
        assert_eq!(largest_audio(&"a".repeat(16 * 1024)), LONGEST_SPEECH * RATE);
    }
}
