//! Accounts: who may use the server, in whose API's words.

use std::sync::Arc;

use serde::Deserialize;

/// The account that a server makes for itself when none is configured.
pub const DEFAULT_ACCOUNT: &str = "default";

/// One account, with its credentials in each dialect it speaks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its name in this server.
    pub name: Arc<str>,
    /// Twilio credentials.
    pub twilio: Option<TwilioCredentials>,
    /// Telnyx credentials.
    pub telnyx: Option<TelnyxCredentials>,
    /// SignalWire credentials.
    pub signalwire: Option<SignalwireCredentials>,
    /// It runs the server: it may see what belongs to no account (strangers' messages, bans), and lift bans.
    #[serde(default)]
    pub operator: bool,
}

/// How Twilio's clients log in and how its webhooks are signed.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwilioCredentials {
    /// `AC` and 32 hex digits.
    pub account_sid: String,
    /// Password of the API and key of the signatures.
    pub auth_token: String,
}

/// How Telnyx's clients log in and how its webhooks are signed.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelnyxCredentials {
    /// Bearer token.
    pub api_key: String,
    /// Base64 of the 32 bytes of an Ed25519 seed (RFC 8032); the public key is derived, printed and served.
    pub signing_seed: String,
}

/// How SignalWire's clients log in and how its webhooks are signed.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalwireCredentials {
    /// A UUID.
    pub project_id: String,
    /// Password of the API.
    pub api_token: String,
    /// Key of the signatures.
    pub signing_key: String,
}

macro_rules! secret_debug {
    ($($type:ident . $shown:ident),+) => {$(
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type)).field(stringify!($shown), &self.$shown).finish_non_exhaustive()
            }
        }
    )+};
}

impl std::fmt::Debug for TelnyxCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TelnyxCredentials").finish_non_exhaustive()
    }
}

secret_debug!(TwilioCredentials.account_sid, SignalwireCredentials.project_id);

/// All accounts.
#[derive(Clone, Debug, Default)]
pub struct Accounts(Vec<Arc<Account>>);

impl Accounts {
    /// From the configuration.
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        Self(accounts.into_iter().map(Arc::new).collect())
    }

    /// Every account.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.0.iter()
    }

    /// Whether it may see and do what is the server's and no account's. An only account may.
    pub fn is_operator(&self, account: &Account) -> bool {
        account.operator || self.0.len() == 1
    }

    /// By its name in this server.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Account>> {
        self.0.iter().find(|account| &*account.name == name)
    }
}

impl Accounts {
    /// By its Telnyx API key. Every key is compared, in constant time, so that answers tell nothing about near misses.
    pub fn by_telnyx_key(&self, key: &str) -> Option<&Arc<Account>> {
        use subtle::ConstantTimeEq;
        let mut found = None;
        for account in &self.0 {
            let matches =
                account.telnyx.as_ref().is_some_and(|telnyx| telnyx.api_key.as_bytes().ct_eq(key.as_bytes()).into());
            if matches {
                found = Some(account);
            }
        }
        found
    }
}

impl Accounts {
    /// By the SID that Twilio's clients log in with.
    pub fn by_twilio_sid(&self, sid: &str) -> Option<&Arc<Account>> {
        self.0.iter().find(|account| account.twilio.as_ref().is_some_and(|twilio| twilio.account_sid == sid))
    }
}
