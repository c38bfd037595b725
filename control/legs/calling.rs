//! Outbound calls: what the protocols need to place a leg on its routes.

use std::sync::Arc;

use foldhash::HashMap;
use tandem_call::output::Invite;
use tandem_clients as clients;
use tandem_id::{AccountName, LegId};
use tandem_leg::attempt::{CalledUser, LegRoute};
use tandem_leg::dtmf::WantedForm;
use tandem_leg::fork::MediaKind;
use tandem_media as media;
use tandem_routing::trunk::identity::ParentLeg;
use tandem_routing::{Outbound, Routing};
use tandem_settings::DtmfMode;
use tandem_stir::SigningRequest;

use crate::browser::WebPhone;

/// An outbound call and its routes.
pub struct OutgoingCall {
    /// The parameters of the call.
    pub invite: Invite,
    /// The parent leg, with which the new leg will be bridged.
    pub parent_leg: Option<ParentLeg>,
    /// The leg that causes the call.
    pub on_behalf_of: Option<LegId>,
    /// The Call-ID. All routes use this Call-ID.
    pub call_id: Option<Arc<str>>,
    /// The request for a signature of the caller's number (STIR).
    pub signing: SigningRequest,
    /// Whether the other leg has made no offer. Then the far end makes the offer over a trunk with the setting
    /// `late_offer`.
    pub late_offer: bool,
    /// The routes, best first.
    pub routes: Vec<CallRoute>,
    /// The account of the leg.
    pub account: AccountName,
    /// The contacts of the routes' users that are web pages, by the id of the contact.
    pub pages: HashMap<u128, Arc<dyn WebPhone>>,
    /// The accounts whose trunks the call may use, in addition to the trunks of the routes.
    pub accounts: Vec<AccountName>,
}

impl OutgoingCall {
    /// Whether the leg may ring at contacts with two kinds of media.
    pub fn has_two_kinds_of_media(&self) -> bool {
        let kinds_of = |route: &CallRoute| match &route.user {
            Some(user) => user.contacts.iter().map(|contact| contact.media).collect(),
            None => vec![MediaKind::Plain],
        };
        MediaKind::are_mixed(self.routes.iter().flat_map(kinds_of))
    }

    /// Returns the routes as the leg needs them.
    pub(crate) fn leg_routes(&self) -> Vec<LegRoute> {
        let route = |route: &CallRoute| {
            let (outbound, trunk) = (&route.outbound, route.outbound.trunk.as_ref());
            let uri = outbound.next_hop.as_ref().unwrap_or(&outbound.request_uri);
            LegRoute {
                uri: outbound.request_uri.clone(),
                name: match trunk {
                    Some(trunk) => format!("trunk \"{}\" ({uri})", trunk.name),
                    None => uri.clone(),
                },
                trunk: trunk.map(|trunk| Arc::clone(&trunk.name)),
                authenticates: self.invite.credentials.is_some() || outbound.credentials.is_some(),
                follows_redirects: route.follows_redirects,
                late_offer: self.late_offer && trunk.is_some_and(|trunk| trunk.late_offer),
                failover_on: trunk.map(|trunk| trunk.failover_on.clone()).unwrap_or_default(),
                wanted_digits: route.media.wanted_digits(),
                user: route.user.clone(),
            }
        };
        self.routes.iter().map(route).collect()
    }
}

/// One route of an outbound call.
pub struct CallRoute {
    /// The destination.
    pub outbound: Outbound,
    /// The user to call, if the destination is a user with contacts.
    pub user: Option<CalledUser>,
    /// Whether 3xx responses are followed. Redirections from a phone of this server are not followed, because the phone
    /// is not identified by its own URI.
    pub follows_redirects: bool,
    /// The settings of the media on this route.
    pub media: RouteMedia,
}

impl CallRoute {
    /// Creates the route to this destination. `user` has the contacts of the destination's user, if it has one.
    pub fn new(outbound: Outbound, user: Option<CalledUser>, routing: &Routing) -> Self {
        let name = outbound.trunk_name();
        let media = RouteMedia::new(routing, name, outbound.user.as_ref());
        let follows_redirects = outbound.user.is_none() && routing.redirects(name);
        Self { outbound, user, follows_redirects, media }
    }
}

/// The settings of the media of a leg, from its trunk or its phone.
#[derive(Clone, Debug)]
pub struct RouteMedia {
    codecs: Vec<media::Codec>,
    source: media::MediaSource,
    srtp: media::Srtp,
    dtmf: DtmfMode,
}

impl RouteMedia {
    /// Returns the settings for a leg over this trunk, or to or from this phone.
    pub fn new(routing: &Routing, trunk: Option<&str>, phone: Option<&clients::User>) -> Self {
        Self {
            codecs: routing.codecs(trunk),
            source: routing.media_source(trunk),
            srtp: routing.srtp(trunk, phone),
            dtmf: routing.dtmf(trunk),
        }
    }

    /// Applies the settings to a session that has agreed on nothing yet. An earlier route may have had other settings.
    pub fn apply(&self, session: &mut media::Session) {
        session.set_codecs(&self.codecs);
        session.set_source(self.source);
        session.set_srtp(self.srtp);
        session.set_events(self.dtmf == DtmfMode::Rfc4733);
    }

    /// Returns the form in which the far end wants digits.
    pub(crate) fn wanted_digits(&self) -> WantedForm {
        if self.dtmf == DtmfMode::Info { WantedForm::Signal } else { WantedForm::Media }
    }
}
