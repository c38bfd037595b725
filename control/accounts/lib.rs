//! Accounts: the customers of this server, and their API credentials. The configuration names some accounts. These
//! accounts create subaccounts by REST.
#![forbid(unsafe_code)]

pub mod subaccount;
pub mod usage;

use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use parking_lot::RwLock;
use serde::Deserialize;
use tandem_id::AccountName;
use tandem_store::{Store, StoreError};

use subaccount::{AccountStatus, Key, KeySecret, Subaccount};

/// The name of the account that a server creates if the configuration names no account.
pub const DEFAULT_ACCOUNT: &str = "default";

/// An account, with credentials for the API of each provider that the account uses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The account's name in this server.
    pub name: AccountName,
    /// Credentials for the Twilio-compatible API.
    pub twilio: Option<TwilioCredentials>,
    /// Credentials for the Telnyx-compatible API.
    pub telnyx: Option<TelnyxCredentials>,
    /// Credentials for the SignalWire-compatible API.
    pub signalwire: Option<SignalwireCredentials>,
    /// Whether the account is an operator account. An operator account may see data that belongs to no account (bans,
    /// and messages of unknown senders), and may lift bans.
    #[serde(default)]
    pub operator: bool,
}

impl Account {
    /// Creates a subaccount. The name of the subaccount in this server is `id`. If there is a signing key, the
    /// subaccount is a SignalWire project. If there is no signing key, the subaccount is a Twilio subaccount.
    pub fn of_subaccount(id: &str, secret: Option<String>, signing_key: Option<String>) -> Self {
        let mut made =
            Self { name: AccountName::new(id), twilio: None, telnyx: None, signalwire: None, operator: false };
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

    /// Creates a subaccount with new credentials for Twilio's API. `id` is the number in its SID.
    pub fn new_subaccount(id: u128) -> Self {
        Self::of_subaccount(&format!("AC{id:032x}"), Some(format!("{:032x}", rand::random::<u128>())), None)
    }

    /// The user names that the account may use for calls from this computer, and the secret of each user name. The
    /// first user name is the account's name in this server. The other user names are the account's Twilio id and
    /// SignalWire id. A Twilio or SignalWire id has the secret of the API with this id. The account's name has the
    /// secret of the first API in the order Twilio, Telnyx, SignalWire.
    pub fn callers(&self) -> impl Iterator<Item = (&str, &str)> {
        let twilio = self.twilio.as_ref().map(|own| (Some(&*own.account_sid), &*own.auth_token));
        let telnyx = self.telnyx.as_ref().map(|own| (None, &*own.api_key));
        let signalwire = self.signalwire.as_ref().map(|own| (Some(&*own.project_id), &*own.api_token));
        let own = [twilio, telnyx, signalwire];
        let secret = own.iter().flatten().map(|(_, secret)| *secret).next();
        let ids = own.into_iter().flatten().filter_map(|(id, secret)| Some((id?, secret)));
        secret.map(|secret| (self.name.as_str(), secret)).into_iter().chain(ids)
    }

    /// The dialect of the account's documents that have no configured dialect. The function tries the dialects in the
    /// order `twilio`, `signalwire`, `texml` (Telnyx). The first dialect for which the account has credentials is the
    /// result. For an account without credentials, the result is `twilio`.
    pub fn documents(&self) -> &'static str {
        match (&self.twilio, &self.signalwire, &self.telnyx) {
            (None, Some(_), _) => "signalwire",
            (None, None, Some(_)) => "texml",
            _ => "twilio",
        }
    }

    /// The secret and the signing key of the account, as the last two arguments of [`Account::of_subaccount`].
    fn secrets(&self) -> (Option<&str>, Option<&str>) {
        let twilio = self.twilio.as_ref().map(|own| &*own.auth_token);
        let signalwire = self.signalwire.as_ref().map(|own| (&*own.api_token, &*own.signing_key));
        (twilio.or(signalwire.map(|(token, _)| token)), signalwire.map(|(_, key)| key))
    }
}

/// Credentials for Twilio's API. Twilio clients log in with these credentials, and the credentials sign webhooks to
/// Twilio applications.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwilioCredentials {
    /// The account's SID: `AC` and 32 hex digits.
    pub account_sid: String,
    /// The password of the API, and the key of the webhook signatures.
    pub auth_token: String,
}

/// Credentials for Telnyx's API. Telnyx clients log in with these credentials, and the credentials sign webhooks to
/// Telnyx applications.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelnyxCredentials {
    /// The Bearer token of the API.
    pub api_key: String,
    /// Base64 of the 32-byte seed of an Ed25519 key (RFC 8032). The seed determines the public key. The server prints
    /// the public key when the server starts, and the API returns the public key.
    pub signing_seed: String,
}

/// Credentials for SignalWire's API. SignalWire clients log in with these credentials, and the credentials sign
/// webhooks to SignalWire applications.
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

/// All current accounts and their API keys. All lookups use only memory.
#[derive(Debug, Default)]
pub struct Accounts(RwLock<AccountTable>);

#[derive(Debug, Default)]
struct AccountTable {
    configured: Vec<Arc<Account>>,
    configured_names: HashSet<AccountName>,
    /// The subaccounts, and the REST changes to accounts of the configuration. The key is the account's name.
    subaccounts: HashMap<AccountName, Arc<Subaccount>>,
    /// All API keys of the database. The map key is the id of the API key.
    keys: HashMap<u128, Arc<Key>>,
    /// The accounts of the configuration, and then the subaccounts. The oldest subaccount comes first.
    all: Arc<Vec<Arc<Account>>>,
    by_name: HashMap<AccountName, Arc<Account>>,
    by_sid: HashMap<String, Arc<Account>>,
}

impl AccountTable {
    /// Rebuilds the lists. If an account of the configuration and a subaccount have the same name or SID, a lookup
    /// finds the account of the configuration.
    fn settle(&mut self) {
        let mut made: Vec<_> = self.subaccounts.values().filter(|made| made.parent.is_some()).collect();
        made.retain(|made| !self.is_configured(&made.account.name));
        made.sort_by_key(|made| (made.created_at, made.account.name.clone()));
        let all: Vec<_> = self.configured.iter().chain(made.iter().map(|made| &made.account)).cloned().collect();
        self.by_name.clear();
        self.by_sid.clear();
        for account in &all {
            self.by_name.entry(account.name.clone()).or_insert_with(|| Arc::clone(account));
            let twilio = account.twilio.iter().map(|own| &own.account_sid);
            let signalwire = account.signalwire.iter().map(|own| &own.project_id);
            for sid in twilio.chain(signalwire) {
                self.by_sid.entry(sid.clone()).or_insert_with(|| Arc::clone(account));
            }
        }
        self.all = Arc::new(all);
    }

    fn is_configured(&self, name: &AccountName) -> bool {
        self.configured_names.contains(name)
    }

    fn status(&self, name: &AccountName) -> AccountStatus {
        if self.is_configured(name) {
            return AccountStatus::Active;
        }
        match self.subaccounts.get(name) {
            // A subaccount is closed if the configuration no longer contains the parent account.
            Some(made) if made.parent.as_ref().is_some_and(|parent| self.is_configured(parent)) => made.status,
            _ => AccountStatus::Closed,
        }
    }
}

impl Accounts {
    /// Creates the accounts of the configuration. [`Accounts::load`] adds the subaccounts.
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        let known = Self::default();
        known.replace(accounts);
        known
    }

    /// Replaces the accounts of the configuration. A request that was already authenticated still completes.
    pub fn replace(&self, accounts: impl IntoIterator<Item = Account>) {
        let mut known = self.0.write();
        known.configured = accounts.into_iter().map(Arc::new).collect();
        known.configured_names = known.configured.iter().map(|account| account.name.clone()).collect();
        known.settle();
    }

    /// Loads subaccounts, changed accounts and API keys from the database. The server calls this function once, when
    /// the server starts.
    pub async fn load(&self, store: &Store) -> Result<(), StoreError> {
        let (made, keys) = (subaccount::all(store).await?, subaccount::keys(store).await?);
        let mut known = self.0.write();
        known.subaccounts = made.into_iter().map(|made| (made.account.name.clone(), Arc::new(made))).collect();
        known.keys = keys.into_iter().map(|key| (key.id, Arc::new(key))).collect();
        known.settle();
        Ok(())
    }

    /// Adds or replaces an account. The database must already contain the account in this form.
    pub fn put(&self, made: Subaccount) {
        let mut known = self.0.write();
        known.subaccounts.insert(made.account.name.clone(), Arc::new(made));
        known.settle();
    }

    /// Adds or replaces an API key. The database must already contain the key in this form.
    pub fn put_key(&self, key: Key) {
        self.0.write().keys.insert(key.id, Arc::new(key));
    }

    /// Removes an API key from memory. After the removal, the server does not accept the key.
    pub fn forget_key(&self, id: u128) {
        self.0.write().keys.remove(&id);
    }

    /// All accounts: the accounts of the configuration, and then the subaccounts. The oldest subaccount comes first.
    pub fn all(&self) -> Arc<Vec<Arc<Account>>> {
        Arc::clone(&self.0.read().all)
    }

    /// The REST record of the account with this name. The record is a subaccount, or the changes to an account of the
    /// configuration.
    pub fn subaccount(&self, name: &AccountName) -> Option<Arc<Subaccount>> {
        self.0.read().subaccounts.get(name).cloned()
    }

    /// The subaccounts of this account. The oldest subaccount comes first.
    pub fn below(&self, name: &AccountName) -> Vec<Arc<Subaccount>> {
        let known = self.0.read();
        let mut below: Vec<_> =
            known.subaccounts.values().filter(|made| made.parent.as_ref() == Some(name)).cloned().collect();
        below.sort_by_key(|made| (made.created_at, made.id));
        below
    }

    /// The name of the account that created this account. `None` for an account of the configuration.
    pub fn parent(&self, name: &AccountName) -> Option<AccountName> {
        let known = self.0.read();
        known.subaccounts.get(name).and_then(|made| made.parent.clone()).filter(|_| !known.is_configured(name))
    }

    /// The status of an account. An account of the configuration is always active.
    pub fn status(&self, name: &AccountName) -> AccountStatus {
        self.0.read().status(name)
    }

    /// Whether all accounts have one owner: the configuration has one account. Subaccounts belong to this account.
    pub fn have_one_owner(&self) -> bool {
        self.0.read().configured.len() <= 1
    }

    /// Whether the account may see and change data that belongs to the server and to no account. An operator account
    /// may do this. If the configuration has only one account, this account may do this too.
    pub fn is_operator(&self, account: &Account) -> bool {
        let known = self.0.read();
        account.operator || (known.configured.len() == 1 && known.is_configured(&account.name))
    }

    pub fn by_name(&self, name: &AccountName) -> Option<Arc<Account>> {
        self.0.read().by_name.get(name).cloned()
    }

    /// The dialect of the account's documents that have no configured dialect ([`Account::documents`]). For an unknown
    /// account, the dialect is `twilio`.
    pub fn documents(&self, name: &AccountName) -> &'static str {
        self.by_name(name).map_or("twilio", |account| account.documents())
    }

    /// The account with this Twilio account SID or SignalWire project id.
    pub fn by_sid(&self, sid: &str) -> Option<Arc<Account>> {
        self.0.read().by_sid.get(sid).cloned()
    }

    /// The number of API keys of the account.
    pub fn keys_of(&self, name: &AccountName) -> usize {
        self.0.read().keys.values().filter(|key| key.account == *name).count()
    }

    /// The account that owns this API key. `None` if the secret is wrong.
    pub fn by_key(&self, id: u128, secret: &str) -> Option<Arc<Account>> {
        let known = self.0.read();
        let key = known.keys.get(&id)?;
        key.fits(secret).then(|| known.by_name.get(&key.account).cloned())?
    }

    /// The account of this API key, and the key's secret. The secret is `None` for a key of an earlier version, which stored
    /// only a hash of the secret. `None` if there is no such key.
    pub fn key(&self, id: u128) -> Option<(Arc<Account>, Option<KeySecret>)> {
        let known = self.0.read();
        let key = known.keys.get(&id)?;
        Some((known.by_name.get(&key.account).cloned()?, key.secret.clone()))
    }

    /// The account with this Telnyx API key. The key is compared with every account's key in constant time, so that the
    /// response time says nothing about a partly correct key.
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
