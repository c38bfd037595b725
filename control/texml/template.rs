//! Mustache templates in documents. The values come from the form parameters of the document request and from the query
//! of the document's URL. `{{Name}}` is replaced with the value of the parameter `Name`. `{{#Name}}...{{/Name}}` is
//! repeated for each value of `Name[]`. If `Name` has a single value, the section appears once. `{{^Name}}` begins a
//! section that appears only if `Name` has no value. `{{#if A == B}}...{{#elseif C != D}}...{{#else}}...{{/if}}`
//! selects a branch.
//!
//! Values are escaped for XML, except values in `{{{three}}}` braces and values of `{{&Name}}`. A document is left
//! unchanged if the result would be larger than [`LONGEST`], or if a section has no end.

use std::borrow::Cow;

use quick_xml::escape::escape;
use tandem_dialect::Notice;
use tandem_markup::MAX_DOCUMENT;
use tandem_webhooks::Body;
use url::Url;

/// Maximum size of the resulting document, in octets. The parser refuses a larger document in any case.
const LONGEST: usize = MAX_DOCUMENT;
/// Maximum nesting of sections.
const DEEPEST: usize = 8;

type Pairs = [(String, String)];

/// Fills the template of a document with parameters. `request` is the request for the document.
pub(super) fn filled<'a>(text: &'a [u8], request: &Notice) -> Cow<'a, [u8]> {
    let Some(template) = std::str::from_utf8(text).ok().filter(|text| text.contains("{{") && text.len() <= LONGEST)
    else {
        return text.into();
    };
    let Body::Form(pairs) = &request.body else { return text.into() };
    let mut values = pairs.clone();
    if let Ok(url) = Url::parse(&request.target.url) {
        values.extend(url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())));
    }
    let mut out = String::new();
    match fill(template, &values, None, 0, &mut out) {
        Ok(()) => out.into_bytes().into(),
        Err(Unfilled) => text.into(),
    }
}

/// Error: the template cannot be filled.
struct Unfilled;

/// A tag between `{{` and `}}`.
enum Tag<'t> {
    /// A value: the parameter's name, and whether the value is escaped.
    Value(&'t str, bool),
    /// The start of a section: the section's name, and whether the section is inverted (`^`). An inverted section
    /// appears only if there is no value.
    Open(&'t str, bool),
    If(&'t str),
    ElseIf(&'t str),
    Else,
    Close,
    Comment,
}

/// Finds the next tag of a text. Returns the text before the tag, the tag, and the text after the tag.
fn next(text: &str) -> Option<(&str, Tag<'_>, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (inside, after, raw) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once("}}}").map(|(inside, after)| (inside, after, true))?,
        None => rest.split_once("}}").map(|(inside, after)| (inside, after, false))?,
    };
    let inside = inside.trim();
    let word = |prefix: &str| inside.strip_prefix(prefix).map(str::trim);
    let tag = match inside.chars().next() {
        _ if raw => Tag::Value(inside, false),
        Some('!') => Tag::Comment,
        Some('&') => Tag::Value(word("&").unwrap_or_default(), false),
        Some('/') => Tag::Close,
        Some('^') => Tag::Open(word("^").unwrap_or_default(), true),
        Some('#') => {
            let name = word("#").unwrap_or_default();
            match name.split_once(char::is_whitespace) {
                Some(("if", condition)) => Tag::If(condition),
                Some(("elseif", condition)) => Tag::ElseIf(condition),
                _ if name == "else" => Tag::Else,
                _ => Tag::Open(name, false),
            }
        }
        _ => Tag::Value(inside, true),
    };
    Some((before, tag, after))
}

fn fill(mut text: &str, values: &Pairs, item: Option<&str>, depth: usize, out: &mut String) -> Result<(), Unfilled> {
    if depth > DEEPEST {
        return Err(Unfilled);
    }
    while let Some((before, tag, after)) = next(text) {
        push(out, before)?;
        text = after;
        match tag {
            Tag::Value(name, escaped) => {
                let value = if name == "." { item } else { values_of(values, name).next() }.unwrap_or_default();
                push(out, &if escaped { escape(value) } else { value.into() })?;
            }
            Tag::Comment => {}
            Tag::Open(name, absent) => {
                let (branches, rest) = section(after)?;
                let inside = branches.first().map_or("", |(_, inside)| *inside);
                text = rest;
                let found: Vec<&str> = values_of(values, name).filter(|value| !value.is_empty()).collect();
                match absent {
                    true if found.is_empty() => fill(inside, values, item, depth + 1, out)?,
                    true => {}
                    false => found.iter().try_for_each(|value| fill(inside, values, Some(value), depth + 1, out))?,
                }
            }
            Tag::If(condition) => {
                let (branches, rest) = section(after)?;
                text = rest;
                let first = branches.into_iter().enumerate().find(|(place, (of, _))| match (*place, *of) {
                    (0, _) => holds(condition, values),
                    (_, Some(condition)) => holds(condition, values),
                    (_, None) => true,
                });
                if let Some((_, (_, inside))) = first {
                    fill(inside, values, item, depth + 1, out)?;
                }
            }
            Tag::ElseIf(_) | Tag::Else | Tag::Close => return Err(Unfilled),
        }
    }
    push(out, text)
}

/// A branch of a section: the branch's condition, if the branch has one, and the branch's content.
type Branch<'t> = (Option<&'t str>, &'t str);

/// The branches of a section, and the text after the section. `text` begins after the section's start tag.
fn section(text: &str) -> Result<(Vec<Branch<'_>>, &str), Unfilled> {
    let (mut branches, mut condition, mut begin) = (Vec::new(), None, 0);
    let (mut open, mut at) = (0usize, 0);
    while let Some((before, tag, after)) = next(text.get(at..).unwrap_or_default()) {
        let (here, behind) = (at + before.len(), text.len() - after.len());
        let inside = text.get(begin..here).unwrap_or_default();
        at = behind;
        match tag {
            Tag::Open(..) | Tag::If(_) => open += 1,
            Tag::Close if open == 0 => {
                branches.push((condition, inside));
                return Ok((branches, after));
            }
            Tag::Close => open -= 1,
            Tag::ElseIf(next) if open == 0 => {
                branches.push((condition, inside));
                (condition, begin) = (Some(next), behind);
            }
            Tag::Else if open == 0 => {
                branches.push((condition, inside));
                (condition, begin) = (None, behind);
            }
            _ => {}
        }
    }
    Err(Unfilled)
}

/// The values of a parameter. A parameter named `Name[]` counts as a parameter named `Name`.
fn values_of<'v>(values: &'v Pairs, name: &'v str) -> impl Iterator<Item = &'v str> {
    let fits = move |known: &str| known == name || known.strip_suffix("[]").is_some_and(|known| known == name);
    values.iter().filter(move |(known, _)| fits(known)).map(|(_, value)| value.as_str())
}

/// Evaluates `A == B` or `A != B`. Each side is a name or a quoted text. `A` alone is true if the parameter is present
/// and not empty.
fn holds(condition: &str, values: &Pairs) -> bool {
    let operand = |text: &str| -> String {
        let text = text.trim();
        let quoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
        match quoted {
            Some(text) => text.to_owned(),
            None => values_of(values, text).next().unwrap_or(text).to_owned(),
        }
    };
    let sides = |operator| condition.split_once(operator).map(|(left, right)| operand(left) == operand(right));
    match (sides("!="), sides("==")) {
        (Some(same), _) => !same,
        (None, Some(same)) => same,
        (None, None) => values_of(values, condition.trim()).next().is_some_and(|value| !value.is_empty()),
    }
}

fn push(out: &mut String, text: &str) -> Result<(), Unfilled> {
    if out.len() + text.len() > LONGEST {
        return Err(Unfilled);
    }
    out.push_str(text);
    Ok(())
}
