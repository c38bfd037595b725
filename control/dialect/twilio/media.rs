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

/// Serves octets in memory.
pub(super) fn bytes(audio: &Bytes, content_type: &'static str, head: bool, request: &HeaderMap) -> Response {
    let length = audio.len() as u64;
    let part = Part::parse(range_of(request), length);
    let (start, count) = part.span(length);
    let (start, end) = (usize::try_from(start).unwrap_or_default(), usize::try_from(start + count).unwrap_or_default());
    let body = if head || count == 0 { Body::empty() } else { Body::from(audio.slice(start..end.min(audio.len()))) };
    respond(part, length, content_type, body)
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

    #[test]
    fn a_part_of_memory_is_served_with_its_place() {
        let mut request = HeaderMap::new();
        request.insert(header::RANGE, HeaderValue::from_static("bytes=2-4"));
        let response = bytes(&Bytes::from_static(b"0123456789"), "audio/mpeg", false, &request);
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(response.headers()[header::CONTENT_RANGE], "bytes 2-4/10");
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "3");
    }
}
