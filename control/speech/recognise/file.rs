//! Speech to text of whole files over HTTP. The interface is OpenAI's `/v1/audio/transcriptions` (the file is part of a
//! form) or Deepgram's `/v1/listen` (the file is the body).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use tandem_call::recognition::{RecognisedText, RecognitionSpec};
use tandem_http::{Client, Request, Timeouts};
use tandem_metrics::timings::{Timing, Timings};
use url::Url;

use super::super::SpeechConfig;
use super::live;

/// Maximum size of an answer, in octets.
const LARGEST: usize = 4 * 1024 * 1024;
/// The model in the form if the configuration does not name a model.
const MODEL: &str = "whisper-1";

/// An engine that accepts whole files.
pub(super) struct FileEngine {
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) protocol: Protocol,
    pub(super) config: Arc<SpeechConfig>,
    pub(super) timings: Arc<Timings>,
    /// Whether the engine is the program `tandem-speech`, which has fields of its own.
    pub(super) is_local: bool,
}

/// The format of the request to the engine.
#[derive(Clone, Copy)]
pub(super) enum Protocol {
    /// The request is a form. The file is one field of the form, and the parameters are the other fields.
    Form,
    /// The file is the body of the request. The query has the parameters.
    Body,
}

impl FileEngine {
    pub(super) async fn transcribe(
        &self,
        wav: Bytes,
        how: &RecognitionSpec,
        time: Duration,
    ) -> Result<RecognisedText, String> {
        let (url, content_type, body, scheme) = match self.protocol {
            Protocol::Form => {
                let boundary = format!("{:032x}", rand::random::<u128>());
                let body = form(&boundary, &wav, &self.fields(how));
                (self.url.clone(), format!("multipart/form-data; boundary={boundary}"), body, "Bearer")
            }
            Protocol::Body => {
                let url = live::with_parameters(self.url.clone(), &self.config, how);
                (url, "audio/wav".to_owned(), wav, "Token")
            }
        };
        let mut headers = vec![("Content-Type".to_owned(), content_type)];
        if let Some(key) = &self.config.stt_key {
            headers.push(("Authorization".to_owned(), format!("{scheme} {}", key.expose())));
        }
        let timeouts = Timeouts { connect: None, total: time };
        let request = Request { method: Method::POST, url: url.into(), headers, body, timeouts, max_body: LARGEST };
        let answer = self.client.send(&request).await.map_err(|error| error.to_string())?;
        self.timings.took(Timing::SpeechToText, answer.elapsed);
        if !(200..300).contains(&answer.status) {
            let why: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
            return Err(format!("the engine answered {}: {why}", answer.status));
        }
        let unreadable = |error: serde_json::Error| format!("the engine's answer: {error}");
        match self.protocol {
            Protocol::Form => serde_json::from_slice::<Transcription>(&answer.body).map(RecognisedText::from),
            Protocol::Body => serde_json::from_slice::<live::Prerecorded>(&answer.body).map(RecognisedText::from),
        }
        .map_err(unreadable)
    }

    fn fields(&self, how: &RecognitionSpec) -> Vec<(&'static str, String)> {
        let model = self.config.stt_model.as_deref().unwrap_or(MODEL);
        // The newer models support only the plain format. This format has no probabilities.
        let format = if model.starts_with("gpt-") { "json" } else { "verbose_json" };
        let mut fields = vec![("model", model.to_owned()), ("response_format", format.to_owned())];
        if let Some(language) = &how.language {
            let language = language.split(['-', '_']).next().unwrap_or_default();
            fields.push(("language", language.to_lowercase()));
        }
        if !how.hints.is_empty() {
            fields.push(("prompt", how.hints.join(", ")));
        }
        if self.is_local && how.digits {
            fields.push(("digits", "true".to_owned()));
        }
        fields
    }
}

/// The answer of an engine with the form interface. In the plain format, the answer contains only the text.
#[derive(Deserialize)]
struct Transcription {
    text: String,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    segments: Vec<Segment>,
}

#[derive(Deserialize)]
struct Segment {
    #[serde(default)]
    avg_logprob: Option<f32>,
}

impl From<Transcription> for RecognisedText {
    fn from(found: Transcription) -> Self {
        let known: Vec<f32> = found.segments.iter().filter_map(|segment| segment.avg_logprob).collect();
        let mean = known.iter().sum::<f32>() / known.len().max(1) as f32;
        RecognisedText {
            stable: found.text.trim().to_owned(),
            confidence: (!known.is_empty()).then(|| mean.exp().clamp(0.0, 1.0)),
            language: found.language,
            ..RecognisedText::default()
        }
    }
}

/// Builds a form (RFC 7578) with these fields and a WAV file.
fn form(boundary: &str, wav: &[u8], fields: &[(&str, String)]) -> Bytes {
    let mut body = Vec::with_capacity(wav.len() + 1_024);
    for (name, value) in fields {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(head.as_bytes());
    }
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"speech.wav\"\r\n\
         Content-Type: audio/wav\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(wav);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body.into()
}

/// Builds a WAV file from samples at 8,000 Hz.
pub(super) fn wav(samples: &[i16]) -> Vec<u8> {
    let octets = (samples.len() * 2) as u32;
    let mut wav = Vec::with_capacity(44 + samples.len() * 2);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(octets + 36).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&8_000_u32.to_le_bytes());
    wav.extend_from_slice(&16_000_u32.to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data");
    wav.extend_from_slice(&octets.to_le_bytes());
    samples.iter().for_each(|sample| wav.extend_from_slice(&sample.to_le_bytes()));
    wav
}
