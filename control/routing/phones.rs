//! Phones. These are the users in the configuration and in the domains of accounts. This module decides which calls
//! these users may make, and stores the registrations of these users for a restart. The SIP part is in `tandem_sip`
//! (`tandem_sip::Directory` and its registrar).

pub mod provisioned;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tandem_accounts::Account;
use tandem_call::address::Address;
use tandem_clients as clients;
use tandem_cluster::{Cluster, Note};
use tandem_host::clock;
use tandem_id::AccountName;
use tandem_media::Srtp;
use tandem_settings::{EndpointConfig, TrunkConfig};
use tandem_sip as sip;
use tandem_store::bindings::{self, BindingDetails, BindingRow};
use tandem_store::domains::{self, DomainRow};
use tandem_store::writer::Write;
use tandem_store::{Store, StoreError, resources};

use crate::connections::Connections;
use crate::customer_trunk::CustomerTrunks;
use crate::with_user;

/// The reason why a text cannot be the domain of an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DomainNameError {
    /// The text is not a host name with at least two labels.
    #[error("is not a host name such as phones.example.com")]
    NotAHostName,
    /// The text is a name of this server.
    #[error("is a name of this server")]
    OfThisServer,
    /// Clients or carriers use the name for this server or for a trunk ([`Phones::with_reserved`]).
    #[error("is the name of a certificate or of a trunk of this server")]
    Reserved,
}

/// Phones by their accounts, and then by their user names.
type EndpointsByName = HashMap<AccountName, HashMap<Arc<str>, Arc<EndpointConfig>>>;

/// If several phones have the same name, the first phone is found.
fn by_name(endpoints: impl IntoIterator<Item = Arc<EndpointConfig>>) -> EndpointsByName {
    let mut map = EndpointsByName::new();
    for one in endpoints {
        let own = map.entry(one.account.clone()).or_default();
        own.entry(Arc::clone(&one.username)).or_insert(one);
    }
    map
}

/// All phones that this server knows.
#[derive(Debug, Default)]
pub struct Phones {
    realm: String,
    /// The host names of this server. Each name is valid with any port.
    names: Vec<String>,
    /// Further names, in lower case, that no account may have as its domain.
    reserved: Vec<String>,
    /// The addresses of this server. The addresses are set when the sockets are bound.
    addresses: OnceLock<Vec<SocketAddr>>,
    endpoints: Vec<Arc<EndpointConfig>>,
    by_name: EndpointsByName,
    srtp: Srtp,
    /// The trunks that authenticate their calls with a password. The server challenges these trunks like phones.
    trunks: Vec<TrunkConfig>,
    /// The accounts that may call from this host with their own name (`tandem call`).
    accounts: Vec<Account>,
    known: RwLock<Arc<PhoneDirectory>>,
}

/// The data from the database, combined with the configuration.
#[derive(Debug, Default)]
struct PhoneDirectory {
    directory: Arc<sip::Directory>,
    domains: HashMap<String, DomainRow>,
    /// Phones that accounts have created.
    made: EndpointsByName,
    customer_trunks: Arc<CustomerTrunks>,
    connections: Arc<Connections>,
}

impl Phones {
    /// Creates the phones of the configuration. `advertise` has the public host names and addresses of the server. `srtp`
    /// applies to phones without their own `srtp` setting.
    pub fn new(
        registrar: &sip::RegistrarConfig,
        advertise: &sip::Advertise,
        endpoints: Vec<EndpointConfig>,
        srtp: Srtp,
    ) -> Self {
        let hosts = advertise.addresses().iter().map(sip::Advertised::host);
        let names = registrar.domains.iter().map(String::as_str).chain(hosts).map(str::to_ascii_lowercase).collect();
        let (realm, addresses) = (registrar.realm.clone(), OnceLock::new());
        let endpoints: Vec<_> = endpoints.into_iter().map(Arc::new).collect();
        let by_name = by_name(endpoints.iter().cloned());
        Self { realm, names, addresses, endpoints, by_name, srtp, ..Self::default() }
    }

    /// Adds the trunks that authenticate their calls with a password. Ignores other trunks.
    pub fn with_trunks(mut self, trunks: &[TrunkConfig]) -> Self {
        self.trunks = trunks.iter().filter(|trunk| trunk.inbound_username.is_some()).cloned().collect();
        self
    }

    /// Adds names that no account may have as its domain: the names of the certificates and of the HTTP API, and the hosts
    /// of trunks. If an account had such a domain, it would get the calls and the registrations of other accounts there.
    pub fn with_reserved(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.reserved = names.into_iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect();
        self
    }

    /// Adds these accounts. Each account may call from this host with its name (or its id in the provider's form) and
    /// its secret.
    pub fn with_accounts(mut self, accounts: impl IntoIterator<Item = Account>) -> Self {
        self.accounts = accounts.into_iter().collect();
        self
    }

    /// Reads the users that may register and call, from the configuration and the database. The caller must pass the
    /// result to SIP, at the start and after each change of domains, lists or the contents of lists.
    pub async fn load(&self, store: &Store) -> Result<Arc<sip::Directory>, StoreError> {
        let rows = domains::all_domains(store).await?;
        let own = self.endpoints.iter().map(|endpoint| sip::User {
            account: endpoint.account.clone(),
            username: Arc::clone(&endpoint.username),
            ha1: sip::Ha1::of(&endpoint.username, &self.realm, endpoint.password.expose()),
            domain: None,
            trunk: None,
            registers: true,
            calls: true,
        });
        let connections = Connections::load(store, clock::time()).await?;
        let mut made = resources::all(store, provisioned::PHONES).await?;
        made.extend(connections.phones().iter().cloned());
        let server = AccountName::server();
        let mut owners: HashMap<&str, &AccountName> = HashMap::new();
        for endpoint in &self.endpoints {
            owners.insert(&endpoint.username, &endpoint.account);
        }
        for trunk in &self.trunks {
            owners.extend(
                trunk.inbound_username.as_deref().map(|name| (name, trunk.account.as_ref().unwrap_or(&server))),
            );
        }
        let is_in_file =
            |account: &AccountName, name: &str| self.by_name.get(account).is_some_and(|own| own.contains_key(name));
        let of_accounts = made.iter().filter(|row| {
            let (account, name) = (&row.account, row.name.as_str());
            *owners.entry(name).or_insert(account) == account || is_in_file(account, name)
        });
        let of_accounts: Vec<_> = of_accounts.map(provisioned::user).collect();
        let of_trunks = self.trunks.iter().filter_map(|trunk| {
            let (username, password) = trunk.inbound_username.as_ref().zip(trunk.inbound_password.as_ref())?;
            Some(sip::User {
                account: trunk.account.clone().unwrap_or_default(),
                username: Arc::clone(username),
                ha1: sip::Ha1::of(username, &self.realm, password.expose()),
                domain: None,
                trunk: Some(Arc::clone(&trunk.name)),
                registers: false,
                calls: true,
            })
        });
        let mut of_domains = domains::users(store).await?;
        // At an address of this server, a name belongs to the account that has used it first.
        of_domains.sort_by_key(|user| user.created_at);
        let of_domains = of_domains.into_iter().map(|user| sip::User {
            account: user.account,
            username: user.username.into(),
            ha1: sip::Ha1 { md5: user.ha1_md5.into(), sha256: user.ha1_sha256.into() },
            domain: Some(user.domain.into()),
            trunk: None,
            registers: user.registers,
            calls: user.calls,
        });
        let mut networks: HashMap<String, Vec<_>> = HashMap::new();
        for (domain, network) in domains::networks(store).await? {
            networks.entry(domain).or_default().push(network);
        }
        let ours = rows.iter().map(|row| sip::Domain {
            name: row.name.as_str().into(),
            account: row.account.clone(),
            networks: networks.remove(&row.name).unwrap_or_default(),
            for_any_host: false,
        });
        let ours = ours.chain(connections.sip_domains());
        let accounts = self.accounts.iter().flat_map(|account| {
            account.callers().map(|(name, secret)| sip::User {
                account: account.name.clone(),
                username: name.into(),
                ha1: sip::Ha1::of(name, &self.realm, secret),
                domain: None,
                trunk: None,
                registers: false,
                calls: true,
            })
        });
        let directory = sip::Directory::new(
            &self.realm,
            own.chain(of_trunks).chain(of_accounts).chain(connections.sip_users()).chain(of_domains),
            ours,
        );
        let directory = Arc::new(directory.with_accounts(accounts));
        let domains =
            rows.into_iter().chain(connections.domains()).map(|row| (row.name.to_ascii_lowercase(), row)).collect();
        let customer_trunks = Arc::new(CustomerTrunks::load(store, &connections).await?);
        let made = by_name(made.iter().map(|row| Arc::new(provisioned::endpoint(row))));
        let connections = Arc::new(connections);
        *self.known.write() =
            Arc::new(PhoneDirectory { directory: Arc::clone(&directory), domains, made, customer_trunks, connections });
        Ok(directory)
    }

    /// Stores the addresses of the bound sockets. Call this function only once.
    pub fn listen_on(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let set = self.addresses.set(addresses.into_iter().collect());
        debug_assert!(set.is_ok(), "told twice");
    }

    pub fn customer_trunks(&self) -> Arc<CustomerTrunks> {
        Arc::clone(&self.known.read().customer_trunks)
    }

    /// Returns the connections of all accounts.
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.known.read().connections)
    }

    /// Returns the user without domain that has this name and password, and may register. `None` if there is none.
    pub fn with_password(&self, username: &str, password: &str) -> Option<clients::User> {
        let directory = Arc::clone(&self.known.read().directory);
        let given = sip::Ha1::of(username, &self.realm, password);
        let is_right = |user: &&sip::User| {
            let hash = user.ha1.sha256.as_bytes();
            user.registers && user.trunk.is_none() && bool::from(hash.ct_eq(given.sha256.as_bytes()))
        };
        let user = directory.users(username, "").filter(|user| user.domain.is_none()).find(is_right)?;
        Some(clients::User { account: user.account.clone(), name: Arc::clone(&user.username), domain: None })
    }

    /// Returns the realm of the stored password hashes.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Whether a host name or an address identifies this server. Such a name cannot be the domain of an account.
    pub fn is_own_name(&self, host: &str) -> bool {
        let address = |address: &SocketAddr| host.trim_matches(['[', ']']).parse() == Ok(address.ip());
        self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
            || self.addresses.get().into_iter().flatten().any(address)
    }

    /// Checks that a text can be the domain of an account, and returns the text in lower case. The domain must have at
    /// least two labels and must not be an IP address. A name of this server is refused, because calls to this server
    /// would then go to the account.
    pub fn domain_name(&self, text: &str) -> Result<String, DomainNameError> {
        let name = text.to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let last = name.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|octet| octet.is_ascii_digit());
        if name.len() > 253 || !name.contains('.') || numeric || !name.split('.').all(label) {
            return Err(DomainNameError::NotAHostName);
        }
        if self.is_own_name(&name) {
            return Err(DomainNameError::OfThisServer);
        }
        if self.reserved.contains(&name) {
            return Err(DomainNameError::Reserved);
        }
        Ok(name)
    }

    /// Returns the user that an account calls with `to`. Returns `None` if `to` is not a phone of the account.
    pub fn find(&self, account: &AccountName, to: &Address) -> Option<clients::User> {
        let known = Arc::clone(&self.known.read());
        let (username, domain): (Cow<'_, str>, Option<Arc<str>>) = match to {
            Address::Client(name) => ((&**name).into(), None),
            Address::Sip(uri) => {
                let domain = known.directory.domain(host_of(uri).0).filter(|domain| domain.account == *account);
                if domain.is_none() && !self.is_here(uri) {
                    return None;
                }
                (to.user(), domain.map(|domain| Arc::clone(&domain.name)))
            }
            Address::Phone(number) => (number.as_str().into(), None),
            Address::Application(_) | Address::Name(_) => return None,
        };
        // Only a phone of the configuration, or a phone that the account has created, can have a number as its
        // extension. So a user of a domain cannot take over a number.
        let there = match to {
            Address::Phone(_) => self.endpoint(account, &username).is_some(),
            _ => known.directory.has(account, &username, domain.as_deref()),
        };
        there.then(|| clients::User { account: account.clone(), name: username.as_ref().into(), domain })
    }

    /// Returns every user that may register.
    pub fn users(&self) -> Vec<clients::User> {
        let known = Arc::clone(&self.known.read());
        let phones = known.directory.all().filter(|user| user.registers && user.trunk.is_none());
        phones.map(client).collect()
    }

    /// Returns every user that may call and has this name. The users may belong to several accounts.
    pub fn callers(&self, name: &str) -> Vec<clients::User> {
        let known = Arc::clone(&self.known.read());
        let named = known.directory.all().filter(|user| &*user.username == name && user.calls && user.trunk.is_none());
        named.map(client).collect()
    }

    /// Whether SIP may ask a caller from an unknown source for a password. `from` is the user of the From header. A
    /// silent server asks only existing users.
    pub(crate) fn may_challenge(&self, from: &str, is_silent: bool) -> bool {
        let directory = Arc::clone(&self.known.read().directory);
        directory.has_users() && (!is_silent || directory.users(from, "").next().is_some())
    }

    /// Returns the account of the phone in a SIP URI. The host in the URI is a name or an address of this server, or
    /// the domain of an account. Returns `None` if no account has such a phone, or if several accounts have such a
    /// phone.
    pub fn owner(&self, uri: &str) -> Option<AccountName> {
        let (known, host) = (Arc::clone(&self.known.read()), host_of(uri));
        if known.directory.domain(host.0).is_none() && !self.is_here(uri) {
            return None;
        }
        let to = Address::Sip(uri.into());
        let username = to.user();
        let phones = known.directory.users(&username, host.0).filter(|user| user.trunk.is_none());
        let mut owners = phones.map(|user| &user.account);
        let first = owners.next()?;
        owners.all(|other| other == first).then(|| first.clone())
    }

    /// Returns a phone of the configuration, or a phone that its account has created.
    pub fn endpoint(&self, account: &AccountName, username: &str) -> Option<Arc<EndpointConfig>> {
        let known = Arc::clone(&self.known.read());
        [&self.by_name, &known.made].into_iter().find_map(|all| all.get(account)?.get(username)).cloned()
    }

    /// Whether an account must not create a phone or a login with this user name. The account's own phones of the
    /// configuration and all users of other accounts have their names for themselves: at an address of this server, only
    /// the name says whose password is meant. Otherwise an account could create the name of another account's phone with
    /// a guessed password, and could see whether the guess is right. The comparison ignores case.
    pub fn is_taken(&self, account: &AccountName, username: &str) -> bool {
        let is_it = |name: &str| name.eq_ignore_ascii_case(username);
        let known = Arc::clone(&self.known.read());
        self.endpoints.iter().any(|endpoint| endpoint.account == *account && is_it(&endpoint.username))
            || known.directory.all().any(|user| user.account != *account && is_it(&user.username))
    }

    /// Returns the encryption setting for the media of a phone's calls.
    pub fn srtp(&self, phone: &clients::User) -> Srtp {
        if phone.domain.as_deref().is_some_and(|domain| self.is_secure(domain)) {
            return Srtp::Required;
        }
        self.endpoint(&phone.account, &phone.name).and_then(|endpoint| endpoint.srtp).unwrap_or(self.srtp)
    }

    /// Whether calls to a phone have the media of browsers. `by_websocket` says whether the phone has registered over a
    /// WebSocket.
    pub fn is_webrtc(&self, phone: &clients::User, by_websocket: bool) -> bool {
        self.endpoint(&phone.account, &phone.name).and_then(|endpoint| endpoint.webrtc).unwrap_or(by_websocket)
    }

    /// Whether calls to this domain of an account must use TLS.
    pub fn is_secure(&self, domain: &str) -> bool {
        self.known.read().domains.get(&domain.to_ascii_lowercase()).is_some_and(|domain| domain.details.secure)
    }

    /// Returns the domain with this name. The domain may belong to any account.
    pub fn domain(&self, name: &str) -> Option<DomainRow> {
        self.known.read().domains.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Returns the account's domain that is the host of this SIP URI.
    pub fn domain_of(&self, uri: &str) -> Option<DomainRow> {
        self.domain(host_of(uri).0)
    }

    /// Returns the SIP URI of a phone's user.
    pub fn uri(&self, user: &clients::User) -> String {
        let host = match (&user.domain, self.names.first(), self.addresses.get().and_then(|all| all.first())) {
            (Some(domain), _, _) => domain.to_string(),
            (None, Some(name), _) => name.clone(),
            (None, None, Some(address)) => address.to_string(),
            (None, None, None) => "localhost".to_owned(),
        };
        with_user(&format!("sip:{host}"), &user.name)
    }

    /// Returns the URI for a call to `to`, which is an address of the user. If `to` names an instance (GRUU), the
    /// URI includes this instance.
    pub fn target(&self, user: &clients::User, to: &Address) -> String {
        let uri = self.uri(user);
        match instance(to) {
            Some(instance) => format!("{uri};gr={instance}"),
            None => uri,
        }
    }

    /// Whether the host in a SIP URI is a name or an address of this server. The domain of an account is not a name of
    /// this server.
    pub fn is_here(&self, uri: &str) -> bool {
        let (host, port) = host_of(uri);
        let here = |address: &SocketAddr| {
            address.port() == port.unwrap_or(5060) && host.trim_matches(['[', ']']).parse() == Ok(address.ip())
        };
        self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
            || self.addresses.get().into_iter().flatten().any(here)
    }
}

/// Returns the instance in a GRUU (RFC 5627): the value of the parameter `gr` in a SIP URI.
pub fn instance(to: &Address) -> Option<&str> {
    let Address::Sip(uri) = to else { return None };
    instance_in(uri)
}

/// Returns the value of the parameter `gr` in a SIP URI.
pub fn instance_in(uri: &str) -> Option<&str> {
    let host = uri.rsplit_once('@').map_or(uri, |(_, host)| host);
    let parameters = host.split('?').next().unwrap_or(host).split(';').skip(1);
    parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("gr"))
        .map(|(_, id)| id)
}

/// Returns the host and the port of a SIP URI.
pub fn host_of(uri: &str) -> (&str, Option<u16>) {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.split(['?', ';']).next().unwrap_or(rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (rest, None),
    }
}

/// A note to the other nodes of a cluster about a phone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PhoneNote {
    /// The phone has registered at the node that sends the note.
    Bound(Box<BindingRow>),
    /// The registration with this id has ended.
    Unbound(u128),
}

impl Note for PhoneNote {
    const NAME: &'static str = "phone";
}

/// Stores a change that the registrar reports, and tells it to the other nodes. If the writer's queue is full, the change
/// is lost. In this case the phone cannot be reached after a restart until it registers again.
pub fn keep(store: &Store, cluster: &Cluster, change: sip::Change) {
    let node = cluster.name().map(str::to_owned);
    let (write, note) = match change {
        sip::Change::Bound(binding) | sip::Change::Refreshed(binding) => {
            let row = Box::new(BindingRow { node, ..row(*binding, clock::time()) });
            (Write::Binding(row.clone()), PhoneNote::Bound(row))
        }
        sip::Change::Unbound(binding) => (Write::Unbinding(binding.id.0, node), PhoneNote::Unbound(binding.id.0)),
        // The binding came from the store, or another node stores it.
        sip::Change::Restored(_) | sip::Change::Learned(_) | sip::Change::Forgotten(_) => return,
    };
    store.writer().try_submit(write);
    cluster.post(&note);
}

/// Returns the stored registrations at this node that are still valid at `now`.
pub async fn restore(store: &Store, cluster: &Cluster, now: Timestamp) -> Result<Vec<sip::Binding>, StoreError> {
    let rows = bindings::restore(store, now).await?;
    let is_own = |row: &BindingRow| row.node.is_none() || row.node.as_deref() == cluster.name();
    Ok(rows.into_iter().filter(is_own).filter_map(|row| binding(row, now)).collect())
}

fn row(binding: sip::Binding, now: Timestamp) -> BindingRow {
    let life = jiff::SignedDuration::try_from(binding.expires_in).unwrap_or_default();
    BindingRow {
        id: binding.id.0,
        account: binding.aor.account.clone(),
        username: binding.aor.username.to_string(),
        expires_at: now.checked_add(life).unwrap_or(now),
        node: None,
        details: BindingDetails {
            domain: binding.aor.domain.map(|domain| domain.to_string()),
            host: binding.host,
            contact: binding.contact,
            q: binding.q,
            path: binding.path,
            instance: binding.instance,
            sip_call_id: binding.sip_call_id,
            cseq: binding.cseq,
            source: binding.source,
            direct: binding.direct,
            local: binding.local,
            transport: binding.transport.parameter().to_owned(),
            user_agent: binding.user_agent,
        },
    }
}

/// Returns the registration of a row that is valid at `now`.
pub fn binding(row: BindingRow, now: Timestamp) -> Option<sip::Binding> {
    let BindingRow { id, account, username, expires_at, node: _, details } = row;
    let expires_in = Duration::try_from(expires_at.duration_since(now)).ok()?;
    Some(sip::Binding {
        id: sip::BindingId(id),
        aor: sip::Aor { account, username: username.into(), domain: details.domain.map(Into::into) },
        host: details.host,
        contact: details.contact,
        q: details.q,
        path: details.path,
        instance: details.instance,
        sip_call_id: details.sip_call_id,
        cseq: details.cseq,
        source: details.source,
        direct: details.direct,
        local: details.local,
        transport: sip::Transport::named(&details.transport)?,
        user_agent: details.user_agent,
        expires_in,
    })
}

/// Returns the name under which a user of SIP can be called.
fn client(user: &sip::User) -> clients::User {
    clients::User { account: user.account.clone(), name: Arc::clone(&user.username), domain: user.domain.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phones() -> Phones {
        let endpoint = |account: &str, username: &str| {
            serde_json::from_value(serde_json::json!({ "account": account, "username": username, "password": "p" }))
                .unwrap()
        };
        let registrar = sip::RegistrarConfig { domains: vec!["Phones.example".into()], ..Default::default() };
        let endpoints = vec![
            endpoint("acme", "alice"),
            endpoint("acme", "100"),
            endpoint("other", "bob"),
            endpoint("acme", "twin"),
            endpoint("other", "twin"),
        ];
        let phones = Phones::new(&registrar, &"sip.example:5080".parse().unwrap(), endpoints, Srtp::Optional);
        phones.listen_on(["127.0.0.1:5060".parse().unwrap()]);
        phones
    }

    async fn loaded() -> (Phones, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
        let phones = phones();
        phones.load(&store).await.unwrap();
        (phones, directory)
    }

    #[tokio::test]
    async fn a_gruu_finds_its_user_and_keeps_its_instance() {
        let (phones, _directory) = loaded().await;
        let target = |to: &str| {
            let to = Address::from(to);
            phones
                .find(&AccountName::new("acme"), &to)
                .map(|aor| phones.target(&aor, &to).replace(&phones.uri(&aor), ""))
        };
        let gruu = "sip:alice@phones.example;transport=tcp;GR=urn:uuid:d?X-A=;gr=no";
        assert_eq!(target(gruu).as_deref(), Some(";gr=urn:uuid:d"));
        assert_eq!(target("sip:alice@phones.example;transport=tcp").as_deref(), Some(""));
        assert_eq!(target("sip:nobody@phones.example;gr=urn:uuid:d"), None);
    }

    #[tokio::test]
    async fn a_phone_is_found_by_its_username_at_every_host_name_of_the_server_within_its_account() {
        let (phones, _directory) = loaded().await;
        let found = |account: &str, to: &str| phones.find(&AccountName::new(account), &Address::from(to)).is_some();
        for to in [
            "client:alice",
            "sip:alice@PHONES.example",
            "sip:alice@sip.example:9",
            "sip:alice@127.0.0.1",
            "sip:100@127.0.0.1:5060;x=1",
        ] {
            assert!(found("acme", to), "{to}");
        }
        assert!(found("acme", "100"), "an extension");
        for to in
            ["client:bob", "client:nobody", "sip:alice@127.0.0.1:5061", "sip:alice@elsewhere.example", "200", "alice"]
        {
            assert!(!found("acme", to), "{to}");
        }
        assert!(found("other", "client:bob") && !found("other", "100"));
    }

    #[tokio::test]
    async fn a_uri_at_the_servers_address_identifies_the_only_account_with_this_username() {
        let (phones, _directory) = loaded().await;
        let owner = |uri: &str| phones.owner(uri).map(|account| account.to_string());
        assert_eq!(owner("sip:bob@127.0.0.1").as_deref(), Some("other"));
        assert_eq!(owner("sip:alice@phones.example").as_deref(), Some("acme"));
        for uri in ["sip:nobody@127.0.0.1", "sip:alice@elsewhere.example", "sip:twin@127.0.0.1"] {
            assert_eq!(owner(uri), None, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_username_at_the_servers_addresses_belongs_to_one_account() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
        let mut trunk: TrunkConfig = serde_json::from_value(serde_json::json!({
            "name": "carrier", "inbound_username": "carrier", "inbound_password": "p",
        }))
        .unwrap();
        trunk.account = Some(AccountName::new("acme"));
        let phones = phones().with_trunks(&[trunk]);
        phones.load(&store).await.unwrap();
        for (account, name, taken) in [
            ("other", "alice", true),
            ("other", "Alice", true),
            ("acme", "alice", true),
            ("other", "carrier", true),
            ("acme", "carrier", false),
            ("other", "dave", false),
        ] {
            assert_eq!(phones.is_taken(&AccountName::new(account), name), taken, "{account} {name}");
        }
        // Phones of an earlier version, which did not refuse these names.
        for (account, name) in
            [("other", "alice"), ("acme", "dave"), ("other", "dave"), ("other", "twin"), ("other", "carrier")]
        {
            let row =
                resources::Resource::new(&AccountName::new(account), name, provisioned::ProvisionedPhone::default());
            let added = resources::add(&store, provisioned::PHONES, &row, &resources::Filter::default(), 10).await;
            assert!(added.is_ok(), "{account} {name}");
        }
        let directory = phones.load(&store).await.unwrap();
        let owners = |name: &str| -> Vec<String> {
            let mut owners: Vec<_> = directory.users(name, "127.0.0.1").map(|user| user.account.to_string()).collect();
            owners.sort_unstable();
            owners
        };
        for (name, accounts) in [
            ("alice", &["acme"][..]),
            ("dave", &["acme"]),
            ("carrier", &["acme"]),
            ("twin", &["acme", "other", "other"]),
        ] {
            assert_eq!(owners(name), accounts, "{name}");
        }
        assert!(
            phones.is_taken(&AccountName::new("other"), "dave") && !phones.is_taken(&AccountName::new("acme"), "dave")
        );
    }

    #[test]
    fn the_domain_of_an_account_must_be_a_host_name_of_no_other_owner() {
        let reserved = ["voice.operator.example", "SIP.Carrier.example."].map(str::to_owned);
        let phones = phones().with_reserved(reserved);
        assert_eq!(phones.domain_name("Acme.Example").as_deref(), Ok("acme.example"));
        for text in ["acme", "acme..example", "-a.example", "10.0.0.1", "a b.example", ""] {
            assert_eq!(phones.domain_name(text), Err(DomainNameError::NotAHostName), "{text}");
        }
        for text in ["phones.example", "sip.example"] {
            assert_eq!(phones.domain_name(text), Err(DomainNameError::OfThisServer), "{text}");
        }
        for text in ["Voice.operator.example", "sip.carrier.example"] {
            assert_eq!(phones.domain_name(text), Err(DomainNameError::Reserved), "{text}");
        }
        assert!(phones.domain_name("acme.voice.operator.example").is_ok(), "the operator may give subdomains");
    }

    #[test]
    fn a_stored_binding_is_read_back_unchanged() {
        let now = "2026-11-21T08:00:00Z".parse().unwrap();
        let kept = sip::Binding {
            id: sip::BindingId(7),
            aor: sip::Aor {
                account: AccountName::new("acme"),
                username: "alice".into(),
                domain: Some("a.example".into()),
            },
            host: Some("voice.example".into()),
            contact: "sip:a@10.0.0.1".into(),
            q: 500,
            path: vec!["<sip:p;lr>".into()],
            instance: Some("<urn:uuid:1> 1".into()),
            sip_call_id: "c".into(),
            cseq: 3,
            source: "192.0.2.1:40000".parse().unwrap(),
            direct: None,
            local: "127.0.0.1:5060".parse().unwrap(),
            transport: sip::Transport::Tcp,
            user_agent: Some("phone".into()),
            expires_in: Duration::from_secs(600),
        };
        assert_eq!(binding(row(kept.clone(), now), now), Some(kept));
    }
}
