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
