//! The methods of SWML, for tests of this crate and of other crates.

use super::interpreter::Interpreter;
use super::value::Object;

/// A document with this method alone. The method gets all parameters that any method may need.
pub(super) fn example_of(method: &str) -> String {
    let given = "url: 'http://h/', urls: ['http://h/'], to: 'sip:a@h', name: n, queue_name: q, transfer_after_bridge: 'http://h/', \
        digits: '1', to_uri: 'sip:a@h', uri: 'rtp://127.0.0.1:9', action: stop, play: 'say:a', duration: 1, reason: busy, \
        payment_connector_url: 'http://h/', document: 'http://h/', to_number: '+15550001', from_number: '+15550002', body: b, prompt: {text: a}";
    format!("sections:\n  main:\n  - {method}: {{{given}}}\n")
}

/// Whether a method is supported. `None` if there is no such method.
pub fn serves(method: &str) -> Option<bool> {
    let mut machine = Interpreter::read(example_of(method).as_bytes(), Object::default()).ok()?;
    machine.context.answered = true;
    machine.next().ok()?;
    Some(!machine.warnings().iter().any(|warning| warning.to_string().contains("not served here")))
}
