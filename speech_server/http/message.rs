//! HTTP/1.1 messages (RFC 9112), as far as an API on the loopback address needs them.

use std::io::{self, BufRead, Read, Write};

/// Maximum size of the request line and the header, in octets. The hints of a call are in the request line: a `Gather` can have 500
/// of 100 characters, and a character can take six octets there.
const MAX_HEAD: u64 = 384 * 1024;
/// Maximum number of header fields.
const MAX_FIELDS: usize = 100;

/// A request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    /// The names are in lower case.
    fields: Vec<(String, String)>,
    /// Whether the client keeps the connection.
    pub(super) keeps: bool,
    /// Whether the client knows bodies in chunks. HTTP/1.0 does not.
    knows_chunks: bool,
}

/// The reason why a request cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The connection has ended or failed.
    Io(io::Error),
    /// The request is not HTTP/1.1. The response has this status and text.
    Bad(u16, &'static str),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Request {
    /// Reads the request line and the header. Returns `None` if the connection ends before a request begins.
    pub(super) fn read(reader: &mut impl BufRead) -> Result<Option<Self>, ReadError> {
        let mut head = reader.take(MAX_HEAD);
        let line = match line(&mut head)? {
            Some(line) => line,
            None if head.limit() == 0 => return Err(ReadError::Bad(431, "the request line is too long")),
            None => return Ok(None),
        };
        let mut parts = line.split(' ');
        let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ReadError::Bad(400, "the request line is not HTTP"));
        };
        if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return Err(ReadError::Bad(505, "only HTTP/1.1 is known"));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request =
            Self { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), ..Self::default() };
        loop {
            let line = self::line(&mut head)?.ok_or(ReadError::Bad(431, "the header is too long, or has no end"))?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(ReadError::Bad(400, "a header field has no colon"))?;
            if request.fields.len() >= MAX_FIELDS {
                return Err(ReadError::Bad(431, "there are too many header fields"));
            }
            request.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let connection = request.field("connection").unwrap_or_default().to_ascii_lowercase();
        request.knows_chunks = version == "HTTP/1.1";
        request.keeps = request.knows_chunks && !connection.contains("close");
        Ok(Some(request))
    }

    /// Returns the value of a header field, by its name in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The length of the body, if the client says it.
    pub(super) fn length(&self) -> Result<Option<usize>, ReadError> {
        if self.field("transfer-encoding").is_some() && !self.is_chunked() {
            return Err(ReadError::Bad(501, "the transfer coding is not known"));
        }
        let mut lengths = self.fields.iter().filter(|(name, _)| name == "content-length");
        let Some((_, length)) = lengths.next() else { return Ok(None) };
        if lengths.next().is_some() || self.is_chunked() {
            return Err(ReadError::Bad(400, "the length of the body is ambiguous"));
        }
        length.parse().map(Some).map_err(|_| ReadError::Bad(400, "the length of the body is not a number"))
    }

    /// Reads the body, at most `limit` octets.
    pub(super) fn body(&self, reader: &mut impl BufRead, limit: usize) -> Result<Vec<u8>, ReadError> {
        const TOO_LARGE: ReadError = ReadError::Bad(413, "the body is too large");
        let mut body = Vec::new();
        if let Some(length) = self.length()? {
            if length > limit {
                return Err(TOO_LARGE);
            }
            // Memory is taken as the octets come, not as the client promises.
            reader.take(length as u64).read_to_end(&mut body)?;
            if body.len() < length {
                return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            return Ok(body);
        }
        while self.is_chunked() {
            let size = line(&mut reader.take(256))?.unwrap_or_default();
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| ReadError::Bad(400, "a chunk has no size"))?;
            if size > limit - body.len() {
                return Err(TOO_LARGE);
            }
            let before = body.len();
            reader.take(size as u64).read_to_end(&mut body)?;
            if body.len() - before < size {
                return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            // The line after a chunk is empty. Before the one after the last chunk can be a trailer, which is not used.
            let mut trailer = reader.take(MAX_HEAD);
            while line(&mut trailer)?.is_some_and(|line| !line.is_empty()) {
                if size > 0 {
                    return Err(ReadError::Bad(400, "a chunk is longer than its size"));
                }
            }
            if trailer.limit() == 0 {
                return Err(ReadError::Bad(431, "the trailer is too long"));
            }
            if size == 0 {
                break;
            }
        }
        Ok(body)
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }
}

/// Reads a line without its end. `None` at the end of the input, also in the middle of a line.
fn line(reader: &mut impl BufRead) -> Result<Option<String>, ReadError> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Ok(None);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| ReadError::Bad(400, "the header is not UTF-8"))
}

/// A response with its whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, kind: "application/json", body: body.to_string().into_bytes() }
    }

    pub(super) fn text(text: String) -> Self {
        Self { status: 200, kind: "text/plain; charset=utf-8", body: text.into_bytes() }
    }

    /// An error in OpenAI's form.
    pub(super) fn error(status: u16, message: &str) -> Self {
        let kind = match status {
            401 | 403 => "authentication_error",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            _ => "server_error",
        };
        Self::json(status, &serde_json::json!({"error": {"message": message, "type": kind, "code": status}}))
    }

    pub(super) fn write(&self, writer: &mut impl Write, keeps: bool) -> io::Result<()> {
        let Self { status, kind, body } = self;
        let retry = if *status == 429 { "Retry-After: 1\r\n" } else { "" };
        let connection = if keeps { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{retry}Connection: {connection}\r\n\r\n",
            reason(*status),
            body.len(),
        );
        writer.write_all(&[head.as_bytes(), body].concat())?;
        writer.flush()
    }
}

/// A response whose body comes in pieces.
pub(super) struct Pieces<'a, W> {
    writer: &'a mut W,
    is_chunked: bool,
}

impl<'a, W: Write> Pieces<'a, W> {
    /// Writes the head.
    pub(super) fn begin(writer: &'a mut W, request: &Request, kind: &str, rate: u32) -> io::Result<Self> {
        // Without chunks, the end of the connection is the end of the body.
        let coding = if request.knows_chunks { "Transfer-Encoding: chunked\r\n" } else { "" };
        let connection = if request.keeps { "keep-alive" } else { "close" };
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nX-Sample-Rate: {rate}\r\n{coding}Connection: {connection}\r\n\r\n"
        )?;
        Ok(Self { writer, is_chunked: request.knows_chunks })
    }

    /// The connection.
    pub(super) fn writer(&self) -> &W {
        self.writer
    }

    /// Writes a piece. An empty one would end a body in chunks, so it is not written.
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        if octets.is_empty() {
            return Ok(());
        }
        if self.is_chunked {
            self.writer.write_all(&[format!("{:x}\r\n", octets.len()).as_bytes(), octets, b"\r\n"].concat())?;
        } else {
            self.writer.write_all(octets)?;
        }
        self.writer.flush()
    }

    /// Ends the body. Without this call, a client sees that a body in chunks is not complete.
    pub(super) fn end(self) -> io::Result<()> {
        if self.is_chunked {
            self.writer.write_all(b"0\r\n\r\n")?;
        }
        self.writer.flush()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Request, Vec<u8>), ReadError> {
        let mut reader = text.as_bytes();
        let request = Request::read(&mut reader)?.unwrap();
        let body = request.body(&mut reader, 10)?;
        Ok((request, body))
    }

    #[test]
    fn a_request_has_its_path_query_fields_and_body() {
        let (request, body) = read("POST /a?b=c HTTP/1.1\r\nContent-LENGTH: 3\r\nX: y \r\n\r\nabcd").unwrap();
        assert_eq!((request.path.as_str(), request.query.as_str(), request.field("x")), ("/a", "b=c", Some("y")));
        assert!(request.keeps);
        assert_eq!(body, b"abc");
    }

    #[test]
    fn a_body_in_chunks_is_joined() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(&format!("{head}3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")).unwrap().1, b"abcde");
        assert!(matches!(read(&format!("{head}8\r\nabcdefgh\r\n3\r\n")), Err(ReadError::Bad(413, _))));
        assert!(matches!(read(&format!("{head}ffffffffffffffff\r\n")), Err(ReadError::Bad(413, _))));
        assert!(matches!(read(&format!("{head}x\r\n")), Err(ReadError::Bad(400, _))));
        assert!(matches!(read(&format!("{head}3\r\nabcd\r\n0\r\n\r\n")), Err(ReadError::Bad(400, _))));
        assert_eq!(read(&format!("{head}1\r\na\r\n0\r\nA: b\r\n\r\n")).unwrap().1, b"a");
        assert!(matches!(read(&format!("{head}3\r\nab")), Err(ReadError::Io(_))));
    }

    #[test]
    fn wrong_requests_have_a_status() {
        for (text, status) in [
            ("hello\r\n\r\n", 400),
            ("GET / HTTP/2\r\n\r\n", 505),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nA: b\r\n", 431),
            ("POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ] {
            assert!(matches!(read(text), Err(ReadError::Bad(found, _)) if found == status), "{text}");
        }
        let long = "x".repeat(400_000);
        for text in [format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n"), format!("GET /{long} HTTP/1.1\r\n\r\n")] {
            assert!(matches!(read(&text), Err(ReadError::Bad(431, _))));
        }
    }

    #[test]
    fn a_request_line_has_room_for_the_hints_of_a_gather() {
        let hints = "&keywords=".to_owned() + &"%C3%A4".repeat(100);
        let (request, _) = read(&format!("GET /v1/listen?a=b{} HTTP/1.1\r\n\r\n", hints.repeat(500))).unwrap();
        assert_eq!(request.query.matches("keywords").count(), 500);
    }

    #[test]
    fn a_client_of_http_1_0_gets_a_body_without_chunks() {
        for (version, expected) in [
            ("1.0", "Connection: close\r\n\r\nab"),
            ("1.1", "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
        ] {
            let (request, _) = read(&format!("POST / HTTP/{version}\r\n\r\n")).unwrap();
            let mut written = Vec::new();
            let mut pieces = Pieces::begin(&mut written, &request, "audio/pcm", 8_000).unwrap();
            pieces.write(b"ab").unwrap();
            pieces.write(b"").unwrap();
            pieces.end().unwrap();
            let written = String::from_utf8(written).unwrap();
            assert!(written.ends_with(&format!("X-Sample-Rate: 8000\r\n{expected}")), "{written}");
        }
    }
}
