//! Pages of a list: `page[number]`, `page[size]`, and the `meta` object of the answer.

use serde_json::{Value, json};

use super::error::ApiError;

const LARGEST: usize = 250;

/// The requested page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Paging {
    /// Number of the page, from 1.
    pub(super) number: usize,
    /// Rows per page, 1 to 250.
    pub(super) size: usize,
}

impl Default for Paging {
    fn default() -> Self {
        Self { number: 1, size: 20 }
    }
}

impl Paging {
    /// Parses the page parameters of a query.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut paging = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            paging.takes(&name, &value)?;
        }
        Ok(paging)
    }

    /// Parses one parameter of a query. Returns `false` if the parameter is not a page parameter.
    pub(super) fn takes(&mut self, name: &str, value: &str) -> Result<bool, ApiError> {
        match name {
            "page[number]" => self.number = number(name, value, usize::MAX / LARGEST)?,
            "page[size]" => self.size = number(name, value, LARGEST)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Number of rows before this page.
    pub(super) fn offset(self) -> usize {
        self.number.saturating_sub(1).saturating_mul(self.size)
    }

    /// The `meta` of a list with `total` rows.
    pub(super) fn meta(self, total: usize) -> Value {
        json!({
            "page_number": self.number,
            "page_size": self.size,
            "total_pages": total.div_ceil(self.size),
            "total_results": total,
        })
    }
}

fn number(name: &str, value: &str, max: usize) -> Result<usize, ApiError> {
    let number = value.parse().ok().filter(|number| (1..=max).contains(number));
    let high = i64::try_from(max).unwrap_or(i64::MAX);
    number.ok_or_else(|| ApiError::out_of_range(name, 1, high).in_query(name))
}
