//! The exact written form of a value. JSON has no `undefined`, no `NaN` and no infinity, and its readers round
//! fractions. Fields of the types [`Value`] and [`Object`] have this form by `#[serde(with = "written")]`.
//!
//! | value | written form |
//! |---|---|
//! | `null`, booleans, lists, objects (with the order of their keys) | as in JSON |
//! | integers that JSON has exactly | as in JSON |
//! | other numbers | `"~1.5"`, `"~NaN"`, `"~inf"` |
//! | `undefined` | `"~"` |
//! | a text that begins with `~` | the text after one more `~` |
//! | other texts | as in JSON |

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::value::{Object, Value, whole};

/// The first character of a text that is not written as in JSON.
const ESCAPE: char = '~';

/// A value or an object in the written form.
pub(super) struct Written<T>(pub(super) T);

/// Writes a value as a text.
pub(super) fn text(value: &Value) -> String {
    // A value has no part that JSON cannot have. So this cannot fail.
    serde_json::to_string(&Written(value)).unwrap_or_default()
}

impl Serialize for Written<&Value> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Undefined => serializer.serialize_char(ESCAPE),
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Number(number) => match whole(*number).filter(|whole| *whole != 0 || number.is_sign_positive()) {
                Some(whole) => serializer.serialize_i64(whole),
                None => serializer.collect_str(&format_args!("{ESCAPE}{number:?}")),
            },
            Value::Text(text) if text.starts_with(ESCAPE) => serializer.collect_str(&format_args!("{ESCAPE}{text}")),
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(items) => serializer.collect_seq(items.iter().map(Written)),
            Value::Object(object) => Written(object).serialize(serializer),
        }
    }
}

impl Serialize for Written<&Object> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, Written(value))))
    }
}

impl<'de> Deserialize<'de> for Written<Value> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        restored(value).map(Self).ok_or_else(|| D::Error::custom("a text after ~ is not a number"))
    }
}

impl<'de> Deserialize<'de> for Written<Object> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::<Value>::deserialize(deserializer)?.0 {
            Value::Object(object) => Ok(Self(object)),
            _ => Err(D::Error::custom("not an object")),
        }
    }
}

/// Converts what a reader of JSON has read to the value that was written. `None` if this was not written here.
fn restored(value: Value) -> Option<Value> {
    Some(match value {
        Value::Text(text) => match text.strip_prefix(ESCAPE) {
            None => Value::Text(text),
            Some("") => Value::Undefined,
            Some(text) if text.starts_with(ESCAPE) => Value::from(text),
            Some(number) => Value::Number(number.parse().ok()?),
        },
        Value::List(items) => Value::List(items.into_iter().map(restored).collect::<Option<_>>()?),
        Value::Object(object) => {
            let members = object.into_iter().map(|(key, value)| Some((key, restored(value)?)));
            Value::Object(members.collect::<Option<Vec<_>>>()?.into_iter().collect())
        }
        other => other,
    })
}

/// Writes a field that is a value or an object.
pub(super) fn serialize<'a, T, S>(value: &'a T, serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    Written<&'a T>: Serialize,
{
    Written(value).serialize(serializer)
}

/// Reads a field that is a value or an object.
pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    Written<T>: Deserialize<'de>,
{
    Written::<T>::deserialize(deserializer).map(|written| written.0)
}

pub(super) mod http_method {
    use http::Method;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(method.as_str())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_read_as_it_was_written() {
        let numbers = [0.0, -0.0, 1.0, -7.0, 0.1 + 0.2, 1e300, 5e-324, 9_007_199_254_740_993.0, f64::INFINITY];
        let texts = ["", "~", "~~", "~1", "a", "NaN", "\u{0}\"\\"];
        let plain = [Value::Undefined, Value::Null, Value::Bool(true), Value::Number(f64::NEG_INFINITY)];
        let object: Object =
            [("z", Value::Undefined), ("~", Value::List(vec![Value::Null])), ("a", Value::Null)].into_iter().collect();
        let all: Vec<Value> = numbers
            .map(Value::Number)
            .into_iter()
            .chain(texts.map(Value::from))
            .chain(plain)
            .chain([Value::Object(object), Value::Object(Object::default()), Value::List(Vec::new())])
            .collect();
        let all = Value::List(all);
        let octets = text(&all);
        let read: Written<Value> = serde_json::from_str(&octets).unwrap();
        assert_eq!((&read.0, text(&read.0)), (&all, octets));
        let negative_zero: Written<Value> = serde_json::from_str(&text(&Value::Number(-0.0))).unwrap();
        assert!(matches!(negative_zero.0, Value::Number(zero) if zero.is_sign_negative()));
        let nan: Written<Value> = serde_json::from_str(&text(&Value::Number(f64::NAN))).unwrap();
        assert!(matches!(nan.0, Value::Number(number) if number.is_nan()));
    }

    #[test]
    fn a_text_that_no_value_is_written_as_is_refused() {
        assert!(serde_json::from_str::<Written<Value>>("[\"~x\"]").is_err());
        assert!(serde_json::from_str::<Written<Object>>("[]").is_err());
    }
}
