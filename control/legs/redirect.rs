//! 3xx responses to our calls (RFC 3261 §8.1.3.4). The server tries each contact once, best contact first.

use std::cmp::Reverse;
use std::collections::VecDeque;

use tandem_routing::with_user;
use tandem_sip as sip;

/// Maximum number of contacts that are tried for one call.
const MAX_CONTACTS: usize = 5;

pub(crate) struct Redirects {
    outgoing: sip::Outgoing,
    tried: Vec<String>,
    waiting: VecDeque<RedirectTarget>,
}

impl Redirects {
    /// Creates the redirect state for a new outbound call.
    pub(crate) fn of(outgoing: &sip::Outgoing) -> Self {
        Self { outgoing: outgoing.clone(), tried: vec![outgoing.request_uri.clone()], waiting: VecDeque::new() }
    }

    /// Returns the next call to make after an attempt ended with this status and these headers. Returns `None` if no
    /// contact is left. The call then ends.
    pub(crate) fn next(&mut self, status: u16, headers: &[sip::Header]) -> Option<sip::Outgoing> {
        if (300..400).contains(&status) {
            let mut found: Vec<_> = headers
                .iter()
                .filter(|header| header.name.eq_ignore_ascii_case("Contact"))
                .flat_map(|header| targets(&header.value, &self.outgoing.request_uri))
                .collect();
            found.sort_by_key(|target| Reverse(target.quality));
            // The contacts of the latest redirection are tried first.
            for target in found.into_iter().rev() {
                self.waiting.push_front(target);
            }
        } else if self.tried.len() < 2 || status >= 600 {
            return None;
        }
        while let Some(RedirectTarget { uri, same_hop, .. }) = self.waiting.pop_front() {
            if self.tried.len() > MAX_CONTACTS || self.tried.contains(&uri) {
                continue;
            }
            self.tried.push(uri.clone());
            let next_hop = self.outgoing.next_hop.clone().filter(|_| same_hop);
            return Some(sip::Outgoing { request_uri: uri, next_hop, ..self.outgoing.clone() });
        }
        None
    }
}

/// A URI that a redirection names.
struct RedirectTarget {
    uri: String,
    /// Whether the call goes to the next hop of the first call. This is so for a telephone number (`tel:`): the number
    /// names no host, so the gateway that was called before gets the number (RFC 3261 §19.1.6).
    same_hop: bool,
    /// The `q` value of the Contact, in thousandths.
    quality: u16,
}

/// Returns the targets in a Contact value. `called` is the URI that was called first.
fn targets(value: &str, called: &str) -> Vec<RedirectTarget> {
    sip::Party::all(value)
        .filter(|contact| contact.is_sip() || contact.is_tel())
        .map(|contact| {
            let same_hop = contact.is_tel();
            let uri = match same_hop {
                true => with_user(called, &contact.user()),
                // The redirecting server must not set headers of our request.
                false => contact.uri_without_headers(),
            };
            let quality = contact.parameter("q").and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
            RedirectTarget { uri, same_hop, quality: (quality.clamp(0.0, 1.0) * 1000.0) as u16 }
        })
        .take(MAX_CONTACTS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirects() -> Redirects {
        let text = |text: &str| Some(text.to_owned());
        Redirects::of(&sip::Outgoing {
            request_uri: "sip:a@h".to_owned(),
            next_hop: text("sip:proxy"),
            ..sip::Outgoing::default()
        })
    }

    fn contact(value: &str) -> Vec<sip::Header> {
        vec![sip::Header { name: "Contact".into(), value: value.into() }]
    }

    #[test]
    fn contacts_are_tried_best_first_each_once_and_a_loop_ends() {
        let mut redirects = redirects();
        let list = "\"x, y\" <sip:b@h;transport=tcp?X=1>;q=0.2, <sip:c@h>, <mailto:d@h>, sip:a@h;q=0.9";
        let first = redirects.next(302, &contact(list)).unwrap();
        assert_eq!((first.request_uri.as_str(), first.next_hop), ("sip:c@h", None));
        assert_eq!(redirects.next(486, &[]).unwrap().request_uri, "sip:b@h;transport=tcp");
        assert!(redirects.next(301, &contact("<sip:a@h>, <sip:c@h>")).is_none());
    }

    #[test]
    fn a_telephone_number_is_called_where_the_call_went_first() {
        for (value, expected) in [
            ("<tel:+41-22-333>", "sip:+4122333@h"),
            ("<tel:3334455;phone-context=+4122>", "sip:+41223334455@h"),
            ("\"<sip:x@y>\" <tel:*21#>;q=0.3", "sip:*21%23@h"),
        ] {
            let next = redirects().next(302, &contact(value)).unwrap();
            assert_eq!((next.request_uri.as_str(), next.next_hop.as_deref()), (expected, Some("sip:proxy")), "{value}");
        }
    }

    #[test]
    fn few_contacts_are_tried_and_none_after_a_refusal_everywhere() {
        let mut redirects = redirects();
        for hop in 0..MAX_CONTACTS {
            assert!(redirects.next(302, &contact(&format!("<sip:{hop}@h>"))).is_some());
        }
        assert!(redirects.next(302, &contact("<sip:more@h>")).is_none());
        let mut redirects = super::tests::redirects();
        assert!(redirects.next(486, &[]).is_none(), "never redirected");
        assert!(redirects.next(302, &contact("<sip:b@h>, <sip:c@h>")).is_some());
        assert!(redirects.next(603, &[]).is_none());
    }
}
