//! `POST /v1/audio/speech`: a text as audio. The body of the response comes in chunks, as the sentences are made.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::Service;
use super::engines::Speak;
use super::message::{self, Response};
use crate::recognise::wav;
use crate::voice::{LONGEST_TEXT, Options};

/// The rate of `pcm` in OpenAI's API, in Hz.
const PCM_RATE: u32 = 24_000;
/// Maximum number of sentences that wait for a slow client.
const MAX_WAITING: usize = 16;
/// A client that reads nothing for this time gets no more audio, so that it does not keep a thread of the models.
const STALLED: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Body {
    input: String,
    #[serde(default)]
    voice: String,
    #[serde(default)]
    response_format: Option<String>,
    #[serde(default)]
    speed: Option<f32>,
    /// Our own member: the sampling rate in Hz.
    #[serde(default)]
    sample_rate: Option<u32>,
}

/// Answers a request. Returns whether the connection can be used again.
pub(super) fn answer(service: &Service, body: &[u8], writer: &mut impl Write, keeps: bool) -> io::Result<bool> {
    match begin(service, body) {
        Ok((rate, is_wav, pieces)) => write(rate, is_wav, &pieces, writer, keeps),
        Err((status, message)) => {
            Response::error(status, &message).write(writer, keeps)?;
            Ok(keeps)
        }
    }
}

type Pieces = mpsc::Receiver<Result<Vec<i16>, String>>;

fn begin(service: &Service, body: &[u8]) -> Result<(u32, bool, Pieces), (u16, String)> {
    let body: Body = serde_json::from_slice(body).map_err(|error| (400, format!("the body is wrong: {error}")))?;
    if body.input.len() > LONGEST_TEXT {
        return Err((413, format!("the text has {} bytes, more than {LONGEST_TEXT}", body.input.len())));
    }
    let is_wav = match body.response_format.as_deref() {
        None | Some("wav") => true,
        Some("pcm") => false,
        Some(other) => return Err((400, format!("response_format {other:?} is not wav or pcm"))),
    };
    let Some(voice) = service.engines.voice(&body.voice) else {
        if service.engines.voices.is_empty() {
            return Err((400, "no voice is installed; `tandem-speech install` fetches one".to_owned()));
        }
        let names: Vec<String> = service.engines.voices.iter().map(|voice| voice.name()).collect();
        return Err((400, format!("there is no voice {:?}, but {}", body.voice, names.join(", "))));
    };
    let asked = body.sample_rate.map(|rate| rate.clamp(8_000, 48_000));
    let rate = asked.unwrap_or(if is_wav { voice.rate() } else { PCM_RATE });
    let options = Options { rate: Some(rate), speed: body.speed.unwrap_or(1.0), ..Options::default() };
    let (sender, pieces) = mpsc::sync_channel(MAX_WAITING);
    let voice: Arc<dyn Speak> = Arc::clone(voice);
    let job = move || {
        let mut is_whole = true;
        let done = voice.speak(&body.input, &options, &mut |samples| {
            let flow = push(&sender, Ok(samples.to_vec()));
            is_whole &= flow.is_continue();
            flow
        });
        match done {
            // An empty piece is the end. Without it, the audio is not complete.
            Ok(()) if is_whole => drop(push(&sender, Ok(Vec::new()))),
            Ok(()) => {}
            Err(error) => drop(push(&sender, Err(error))),
        }
    };
    // A text of a call is urgent: the caller hears silence until it is spoken.
    service.jobs.urgent(job).map_err(|_| (429, "too many texts wait".to_owned()))?;
    Ok((rate, is_wav, pieces))
}

/// Gives a piece to the connection. Waits for a slow client for at most [`STALLED`].
fn push(sender: &mpsc::SyncSender<Result<Vec<i16>, String>>, mut piece: Result<Vec<i16>, String>) -> ControlFlow<()> {
    const STEP: Duration = Duration::from_millis(5);
    for _ in 0..STALLED.as_millis() / STEP.as_millis() {
        piece = match sender.try_send(piece) {
            Ok(()) => return ControlFlow::Continue(()),
            Err(mpsc::TrySendError::Full(piece)) => piece,
            Err(mpsc::TrySendError::Disconnected(_)) => return ControlFlow::Break(()),
        };
        thread::sleep(STEP);
    }
    ControlFlow::Break(())
}

fn write(rate: u32, is_wav: bool, pieces: &Pieces, writer: &mut impl Write, keeps: bool) -> io::Result<bool> {
    let first = pieces.recv().unwrap_or_else(|_| Err("the voice has failed".to_owned()));
    let first = match first {
        Ok(first) => first,
        Err(error) => {
            Response::error(500, &error).write(writer, keeps)?;
            return Ok(keeps);
        }
    };
    message::begin_chunks(writer, if is_wav { "audio/wav" } else { "audio/pcm" }, rate)?;
    if is_wav {
        // The length is not known yet.
        message::chunk(writer, &wav::header(rate, u32::MAX - 36))?;
    }
    let octets = |samples: Vec<i16>| samples.into_iter().flat_map(i16::to_le_bytes).collect::<Vec<u8>>();
    // A text without words is silence, not an error.
    let mut piece = first;
    while !piece.is_empty() {
        message::chunk(writer, &octets(piece))?;
        piece = match pieces.recv() {
            Ok(Ok(samples)) => samples,
            // Without the end of the chunks, the client sees that the audio is not complete.
            Ok(Err(_)) | Err(_) => return Ok(false),
        };
    }
    message::end_chunks(writer)?;
    Ok(keeps)
}
