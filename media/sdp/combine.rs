//! Combines the streams of several sessions into one description. Each session negotiates its own stream. The far end
//! sees one session with all streams, as in a recording session (RFC 7866 §7.1).

use bytes::Bytes;

/// The highest number of streams that a description is split into. Further streams are ignored.
const MAX_STREAMS: usize = 64;

/// Combines descriptions into one description that has the streams of all descriptions, in order. The version of the
/// result is the sum of the versions of all descriptions. So the version of the result rises when any description
/// changes (RFC 3264 §8).
pub fn combine_descriptions(descriptions: &[Bytes]) -> Bytes {
    let mut out = Vec::with_capacity(descriptions.iter().map(Bytes::len).sum());
    let version: u64 = descriptions.iter().filter_map(|one| version(one)).fold(0, u64::wrapping_add);
    let first = descriptions.first().map(|one| split(one).0).unwrap_or_default();
    for line in first.split_inclusive(|&byte| byte == b'\n') {
        match std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("o=")) {
            Some(origin) => {
                let mut words: Vec<&str> = origin.split(' ').collect();
                let version = version.to_string();
                if let Some(word) = words.get_mut(2) {
                    *word = &version;
                }
                out.extend_from_slice(format!("o={}", words.join(" ")).as_bytes());
            }
            None => out.extend_from_slice(line),
        }
    }
    descriptions.iter().for_each(|one| out.extend_from_slice(split(one).1));
    out.into()
}

/// Splits a description into one description for each stream. Each result contains the session-level lines and one
/// stream.
pub fn split_description(description: &[u8]) -> Vec<Bytes> {
    let (session, mut streams) = split(description);
    let mut all = Vec::new();
    while !streams.is_empty() && all.len() < MAX_STREAMS {
        let (one, rest) = streams.split_at(next_stream(streams, 1));
        all.push([session, one].concat().into());
        streams = rest;
    }
    all
}

/// Splits a description into its session-level lines and its streams.
fn split(description: &[u8]) -> (&[u8], &[u8]) {
    description.split_at(next_stream(description, 0))
}

/// Returns the offset of the first `m=` line, or the length of the description if there is no `m=` line. The first
/// `after` lines are skipped.
fn next_stream(description: &[u8], after: usize) -> usize {
    let mut at = 0;
    for (number, line) in description.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if number >= after && line.starts_with(b"m=") {
            return at;
        }
        at += line.len();
    }
    description.len()
}

fn version(description: &[u8]) -> Option<u64> {
    let line = description.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"o="))?;
    std::str::from_utf8(line).ok()?.split(' ').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(version: u32, port: u16) -> Bytes {
        let text = format!(
            "v=0\r\no=- 7 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
             a=sendonly\r\na=label:{port}\r\n"
        );
        text.into()
    }

    #[test]
    fn combined_descriptions_are_split_into_the_same_descriptions() {
        let whole = combine_descriptions(&[one(1, 4000), one(3, 4002)]);
        let text = String::from_utf8(whole.to_vec()).unwrap();
        assert!(text.starts_with("v=0\r\no=- 7 4 IN IP4 127.0.0.1\r\ns=-\r\n"), "{text}");
        assert_eq!(text.matches("m=audio").count(), 2);
        assert_eq!((text.matches("c=IN").count(), text.matches("v=0").count()), (1, 1));
        let parts = split_description(&whole);
        assert_eq!(parts, [one(4, 4000), one(4, 4002)]);
    }

    #[test]
    fn malformed_text_has_no_streams_and_the_number_of_streams_is_limited() {
        for rubbish in ["", "\n", "v=0", "xm=audio", "m", "o=\nm"] {
            assert_eq!(split_description(rubbish.as_bytes()), Vec::<Bytes>::new(), "{rubbish:?}");
        }
        assert_eq!(split_description(b"m=\nm=\n\xff\nm=").len(), 3);
        assert_eq!(split_description("m=audio\n".repeat(1_000).as_bytes()).len(), MAX_STREAMS);
        assert_eq!(combine_descriptions(&[]), Bytes::new());
        assert_eq!(combine_descriptions(&[Bytes::from_static(b"o=\xff 1\nm=a\n"), Bytes::from_static(b"")]).len(), 10);
    }
}
