//! `[[endpoints]]`: SIP phones and browsers that register with this server.

use std::sync::Arc;

use serde::Deserialize;
use tandem_call::Method;
use tandem_call::address::PhoneNumber;
use tandem_id::AccountName;

use super::{Secret, method};

/// An entry of `[[endpoints]]`: a SIP phone or browser that registers with this server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// The account that owns the phone. If there is only one account, the key may be left out.
    #[serde(default)]
    pub account: AccountName,
    /// The user name, which is used for digest authentication and for calls to the phone.
    pub username: Arc<str>,
    /// The digest password.
    pub password: Secret,
    /// The dialect of the phone's web application, one of [`PROVIDERS`](super::PROVIDERS). If `application` is set, the
    /// dialect comes from the application.
    #[serde(default)]
    pub provider: Option<Arc<str>>,
    /// The URL of the document for each call from the phone.
    #[serde(default)]
    pub voice_url: Option<Arc<str>>,
    /// The HTTP method of `voice_url`.
    #[serde(default, deserialize_with = "method")]
    pub voice_method: Method,
    /// The id of an application, as an alternative to `voice_url`.
    #[serde(default)]
    pub application: Option<Arc<str>>,
    /// Whether a phone without an application may call over the account's trunks. Such a phone may always call phones
    /// and numbers of the account.
    #[serde(default)]
    pub outbound: bool,
    /// The caller ID of calls over the account's trunks. `None` means the user name.
    #[serde(default)]
    pub caller_id: Option<PhoneNumber>,
    /// Media encryption in both directions (SRTP, RFC 3711). The keys are in the SDP (RFC 4568). `None` means the
    /// setting `media.endpoint_srtp`.
    #[serde(default)]
    pub srtp: Option<tandem_media::Srtp>,
    /// Whether calls to the phone have the media of browsers: ICE and DTLS-SRTP (RFC 8827). `None` means that phones with a
    /// WebSocket are browsers, and other phones are not. Calls from the phone may have either kind in any case.
    #[serde(default)]
    pub webrtc: Option<bool>,
}
