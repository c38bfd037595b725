//! Placeholders in the texts of documents. `${...}` and `%{...}` have the same meaning.
//!
//! A placeholder with a plain path (`a.b[0].c`) gets the value of this path. A path without a value gives an empty
//! text. Any other placeholder is an expression.

use super::budget::{Budget, Exhausted, PaidText, STEP};
use super::expression::{self, EvalError, Found, Scope};
use super::value::Value;

/// A value after the replacement of its placeholders.
pub(super) struct Expanded {
    pub(super) value: Value,
    /// The reasons why placeholders could not be evaluated. Each of these placeholders is replaced with an empty text.
    pub(super) faults: Vec<String>,
}

/// Replaces the placeholders in all texts of a value. If a text consists of one placeholder only, the result is the
/// placeholder's value and keeps the type of this value.
///
/// # Errors
/// The script has used up its budget.
pub(super) fn expand(value: &Value, scope: &dyn Scope) -> Result<Expanded, Exhausted> {
    let mut faults = Vec::new();
    let value = expanded(value, scope, &mut faults)?;
    Ok(Expanded { value, faults })
}

fn expanded(value: &Value, scope: &dyn Scope, faults: &mut Vec<String>) -> Result<Value, Exhausted> {
    scope.budget().spend(STEP)?;
    Ok(match value {
        Value::Text(text) => of_text(text, scope, faults)?,
        Value::List(items) => {
            Value::List(items.iter().map(|item| expanded(item, scope, faults)).collect::<Result<_, _>>()?)
        }
        Value::Object(object) => {
            let mut member = |(key, value): (&str, &Value)| {
                scope.budget().spend(STEP + key.len())?;
                Ok((key.to_owned(), expanded(value, scope, faults)?))
            };
            Value::Object(object.iter().map(&mut member).collect::<Result<Vec<_>, _>>()?.into_iter().collect())
        }
        other => other.clone(),
    })
}

fn of_text(text: &str, scope: &dyn Scope, faults: &mut Vec<String>) -> Result<Value, Exhausted> {
    let budget = scope.budget();
    budget.spend(text.len())?;
    let Some((before, inner, after)) = first_placeholder(text, budget)? else { return Ok(text.into()) };
    if before.is_empty() && after.is_empty() {
        return of_placeholder(inner, scope, faults);
    }
    let mut out = PaidText::new(budget);
    let mut rest = text;
    while let Some((before, inner, after)) = first_placeholder(rest, budget)? {
        out.push(before)?;
        let value = of_placeholder(inner, scope, faults)?;
        budget.spend(value.size())?;
        out.push(&value.rendered())?;
        rest = after;
    }
    out.push(rest)?;
    Ok(out.into_text().into())
}

/// A text around a placeholder: the text before it, the content of the placeholder, and the text after it.
type Split<'a> = (&'a str, &'a str, &'a str);

/// Splits a text at its first placeholder. A placeholder without an end is no placeholder, but the search for the end
/// costs as much as the rest of the text is long.
fn first_placeholder<'a>(text: &'a str, budget: &Budget) -> Result<Option<Split<'a>>, Exhausted> {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find(['$', '%'])) {
        let at = from + at;
        let rest = text.get(at + 1..).unwrap_or_default();
        if let Some(inner) = rest.strip_prefix('{') {
            let end = end_of(inner);
            budget.spend(STEP + end.unwrap_or(inner.len()))?;
            if let Some(end) = end {
                let [before, inner, after] = [text.get(..at), inner.get(..end), inner.get(end + 1..)];
                return Ok(before.zip(inner).zip(after).map(|((before, inner), after)| (before, inner, after)));
            }
        }
        from = at + 1;
    }
    Ok(None)
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

fn of_placeholder(inner: &str, scope: &dyn Scope, faults: &mut Vec<String>) -> Result<Value, Exhausted> {
    let budget = scope.budget();
    budget.spend(STEP + inner.len().saturating_mul(4))?;
    let inner = inner.trim();
    let is_path = match path(inner) {
        Some(path) => match lookup(&path, scope)?.filter(|found| !found.is_nothing()) {
            Some(found) => return found.copied(budget),
            // The dash may be a part of a header's name, or a minus sign.
            None if !inner.contains('-') => return Ok(Value::Text(String::new())),
            None => true,
        },
        None => false,
    };
    match expression::evaluate(inner, scope) {
        Ok(Value::Undefined) => Ok(Value::Text(String::new())),
        Ok(Value::Number(number)) if number.is_nan() && is_path => Ok(Value::Text(String::new())),
        Ok(value) => Ok(value),
        Err(EvalError::Exhausted) => Err(Exhausted),
        // The name of a header may contain dashes. If there is no such header, the result is an empty text.
        Err(EvalError::Failed(_)) if is_path => Ok(Value::Text(String::new())),
        Err(EvalError::Failed(why)) => {
            faults.push(format!("{inner}: {why}"));
            Ok(Value::Text(String::new()))
        }
    }
}

/// The value of a path, without a copy. `None` if the path has no value.
pub(super) fn lookup<'a>(path: &[String], scope: &'a dyn Scope) -> Result<Option<Found<'a>>, Exhausted> {
    let mut steps = path.iter();
    let mut found = steps.next().and_then(|name| scope.find(name));
    for step in steps {
        let Some(of) = found else { break };
        scope.budget().spend(STEP + of.width())?;
        found = of.member(step);
    }
    Ok(found)
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

    struct Names(Object, Budget);

    impl Scope for Names {
        fn find(&self, name: &str) -> Option<Found<'_>> {
            self.0.get(name).map(Found::Value)
        }

        fn budget(&self) -> &Budget {
            &self.1
        }
    }

    fn names() -> Names {
        let json = r#"{"n":2,"s":"x","list":[1,{"k":"v"}],"o":{"content-type":"text/plain"},"t":true,"a":5,"b":3}"#;
        let value: Value = serde_json::from_str(json).unwrap();
        Names(value.object().unwrap().clone(), Budget::default())
    }

    fn of(text: &str) -> serde_json::Value {
        expand(&Value::from(text), &names()).unwrap().value.to_json()
    }

    #[test]
    fn a_single_placeholder_keeps_its_type_and_becomes_text_within_text() {
        assert_eq!(of("${n}"), 2);
        assert_eq!(of("%{t}"), true);
        assert_eq!(of("${list[1].k}"), "v");
        assert_eq!(of("${list}")[1]["k"], "v");
        assert_eq!(of("n is ${n}, s is %{s}!"), "n is 2, s is x!");
        assert_eq!(of("${list}."), r#"[1,{"k":"v"}]."#);
        assert_eq!(of("no placeholder, 5 % {x} $n"), "no placeholder, 5 % {x} $n");
    }

    #[test]
    fn a_plain_path_is_looked_up_and_other_text_is_evaluated() {
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
    fn an_invalid_expression_becomes_empty_and_is_reported() {
        let expanded = expand(&Value::from("a ${n +} b ${n.explode()} c"), &names()).unwrap();
        assert_eq!(expanded.value, "a  b  c".into());
        assert_eq!(expanded.faults.len(), 2);
        // A placeholder without a closing brace is plain text.
        assert_eq!(of("${n"), "${n");
    }

    #[test]
    fn placeholders_inside_lists_and_objects_are_expanded() {
        let value: Value = serde_json::from_str(r#"{"a":["${n}",{"b":"${s}s"}],"c":1}"#).unwrap();
        assert_eq!(expand(&value, &names()).unwrap().value.to_json().to_string(), r#"{"a":[2,{"b":"xs"}],"c":1}"#);
    }

    #[test]
    fn templates_spend_budget_for_text_and_placeholders() {
        let names = names();
        assert!(expand(&Value::from("%{list} ".repeat(10)), &names).is_ok());
        // The end of each of these placeholders is searched for in the whole rest of the text.
        assert!(expand(&Value::from("${".repeat(10_000)), &names).is_err());
        names.1.renew();
        assert!(expand(&Value::from("${s.repeat(9999)}".repeat(1_000)), &names).is_err());
        names.1.renew();
        assert!(expand(&Value::List(vec![Value::from("${n}"); 100_000]), &names).is_err());
    }
}
