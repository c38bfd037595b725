//! 3xx responses to our calls (RFC 3261 §8.1.3.4). The server tries each contact once, best contact first.

use std::cmp::Reverse;
use std::collections::VecDeque;

use tandem_sip as sip;

/// Maximum number of contacts that are tried for one call.
const MAX_CONTACTS: usize = 5;

pub(crate) struct Redirects {
    outgoing: sip::Outgoing,
    tried: Vec<String>,
    waiting: VecDeque<String>,
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
                .flat_map(|header| contacts(&header.value))
                .collect();
            found.sort_by_key(|(_, quality)| Reverse(*quality));
            // The contacts of the latest redirection are tried first.
            for (uri, _) in found.into_iter().rev() {
                self.waiting.push_front(uri);
            }
        } else if self.tried.len() < 2 || status >= 600 {
            return None;
        }
        while let Some(uri) = self.waiting.pop_front() {
            if self.tried.len() > MAX_CONTACTS || self.tried.contains(&uri) {
                continue;
            }
            self.tried.push(uri.clone());
            return Some(sip::Outgoing { request_uri: uri, next_hop: None, ..self.outgoing.clone() });
        }
        None
    }
}

/// Returns the SIP URIs in a Contact value, each with its `q` value in thousandths.
fn contacts(value: &str) -> Vec<(String, u16)> {
    let (mut angle, mut quoted) = (false, false);
    let parts = value.split(|c| {
        match c {
            '"' => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            _ => {}
        }
        c == ',' && !angle && !quoted
    });
    parts
        .filter_map(|part| {
            let (uri, parameters) = match part.split_once('<') {
                Some((_, rest)) => rest.split_once('>')?,
                None => part.trim().split_once(';').unwrap_or((part.trim(), "")),
            };
            // The headers after `?` are dropped, because the redirecting server must not set headers of our request.
            let uri = uri.split('?').next().unwrap_or(uri).trim();
            let scheme = uri.split(':').next().unwrap_or_default();
            let quality = parameters.split(';').find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().ok())?
            });
            let quality = (quality.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u16;
            ["sip", "sips"].iter().any(|known| scheme.eq_ignore_ascii_case(known)).then(|| (uri.to_owned(), quality))
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
