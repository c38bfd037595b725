//! The attempts to place a leg: one route after another (failover), and the contacts of redirections (RFC 3261
//! §8.1.3.4).

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dtmf::WantedForm;
use crate::fork::{Contact, MediaKind};
use crate::signal::{RedirectContact, RedirectTarget, SignalEnd, SignalEndCause};

/// Maximum number of contacts of redirections that are tried for one leg.
const MAX_CONTACTS: usize = 5;

/// A way to the far end. The driver keeps what the protocol needs to place the leg; this is what the leg decides by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegRoute {
    /// The far end's URI.
    pub uri: String,
    /// The name of the far end for people: the trunk and the URI, or the URI alone.
    pub name: String,
    /// The name of the trunk, if the route is a trunk.
    pub trunk: Option<Arc<str>>,
    /// Whether credentials exist for a challenge of the far end.
    pub authenticates: bool,
    /// Whether redirections of the far end are followed.
    pub follows_redirects: bool,
    /// Whether this server lets the far end make the first offer.
    pub late_offer: bool,
    /// The form in which the far end wants digits.
    pub wanted_digits: WantedForm,
    /// The statuses that count as a failure of the route, so that the next route is tried.
    pub failover_on: Vec<u16>,
    /// The user to call, if the far end is a user with contacts.
    pub user: Option<CalledUser>,
}

impl LegRoute {
    /// Returns the kind of media with which the leg begins on this route: the kind of the first contact.
    pub fn media(&self) -> MediaKind {
        let contact = self.user.as_ref().and_then(|user| user.contacts.first());
        contact.map(|contact| contact.media).unwrap_or_default()
    }
}

/// A user who is reachable at contacts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalledUser {
    /// The name of the user.
    pub name: String,
    /// The contacts that ring, best first. Empty if the user has none now.
    pub contacts: Vec<Contact>,
}

/// The next way on which the leg is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The route with this index.
    Route(usize),
    /// The contact of a redirection, on the route with this index.
    Redirect(usize, RedirectTarget),
}

/// The routes of a leg that is not answered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    routes: Vec<LegRoute>,
    /// The index of the route that is being tried.
    at: usize,
    /// Whether the far end has been reached, so that no other route is tried.
    reached: bool,
    /// The URIs that were tried on this route.
    tried: Vec<String>,
    waiting: VecDeque<RedirectContact>,
}

impl Attempt {
    /// Creates the attempts on these routes. The first route is tried first.
    pub fn new(routes: Vec<LegRoute>) -> Self {
        let tried = routes.first().map(|route| vec![route.uri.clone()]).unwrap_or_default();
        Self { routes, tried, ..Self::default() }
    }

    /// Returns the route that is being tried.
    pub fn route(&self) -> Option<&LegRoute> {
        self.routes.get(self.at)
    }

    /// Returns the index of the route that is being tried.
    pub fn index(&self) -> usize {
        self.at
    }

    /// Whether another route follows the current one.
    pub fn has_alternatives(&self) -> bool {
        self.at + 1 < self.routes.len()
    }

    /// Records that the far end has agreed on media or has answered. A failure afterwards is no failure of the route.
    pub fn note_reached(&mut self) {
        self.reached = true;
    }

    /// Gives up all further attempts.
    pub fn give_up(&mut self) {
        self.reached = true;
        self.routes.truncate(self.at + 1);
        if let Some(route) = self.routes.get_mut(self.at) {
            route.follows_redirects = false;
        }
    }

    /// Returns what to try after this end: the next route if the route has failed, or a contact of a redirection.
    pub fn next(&mut self, end: &SignalEnd) -> Option<Next> {
        let failed = match end.cause {
            SignalEndCause::NoResponse | SignalEndCause::Unreachable | SignalEndCause::RouteFull => true,
            SignalEndCause::Refused => {
                end.status.is_some_and(|status| self.route().is_some_and(|route| route.failover_on.contains(&status)))
            }
            _ => false,
        };
        if failed && !self.reached && self.has_alternatives() {
            self.at += 1;
            self.tried = self.route().map(|route| vec![route.uri.clone()]).unwrap_or_default();
            self.waiting.clear();
            return Some(Next::Route(self.at));
        }
        let status = end.status.filter(|_| end.cause == SignalEndCause::Refused)?;
        if !self.route()?.follows_redirects {
            return None;
        }
        self.redirect(status, &end.contacts)
    }

    /// Returns the next contact of the redirections, best first.
    fn redirect(&mut self, status: u16, contacts: &[RedirectContact]) -> Option<Next> {
        if (300..400).contains(&status) {
            let mut found: Vec<_> = contacts.iter().take(MAX_CONTACTS).cloned().collect();
            found.sort_by_key(|contact| Reverse(contact.q));
            // The contacts of the latest redirection are tried first.
            found.into_iter().rev().for_each(|contact| self.waiting.push_front(contact));
        } else if self.tried.len() < 2 || status >= 600 {
            return None;
        }
        while let Some(RedirectContact { target, .. }) = self.waiting.pop_front() {
            let (RedirectTarget::Uri(name) | RedirectTarget::Number(name)) = &target;
            if self.tried.len() > MAX_CONTACTS || self.tried.contains(name) {
                continue;
            }
            self.tried.push(name.clone());
            return Some(Next::Redirect(self.at, target));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(uri: &str, failover_on: &[u16]) -> LegRoute {
        let failover_on = failover_on.to_vec();
        LegRoute {
            uri: uri.to_owned(),
            name: uri.to_owned(),
            failover_on,
            follows_redirects: true,
            ..LegRoute::default()
        }
    }

    fn refused(status: u16, contacts: &[(&str, u16)]) -> SignalEnd {
        let contact = |&(uri, q): &(&str, u16)| {
            let target = match uri.strip_prefix("tel:") {
                Some(number) => RedirectTarget::Number(number.to_owned()),
                None => RedirectTarget::Uri(uri.to_owned()),
            };
            RedirectContact { target, q }
        };
        let contacts = contacts.iter().map(contact).collect();
        SignalEnd { status: Some(status), contacts, ..SignalEnd::of(SignalEndCause::Refused) }
    }

    fn redirect(next: Option<Next>) -> String {
        match next {
            Some(Next::Redirect(_, RedirectTarget::Uri(uri))) => uri,
            Some(Next::Redirect(_, RedirectTarget::Number(number))) => format!("tel:{number}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_failure_of_a_route_leads_to_the_next_route_and_the_last_failure_ends_the_leg() {
        for cause in [SignalEndCause::NoResponse, SignalEndCause::Unreachable, SignalEndCause::RouteFull] {
            let mut attempt = Attempt::new(vec![route("sip:a", &[]), route("sip:b", &[])]);
            assert!(attempt.has_alternatives());
            assert_eq!(attempt.next(&SignalEnd::of(cause)), Some(Next::Route(1)), "{cause}");
            assert_eq!(attempt.route().map(|route| &*route.uri), Some("sip:b"));
            assert!(!attempt.has_alternatives());
            assert_eq!(attempt.next(&SignalEnd::of(cause)), None, "{cause}");
        }
    }

    #[test]
    fn an_end_that_is_no_failure_of_the_route_ends_the_leg() {
        let causes = [
            SignalEndCause::Local,
            SignalEndCause::HungUp,
            SignalEndCause::Cancelled,
            SignalEndCause::Expired,
            SignalEndCause::Invalid,
            SignalEndCause::Overloaded,
        ];
        for cause in causes {
            let mut attempt = Attempt::new(vec![route("sip:a", &[]), route("sip:b", &[])]);
            assert_eq!(attempt.next(&SignalEnd::of(cause)), None, "{cause}");
        }
    }

    #[test]
    fn only_the_statuses_of_the_route_count_as_its_failure() {
        let mut attempt = Attempt::new(vec![route("sip:a", &[503]), route("sip:b", &[503])]);
        assert_eq!(attempt.next(&refused(486, &[])), None);
        assert_eq!(attempt.next(&refused(503, &[])), Some(Next::Route(1)));
    }

    #[test]
    fn a_far_end_that_was_reached_is_not_called_on_another_route() {
        let mut attempt = Attempt::new(vec![route("sip:a", &[503]), route("sip:b", &[])]);
        attempt.note_reached();
        assert_eq!(attempt.next(&refused(503, &[])), None);
        assert_eq!(attempt.next(&SignalEnd::of(SignalEndCause::NoResponse)), None);
    }

    #[test]
    fn no_attempt_follows_after_the_end_of_the_attempts() {
        let mut attempt = Attempt::new(vec![route("sip:a", &[503]), route("sip:b", &[])]);
        attempt.give_up();
        assert_eq!(attempt.next(&refused(503, &[])), None);
        assert_eq!(attempt.next(&refused(302, &[("sip:c", 1_000)])), None);
    }

    #[test]
    fn contacts_are_tried_once_each_in_order_of_q() {
        let mut attempt = Attempt::new(vec![route("sip:a", &[])]);
        let first = attempt.next(&refused(302, &[("sip:b", 200), ("sip:c", 1_000), ("sip:a", 900)]));
        assert_eq!(redirect(first), "sip:c");
        assert_eq!(redirect(attempt.next(&refused(486, &[]))), "sip:b");
        assert_eq!(attempt.next(&refused(301, &[("sip:a", 1_000), ("sip:c", 1_000)])), None);
    }

    #[test]
    fn a_redirection_to_a_number_stays_a_number() {
        let mut attempt = Attempt::new(vec![route("sip:a", &[])]);
        assert_eq!(redirect(attempt.next(&refused(302, &[("tel:+4122333", 1_000)]))), "tel:+4122333");
    }

    #[test]
    fn the_number_of_contacts_is_limited_and_a_6xx_ends_the_redirects() {
        let mut attempt = Attempt::new(vec![route("sip:a", &[])]);
        for hop in 0..MAX_CONTACTS {
            assert!(attempt.next(&refused(302, &[(&*format!("sip:{hop}"), 1_000)])).is_some());
        }
        assert_eq!(attempt.next(&refused(302, &[("sip:more", 1_000)])), None);
        let mut attempt = Attempt::new(vec![route("sip:a", &[])]);
        assert_eq!(attempt.next(&refused(486, &[])), None, "never redirected");
        assert!(attempt.next(&refused(302, &[("sip:b", 1_000), ("sip:c", 1_000)])).is_some());
        assert_eq!(attempt.next(&refused(603, &[])), None);
    }

    #[test]
    fn a_route_that_follows_no_redirections_ends_with_the_redirection() {
        let mut attempt = Attempt::new(vec![LegRoute { follows_redirects: false, ..route("sip:a", &[]) }]);
        assert_eq!(attempt.next(&refused(302, &[("sip:b", 1_000)])), None);
    }

    #[test]
    fn a_route_that_fails_after_a_redirection_leads_to_the_next_route_with_its_own_contacts() {
        let mut attempt = Attempt::new(vec![route("sip:a", &[]), route("sip:b", &[])]);
        assert!(attempt.next(&refused(302, &[("sip:c", 1_000), ("sip:d", 500)])).is_some());
        assert_eq!(attempt.next(&SignalEnd::of(SignalEndCause::NoResponse)), Some(Next::Route(1)));
        assert_eq!(attempt.next(&refused(486, &[])), None, "the contacts of the first route are forgotten");
    }
}
