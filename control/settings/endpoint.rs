//! `[[endpoints]]`: SIP phones and browsers that register with us.

use std::sync::Arc;

use serde::Deserialize;
use tandem_call::address::PhoneNumber;

use super::{HttpMethod, Secret};

/// `[[endpoints]]`: a SIP phone or browser that registers with us.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Whose it is.
    pub account: Arc<str>,
    /// Its user name, for digest and to be called by.
    pub username: Arc<str>,
    /// Its digest password.
    pub password: Secret,
    /// Whose words its web application speaks, one of [`PROVIDERS`](super::PROVIDERS); taken from `application` when that is set.
    #[serde(default)]
    pub provider: Option<Arc<str>>,
    /// Document of each call that it makes.
    #[serde(default)]
    pub voice_url: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub voice_method: HttpMethod,
    /// Instead of `voice_url`: the id of an application.
    #[serde(default)]
    pub application: Option<Arc<str>>,
    /// Without either: whether it may call by the account's trunks, beside phones and numbers of the account.
    #[serde(default)]
    pub outbound: bool,
    /// The number that such calls are said to come from; its user name when `None`.
    #[serde(default)]
    pub caller_id: Option<PhoneNumber>,
    /// Encrypted media (RFC 3711, keys by RFC 4568), both ways; what `media.endpoint_srtp` says when `None`.
    #[serde(default)]
    pub srtp: Option<tandem_media::Srtp>,
}
