//! A recording's audio over HTTP: the whole file or one range of the file (RFC 9110 §14). At most one block of the file
//! is in memory.

use std::io;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use tandem_history::recordings::{ByteRange, RecordingAudio, passing_fault};

use super::error::ApiError;

/// Answers with a recording's audio. HTTP status 404 if the recording has no audio, 503 if it cannot be read now.
pub(super) fn serve(
    opened: io::Result<RecordingAudio>,
    content_type: &'static str,
    head: bool,
    request: &HeaderMap,
) -> Response {
    let audio = match opened {
        Ok(audio) => audio,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return ApiError::not_found("audio of this recording").into_response();
        }
        Err(error) => {
            return unreadable(&error).into_response();
        }
    };
    let length = audio.len();
    let part = ByteRange::of(request, length);
    let (start, count) = part.span(length);
    let is_empty = head || count == 0;
    let body = if is_empty { Body::empty() } else { Body::from_stream(audio.read(start, count)) };
    part.response(length, content_type).map(|()| body)
}

/// The answer to a request for audio that cannot be read.
pub(super) fn unreadable(error: &io::Error) -> ApiError {
    if let Some(cause) = passing_fault(error) {
        tracing::warn!(%error, "a recording's audio cannot be read now");
        return ApiError::no_audio_now(cause);
    }
    tracing::error!(%error, "a recording's audio cannot be read");
    ApiError::internal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderValue, StatusCode, header};
    use std::io::Write as _;
    use tandem_history::recordings::RecordingFiles;
    use tandem_media::{EncryptedWriter, RecordingKey, WavCoding};

    fn files(key: Option<RecordingKey>) -> RecordingFiles {
        RecordingFiles::in_folder(std::env::temp_dir(), WavCoding::Pcm, key)
    }

    async fn served(name: &str, contents: &[u8], mono: bool, range: Option<&'static str>) -> (Response, Vec<u8>) {
        let path = std::env::temp_dir().join(format!("tandem-media-{}-{name}.wav", std::process::id()));
        tokio::fs::write(&path, contents).await.unwrap();
        let mut request = HeaderMap::new();
        if let Some(range) = range {
            request.insert(header::RANGE, HeaderValue::from_static(range));
        }
        let key = RecordingKey::new([3; 32]);
        let mut response = serve(files(Some(key)).open(path.clone(), mono).await, "audio/x-wav", false, &request);
        let body = std::mem::replace(response.body_mut(), Body::empty());
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_LENGTH], body.len().to_string().as_str());
        tokio::fs::remove_file(&path).await.unwrap();
        (response, body.to_vec())
    }

    #[tokio::test]
    async fn a_range_response_has_a_content_range() {
        let (response, body) = served("place", b"0123456789", false, Some("bytes=2-4")).await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(response.headers()[header::CONTENT_RANGE], "bytes 2-4/10");
        assert_eq!(body, b"234");
    }

    #[tokio::test]
    async fn plain_and_encrypted_files_are_served_whole_and_in_ranges() {
        let contents: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let mut encrypted = EncryptedWriter::new(Vec::new(), &RecordingKey::new([3; 32]), &[4; 32]).unwrap();
        encrypted.write_all(&contents).unwrap();
        let encrypted = encrypted.finish().unwrap();
        assert!(encrypted.windows(16).all(|part| part != &contents[..16]));
        for (name, stored) in [("plain", &contents), ("sealed", &encrypted)] {
            let (response, body) = served(name, stored, false, None).await;
            assert_eq!((response.status(), &body), (StatusCode::OK, &contents));
            let (response, body) = served(name, stored, false, Some("bytes=65530-131080")).await;
            assert_eq!((response.status(), &body[..]), (StatusCode::PARTIAL_CONTENT, &contents[65_530..=131_080]));
            let (response, body) = served(name, stored, false, Some("bytes=200000-")).await;
            assert_eq!((response.status(), body), (StatusCode::RANGE_NOT_SATISFIABLE, Vec::new()));
        }
    }

    fn wav(channels: u16, samples: &[i16]) -> Vec<u8> {
        let data = u32::try_from(samples.len() * 2).unwrap();
        let mut file = b"RIFF".to_vec();
        file.extend((data + 36).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0");
        file.extend(channels.to_le_bytes());
        file.extend(8_000_u32.to_le_bytes());
        file.extend((16_000 * u32::from(channels)).to_le_bytes());
        file.extend((2 * channels).to_le_bytes());
        file.extend(b"\x10\0data");
        file.extend(data.to_le_bytes());
        file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        file
    }

    #[tokio::test]
    async fn two_channels_are_mixed_into_one() {
        let dual: Vec<i16> = [1, 2, 30_000, 30_000, -30_000, -30_000, 5, -5].repeat(9_000);
        let mono = wav(1, &[3, i16::MAX, i16::MIN, 0].repeat(9_000));
        assert_eq!(served("dual", &wav(2, &dual), true, None).await.1, mono);
        assert_eq!(served("odd", &wav(2, &dual), true, Some("bytes=33-70001")).await.1, mono[33..=70_001]);
        let single = wav(1, &[1, 2, 3]);
        assert_eq!(served("single", &single, true, None).await.1, single);
        assert_eq!(served("other", b"not a wav", true, None).await.1, b"not a wav");
    }

    #[tokio::test]
    async fn a_missing_file_gets_404_and_an_encrypted_file_without_its_encryption_key_500() {
        let missing = files(None).open("/nonexistent/x.wav".into(), false).await;
        assert_eq!(serve(missing, "audio/x-wav", false, &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
        let path = std::env::temp_dir().join(format!("tandem-media-{}-key.wav", std::process::id()));
        let encrypted =
            EncryptedWriter::new(Vec::new(), &RecordingKey::new([3; 32]), &[4; 32]).unwrap().finish().unwrap();
        std::fs::write(&path, encrypted).unwrap();
        let locked = files(None).open(path.clone(), false).await;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(serve(locked, "audio/x-wav", false, &HeaderMap::new()).status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
