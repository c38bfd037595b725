//! What the SDK requests besides the WebSocket: its sounds, and a place for its reports (Insights).

use std::f32::consts::TAU;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

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

/// Returns the two frequencies of a sound, in Hz, and its length, in milliseconds. Digits have the tones of ITU-T Q.23.
fn tones(name: &str) -> Option<([f32; 2], u32)> {
    const DIGIT: u32 = 120;
    Some(match name {
        "incoming" => ([400.0, 450.0], 1_500),
        "outgoing" => ([520.0, 520.0], 150),
        "disconnect" => ([390.0, 390.0], 150),
        "cowbell" => ([587.0, 845.0], 400),
        "dtmf-1" => ([697.0, 1209.0], DIGIT),
        "dtmf-2" => ([697.0, 1336.0], DIGIT),
        "dtmf-3" => ([697.0, 1477.0], DIGIT),
        "dtmf-4" => ([770.0, 1209.0], DIGIT),
        "dtmf-5" => ([770.0, 1336.0], DIGIT),
        "dtmf-6" => ([770.0, 1477.0], DIGIT),
        "dtmf-7" => ([852.0, 1209.0], DIGIT),
        "dtmf-8" => ([852.0, 1336.0], DIGIT),
        "dtmf-9" => ([852.0, 1477.0], DIGIT),
        "dtmf-star" => ([941.0, 1209.0], DIGIT),
        "dtmf-0" => ([941.0, 1336.0], DIGIT),
        "dtmf-hash" => ([941.0, 1477.0], DIGIT),
        _ => return None,
    })
}

/// Returns a WAV file (RIFF, PCM of 16 bits, mono) of two tones.
fn wav([low, high]: [f32; 2], millis: u32) -> Vec<u8> {
    let count = RATE * millis / 1_000;
    let size = count * 2;
    let mut file = Vec::with_capacity(44 + size as usize);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + size).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16u32.to_le_bytes());
    file.extend_from_slice(&1u16.to_le_bytes());
    file.extend_from_slice(&1u16.to_le_bytes());
    file.extend_from_slice(&RATE.to_le_bytes());
    file.extend_from_slice(&(RATE * 2).to_le_bytes());
    file.extend_from_slice(&2u16.to_le_bytes());
    file.extend_from_slice(&16u16.to_le_bytes());
    file.extend_from_slice(b"data");
    file.extend_from_slice(&size.to_le_bytes());
    for at in 0..count {
        let time = at as f32 / RATE as f32;
        let value = ((TAU * low * time).sin() + (TAU * high * time).sin()) * 0.2 * f32::from(i16::MAX);
        file.extend_from_slice(&(value as i16).to_le_bytes());
    }
    file
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
