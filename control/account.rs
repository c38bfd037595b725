//! Accounts: who may use the server, in whose API's words.

use std::sync::Arc;

use serde::Deserialize;

use crate::current::Current;

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

/// All accounts, as they are now.
#[derive(Debug, Default)]
pub struct Accounts(Current<Vec<Arc<Account>>>);

impl Accounts {
    /// From the configuration.
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        Self(Current::new(accounts.into_iter().map(Arc::new).collect()))
    }

    /// From another configuration. Who has logged in before stays so until its request is answered.
    pub fn replace(&self, accounts: impl IntoIterator<Item = Account>) {
        self.0.set(accounts.into_iter().map(Arc::new).collect());
    }

    /// Every account.
    pub fn all(&self) -> Arc<Vec<Arc<Account>>> {
        self.0.get()
    }

    /// Whether it may see and do what is the server's and no account's. An only account may.
    pub fn is_operator(&self, account: &Account) -> bool {
        account.operator || self.0.get().len() == 1
    }

    /// By its name in this server.
    pub fn by_name(&self, name: &str) -> Option<Arc<Account>> {
        self.find(|account| &*account.name == name)
    }

    /// By the SID that Twilio's clients log in with.
    pub fn by_twilio_sid(&self, sid: &str) -> Option<Arc<Account>> {
        self.find(|account| account.twilio.as_ref().is_some_and(|twilio| twilio.account_sid == sid))
    }

    /// By its Telnyx API key. Every key is compared, in constant time, so that answers tell nothing about near misses.
    pub fn by_telnyx_key(&self, key: &str) -> Option<Arc<Account>> {
        use subtle::ConstantTimeEq;
        let mut found = None;
        for account in self.0.get().iter() {
            let matches =
                account.telnyx.as_ref().is_some_and(|telnyx| telnyx.api_key.as_bytes().ct_eq(key.as_bytes()).into());
            if matches {
                found = Some(Arc::clone(account));
            }
        }
        found
    }

    fn find(&self, fits: impl Fn(&Account) -> bool) -> Option<Arc<Account>> {
        self.0.get().iter().find(|account| fits(account)).cloned()
    }
}
