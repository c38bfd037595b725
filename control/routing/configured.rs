//! The numbers of the configuration file, with an index. A call finds its number without a search through all numbers,
//! because a file may have 100,000 numbers.

use std::collections::HashMap;
use std::sync::Arc;

use tandem_call::program::instruction::Program;
use tandem_id::AccountName;
use tandem_settings::{Application, NumberConfig};

/// A number of the file, and its document if the file contains the document.
pub(crate) type ConfiguredNumber = (NumberConfig, Option<Program>);

/// All numbers of the file. The file has each number and each prefix at most once (the crate `config` checks this).
#[derive(Debug, Default)]
pub(crate) struct ConfiguredNumbers {
    all: Vec<ConfiguredNumber>,
    /// The places in `all` of complete numbers.
    exact: HashMap<Arc<str>, usize>,
    /// The places in `all` of prefixes.
    prefixes: HashMap<Arc<str>, usize>,
    /// Length of the longest prefix in octets.
    longest_prefix: usize,
    of_account: HashMap<AccountName, Vec<usize>>,
}

impl ConfiguredNumbers {
    pub(crate) fn new(all: Vec<ConfiguredNumber>) -> Self {
        let mut index = Self::default();
        for (place, (one, _)) in all.iter().enumerate() {
            let text = Arc::clone(one.number.text());
            if one.number.exact().is_some() {
                index.exact.insert(text, place);
            } else {
                index.longest_prefix = index.longest_prefix.max(text.len());
                index.prefixes.insert(text, place);
            }
            index.of_account.entry(one.account.clone()).or_default().push(place);
        }
        Self { all, ..index }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &NumberConfig> {
        self.all.iter().map(|(number, _)| number)
    }

    /// Returns the entry of a complete number.
    pub(crate) fn exact(&self, number: &str) -> Option<&NumberConfig> {
        self.exact.get(number).and_then(|place| self.all.get(*place)).map(|(number, _)| number)
    }

    /// Returns the entries that match `user`, best match first: the number itself, and then the prefixes, longest
    /// prefix first.
    pub(crate) fn fitting<'a>(&'a self, user: &str) -> impl Iterator<Item = &'a ConfiguredNumber> {
        let ends = (0..=user.len().min(self.longest_prefix)).rev();
        let prefixes = ends.filter_map(|end| self.prefixes.get(user.get(..end)?));
        self.exact.get(user).into_iter().chain(prefixes).filter_map(|place| self.all.get(*place))
    }

    /// Returns the entries of an account, in the order of the file.
    pub(crate) fn of_account(&self, account: &AccountName) -> impl Iterator<Item = &NumberConfig> {
        let places = self.of_account.get(account).into_iter().flatten();
        places.filter_map(|place| self.all.get(*place)).map(|(number, _)| number)
    }
}

/// The applications of the file, by their ids.
#[derive(Debug, Default)]
pub(crate) struct ConfiguredApplications {
    all: Arc<Vec<Application>>,
    by_id: HashMap<Arc<str>, usize>,
}

impl ConfiguredApplications {
    pub(crate) fn new(all: Arc<Vec<Application>>) -> Self {
        let by_id = all.iter().enumerate().map(|(place, one)| (Arc::clone(&one.id), place)).collect();
        Self { all, by_id }
    }

    pub(crate) fn all(&self) -> &[Application] {
        &self.all
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Application> {
        self.by_id.get(id).and_then(|place| self.all.get(*place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(patterns: &[(&str, &str)]) -> ConfiguredNumbers {
        let number = |(number, account): &(&str, &str)| {
            let number = serde_json::json!({ "number": number, "account": account, "voice_url": "http://file/" });
            (serde_json::from_value(number).unwrap(), None)
        };
        ConfiguredNumbers::new(patterns.iter().map(number).collect())
    }

    #[test]
    fn the_index_finds_the_same_number_as_a_linear_search() {
        let file = [
            ("*", "a"),
            ("+1*", "b"),
            ("+1555*", "a"),
            ("+15551230001", "c"),
            ("+15551230001*", "a"),
            ("100", "b"),
            ("+41*", "c"),
        ];
        let index = numbers(&file);
        for user in ["+15551230001", "+155512300012", "+15559", "+14", "100", "1000", "", "+", "+4122", "é1", "+1555é"]
        {
            let mut all: Vec<_> = index.iter().filter_map(|one| Some((one.number.fits(user)?, one))).collect();
            all.sort_by_key(|(fit, _)| std::cmp::Reverse(*fit));
            let searched: Vec<_> = all.into_iter().map(|(_, one)| one.number.to_string()).collect();
            let found: Vec<_> = index.fitting(user).map(|(one, _)| one.number.to_string()).collect();
            assert_eq!(found, searched, "{user}");
        }
        let own: Vec<_> = index.of_account(&AccountName::new("a")).map(|one| one.number.to_string()).collect();
        assert_eq!(own, ["*", "+1555*", "+15551230001*"]);
        assert_eq!(index.exact("+15551230001").unwrap().account, "c");
        assert!(index.exact("+1").is_none() && index.of_account(&AccountName::new("nobody")).next().is_none());
    }
}
