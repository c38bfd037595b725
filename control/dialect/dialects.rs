//! The dialects of this server.

use std::sync::Arc;

use foldhash::HashMap;
use tandem_id::LegId;

use crate::Dialect;

/// The dialects, by name.
#[derive(Clone, Default)]
pub struct Dialects(HashMap<&'static str, Arc<dyn Dialect>>);

impl Dialects {
    /// Creates the table from the dialects.
    pub fn new(dialects: impl IntoIterator<Item = Arc<dyn Dialect>>) -> Self {
        Self(dialects.into_iter().map(|dialect| (dialect.name(), dialect)).collect())
    }

    /// Returns the leg with this call id. The call id may have the form of any provider.
    pub fn parse_call_id(&self, text: &str) -> Option<LegId> {
        self.0.values().find_map(|dialect| dialect.parse_call_id(text))
    }

    /// Returns the name of the dialect that recognises this document as its own.
    pub fn of_document(&self, body: &[u8]) -> Option<&'static str> {
        let own = |dialect: &&Arc<dyn Dialect>| dialect.documents().is_some_and(|documents| documents.recognises(body));
        self.0.values().find(own).map(|dialect| dialect.name())
    }

    /// Returns the dialect with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Dialect>> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use crate::fake::dialects;

    use super::*;

    #[test]
    fn a_call_id_in_the_form_of_any_dialect_finds_its_leg() {
        let dialects = dialects();
        assert_eq!(dialects.parse_call_id("a7"), Some(LegId(7)));
        assert_eq!(dialects.parse_call_id("b8"), Some(LegId(8)));
        assert_eq!(dialects.parse_call_id("c9"), None);
    }

    #[test]
    fn a_document_belongs_to_the_dialect_that_recognises_it() {
        let dialects = dialects();
        assert_eq!(dialects.of_document(b"b: answer"), Some("b"));
        assert_eq!(dialects.of_document(b"<Response/>"), None);
    }

    #[test]
    fn a_dialect_is_found_by_its_exact_name() {
        let dialects = dialects();
        assert_eq!(dialects.get("b").map(|dialect| dialect.name()), Some("b"));
        assert!(dialects.get("B").is_none() && Dialects::default().get("a").is_none());
    }
}
