//! The values of documents and variables. They are JSON values, but an object keeps the order of its keys.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// The memory of a value without its content, or of a key without its text, in octets. The memory allocator's share is
/// included.
const OVERHEAD: usize = 40;

/// An object. Each key occurs once, and the keys keep the order of the document.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Object(Vec<(String, Value)>);

impl Object {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The values, in order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// Sets a key's value. An existing key keeps its position.
    pub(crate) fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some((_, place)) => *place = value,
            None => self.0.push((key, value)),
        }
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// The keys and values, in order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The approximate size of the keys and values in memory, in octets.
    pub(super) fn size(&self) -> usize {
        self.0.iter().map(|(key, value)| OVERHEAD + key.len() + value.size()).sum()
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        last_of_each(pairs.into_iter().map(|(key, value)| (key.into(), value.into())))
    }
}

impl IntoIterator for Object {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A value. `Undefined` is JavaScript's value for an absent value. In JSON, `Undefined` is written as `null`.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) enum Value {
    #[default]
    Undefined,
    Null,
    Bool(bool),
    /// A number. All numbers are floating-point numbers, as in JavaScript.
    Number(f64),
    Text(String),
    List(Vec<Value>),
    Object(Object),
}

impl Value {
    /// The text. `None` for any other kind of value.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The object. `None` for any other kind of value.
    pub(crate) fn object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The elements of a list. `None` for any other kind of value.
    pub(crate) fn list(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// Whether the value is `undefined` or `null`.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Undefined | Self::Null)
    }

    /// Converts the value to a boolean (ECMA-262 §7.1.2).
    pub(super) fn is_truthy(&self) -> bool {
        match self {
            Self::Undefined | Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Text(text) => !text.is_empty(),
            Self::List(_) | Self::Object(_) => true,
        }
    }

    /// Converts the value to a number (ECMA-262 §7.1.4). NaN if this is not possible.
    pub(super) fn to_number(&self) -> f64 {
        match self {
            Self::Undefined | Self::Object(_) => f64::NAN,
            Self::Null => 0.0,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Number(number) => *number,
            Self::Text(text) => number_of(text),
            Self::List(items) => match items.as_slice() {
                [] => 0.0,
                [one] => number_of(&one.to_string()),
                _ => f64::NAN,
            },
        }
    }

    /// The value of a parameter that is a number, or a text with a number. `None` for other values and for a number
    /// that is not finite.
    pub(crate) fn number(&self) -> Option<f64> {
        let number = match self {
            Self::Number(number) => *number,
            Self::Text(text) if !text.trim().is_empty() => number_of(text),
            _ => return None,
        };
        number.is_finite().then_some(number)
    }

    /// The value of a parameter that is a boolean, or the text `true` or `false`. `None` for other values.
    pub(crate) fn flag(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Self::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// The text of the value when it becomes a part of another text. `undefined` and `null` give an empty text. Lists
    /// and objects give JSON.
    pub(super) fn rendered(&self) -> String {
        match self {
            Self::Undefined | Self::Null => String::new(),
            Self::List(_) | Self::Object(_) => self.to_json().to_string(),
            other => other.to_string(),
        }
    }

    /// Converts the value to JSON. Keys are in alphabetical order.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Undefined | Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Number(number) => match whole(*number) {
                Some(whole) => whole.into(),
                None => serde_json::Number::from_f64(*number).map_or(Json::Null, Json::Number),
            },
            Self::Text(text) => Json::String(text.clone()),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Object(object) => {
                Json::Object(object.iter().map(|(key, value)| (key.to_owned(), value.to_json())).collect())
            }
        }
    }

    /// The approximate size in memory, in octets.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(text) => OVERHEAD + text.len(),
            Self::List(items) => OVERHEAD + items.iter().map(Self::size).sum::<usize>(),
            Self::Object(object) => OVERHEAD + object.size(),
            _ => OVERHEAD,
        }
    }

    /// The nesting depth of lists and objects.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(object) => 1 + object.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

impl fmt::Display for Value {
    /// Writes the value like JavaScript's `String` (ECMA-262 §7.1.17).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undefined => f.write_str("undefined"),
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => f.write_str(&number_text(*number)),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => {
                for (place, item) in items.iter().enumerate() {
                    if place > 0 {
                        f.write_char(',')?;
                    }
                    if !item.is_nothing() {
                        write!(f, "{item}")?;
                    }
                }
                Ok(())
            }
            Self::Object(_) => f.write_str("[object Object]"),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::List(items)
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Self::Text(text),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Json::Object(members) => Self::Object(members.into_iter().collect()),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers are JavaScript's")]
    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers are JavaScript's")]
    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut pairs: Vec<(String, Value)> = Vec::new();
        while let Some(pair) = members.next_entry()? {
            pairs.push(pair);
        }
        Ok(Value::Object(pairs.into_iter().collect()))
    }
}

/// An object with these pairs. If a key occurs several times, the object has the last value of the key. The time grows
/// linearly with the number of pairs.
fn last_of_each(pairs: impl Iterator<Item = (String, Value)>) -> Object {
    let mut places = foldhash::HashMap::default();
    let mut kept: Vec<(String, Value)> = Vec::with_capacity(pairs.size_hint().0);
    for (key, value) in pairs {
        match places.get(&key).and_then(|place: &usize| kept.get_mut(*place)) {
            Some(place) => place.1 = value,
            None => {
                places.insert(key.clone(), kept.len());
                kept.push((key, value));
            }
        }
    }
    Object(kept)
}

/// Writes a number like JavaScript (ECMA-262 §6.1.6.1.20). Integers have no decimal point. Very large and very small
/// numbers have an exponent.
pub(super) fn number_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    let size = number.abs();
    if (1e-6..1e21).contains(&size) {
        return format!("{number}");
    }
    let text = format!("{number:e}");
    // Rust writes `1e21`, and JavaScript writes `1e+21`. Both write `1e-7`.
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

/// The number as an integer. `None` if JSON cannot represent the number exactly.
#[expect(clippy::cast_possible_truncation, reason = "it is a whole number of at most 53 bits")]
pub(super) fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

/// The number in a text (ECMA-262 §7.1.4.1). 0 if the text is blank. NaN if the text is not a number.
fn number_of(text: &str) -> f64 {
    let text = text.trim();
    let prefixed = |prefix: &str, radix| {
        let digits = text.strip_prefix(prefix).or_else(|| text.strip_prefix(&prefix.to_ascii_uppercase()))?;
        u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))
    };
    match text {
        "" => 0.0,
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => match prefixed("0x", 16).or_else(|| prefixed("0o", 8)).or_else(|| prefixed("0b", 2)) {
            #[expect(clippy::cast_precision_loss, reason = "numbers are JavaScript's")]
            Some(number) => number as f64,
            None if text.bytes().all(|one| one.is_ascii_digit() || b"+-.eE".contains(&one)) => {
                text.parse().unwrap_or(f64::NAN)
            }
            None => f64::NAN,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_the_order_of_its_names_and_the_last_duplicate() {
        let value: Value = serde_json::from_str(r#"{"z":1,"a":[true,null,"x",1.5],"z":2}"#).unwrap();
        let Value::Object(object) = &value else { panic!("{value:?}") };
        assert_eq!(object.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["z", "a"]);
        assert_eq!(object.get("z"), Some(&Value::Number(2.0)));
        assert_eq!(value.to_json().to_string(), r#"{"a":[true,null,"x",1.5],"z":2}"#);
    }

    #[test]
    fn numbers_are_formatted_as_in_javascript() {
        let shown =
            [1.0, -0.0, 1.5, 1e21, 1e-7, 123_456_789_012.0, f64::NAN, f64::INFINITY, 0.1 + 0.2].map(number_text);
        let expected = ["1", "0", "1.5", "1e+21", "1e-7", "123456789012", "NaN", "Infinity", "0.30000000000000004"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn texts_convert_to_numbers_as_in_javascript() {
        for (text, number) in [("", 0.0), (" 12 ", 12.0), ("0x1f", 31.0), ("1e3", 1000.0), ("-.5", -0.5)] {
            assert_eq!(number_of(text), number, "{text}");
        }
        for text in ["a", "1a", "1 2", "0x", "inf", "nan", "--1"] {
            assert!(number_of(text).is_nan(), "{text}");
        }
    }

    #[test]
    fn lists_convert_to_text_as_in_javascript() {
        let list = Value::List(vec![Value::Number(1.0), Value::Null, "a".into()]);
        assert_eq!(list.to_string(), "1,,a");
        assert_eq!(list.rendered(), r#"[1,null,"a"]"#);
    }
}
