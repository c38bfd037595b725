//! The media session of a leg as the writer and reader of its descriptions (SDP).
//!
//! A leg that rings at contacts with two kinds of media has two sessions until the answer. Each session has its own ports
//! and its own offer. Until the answer, no command reaches the media engine: the session that is kept gets the commands.

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_host::clock;
use tandem_id::LegId;
use tandem_leg::fork::MediaKind;
use tandem_leg::offer_answer::{Describe, Unusable};
use tandem_media as media;

use crate::calling::RouteMedia;

/// Maximum number of commands that wait for the answer.
const MAX_HELD: usize = 64;

/// A function that opens another media session for the same leg, with a key of its own. Returns `None` if there is no
/// room.
pub type OpenSession = Box<dyn Fn() -> Option<media::Session> + Send + Sync>;

/// A media session, and what its descriptions depend on.
pub(crate) struct Description {
    /// The session in use.
    pub(crate) session: media::Session,
    /// The sessions of a leg that may ring at contacts with two kinds of media.
    two: Option<Box<TwoKinds>>,
    /// The codec preference of the leg that is or will be bridged with this leg.
    preferred: media::Preference,
    /// The settings of each route. The session has the settings of the first route from its beginning.
    routes: Vec<RouteMedia>,
}

struct TwoKinds {
    leg: LegId,
    open: OpenSession,
    /// The session of the other kind of media.
    other: Option<media::Session>,
    /// The index of the route.
    route: usize,
    /// The commands that wait for the answer. Only the task of the call uses this value.
    held: Mutex<Vec<media::Command>>,
}

impl Description {
    pub(crate) fn new(session: media::Session, preferred: media::Preference, routes: Vec<RouteMedia>) -> Self {
        Self { session, two: None, preferred, routes }
    }

    /// Lets the leg ring at contacts with two kinds of media. `open` opens the session of the second kind.
    pub(crate) fn with_two_kinds(mut self, open: OpenSession) -> Self {
        let (leg, other, route, held) = (self.session.key(), None, 0, Mutex::default());
        self.two = Some(Box::new(TwoKinds { leg, open, other, route, held }));
        self
    }

    /// Returns the second offer (see [`media::Session::offer_secured`]) to contacts with the kind of media in use, or with
    /// the other kind.
    pub(crate) fn offer_secured(&mut self, of_other: bool) -> Option<Bytes> {
        match of_other {
            false => self.session.offer_secured(),
            true => self.two.as_mut()?.other.as_mut()?.offer_secured(),
        }
    }

    /// Sends a command to the session. While there are two sessions, the command waits for the answer.
    pub(crate) fn command(&self, command: media::Command) -> Result<(), media::Busy> {
        let Some(two) = self.two.as_ref().filter(|two| two.other.is_some()) else {
            return self.session.command(command);
        };
        let mut held = two.held.lock();
        if held.len() >= MAX_HELD {
            return Err(media::Busy);
        }
        held.push(command);
        Ok(())
    }

    /// Frees the parts that only a ringing leg needs.
    pub(crate) fn answered(&mut self) {
        self.two = None;
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

impl Drop for Description {
    /// The session gets the commands that wait, because each operation must report its end.
    fn drop(&mut self) {
        self.close_other();
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

    fn use_media(&mut self, kind: MediaKind) {
        match kind {
            MediaKind::Plain => {}
            MediaKind::WebRtc => self.session.offer_ice(),
        }
    }

    fn open_other(&mut self) -> bool {
        let Some(two) = &mut self.two else { return false };
        two.other = (two.open)();
        if let (Some(other), Some(route)) = (&mut two.other, self.routes.get(two.route)) {
            route.apply(other);
        }
        two.other.is_some()
    }

    fn switch(&mut self) {
        if let Some(other) = self.two.as_mut().and_then(|two| two.other.as_mut()) {
            std::mem::swap(&mut self.session, other);
        }
    }

    fn close_other(&mut self) {
        let Some(two) = &mut self.two else { return };
        if let Some(mut other) = two.other.take()
            && other.key() == two.leg
        {
            // The media engine knows the session of a leg by the id of the leg.
            let unused = LegId::new(clock::time(), &mut rand::rng());
            if !(other.rename(unused) && self.session.rename(two.leg)) {
                tracing::error!(leg = %two.leg, "cannot give the media session of the answered contact to the leg");
            }
        }
        for command in two.held.get_mut().drain(..) {
            if let Err(error) = self.session.command(command) {
                tracing::warn!(leg = %two.leg, ?error, "media engine accepts no commands");
            }
        }
    }

    fn use_route(&mut self, index: usize) {
        if let Some(two) = &mut self.two {
            two.route = index;
        }
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
