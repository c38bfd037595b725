//! One range of a recording's file over HTTP (RFC 9110 §14).

use http::{HeaderMap, HeaderValue, StatusCode, header};

/// The requested part of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteRange {
    /// The whole file.
    Whole,
    /// A range of octets: the first octet and the last octet. Both octets belong to the range.
    Range(u64, u64),
    /// The range is outside the file. The HTTP status of the answer is 416.
    Unsatisfiable,
}

impl ByteRange {
    /// Returns the part of a file of `length` octets that a request with these header fields asks for.
    pub fn of(request: &HeaderMap, length: u64) -> Self {
        Self::parse(request.get(header::RANGE).and_then(|value| value.to_str().ok()), length)
    }

    /// Parses a `Range` header for a file of `length` octets. Any value other than a single range of octets means the
    /// whole file, as RFC 9110 §14.2 allows.
    pub fn parse(header: Option<&str>, length: u64) -> Self {
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

    /// Returns the first octet and the number of octets of the part.
    pub fn span(self, length: u64) -> (u64, u64) {
        match self {
            Self::Whole => (0, length),
            Self::Range(first, last) => (first, last - first + 1),
            Self::Unsatisfiable => (0, 0),
        }
    }

    /// Returns the head of the response with this part of a file of `length` octets.
    pub fn response(self, length: u64, content_type: &'static str) -> http::Response<()> {
        let (status, content_range) = match self {
            Self::Whole => (StatusCode::OK, None),
            Self::Range(first, last) => (StatusCode::PARTIAL_CONTENT, Some(format!("bytes {first}-{last}/{length}"))),
            Self::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{length}"))),
        };
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.span(length).1));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(value) = content_range.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
