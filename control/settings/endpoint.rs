//! `[[endpoints]]`: SIP phones and browsers that register with this server.

use std::sync::Arc;

use serde::Deserialize;
use tandem_call::address::PhoneNumber;

use super::{HttpMethod, Secret};

/// An entry of `[[endpoints]]`: a SIP phone or browser that registers with this server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// The account that owns the phone.
    pub account: Arc<str>,
    /// The user name: for digest authentication, and the name under which the phone is called.
    pub username: Arc<str>,
    /// The digest password.
    pub password: Secret,
    /// The dialect of its web application, one of [`PROVIDERS`](super::PROVIDERS); taken from `application` if that is
    /// set.
    #[serde(default)]
    pub provider: Option<Arc<str>>,
    /// The URL of the document for each call that the phone makes.
    #[serde(default)]
    pub voice_url: Option<Arc<str>>,
    /// The HTTP method of `voice_url`.
    #[serde(default)]
    pub voice_method: HttpMethod,
    /// The id of an application, instead of `voice_url`.
    #[serde(default)]
    pub application: Option<Arc<str>>,
    /// Without an application: whether the phone may call over the account's trunks, beside phones and numbers of the
    /// account.
    #[serde(default)]
    pub outbound: bool,
    /// The caller id of such calls; the user name when `None`.
    #[serde(default)]
    pub caller_id: Option<PhoneNumber>,
    /// Media encryption (SRTP, RFC 3711, with keys in SDP, RFC 4568) in both directions; `media.endpoint_srtp` when
    /// `None`.
    #[serde(default)]
    pub srtp: Option<tandem_media::Srtp>,
}
