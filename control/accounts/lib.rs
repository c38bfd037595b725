//! Accounts: who may use the server, in whose API's words. Those of the configuration, and below them those that they made.
#![forbid(unsafe_code)]

pub mod made;
pub mod usage;

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::RwLock;
use serde::Deserialize;
use tandem_store::{Store, StoreError};

use made::{Key, Made, Standing};

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

impl Account {
    /// One that another account made: its id there is its name in this server. With a signing key it is a SignalWire project.
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

    /// The names that the account may call by from this machine, each with its secret: its name in this server and, of Twilio
    /// and SignalWire, its id there. The secret is that of the first API that it has credentials for.
    pub fn callers(&self) -> impl Iterator<Item = (&str, &str)> {
        let twilio = self.twilio.as_ref().map(|own| (Some(&*own.account_sid), &*own.auth_token));
        let telnyx = self.telnyx.as_ref().map(|own| (None, &*own.api_key));
        let signalwire = self.signalwire.as_ref().map(|own| (Some(&*own.project_id), &*own.api_token));
        let own = [twilio, telnyx, signalwire];
        let secret = own.iter().flatten().map(|(_, secret)| *secret).next();
        let ids = own.into_iter().flatten().filter_map(|(id, secret)| Some((id?, secret)));
        secret.map(|secret| (&*self.name, secret)).into_iter().chain(ids)
    }

    /// The provider whose words the account's documents are in where nothing names one: the first that it has credentials for of
    /// those whose applications answer with documents.
    pub fn documents(&self) -> &'static str {
        match (&self.twilio, &self.signalwire, &self.telnyx) {
            (None, Some(_), _) => "signalwire",
            (None, None, Some(_)) => "texml",
            _ => "twilio",
        }
    }

    /// What [`Account::made`] makes it of: the secret, and the signing key of a SignalWire project.
    fn secrets(&self) -> (Option<&str>, Option<&str>) {
        let twilio = self.twilio.as_ref().map(|own| &*own.auth_token);
        let signalwire = self.signalwire.as_ref().map(|own| (&*own.api_token, &*own.signing_key));
        (twilio.or(signalwire.map(|(token, _)| token)), signalwire.map(|(_, key)| key))
    }
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

/// All accounts, as they are now, and the keys that they gave out. What is asked here is in memory.
#[derive(Debug, Default)]
pub struct Accounts(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    configured: Vec<Arc<Account>>,
    /// Those that accounts made, and what was changed of those of the configuration, by name.
    made: HashMap<Arc<str>, Arc<Made>>,
    /// By id. As many as there are in the database.
    keys: HashMap<u128, Arc<Key>>,
    /// Of the configuration, then those made, oldest first.
    all: Arc<Vec<Arc<Account>>>,
    by_name: HashMap<Arc<str>, Arc<Account>>,
    by_sid: HashMap<String, Arc<Account>>,
}

impl Known {
    /// The lists anew. Where the configuration has a name or a SID, that is who is meant.
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

    fn standing(&self, name: &str) -> Standing {
        if self.is_configured(name) {
            return Standing::Active;
        }
        match self.made.get(name) {
            // Whose parent has gone from the configuration has nobody to answer for it.
            Some(made) if made.parent.as_deref().is_some_and(|parent| self.is_configured(parent)) => made.standing,
            _ => Standing::Closed,
        }
    }
}

impl Accounts {
    /// From the configuration.
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        let known = Self::default();
        known.replace(accounts);
        known
    }

    /// From another configuration. Who has logged in before stays so until its request is answered.
    pub fn replace(&self, accounts: impl IntoIterator<Item = Account>) {
        let mut known = self.0.write();
        known.configured = accounts.into_iter().map(Arc::new).collect();
        known.settle();
    }

    /// Reads what accounts have made of accounts and keys. At the start.
    pub async fn load(&self, store: &Store) -> Result<(), StoreError> {
        let (made, keys) = (made::all(store).await?, made::keys(store).await?);
        let mut known = self.0.write();
        known.made = made.into_iter().map(|made| (Arc::clone(&made.account.name), Arc::new(made))).collect();
        known.keys = keys.into_iter().map(|key| (key.id, Arc::new(key))).collect();
        known.settle();
        Ok(())
    }

    /// An account was made or changed, and is in the database so.
    pub fn put(&self, made: Made) {
        let mut known = self.0.write();
        known.made.insert(Arc::clone(&made.account.name), Arc::new(made));
        known.settle();
    }

    /// A key was given out or changed, and is in the database so.
    pub fn put_key(&self, key: Key) {
        self.0.write().keys.insert(key.id, Arc::new(key));
    }

    /// A key holds no longer.
    pub fn forget_key(&self, id: u128) {
        self.0.write().keys.remove(&id);
    }

    /// Every account.
    pub fn all(&self) -> Arc<Vec<Arc<Account>>> {
        Arc::clone(&self.0.read().all)
    }

    /// What was made by REST: an account below another, or other words of one of the configuration.
    pub fn made(&self, name: &str) -> Option<Arc<Made>> {
        self.0.read().made.get(name).cloned()
    }

    /// The accounts that this one made, oldest first.
    pub fn below(&self, name: &str) -> Vec<Arc<Made>> {
        let known = self.0.read();
        let mut below: Vec<_> =
            known.made.values().filter(|made| made.parent.as_deref() == Some(name)).cloned().collect();
        below.sort_by_key(|made| (made.created_at, made.id));
        below
    }

    /// Who made this account.
    pub fn parent(&self, name: &str) -> Option<Arc<str>> {
        let known = self.0.read();
        known.made.get(name).and_then(|made| made.parent.clone()).filter(|_| !known.is_configured(name))
    }

    /// Whether it may do anything. Those of the configuration always may.
    pub fn standing(&self, name: &str) -> Standing {
        self.0.read().standing(name)
    }

    /// Whether it may see and do what is the server's and no account's. An only account of the configuration may.
    pub fn is_operator(&self, account: &Account) -> bool {
        let known = self.0.read();
        account.operator || (known.configured.len() == 1 && known.is_configured(&account.name))
    }

    /// By its name in this server.
    pub fn by_name(&self, name: &str) -> Option<Arc<Account>> {
        self.0.read().by_name.get(name).cloned()
    }

    /// The provider whose words an account's documents are in where nothing names one; Twilio's, of an account that there is not.
    pub fn documents(&self, name: &str) -> &'static str {
        self.by_name(name).map_or("twilio", |account| account.documents())
    }

    /// By the SID that clients of Twilio or SignalWire log in with.
    pub fn by_sid(&self, sid: &str) -> Option<Arc<Account>> {
        self.0.read().by_sid.get(sid).cloned()
    }

    /// How many keys an account has given out.
    pub fn keys_of(&self, name: &str) -> usize {
        self.0.read().keys.values().filter(|key| &*key.account == name).count()
    }

    /// The account that gave this key out, when the secret is the key's.
    pub fn by_key(&self, id: u128, secret: &str) -> Option<Arc<Account>> {
        let known = self.0.read();
        let key = known.keys.get(&id)?;
        key.fits(secret).then(|| known.by_name.get(&key.account).cloned())?
    }

    /// By its Telnyx API key. Every key is compared, in constant time, so that answers tell nothing about near misses.
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
