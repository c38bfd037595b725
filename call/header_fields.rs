//! Header fields of a leg's signalling.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// Names and values of header fields, in the order of the message. Upper and lower case of a name are the same (RFC 3261
/// §7.3.1). A protocol without header fields drops them, or carries them in another form.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeaderFields(Vec<(String, String)>);

impl HeaderFields {
    /// Creates a list without header fields.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns whether there are no header fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the values of the header fields with this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Adds a header field at the end.
    pub fn push(&mut self, field: (String, String)) {
        self.0.push(field);
    }

    /// Moves all header fields of `other` to the end of this list.
    pub fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// Keeps only the header fields for which `keeps` returns true.
    pub fn retain(&mut self, keeps: impl FnMut(&(String, String)) -> bool) {
        self.0.retain(keeps);
    }
}

impl Deref for HeaderFields {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<Vec<(String, String)>> for HeaderFields {
    fn from(fields: Vec<(String, String)>) -> Self {
        Self(fields)
    }
}

impl<const N: usize> From<[(String, String); N]> for HeaderFields {
    fn from(fields: [(String, String); N]) -> Self {
        Self(fields.into())
    }
}

impl FromIterator<(String, String)> for HeaderFields {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

impl Extend<(String, String)> for HeaderFields {
    fn extend<I: IntoIterator<Item = (String, String)>>(&mut self, fields: I) {
        self.0.extend(fields);
    }
}

impl IntoIterator for HeaderFields {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a HeaderFields {
    type Item = &'a (String, String);
    type IntoIter = std::slice::Iter<'a, (String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_field_is_found_in_any_case() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fields = HeaderFields::from([field("X-Order", "7"), field("Via", "a"), field("x-order", "8")]);
        assert_eq!(fields.named("X-ORDER").collect::<Vec<_>>(), ["7", "8"]);
        assert_eq!(fields.named("Order").next(), None);
    }
}
