//! Phones that an account has created with the API of its provider, in addition to the phones of the configuration.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tandem_call::Method;
use tandem_id::AccountName;
use tandem_media::Srtp;
use tandem_settings::{EndpointConfig, Secret};
use tandem_sip as sip;
use tandem_store::resources::{Kind, Resource};

use crate::inventory::Limits;

/// The stored phones. The name of the resource is the user name of the phone.
pub const PHONES: Kind<ProvisionedPhone> = Kind::new("phone");
/// Maximum number of phones of one account.
pub const MAX_PHONES: u64 = 10_000;

/// The settings of a phone. The password is not stored. Only the digest hashes of the password for one realm are stored
/// (RFC 7616 §3.4.2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProvisionedPhone {
    /// The hash `H(A1)` for `algorithm=MD5`.
    pub ha1_md5: String,
    /// The hash `H(A1)` for `algorithm=SHA-256`.
    pub ha1_sha256: String,
    /// Name of the dialect of the phone's application.
    pub dialect: String,
    /// URL of the document for each call from the phone.
    pub voice_url: Option<Arc<str>>,
    /// HTTP method of `voice_url`.
    pub voice_method: Method,
    /// Id of the application for calls from the phone, as an alternative to `voice_url`.
    pub application: Option<Arc<str>>,
    /// Whether the phone may call over the account's trunks if it has neither `voice_url` nor `application`.
    pub outbound: bool,
    /// Calling number of the phone's calls over the account's trunks.
    pub caller_id: Option<String>,
    /// Whether media must be encrypted. `None` means the setting that applies to all phones.
    pub encrypted: Option<bool>,
    /// Name of the phone that users see.
    pub label: String,
    /// Limits on concurrent calls.
    pub limits: Limits,
    /// Whether the phone is disabled. A disabled phone can neither register nor call.
    pub inactive: bool,
    /// Time at which the phone expires. `None` means that the phone does not expire.
    pub expires_at: Option<Timestamp>,
    /// Additional members that the provider's API stores.
    pub other: Map<String, Value>,
}

impl ProvisionedPhone {
    /// Stores the digest hashes of a password.
    pub fn set_password(&mut self, username: &str, realm: &str, password: &str) {
        let sip::Ha1 { md5, sha256 } = sip::Ha1::of(username, realm, password);
        (self.ha1_md5, self.ha1_sha256) = (md5.into(), sha256.into());
    }

    /// Returns the claim that makes user names unique within an account. The claim contains the user name in lower
    /// case, so user names that differ only in case are equal.
    pub fn claim(account: &AccountName, username: &str) -> String {
        format!("phone {account} {}", username.to_ascii_lowercase())
    }
}

pub(super) fn user(row: &Resource<ProvisionedPhone>) -> sip::User {
    let phone = &row.details;
    sip::User {
        account: row.account.clone(),
        username: row.name.as_str().into(),
        ha1: sip::Ha1 { md5: phone.ha1_md5.as_str().into(), sha256: phone.ha1_sha256.as_str().into() },
        domain: None,
        trunk: None,
        registers: true,
        calls: true,
    }
}

/// Converts the phone to the form of the configuration, with an empty password.
pub(super) fn endpoint(row: &Resource<ProvisionedPhone>) -> EndpointConfig {
    let phone = &row.details;
    EndpointConfig {
        account: row.account.clone(),
        username: row.name.as_str().into(),
        password: Secret::new(""),
        provider: Some(phone.dialect.as_str().into()),
        voice_url: phone.voice_url.clone(),
        voice_method: phone.voice_method,
        application: phone.application.clone(),
        outbound: phone.outbound,
        caller_id: phone.caller_id.as_deref().and_then(|number| number.parse().ok()),
        webrtc: None,
        srtp: phone.encrypted.map(|encrypted| if encrypted { Srtp::Required } else { Srtp::Off }),
    }
}
