//! The header fields of a message, in their order: where each name and value lies in the text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::header;

/// The header fields of a message.
#[derive(Clone)]
pub(super) struct Head {
    text: Bytes,
    fields: Vec<Field>,
}

/// Where a field lies in the text. No message is as long as 4 GB.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) name: Range<u32>,
    pub(super) value: Range<u32>,
}

impl Head {
    /// Of fields that lie in `text`.
    pub(super) fn within(text: Bytes, fields: Vec<Field>) -> Self {
        Self { text, fields }
    }

    /// Of fields written anew.
    pub(super) fn of<'a>(written: impl Iterator<Item = (Cow<'a, [u8]>, Cow<'a, [u8]>)>) -> Self {
        let (mut text, mut fields) = (Vec::new(), Vec::new());
        for (name, value) in written {
            let mut push = |part: &[u8]| {
                let start = text.len() as u32;
                text.extend_from_slice(part);
                start..text.len() as u32
            };
            fields.push(Field { name: push(&name), value: push(&value) });
        }
        Self { text: Bytes::from(text), fields }
    }

    /// Every field: its name, in full where it came in its compact form, and its value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.name(field), self.part(&field.value)))
    }

    /// The values of a field, one a line. `name` is the name in full.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let fits = |field: &Field| field.name.len() == name.len() || field.name.len() == 1;
        let named = move |field: &&Field| fits(field) && self.name(field).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(named).map(|field| self.part(&field.value))
    }

    /// Its first value.
    pub(super) fn value(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The values of a comma-separated field over all its lines.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.values(name).flat_map(header::split_list)
    }

    fn name(&self, field: &Field) -> &[u8] {
        match self.part(&field.name) {
            [letter] => header::in_full(*letter).map_or(self.part(&field.name), str::as_bytes),
            name => name,
        }
    }

    fn part(&self, range: &Range<u32>) -> &[u8] {
        self.text.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}

/// What is in it, however it was written: names in lower case.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        f.debug_list()
            .entries(self.iter().map(|(name, value)| (text(&name.to_ascii_lowercase()), text(value))))
            .finish()
    }
}
