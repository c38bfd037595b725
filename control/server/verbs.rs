//! Tests that the parser agrees with the table of attributes. A supported attribute must have an effect. An attribute
//! that the table calls idle or refused must have no effect.

use std::collections::BTreeSet;
use std::fmt::Write;

use tandem_call::program::instruction::{Instruction, Program};
use tandem_call::recording::Track;
use tandem_markup::Origin;
use tandem_markup::element::{Element, Node};
use tandem_markup::flavour::*;
use tandem_markup::reader::Reader;
use tandem_texml::TEXML;
use tandem_twilio::twiml::TWIML;
use url::Url;

/// The tables, each with its test documents. A test document is a `<Document>` element with one `<Response>`. Every
/// supported attribute occurs in one of these documents and changes the program of the document.
const TABLES: [(&Flavour, &str); 2] = [
    (&TWIML, include_str!("../twilio/fixtures/honoured.xml")),
    (&TEXML, include_str!("../texml/fixtures/honoured.xml")),
];
/// The path of the page that is generated from the table.
const PAGE: &str = "../../docs/twiml.md";

/// The position of an element below the root: the index of each ancestor, and then the index of the element. Each index
/// is the position among the children of the parent.
type Place = Vec<usize>;

fn documents(text: &str) -> Vec<Element> {
    let all = Element::parse(text).unwrap();
    all.elements().flat_map(Element::elements).cloned().collect()
}

fn read(flavour: &'static Flavour, root: &Element) -> Program {
    let base = Url::parse("https://app.example/ivr/start?step=1").unwrap();
    Reader::new(flavour, Origin { base: Some(&base), local_files: false, ..Default::default() }).program(root).unwrap()
}

#[test]
fn a_top_level_stream_is_valid_in_cxml_and_misplaced_in_twiml() {
    let text = r#"<Response><Stream url="wss://app.example/a" track="both"/></Response>"#;
    let root = Element::parse(text).unwrap();
    let read = |flavour| {
        Reader::new(flavour, Origin { base: None, local_files: false, ..Default::default() }).program(&root).unwrap()
    };
    let program = read(&tandem_signalwire::cxml::CXML);
    assert_eq!(program.warnings, []);
    let [Instruction::Connect(connect)] = &program.instructions[..] else { panic!("{program:?}") };
    assert!(connect.outlives_failure && connect.stream.bidirectional_mode.is_some());
    assert_eq!(connect.stream.track, Track::Both);
    let program = read(&TWIML);
    assert_eq!((program.instructions.len(), program.warnings.len()), (0, 1));
}

/// Collects every element below the root, each with the name of its parent.
fn places(element: &Element, at: &mut Place, out: &mut Vec<(Place, String)>) {
    for (index, node) in element.children.iter().enumerate() {
        let Node::Element(child) = node else { continue };
        at.push(index);
        out.push((at.clone(), element.name.clone()));
        places(child, at, out);
        at.pop();
    }
}

fn all_places(root: &Element) -> Vec<(Place, String)> {
    let mut out = Vec::new();
    places(root, &mut Vec::new(), &mut out);
    out
}

fn at<'e>(root: &'e mut Element, place: &[usize]) -> &'e mut Element {
    place.iter().fold(root, |element, index| match &mut element.children[*index] {
        Node::Element(child) => child,
        Node::Text(_) => unreachable!("places are elements'"),
    })
}

/// Finds an element to which a rule applies in the documents. Returns the document that contains the element, and the
/// position of the element.
fn somewhere(text: &str, rule: &Rule) -> Option<(Element, Place)> {
    documents(text).into_iter().find_map(|mut root| {
        let found = all_places(&root).into_iter().find(|(place, parent)| {
            let name = at(&mut root, place).name.clone();
            name == rule.name && rule.inside.contains(&parent.as_str())
        });
        found.map(|(place, _)| (root, place))
    })
}

#[test]
fn honoured_attributes_change_the_program() {
    for (flavour, text) in TABLES {
        check_honoured(flavour, text);
    }
}

fn check_honoured(flavour: &'static Flavour, text: &str) {
    let mut honoured = BTreeSet::new();
    for root in documents(text) {
        let with = read(flavour, &root);
        assert_eq!(with.warnings, [], "{}", root.inner_xml());
        for (place, parent) in all_places(&root) {
            let element = at(&mut root.clone(), &place).clone();
            let rule = flavour.rule_in(&element.name, &parent).unwrap_or_else(|| panic!("<{}>", element.name));
            for (index, (name, _)) in element.attributes.iter().enumerate() {
                let mut without = root.clone();
                at(&mut without, &place).attributes.remove(index);
                if read(flavour, &without).instructions != with.instructions {
                    honoured.insert((rule.name, rule.inside, name.clone()));
                }
            }
        }
    }
    let mut missing = Vec::new();
    for rule in flavour.elements {
        for attribute in rule.attributes.iter().filter(|attribute| attribute.support == AttributeSupport::Honoured) {
            if !honoured.contains(&(rule.name, rule.inside, attribute.name.to_owned())) {
                missing.push(format!("<{}> {} in {:?}", rule.name, attribute.name, rule.inside));
            }
        }
    }
    assert!(missing.is_empty(), "no document changes by: {missing:#?}");
}

#[test]
fn idle_and_refused_attributes_change_nothing_and_cause_their_warning() {
    for (flavour, text) in TABLES {
        check_idle_or_refused(flavour, text);
    }
}

fn check_idle_or_refused(flavour: &'static Flavour, text: &str) {
    for rule in flavour.elements.iter().filter(|rule| !matches!(rule.meaning, Meaning::Unsupported(_))) {
        for attribute in rule.attributes {
            let refused = match attribute.support {
                AttributeSupport::Honoured => continue,
                AttributeSupport::NoEffect(_) => None,
                AttributeSupport::Refused(code, _) => Some(code),
            };
            let (mut root, place) = somewhere(text, rule).unwrap_or_else(|| panic!("no document has <{}>", rule.name));
            at(&mut root, &place).attributes.retain(|(name, _)| name != attribute.name);
            let without = read(flavour, &root);
            at(&mut root, &place).attributes.push((attribute.name.into(), "x1".into()));
            let with = read(flavour, &root);
            // Speech markup goes to the voice unchanged, so it does not change the program.
            let same = with.instructions == without.instructions || rule.meaning == Meaning::Speech;
            assert!(same, "<{}> {} has an effect", rule.name, attribute.name);
            let new = with.warnings.iter().filter(|warning| !without.warnings.contains(warning));
            assert_eq!(
                new.map(|warning| warning.code).collect::<Vec<_>>(),
                Vec::from_iter(refused),
                "{}",
                attribute.name
            );
        }
    }
}

#[test]
fn unsupported_elements_are_skipped_with_their_warning() {
    for (flavour, text) in TABLES {
        check_unserved(flavour, text);
    }
}

fn check_unserved(flavour: &'static Flavour, text: &str) {
    for rule in flavour.elements {
        let Meaning::Unsupported(code) = rule.meaning else { continue };
        for parent in rule.inside {
            let unserved = Element { name: rule.name.into(), ..Element::default() };
            let (mut root, place) = match flavour.rule(parent) {
                None => (Element { name: flavour.root.into(), ..Element::default() }, Vec::new()),
                Some(parent) if matches!(parent.meaning, Meaning::Unsupported(_)) => continue,
                Some(parent) => somewhere(text, parent).unwrap_or_else(|| panic!("no document has <{}>", parent.name)),
            };
            let without = read(flavour, &root);
            at(&mut root, &place).children.push(Node::Element(unserved));
            let with = read(flavour, &root);
            // A refusal has an effect only if the call would end at this place.
            let mut others = with.instructions;
            others.retain(|instruction| !matches!(instruction, Instruction::Refused(_)));
            assert_eq!(others, without.instructions, "<{}> in <{parent}>", rule.name);
            let codes: Vec<u32> = with.warnings.iter().map(|warning| warning.code).collect();
            assert_eq!(codes, [code], "<{}> in <{parent}>", rule.name);
            if *parent == "Connect" {
                let around = |name: &str, child| Element {
                    name: name.into(),
                    children: vec![Node::Element(child)],
                    ..Element::default()
                };
                let unserved = Element { name: rule.name.into(), ..Element::default() };
                let alone = read(flavour, &around(flavour.root, around("Connect", unserved)));
                assert!(matches!(&alone.instructions[..], [Instruction::Refused(why)] if why.contains(rule.name)));
            }
        }
    }
}

/// The table must contain every element, parent and attribute that the provider's own libraries can write.
#[test]
fn the_table_has_every_element_and_attribute_of_the_official_libraries() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/openapi/twiml_voice.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("openapi/twiml_voice.json"));
        return;
    };
    let oracle: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (mut elements, mut attributes) = (0, 0);
    for (parent, children) in oracle["children"].as_object().unwrap() {
        let parent = as_written(parent);
        let served = TWIML.rule(&parent).is_some_and(|rule| !matches!(rule.meaning, Meaning::Unsupported(_)));
        for child in children.as_array().unwrap() {
            let child = as_written(&speech_or_noun(&parent, child.as_str().unwrap()));
            elements += 1;
            // Elements of speech markup may contain each other in any order.
            let rule = TWIML.elements.iter().find(|rule| {
                rule.name == child && (rule.meaning == Meaning::Speech || rule.inside.contains(&parent.as_str()))
            });
            assert!(rule.is_some() || !served, "<{child}> in <{parent}> is not known");
        }
    }
    for (name, known) in oracle["attributes"].as_object().unwrap() {
        let name = as_written(name);
        for attribute in known.as_object().unwrap().keys() {
            attributes += 1;
            let mut rules = TWIML.elements.iter().filter(|rule| rule.name == name);
            let support = rules.find_map(|rule| rule.support(attribute));
            assert!(support.is_some(), "<{name}> {attribute} is not known");
        }
    }
    for verb in oracle["verbs"].as_array().unwrap() {
        let verb = capital(verb.as_str().unwrap());
        if !verb.starts_with("Comment") && verb != "Constructor" {
            elements += 1;
            assert!(TWIML.rule(&verb).is_some(), "<{verb}> is not known");
        }
    }
    assert!(elements > 100 && attributes > 250, "only {elements} elements and {attributes} attributes were found");
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string()).unwrap_or_default() + letters.as_str()
}

/// Returns the name of the type that represents a child element in the provider's libraries.
fn speech_or_noun(parent: &str, child: &str) -> String {
    let speech = parent == "Say" || TWIML.rule(parent).is_some_and(|rule| rule.meaning == Meaning::Speech);
    format!("{}{}", if speech { "Ssml" } else { "" }, capital(child))
}

/// Returns the element name for the name of a type in the provider's libraries.
fn as_written(name: &str) -> String {
    match name {
        "SsmlSayAs" => "say-as".into(),
        "SipUri" => "Uri".into(),
        name => name.strip_prefix("Ssml").map_or_else(|| name.to_owned(), str::to_ascii_lowercase),
    }
}

#[test]
fn twiml_in_the_docs_matches_the_table() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let stale = "docs/twiml.md is stale: UPDATE_DOCS=1 cargo test -p tandem-server twiml_in_the_docs";
    assert!(std::fs::read_to_string(&file).unwrap_or_default() == page, "{stale}");
}

fn page() -> String {
    let served = |rule: &&Rule| !matches!(rule.meaning, Meaning::Unsupported(_));
    let speech = |rule: &&Rule| rule.meaning == Meaning::Speech;
    let verb = |rule: &&Rule| rule.inside.contains(&TWIML.root);
    let count = |of: fn(AttributeSupport) -> bool| {
        TWIML.elements.iter().flat_map(|rule| rule.attributes).filter(|attribute| of(attribute.support)).count()
    };
    let mut page = String::from(
        "# TwiML\n\nGenerated from the table in `control/twilio/twiml.rs`, which the server uses to read documents; do not edit:\n\
         `UPDATE_DOCS=1 cargo test -p tandem-server twiml_in_the_docs`.\n\n",
    );
    let _ = writeln!(
        page,
        "A refused or unknown element or attribute is skipped, and reported with the provider's number in the call's log and\n\
         in its Notifications. The document continues. A refused attribute is not reported if its value is `false` or empty.\n\n\
         {} elements are served, {} are refused. Of their attributes {} are honoured, {} are accepted without effect,\n\
         {} are refused. A test removes every honoured attribute from a document and checks that the call then behaves\n\
         differently.",
        TWIML.elements.iter().filter(served).count(),
        TWIML.elements.iter().filter(|rule| !served(rule)).count(),
        count(|support| support == AttributeSupport::Honoured),
        count(|support| matches!(support, AttributeSupport::NoEffect(_))),
        count(|support| matches!(support, AttributeSupport::Refused(..))),
    );
    section(&mut page, "Verbs", TWIML.elements.iter().filter(served).filter(verb));
    section(
        &mut page,
        "Nouns and nested elements",
        TWIML.elements.iter().filter(served).filter(|r| !verb(r) && !speech(r)),
    );
    section(&mut page, "Speech markup in Say", TWIML.elements.iter().filter(speech));
    page.push_str("\n## Refused\n\n| element | in | number | its attributes |\n|---|---|---|---|\n");
    for rule in TWIML.elements {
        if let Meaning::Unsupported(code) = rule.meaning {
            let names: Vec<_> = rule.attributes.iter().map(|attribute| attribute.name).collect();
            let _ =
                writeln!(page, "| {} | {} | {code} | {} |", element(rule), rule.inside.join(", "), names.join(", "));
        }
    }
    page
}

fn section<'r>(page: &mut String, title: &str, rules: impl Iterator<Item = &'r Rule>) {
    let _ =
        write!(page, "\n## {title}\n\n| element | in | honoured | without effect | refused |\n|---|---|---|---|---|\n");
    for rule in rules {
        let honoured = named(rule, |support| (support == AttributeSupport::Honoured).then(String::new));
        let idle = named(rule, |support| match support {
            AttributeSupport::NoEffect(why) => Some(format!(" ({why})")),
            _ => None,
        });
        let refused = named(rule, |support| match support {
            AttributeSupport::Refused(code, why) => Some(format!(" ({code}, {why})")),
            _ => None,
        });
        let _ = writeln!(page, "| {} | {} | {honoured} | {idle} | {refused} |", element(rule), rule.inside.join(", "));
    }
}

fn element(rule: &Rule) -> String {
    format!("`<{}>`", rule.name)
}

/// Lists the attributes with one kind of support. If consecutive attributes have the same reason, the list shows this
/// reason once for all of them.
fn named(rule: &Rule, support: impl Fn(AttributeSupport) -> Option<String>) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for attribute in rule.attributes {
        let Some(reason) = support(attribute.support) else { continue };
        match groups.last_mut() {
            Some((last, names)) if *last == reason => names.push(attribute.name),
            _ => groups.push((reason, vec![attribute.name])),
        }
    }
    groups.iter().map(|(reason, names)| format!("{}{reason}", names.join(", "))).collect::<Vec<_>>().join("; ")
}
