//! Templates in the texts of an agent: `${path}` and `%{path}` get a value, and `@{function arguments}` calls a function.
//!
//! These templates are not the placeholders of SWML: they have no expressions, and they read other data. A path without a
//! value gives an empty text. Names match without regard to case. Helpers stand before the path (`${lc:enc:args.city}`)
//! and act in a fixed order: `fmt_ph`, `lc`, `enc`.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};

/// Maximum length of an expanded text, in octets. The rest is left out.
pub(super) const LONGEST: usize = 64 * 1024;
/// Maximum number of templates in one text. The rest of the text stays as it is.
const MAX_TEMPLATES: usize = 1_000;
/// Maximum nesting depth of an expanded value.
const DEEPEST: usize = 32;
/// Maximum nesting depth of parentheses in `@{expr ...}`.
const DEEPEST_EXPRESSION: usize = 16;

/// The data that templates read.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The objects in which the first name of a path is searched, in this order.
    pub(super) places: &'a [&'a Json],
    /// The current time, for `strftime_tz`.
    pub(super) now: Timestamp,
}

/// Replaces the templates in a text.
pub(super) fn expand(text: &str, scope: Scope<'_>) -> String {
    let mut out = String::new();
    let mut rest = text;
    for _ in 0..MAX_TEMPLATES {
        let Some((before, kind, inner, after)) = first(rest) else { break };
        push(&mut out, before);
        // A template inside a template becomes a part of the outer template.
        let inner = match first(inner) {
            Some(_) => Cow::Owned(expand_inner(inner, scope)),
            None => Cow::Borrowed(inner),
        };
        match kind {
            '@' => push(&mut out, &function(&inner, scope)),
            _ => push(&mut out, &variable(&inner, scope)),
        }
        rest = after;
        if out.len() >= LONGEST {
            return out;
        }
    }
    push(&mut out, rest);
    out
}

/// Replaces the templates in all texts of a value. The keys of objects stay as they are.
pub(super) fn expand_all(value: &Json, scope: Scope<'_>) -> Json {
    let mut left = LONGEST;
    expand_value(value, scope, DEEPEST, &mut left)
}

fn expand_value(value: &Json, scope: Scope<'_>, depth: usize, left: &mut usize) -> Json {
    if depth == 0 || *left == 0 {
        return Json::Null;
    }
    match value {
        Json::String(text) => {
            let mut text = expand(text, scope);
            truncate(&mut text, *left);
            *left -= text.len();
            Json::String(text)
        }
        Json::Array(items) => items.iter().map(|item| expand_value(item, scope, depth - 1, left)).collect(),
        Json::Object(members) => {
            let member = |(key, value): (&String, &Json)| (key.clone(), expand_value(value, scope, depth - 1, left));
            Json::Object(members.iter().map(member).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// The templates inside a template. They have no further templates inside.
fn expand_inner(text: &str, scope: Scope<'_>) -> String {
    let mut out = String::new();
    let mut rest = text;
    for _ in 0..MAX_TEMPLATES {
        let Some((before, kind, inner, after)) = first(rest) else { break };
        push(&mut out, before);
        match kind {
            '@' => push(&mut out, &function(inner, scope)),
            _ => push(&mut out, &variable(inner, scope)),
        }
        rest = after;
    }
    push(&mut out, rest);
    out
}

/// The text before the first template, the template's first character, its content, and the text after it.
fn first(text: &str) -> Option<(&str, char, &str, &str)> {
    let mut from = 0;
    while let Some(at) = text.get(from..)?.find(['$', '%', '@']) {
        let at = from + at;
        let kind = text.get(at..)?.chars().next()?;
        if let Some(inner) = text.get(at + 1..)?.strip_prefix('{') {
            // Without an end, this and every later template has no end.
            let end = end_of(inner)?;
            return Some((text.get(..at)?, kind, inner.get(..end)?, inner.get(end + 1..)?));
        }
        from = at + 1;
    }
    None
}

/// The position of the closing brace. Braces inside count.
fn end_of(inner: &str) -> Option<usize> {
    let mut depth = 0_u32;
    for (place, octet) in inner.bytes().enumerate() {
        match octet {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(place),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The value of `${...}` as text.
fn variable(inner: &str, scope: Scope<'_>) -> String {
    let mut path = inner.trim();
    let (mut lower, mut encode, mut phone) = (false, false, false);
    while let Some((helper, rest)) = path.split_once(':') {
        match helper.to_ascii_lowercase().as_str() {
            "lc" => lower = true,
            "enc" => {
                encode = true;
                // The reference of SignalWire also writes `enc:url:`.
                path = rest.strip_prefix("url:").unwrap_or(rest);
                continue;
            }
            "fmt_ph" => phone = true,
            _ => break,
        }
        path = rest;
    }
    let mut text = find(path, scope).map(written).unwrap_or_default();
    if phone {
        text = national(&text);
    }
    if lower {
        text.make_ascii_lowercase();
    }
    if encode {
        text = encoded(&text);
    }
    text
}

/// The value at a path. The first name is searched in each place of the scope.
pub(super) fn find<'a>(path: &str, scope: Scope<'a>) -> Option<&'a Json> {
    scope.places.iter().find_map(|place| walk(place, path))
}

/// The value at a path below `root`: names with dots between them, and an index in brackets behind a name. A negative
/// index counts from the end.
pub(super) fn walk<'a>(root: &'a Json, path: &str) -> Option<&'a Json> {
    let mut value = root;
    for part in path.trim().split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, Some(index.strip_suffix(']')?.parse::<i64>().ok()?)),
            None => (part, None),
        };
        value = member(value, name.trim())?;
        if let Some(index) = index {
            let items = value.as_array()?;
            let back = usize::try_from(index.unsigned_abs()).ok()?;
            value = if index < 0 { items.get(items.len().checked_sub(back)?)? } else { items.get(back)? };
        }
    }
    Some(value)
}

fn member<'a>(value: &'a Json, name: &str) -> Option<&'a Json> {
    let members = value.as_object()?;
    members.get(name).or_else(|| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// A value as text: a string as it is, `null` as an empty text, and any other value as JSON.
pub(super) fn written(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

/// The result of `@{...}`. An unknown function gives an empty text.
fn function(inner: &str, scope: Scope<'_>) -> String {
    let (name, arguments) = inner.trim().split_once(char::is_whitespace).unwrap_or((inner.trim(), ""));
    let arguments = arguments.trim();
    match name {
        "strftime_tz" => {
            let (zone, format) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, "%Y-%m-%d %H:%M:%S"));
            time(format, zone, scope.now)
        }
        "strftime" => time(arguments, "UTC", scope.now),
        "fmt_ph" => {
            let (format, number) = arguments.rsplit_once(char::is_whitespace).unwrap_or(("national", arguments));
            match format.trim() {
                "e164" | "international" | "RFC3966" => number.to_owned(),
                _ => national(number),
            }
        }
        "expr" => calculated(arguments).map(number_text).unwrap_or_default(),
        "echo" => arguments.to_owned(),
        "separate" => {
            let letters = arguments.chars().filter(|letter| !letter.is_whitespace());
            letters.map(String::from).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// The time in a time zone, by the codes of `strftime`. An unknown time zone counts as UTC. A wrong format gives an empty
/// text.
pub(super) fn time(format: &str, zone: &str, now: Timestamp) -> String {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    strtime::format(format, &now.to_zoned(zone)).unwrap_or_default()
}

/// A phone number of North America in its national format. Other numbers stay as they are.
fn national(number: &str) -> String {
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let ten = match digits.len() {
        10 if !number.starts_with('+') => digits.as_str(),
        11 => match digits.strip_prefix('1') {
            Some(ten) => ten,
            None => return number.to_owned(),
        },
        0..7 => return "INVALID NUMBER".to_owned(),
        _ => return number.to_owned(),
    };
    match (ten.get(..3), ten.get(3..6), ten.get(6..)) {
        (Some(area), Some(exchange), Some(line)) => format!("({area}) {exchange}-{line}"),
        _ => number.to_owned(),
    }
}

/// Percent-encodes a text for a URL. A part that is encoded already stays as it is.
fn encoded(text: &str) -> String {
    let octets = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    for (place, octet) in octets.iter().copied().enumerate() {
        let hex = |offset: usize| {
            octets.get(place + offset).is_some_and(|octet| octet.is_ascii_digit() || (b'A'..=b'F').contains(octet))
        };
        let plain = match octet {
            b'%' => hex(1) && hex(2),
            octet => octet.is_ascii_alphanumeric() || b"/,$!'()*-._~".contains(&octet),
        };
        if plain {
            out.push(char::from(octet));
        } else {
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}

fn number_text(number: f64) -> String {
    if number.is_finite() { format!("{number}") } else { String::new() }
}

/// The value of an arithmetic expression of numbers, `+ - * /` and parentheses. `None` if the text is no such expression.
fn calculated(text: &str) -> Option<f64> {
    let mut rest = text;
    let value = sum(&mut rest, DEEPEST_EXPRESSION)?;
    rest.trim().is_empty().then_some(value)
}

fn sum(rest: &mut &str, depth: usize) -> Option<f64> {
    let mut value = product(rest, depth)?;
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('+') {
            *rest = after;
            value += product(rest, depth)?;
        } else if let Some(after) = rest.strip_prefix('-') {
            *rest = after;
            value -= product(rest, depth)?;
        } else {
            return Some(value);
        }
    }
}

fn product(rest: &mut &str, depth: usize) -> Option<f64> {
    let mut value = factor(rest, depth)?;
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('*') {
            *rest = after;
            value *= factor(rest, depth)?;
        } else if let Some(after) = rest.strip_prefix('/') {
            *rest = after;
            value /= factor(rest, depth)?;
        } else {
            return Some(value);
        }
    }
}

fn factor(rest: &mut &str, depth: usize) -> Option<f64> {
    let depth = depth.checked_sub(1)?;
    *rest = rest.trim_start();
    if let Some(after) = rest.strip_prefix('-') {
        *rest = after;
        return factor(rest, depth).map(|value| -value);
    }
    if let Some(after) = rest.strip_prefix('(') {
        *rest = after;
        let value = sum(rest, depth)?;
        *rest = rest.trim_start().strip_prefix(')')?;
        return Some(value);
    }
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
    let (number, after) = rest.split_at(end);
    *rest = after;
    number.parse().ok()
}

/// Appends a text, but at most so much that the result has [`LONGEST`] octets.
fn push(out: &mut String, text: &str) {
    let mut text = Cow::Borrowed(text);
    let left = LONGEST.saturating_sub(out.len());
    if text.len() > left {
        truncate(text.to_mut(), left);
    }
    out.push_str(&text);
}

/// Shortens a text to at most `longest` octets, at the start of a character.
pub(super) fn truncate(text: &mut String, longest: usize) {
    if text.len() > longest {
        let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expanded(text: &str) -> String {
        let data = json!({
            "args": {"city": "New York", "filters": {"Category": "a&b"}, "department": "Sales"},
            "results": [{"title": "first"}, {"title": "last"}],
            "total": 25, "temp": 72.5, "yes": true, "nothing": null,
            "meta_data": {"contacts": {"sales": "+15551230001"}},
            "caller_id_num": "+15551234567",
        });
        let more = json!({"args": {"only_here": "1"}, "space": "x"});
        expand(text, Scope { places: &[&data, &more], now: "2026-02-03T15:04:05Z".parse().unwrap() })
    }

    #[test]
    fn a_path_gets_its_value_and_an_unknown_path_an_empty_text() {
        assert_eq!(expanded("in ${args.city}, %{total} of ${total}"), "in New York, 25 of 25");
        assert_eq!(expanded("[${args.none}|${nothing}|${results[7].title}|${}]"), "[|||]");
        assert_eq!(expanded("${temp} ${yes} ${args.filters}"), "72.5 true {\"Category\":\"a&b\"}");
    }

    #[test]
    fn an_index_counts_from_the_start_or_from_the_end() {
        assert_eq!(expanded("${results[0].title} ${results[-1].title} ${results[-3].title}"), "first last ");
    }

    #[test]
    fn names_match_without_regard_to_case_and_later_places_follow_earlier_ones() {
        assert_eq!(expanded("${ARGS.FILTERS.category}"), "a&b");
        assert_eq!(expanded("${args.only_here}${space}"), "1x");
    }

    #[test]
    fn helpers_act_in_a_fixed_order() {
        assert_eq!(expanded("${lc:enc:args.city} ${enc:lc:args.city}"), "new%20york new%20york");
        assert_eq!(expanded("${enc:url:args.filters.category}"), "a%26b");
        assert_eq!(expanded("${fmt_ph:caller_id_num}"), "(555) 123-4567");
        assert_eq!(encoded("100%25 50% ä/x,y"), "100%25%2050%25%20%C3%A4/x,y");
    }

    #[test]
    fn a_template_inside_a_template_becomes_a_part_of_the_path() {
        assert_eq!(expanded("${meta_data.contacts.${lc:args.department}}"), "+15551230001");
        assert_eq!(expanded("@{separate ${args.department}}"), "S a l e s");
    }

    #[test]
    fn functions_have_arguments_after_a_space() {
        assert_eq!(expanded("@{strftime_tz UTC %Y-%m-%d %H:%M}"), "2026-02-03 15:04");
        assert_eq!(expanded("@{expr (100 - 25) / 5}@{expr 1 +}@{expr -2*-3}"), "156");
        assert_eq!(expanded("@{echo a b}@{unknown x}@{fmt_ph national:sep:- +15551234567}"), "a b(555) 123-4567");
    }

    #[test]
    fn a_text_without_an_end_of_its_template_stays_as_it_is() {
        assert_eq!(expanded("a ${b and 5% of $x {y}"), "a ${b and 5% of $x {y}");
    }

    #[test]
    fn an_expansion_has_a_limit() {
        let big = json!({ "big": "ä".repeat(LONGEST) });
        let scope = Scope { places: &[&big], now: Timestamp::UNIX_EPOCH };
        assert!(expand(&"${big}".repeat(100), scope).len() <= LONGEST);
        let all = expand_all(&json!(vec!["${big}"; 50]), scope);
        assert!(all.to_string().len() < 2 * LONGEST);
        let mut deep = json!("${big}");
        for _ in 0..100 {
            deep = json!([deep]);
        }
        expand_all(&deep, scope);
        assert_eq!(calculated(&"(".repeat(1_000)), None);
    }
}
