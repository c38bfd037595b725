//! The Contact values of a REGISTER.

use super::address::Address;
use super::grammar::first_value;
use super::{Uri, lossy};

/// All Contact values of a REGISTER.
#[derive(Debug)]
pub(crate) enum Contacts {
    /// The value `*`, which means all bindings of the user.
    All,
    /// The listed Contacts. The list is empty in a REGISTER that only queries the bindings.
    Listed(Vec<Contact>),
}

impl Contacts {
    /// Returns whether one of the Contacts is a flow. A flow has an instance and a `reg-id` (RFC 5626 §4.2).
    pub(crate) fn has_flow(&self) -> bool {
        matches!(self, Self::Listed(listed) if listed.iter().any(Contact::has_flow))
    }
}

/// A Contact value, with the parameters that a registrar reads (RFC 3261 §10.2.1, RFC 5626 §4.1).
#[derive(Debug)]
pub(crate) struct Contact {
    pub(crate) uri: Uri,
    /// The preference (`q`) times 1000, 0 to 1000.
    pub(crate) q: Option<u16>,
    /// Lifetime in seconds. If the value is not a number, the parameter counts as missing (RFC 3261 §20.19).
    pub(crate) expires: Option<u32>,
    /// The instance, a space and the `reg-id`, for example `<urn:uuid:...> 1`. If there is no `reg-id`, the number is
    /// 0.
    pub(crate) instance: Option<String>,
}

impl Contact {
    fn has_flow(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| !instance.ends_with(" 0"))
    }

    /// Reads one Contact value.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let address = Address::read(value)?;
        let text = |name: &str| address.parameter(name).map(|value| lossy(&value).trim_matches('"').to_owned());
        let q = text("q").and_then(|q| q.parse::<f32>().ok()).filter(|q| (0.0..=1.0).contains(q));
        let clean = |text: &String| text.len() <= 128 && text.chars().all(|c| c.is_ascii_graphic() && c != '"');
        let instance = text("+sip.instance").filter(clean);
        let number = text("reg-id").and_then(|number| number.parse::<u32>().ok());
        Some(Self {
            q: q.map(|q| (q * 1_000.0).round() as u16),
            expires: text("expires").and_then(|seconds| seconds.parse().ok()),
            instance: instance.map(|instance| format!("{instance} {}", number.unwrap_or(0))),
            uri: Uri::copied(address.uri),
        })
    }
}

/// Returns the first address of a Contact line.
pub(super) fn first(line: &[u8]) -> Option<Address<'_>> {
    Address::read(first_value(line)?)
}
