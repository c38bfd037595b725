//! The header fields of a message in order. A field is stored as two ranges of the text: the range of its name and the
//! range of its value.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::Fault;
use crate::header;

/// The header fields of a message in order.
#[derive(Clone)]
pub(super) struct Head {
    text: Bytes,
    fields: Vec<Field>,
}

/// The ranges of a field in the text. The type `u32` is large enough, because no message is longer than
/// [`super::MAX_MESSAGE`].
#[derive(Clone)]
pub(super) struct Field {
    /// A short hash of the full name. If two hashes differ, the names differ too.
    mark: u32,
    name: Range<u32>,
    value: Range<u32>,
}

impl Field {
    /// Creates a field. Both ranges refer to `text`.
    pub(super) fn new(text: &[u8], name: Range<u32>, value: Range<u32>) -> Self {
        let mark = mark(in_full(part(text, &name)));
        Self { mark, name, value }
    }
}

impl Head {
    /// Creates a head whose fields refer to `text`.
    pub(super) fn within(text: Bytes, fields: Vec<Field>) -> Self {
        Self { text, fields }
    }

    /// Creates a head with a new text, into which all fields are copied.
    pub(super) fn of<'a>(written: impl Iterator<Item = (Cow<'a, [u8]>, Cow<'a, [u8]>)>) -> Self {
        let (mut text, mut fields) = (Vec::new(), Vec::new());
        for (name, value) in written {
            let mut push = |part: &[u8]| {
                let start = text.len() as u32;
                text.extend_from_slice(part);
                start..text.len() as u32
            };
            let (name, value) = (push(&name), push(&value));
            fields.push(Field::new(&text, name, value));
        }
        Self { text: Bytes::from(text), fields }
    }

    /// Returns the name and the value of every field. A compact name is expanded.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.name(field), self.part(&field.value)))
    }

    /// Returns the values of a field, one value per line. `name` is the full name.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let mark = mark(name.as_bytes());
        let alike = self.fields.iter().filter(move |field| field.mark == mark);
        let named = alike.filter(move |field| self.name(field).eq_ignore_ascii_case(name.as_bytes()));
        named.map(|field| self.part(&field.value))
    }

    /// Returns the first value of a field.
    pub(super) fn value(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// Returns the value of a field that may occur at most once.
    pub(super) fn optional(&self, name: &'static str) -> Result<Option<&[u8]>, Fault> {
        let mut values = self.values(name);
        let value = values.next();
        if values.next().is_some() { Err(Fault::Repeated(name)) } else { Ok(value) }
    }

    /// Returns the value of a field that must occur exactly once.
    pub(super) fn single(&self, name: &'static str) -> Result<&[u8], Fault> {
        self.optional(name)?.ok_or(Fault::Missing(name))
    }

    /// Returns the text to which the ranges of names and values refer.
    pub(super) fn text(&self) -> &Bytes {
        &self.text
    }

    /// Returns all values of a comma-separated field, from all its lines.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.values(name).flat_map(header::split_list)
    }

    fn name(&self, field: &Field) -> &[u8] {
        in_full(self.part(&field.name))
    }

    fn part(&self, range: &Range<u32>) -> &[u8] {
        part(&self.text, range)
    }
}

fn part<'a>(text: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    text.get(range.start as usize..range.end as usize).unwrap_or_default()
}

fn in_full(name: &[u8]) -> &[u8] {
    match name {
        [letter] => header::in_full(*letter).map_or(name, str::as_bytes),
        name => name,
    }
}

/// Returns a number that is different for most names. The number consists of the length, the first letter and the last
/// letter of the name; case is ignored.
fn mark(name: &[u8]) -> u32 {
    let letter = |letter: Option<&u8>| letter.map_or(0, |letter| u32::from(letter | 0x20));
    (name.len() as u32) << 16 | letter(name.first()) << 8 | letter(name.last())
}

/// Shows names and values instead of ranges. Names are shown in lower case, so equal heads have the same output.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        f.debug_list()
            .entries(self.iter().map(|(name, value)| (text(&name.to_ascii_lowercase()), text(value))))
            .finish()
    }
}
