//! The verb `Enqueue`, and the element `Queue` in a `Dial`.

use std::sync::Arc;

use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::{Dequeue, Enqueue, Instruction};

use crate::code;
use crate::element::Element;
use crate::flavour::Meaning;
use crate::reader::Reader;

/// Maximum length of a queue's name, in characters.
pub(crate) const MAX_NAME: usize = 64;

const NAME_TOO_SHORT: u32 = 14204;
const NAME_TOO_LONG: u32 = 14205;
const DIAL_URL: u32 = 14211;
const DIAL_NAME_TOO_SHORT: u32 = 14212;
const DIAL_NAME_TOO_LONG: u32 = 14213;

/// Reads an `Enqueue`. If the queue's name is missing or invalid, warns and returns `None`.
pub(crate) fn enqueue(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Instruction>, FetchFailure> {
    let method = reader.method(element, "method", code::SCHEMA);
    let action = reader.target(element.attribute("action"), method, code::BAD_URL)?;
    let wait = reader.wait(element, "waitUrlMethod", (code::BAD_URL, code::SCHEMA))?;
    let max_size = reader.number(element, "maxQueueSize", 1..=5_000, code::SCHEMA);
    for child in element.elements() {
        match reader.rule(child).map(|rule| rule.meaning) {
            Some(Meaning::Unsupported(code)) => reader.unserved(child, code),
            Some(_) => reader.misplaced(child, element),
            None => {}
        }
    }
    let Some(queue) = name(reader, element, (NAME_TOO_SHORT, NAME_TOO_LONG)) else { return Ok(None) };
    let max_size = max_size.and_then(|max_size| u32::try_from(max_size).ok());
    Ok(Some(Instruction::Enqueue(Enqueue { queue, max_size, wait, max_duration: None, action })))
}

/// Reads a `Queue`. The dial takes the first caller from this queue.
pub(super) fn dequeue(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Dequeue>, FetchFailure> {
    let method = reader.method(element, "method", code::SCHEMA);
    let whisper = reader.target(element.attribute("url"), method, DIAL_URL)?;
    let queue = name(reader, element, (DIAL_NAME_TOO_SHORT, DIAL_NAME_TOO_LONG));
    Ok(queue.map(|queue| Dequeue { queue, whisper }))
}

fn name(reader: &mut Reader<'_>, element: &Element, (too_short, too_long): (u32, u32)) -> Option<Arc<str>> {
    let name = element.text();
    if name.is_empty() {
        reader.warn(too_short, format!("<{}> without a name was skipped", element.name));
        return None;
    }
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        reader
            .warn(too_long, format!("<{}>: the name of a queue can have at most {MAX_NAME} characters", element.name));
        return None;
    }
    Some(name.into())
}
