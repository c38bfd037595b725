//! What the SDK requests besides the WebSocket: its sounds, and a place for its reports (Insights).

use std::f32::consts::TAU;
use std::io::Cursor;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hound::{SampleFormat, WavSpec, WavWriter};
use tandem_media::dtmf_frequencies;

/// Sampling rate of the sounds, in Hz.
const RATE: u32 = 8_000;

/// `POST /v4/EndpointEvents` and `/v4/EndpointMetrics`: the SDK's reports about a call. They are not stored: the quality of
/// each leg is measured by this server.
pub(super) async fn insights(headers: HeaderMap, _: Bytes) -> Response {
    let mut response = StatusCode::OK.into_response();
    allow(&headers, response.headers_mut());
    response
}

/// `GET /js/client/sounds/releases/1.0.0/NAME.mp3`: a sound of the SDK. Without the sound `incoming`, the SDK reports each
/// call 2 s later. The browser finds the format in the octets, whatever the name says.
pub(super) async fn sound(Path((_, file)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let name = file.split('.').next().unwrap_or_default();
    let Some((tones, millis)) = tones(name) else { return StatusCode::NOT_FOUND.into_response() };
    let mut response = wav(tones, millis).into_response();
    let cache = HeaderValue::from_static("public, max-age=86400");
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    allow(&headers, response.headers_mut());
    response
}

/// Allows a page of any origin to read the response.
fn allow(request: &HeaderMap, response: &mut HeaderMap) {
    let origin = request.get(header::ORIGIN).cloned().unwrap_or(HeaderValue::from_static("*"));
    response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    let headers = HeaderValue::from_static("content-type, x-twilio-token");
    response.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
    response.insert(header::VARY, HeaderValue::from_static("Origin"));
}

/// Returns the two frequencies of a sound, in Hz, and its length, in milliseconds.
fn tones(name: &str) -> Option<([u16; 2], u32)> {
    Some(match name {
        "incoming" => ([400, 450], 1_500),
        "outgoing" => ([520, 520], 150),
        "disconnect" => ([390, 390], 150),
        "cowbell" => ([587, 845], 400),
        name => {
            let digit = match name.strip_prefix("dtmf-")? {
                "star" => '*',
                "hash" => '#',
                digit => digit.parse().ok().filter(char::is_ascii_digit)?,
            };
            (dtmf_frequencies(digit)?, 120)
        }
    })
}

/// Returns a WAV file (PCM of 16 bits, mono) of two tones.
fn wav(pitches: [u16; 2], millis: u32) -> Vec<u8> {
    let spec = WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut file = Cursor::new(Vec::new());
    let written = WavWriter::new(&mut file, spec).and_then(|mut writer| {
        for at in 0..RATE * millis / 1_000 {
            let time = at as f32 / RATE as f32;
            let sum: f32 = pitches.iter().map(|pitch| (TAU * f32::from(*pitch) * time).sin()).sum();
            writer.write_sample((sum * 0.2 * f32::from(i16::MAX)) as i16)?;
        }
        writer.finalize()
    });
    debug_assert!(written.is_ok(), "memory accepts every write");
    file.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sound_of_the_sdk_is_a_wav_file_of_its_length() {
        let digits = (0..=9).map(|digit| format!("dtmf-{digit}"));
        for name in digits.chain(["dtmf-star", "dtmf-hash", "incoming", "outgoing", "disconnect"].map(str::to_owned)) {
            let (pitches, millis) = tones(&name).unwrap();
            let file = wav(pitches, millis);
            assert_eq!(file.len(), 44 + (millis * 16) as usize, "{name}");
            assert_eq!((&file[..4], &file[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
        }
        assert!(tones("other").is_none());
    }
}
