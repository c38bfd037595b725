//! Accounts: the customers of this server, with their API credentials. The configuration names some; these create
//! others below them with REST.
#![forbid(unsafe_code)]

pub mod changes;
pub mod subaccount;
pub mod usage;

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::RwLock;
use serde::Deserialize;
use tandem_store::{Store, StoreError};

use subaccount::{AccountStatus, Key, Subaccount};

/// The account that a server creates for itself when the configuration names none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// An account, with its credentials for the API of each provider that it uses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The account's name in this server.
    pub name: Arc<str>,
    /// Credentials for the Twilio-compatible API.
    pub twilio: Option<TwilioCredentials>,
    /// Credentials for the Telnyx-compatible API.
    pub telnyx: Option<TelnyxCredentials>,
    /// Credentials for the SignalWire-compatible API.
    pub signalwire: Option<SignalwireCredentials>,
    /// Whether the account operates the server: it may then see what belongs to no account (unknown senders' messages,
    /// bans), and lift bans.
    #[serde(default)]
    pub operator: bool,
}

impl Account {
    /// An account that another account created with REST. Its name in this server is `id`. With a signing key it is a
    /// SignalWire project, without one a Twilio subaccount.
    pub fn made(id: &str, secret: Option<String>, signing_key: Option<String>) -> Self {
        let mut made = Self { name: id.into(), twilio: None, telnyx: None, signalwire: None, operator: false };
        match (secret, signing_key) {
            (Some(api_token), Some(signing_key)) => {
                made.signalwire = Some(SignalwireCredentials { project_id: id.to_owned(), api_token, signing_key });
            }
            (Some(auth_token), None) => {
                made.twilio = Some(TwilioCredentials { account_sid: id.to_owned(), auth_token });
            }
            (None, _) => {}
        }
        made
    }

    /// The user names with which the account may call from this machine, each with its secret: the account's name in
    /// this server and its Twilio and SignalWire ids. Twilio and SignalWire ids have the secret of their API; the name
    /// has the secret of the first API in the order Twilio, Telnyx, SignalWire.
    pub fn callers(&self) -> impl Iterator<Item = (&str, &str)> {
        let twilio = self.twilio.as_ref().map(|own| (Some(&*own.account_sid), &*own.auth_token));
        let telnyx = self.telnyx.as_ref().map(|own| (None, &*own.api_key));
        let signalwire = self.signalwire.as_ref().map(|own| (Some(&*own.project_id), &*own.api_token));
        let own = [twilio, telnyx, signalwire];
        let secret = own.iter().flatten().map(|(_, secret)| *secret).next();
        let ids = own.into_iter().flatten().filter_map(|(id, secret)| Some((id?, secret)));
        secret.map(|secret| (&*self.name, secret)).into_iter().chain(ids)
    }

    /// The name of the dialect in which the account's documents are written when no setting names one: the first for
    /// which the account has credentials, in the order `twilio`, `signalwire`, `texml` (Telnyx); `twilio` without
    /// credentials.
    pub fn documents(&self) -> &'static str {
        match (&self.twilio, &self.signalwire, &self.telnyx) {
            (None, Some(_), _) => "signalwire",
            (None, None, Some(_)) => "texml",
            _ => "twilio",
        }
    }

    /// The two arguments of [`Account::made`]: the secret, and the signing key of a SignalWire project.
    fn secrets(&self) -> (Option<&str>, Option<&str>) {
        let twilio = self.twilio.as_ref().map(|own| &*own.auth_token);
        let signalwire = self.signalwire.as_ref().map(|own| (&*own.api_token, &*own.signing_key));
        (twilio.or(signalwire.map(|(token, _)| token)), signalwire.map(|(_, key)| key))
    }
}

/// Credentials with which Twilio clients log in and with which webhooks to Twilio applications are signed.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwilioCredentials {
    /// `AC` and 32 hex digits.
    pub account_sid: String,
    /// The password of the API, and the key of the webhook signatures.
    pub auth_token: String,
}

/// Credentials with which Telnyx clients log in and with which webhooks to Telnyx applications are signed.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelnyxCredentials {
    /// The Bearer token of the API.
    pub api_key: String,
    /// Base64 of the 32-byte seed of an Ed25519 key (RFC 8032). The public key is derived from it, printed at the start
    /// and served by the API.
    pub signing_seed: String,
}

/// Credentials with which SignalWire clients log in and with which webhooks to SignalWire applications are signed.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalwireCredentials {
    /// The UUID of the project.
    pub project_id: String,
    /// The password of the API.
    pub api_token: String,
    /// The key of the webhook signatures.
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

/// All current accounts and the API keys that they created. All lookups here use memory only.
#[derive(Debug, Default)]
pub struct Accounts(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    configured: Vec<Arc<Account>>,
    /// By name: the accounts that others created, and the changes made with REST to accounts of the configuration.
    made: HashMap<Arc<str>, Arc<Subaccount>>,
    /// The API keys by id: all keys of the database.
    keys: HashMap<u128, Arc<Key>>,
    /// The accounts of the configuration, then those created with REST, oldest first.
    all: Arc<Vec<Arc<Account>>>,
    by_name: HashMap<Arc<str>, Arc<Account>>,
    by_sid: HashMap<String, Arc<Account>>,
}

impl Known {
    /// Rebuilds the lists. If two accounts have the same name or SID, the account of the configuration wins.
    fn settle(&mut self) {
        let mut made: Vec<_> = self.made.values().filter(|made| made.parent.is_some()).collect();
        made.retain(|made| !self.is_configured(&made.account.name));
        made.sort_by_key(|made| (made.created_at, Arc::clone(&made.account.name)));
        let all: Vec<_> = self.configured.iter().chain(made.iter().map(|made| &made.account)).cloned().collect();
        self.by_name.clear();
        self.by_sid.clear();
        for account in &all {
            self.by_name.entry(Arc::clone(&account.name)).or_insert_with(|| Arc::clone(account));
            let twilio = account.twilio.iter().map(|own| &own.account_sid);
            let signalwire = account.signalwire.iter().map(|own| &own.project_id);
            for sid in twilio.chain(signalwire) {
                self.by_sid.entry(sid.clone()).or_insert_with(|| Arc::clone(account));
            }
        }
        self.all = Arc::new(all);
    }

    fn is_configured(&self, name: &str) -> bool {
        self.configured.iter().any(|account| &*account.name == name)
    }

    fn standing(&self, name: &str) -> AccountStatus {
        if self.is_configured(name) {
            return AccountStatus::Active;
        }
        match self.made.get(name) {
            // A subaccount is closed when the configuration no longer contains its parent.
            Some(made) if made.parent.as_deref().is_some_and(|parent| self.is_configured(parent)) => made.standing,
            _ => AccountStatus::Closed,
        }
    }
}

impl Accounts {
    /// Accounts of the configuration only; [`Accounts::load`] adds the others.
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        let known = Self::default();
        known.replace(accounts);
        known
    }

    /// Replaces the accounts of the configuration. A request that was authenticated before is still completed.
    pub fn replace(&self, accounts: impl IntoIterator<Item = Account>) {
        let mut known = self.0.write();
        known.configured = accounts.into_iter().map(Arc::new).collect();
        known.settle();
    }

    /// Loads subaccounts, changed accounts and API keys from the database. Called once at the start.
    pub async fn load(&self, store: &Store) -> Result<(), StoreError> {
        let (made, keys) = (subaccount::all(store).await?, subaccount::keys(store).await?);
        let mut known = self.0.write();
        known.made = made.into_iter().map(|made| (Arc::clone(&made.account.name), Arc::new(made))).collect();
        known.keys = keys.into_iter().map(|key| (key.id, Arc::new(key))).collect();
        known.settle();
        Ok(())
    }

    /// Adds or replaces an account that the database already contains in this form.
    pub(crate) fn put(&self, made: Subaccount) {
        let mut known = self.0.write();
        known.made.insert(Arc::clone(&made.account.name), Arc::new(made));
        known.settle();
    }

    /// Adds or replaces an API key that the database already contains in this form.
    pub(crate) fn put_key(&self, key: Key) {
        self.0.write().keys.insert(key.id, Arc::new(key));
    }

    /// Removes an API key from memory; it is no longer accepted.
    pub(crate) fn forget_key(&self, id: u128) {
        self.0.write().keys.remove(&id);
    }

    /// All accounts: those of the configuration, then those created with REST, oldest first.
    pub fn all(&self) -> Arc<Vec<Arc<Account>>> {
        Arc::clone(&self.0.read().all)
    }

    /// The record that REST made of this account: a subaccount, or the changes to an account of the configuration.
    pub fn made(&self, name: &str) -> Option<Arc<Subaccount>> {
        self.0.read().made.get(name).cloned()
    }

    /// The accounts that this account created, oldest first.
    pub fn below(&self, name: &str) -> Vec<Arc<Subaccount>> {
        let known = self.0.read();
        let mut below: Vec<_> =
            known.made.values().filter(|made| made.parent.as_deref() == Some(name)).cloned().collect();
        below.sort_by_key(|made| (made.created_at, made.id));
        below
    }

    /// The account that created this one; `None` for an account of the configuration.
    pub fn parent(&self, name: &str) -> Option<Arc<str>> {
        let known = self.0.read();
        known.made.get(name).and_then(|made| made.parent.clone()).filter(|_| !known.is_configured(name))
    }

    /// Whether the account may make calls and requests. Accounts of the configuration always may.
    pub fn standing(&self, name: &str) -> AccountStatus {
        self.0.read().standing(name)
    }

    /// Whether the account may see and change what belongs to the server instead of an account. The operator may, and
    /// so may the only account of a configuration.
    pub fn is_operator(&self, account: &Account) -> bool {
        let known = self.0.read();
        account.operator || (known.configured.len() == 1 && known.is_configured(&account.name))
    }

    /// The account of this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Account>> {
        self.0.read().by_name.get(name).cloned()
    }

    /// The dialect of an account's documents when no setting names one ([`Account::documents`]); `twilio` for an
    /// unknown account.
    pub fn documents(&self, name: &str) -> &'static str {
        self.by_name(name).map_or("twilio", |account| account.documents())
    }

    /// The account with this Twilio account SID or SignalWire project id.
    pub fn by_sid(&self, sid: &str) -> Option<Arc<Account>> {
        self.0.read().by_sid.get(sid).cloned()
    }

    /// The number of API keys that the account has.
    pub fn keys_of(&self, name: &str) -> usize {
        self.0.read().keys.values().filter(|key| &*key.account == name).count()
    }

    /// The account that owns this API key, if the secret is right.
    pub fn by_key(&self, id: u128, secret: &str) -> Option<Arc<Account>> {
        let known = self.0.read();
        let key = known.keys.get(&id)?;
        key.fits(secret).then(|| known.by_name.get(&key.account).cloned())?
    }

    /// The account with this Telnyx API key. Every key is compared, in constant time, so that response times reveal
    /// nothing about a key that is partly right.
    pub fn by_telnyx_key(&self, key: &str) -> Option<Arc<Account>> {
        use subtle::ConstantTimeEq;
        let mut found = None;
        for account in self.all().iter() {
            let matches =
                account.telnyx.as_ref().is_some_and(|telnyx| telnyx.api_key.as_bytes().ct_eq(key.as_bytes()).into());
            if matches {
                found = Some(Arc::clone(account));
            }
        }
        found
    }
}
