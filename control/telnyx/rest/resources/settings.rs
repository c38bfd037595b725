//! The settings of each resource, as Telnyx publishes them. This module checks the settings of a request. For a setting
//! without a value, this module shows the default.
//!
//! tests/sdk/conformance/telnyx_settings.py generates the table.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::error::ApiError;
use super::super::parameters::{Parameters, WEB};

/// Maximum number of characters in a text. Also the maximum number of items in an array.
const LONGEST: usize = 2_000;
const MAX_ITEMS: usize = 250;

type Settings = HashMap<String, Setting>;

static TABLE: LazyLock<HashMap<String, Settings>> =
    LazyLock::new(|| serde_json::from_str(include_str!("settings.json")).unwrap_or_default());

#[derive(Deserialize)]
struct Setting {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(default)]
    required: bool,
    /// The allowed values.
    words: Option<Vec<Value>>,
    min: Option<i64>,
    max: Option<i64>,
    shortest: Option<usize>,
    longest: Option<usize>,
    #[serde(default)]
    default: Value,
    /// The members of an object.
    #[serde(default)]
    members: Settings,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    String,
    Url,
    Integer,
    Number,
    Boolean,
    /// An array of strings.
    Array,
    Object,
}

/// Merges the settings of a request into `kept`. An absent member is unchanged. `null` restores the default. A member
/// that Telnyx does not publish is ignored.
pub(super) fn take(resource: &str, given: Parameters<'_>, kept: &mut Map<String, Value>) -> Result<(), ApiError> {
    TABLE.get(resource).map_or(Ok(()), |settings| take_members(settings, given, kept))
}

/// Checks that a new resource has all required settings.
pub(super) fn check_required(resource: &str, kept: &Map<String, Value>) -> Result<(), ApiError> {
    let blank =
        |name: &str| kept.get(name).is_none_or(|value| value.as_str().is_some_and(|text| text.trim().is_empty()));
    let mut missing: Vec<&str> = TABLE
        .get(resource)
        .into_iter()
        .flatten()
        .filter(|(name, one)| one.required && blank(name))
        .map(|(name, _)| name.as_str())
        .collect();
    missing.sort_unstable();
    missing.first().map_or(Ok(()), |name| Err(ApiError::missing(name)))
}

/// All settings of a resource. A setting without a stored value has its default.
pub(super) fn show(resource: &str, kept: &Map<String, Value>) -> Map<String, Value> {
    TABLE.get(resource).map(|settings| show_members(settings, kept)).unwrap_or_default()
}

fn take_members(settings: &Settings, given: Parameters<'_>, kept: &mut Map<String, Value>) -> Result<(), ApiError> {
    for (name, value) in given.0 {
        let Some(setting) = settings.get(name) else { continue };
        match value {
            Value::Null => {
                kept.remove(name);
            }
            Value::Object(members) if setting.kind == Kind::Object => {
                let mut within = kept.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
                let taken = take_members(&setting.members, Parameters(members), &mut within);
                taken.map_err(|error| error.within(name))?;
                kept.insert(name.clone(), Value::Object(within));
            }
            value => {
                setting.check(name, value, given)?;
                kept.insert(name.clone(), value.clone());
            }
        }
    }
    Ok(())
}

fn show_members(settings: &Settings, kept: &Map<String, Value>) -> Map<String, Value> {
    let shown = |(name, setting): (&String, &Setting)| {
        let value = match (setting.kind, kept.get(name)) {
            (Kind::Object, within) => {
                let nothing = Map::new();
                Value::Object(show_members(&setting.members, within.and_then(Value::as_object).unwrap_or(&nothing)))
            }
            (_, Some(value)) => value.clone(),
            (Kind::Array, None) if setting.default.is_null() => Value::Array(Vec::new()),
            (_, None) => setting.default.clone(),
        };
        (name.clone(), value)
    };
    settings.iter().map(shown).collect()
}

impl Setting {
    fn check(&self, name: &str, value: &Value, given: Parameters<'_>) -> Result<(), ApiError> {
        let wrong_type = |expected: &str| ApiError::wrong_type(name, expected);
        match self.kind {
            Kind::Boolean if !value.is_boolean() => return Err(wrong_type("boolean")),
            Kind::Object => return Err(wrong_type("object")),
            Kind::Integer if !value.is_i64() => return Err(wrong_type("integer")),
            Kind::Number if !value.is_number() => return Err(wrong_type("number")),
            Kind::String | Kind::Url => {
                let text = value.as_str().ok_or_else(|| wrong_type("string"))?;
                let (low, high) = (self.shortest.unwrap_or(0), self.longest.unwrap_or(LONGEST));
                if !(low..=high).contains(&text.chars().count()) {
                    return Err(ApiError::wrong_length(name, low, high));
                }
                if self.kind == Kind::Url && !text.is_empty() {
                    given.url(name, WEB)?;
                }
            }
            Kind::Array => {
                let items = value.as_array().ok_or_else(|| wrong_type("array"))?;
                let fits = |item: &Value| item.as_str().is_some_and(|text| text.chars().count() <= LONGEST);
                if items.len() > MAX_ITEMS || !items.iter().all(fits) {
                    let detail = format!("The '{name}' parameter must be an array of at most {MAX_ITEMS} strings.");
                    return Err(ApiError::bad_value(name, detail));
                }
            }
            _ => {}
        }
        if let Some(number) = value.as_i64() {
            let (low, high) = (self.min.unwrap_or(0), self.max.unwrap_or(i64::from(u32::MAX)));
            if !(low..=high).contains(&number) {
                return Err(ApiError::out_of_range(name, low, high));
            }
        }
        let known = |word: &Value| self.words.as_ref().is_none_or(|words| words.contains(word));
        let fits = match value {
            Value::Array(items) => items.iter().all(known),
            one => known(one),
        };
        if !fits {
            let words: Vec<&str> = self.words.iter().flatten().filter_map(Value::as_str).collect();
            return Err(ApiError::not_one_of(name, &words));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const APPLICATION: &str = "call_control_application";

    fn taken(given: Value, kept: Value) -> Result<Map<String, Value>, (u32, Value)> {
        let mut kept = kept.as_object().cloned().unwrap();
        let given = given.as_object().cloned().unwrap();
        let wrong = |error: ApiError| (error.code, Value::from(&error)["errors"][0]["source"]["pointer"].clone());
        take(APPLICATION, Parameters(&given), &mut kept).map_err(wrong)?;
        Ok(kept)
    }

    #[test]
    fn the_table_has_every_resource() {
        assert_eq!(TABLE.len(), 10);
        assert!(TABLE.values().all(|settings| !settings.is_empty()));
    }

    #[test]
    fn an_absent_setting_stays_and_null_restores_its_default() {
        let kept =
            json!({"application_name": "one", "active": false, "inbound": {"channel_limit": 3, "sip_subdomain": "a"}});
        let given = json!({"active": null, "inbound": {"channel_limit": 5}, "unknown": 1});
        let now = taken(given, kept).unwrap();
        assert_eq!(
            Value::Object(now.clone()),
            json!({"application_name": "one", "inbound": {"channel_limit": 5, "sip_subdomain": "a"}})
        );
        let shown = Value::Object(show(APPLICATION, &now));
        assert_eq!((&shown["active"], &shown["inbound"]["channel_limit"]), (&json!(true), &json!(5)));
        assert_eq!((&shown["outbound"]["channel_limit"], &shown["dtmf_type"]), (&Value::Null, &json!("RFC 2833")));
    }

    #[test]
    fn an_invalid_setting_is_refused_with_its_pointer() {
        let refused = |given: Value| taken(given, json!({})).unwrap_err();
        for (given, code, pointer) in [
            (json!({"active": "yes"}), 10026, "/active"),
            (json!({"webhook_timeout_secs": 31}), 10033, "/webhook_timeout_secs"),
            (json!({"webhook_timeout_secs": 1.5}), 10026, "/webhook_timeout_secs"),
            (json!({"dtmf_type": "Smoke"}), 10032, "/dtmf_type"),
            (json!({"webhook_event_url": "nowhere"}), 10003, "/webhook_event_url"),
            (json!({"application_name": "x".repeat(2_001)}), 10025, "/application_name"),
            (json!({"inbound": []}), 10026, "/inbound"),
            (json!({"inbound": {"channel_limit": -1}}), 10033, "/inbound/channel_limit"),
        ] {
            assert_eq!(refused(given.clone()), (code, json!(pointer)), "{given}");
        }
        let error =
            check_required(APPLICATION, &taken(json!({"application_name": " "}), json!({})).unwrap()).unwrap_err();
        assert_eq!(error.code, 10004);
    }
}
