//! Forms with files: `multipart/form-data` (RFC 7578).

/// Maximum number of fields in a form.
const MAX_FIELDS: usize = 32;
/// Maximum size of the header of a field, in octets.
const MAX_HEAD: usize = 16 * 1024;

/// A field of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) name: String,
    pub(super) content: &'a [u8],
}

/// Reads a form. `kind` is the value of Content-Type.
pub(super) fn read<'a>(kind: &str, body: &'a [u8]) -> Result<Vec<Field<'a>>, &'static str> {
    let (media, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    if !media.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err("the body is not multipart/form-data");
    }
    let boundary = parameter(parameters, "boundary").filter(|boundary| !boundary.is_empty());
    let boundary = format!("--{}", boundary.ok_or("the form has no boundary")?).into_bytes();
    let separator = [b"\r\n", boundary.as_slice()].concat();
    let mut rest = match body.strip_prefix(boundary.as_slice()).and_then(after_boundary) {
        Some(rest) => rest,
        None => part(body, &separator).ok_or("the form has no begin")?.1,
    };
    let mut fields = Vec::new();
    while let After::Field(field) = rest {
        let head = field.get(..MAX_HEAD).unwrap_or(field);
        let (head, content) = split(head, b"\r\n\r\n")
            .and_then(|(head, _)| Some((head, field.get(head.len() + 4..)?)))
            .ok_or("a field of the form has no header, or a header that is too long")?;
        let (content, after) = part(content, &separator).ok_or("a field of the form has no end")?;
        rest = after;
        let head = String::from_utf8_lossy(head);
        let disposition = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
        });
        let name = disposition.and_then(|value| parameter(value, "name")).ok_or("a field of the form has no name")?;
        if fields.len() >= MAX_FIELDS {
            return Err("the form has too many fields");
        }
        fields.push(Field { name, content });
    }
    Ok(fields)
}

/// The text after a boundary.
enum After<'a> {
    /// A field, and all octets after it.
    Field(&'a [u8]),
    End,
}

/// Reads the end of the line of a boundary (RFC 2046 §5.1.1). `None` if the octets before were no boundary but a part of a field.
fn after_boundary(rest: &[u8]) -> Option<After<'_>> {
    if rest.starts_with(b"--") {
        return Some(After::End);
    }
    let padding = rest.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
    rest.get(padding..)?.strip_prefix(b"\r\n").map(After::Field)
}

/// Returns the octets before the next boundary, and what comes after it.
fn part<'a>(octets: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], After<'a>)> {
    let mut from = 0;
    loop {
        let (before, rest) = split(octets.get(from..)?, separator)?;
        let end = from + before.len();
        if let Some(after) = after_boundary(rest) {
            return Some((octets.get(..end)?, after));
        }
        from = end + separator.len();
    }
}

/// Returns the value of a parameter, without its quotation marks. A semicolon within quotation marks separates nothing.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut is_quoted = false;
    let mut parts = parameters.split(|c| {
        is_quoted ^= c == '"';
        c == ';' && !is_quoted
    });
    parts.find_map(|parameter| {
        let (known, value) = parameter.split_once('=')?;
        known.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// Returns what is before and after the first occurrence of `separator`.
fn split<'a>(octets: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let first = *separator.first()?;
    let mut from = 0;
    loop {
        let at = from + octets.get(from..)?.iter().position(|octet| *octet == first)?;
        if octets.get(at..)?.starts_with(separator) {
            return Some((octets.get(..at)?, octets.get(at + separator.len()..)?));
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=\"xyz\"";

    #[test]
    fn fields_have_their_names_and_octets() {
        let body = b"--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\
            \r\n--xy\r\n--xyz\r\ncontent-disposition: form-data; name=language\r\n\r\nen\r\n--xyz--\r\n";
        let fields = read(KIND, body).unwrap();
        assert_eq!(fields[0], Field { name: "file".to_owned(), content: b"\r\n--xy" });
        assert_eq!(fields[1], Field { name: "language".to_owned(), content: b"en" });
        assert_eq!(fields.len(), 2);
    }

    #[test]
    fn a_boundary_can_have_spaces_after_it_and_its_beginning_can_be_in_a_field() {
        let body =
            b"preamble\r\n--xyz \t\r\nContent-Disposition: form-data; filename=\"a; name=b\"; name=\"file\"\r\n\r\n\
            1\r\n--xyzzy\r\n2\r\n--xyz--";
        assert_eq!(read(KIND, body).unwrap(), [Field { name: "file".to_owned(), content: b"1\r\n--xyzzy\r\n2" }]);
    }

    #[test]
    fn damaged_forms_are_errors() {
        assert!(read("text/plain", b"").is_err());
        assert!(read("multipart/form-data", b"").is_err());
        let named = "--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\nc";
        let wrong = ["", "--xyz\r\n", "--xyz\r\nA: b\r\n\r\nc", "--xyz\r\nA: b\r\n\r\nc\r\n--xyz--", named];
        let cut = [format!("{named}\r\n--xyz"), format!("{named}\r\n--xyzw--\r\n"), named.replace("xyz", "xyzw")];
        for body in wrong.into_iter().chain(cut.iter().map(String::as_str)) {
            assert!(read(KIND, body.as_bytes()).is_err(), "{body:?}");
        }
        let long =
            format!("--xyz\r\nContent-Disposition: form-data; name=a\r\nA: {}\r\n\r\nc\r\n--xyz--", "x".repeat(20_000));
        assert!(read(KIND, long.as_bytes()).unwrap_err().contains("too long"));
        assert_eq!(read(KIND, b"--xyz--\r\n"), Ok(Vec::new()));
    }
}
