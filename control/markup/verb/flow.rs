//! The verbs `Redirect`, `Reject` and `Hangup`.

use tandem_call::Target;
use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::program::instruction::{Instruction, RejectReason};

use crate::element::Element;
use crate::flavour::Meaning;
use crate::reader::Reader;
use crate::{code, failure};

const REDIRECT_METHOD: u32 = 13710;
const REJECT_REASON: u32 = 13810;

/// Reads the URL of the next document. An empty URL means the same document again.
pub(crate) fn redirect(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Instruction>, FetchFailure> {
    let method = reader.method(element, "method", REDIRECT_METHOD);
    let text = element.text();
    let url = if text.is_empty() {
        let detail = "<Redirect> without a URL, in a document without a URL of its own";
        Some(reader.current().ok_or_else(|| failure(FailureKind::Document(code::NO_BASE), detail))?)
    } else {
        reader.url(&text, code::BAD_URL)?
    };
    Ok(url.map(|url| Instruction::Redirect(Target { url, method })))
}

pub(crate) fn reject(reader: &mut Reader<'_>, element: &Element) -> Instruction {
    let reasons = [("rejected", RejectReason::Rejected), ("busy", RejectReason::Busy)];
    Instruction::Reject(reader.word(element, "reason", &reasons, RejectReason::Rejected, REJECT_REASON))
}

/// Reads the parameters that a called application returns at its end. The calling application receives these
/// parameters.
pub(crate) fn handed_back(reader: &mut Reader<'_>, element: &Element) -> Option<Instruction> {
    for child in element.elements() {
        match reader.rule_in(child, element) {
            Some(rule) if rule.meaning == Meaning::Part => {}
            Some(_) => reader.misplaced(child, element),
            None => {}
        }
    }
    let pairs = reader.parameters(element);
    (!pairs.is_empty()).then_some(Instruction::ReturnValues(pairs))
}
