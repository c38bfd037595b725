//! The media session of a leg as the writer and reader of its descriptions (SDP).

use bytes::Bytes;
use tandem_leg::negotiation::{Describe, Unusable};
use tandem_media as media;

use crate::calling::RouteMedia;

/// A media session, and what its descriptions depend on.
pub(crate) struct Description {
    pub(crate) session: media::Session,
    /// The codec preference of the leg that is or will be bridged with this leg.
    preferred: media::Preference,
    /// The settings of each route. The session has the settings of the first route from its beginning.
    routes: Vec<RouteMedia>,
}

impl Description {
    pub(crate) fn new(session: media::Session, preferred: media::Preference, routes: Vec<RouteMedia>) -> Self {
        Self { session, preferred, routes }
    }

    /// Sets the codec preference of the other leg. Returns whether another answer is worth preparing: one with this codec
    /// alone.
    pub(crate) fn prefer(&mut self, preferred: media::Preference) -> bool {
        let Some(codec) = preferred.codecs.first() else { return false };
        let changes = self.session.codec() != Some(*codec);
        self.preferred = preferred;
        changes
    }
}

impl Describe for Description {
    fn offer(&mut self) -> Bytes {
        self.session.offer_preferring(&self.preferred)
    }

    fn refresh_offer(&mut self) -> Bytes {
        let mut agreed = self.session.preference();
        agreed.codecs.truncate(1);
        self.session.offer_preferring(&agreed)
    }

    fn prepare(&mut self, offer: &[u8]) -> Result<Bytes, Unusable> {
        // Another codec than the first preference would need transcoding as well.
        let codecs = self.preferred.codecs.iter().take(1).copied().collect();
        let preferred = media::Preference { codecs, comfort_noise: self.preferred.comfort_noise };
        self.session.prepare_answer(offer, &preferred).map_err(|error| unusable(&error))
    }

    fn settle(&mut self) {
        self.session.settle();
    }

    fn answer(&mut self, offer: &[u8]) -> Result<Bytes, Unusable> {
        self.session.answer_preferring(offer, &self.preferred).map_err(|error| unusable(&error))
    }

    fn accept(&mut self, answer: &[u8]) -> Result<(), Unusable> {
        self.session.accept(answer).map_err(|error| unusable(&error))
    }

    fn decline(&mut self, offer: &[u8]) -> Option<Bytes> {
        self.session.decline(offer)
    }

    fn use_route(&mut self, index: usize) {
        // The session was opened with the settings of the first route.
        if let Some(route) = self.routes.get(index).filter(|_| index > 0) {
            route.apply(&mut self.session);
        }
    }

    fn codec(&self) -> Option<&'static str> {
        self.session.codec().map(media::Codec::name)
    }

    fn owes_offer(&self) -> bool {
        self.session.owes_new_keys()
    }
}

/// Returns the refusal of a description.
fn unusable(error: &media::SdpError) -> Unusable {
    let (status, warning) = match error {
        media::SdpError::Malformed(_) => (400, 399),
        media::SdpError::Incompatible(_) => (488, 305),
        media::SdpError::AddressFamily { .. } => (488, 301),
        media::SdpError::Srtp(_) => (488, 302),
    };
    Unusable { status, why: error.to_string(), warning }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_description_has_the_status_and_the_warning_of_its_fault() {
        for (error, status, start) in [
            (media::SdpError::Incompatible("no \"audio\"".into()), 488, "305 tandem \"incompatible SDP: no audio\""),
            (
                media::SdpError::AddressFamily { theirs: "IPv6", ours: "IPv4" },
                488,
                "301 tandem \"incompatible SDP: the address ",
            ),
            (media::SdpError::Srtp("no key"), 488, "302 tandem \"incompatible SDP: no key\""),
            (media::SdpError::Malformed("x".into()), 400, "399 tandem \"malformed SDP: x\""),
        ] {
            let refused = unusable(&error);
            assert_eq!(refused.status, status);
            let (phrase, fields) = refused.into_parts();
            assert_eq!(phrase.is_some(), status == 400);
            assert!(fields[0].1.starts_with(start), "{fields:?}");
        }
    }
}
