use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of an account in this server. The account is in the configuration, or another account created it by REST. A
/// clone shares the text.
///
/// A name is made where text enters the server: from the configuration, a database row or a request. A name becomes text
/// where the text leaves the server: SQL, JSON, a path or a log line. In JSON and in the configuration, a name is a plain
/// string.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountName(Arc<str>);

impl AccountName {
    /// Creates a name from text of the configuration, the database or a request.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The owner of data that belongs to the server and to no account: calls before an account is known, messages of
    /// unknown senders, and settings of the operator. Its text is empty. No account has this name. The default is this
    /// name.
    pub fn server() -> Self {
        Self::default()
    }

    /// Whether this is [`AccountName::server`]. In the configuration file, this is also an account that is left out.
    pub fn is_server(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of the name, for SQL, JSON, a path or a log line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for AccountName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for AccountName {
    fn eq(&self, text: &str) -> bool {
        *self.0 == *text
    }
}

impl PartialEq<&str> for AccountName {
    fn eq(&self, text: &&str) -> bool {
        *self.0 == **text
    }
}

impl fmt::Display for AccountName {
    /// Writes the text of the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

impl fmt::Debug for AccountName {
    /// Writes the text of the name in quotation marks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_map_of_names_is_asked_with_text() {
        let map = HashMap::from([(AccountName::new("acme"), 7)]);
        assert_eq!(map.get("acme"), Some(&7));
        assert_eq!(map.get(""), None);
    }

    #[test]
    fn only_the_server_has_an_empty_name() {
        assert!(AccountName::server().is_server());
        assert!(!AccountName::new("acme").is_server());
        assert_eq!(AccountName::server(), AccountName::new(""));
    }
}
