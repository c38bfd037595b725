//! The users that may register and call with a password, and this server's domains. The application creates the
//! directory. For a change, it replaces the whole directory.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::trunk_acl::TrunkName;
use ipnet::IpNet;
use tandem_id::AccountName;
use tandem_net::digest::Hash;

/// The users that have a password, and this server's domains.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    realm: Arc<str>,
    users: HashMap<Arc<str>, Vec<User>>,
    domains: HashMap<Box<str>, Domain>,
    /// Networks whose calls belong to a domain, with the name of this domain. For these calls, the host name in the
    /// Request-URI does not matter.
    sources: Vec<(IpNet, Box<str>)>,
    /// The user names with which an account itself can call.
    accounts: Option<Box<Directory>>,
}

/// One user of one account. Other users may have the same name, in other domains or with other passwords.
#[derive(Debug, Clone)]
pub struct User {
    /// The account to which the user belongs.
    pub account: AccountName,
    /// The Digest user name, which is also the user part of the address-of-record.
    pub username: Arc<str>,
    /// The hashes of the password.
    pub ha1: Ha1,
    /// The domain of the user. `None` means that the user exists at every host name and every address of this server.
    pub domain: Option<Arc<str>>,
    /// The trunk that authenticates as this user. `None` if the user belongs to a phone. If all accounts share the
    /// trunk, `account` is empty.
    pub trunk: Option<TrunkName>,
    /// Whether the user may register.
    pub registers: bool,
    /// Whether the user may call.
    pub calls: bool,
}

/// A domain of an account.
#[derive(Debug, Clone)]
pub struct Domain {
    /// The host name of the domain in a Request-URI. Letter case is ignored.
    pub name: Arc<str>,
    /// The account to which the domain belongs.
    pub account: AccountName,
    /// The networks from which calls to the domain may come. If the domain has users who may call, such a call also
    /// needs a password. If the list is empty, calls may come from any network, but only with a password.
    pub networks: Vec<IpNet>,
    /// Whether all calls from the domain's networks belong to the domain's account, even if the Request-URI has another
    /// host name of this server.
    pub for_any_host: bool,
}

/// The hashes of a Digest password (RFC 7616 §3.4.2), written as 32 hexadecimal digits (MD5) and 64 hexadecimal digits
/// (SHA-256). The hashes are valid for only one realm. They must be kept as secret as the password. `Debug` does not
/// show them.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    /// The hash for `algorithm=MD5`.
    pub md5: Box<str>,
    /// The hash for `algorithm=SHA-256`.
    pub sha256: Box<str>,
}

impl Ha1 {
    /// Computes the hashes of a password.
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
    /// Creates a directory with these users and domains. `realm` is the realm of the challenges and of every [`Ha1`].
    #[must_use]
    pub fn new(realm: &str, users: impl IntoIterator<Item = User>, domains: impl IntoIterator<Item = Domain>) -> Self {
        let mut directory = Self { realm: realm.into(), ..Self::default() };
        for user in users {
            directory.users.entry(Arc::clone(&user.username)).or_default().push(user);
        }
        for domain in domains {
            let name: Box<str> = domain.name.to_ascii_lowercase().into();
            let networks = domain.networks.iter().filter(|_| domain.for_any_host);
            directory.sources.extend(networks.map(|network| (*network, name.clone())));
            directory.domains.insert(name, domain);
        }
        directory
    }

    /// Adds the user names with which accounts themselves can call. Such calls may come only from a loopback address.
    /// These names are not users: nobody can register with such a name or call it. A request is challenged for these
    /// names only if it contains such a name.
    #[must_use]
    pub fn with_accounts(self, accounts: impl IntoIterator<Item = User>) -> Self {
        let accounts = Self::new(&self.realm, accounts, []);
        Self { accounts: Some(Box::new(accounts)).filter(|accounts| accounts.has_users()), ..self }
    }

    /// Returns the directory of the user names with which accounts themselves can call.
    pub(crate) fn accounts(&self) -> Option<&Self> {
        self.accounts.as_deref()
    }

    /// Returns the realm of the challenges.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Returns whether the directory has neither users nor domains.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.domains.is_empty()
    }

    /// Returns the domain with this host name. Letter case is ignored.
    #[must_use]
    pub fn domain(&self, host: &str) -> Option<&Domain> {
        self.domains.get(host.to_ascii_lowercase().as_str())
    }

    /// Returns the domain whose networks contain this source, if all calls from these networks belong to the domain.
    /// The host name in the Request-URI does not matter.
    #[must_use]
    pub fn domain_of(&self, source: IpAddr) -> Option<&Domain> {
        let source = source.to_canonical();
        let (_, name) = self.sources.iter().find(|(network, _)| network.contains(&source))?;
        self.domains.get(name)
    }

    /// Returns the users with this name at `host`, including users of trunks. If `host` is a known domain, returns the
    /// users of this domain. In this case it also returns users without a domain, if they belong to the domain's
    /// account or to all accounts. If `host` is not a known domain (for example the address of this server), returns all
    /// users without a domain. In this case it also returns users of domains, but only of the account that has the first
    /// user with this name: the owner of a domain chooses the passwords there, and could otherwise try them on the user
    /// of another account.
    pub fn users<'a>(&'a self, username: &str, host: &'a str) -> impl Iterator<Item = &'a User> {
        let domain = self.domain(host);
        let users = self.users.get(username).map(Vec::as_slice).unwrap_or_default();
        let first = users.first().map(|user| &user.account);
        users.iter().filter(move |user| match (domain, &user.domain) {
            (None, None) => true,
            (None, Some(_)) => first == Some(&user.account),
            (Some(domain), None) => user.account == domain.account || user.account.is_server(),
            (Some(domain), Some(own)) => own.eq_ignore_ascii_case(&domain.name),
        })
    }

    /// Returns all users, in no particular order.
    pub fn all(&self) -> impl Iterator<Item = &User> {
        self.users.values().flatten()
    }

    /// Returns whether there is any user with a password.
    #[must_use]
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Returns whether at least one user belongs to this domain and may call.
    #[must_use]
    pub fn has_callers(&self, domain: &str) -> bool {
        let at = |user: &User| user.calls && user.domain.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(domain));
        self.users.values().flatten().any(at)
    }

    /// Returns whether the account has a user with this name that belongs to a phone. If `domain` is given, the user
    /// must belong to this domain or to no domain.
    #[must_use]
    pub fn has(&self, account: &AccountName, username: &str, domain: Option<&str>) -> bool {
        self.users.get(username).into_iter().flatten().any(|user| {
            let there = match (domain, &user.domain) {
                (Some(domain), Some(own)) => own.eq_ignore_ascii_case(domain),
                _ => true,
            };
            &user.account == account && there && user.trunk.is_none()
        })
    }
}

impl Domain {
    /// Returns whether the networks of this domain contain this source.
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
            account: AccountName::new(account),
            username: username.into(),
            ha1: Ha1::of(username, "r", "p"),
            domain: domain.map(Into::into),
            trunk: None,
            registers: true,
            calls: true,
        }
    }

    #[test]
    fn a_user_name_selects_the_user_of_the_called_domain() {
        let domain = |name: &str, account: &str| Domain {
            name: name.into(),
            account: AccountName::new(account),
            networks: vec![],
            for_any_host: false,
        };
        let users = [
            user("a", "alice", None),
            user("b", "alice", Some("B.example")),
            user("b", "alice", None),
            user("b", "bob", Some("b.example")),
            user("a", "bob", Some("a.example")),
            user("b", "bob", Some("c.example")),
        ];
        let directory = Directory::new("r", users, [domain("a.example", "a"), domain("b.example", "b")]);
        let found = |name: &str, host: &str| {
            directory.users(name, host).map(|user| user.account.to_string()).collect::<String>()
        };
        for (name, host, accounts) in [
            ("alice", "A.EXAMPLE", "a"),
            ("alice", "b.example", "bb"),
            ("alice", "192.0.2.1", "ab"),
            ("bob", "a.example", "a"),
            ("bob", "b.example", "b"),
            ("bob", "192.0.2.1", "bb"),
        ] {
            assert_eq!(found(name, host), accounts, "{name} at {host}");
        }
        assert!(
            directory.has(&AccountName::new("b"), "alice", Some("b.EXAMPLE"))
                && !directory.has(&AccountName::new("c"), "alice", None)
        );
    }

    #[test]
    fn a_password_is_stored_as_the_hash_of_rfc_7616() {
        let ha1 = Ha1::of("Mufasa", "testrealm@host.com", "Circle Of Life");
        assert_eq!(&*ha1.md5, "939e7578ed9e3c518a452acee763bce9");
        assert_eq!(format!("{ha1:?}"), "Ha1(..)");
    }
}
