//! The verb `Pay`. This server takes no payments. The application receives the result that the payment failed.

use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::{Instruction, Unsupported, Warning};

use crate::code;
use crate::element::Element;
use crate::flavour::Meaning;
use crate::reader::Reader;

const NO_PAYMENTS: u32 = 64002;
const WHY: &str = "this server cannot take payments: it has no payment connector";

/// Reads a `Pay`. The prompts in this element are ignored.
pub(crate) fn read(reader: &mut Reader<'_>, element: &Element) -> Result<Instruction, FetchFailure> {
    for child in element.elements() {
        match reader.rule_in(child, element) {
            Some(rule) if rule.meaning == Meaning::Part => {}
            Some(_) => reader.misplaced(child, element),
            None => {}
        }
    }
    let method = reader.method(element, "method", code::SCHEMA);
    let action = reader.target(element.attribute("action"), method, code::BAD_URL)?;
    let callback = reader.callback(element, "statusCallback", &[], &[], code::SCHEMA)?;
    let methods = [("credit-card", "credit-card"), ("ach-debit", "ach-debit")];
    let means = reader.word(element, "paymentMethod", &methods, "credit-card", code::SCHEMA);
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    let code = NO_PAYMENTS.to_string();
    Ok(Instruction::Unsupported(Box::new(Unsupported {
        warning: Warning { code: NO_PAYMENTS, message: format!("<Pay>: {WHY}") },
        action,
        outcome: pairs(&[
            ("Result", "payment-connector-error"),
            ("PaymentError", WHY),
            ("PayErrorCode", &code),
            ("PaymentMethod", means),
        ]),
        callback,
        callback_parameters: pairs(&[
            ("For", "payment-processing"),
            ("ErrorType", "internal-error"),
            ("PaymentError", WHY),
            ("Attempt", "1"),
            ("PaymentMethod", means),
        ]),
    })))
}
