//! Converts the markup of spoken text (SSML) to the markup that an engine supports. This module does no I/O. The
//! content of an unsupported element is spoken as plain text. Unsupported elements are reported.
//!
//! ```text
//!   <speak>..  ──► espeak:  supported elements, and the text of the others
//!              └─► plain:   words and breaks
//! ```

use std::time::Duration;

use quick_xml::escape::escape;
use tandem_markup::element::{Element, Node};

/// Maximum length of a break. Providers have the same limit.
const LONGEST_BREAK: Duration = Duration::from_secs(10);
/// Elements of HTML and SSML that may begin or end within a word.
const IN_WORDS: [&str; 14] =
    ["a", "b", "code", "em", "emphasis", "font", "i", "lang", "phoneme", "prosody", "span", "strong", "u", "voice"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A text in the form that an engine needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParsedSsml {
    pub(super) parts: Vec<Part>,
    /// Descriptions of elements without effect. Each description occurs once.
    pub(super) unsupported: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Text, or markup for espeak-ng.
    Words(String),
    Break(Duration),
}

/// Converts markup for an engine without SSML support.
pub(super) fn plain(markup: &str) -> ParsedSsml {
    Writer::new(false).read(markup)
}

/// Converts markup for espeak-ng. The result has one part, which contains markup.
pub(super) fn espeak(markup: &str) -> ParsedSsml {
    Writer::new(true).read(markup)
}

struct Writer {
    espeak: bool,
    parts: Vec<Part>,
    words: String,
    unsupported: Vec<String>,
}

impl Writer {
    fn new(espeak: bool) -> Self {
        Self { espeak, parts: Vec::new(), words: String::new(), unsupported: Vec::new() }
    }

    fn read(mut self, markup: &str) -> ParsedSsml {
        match Element::parse(markup) {
            Ok(root) => self.inside(&root),
            Err(_) => {
                self.note("markup that is not valid XML");
                self.say(markup);
            }
        }
        self.flush();
        if self.espeak {
            let words = self.parts.drain(..).filter_map(|part| match part {
                Part::Words(words) => Some(words),
                Part::Break(_) => None,
            });
            self.parts = vec![Part::Words(format!("<speak>{}</speak>", words.collect::<String>()))];
        }
        ParsedSsml { parts: self.parts, unsupported: self.unsupported }
    }

    /// Reads the children of an element. The depth of the recursion is limited, because the parser limits the nesting
    /// of elements.
    fn inside(&mut self, element: &Element) {
        for node in &element.children {
            match node {
                Node::Text(text) => self.say(text),
                Node::Element(element) => self.element(element),
            }
        }
    }

    fn element(&mut self, element: &Element) {
        match &*element.name {
            "break" => {
                let length = pause(element.attribute("strength"), element.attribute("time"));
                if self.espeak {
                    self.words.push_str(&format!("<break time=\"{}ms\"/>", length.as_millis()));
                } else if !length.is_zero() {
                    self.flush();
                    self.parts.push(Part::Break(length));
                }
            }
            "p" | "s" | "emphasis" | "prosody" if self.espeak => self.keep_element(element, &element.name),
            "lang" if self.espeak => self.keep_element(element, "voice"),
            "p" | "s" => {
                self.inside(element);
                self.words.push(' ');
            }
            "sub" if element.attribute("alias").is_some() => self.say(element.attribute("alias").unwrap_or_default()),
            "say-as" => {
                let kind = element.attribute("interpret-as").unwrap_or_default();
                match read_as(&element.text(), kind, element.attribute("format").unwrap_or_default()) {
                    Some(words) => self.say(&words),
                    None => {
                        self.note(&format!("<say-as interpret-as=\"{kind}\">"));
                        self.inside(element);
                    }
                }
            }
            "w" | "sub" => self.inside(element),
            name => {
                self.note(&format!("<{name}>"));
                // Only an element for the form of letters may be a part of a word. All other elements separate words, as
                // <br/> and <li> do.
                let separates = !IN_WORDS.contains(&name.to_ascii_lowercase().as_str());
                self.words.push_str(if separates { " " } else { "" });
                self.inside(element);
                self.words.push_str(if separates { " " } else { "" });
            }
        }
    }

    /// Writes an element that espeak-ng supports. espeak-ng calls this element `name`.
    fn keep_element(&mut self, element: &Element, name: &str) {
        self.words.push_str(&format!("<{name}"));
        for known in ["level", "volume", "rate", "pitch", "xml:lang"] {
            if let Some(value) = element.attribute(known) {
                self.words.push_str(&format!(" {known}=\"{}\"", escape(value)));
            }
        }
        self.words.push('>');
        self.inside(element);
        self.words.push_str(&format!("</{name}>"));
    }

    fn say(&mut self, text: &str) {
        if self.espeak { self.words.push_str(&escape(text)) } else { self.words.push_str(text) }
    }

    fn note(&mut self, what: &str) {
        let line = format!("{what} is spoken as text");
        if !self.unsupported.contains(&line) {
            self.unsupported.push(line);
        }
    }

    fn flush(&mut self) {
        let words = std::mem::take(&mut self.words);
        if !words.trim().is_empty() {
            self.parts.push(Part::Words(words));
        }
    }
}

/// Returns the length of a break from the attribute `time` or `strength`.
fn pause(strength: Option<&str>, time: Option<&str>) -> Duration {
    let seconds = time.map(str::trim).and_then(|time| match time.strip_suffix("ms") {
        Some(number) => number.trim().parse::<f64>().ok().map(|number| number / 1_000.0),
        None => time.strip_suffix('s')?.trim().parse().ok(),
    });
    let milliseconds = match strength {
        Some("none") => 0,
        Some("x-weak") => 100,
        Some("weak") => 250,
        Some("strong") => 750,
        Some("x-strong") => 1_000,
        _ => 500,
    };
    let length = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    length.unwrap_or(Duration::from_millis(milliseconds)).min(LONGEST_BREAK)
}

/// Returns the words for a text in `say-as`. Words that depend on the language are in English. `None` for an unknown
/// kind.
fn read_as(text: &str, kind: &str, format: &str) -> Option<String> {
    let spaced = |matches_kind: fn(char) -> bool| {
        text.chars().filter(|c| matches_kind(*c)).map(String::from).collect::<Vec<_>>().join(" ")
    };
    match kind {
        "characters" | "spell-out" => Some(spaced(char::is_alphanumeric).to_uppercase()),
        "digits" => Some(spaced(|c| c.is_ascii_digit())),
        "telephone" => Some(spaced(|c| c.is_ascii_digit()).replace("+", "plus ")),
        "cardinal" | "number" | "time" => Some(text.to_owned()),
        "ordinal" => ordinal(text),
        "date" => date(text, format),
        "expletive" => Some("beep".to_owned()),
        _ => None,
    }
}

fn ordinal(text: &str) -> Option<String> {
    let number: u64 = text.parse().ok()?;
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    Some(format!("{number}{ending}"))
}

/// Returns the words for a date such as `7/4/2026`. The format is `mdy`, a similar format, or `yyyymmdd`.
fn date(text: &str, format: &str) -> Option<String> {
    let (numbers, order): (Vec<&str>, &str) = if format == "yyyymmdd" && text.len() == 8 && text.is_ascii() {
        (vec![text.get(..4)?, text.get(4..6)?, text.get(6..)?], "ymd")
    } else {
        (text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).collect(), format)
    };
    if order.is_empty() || numbers.len() != order.len() {
        return None;
    }
    let part = |letter: char| order.find(letter).and_then(|at| numbers.get(at)).copied();
    let month = match part('m') {
        Some(number) => Some(*MONTHS.get(number.parse::<usize>().ok()?.checked_sub(1)?)?),
        None => None,
    };
    let day = match part('d') {
        Some(number) => Some(ordinal(number.trim_start_matches('0'))?),
        None => None,
    };
    let words = [month, day.as_deref(), part('y')];
    Some(words.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(markup: &str) -> (String, usize) {
        let marked = plain(&format!("<speak>{markup}</speak>"));
        let text = marked.parts.iter().map(|part| match part {
            Part::Words(words) => words.split_whitespace().collect::<Vec<_>>().join(" "),
            Part::Break(length) => format!("[{}]", length.as_millis()),
        });
        (text.collect::<Vec<_>>().join(" "), marked.unsupported.len())
    }

    #[test]
    fn an_engine_without_ssml_gets_text_and_breaks() {
        let table = [
            (
                "one<break time='1.5s'/>two<break strength='weak'/><break time='300ms'/>",
                ("one [1500] two [250] [300]", 0),
            ),
            ("<p><s>one.</s><s>two</s></p> &amp; three", ("one. two & three", 0)),
            ("<sub alias='World Wide Web'>W<w role='x'>W</w>W</sub> now", ("World Wide Web now", 0)),
            ("<say-as interpret-as='characters'>ab1</say-as>", ("A B 1", 0)),
            ("<say-as interpret-as='digits'>42-7</say-as>", ("4 2 7", 0)),
            ("<say-as interpret-as='ordinal'>22</say-as>", ("22nd", 0)),
            ("<say-as interpret-as='date' format='mdy'>07/04/2026</say-as>", ("July 4th 2026", 0)),
            ("<say-as interpret-as='date' format='yyyymmdd'>20260704</say-as>", ("July 4th 2026", 0)),
            ("<say-as interpret-as='date' format='md'>13/13</say-as>", ("13/13", 1)),
            ("<say-as interpret-as='unit'>5ft</say-as>", ("5ft", 1)),
            ("<emphasis level='strong'>six</emphasis> <prosody rate='slow'>seven</prosody>", ("six seven", 2)),
            ("<phoneme alphabet='ipa' ph='x'>five</phoneme><mark name='m'/>", ("five", 2)),
            ("a < b", ("<speak>a < b</speak>", 1)),
            ("Hello,<br/>world<br></br>!", ("Hello, world !", 1)),
            ("<ul><li>tea</li><li>milk</li></ul>", ("tea milk", 2)),
            ("<b>H</b>ello", ("Hello", 1)),
        ];
        for (markup, (expected, unsupported)) in table {
            assert_eq!(words(markup), (expected.to_owned(), unsupported), "{markup}");
        }
    }

    #[test]
    fn espeak_gets_only_the_ssml_that_it_supports() {
        let marked = espeak(
            "<speak><prosody rate='slow' pitch='\"high'>a &lt; b</prosody><break time='99s'/><lang xml:lang='de-DE'>acht</lang>\
             <phoneme ph='x'>five</phoneme></speak>",
        );
        let expected = "<speak><prosody rate=\"slow\" pitch=\"&quot;high\">a &lt; b</prosody><break time=\"10000ms\"/>\
                        <voice xml:lang=\"de-DE\">acht</voice>five</speak>";
        assert_eq!(marked.parts, [Part::Words(expected.to_owned())]);
        assert_eq!(marked.unsupported, ["<phoneme> is spoken as text"]);
    }
}
