//! Parses a script, which is a YAML list of steps.
//!
//! ```yaml
//! - expect: speech within 5 seconds
//! - press: 1
//! - expect: words:"sales"
//!   within: 20
//! - hangup
//! ```

use std::path::Path;

use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

use super::steps::Step;

/// Maximum size of a script, in octets.
const LONGEST: u64 = 1024 * 1024;
/// Maximum nesting depth of a script.
const DEEPEST: usize = 8;

/// Reads the steps from a file. A relative path of an audio file in the script is relative to the directory of the
/// script.
///
/// # Errors
/// Returns a text with the line of the error.
pub(super) fn read(path: &Path) -> Result<Vec<Step>, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?.len();
    if size > LONGEST {
        return Err(format!("{shown}: {size} octets; the maximum is {LONGEST}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let steps = parse(&text).map_err(|(line, why)| format!("{shown}:{line}: {why}"))?;
    let relative_to_script = |step| match step {
        Step::Play(file) => Step::Play(path.parent().unwrap_or(Path::new("")).join(file)),
        step => step,
    };
    Ok(steps.into_iter().map(relative_to_script).collect())
}

/// The line of an error, and the error message.
type Fault = (usize, String);

fn parse(text: &str) -> Result<Vec<Step>, Fault> {
    let mut tree = Tree::default();
    let mut parser = Parser::new_from_str(text);
    parser.load(&mut tree, false).map_err(|error| (error.marker().line(), error.info().to_owned()))?;
    if let Some(line) = tree.too_deep {
        return Err((line, "nested too deeply: a script is a list of steps".to_owned()));
    }
    match tree.root {
        None => Err((1, "the script is empty".to_owned())),
        Some(Node { line, value: Value::List(items) }) if items.is_empty() => {
            Err((line, "the script has no steps".to_owned()))
        }
        Some(Node { value: Value::List(items), .. }) => items.into_iter().map(step).collect(),
        Some(Node { line, .. }) => Err((line, "a script is a list of steps; each line begins with \"- \"".to_owned())),
    }
}

fn step(Node { line, value }: Node) -> Result<Step, Fault> {
    let fault = |why| (line, why);
    match value {
        Value::Scalar(name) => Step::named(&name, "", None).map_err(fault),
        Value::List(_) => Err((line, "a list inside a list; a step looks like \"press: 1\"".to_owned())),
        Value::Map(pairs) => {
            let (mut named, mut within) = (None, None);
            for (key, Node { line, value }) in pairs {
                let Value::Scalar(value) = value else {
                    return Err((line, format!("{key} takes one value, such as \"press: 1\"")));
                };
                if key == "within" {
                    within = Some(value);
                } else if let Some((first, _)) = named.replace((key, value)) {
                    return Err((line, format!("{first} and another action in one step: begin each step with \"- \"")));
                }
            }
            let (name, value) = named.ok_or_else(|| fault("a step without a name".to_owned()))?;
            Step::named(&name, &value, within.as_deref()).map_err(fault)
        }
    }
}

/// A YAML value with its line number. A scalar keeps its text, so `press: 01` is not converted to a number.
struct Node {
    line: usize,
    value: Value,
}

enum Value {
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

#[derive(Default)]
struct Tree {
    open: Vec<(Node, Option<String>)>,
    root: Option<Node>,
    too_deep: Option<usize>,
}

impl Tree {
    fn put(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = self.root.take().or(Some(node)),
            Some((Node { value: Value::List(items), .. }, _)) => items.push(node),
            Some((Node { value: Value::Map(pairs), .. }, key)) => match (key.take(), node.value) {
                (Some(name), value) => pairs.push((name, Node { line: node.line, value })),
                (None, Value::Scalar(name)) => *key = Some(name),
                (None, _) => {}
            },
            Some((Node { value: Value::Scalar(_), .. }, _)) => {}
        }
    }

    fn begin(&mut self, line: usize, value: Value) {
        if self.open.len() >= DEEPEST {
            self.too_deep = self.too_deep.or(Some(line));
        }
        self.open.push((Node { line, value }, None));
    }
}

impl MarkedEventReceiver for Tree {
    fn on_event(&mut self, event: Event, marker: Marker) {
        let line = marker.line();
        match event {
            Event::Scalar(text, ..) => self.put(Node { line, value: Value::Scalar(text) }),
            Event::SequenceStart(..) => self.begin(line, Value::List(Vec::new())),
            Event::MappingStart(..) => self.begin(line, Value::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((node, _)) = self.open.pop() {
                    self.put(node);
                }
            }
            Event::Alias(_) => self.put(Node { line, value: Value::Scalar(String::new()) }),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart | Event::DocumentEnd => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, Fault> {
        parse(text).map(|steps| steps.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_script_is_a_list_of_steps() {
        let steps = shown(
            "# a test\n- expect: speech within 5 seconds\n- press: 01\n- say: \"sales: please\"\n- wait: 0.5\n\
             - expect: words:\"hello there\"\n  within: 20\n- play: a.wav\n- hangup\n",
        );
        let wanted = [
            "expect speech within 5 s",
            "press 01",
            "say \"sales: please\"",
            "wait 0.5 s",
            "expect the words \"hello there\" within 20 s",
            "play a.wav",
            "hangup",
        ];
        assert_eq!(steps.unwrap(), wanted);
    }

    #[test]
    fn an_error_in_a_script_has_its_line() {
        let fault = |text: &str| shown(text).unwrap_err();
        assert_eq!(fault("- press: 1\n- pres: 2\n").0, 2);
        assert!(fault("- pres: 2\n").1.contains("the steps are say, press"));
        assert!(fault("press: 1\n").1.contains("a script is a list"));
        assert!(fault("- say: a\n  press: 1\n").1.contains("begin each step"));
        assert!(fault("- press: 1\n  within: 3\n").1.contains("belongs to expect"));
        assert!(fault("- press: [1, 2]\n").1.contains("takes one value"));
        assert!(fault("- say: \"a\n").0 >= 1);
        assert!(fault("").1.contains("empty"));
        let deep = "- [[[[[[[[[[[[]]]]]]]]]]]]\n";
        assert!(fault(deep).1.contains("nested too deeply"));
    }
}
