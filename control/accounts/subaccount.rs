//! The stored REST data of accounts: subaccounts, changes to accounts, and API keys.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tandem_host::hash::{hex, sha256};
use tandem_id::AccountName;
use tandem_store::resources::{self, Kind, Resource};
use tandem_store::{Store, StoreError};

use super::Account;

const ACCOUNT: Kind<Details> = Kind::new("account");
/// The kind of the stored API keys. The name of such a resource is the friendly name of the API key.
pub const KEY: Kind<KeyDetails> = Kind::new("key");

/// The status of an account. Only an active account may make calls and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountStatus {
    /// The account may make calls and requests.
    #[default]
    Active,
    /// The account may not make calls and requests until the account is active again.
    Suspended,
    /// The account is permanently closed.
    Closed,
}

impl AccountStatus {
    /// Each status, with the word that the REST API uses for the status.
    pub const WORDS: [(&'static str, Self); 3] =
        [("active", Self::Active), ("suspended", Self::Suspended), ("closed", Self::Closed)];

    /// The word that the REST API uses for the status: `active`, `suspended` or `closed`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Closed => "closed",
        }
    }
}

/// A subaccount, or the REST changes to an account of the configuration.
#[derive(Debug, Clone)]
pub struct Subaccount {
    /// The number from which the account's SID is derived.
    pub id: u128,
    /// The account. If the account comes from the configuration, only the configuration has the account's credentials.
    pub account: Arc<Account>,
    /// The name of the account that created this account. `None` for an account of the configuration.
    pub parent: Option<AccountName>,
    /// The display name (`FriendlyName`).
    pub friendly_name: String,
    pub status: AccountStatus,
    /// The time of the account's creation.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Details {
    /// The secret of the account. `None` for an account of the configuration.
    auth_token: Option<String>,
    /// The webhook signing key of a SignalWire project.
    #[serde(default)]
    signing_key: Option<String>,
    parent: Option<AccountName>,
    #[serde(rename = "standing")]
    status: AccountStatus,
}

/// An API key: credentials that a program uses instead of the account's own secret.
#[derive(Debug, Clone)]
pub struct Key {
    /// The number from which the key's SID is derived.
    pub id: u128,
    /// The name of the account that owns the key.
    pub account: AccountName,
    /// The display name (`FriendlyName`).
    pub friendly_name: String,
    /// SHA-256 of the secret's hex digits. The secret has 256 random bits, so nobody can guess the secret from the
    /// hash.
    pub hash: [u8; 32],
    /// The secret, which verifies the access tokens that the key signs. `None` for a key of an earlier version, which
    /// stored only the hash.
    pub secret: Option<KeySecret>,
    /// The time of the key's creation.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
}

/// The secret of an API key. The text does not appear in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeySecret(Arc<str>);

impl KeySecret {
    /// Returns the secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// The stored fields of an API key. The key's name is stored separately.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyDetails {
    /// SHA-256 of the secret, as 64 hex digits.
    sha256: String,
    /// The secret. An access token (JWT) is signed with the secret itself, so the hash cannot verify the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<KeySecret>,
}

impl Subaccount {
    /// Creates an active subaccount of `parent`. The name of the subaccount in this server contains `id`.
    pub fn new(id: u128, account: Account, parent: &AccountName, friendly_name: String) -> Self {
        let now = Timestamp::now();
        let parent = Some(parent.clone());
        let account = Arc::new(account);
        Self { id, account, parent, friendly_name, status: AccountStatus::Active, created_at: now, updated_at: now }
    }

    /// Creates the first record of an account that comes from the configuration.
    pub fn of_configured(id: u128, account: &Arc<Account>) -> Self {
        let now = Timestamp::now();
        let (account, friendly_name) = (Arc::clone(account), account.name.to_string());
        Self {
            id,
            account,
            parent: None,
            friendly_name,
            status: AccountStatus::Active,
            created_at: now,
            updated_at: now,
        }
    }

    pub async fn store(&self, store: &Store) -> Result<(), StoreError> {
        let (secret, signing_key) = if self.parent.is_some() { self.account.secrets() } else { (None, None) };
        let row = Resource {
            id: self.id,
            account: self.account.name.clone(),
            parent: None,
            name: self.friendly_name.clone(),
            claim: None,
            details: Details {
                auth_token: secret.map(str::to_owned),
                signing_key: signing_key.map(str::to_owned),
                parent: self.parent.clone(),
                status: self.status,
            },
            created_at: self.created_at,
            updated_at: self.updated_at,
        };
        resources::put(store, ACCOUNT, &row).await.map(drop)
    }
}

impl Key {
    /// Creates a key. Returns the key with its secret.
    pub fn new(account: &AccountName, friendly_name: String) -> (Self, String) {
        let secret: [u8; 32] = rand::random();
        let secret = hex(&secret);
        let now = Timestamp::now();
        let key = Self {
            id: rand::random(),
            account: account.clone(),
            friendly_name,
            hash: sha256([secret.as_bytes()]),
            secret: Some(KeySecret(secret.as_str().into())),
            created_at: now,
            updated_at: now,
        };
        (key, secret)
    }

    /// Whether `secret` is the key's secret. The comparison takes constant time.
    pub fn fits(&self, secret: &str) -> bool {
        self.hash.ct_eq(&sha256([secret.as_bytes()])).into()
    }

    pub async fn store(&self, store: &Store) -> Result<(), StoreError> {
        let row = Resource {
            id: self.id,
            account: self.account.clone(),
            parent: None,
            name: self.friendly_name.clone(),
            claim: None,
            details: KeyDetails { sha256: hex(&self.hash), secret: self.secret.clone() },
            created_at: self.created_at,
            updated_at: self.updated_at,
        };
        resources::put(store, KEY, &row).await.map(drop)
    }

    /// Deletes a key from the store. Returns `false` if the account has no key with this id.
    pub async fn delete(store: &Store, account: &AccountName, id: u128) -> Result<bool, StoreError> {
        resources::delete(store, KEY, account, id).await
    }

    fn of(row: Resource<KeyDetails>) -> Result<Self, StoreError> {
        let Resource { id, account, name, details, created_at, updated_at, .. } = row;
        let KeyDetails { sha256, secret } = details;
        let hash = unhex(&sha256).ok_or(StoreError::Corrupt { column: "details", value: sha256 })?;
        Ok(Self { id, account, friendly_name: name, hash, secret, created_at, updated_at })
    }
}

/// All stored accounts: subaccounts, and changes to accounts of the configuration.
pub async fn all(store: &Store) -> Result<Vec<Subaccount>, StoreError> {
    let rows = resources::all(store, ACCOUNT).await?;
    Ok(rows.into_iter().map(read).collect())
}

/// All stored API keys.
pub async fn keys(store: &Store) -> Result<Vec<Key>, StoreError> {
    resources::all(store, KEY).await?.into_iter().map(Key::of).collect()
}

/// The account's API key with this id, from the store.
pub async fn key(store: &Store, account: &AccountName, id: u128) -> Result<Option<Key>, StoreError> {
    resources::get(store, KEY, account, id).await?.map(Key::of).transpose()
}

fn read(row: Resource<Details>) -> Subaccount {
    let Resource { id, account: name, name: friendly_name, details, created_at, updated_at, .. } = row;
    let Details { auth_token, signing_key, parent, status } = details;
    let account = Arc::new(Account::of_subaccount(name.as_str(), auth_token, signing_key));
    Subaccount { id, account, parent, friendly_name, status, created_at, updated_at }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut octets = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (octet, pair) in octets.iter_mut().zip(text.as_bytes().chunks(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::super::Accounts;
    use super::*;

    fn configured(name: &str) -> Account {
        Account { name: AccountName::new(name), ..Account::of_subaccount("AC1", Some("token".into()), None) }
    }

    fn made(name: &str, parent: &str) -> Subaccount {
        Subaccount::new(
            7,
            Account::of_subaccount(name, Some("secret".into()), None),
            &AccountName::new(parent),
            "sub".into(),
        )
    }

    #[test]
    fn configured_accounts_have_precedence_over_stored_subaccounts() {
        let accounts = Accounts::new([configured("acme")]);
        accounts.put(made("AC2", "acme"));
        assert_eq!(accounts.by_sid("AC2").unwrap().name, "AC2");
        assert_eq!(
            (
                accounts.parent(&AccountName::new("AC2")).as_ref().map(AccountName::as_str),
                accounts.parent(&AccountName::new("acme"))
            ),
            (Some("acme"), None)
        );
        let operator = |name: &str| accounts.is_operator(&accounts.by_name(&AccountName::new(name)).unwrap());
        assert!(operator("acme") && !operator("AC2"), "an only account runs the server, whomever it has made");
        // The configuration file does not name subaccounts, so a reload of the configuration keeps them.
        accounts.replace([configured("acme")]);
        assert_eq!(accounts.status(&AccountName::new("AC2")), AccountStatus::Active);
        // A database row cannot replace an account of the configuration.
        let mut intruder = made("acme", "acme");
        intruder.status = AccountStatus::Closed;
        accounts.put(intruder);
        assert_eq!(accounts.status(&AccountName::new("acme")), AccountStatus::Active);
        assert_eq!(accounts.by_name(&AccountName::new("acme")).unwrap().secrets(), (Some("token"), None));
        // A subaccount is closed if the configuration no longer contains the parent account.
        accounts.replace([configured("other")]);
        assert_eq!(accounts.status(&AccountName::new("AC2")), AccountStatus::Closed);
        assert_eq!(accounts.status(&AccountName::new("nobody")), AccountStatus::Closed);
    }

    #[test]
    fn an_api_key_is_accepted_with_its_secret_until_it_is_removed() {
        let accounts = Accounts::new([configured("acme")]);
        let (key, secret) = Key::new(&AccountName::new("acme"), "ci".into());
        let id = key.id;
        assert!(!format!("{:?}", key.hash).contains(&secret));
        accounts.put_key(key);
        assert_eq!(accounts.by_key(id, &secret).unwrap().name, "acme");
        assert!(accounts.by_key(id, "").is_none() && accounts.by_key(id + 1, &secret).is_none());
        accounts.forget_key(id);
        assert!(accounts.by_key(id, &secret).is_none());
    }

    #[tokio::test]
    async fn subaccounts_and_api_keys_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
        let mut one = made("AC2", "acme");
        one.status = AccountStatus::Suspended;
        one.store(&store).await.unwrap();
        let (key, secret) = Key::new(&AccountName::new("AC2"), "ci".into());
        key.store(&store).await.unwrap();
        let accounts = Accounts::new([configured("acme")]);
        accounts.load(&store).await.unwrap();
        assert_eq!(accounts.status(&AccountName::new("AC2")), AccountStatus::Suspended);
        assert_eq!(accounts.by_sid("AC2").unwrap().secrets(), (Some("secret"), None));
        assert_eq!(accounts.by_key(key.id, &secret).unwrap().name, "AC2");
        assert_eq!(accounts.below(&AccountName::new("acme")).len(), 1);
        assert!(Key::delete(&store, &AccountName::new("AC2"), key.id).await.unwrap());
        assert!(subaccount::keys(&store).await.unwrap().is_empty());
    }

    use super::super::subaccount;
}
