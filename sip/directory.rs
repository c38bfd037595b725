//! Who may register and call with a password, and which domains are ours. Plain data, made by the application and
//! replaced as a whole.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::digest::Hash;
use crate::leg::TrunkName;
use ipnet::IpNet;

/// Everybody who has a password here, and our domains.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    realm: Arc<str>,
    users: HashMap<Arc<str>, Vec<User>>,
    domains: HashMap<Box<str>, Domain>,
    /// Networks that mean a domain at whatever host name.
    sources: Vec<(IpNet, Box<str>)>,
    /// Accounts that call as themselves, by the names they go by.
    accounts: Option<Box<Directory>>,
}

/// One user of one account. Others may have the same name, at other domains or with other passwords.
#[derive(Debug, Clone)]
pub struct User {
    /// Whose phone it is.
    pub account: Arc<str>,
    /// Digest user name, and user part of the address-of-record.
    pub username: Arc<str>,
    /// What stands for the password.
    pub ha1: Ha1,
    /// The one domain it belongs to; every host name and address of ours when `None`.
    pub domain: Option<Arc<str>>,
    /// The trunk that calls with it: then it is no phone's, and `account` is empty for a trunk of everybody's.
    pub trunk: Option<TrunkName>,
    /// May register.
    pub registers: bool,
    /// May call.
    pub calls: bool,
}

/// A domain of an account.
#[derive(Debug, Clone)]
pub struct Domain {
    /// Host of the Request-URI; case does not matter.
    pub name: Arc<str>,
    /// Whose.
    pub account: Arc<str>,
    /// Where calls to it may come from; from anywhere when empty, and then by password only.
    pub networks: Vec<IpNet>,
    /// Calls from its networks are its account's at whatever host name of ours.
    pub everywhere: bool,
}

/// What a server keeps of a digest password (RFC 7616 §3.4.2), as 32 and 64 hex digits: good for one realm only, yet as
/// good as the password there. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    /// For `algorithm=MD5`.
    pub md5: Box<str>,
    /// For `algorithm=SHA-256`.
    pub sha256: Box<str>,
}

impl Ha1 {
    /// Of a password.
    #[must_use]
    pub fn of(username: &str, realm: &str, password: &str) -> Self {
        let text = format!("{username}:{realm}:{password}");
        Self { md5: Hash::Md5.of(text.as_bytes()).into(), sha256: Hash::Sha256.of(text.as_bytes()).into() }
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(..)")
    }
}

impl Directory {
    /// Of these. `realm` is what challenges say, and what every [`Ha1`] was made for.
    #[must_use]
    pub fn new(realm: &str, users: impl IntoIterator<Item = User>, domains: impl IntoIterator<Item = Domain>) -> Self {
        let mut directory = Self { realm: realm.into(), ..Self::default() };
        for user in users {
            directory.users.entry(Arc::clone(&user.username)).or_default().push(user);
        }
        for domain in domains {
            let name: Box<str> = domain.name.to_ascii_lowercase().into();
            let networks = domain.networks.iter().filter(|_| domain.everywhere);
            directory.sources.extend(networks.map(|network| (*network, name.clone())));
            directory.domains.insert(name, domain);
        }
        directory
    }

    /// The same, with names that an account itself calls by, from this machine only. They are no users: nobody registers
    /// as one of them or calls one of them, and nobody is challenged because of them who does not name one.
    #[must_use]
    pub fn with_accounts(self, accounts: impl IntoIterator<Item = User>) -> Self {
        let accounts = Self::new(&self.realm, accounts, []);
        Self { accounts: Some(Box::new(accounts)).filter(|accounts| accounts.has_users()), ..self }
    }

    /// The accounts that call as themselves.
    pub(crate) fn accounts(&self) -> Option<&Self> {
        self.accounts.as_deref()
    }

    /// What challenges say.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Whether nobody can prove anything here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.domains.is_empty()
    }

    /// A domain of ours by name.
    #[must_use]
    pub fn domain(&self, host: &str) -> Option<&Domain> {
        self.domains.get(host.to_ascii_lowercase().as_str())
    }

    /// The domain that calls from there are of, at whatever host name.
    #[must_use]
    pub fn domain_of(&self, source: IpAddr) -> Option<&Domain> {
        let source = source.to_canonical();
        let (_, name) = self.sources.iter().find(|(network, _)| network.contains(&source))?;
        self.domains.get(name)
    }

    /// Those who have this name at `host`: at a domain of ours its own users and those of its account (or every account's)
    /// that belong to none, at any other host (our address, say) everybody of that name. Trunks among them.
    pub fn users<'a>(&'a self, username: &str, host: &'a str) -> impl Iterator<Item = &'a User> {
        let domain = self.domain(host);
        self.users.get(username).into_iter().flatten().filter(move |user| match (domain, &user.domain) {
            (None, _) => true,
            (Some(domain), None) => user.account == domain.account || user.account.is_empty(),
            (Some(domain), Some(own)) => own.eq_ignore_ascii_case(&domain.name),
        })
    }

    /// Everybody, in no order.
    pub fn all(&self) -> impl Iterator<Item = &User> {
        self.users.values().flatten()
    }

    /// Whether anybody has a password.
    #[must_use]
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Whether a domain has users of its own who may call.
    #[must_use]
    pub fn has_callers(&self, domain: &str) -> bool {
        let at = |user: &User| user.calls && user.domain.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(domain));
        self.users.values().flatten().any(at)
    }

    /// Whether the account has a phone's user of this name, at `domain` if that is given.
    #[must_use]
    pub fn has(&self, account: &str, username: &str, domain: Option<&str>) -> bool {
        self.users.get(username).into_iter().flatten().any(|user| {
            let there = match (domain, &user.domain) {
                (Some(domain), Some(own)) => own.eq_ignore_ascii_case(domain),
                _ => true,
            };
            &*user.account == account && there && user.trunk.is_none()
        })
    }
}

impl Domain {
    /// Whether calls to it may come from there without a password.
    #[must_use]
    pub fn admits(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.networks.iter().any(|network| network.contains(&source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(account: &str, username: &str, domain: Option<&str>) -> User {
        User {
            account: account.into(),
            username: username.into(),
            ha1: Ha1::of(username, "r", "p"),
            domain: domain.map(Into::into),
            trunk: None,
            registers: true,
            calls: true,
        }
    }

    #[test]
    fn a_name_means_who_has_it_at_that_domain() {
        let domain = |name: &str, account: &str| Domain {
            name: name.into(),
            account: account.into(),
            networks: vec![],
            everywhere: false,
        };
        let users = [user("a", "alice", None), user("b", "alice", Some("B.example")), user("b", "alice", None)];
        let directory = Directory::new("r", users, [domain("a.example", "a"), domain("b.example", "b")]);
        let found =
            |host: &str| directory.users("alice", host).map(|user| user.account.to_string()).collect::<String>();
        assert_eq!(
            (found("A.EXAMPLE"), found("b.example"), found("192.0.2.1")),
            ("a".into(), "bb".into(), "abb".into())
        );
        assert!(directory.has("b", "alice", Some("b.EXAMPLE")) && !directory.has("c", "alice", None));
    }

    #[test]
    fn a_password_is_kept_as_rfc_7616_says() {
        let ha1 = Ha1::of("Mufasa", "testrealm@host.com", "Circle Of Life");
        assert_eq!(&*ha1.md5, "939e7578ed9e3c518a452acee763bce9");
        assert_eq!(format!("{ha1:?}"), "Ha1(..)");
    }
}
