//! Parses the text of a document: JSON, or YAML (1.2, core schema).

use std::collections::HashMap;

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

use super::error::{Code, Fault};
use super::value::Value;

/// Maximum size of a document, in octets.
pub(crate) const LONGEST: usize = 256 * 1024;
/// Maximum size of a document in YAML, in octets. YAML takes about ten times as long to parse as JSON.
const LONGEST_YAML: usize = 64 * 1024;
/// Maximum nesting depth.
const DEEPEST: usize = 32;
/// Maximum amount of memory for the values that the aliases of a YAML document copy, in octets.
const MAX_ALIASED_OCTETS: usize = 512 * 1024;

/// Parses a document. The HTTP content type is ignored. A text that begins with `{` is JSON. Any other text is YAML.
pub(crate) fn read(text: &[u8]) -> Result<Value, Fault> {
    if text.len() > LONGEST {
        return Err(Fault::new(Code::ParseError, format!("the document has more than {LONGEST} octets")));
    }
    let text = std::str::from_utf8(text)
        .map_err(|error| Fault::new(Code::ParseError, format!("the document is not UTF-8: {error}")))?;
    let text = text.trim_start_matches('\u{feff}');
    let value = if is_json(text.as_bytes()) {
        serde_json::from_str(text).map_err(|error| Fault::new(Code::ParseError, format!("not JSON: {error}")))?
    } else if text.len() > LONGEST_YAML {
        let detail = format!("the document has more than {LONGEST_YAML} octets of YAML: write it in JSON");
        return Err(Fault::new(Code::ParseError, detail));
    } else {
        yaml(text)?
    };
    if value.depth() > DEEPEST { Err(too_deep()) } else { Ok(value) }
}

/// Whether a document is JSON. Any other document is YAML.
pub(super) fn is_json(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

/// Whether the text of an application looks like an SWML document.
pub(crate) fn is_document(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let begins_section = |line: &str| line.starts_with("sections:") || line.starts_with("\"sections\":");
    text.trim_start().starts_with('{') || text.lines().any(begins_section)
}

/// Whether a text has the member `sections`, which every SWML document has.
pub(crate) fn has_sections(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => json.get("sections").is_some(),
        Err(_) => !text.trim_start().starts_with('<') && text.contains("sections") && is_document(text.as_bytes()),
    }
}

fn too_deep() -> Fault {
    Fault::new(Code::NestedTooDeep, format!("values are nested more than {DEEPEST} levels deep"))
}

enum Open {
    List(Vec<Value>, usize),
    Map(Vec<(String, Value)>, Option<String>, usize),
}

/// Parses one YAML document without recursion.
fn yaml(text: &str) -> Result<Value, Fault> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Value> = HashMap::new();
    let mut aliased = 0;
    loop {
        let (event, marker) = parser.next_token().map_err(|error| {
            Fault::new(Code::ParseError, format!("not YAML, line {}: {}", error.marker().line(), error.info()))
        })?;
        let done = match event {
            Event::SequenceStart(anchor, _) => {
                open.push(Open::List(Vec::new(), anchor));
                None
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open::Map(Vec::new(), None, anchor));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|closed| match closed {
                Open::List(items, anchor) => (Value::List(items), anchor),
                Open::Map(pairs, _, anchor) => (Value::Object(pairs.into_iter().collect()), anchor),
            }),
            Event::Scalar(text, style, anchor, _) => Some((scalar(text, style), anchor)),
            Event::Alias(id) => {
                let named = anchors.get(&id);
                aliased += named.map_or(0, Value::size);
                if aliased > MAX_ALIASED_OCTETS {
                    let line = marker.line();
                    return Err(Fault::new(
                        Code::NestedTooDeep,
                        format!("line {line}: aliases expand to too much data"),
                    ));
                }
                Some((named.cloned().unwrap_or(Value::Null), 0))
            }
            Event::StreamEnd | Event::DocumentEnd => return Ok(Value::Null),
            Event::Nothing | Event::StreamStart | Event::DocumentStart => None,
        };
        if open.len() > DEEPEST {
            return Err(too_deep());
        }
        let Some((value, anchor)) = done else { continue };
        if value.depth() > DEEPEST {
            return Err(too_deep());
        }
        if anchor > 0 {
            anchors.insert(anchor, value.clone());
        }
        match open.last_mut() {
            None => return Ok(value),
            Some(Open::List(items, _)) => items.push(value),
            Some(Open::Map(pairs, key, _)) => match key.take() {
                Some(key) => pairs.push((key, value)),
                None if value.list().is_none() && value.object().is_none() => *key = Some(value.to_string()),
                None => {
                    let line = marker.line();
                    return Err(Fault::new(Code::ParseError, format!("line {line}: a key must be a plain text")));
                }
            },
        }
    }
}

/// The value of a scalar in YAML's core schema (YAML 1.2.2 §10.3.2). Quoted scalars are text.
fn scalar(text: String, style: TScalarStyle) -> Value {
    if style != TScalarStyle::Plain {
        return Value::Text(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        // A phone number with a leading plus sign is a text and not a number.
        _ if text.starts_with('+') => Value::Text(text),
        _ if text.bytes().all(|one| one.is_ascii_digit() || b"-.eE+".contains(&one)) => match text.parse() {
            Ok(number) => Value::Number(number),
            Err(_) => Value::Text(text),
        },
        _ => Value::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        read(text.as_bytes()).unwrap().to_json().to_string()
    }

    #[test]
    fn the_first_character_distinguishes_json_from_yaml() {
        assert_eq!(json(" \n{\"a\": 1}"), r#"{"a":1}"#);
        assert_eq!(json("a: 1\nb: [x, 'y']\n"), r#"{"a":1,"b":["x","y"]}"#);
        assert_eq!(json("- 1\n- x: {y: z}"), r#"[1,{"x":{"y":"z"}}]"#);
        assert_eq!(json(""), "null");
    }

    #[test]
    fn plain_scalars_have_the_types_of_yaml() {
        let text = "version: 1.0.0\na: 1.5\nb: true\nc: '1'\nd:\ne: +15551230001\nf: no\n5: x\nt: 12:30\n";
        assert_eq!(
            json(text),
            r#"{"5":"x","a":1.5,"b":true,"c":"1","d":null,"e":"+15551230001","f":"no","t":"12:30","version":"1.0.0"}"#
        );
    }

    #[test]
    fn aliases_expand_to_their_anchors_within_a_limit() {
        assert_eq!(json("a: &x [1, 2]\nb: *x"), r#"{"a":[1,2],"b":[1,2]}"#);
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..8 {
            let alias = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(","));
        }
        assert_eq!(read(bomb.as_bytes()).unwrap_err().code, Code::NestedTooDeep);
    }

    #[test]
    fn nesting_and_length_are_limited() {
        let deep = "[".repeat(100_000);
        assert!(read(deep.as_bytes()).is_err());
        let deep = "- ".repeat(40) + "x";
        assert_eq!(read(deep.as_bytes()).unwrap_err().code, Code::NestedTooDeep);
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
        assert_eq!(read(deep.as_bytes()).unwrap_err().code, Code::NestedTooDeep);
        assert_eq!(read(&vec![b' '; LONGEST + 1]).unwrap_err().code, Code::ParseError);
        let long = format!("a: {}", "x".repeat(LONGEST_YAML));
        assert_eq!(read(long.as_bytes()).unwrap_err().code, Code::ParseError);
        assert!(read(format!("{{\"a\":\"{long}\"}}").as_bytes()).is_ok());
        assert_eq!(read(b"{\"a\":").unwrap_err().code, Code::ParseError);
        assert_eq!(read(b"a: [1").unwrap_err().code, Code::ParseError);
        assert_eq!(read(&[0xff, 0xfe]).unwrap_err().code, Code::ParseError);
    }
}
