//! Pages of a list: `page[number]`, `page[size]`, and the `meta` of the answer.

use serde_json::{Value, json};

use super::error::ApiError;

const LARGEST: usize = 250;

/// Which part of a list is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Paging {
    /// From 1.
    pub(super) number: usize,
    /// How many rows, 1 to 250.
    pub(super) size: usize,
}

impl Default for Paging {
    fn default() -> Self {
        Self { number: 1, size: 20 }
    }
}

impl Paging {
    /// What a query says of pages.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut paging = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            paging.takes(&name, &value)?;
        }
        Ok(paging)
    }

    /// Takes one parameter of a query; `false` if it says nothing of pages.
    pub(super) fn takes(&mut self, name: &str, value: &str) -> Result<bool, ApiError> {
        match name {
            "page[number]" => self.number = number(name, value, usize::MAX / LARGEST)?,
            "page[size]" => self.size = number(name, value, LARGEST)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How many rows are before it.
    pub(super) fn offset(self) -> usize {
        self.number.saturating_sub(1).saturating_mul(self.size)
    }

    /// What a list of so many rows says of itself.
    pub(super) fn meta(self, total: usize) -> Value {
        json!({
            "page_number": self.number,
            "page_size": self.size,
            "total_pages": total.div_ceil(self.size),
            "total_results": total,
        })
    }
}

fn number(name: &str, value: &str, most: usize) -> Result<usize, ApiError> {
    let number = value.parse().ok().filter(|number| (1..=most).contains(number));
    let high = i64::try_from(most).unwrap_or(i64::MAX);
    number.ok_or_else(|| ApiError::out_of_range(name, 1, high).in_query(name))
}
