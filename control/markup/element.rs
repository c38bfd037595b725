//! Parses XML text into a tree of elements. For safety, the parser has limits: no DTD, limited nesting, and only the
//! five predefined entities and numeric references.

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// Maximum nesting depth, including the root. The deepest useful document is a `Gather` around SSML.
const MAX_DEPTH: usize = 32;
/// Maximum number of attributes of an element.
const MAX_ATTRIBUTES: usize = 128;

/// An XML element.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Element {
    /// The name of the element as written, including the prefix. Names are case-sensitive.
    pub name: String,
    /// The names and the values of the attributes, in document order. Entities in the values are resolved.
    pub attributes: Vec<(String, String)>,
    /// Child elements and text, in document order.
    pub children: Vec<Node>,
}

/// A child of an element.
#[derive(Clone, PartialEq, Debug)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Text with resolved entities. Adjacent pieces of text are joined.
    Text(String),
}

/// Number of octets of the text before the wrong position that an error message shows, and of the text after it.
const SHOWN: usize = 30;

/// Returns the line and column of the octet `at`, with the text around it.
fn place(text: &str, at: usize) -> String {
    let at = at.min(text.len());
    let (before, after) = text.as_bytes().split_at_checked(at).unwrap_or((text.as_bytes(), b""));
    let line = before.iter().filter(|octet| **octet == b'\n').count() + 1;
    let before = before.rsplit(|octet| *octet == b'\n').next().unwrap_or_default();
    let after = after.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let column = String::from_utf8_lossy(before).chars().count() + 1;
    // A character that is cut in two at the ends of the excerpt is not shown.
    let start = before.get(before.len().saturating_sub(SHOWN)..).unwrap_or_default();
    let end = after.get(..after.len().min(SHOWN)).unwrap_or_default();
    let excerpt = String::from_utf8_lossy(&[start, end].concat()).replace(char::REPLACEMENT_CHARACTER, "");
    format!("line {line}, column {column}: {}", excerpt.trim())
}

/// The reason why a text is not valid XML.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotXml(pub String);

impl Element {
    /// Parses a document and returns the root element. Comments and processing instructions are dropped.
    ///
    /// # Errors
    /// Returns the reason, with the line and column of the wrong position, and the text around it.
    pub fn parse(text: &str) -> Result<Self, NotXml> {
        let mut reader = Reader::from_str(text);
        Self::read(&mut reader).map_err(|NotXml(why)| {
            // A syntax error is at the start of the wrong piece. Every other error is at the end of the last piece.
            let at = match reader.error_position() {
                0 => reader.buffer_position(),
                at => at,
            };
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            NotXml(format!("{why} ({})", place(text, at)))
        })
    }

    fn read(reader: &mut Reader<&[u8]>) -> Result<Self, NotXml> {
        let mut open: Vec<Self> = Vec::new();
        let mut root: Option<Self> = None;
        loop {
            let event = reader.read_event().map_err(|error| NotXml(error.to_string()))?;
            match event {
                Event::Start(start) => {
                    if root.is_some() {
                        return Err(NotXml("more than one root element".into()));
                    }
                    if open.len() >= MAX_DEPTH {
                        return Err(NotXml(format!("elements nest deeper than {MAX_DEPTH}")));
                    }
                    open.push(Self::opened(&start)?);
                }
                Event::Empty(start) => {
                    if open.len() >= MAX_DEPTH {
                        return Err(NotXml(format!("elements nest deeper than {MAX_DEPTH}")));
                    }
                    close(Self::opened(&start)?, &mut open, &mut root)?;
                }
                Event::End(_) => {
                    let element = open.pop().ok_or_else(|| NotXml("a closing tag has no opening tag".into()))?;
                    close(element, &mut open, &mut root)?;
                }
                Event::Text(text) => push_text(&text.xml10_content(), &mut open)?,
                Event::CData(text) => push_text(&text.xml10_content(), &mut open)?,
                Event::GeneralRef(reference) => {
                    let name = reference.xml10_content();
                    if let Some(character) = reference.resolve_char_ref().map_err(|e| NotXml(e.to_string()))? {
                        if !is_xml_character(character) {
                            return Err(NotXml(format!("&{name}; is not allowed in XML")));
                        }
                        push_text(character.encode_utf8(&mut [0; 4]), &mut open)?;
                    } else if let Some(text) = resolve_predefined_entity(&name) {
                        push_text(text, &mut open)?;
                    } else {
                        return Err(NotXml(format!("entity &{name}; is not defined")));
                    }
                }
                Event::DocType(_) => return Err(NotXml("a document type declaration is not allowed".into())),
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
                Event::Eof if open.is_empty() => {
                    return root.ok_or_else(|| NotXml("the document has no root element".into()));
                }
                Event::Eof => {
                    let name = open.pop().map(|element| element.name).unwrap_or_default();
                    return Err(NotXml(format!("<{name}> is never closed")));
                }
            }
        }
    }

    /// Returns the value of an attribute. Returns `None` if the element does not have the attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the child elements, in document order.
    pub fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Returns the trimmed text of the element, without the text of child elements.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for node in &self.children {
            if let Node::Text(part) = node {
                text.push_str(part);
            }
        }
        text.trim().to_owned()
    }

    /// Returns the element's content as XML.
    pub fn inner_xml(&self) -> String {
        let mut out = String::new();
        self.children.iter().for_each(|node| write_node(node, &mut out));
        out
    }

    fn opened(start: &BytesStart<'_>) -> Result<Self, NotXml> {
        let mut element = Self { name: name_of(start), ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| NotXml(error.to_string()))?;
            if element.attributes.len() >= MAX_ATTRIBUTES {
                return Err(NotXml(format!("<{}> has more than {MAX_ATTRIBUTES} attributes", element.name)));
            }
            // XML 1.0 §3.1, "No < in Attribute Values". The XML reader does not check this rule.
            if attribute.value.contains('<') {
                return Err(NotXml(format!("< in an attribute of <{}>: write &lt;", element.name)));
            }
            let value =
                attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|error| NotXml(error.to_string()))?;
            element.attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
        }
        Ok(element)
    }
}

fn name_of(start: &BytesStart<'_>) -> String {
    start.name().as_ref().to_owned()
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) -> Result<(), NotXml> {
    match open.last_mut() {
        Some(parent) => parent.children.push(Node::Element(element)),
        None if root.is_some() => return Err(NotXml("more than one root element".into())),
        None => *root = Some(element),
    }
    Ok(())
}

fn push_text(text: &str, open: &mut [Element]) -> Result<(), NotXml> {
    let Some(element) = open.last_mut() else {
        // Outside the root element, XML allows only white space.
        return if text.trim().is_empty() { Ok(()) } else { Err(NotXml("text outside the root element".into())) };
    };
    if let Some(Node::Text(last)) = element.children.last_mut() {
        last.push_str(text);
    } else {
        element.children.push(Node::Text(text.to_owned()));
    }
    Ok(())
}

/// Whether XML allows a character (XML 1.0 §2.2, production `Char`).
fn is_xml_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn write_node(node: &Node, out: &mut String) {
    match node {
        Node::Text(text) => out.push_str(&quick_xml::escape::escape(text.as_str())),
        Node::Element(element) => {
            out.push('<');
            out.push_str(&element.name);
            for (name, value) in &element.attributes {
                out.push(' ');
                out.push_str(name);
                out.push_str("=\"");
                out.push_str(&quick_xml::escape::escape(value.as_str()));
                out.push('"');
            }
            if element.children.is_empty() {
                out.push_str("/>");
            } else {
                out.push('>');
                element.children.iter().for_each(|child| write_node(child, out));
                out.push_str("</");
                out.push_str(&element.name);
                out.push('>');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_joined_across_entities_comments_and_cdata() {
        let root = Element::parse("<R a='1 &amp; 2'>x &lt;&#65;&#x42;<!-- no --> <![CDATA[<&]]></R>").unwrap();
        assert_eq!(root.attribute("a"), Some("1 & 2"));
        assert_eq!(root.text(), "x <AB <&");
    }

    #[test]
    fn inner_xml_parses_back_to_the_same_tree() {
        let root = Element::parse("<R>a &amp; <b c='&quot;d'>e</b><f/></R>").unwrap();
        let again = Element::parse(&format!("<R>{}</R>", root.inner_xml())).unwrap();
        assert_eq!(root, again);
    }

    #[test]
    fn text_that_is_no_xml_document_is_refused() {
        for text in [
            "",
            "hello",
            "<R>",
            "<R></S>",
            "<R/><R/>",
            "<R/>tail",
            "<R a=1/>",
            "<R a='1' a='2'/>",
            "<R>&unknown;</R>",
            "<R>&#0;</R>",
            "<R>&#1;</R>",
            "<!DOCTYPE R [<!ENTITY x 'y'>]><R>&x;</R>",
            "<!DOCTYPE R><R/>",
            "</R>",
        ] {
            assert!(Element::parse(text).is_err(), "{text}");
        }
        assert!(Element::parse(&("<a>".repeat(33) + &"</a>".repeat(33))).is_err());
        assert!(Element::parse(&("<a>".repeat(32) + &"</a>".repeat(32))).is_ok());
    }
}
