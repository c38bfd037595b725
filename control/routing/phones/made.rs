//! Phones that an account has made by its provider's API, beside those of the configuration.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tandem_call::Method;
use tandem_media::Srtp;
use tandem_settings::{EndpointConfig, HttpMethod, Secret};
use tandem_sip as sip;
use tandem_store::resources::{Kind, Resource};

use crate::holdings::Limits;

/// All of them; a resource's name is the phone's user name.
pub const PHONES: Kind<MadePhone> = Kind::new("phone");
/// Most of one account.
pub const MOST: u64 = 10_000;

/// One. Its password is not kept, only what digest authentication needs of it (RFC 7616 §3.4.2), for one realm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MadePhone {
    /// For `algorithm=MD5`.
    pub ha1_md5: String,
    /// For `algorithm=SHA-256`.
    pub ha1_sha256: String,
    /// Whose words the application of its calls speaks.
    pub dialect: String,
    /// The document of each call that it makes.
    pub voice_url: Option<Arc<str>>,
    /// How it is asked for.
    pub voice_method: Method,
    /// Instead of it: an application's id.
    pub application: Option<Arc<str>>,
    /// Without either: whether it may call by the account's trunks.
    pub outbound: bool,
    /// The number that such calls are from.
    pub caller_id: Option<String>,
    /// Whether its media must be encrypted; what the configuration says for all when `None`.
    pub encrypted: Option<bool>,
    /// What people call it.
    pub label: String,
    /// How many calls it may have at the same time.
    pub limits: Limits,
    /// It neither registers nor calls.
    pub inactive: bool,
    /// From then on it is not there any more.
    pub expires_at: Option<Timestamp>,
    /// What else its API keeps of it.
    pub other: Map<String, Value>,
}

impl MadePhone {
    /// Sets the password.
    pub fn set_password(&mut self, username: &str, realm: &str, password: &str) {
        let sip::Ha1 { md5, sha256 } = sip::Ha1::of(username, realm, password);
        (self.ha1_md5, self.ha1_sha256) = (md5.into(), sha256.into());
    }

    /// What no other phone of the account may have.
    pub fn claim(account: &str, username: &str) -> String {
        format!("phone {account} {}", username.to_ascii_lowercase())
    }
}

/// Who may register and call as this phone.
pub(super) fn user(row: &Resource<MadePhone>) -> sip::User {
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

/// The phone as the configuration would have it; its password is elsewhere.
pub(super) fn endpoint(row: &Resource<MadePhone>) -> EndpointConfig {
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
