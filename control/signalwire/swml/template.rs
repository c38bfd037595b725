//! Placeholders in the texts of documents. `${...}` and `%{...}` have the same meaning.
//!
//! A placeholder with a plain path (`a.b[0].c`) gets the value of this path. A path without a value gives an empty
//! text. Any other placeholder is an expression.

use super::expression::{self, Scope, member};
use super::value::Value;

/// Maximum size of a text after the replacement of its placeholders, in octets.
const LARGEST: usize = 1024 * 1024;

/// A value after the replacement of its placeholders.
pub(super) struct Expanded {
    pub(super) value: Value,
    /// The reasons why placeholders could not be evaluated. Each of these placeholders is replaced with an empty text.
    pub(super) faults: Vec<String>,
}

/// Replaces the placeholders in all texts of a value. If a text consists of one placeholder only, the result is the
/// placeholder's value and keeps the type of this value.
pub(super) fn expand(value: &Value, scope: &dyn Scope) -> Expanded {
    let mut faults = Vec::new();
    let value = expanded(value, scope, &mut faults);
    Expanded { value, faults }
}

fn expanded(value: &Value, scope: &dyn Scope, faults: &mut Vec<String>) -> Value {
    match value {
        Value::Text(text) => of_text(text, scope, faults),
        Value::List(items) => Value::List(items.iter().map(|item| expanded(item, scope, faults)).collect()),
        Value::Object(object) => {
            Value::Object(object.iter().map(|(key, value)| (key, expanded(value, scope, faults))).collect())
        }
        other => other.clone(),
    }
}

fn of_text(text: &str, scope: &dyn Scope, faults: &mut Vec<String>) -> Value {
    let Some((before, inner, after)) = first_placeholder(text) else { return Value::Text(text.to_owned()) };
    if before.is_empty() && after.is_empty() {
        return of_placeholder(inner, scope, faults);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, inner, after)) = first_placeholder(rest) {
        out.push_str(before);
        out.push_str(&of_placeholder(inner, scope, faults).rendered());
        rest = after;
        if out.len() > LARGEST {
            faults.push("a text becomes too large".to_owned());
            return Value::Text(String::new());
        }
    }
    out.push_str(rest);
    Value::Text(out)
}

/// The text before the first placeholder, the content of the placeholder, and the text after the placeholder.
fn first_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find(['$', '%'])?;
        let rest = text.get(at + 1..)?;
        if let Some(inner) = rest.strip_prefix('{')
            && let Some(end) = end_of(inner)
        {
            return Some((text.get(..at)?, inner.get(..end)?, inner.get(end + 1..)?));
        }
        from = at + 1;
    }
}

/// The position of the closing brace.
fn end_of(inner: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_u32, None, false);
    for (place, letter) in inner.char_indices() {
        match (quote, letter) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(letter),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(place),
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    // In a placeholder, an apostrophe may not be a quotation mark.
    quote.and_then(|_| inner.find('}'))
}

fn of_placeholder(inner: &str, scope: &dyn Scope, faults: &mut Vec<String>) -> Value {
    let inner = inner.trim();
    let found = path(inner).map(|path| lookup(&path, scope));
    match found {
        Some(Value::Undefined | Value::Null) if inner.contains('-') => {}
        Some(Value::Undefined | Value::Null) => return Value::Text(String::new()),
        Some(value) => return value,
        None => {}
    }
    match expression::evaluate(inner, scope) {
        Ok(Value::Undefined) => Value::Text(String::new()),
        Ok(Value::Number(number)) if number.is_nan() && found.is_some() => Value::Text(String::new()),
        Ok(value) => value,
        // The name of a header may contain dashes. If there is no such header, the result is an empty text.
        Err(_) if found.is_some() => Value::Text(String::new()),
        Err(why) => {
            faults.push(format!("{inner}: {why}"));
            Value::Text(String::new())
        }
    }
}

/// The value of a path. `Undefined` if the path has no value.
pub(super) fn lookup(path: &[String], scope: &dyn Scope) -> Value {
    let mut steps = path.iter();
    let mut value = steps.next().map(|name| scope.value_of(name)).unwrap_or_default();
    for step in steps {
        // The length of a list is a property and not an element of the list.
        value = match &value {
            Value::Object(_) | Value::List(_) if value.object().is_some() || step != "length" => {
                member(&value, &Value::from(step.as_str())).unwrap_or_default()
            }
            _ => return Value::Undefined,
        };
    }
    value
}

/// The parts of a plain path: names with dots between them, and indices in brackets. A name consists of letters, digits
/// and `_`. A name after the first name may also contain `-`.
pub(super) fn path(text: &str) -> Option<Vec<String>> {
    let mut steps = Vec::new();
    for (place, part) in text.split('.').enumerate() {
        let (name, mut indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        let starts = name.starts_with(|first: char| first.is_alphabetic() || first == '_' || place > 0);
        let plain = |letter: char| letter.is_alphanumeric() || letter == '_' || (letter == '-' && place > 0);
        if !starts || name.is_empty() || !name.chars().all(plain) {
            return None;
        }
        steps.push(name.to_owned());
        while let Some(rest) = indices.strip_prefix('[') {
            let (index, rest) = rest.split_once(']')?;
            let quoted = |quote| index.strip_prefix(quote).and_then(|index| index.strip_suffix(quote));
            let index = match quoted('\'').or_else(|| quoted('"')) {
                Some(key) if !key.contains(['\'', '"']) => key,
                Some(_) => return None,
                None if !index.is_empty() && index.bytes().all(|digit| digit.is_ascii_digit()) => index,
                None => return None,
            };
            steps.push(index.to_owned());
            indices = rest;
        }
        if !indices.is_empty() {
            return None;
        }
    }
    let is_constant = |step: &String| matches!(step.as_str(), "true" | "false" | "null" | "undefined");
    (!steps.first().is_some_and(is_constant)).then_some(steps)
}

#[cfg(test)]
mod tests {
    use super::super::value::Object;
    use super::*;

    struct Names(Object);

    impl Scope for Names {
        fn value_of(&self, name: &str) -> Value {
            self.0.get(name).cloned().unwrap_or_default()
        }
    }

    fn names() -> Names {
        let json = r#"{"n":2,"s":"x","list":[1,{"k":"v"}],"o":{"content-type":"text/plain"},"t":true,"a":5,"b":3}"#;
        let value: Value = serde_json::from_str(json).unwrap();
        Names(value.object().unwrap().clone())
    }

    fn of(text: &str) -> serde_json::Value {
        expand(&Value::from(text), &names()).value.to_json()
    }

    #[test]
    fn one_placeholder_keeps_its_type_and_in_other_text_it_is_text() {
        assert_eq!(of("${n}"), 2);
        assert_eq!(of("%{t}"), true);
        assert_eq!(of("${list[1].k}"), "v");
        assert_eq!(of("${list}")[1]["k"], "v");
        assert_eq!(of("n is ${n}, s is %{s}!"), "n is 2, s is x!");
        assert_eq!(of("${list}."), r#"[1,{"k":"v"}]."#);
        assert_eq!(of("no placeholder, 5 % {x} $n"), "no placeholder, 5 % {x} $n");
    }

    #[test]
    fn a_plain_path_is_a_lookup_and_all_else_an_expression() {
        assert_eq!(of("${list.length}"), "");
        assert_eq!(of("${(list.length)}"), 2);
        assert_eq!(of("${missing}"), "");
        assert_eq!(of("${missing.deeper[3]}"), "");
        assert_eq!(of("${n + 1}"), 3);
        assert_eq!(of("${s == 'x' ? '}' : \"{\"}"), "}");
        assert_eq!(of("${o.content-type}"), "text/plain");
        assert_eq!(of("${o.not-there}"), "");
        assert_eq!(of("${a-b}"), 2);
        assert_eq!(of("${o['content-type']}"), "text/plain");
        assert_eq!(of("${({k: n}).k}"), 2);
    }

    #[test]
    fn what_cannot_be_evaluated_is_empty_and_told() {
        let expanded = expand(&Value::from("a ${n +} b ${n.explode()} c"), &names());
        assert_eq!(expanded.value, "a  b  c".into());
        assert_eq!(expanded.faults.len(), 2);
        // A placeholder without a closing brace is plain text.
        assert_eq!(of("${n"), "${n");
    }

    #[test]
    fn lists_and_objects_are_expanded_all_through() {
        let value: Value = serde_json::from_str(r#"{"a":["${n}",{"b":"${s}s"}],"c":1}"#).unwrap();
        assert_eq!(expand(&value, &names()).value.to_json().to_string(), r#"{"a":[2,{"b":"xs"}],"c":1}"#);
    }
}
