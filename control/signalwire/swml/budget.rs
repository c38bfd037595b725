//! The budget of a script: the work that the script may do between two actions of its call.
//!
//! A script pays for every operation before the operation runs. The price is the size of the arguments and of the
//! result. One unit is about one octet that is copied or compared, and takes about a nanosecond. So the budget bounds
//! the time and the memory of a run, whatever the script does.

use std::cell::Cell;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// Maximum work between two actions of the call, in units.
pub(super) const BUDGET: usize = 4_000_000;
/// The price of one step: a step of a document, a node of an expression, or a jump.
pub(super) const STEP: usize = 50;
/// The price of one octet of an expression, in addition to the prices of the expression's nodes.
pub(super) const PARSED_OCTET: usize = 100;
/// The price of one octet of a YAML document, and of one mark that begins a part of the document.
const YAML: (usize, usize) = (40, 150);
/// The same for JSON.
const JSON: (usize, usize) = (2, STEP);

/// The rest of a script's budget.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Budget {
    left: Cell<usize>,
}

/// The script wants to do more work than its budget allows. After this error, the budget is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Exhausted;

impl Default for Budget {
    fn default() -> Self {
        Self { left: Cell::new(BUDGET) }
    }
}

impl Budget {
    /// Pays for work.
    ///
    /// # Errors
    /// There is not enough left for this work.
    pub(super) fn spend(&self, units: usize) -> Result<(), Exhausted> {
        let left = self.left.get().checked_sub(units);
        self.left.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Exhausted)
    }

    /// Starts a new run with a full budget.
    pub(super) fn renew(&self) {
        self.left.set(BUDGET);
    }

    /// The units that are left. If the script wanted too much, this is 0.
    pub(super) fn left(&self) -> usize {
        self.left.get()
    }

    /// Pays for parsing a text in JSON. A text of many small values is dearer than a text of a few large values.
    ///
    /// # Errors
    /// There is not enough left for this work.
    pub(super) fn parse_json(&self, text: &[u8]) -> Result<(), Exhausted> {
        self.parse(text, b",:[{", JSON)
    }

    /// Pays for parsing a text in YAML.
    ///
    /// # Errors
    /// There is not enough left for this work.
    pub(super) fn parse_yaml(&self, text: &[u8]) -> Result<(), Exhausted> {
        self.parse(text, b",:[{-?!&*\n", YAML)
    }

    fn parse(&self, text: &[u8], marks: &[u8], (octet, mark): (usize, usize)) -> Result<(), Exhausted> {
        self.spend(text.len().saturating_mul(octet))?;
        self.spend(text.iter().filter(|octet| marks.contains(octet)).count().saturating_mul(mark))
    }
}

/// A text that pays for each octet before the octet is written.
pub(super) struct PaidText<'a> {
    text: String,
    budget: &'a Budget,
}

impl<'a> PaidText<'a> {
    pub(super) fn new(budget: &'a Budget) -> Self {
        Self { text: String::new(), budget }
    }

    pub(super) fn push(&mut self, text: &str) -> Result<(), Exhausted> {
        // An empty text has a price too, because a loop may write many of them.
        self.budget.spend(text.len() + 4)?;
        self.text.push_str(text);
        Ok(())
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl fmt::Write for PaidText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text).map_err(|Exhausted| fmt::Error)
    }
}

impl io::Write for PaidText<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(octets).map_err(io::Error::other)?;
        self.push(text).map_err(|Exhausted| io::Error::other("no budget"))?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_refused_after_the_budget_is_spent() {
        let budget = Budget::default();
        assert_eq!(budget.spend(BUDGET - 1), Ok(()));
        assert_eq!((budget.spend(2), budget.left()), (Err(Exhausted), 0));
        assert_eq!(budget.spend(1), Err(Exhausted));
        budget.renew();
        assert_eq!(budget.left(), BUDGET);
        assert_eq!(budget.spend(usize::MAX), Err(Exhausted));
    }

    #[test]
    fn a_text_beyond_the_budget_is_truncated() {
        let budget = Budget::default();
        let mut text = PaidText::new(&budget);
        let piece = "x".repeat(1_000_000);
        let written = (0..100).take_while(|_| text.push(&piece).is_ok()).count();
        assert_eq!((written, text.into_text().len()), (3, 3_000_000));
    }
}
