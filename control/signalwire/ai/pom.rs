//! The Prompt Object Model: a prompt as a list of sections, which becomes a text in Markdown or XML.
//!
//! A section has a title, a body, bullets and subsections. If one section of a list is `numbered`, all sections of this list
//! with a title have numbers.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// Maximum nesting depth of sections. Deeper sections are left out.
const DEEPEST: usize = 8;

/// The written form of a prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Format {
    #[default]
    Markdown,
    Xml,
}

/// Writes a list of sections as a text.
pub(super) fn rendered(sections: &Json, format: Format) -> String {
    let sections = sections.as_array().map_or(&[][..], Vec::as_slice);
    let mut out = String::new();
    match format {
        Format::Markdown => markdown(&mut out, sections, 2),
        Format::Xml => {
            out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<prompt>\n");
            xml(&mut out, sections, 1);
            out.push_str("</prompt>");
        }
    }
    out.trim_end().to_owned()
}

/// The prompt in an object with `text` or `pom`, or in a text. `None` if the value has no prompt.
pub(super) fn prompt(value: &Json, format: Format) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    // The service's own examples have both members. Then the sections count.
    let sections = value.get("pom").filter(|pom| pom.as_array().is_some_and(|list| !list.is_empty()));
    let text = || value.get("text").and_then(Json::as_str).map(str::to_owned);
    sections.map(|sections| rendered(sections, format)).or_else(text)
}

fn text<'a>(section: &'a Json, key: &str) -> &'a str {
    section.get(key).and_then(Json::as_str).unwrap_or_default().trim()
}

fn list<'a>(section: &'a Json, key: &str) -> &'a [Json] {
    section.get(key).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn flag(section: &Json, key: &str) -> bool {
    section.get(key).and_then(Json::as_bool).unwrap_or(false)
}

/// The number before the title of each section. An empty text means no number.
fn numbers(sections: &[Json]) -> impl Iterator<Item = (String, &Json)> {
    let numbered = sections.iter().any(|section| flag(section, "numbered"));
    let mut last = 0;
    sections.iter().map(move |section| {
        let counts =
            numbered && !text(section, "title").is_empty() && section.get("numbered") != Some(&Json::Bool(false));
        last += u32::from(counts);
        (if counts { format!("{last}. ") } else { String::new() }, section)
    })
}

fn markdown(out: &mut String, sections: &[Json], level: usize) {
    if level > DEEPEST {
        return;
    }
    for (number, section) in numbers(sections) {
        let title = text(section, "title");
        if !title.is_empty() {
            let _ = write!(out, "{} {number}{title}\n\n", "#".repeat(level.min(6)));
        }
        let body = text(section, "body");
        if !body.is_empty() {
            let _ = write!(out, "{body}\n\n");
        }
        let bullets = list(section, "bullets");
        for (place, bullet) in bullets.iter().enumerate() {
            let bullet = super::template::written(bullet);
            let _ = match flag(section, "numberedBullets") {
                true => writeln!(out, "{}. {bullet}", place + 1),
                false => writeln!(out, "- {bullet}"),
            };
        }
        if !bullets.is_empty() {
            out.push('\n');
        }
        markdown(out, list(section, "subsections"), level + 1);
    }
}

fn xml(out: &mut String, sections: &[Json], level: usize) {
    if level > DEEPEST {
        return;
    }
    let indent = "  ".repeat(level);
    for (number, section) in numbers(sections) {
        let _ = writeln!(out, "{indent}<section>");
        for key in ["title", "body"] {
            let value = text(section, key);
            if !value.is_empty() {
                let number = if key == "title" { &*number } else { "" };
                let _ = writeln!(out, "{indent}  <{key}>{number}{}</{key}>", escaped(value));
            }
        }
        for (place, bullet) in list(section, "bullets").iter().enumerate() {
            let bullet = escaped(&super::template::written(bullet));
            let _ = match flag(section, "numberedBullets") {
                true => writeln!(out, "{indent}  <bullet id=\"{}\">{bullet}</bullet>", place + 1),
                false => writeln!(out, "{indent}  <bullet>{bullet}</bullet>"),
            };
        }
        xml(out, list(section, "subsections"), level + 1);
        let _ = writeln!(out, "{indent}</section>");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sections_become_markdown_with_titles_bullets_and_subsections() {
        let sections = json!([
            {"title": "Role", "body": "You are X.", "bullets": ["a", "b"], "subsections": [
                {"title": "Sub", "body": "below", "bullets": ["c", "d"], "numberedBullets": true}]},
            {"title": "Two", "body": "second", "numbered": true},
            {"body": "without a title"},
        ]);
        let text = rendered(&sections, Format::Markdown);
        assert_eq!(
            text,
            "## 1. Role\n\nYou are X.\n\n- a\n- b\n\n### Sub\n\nbelow\n\n1. c\n2. d\n\n## 2. Two\n\nsecond\n\nwithout a title"
        );
    }

    #[test]
    fn sections_become_xml_with_escaped_texts() {
        let sections = json!([{"title": "R&D", "body": "a < b", "bullets": ["c"]}]);
        let text = rendered(&sections, Format::Xml);
        assert!(text.contains("<title>R&amp;D</title>") && text.contains("<body>a &lt; b</body>"), "{text}");
        assert!(text.contains("<bullet>c</bullet>") && text.ends_with("</prompt>"), "{text}");
    }

    #[test]
    fn a_prompt_is_a_text_or_has_a_text_or_sections() {
        assert_eq!(prompt(&json!("hello"), Format::Markdown).as_deref(), Some("hello"));
        assert_eq!(prompt(&json!({"text": "hello", "pom": []}), Format::Markdown).as_deref(), Some("hello"));
        assert_eq!(prompt(&json!({"text": "x", "pom": [{"body": "y"}]}), Format::Markdown).as_deref(), Some("y"));
        assert_eq!(prompt(&json!({"temperature": 1}), Format::Markdown), None);
    }

    #[test]
    fn very_deep_sections_are_left_out() {
        let mut section = json!([{"body": "deep"}]);
        for _ in 0..50 {
            section = json!([{"body": "up", "subsections": section}]);
        }
        assert!(!rendered(&section, Format::Markdown).contains("deep"));
    }
}
