//! Forms with files: `multipart/form-data` (RFC 7578).

/// Maximum number of fields in a form.
const MAX_FIELDS: usize = 32;

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
    let mut rest = match body.strip_prefix(boundary.as_slice()) {
        Some(rest) => rest,
        None => split(body, &separator).ok_or("the form has no begin")?.1,
    };
    let mut fields = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let (head, after) = split(part, b"\r\n\r\n").ok_or("a field of the form has no header")?;
        let (content, after) = split(after, &separator).ok_or("a field of the form has no end")?;
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

/// Returns the value of a parameter, without its quotation marks.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    parameters.split(';').find_map(|parameter| {
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
    fn damaged_forms_are_errors() {
        assert!(read("text/plain", b"").is_err());
        assert!(read("multipart/form-data", b"").is_err());
        for body in ["", "--xyz\r\n", "--xyz\r\nA: b\r\n\r\nc", "--xyz\r\nA: b\r\n\r\nc\r\n--xyz--"] {
            assert!(read(KIND, body.as_bytes()).is_err(), "{body:?}");
        }
        assert_eq!(read(KIND, b"--xyz--\r\n"), Ok(Vec::new()));
    }
}
