//! Equivalence of URIs (RFC 3261 §19.1.4, RFC 3966 §4).

use super::escape::{are_same, are_same_in_any_case, are_same_numbers};
use super::parts::{Pair, Parts, SipUri, TelUri, pairs};

/// Parameters that both URIs must have if one URI has them.
const NEVER_IGNORED: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

impl Parts<'_> {
    pub(super) fn are_equivalent(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sip(one), Self::Sip(other)) => one.is_equivalent(other),
            (Self::Tel(one), Self::Tel(other)) => one.is_equivalent(other),
            (Self::Other { scheme, rest }, Self::Other { scheme: other_scheme, rest: other_rest }) => {
                scheme.eq_ignore_ascii_case(other_scheme) && are_same(rest, other_rest)
            }
            _ => false,
        }
    }
}

impl SipUri<'_> {
    /// Compares two SIP URIs. Case matters only in the user and the password. A missing port does not equal the default
    /// port.
    fn is_equivalent(&self, other: &Self) -> bool {
        self.secure == other.secure
            && both(self.user, other.user, are_same)
            && both(self.password, other.password, are_same)
            && self.host.is_same(&other.host)
            && self.port == other.port
            && NEVER_IGNORED.iter().all(|name| self.has_parameter(name) == other.has_parameter(name))
            && self.parameters().all(|parameter| other.allows(parameter))
            && are_same_set(&self.headers().collect::<Vec<_>>(), &other.headers().collect::<Vec<_>>(), is_same_header)
    }

    /// Returns whether every parameter with this name has this value. The result is also true if there is no parameter
    /// with this name.
    fn allows(&self, (name, value): (&[u8], Option<&[u8]>)) -> bool {
        let mut alike = self.parameters().filter(|(other, _)| are_same_in_any_case(name, other));
        alike.all(|(_, other)| both(value, other, are_same_in_any_case))
    }
}

impl TelUri<'_> {
    /// Compares two telephone numbers. Visual separators and case are ignored. Every parameter matters.
    fn is_equivalent(&self, other: &Self) -> bool {
        let parameters = |uri: &Self| pairs(uri.parameters, b';').collect::<Vec<_>>();
        are_same_numbers(self.number, other.number)
            && are_same_set(&parameters(self), &parameters(other), is_same_tel_parameter)
    }
}

fn both(one: Option<&[u8]>, other: Option<&[u8]>, are_same: fn(&[u8], &[u8]) -> bool) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => are_same(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// Returns whether both lists have the same items, each item the same number of times. The order is ignored.
fn are_same_set<'a>(one: &[Pair<'a>], other: &[Pair<'a>], is_same: fn(Pair<'a>, Pair<'a>) -> bool) -> bool {
    let count = |set: &[Pair<'a>], item| set.iter().filter(|&&other| is_same(item, other)).count();
    one.len() == other.len() && one.iter().all(|&item| count(one, item) == count(other, item))
}

fn is_same_header((name, value): Pair<'_>, (other_name, other_value): Pair<'_>) -> bool {
    are_same_in_any_case(name, other_name)
        && are_same_in_any_case(value.unwrap_or_default(), other_value.unwrap_or_default())
}

/// Compares two parameters of telephone numbers. An extension is a number, and a context may be a number. In numbers,
/// visual separators are ignored (RFC 3966 §4).
fn is_same_tel_parameter((name, value): Pair<'_>, (other_name, other_value): Pair<'_>) -> bool {
    let (value, other_value) = (value.unwrap_or_default(), other_value.unwrap_or_default());
    let is_global = value.starts_with(b"+") && other_value.starts_with(b"+");
    let is_number = are_same_in_any_case(name, b"ext") || is_global && are_same_in_any_case(name, b"phone-context");
    let are_same_values = if is_number { are_same_numbers } else { are_same_in_any_case };
    are_same_in_any_case(name, other_name) && are_same_values(value, other_value)
}
