//! `POST /v1/audio/speech`: a text as audio. The body of the response comes in pieces, as the sentences are made.
//!
//! Each sentence is a job of its own, and the next one begins when the client has taken the last one. So a long text or a slow client
//! keeps no thread of the models from other calls, and the work stops when the client leaves.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use serde::Deserialize;

use super::engines::{Speak, Speech};
use super::jobs::Kind;
use super::message::{Pieces, Request, Response};
use super::{Guard, MAX_TEXTS, Refusal, Service};
use crate::recognise::wav;
use crate::voice::{LONGEST_TEXT, Options};

/// The rate of `pcm` in OpenAI's API, in Hz.
const PCM_RATE: u32 = 24_000;

#[derive(Deserialize)]
struct Body {
    input: String,
    #[serde(default)]
    voice: Option<String>,
    #[serde(default)]
    response_format: Option<String>,
    #[serde(default)]
    stream_format: Option<String>,
    #[serde(default)]
    speed: Option<f32>,
    /// Our own member: the sampling rate in Hz.
    #[serde(default)]
    sample_rate: Option<u32>,
}

/// A text and the way to speak it.
struct Text {
    input: String,
    voice: Arc<dyn Speak>,
    options: Options,
    rate: u32,
    is_wav: bool,
}

/// The speech of a text, before its first sentence and after it.
enum State {
    Asked(Text),
    Begun(Box<Speech>),
}

/// Answers a request. Returns whether the connection can be used again.
pub(super) fn answer(
    service: &Arc<Service>,
    body: &[u8],
    request: &Request,
    client: &mut TcpStream,
) -> io::Result<bool> {
    let refuse = |(status, message): Refusal, client: &mut TcpStream| {
        Response::error(status, &message).write(client, request.keeps)?;
        Ok(request.keeps)
    };
    let Some(_place) = Guard::take(service, |service| &service.texts, 1, MAX_TEXTS) else {
        return refuse((429, "too many texts are in work".to_owned()), client);
    };
    let text = match Text::read(service, body) {
        Ok(text) => text,
        Err(refusal) => return refuse(refusal, client),
    };
    let (rate, is_wav) = (text.rate, text.is_wav);
    let mut found = match next(service, State::Asked(text), client)? {
        Ok(found) => found,
        Err(refusal) => return refuse(refusal, client),
    };
    let mut pieces = Pieces::begin(client, request, if is_wav { "audio/wav" } else { "audio/pcm" }, rate)?;
    if is_wav {
        // The length is not known yet.
        pieces.write(&wav::header(rate, u32::MAX - 36))?;
    }
    // A text without words is silence, not an error.
    while let Some((samples, speech)) = found {
        pieces.write(&samples.into_iter().flat_map(i16::to_le_bytes).collect::<Vec<u8>>())?;
        found = match next(service, State::Begun(speech), pieces.writer())? {
            Ok(found) => found,
            // Without the end of the body, the client sees that the audio is not complete.
            Err((_, message)) => {
                super::complain(&format!("a text is not spoken to its end: {message}"));
                return Ok(false);
            }
        };
    }
    pieces.end()?;
    Ok(request.keeps)
}

impl Text {
    fn read(service: &Service, body: &[u8]) -> Result<Self, Refusal> {
        let bad = |message: String| (400, message);
        let body: Body = serde_json::from_slice(body).map_err(|error| bad(format!("the body is wrong: {error}")))?;
        if body.input.len() > LONGEST_TEXT {
            return Err((413, format!("the text has {} bytes, more than {LONGEST_TEXT}", body.input.len())));
        }
        let is_wav = match body.response_format.as_deref() {
            None | Some("wav") => true,
            Some("pcm") => false,
            Some(other) => return Err(bad(format!("response_format {other:?} is not wav or pcm"))),
        };
        if let Some(other) = body.stream_format.filter(|format| format != "audio") {
            return Err(bad(format!("stream_format {other:?} is not audio")));
        }
        let speed = body.speed.unwrap_or(1.0);
        if !(0.25..=4.0).contains(&speed) {
            return Err(bad(format!("speed {speed} is not between 0.25 and 4.0")));
        }
        if let Some(rate) = body.sample_rate.filter(|rate| !(8_000..=48_000).contains(rate)) {
            return Err(bad(format!("sample_rate {rate} is not between 8000 and 48000")));
        }
        let name = body.voice.unwrap_or_default();
        let Some(voice) = service.engines.voice(&name) else {
            if service.engines.voices.is_empty() {
                return Err(bad("no voice is installed; `tandem-speech install` fetches one".to_owned()));
            }
            let names: Vec<String> = service.engines.voices.iter().map(|voice| voice.name()).collect();
            return Err(bad(format!("there is no voice {name:?}, but {}", names.join(", "))));
        };
        let rate = body.sample_rate.unwrap_or(if is_wav { voice.rate() } else { PCM_RATE });
        let options = Options { rate: Some(rate), speed, ..Options::default() };
        Ok(Self { input: body.input, voice: Arc::clone(voice), options, rate, is_wav })
    }
}

/// The samples of the next sentence, and the rest of the speech. `None` at the end.
type Next = Option<(Vec<i16>, Box<Speech>)>;

/// Makes the next sentence on a thread of the models.
fn next(service: &Service, state: State, client: &TcpStream) -> io::Result<Result<Next, Refusal>> {
    // The caller hears silence until the sentence is there, so it is urgent.
    Ok(match service.compute(Kind::Urgent, client, move || make(state)) {
        Ok(found) => found.map_err(|message| (500, message)),
        Err(failed) => Err(failed.refusal("the voice")?),
    })
}

fn make(state: State) -> Result<Next, String> {
    let mut speech = match state {
        State::Asked(text) => text.voice.begin(&text.input, &text.options)?,
        State::Begun(speech) => speech,
    };
    speech.next().map(|samples| Ok((samples?, speech))).transpose()
}
