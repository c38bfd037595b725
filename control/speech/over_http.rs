//! Text to speech over HTTP. The interface is OpenAI's `/v1/audio/speech`, which many servers have. The request is
//! JSON, and the answer is a WAV file.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::json;
use tandem_http::{Client, Request, Timeouts};
use tandem_settings::Secret;
use tokio::sync::mpsc;

use super::SpeechError;
use super::wav::WavStream;

/// The usual rate of the audio, in octets per second: 24,000 Hz with 16 bits and one channel.
const RATE: usize = 48_000;
/// Maximum length of the reason in an answer with an error, in octets.
const LONGEST_REASON: usize = 4_096;

/// Maximum audio for a text, in octets.
fn largest_audio(text: &str) -> usize {
    super::longest_speech(text) * RATE
}

pub(super) struct HttpVoice {
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) key: Option<Secret>,
    pub(super) model: Arc<str>,
    /// Time limit for an answer.
    pub(super) time: Duration,
}

impl HttpVoice {
    /// Returns the part of the cache key that identifies the engine, the model and the voice.
    pub(super) fn identity(&self, voice: &str) -> String {
        format!("{} {} {voice}", self.url, self.model)
    }

    /// Returns the speech for a plain text as samples at 8,000 Hz.
    pub(super) async fn speak(&self, voice: &str, text: &str) -> Result<Arc<[i16]>, SpeechError> {
        let answer = self.client.send(&self.request(voice, text)).await;
        let answer = answer.map_err(|error| SpeechError::Failed(error.to_string()))?;
        if !(200..300).contains(&answer.status) {
            return Err(refused(answer.status, &answer.body));
        }
        super::samples(answer.body).await
    }

    /// Does the same as [`Self::speak`], but gives the samples to `chunks` while the engine sends them.
    pub(super) async fn speak_in_chunks(
        &self,
        voice: &str,
        text: &str,
        chunks: &mpsc::Sender<Vec<i16>>,
    ) -> Result<(), SpeechError> {
        let failed = |error: &dyn std::fmt::Display| SpeechError::Failed(error.to_string());
        let mut answer = self.client.open(&self.request(voice, text)).await.map_err(|error| failed(&error))?;
        if !(200..300).contains(&answer.status()) {
            let mut reason = Vec::new();
            let reading = async {
                while let Ok(Some(piece)) = answer.piece().await
                    && reason.len() < LONGEST_REASON
                {
                    reason.extend_from_slice(&piece);
                }
            };
            // The status alone is a reason too.
            let _ = tokio::time::timeout(self.time, reading).await;
            return Err(refused(answer.status(), &reason));
        }
        let mut wav = WavStream::default();
        let mut left = super::longest_audio(text);
        loop {
            let piece = answer.piece().await.map_err(|error| failed(&error))?;
            let samples = match &piece {
                Some(octets) => wav.push(octets),
                None => wav.finish(),
            };
            let samples = samples.map_err(|why| failed(&why))?;
            left = left.checked_sub(samples.len()).ok_or_else(|| failed(&"the audio of the text is too long"))?;
            if !samples.is_empty() && chunks.send(samples).await.is_err() {
                return Ok(());
            }
            if piece.is_none() {
                return Ok(());
            }
        }
    }

    fn request(&self, voice: &str, text: &str) -> Request {
        let body = json!({
            "model": &*self.model,
            "input": text,
            "voice": voice,
            "response_format": "wav",
        });
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        if let Some(key) = &self.key {
            headers.push(("Authorization".to_owned(), format!("Bearer {}", key.expose())));
        }
        Request {
            method: Method::POST,
            url: self.url.clone(),
            headers,
            body: body.to_string().into(),
            timeouts: Timeouts { connect: None, total: self.time },
            max_body: largest_audio(text),
        }
    }
}

fn refused(status: u16, body: &[u8]) -> SpeechError {
    let why: String = String::from_utf8_lossy(body).chars().take(200).collect();
    let why = format!("the engine answered {status}: {why}");
    match status {
        // The text is wrong for the engine, or the engine has too much work.
        400 | 413 | 422 | 429 => SpeechError::Refused(why),
        _ => SpeechError::Failed(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_synthesised_audio_depends_on_the_length_of_the_text() {
        assert_eq!(largest_audio("Hello."), 21 * RATE);
        assert_eq!(largest_audio(&"a".repeat(400)), 120 * RATE);
        assert_eq!(largest_audio(&"a".repeat(16 * 1024)), 10 * 60 * RATE);
    }
}
