//! `POST /v1/audio/transcriptions`: the words of a WAV file.

use std::sync::mpsc;

use serde_json::json;

use super::message::Response;
use super::{MAX_HINT, MAX_HINTS, Service, multipart};
use crate::recognise::mel::RATE;
use crate::recognise::{Options, Transcript, to_16_khz, wav, windows};

/// The longest recording, in s.
const LONGEST: usize = 3_600;

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

/// Answers a request.
pub(super) fn answer(service: &Service, kind: &str, body: &[u8]) -> Response {
    transcribe(service, kind, body).unwrap_or_else(|(status, message)| Response::error(status, &message))
}

fn transcribe(service: &Service, kind: &str, body: &[u8]) -> Result<Response, (u16, String)> {
    let bad = |message: String| (400, message);
    let form = Form::read(kind, body).map_err(bad)?;
    let file = form.file.ok_or_else(|| bad("the form has no file".to_owned()))?;
    let audio = wav::read(file).map_err(bad)?;
    let seconds = audio.samples.len() / audio.rate.max(1) as usize;
    if seconds > LONGEST {
        return Err((413, format!("the recording has {seconds} s, more than {LONGEST} s")));
    }
    let samples = to_16_khz(&audio.samples, audio.rate);
    let duration = samples.len() as f64 / RATE as f64;
    let mut whole = Transcript::default();
    let mut parts = 0.0;
    let mut segments = Vec::new();
    let mut begin = 0.0;
    let mut options = form.options;
    // Each window is a job of its own, so that a long recording does not keep a thread from calls.
    for window in windows(&samples) {
        let (sender, result) = mpsc::channel();
        let (engines, job_options, audio) = (service.engines.clone(), options.clone(), window.to_vec());
        let job = move || {
            // The connection waits for this.
            let _ = sender.send(engines.recogniser.recognise(&audio, &job_options));
        };
        service.jobs.add(job).map_err(|_| (429, "too many recordings and texts wait".to_owned()))?;
        let found = result.recv().map_err(|_| (500, "the model has failed".to_owned()))?;
        let found = found.map_err(|error| (400, error.to_string()))?;
        let end = begin + window.len() as f64 / RATE as f64;
        if !found.text.is_empty() {
            let id = segments.len();
            let logarithm = found.confidence.max(f32::MIN_POSITIVE).ln();
            segments.push(json!({"id": id, "start": begin, "end": end, "text": found.text,
                "avg_logprob": logarithm, "no_speech_prob": found.no_speech}));
            options.language = options.language.or_else(|| Some(found.language.clone()));
        }
        begin = end;
        whole.add(found, &mut parts);
    }
    Ok(match form.format.as_str() {
        "text" => Response::text(whole.text + "\n"),
        "verbose_json" => Response::json(
            200,
            &json!({"task": "transcribe", "language": whole.language, "duration": duration, "text": whole.text,
                "confidence": whole.confidence, "segments": segments}),
        ),
        _ => Response::json(200, &json!({"text": whole.text})),
    })
}
