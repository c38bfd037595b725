//! The representation of values in columns. Both databases use the same representation.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;
use tandem_id::AccountName;

use super::StoreError;

/// Converts an id to 32 lower-case hexadecimal digits.
pub(super) fn hex(id: u128) -> String {
    tandem_id::LegId(id).to_string()
}

/// Converts a time to microseconds since 1970 UTC.
pub(super) fn microseconds(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A row from which columns are read by name.
pub(super) struct Columns<'r>(pub(super) &'r AnyRow);

impl Columns<'_> {
    pub(super) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn account(&self) -> Result<AccountName, StoreError> {
        Ok(AccountName::new(self.text("account")?))
    }

    pub(super) fn optional_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn optional_integer(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn id(&self, column: &'static str) -> Result<u128, StoreError> {
        parse_id(column, &self.text(column)?)
    }

    pub(super) fn optional_id(&self, column: &'static str) -> Result<Option<u128>, StoreError> {
        self.optional_text(column)?.map(|text| parse_id(column, &text)).transpose()
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        parse_time(column, self.integer(column)?)
    }

    pub(super) fn optional_time(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        self.optional_integer(column)?.map(|value| parse_time(column, value)).transpose()
    }
}

fn parse_id(column: &'static str, text: &str) -> Result<u128, StoreError> {
    u128::from_str_radix(text, 16).map_err(|_| StoreError::Corrupt { column, value: text.to_owned() })
}

fn parse_time(column: &'static str, value: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(value).map_err(|_| StoreError::Corrupt { column, value: value.to_string() })
}
