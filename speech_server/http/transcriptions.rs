//! `POST /v1/audio/transcriptions`: the words of a WAV file.

use std::io;
use std::net::TcpStream;

use serde_json::json;

use super::jobs::Kind;
use super::message::Response;
use super::{MAX_HINT, MAX_HINTS, Refusal, Service, multipart};
use crate::recognise::{Options, Transcript, to_16_khz, wav, windows};

/// The longest recording, in s.
const LONGEST: u64 = 3_600;

#[derive(Debug, Default)]
struct Form<'a> {
    file: Option<&'a [u8]>,
    options: Options,
    format: String,
}

impl<'a> Form<'a> {
    fn read(kind: &str, body: &'a [u8]) -> Result<Self, String> {
        let mut form = Self { format: "json".to_owned(), ..Self::default() };
        for field in multipart::read(kind, body)? {
            let text = || String::from_utf8_lossy(field.content).trim().to_owned();
            match field.name.as_str() {
                "file" => form.file = Some(field.content),
                "language" => form.options.language = Some(text()).filter(|language| !language.is_empty()),
                "digits" => form.options.digits = text() == "true",
                "response_format" => form.format = text(),
                "prompt" => {
                    // The hints are words and groups of words between commas.
                    let hints = text();
                    let hints = hints.split([',', '\n']).map(str::trim).filter(|hint| !hint.is_empty());
                    form.options.hints =
                        hints.take(MAX_HINTS).map(|hint| hint.chars().take(MAX_HINT).collect()).collect();
                }
                // `model`, `temperature` and others have no effect.
                _ => {}
            }
        }
        if !matches!(form.format.as_str(), "json" | "text" | "verbose_json") {
            return Err(format!("response_format {:?} is not json, text or verbose_json", form.format));
        }
        Ok(form)
    }
}

/// Answers a request. The error says that the client has left.
pub(super) fn answer(service: &Service, kind: &str, body: Vec<u8>, client: &TcpStream) -> io::Result<Response> {
    let done = match read(service, kind, body) {
        Ok(recording) => recording.transcribe(service, client)?,
        Err(refusal) => Err(refusal),
    };
    Ok(done.unwrap_or_else(|(status, message)| Response::error(status, &message)))
}

/// A recording and the way to recognise it.
struct Recording {
    audio: wav::Audio,
    options: Options,
    format: String,
}

/// Reads a form. Its octets are not needed while the recording is recognised, so they are dropped here.
fn read(service: &Service, kind: &str, body: Vec<u8>) -> Result<Recording, Refusal> {
    let bad = |message: String| (400, message);
    let form = Form::read(kind, &body).map_err(bad)?;
    let file = form.file.ok_or_else(|| bad("the form has no file".to_owned()))?;
    service.engines.recogniser.can(form.options.language.as_deref()).map_err(|error| bad(error.to_string()))?;
    let file = wav::open(file).map_err(bad)?;
    let seconds = file.seconds();
    if seconds > LONGEST {
        return Err((413, format!("the recording has {seconds} s, more than {LONGEST} s")));
    }
    Ok(Recording { audio: file.decode(), options: form.options, format: form.format })
}

impl Recording {
    fn transcribe(self, service: &Service, client: &TcpStream) -> io::Result<Result<Response, Refusal>> {
        let Self { audio, mut options, format } = self;
        let rate = audio.rate;
        let seconds = |samples: usize| samples as f64 / f64::from(rate);
        let mut whole = Transcript::default();
        let mut parts = 0.0;
        let mut segments = Vec::new();
        let mut begin = 0;
        // Each window is a job of its own, so that a long recording does not keep a thread from calls.
        for window in windows(&audio.samples, rate as usize) {
            let (engines, job_options, samples) = (service.engines.clone(), options.clone(), window.to_vec());
            let job = move || engines.recogniser.recognise(&to_16_khz(&samples, rate), &job_options);
            let found = match service.compute(Kind::Slow, client, job) {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => return Ok(Err((400, error.to_string()))),
                Err(failed) => return Ok(Err(failed.refusal("the model")?)),
            };
            let end = begin + window.len();
            if !found.text.is_empty() {
                let logarithm = found.confidence.max(f32::MIN_POSITIVE).ln();
                segments.push(json!({"id": segments.len(), "start": seconds(begin), "end": seconds(end),
                    "text": found.text, "avg_logprob": logarithm, "no_speech_prob": found.no_speech}));
                options.language = options.language.or_else(|| Some(found.language.clone()));
            }
            begin = end;
            whole.add(found, &mut parts);
        }
        Ok(Ok(match format.as_str() {
            "text" => Response::text(whole.text + "\n"),
            "verbose_json" => Response::json(
                200,
                &json!({"task": "transcribe", "language": whole.language, "duration": seconds(audio.samples.len()),
                    "text": whole.text, "confidence": whole.confidence, "segments": segments}),
            ),
            _ => Response::json(200, &json!({"text": whole.text})),
        }))
    }
}
