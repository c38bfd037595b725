//! A recording's audio over HTTP: the whole file or one range of the file (RFC 9110 §14). At most one block of the file
//! is in memory.

use std::io;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tandem_history::recordings::RecordingAudio;

use super::error::ApiError;

/// The requested part of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ByteRange {
    /// The whole file.
    Whole,
    /// A range of octets: the first octet and the last octet. Both octets belong to the range.
    Range(u64, u64),
    /// The range is outside the file. The HTTP status of the answer is 416.
    Unsatisfiable,
}

impl ByteRange {
    /// Parses a `Range` header for a file of `length` octets. Any value other than a single range of octets means the
    /// whole file, as RFC 9110 §14.2 allows.
    pub(super) fn parse(header: Option<&str>, length: u64) -> Self {
        let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Self::Whole };
        let Some((first, last)) = spec.split_once('-') else { return Self::Whole };
        match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
            (Ok(first), _) if last.trim().is_empty() && first < length => Self::Range(first, length - 1),
            (Ok(first), Ok(last)) if first > last => Self::Whole,
            (Ok(first), Ok(last)) if first < length => Self::Range(first, last.min(length - 1)),
            (Err(_), Ok(suffix)) if first.trim().is_empty() && suffix > 0 && length > 0 => {
                Self::Range(length.saturating_sub(suffix), length - 1)
            }
            (Ok(_), Ok(_)) => Self::Unsatisfiable,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) if first.trim().is_empty() || last.trim().is_empty() => {
                Self::Unsatisfiable
            }
            _ => Self::Whole,
        }
    }

    fn span(self, length: u64) -> (u64, u64) {
        match self {
            Self::Whole => (0, length),
            Self::Range(first, last) => (first, last - first + 1),
            Self::Unsatisfiable => (0, 0),
        }
    }
}

/// Answers with a recording's audio. HTTP status 404 if the recording has no audio.
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
            tracing::error!(%error, "a recording's file cannot be read");
            return ApiError::internal().into_response();
        }
    };
    let length = audio.len();
    let part = ByteRange::parse(range_of(request), length);
    let (start, count) = part.span(length);
    if head || count == 0 {
        return respond(part, length, content_type, Body::empty());
    }
    respond(part, length, content_type, Body::from_stream(audio.read(start, count)))
}

fn range_of(request: &HeaderMap) -> Option<&str> {
    request.get(header::RANGE).and_then(|value| value.to_str().ok())
}

fn respond(part: ByteRange, length: u64, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let (status, content_range) = match part {
        ByteRange::Whole => (StatusCode::OK, None),
        ByteRange::Range(first, last) => (StatusCode::PARTIAL_CONTENT, Some(format!("bytes {first}-{last}/{length}"))),
        ByteRange::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{length}"))),
    };
    *response.status_mut() = status;
    let (_, count) = part.span(length);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(count));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(value) = content_range.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(header::CONTENT_RANGE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tandem_history::recordings::RecordingFiles;
    use tandem_media::{EncryptedWriter, RecordingKey, WavCoding};

    #[test]
    fn a_range_header_with_one_range_follows_rfc_9110() {
        for (header, expected) in [
            (None, ByteRange::Whole),
            (Some("bytes=0-9"), ByteRange::Range(0, 9)),
            (Some("bytes=10-"), ByteRange::Range(10, 99)),
            (Some("bytes=-10"), ByteRange::Range(90, 99)),
            (Some("bytes=-1000"), ByteRange::Range(0, 99)),
            (Some("bytes=90-1000"), ByteRange::Range(90, 99)),
            (Some("bytes=100-"), ByteRange::Unsatisfiable),
            (Some("bytes=100-200"), ByteRange::Unsatisfiable),
            (Some("bytes=-0"), ByteRange::Unsatisfiable),
            (Some("bytes=9-1"), ByteRange::Whole),
            (Some("bytes=0-1,5-6"), ByteRange::Whole),
            (Some("bytes=a-b"), ByteRange::Whole),
            (Some("seconds=1-2"), ByteRange::Whole),
        ] {
            assert_eq!(ByteRange::parse(header, 100), expected, "{header:?}");
        }
        assert_eq!(ByteRange::parse(Some("bytes=0-"), 0), ByteRange::Unsatisfiable);
        assert_eq!(ByteRange::parse(Some("bytes=-5"), 0), ByteRange::Unsatisfiable);
    }

    fn files(key: Option<RecordingKey>) -> RecordingFiles {
        RecordingFiles { folder: std::env::temp_dir(), coding: WavCoding::Pcm, key, open: true }
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
