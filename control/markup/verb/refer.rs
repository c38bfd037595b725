//! The verb `Refer`, which transfers the caller with a SIP REFER.

use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::{Instruction, Refer};

use super::noun;
use crate::code;
use crate::element::Element;
use crate::flavour::Meaning;
use crate::reader::Reader;

/// Reads a `Refer` and its `Sip` element. If there is no `Sip` element, warns and returns `None`.
pub(crate) fn read(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Instruction>, FetchFailure> {
    let method = reader.method(element, "method", code::SCHEMA);
    let action = reader.target(element.attribute("action"), method, code::BAD_URL)?;
    let mut targets = Vec::new();
    for child in element.elements() {
        match reader.rule_in(child, element).map(|rule| rule.meaning) {
            Some(Meaning::Sip) => noun::sip(reader, child, &mut targets)?,
            Some(_) => reader.misplaced(child, element),
            None => {}
        }
    }
    let Some(target) = targets.into_iter().next() else {
        reader.warn(code::SCHEMA, "<Refer> without <Sip> was skipped");
        return Ok(None);
    };
    Ok(Some(Instruction::Refer(Refer { to: target.to.to_string(), headers: target.headers, action })))
}
