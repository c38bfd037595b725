//! Lists of resources. This module applies the query parameters `filter[...]`, `sort` and `page[...]` to the JSON of
//! the resources.

use axum::Json;
use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::paging::Paging;

/// The parsed query of a list.
#[derive(Debug, Default)]
pub(in super::super) struct Listing {
    paging: Paging,
    /// The filters. Each filter has a field, an operation and a value. The operation is a word such as `contains`, or
    /// an empty text.
    filters: Vec<(String, String, String)>,
    sort: Option<String>,
}

/// The filters and sort keys of a list. Each entry has the name in the query, and the JSON pointer (RFC 6901) of the
/// value in the resource.
pub(in super::super) struct ListFields {
    /// Names for `filter[NAME]`.
    pub(in super::super) filters: &'static [(&'static str, &'static str)],
    /// Names for `sort=NAME` and `sort=-NAME`. A `-` before the name means descending order. The first entry is the
    /// default order. This entry may begin with `-`.
    pub(in super::super) sorts: &'static [(&'static str, &'static str)],
}

impl Listing {
    /// Parses a query. Unknown parameters are ignored.
    pub(in super::super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut listing = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if listing.paging.takes(&name, &value)? {
                continue;
            }
            if &*name == "sort" {
                listing.sort = Some(value.into_owned());
            } else if let Some(rest) = name.strip_prefix("filter[") {
                let (field, operation) = rest.split_once(']').unwrap_or((rest, ""));
                let operation = operation.trim_start_matches('[').trim_end_matches(']');
                listing.filters.push((field.to_owned(), operation.to_owned(), value.into_owned()));
            }
        }
        Ok(listing)
    }

    /// The body of the answer: one page of the matching rows, sorted.
    pub(in super::super) fn answer(self, mut rows: Vec<Value>, by: &ListFields) -> Result<Json<Value>, ApiError> {
        let mut fields: Vec<&str> = self.filters.iter().map(|(field, ..)| field.as_str()).collect();
        fields.dedup();
        for field in fields {
            let name = || format!("filter[{field}]");
            let known = by.filters.iter().find(|(known, _)| *known == field);
            let (_, pointer) = known.ok_or_else(|| ApiError::not_permitted(&name()).in_query(&name()))?;
            let filters: Vec<_> = self.filters.iter().filter(|(other, ..)| other == field).collect();
            if let Some((_, operation, _)) =
                filters.iter().find(|(_, operation, _)| !OPERATIONS.contains(&operation.as_str()))
            {
                return Err(ApiError::not_one_of(operation, &OPERATIONS[2..]).in_query(&name()));
            }
            // A row matches if one of the filter's values matches.
            let fits = |row: &Value| {
                let value = row.pointer(pointer).unwrap_or(&Value::Null);
                filters.iter().any(|(_, operation, operand)| fits(value, operation, operand))
            };
            rows.retain(fits);
        }
        let sort = self.sort.as_deref().or_else(|| by.sorts.first().map(|(name, _)| *name)).unwrap_or_default();
        let plain = sort.trim_start_matches('-');
        let known = by.sorts.iter().find(|(name, _)| name.trim_start_matches('-') == plain);
        let Some((_, pointer)) = known else {
            let names: Vec<&str> = by.sorts.iter().map(|(name, _)| *name).collect();
            return Err(ApiError::not_one_of("sort", &names).in_query("sort"));
        };
        rows.sort_by_cached_key(|row| order(row.pointer(pointer)));
        if sort.starts_with('-') {
            rows.reverse();
        }
        let meta = self.paging.meta(rows.len());
        let page: Vec<Value> = rows.into_iter().skip(self.paging.offset()).take(self.paging.size).collect();
        Ok(Json(json!({ "data": page, "meta": meta })))
    }
}

/// The operations of a filter: `filter[x]=`, `filter[x][]=`, and `filter[x][word]=`.
const OPERATIONS: [&str; 6] = ["", "[", "eq", "contains", "starts_with", "ends_with"];

fn fits(value: &Value, operation: &str, operand: &str) -> bool {
    match value {
        Value::Array(several) => several.iter().any(|one| fits(one, operation, operand)),
        Value::Null => operand.is_empty() || operand == "null",
        Value::Bool(on) => operand.parse() == Ok(*on),
        Value::Number(number) => operand.parse() == Ok(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => {
            let (text, lower) = (text.to_lowercase(), operand.to_lowercase());
            match operation {
                "contains" => text.contains(&lower),
                "starts_with" => text.starts_with(&lower),
                "ends_with" => text.ends_with(&lower),
                _ => text == lower,
            }
        }
        Value::Object(_) => false,
    }
}

/// Returns a key by which values are sorted. An absent value and null come first, then `true`, then `false`, then
/// strings. Upper-case and lower-case letters are equal.
fn order(value: Option<&Value>) -> (u8, String) {
    match value {
        None | Some(Value::Null) => (0, String::new()),
        Some(Value::Bool(on)) => (1, u8::from(!on).to_string()),
        Some(Value::String(text)) => (2, text.to_lowercase()),
        Some(other) => (3, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST_FIELDS: ListFields = ListFields {
        filters: &[("name", "/name"), ("tag", "/tags"), ("voice.limit", "/voice/limit")],
        sorts: &[("-name", "/name"), ("on", "/on")],
    };

    fn listed(query: &str) -> Result<Vec<String>, u32> {
        let row = |name: &str, on: bool, limit: u32, tags: &[&str]| json!({"name": name, "on": on, "voice": {"limit": limit}, "tags": tags});
        let rows = vec![row("Anna", true, 1, &["a", "b"]), row("berta", false, 2, &["b"]), row("Cesar", true, 2, &[])];
        let answer =
            Listing::parse(query).and_then(|listing| listing.answer(rows, &LIST_FIELDS)).map_err(|error| error.code)?;
        Ok(answer.0["data"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn rows_are_filtered_sorted_and_paged() {
        assert_eq!(listed("").unwrap(), ["Cesar", "berta", "Anna"]);
        assert_eq!(listed("sort=name&page[size]=2").unwrap(), ["Anna", "berta"]);
        assert_eq!(listed("sort=name&page[size]=2&page[number]=2").unwrap(), ["Cesar"]);
        assert_eq!(listed("sort=on").unwrap(), ["Anna", "Cesar", "berta"]);
        assert_eq!(listed("filter[name][contains]=ER").unwrap(), ["berta"]);
        assert_eq!(listed("filter[name]=anna").unwrap(), ["Anna"]);
        assert_eq!(listed("filter[name][]=anna&filter[name][]=cesar").unwrap(), ["Cesar", "Anna"]);
        assert_eq!(listed("filter[tag]=b&filter[voice.limit]=2").unwrap(), ["berta"]);
        assert_eq!(listed("filter[name][starts_with]=c&other=1").unwrap(), ["Cesar"]);
    }

    #[test]
    fn unknown_filters_and_sorts_and_large_pages_are_refused() {
        assert_eq!(listed("filter[age]=7"), Err(10038));
        assert_eq!(listed("filter[name][sounds_like]=x"), Err(10032));
        assert_eq!(listed("sort=age"), Err(10032));
        assert_eq!(listed("page[size]=251"), Err(10033));
    }
}
