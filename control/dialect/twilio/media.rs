//! A recording's audio over HTTP: whole or one range of it (RFC 9110 §14), never more than a block of it in memory.

use std::io;
use std::path::Path;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::error::ApiError;

/// How much of a file is read at once, octets.
const BLOCK: u64 = 64 * 1024;
/// Within how many octets a file's audio must begin.
const MAX_HEADER: usize = 4096;

/// What part of `length` octets was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// From the first to the last octet, both included.
    Range(u64, u64),
    /// Nothing that exists: 416.
    Unsatisfiable,
}

impl Part {
    /// Reads a `Range` header; anything but one range of octets asks for the whole, as RFC 9110 §14.2 allows.
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

/// Serves a file; 404 if there is none.
pub(super) async fn file(path: &Path, content_type: &'static str, head: bool, request: &HeaderMap) -> Response {
    let opened = async {
        let file = File::open(path).await?;
        let length = file.metadata().await?.len();
        io::Result::Ok((file, length))
    };
    let (mut file, length) = match opened.await {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return ApiError::not_found("of this recording's audio").into_response();
        }
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "a recording's file cannot be read");
            return ApiError::internal().into_response();
        }
    };
    let part = Part::parse(range_of(request), length);
    let (start, count) = part.span(length);
    if head || count == 0 {
        return respond(part, length, content_type, Body::empty());
    }
    if let Err(error) = file.seek(io::SeekFrom::Start(start)).await {
        tracing::error!(%error, path = %path.display(), "a recording's file cannot be read");
        return ApiError::internal().into_response();
    }
    let blocks = stream::try_unfold((file, count), |(mut file, left)| async move {
        if left == 0 {
            return io::Result::Ok(None);
        }
        let mut block = Vec::with_capacity(usize::try_from(left.min(BLOCK)).unwrap_or_default());
        let read = (&mut file).take(left.min(BLOCK)).read_to_end(&mut block).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((Bytes::from(block), (file, left.saturating_sub(read as u64)))))
    });
    respond(part, length, content_type, Body::from_stream(blocks))
}

/// Serves a two-channel file (16-bit PCM) mixed down to one channel, whole; any other file as it is.
pub(super) async fn mixed_down(path: &Path, content_type: &'static str, head: bool, request: &HeaderMap) -> Response {
    let opened = async {
        let mut opened = File::open(path).await?;
        let mut start = Vec::with_capacity(MAX_HEADER);
        (&mut opened).take(MAX_HEADER as u64).read_to_end(&mut start).await?;
        let length = opened.metadata().await?.len();
        io::Result::Ok((opened, Wav::parse(&start, length)))
    };
    let Ok((mut opened, Some(wav))) = opened.await else { return file(path, content_type, head, request).await };
    if wav.channels != 2 || opened.seek(io::SeekFrom::Start(wav.data_at)).await.is_err() {
        return file(path, content_type, head, request).await;
    }
    let frames = wav.data_length / 4;
    let header = Bytes::copy_from_slice(&wav.mono_header());
    let length = header.len() as u64 + frames * 2;
    if head {
        return respond(Part::Whole, length, content_type, Body::empty());
    }
    let state = (opened, Some(header), frames * 4);
    let blocks = stream::try_unfold(state, |(mut opened, header, left)| async move {
        if let Some(header) = header {
            return io::Result::Ok(Some((header, (opened, None, left))));
        }
        if left == 0 {
            return Ok(None);
        }
        // Both are multiples of a frame's four octets, so a block never splits one.
        let mut block = vec![0; usize::try_from(left.min(BLOCK)).unwrap_or_default()];
        opened.read_exact(&mut block).await?;
        let mono: Vec<u8> = block.chunks_exact(4).flat_map(mix).collect();
        Ok(Some((Bytes::from(mono), (opened, None, left - block.len() as u64))))
    });
    respond(Part::Whole, length, content_type, Body::from_stream(blocks))
}

/// One sample of both channels, little-endian, as one of neither.
fn mix(frame: &[u8]) -> [u8; 2] {
    match frame {
        &[a, b, c, d] => {
            let sum = i32::from(i16::from_le_bytes([a, b])) + i32::from(i16::from_le_bytes([c, d]));
            // As the mono recording would be: added, not halved.
            i16::try_from(sum).unwrap_or(if sum > 0 { i16::MAX } else { i16::MIN }).to_le_bytes()
        }
        _ => [0; 2],
    }
}

/// What a RIFF WAVE file of 16-bit PCM says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wav {
    channels: u16,
    sample_rate: u32,
    data_at: u64,
    data_length: u64,
}

impl Wav {
    /// Reads the chunks up to the audio; `None` for anything else than 16-bit PCM.
    fn parse(start: &[u8], file_length: u64) -> Option<Self> {
        let word = |at: usize| start.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
        let long = |at: usize| start.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        if start.get(..4)? != b"RIFF" || start.get(8..12)? != b"WAVE" {
            return None;
        }
        let (mut at, mut format) = (12, None);
        loop {
            let (id, length) = (start.get(at..at + 4)?, long(at + 4)?);
            match id {
                b"fmt " if word(at + 8)? == 1 && word(at + 22)? == 16 => {
                    format = Some((word(at + 10)?, long(at + 12)?));
                }
                b"data" => {
                    let (channels, sample_rate) = format?;
                    let data_at = at as u64 + 8;
                    let data_length = u64::from(length).min(file_length.saturating_sub(data_at));
                    return Some(Self { channels, sample_rate, data_at, data_length });
                }
                _ => {}
            }
            let length = usize::try_from(length).ok()?;
            at = at.checked_add(8)?.checked_add(length)?.checked_add(length % 2)?;
        }
    }

    /// The header of the same audio on one channel.
    fn mono_header(&self) -> [u8; 44] {
        let data = u32::try_from(self.data_length / 4 * 2).unwrap_or(u32::MAX - 36);
        let mut header = [0; 44];
        let fields: [&[u8]; 13] = [
            b"RIFF",
            &(data + 36).to_le_bytes(),
            b"WAVE",
            b"fmt ",
            &16u32.to_le_bytes(),
            &1u16.to_le_bytes(),
            &1u16.to_le_bytes(),
            &self.sample_rate.to_le_bytes(),
            &self.sample_rate.wrapping_mul(2).to_le_bytes(),
            &2u16.to_le_bytes(),
            &16u16.to_le_bytes(),
            b"data",
            &data.to_le_bytes(),
        ];
        header.iter_mut().zip(fields.concat()).for_each(|(to, from)| *to = from);
        header
    }
}

fn range_of(request: &HeaderMap) -> Option<&str> {
    request.get(header::RANGE).and_then(|value| value.to_str().ok())
}

fn respond(part: Part, length: u64, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let (status, content_range) = match part {
        Part::Whole => (StatusCode::OK, None),
        Part::Range(first, last) => (StatusCode::PARTIAL_CONTENT, Some(format!("bytes {first}-{last}/{length}"))),
        Part::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{length}"))),
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

    #[test]
    fn one_range_is_read_as_the_rfc_says() {
        for (header, expected) in [
            (None, Part::Whole),
            (Some("bytes=0-9"), Part::Range(0, 9)),
            (Some("bytes=10-"), Part::Range(10, 99)),
            (Some("bytes=-10"), Part::Range(90, 99)),
            (Some("bytes=-1000"), Part::Range(0, 99)),
            (Some("bytes=90-1000"), Part::Range(90, 99)),
            (Some("bytes=100-"), Part::Unsatisfiable),
            (Some("bytes=100-200"), Part::Unsatisfiable),
            (Some("bytes=-0"), Part::Unsatisfiable),
            (Some("bytes=9-1"), Part::Whole),
            (Some("bytes=0-1,5-6"), Part::Whole),
            (Some("bytes=a-b"), Part::Whole),
            (Some("seconds=1-2"), Part::Whole),
        ] {
            assert_eq!(Part::parse(header, 100), expected, "{header:?}");
        }
        assert_eq!(Part::parse(Some("bytes=0-"), 0), Part::Unsatisfiable);
        assert_eq!(Part::parse(Some("bytes=-5"), 0), Part::Unsatisfiable);
    }

    #[tokio::test]
    async fn a_part_of_a_file_is_served_with_its_place() {
        let path = std::env::temp_dir().join(format!("tandem-media-{}-place.mp3", std::process::id()));
        tokio::fs::write(&path, b"0123456789").await.unwrap();
        let mut request = HeaderMap::new();
        request.insert(header::RANGE, HeaderValue::from_static("bytes=2-4"));
        let response = file(&path, "audio/mpeg", false, &request).await;
        tokio::fs::remove_file(&path).await.unwrap();
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(response.headers()[header::CONTENT_RANGE], "bytes 2-4/10");
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "3");
    }

    fn wav(channels: u16, samples: &[i16]) -> Vec<u8> {
        let data = u32::try_from(samples.len() * 2).unwrap();
        let mut file =
            Wav { channels, sample_rate: 8000, data_at: 44, data_length: u64::from(data) * 2 }.mono_header().to_vec();
        file[22..24].copy_from_slice(&channels.to_le_bytes());
        file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        file
    }

    async fn served(name: &str, contents: &[u8], mono: bool, range: Option<&'static str>) -> (StatusCode, Vec<u8>) {
        let path = std::env::temp_dir().join(format!("tandem-media-{}-{name}.wav", std::process::id()));
        tokio::fs::write(&path, contents).await.unwrap();
        let mut request = HeaderMap::new();
        if let Some(range) = range {
            request.insert(header::RANGE, HeaderValue::from_static(range));
        }
        let response = if mono {
            mixed_down(&path, "audio/x-wav", false, &request).await
        } else {
            file(&path, "audio/x-wav", false, &request).await
        };
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        assert_eq!(parts.headers[header::CONTENT_LENGTH], body.len().to_string().as_str());
        tokio::fs::remove_file(&path).await.unwrap();
        (parts.status, body.to_vec())
    }

    #[tokio::test]
    async fn a_file_is_served_whole_or_in_part() {
        let contents: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        assert_eq!(served("whole", &contents, false, None).await, (StatusCode::OK, contents.clone()));
        let part = served("part", &contents, false, Some("bytes=65530-131080")).await;
        assert_eq!(part, (StatusCode::PARTIAL_CONTENT, contents[65_530..=131_080].to_vec()));
        let none = served("none", &contents, false, Some("bytes=200000-")).await;
        assert_eq!(none, (StatusCode::RANGE_NOT_SATISFIABLE, Vec::new()));
    }

    #[tokio::test]
    async fn two_channels_are_mixed_into_one() {
        let dual = wav(2, &[1, 2, 30_000, 30_000, -30_000, -30_000, 5, -5]);
        let (status, mono) = served("dual", &dual, true, None).await;
        assert_eq!((status, mono), (StatusCode::OK, wav(1, &[3, i16::MAX, i16::MIN, 0])));
        let single = wav(1, &[1, 2, 3]);
        assert_eq!(served("single", &single, true, None).await.1, single);
        assert_eq!(served("other", b"not a wav", true, None).await.1, b"not a wav");
    }

    #[tokio::test]
    async fn a_missing_file_is_not_found() {
        let response = file(Path::new("/nonexistent/x.wav"), "audio/x-wav", false, &HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
}
