//! The entries of `[[origins]]`. For the URLs that an entry names, the server connects to another address than the
//! address in the URL.
//!
//! An application with the URL `https://app.test` may run on this computer, without TLS and without a tunnel. A request
//! to the public URL then connects to the configured origin. The path, the query, the `Host` header and the signature
//! are the same as for the public URL.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use tandem_id::AccountName;
use url::{Host, Url};

/// An entry of `[[origins]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginConfig {
    /// The origin that applications write in their URLs.
    pub from: Origin,
    /// The origin to which this server connects, in place of the origin in the URL.
    pub to: Origin,
    /// The account of the entry. The entry applies only to requests of this account. `None` means all accounts and the
    /// server's own requests.
    #[serde(default)]
    pub account: Option<AccountName>,
}

/// An origin: `scheme://host[:port]` with `http` or `https`. `ws` counts as `http`, and `wss` counts as `https`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin {
    secure: bool,
    host: Host<String>,
    port: u16,
}

impl Origin {
    /// Returns the origin of a URL. Returns `None` for schemes other than `http`, `https`, `ws` and `wss`.
    pub fn of(url: &Url) -> Option<Origin> {
        let secure = match url.scheme() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return None,
        };
        Some(Origin { secure, host: url.host()?.to_owned(), port: url.port_or_known_default()? })
    }

    /// Whether an entry for this origin also applies to the origin `other`. The two origins have the same host. They also
    /// have the same port, or both have the default port of their scheme. So one entry for a public name applies to the
    /// `http`, `https`, `ws` and `wss` URLs of an application. A framework behind a proxy often writes `http` in its own
    /// URLs although the public name is reached over `https`.
    pub fn covers(&self, other: &Origin) -> bool {
        self.host == other.host && (self.port == other.port || self.is_default() && other.is_default())
    }

    fn is_default(&self) -> bool {
        self.port == if self.secure { 443 } else { 80 }
    }

    /// Whether the connection uses TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host: a name or an address.
    pub fn host(&self) -> &Host<String> {
        &self.host
    }

    /// The port. If the URL has no port, the result is the default port of the scheme.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The value of a `Host` header: `HOST`, or `HOST:PORT` if the port is not the scheme's default.
    pub fn authority(&self) -> String {
        match self.is_default() {
            true => self.host.to_string(),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// A URL with this origin, and with the path and query of `url`.
    pub(super) fn place(&self, url: &Url) -> Url {
        let mut placed = url.clone();
        // None of these three functions can fail, because both schemes are `http` or `https`, and the host is already
        // parsed.
        let _ = placed.set_scheme(self.scheme());
        let _ = placed.set_host(Some(&self.host.to_string()));
        let _ = placed.set_port(Some(self.port));
        placed
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Parses an origin that was written on a command line.
impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            |why: &str| Err(format!("{text:?} {why}; expected \"https://HOST[:PORT]\" or \"http://HOST[:PORT]\""));
        let Ok(url) = Url::parse(text) else { return invalid("is not a URL") };
        match url.scheme() {
            "http" | "https" => {}
            "ws" => return invalid("is a WebSocket URL (ws uses the entry for http)"),
            "wss" => return invalid("is a WebSocket URL (wss uses the entry for https)"),
            _ => return invalid("has an unsupported scheme"),
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return invalid("has a path or a query, which are taken from the request instead");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("has a user name or a password");
        }
        Origin::of(&url).map_or_else(|| invalid("has no host"), Ok)
    }
}

/// All current `[[origins]]`.
#[derive(Debug, Default)]
pub struct Origins(Vec<OriginConfig>);

impl Origins {
    /// Creates the table with these entries.
    pub fn new(origins: Vec<OriginConfig>) -> Self {
        Self(origins)
    }

    /// Returns the origin to which a request for `url` connects. `account` is the account that makes the request.
    /// `None` means the origin in the URL. An entry for the account has priority over an entry for all accounts. After
    /// that, an entry with the scheme of the URL has priority over an entry with the other scheme.
    pub fn place(&self, account: Option<&AccountName>, url: &Url) -> Option<&Origin> {
        if self.0.is_empty() {
            return None;
        }
        let origin = Origin::of(url)?;
        let find = |account: Option<&AccountName>| {
            let own = || self.0.iter().filter(|one| one.account.as_ref() == account);
            let exact = own().find(|one| one.from == origin);
            exact.or_else(|| own().find(|one| one.from.covers(&origin))).map(|one| &one.to)
        };
        account.and_then(|account| find(Some(account))).or_else(|| find(None))
    }

    /// Whether the table has an entry that applies only to this account.
    pub fn names(&self, account: &AccountName) -> bool {
        self.0.iter().any(|one| one.account.as_ref() == Some(account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Result<Origin, String> {
        Origin::try_from(text.to_owned())
    }

    fn table(from: &str, to: &str, account: Option<&str>) -> OriginConfig {
        OriginConfig { from: origin(from).unwrap(), to: origin(to).unwrap(), account: account.map(AccountName::new) }
    }

    #[test]
    fn an_origin_has_a_scheme_a_host_and_a_port_only() {
        for (text, shown) in [
            ("https://App.Test", "https://app.test"),
            ("https://app.test:443/", "https://app.test"),
            ("http://127.0.0.1:5050", "http://127.0.0.1:5050"),
            ("http://[::1]:5050", "http://[::1]:5050"),
        ] {
            assert_eq!(origin(text).unwrap().to_string(), shown);
        }
        for text in ["app.test", "", "wss://app.test", "ftp://app.test", "https://", "https://app.test/voice"] {
            assert!(origin(text).is_err(), "{text}");
        }
        for text in ["https://app.test?a=b", "https://app.test/#a", "https://me@app.test", "https://me:x@app.test"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_matches_scheme_host_and_port_and_the_accounts_own_origin_wins() {
        let origins = Origins::new(vec![
            table("https://app.test", "http://127.0.0.1:1", None),
            table("https://app.test", "http://127.0.0.1:2", Some("acme")),
            table("http://app.test:8000", "https://localhost:3", None),
        ]);
        let placed = |account: Option<&str>, url: &str| {
            let url = Url::parse(url).unwrap();
            origins.place(account.map(AccountName::new).as_ref(), &url).map(|origin| origin.place(&url).to_string())
        };
        assert_eq!(placed(None, "https://app.test/v?a=b#c").as_deref(), Some("http://127.0.0.1:1/v?a=b#c"));
        assert_eq!(placed(Some("other"), "https://APP.test:443/").as_deref(), Some("http://127.0.0.1:1/"));
        assert_eq!(placed(Some("acme"), "https://app.test/").as_deref(), Some("http://127.0.0.1:2/"));
        assert_eq!(placed(None, "http://app.test:8000/x").as_deref(), Some("https://localhost:3/x"));
        let stream = Url::parse("wss://app.test/media").unwrap();
        assert_eq!(origins.place(None, &stream).unwrap().to_string(), "http://127.0.0.1:1");
        for url in ["https://app.test:8443/", "https://www.app.test/", "file:///app.test"] {
            assert_eq!(placed(Some("acme"), url), None, "{url}");
        }
    }

    #[test]
    fn an_origin_serves_every_scheme_of_its_host_unless_another_entry_matches() {
        let origins = Origins::new(vec![
            table("https://app.test", "http://127.0.0.1:1", None),
            table("http://plain.test", "http://127.0.0.1:2", None),
            table("https://plain.test", "http://127.0.0.1:3", None),
            table("https://dev.test:8443", "http://127.0.0.1:4", None),
        ]);
        for (url, place) in [
            ("https://app.test/", "http://127.0.0.1:1"),
            ("http://app.test/", "http://127.0.0.1:1"),
            ("wss://app.test/media", "http://127.0.0.1:1"),
            ("ws://app.test/media", "http://127.0.0.1:1"),
            ("ws://app.test:80/media", "http://127.0.0.1:1"),
            ("http://plain.test/", "http://127.0.0.1:2"),
            ("wss://plain.test/", "http://127.0.0.1:3"),
            ("http://dev.test:8443/", "http://127.0.0.1:4"),
        ] {
            let place_of = origins.place(None, &Url::parse(url).unwrap());
            assert_eq!(place_of.map(ToString::to_string).as_deref(), Some(place), "{url}");
        }
    }
}
