//! Phones that an account has created by its provider's API, in addition to those of the configuration.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tandem_call::Method;
use tandem_media::Srtp;
use tandem_settings::{EndpointConfig, HttpMethod, Secret};
use tandem_sip as sip;
use tandem_store::resources::{Kind, Resource};

use crate::inventory::Limits;

/// Created phones; the resource's name is the phone's username.
pub const PHONES: Kind<ProvisionedPhone> = Kind::new("phone");
/// Maximum number of phones of one account.
pub const MOST: u64 = 10_000;

/// The settings of a phone. Instead of the password, only its digest hashes for one realm are stored (RFC 7616 §3.4.2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProvisionedPhone {
    /// Hash `H(A1)` for `algorithm=MD5`.
    pub ha1_md5: String,
    /// Hash `H(A1)` for `algorithm=SHA-256`.
    pub ha1_sha256: String,
    /// Name of the dialect that the application of its calls uses.
    pub dialect: String,
    /// URL of the document that is requested for each call of the phone.
    pub voice_url: Option<Arc<str>>,
    /// HTTP method for `voice_url`.
    pub voice_method: Method,
    /// Id of the application of its calls, used instead of `voice_url`.
    pub application: Option<Arc<str>>,
    /// Whether the phone may call over the account's trunks when it has neither `voice_url` nor `application`.
    pub outbound: bool,
    /// Calling number of such calls.
    pub caller_id: Option<String>,
    /// Whether media must be encrypted; `None` for the setting that applies to all phones.
    pub encrypted: Option<bool>,
    /// Display name of the phone for users.
    pub label: String,
    /// Limits of simultaneous calls.
    pub limits: Limits,
    /// Whether the phone is disabled: it can neither register nor call.
    pub inactive: bool,
    /// Time at which the phone expires; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// Further members that the provider's API stores.
    pub other: Map<String, Value>,
}

impl ProvisionedPhone {
    /// Sets the digest hashes of a password.
    pub fn set_password(&mut self, username: &str, realm: &str, password: &str) {
        let sip::Ha1 { md5, sha256 } = sip::Ha1::of(username, realm, password);
        (self.ha1_md5, self.ha1_sha256) = (md5.into(), sha256.into());
    }

    /// Returns the claim that keeps usernames unique within an account, ignoring case.
    pub fn claim(account: &str, username: &str) -> String {
        format!("phone {account} {}", username.to_ascii_lowercase())
    }
}

pub(super) fn user(row: &Resource<ProvisionedPhone>) -> sip::User {
    let phone = &row.details;
    sip::User {
        account: row.account.as_str().into(),
        username: row.name.as_str().into(),
        ha1: sip::Ha1 { md5: phone.ha1_md5.as_str().into(), sha256: phone.ha1_sha256.as_str().into() },
        domain: None,
        trunk: None,
        registers: true,
        calls: true,
    }
}

/// Returns the phone in the form of the configuration, with an empty password.
pub(super) fn endpoint(row: &Resource<ProvisionedPhone>) -> EndpointConfig {
    let phone = &row.details;
    EndpointConfig {
        account: row.account.as_str().into(),
        username: row.name.as_str().into(),
        password: Secret::new(""),
        provider: Some(phone.dialect.as_str().into()),
        voice_url: phone.voice_url.clone(),
        voice_method: if phone.voice_method == Method::Get { HttpMethod::Get } else { HttpMethod::Post },
        application: phone.application.clone(),
        outbound: phone.outbound,
        caller_id: phone.caller_id.as_deref().and_then(|number| number.parse().ok()),
        srtp: phone.encrypted.map(|encrypted| if encrypted { Srtp::Required } else { Srtp::Off }),
    }
}
