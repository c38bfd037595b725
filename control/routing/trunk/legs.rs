//! The settings of a trunk for the SIP and the media of its legs.

use tandem_clients as clients;
use tandem_media as media;
use tandem_settings::DtmfMode;

use crate::Routing;

impl Routing {
    /// Returns the codecs for calls over a trunk. Returns an empty list if the trunk has no setting for codecs.
    pub fn codecs(&self, trunk: Option<&str>) -> Vec<media::Codec> {
        let names = self.trunk(trunk).map(|trunk| &*trunk.codecs);
        media::CodecName::codecs(names.unwrap_or_default())
    }

    /// Returns the encryption setting for a leg's media, from its trunk or its phone. Without a trunk and a phone, the
    /// media is not encrypted.
    pub fn srtp(&self, trunk: Option<&str>, phone: Option<&clients::User>) -> media::Srtp {
        match (self.trunk(trunk), phone) {
            (Some(trunk), _) => trunk.srtp,
            (None, _) if trunk.is_some_and(|name| self.phones.customer_trunks().is_secure(name)) => {
                media::Srtp::Required
            }
            (None, Some(phone)) => self.phones.srtp(phone),
            (None, None) => media::Srtp::Off,
        }
    }

    /// Returns the hosts from which RTP is accepted in calls over a trunk. For a call without a trunk, returns the
    /// default.
    pub fn media_source(&self, trunk: Option<&str>) -> media::MediaSource {
        self.trunk(trunk).map(|trunk| trunk.media_source).unwrap_or_default()
    }

    /// Returns the DTMF mode for calls over a trunk. For a call without a trunk, returns the default.
    pub fn dtmf(&self, trunk: Option<&str>) -> DtmfMode {
        self.trunk(trunk).map(|trunk| trunk.dtmf).unwrap_or_default()
    }

    /// Whether calls over a trunk follow 3xx responses. A call without a trunk follows 3xx responses.
    pub fn redirects(&self, trunk: Option<&str>) -> bool {
        self.trunk(trunk).is_none_or(|trunk| trunk.redirects)
    }
}
