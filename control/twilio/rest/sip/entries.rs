//! The entries of a list: the `Credentials` of a credential list, or the `IpAddresses` of an IP access control list.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use tandem_operations::sip_domains::{self, LimitedEntry};
use tandem_store::domains::{self, Credential, Entry, Network};

use super::super::super::error::{ApiError, allow};
use super::super::super::form::Parameters;
use super::super::super::{format, sid};
use super::super::{Answer, RestContext, Verb, created, ok};
use super::{base, friendly_name, gone, named, not_added, page, shown, words};

/// Minimum and maximum length of a password, in characters.
const PASSWORD: std::ops::RangeInclusive<usize> = 12..=256;
/// Maximum length of a user name, in characters.
const LONGEST_NAME: usize = 32;

/// A kind of entry: a credential or an IP address.
pub(super) trait Resource: LimitedEntry {
    /// Prefix of the SIDs.
    const PREFIX: &'static str;
    /// The name of the entries in paths. In a path, this name follows the SID of the list.
    const NAME: &'static str;
    /// The key of the entries in the envelope of a list.
    const KEY: &'static str;
    /// Error number: a parameter is invalid.
    const INVALID: u32;
    /// The description of the entries in an error message.
    const ENTRIES: &'static str;

    /// Reads the parameters of a new entry.
    fn read(x: &RestContext<'_>) -> Result<Self, ApiError>;

    /// Changes the fields that the parameters name. Returns `false` if the entry need not be stored.
    fn change(&mut self, x: &RestContext<'_>) -> Result<bool, ApiError>;

    /// The message of the error for an entry that the list already has.
    fn taken(&self) -> String;

    /// The keys that only this kind of entry has.
    fn fields(&self, list: &str) -> Value;
}

pub(super) async fn answer<T: Resource>(x: &RestContext<'_>, list: u128, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => all::<T>(x, list).await,
        ([], Verb::Post) => create::<T>(x, list).await,
        ([name], Verb::Get) => shown(represent(x.account_sid(), &find::<T>(x, list, name).await?)),
        ([name], Verb::Post) => update(x, find::<T>(x, list, name).await?).await,
        ([name], Verb::Delete) => {
            let id = find::<T>(x, list, name).await?.id;
            gone(x, sip_domains::delete_entry::<T>(x.services(), &x.account.name, id).await?)
        }
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        ([_], _) => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
        _ => Err(x.not_found()),
    }
}

async fn find<T: Resource>(x: &RestContext<'_>, list: u128, name: &str) -> Result<Entry<T>, ApiError> {
    let id = sid::parse(T::PREFIX, name).ok_or_else(|| x.not_found())?;
    let row = domains::entry(x.store(), &x.account.name, id).await?;
    row.filter(|row| row.list == list).ok_or_else(|| x.not_found())
}

async fn all<T: Resource>(x: &RestContext<'_>, list: u128) -> Answer {
    let paging = x.paging(T::PREFIX)?;
    let (store, account) = (x.store(), &x.account.name);
    let cursor = async |id| Ok(domains::entry::<T>(store, account, id).await?.map(|row| row.cursor()));
    let rows = domains::entries::<T>(store, account, list, &page(&paging, cursor).await?).await?;
    let items = rows.iter().map(|row| (sid::spell(T::PREFIX, row.id), represent(x.account_sid(), row))).collect();
    Ok(ok(x.list(T::KEY, &format!("SIP/{}", place::<T>(list)), &paging, items)))
}

async fn create<T: Resource>(x: &RestContext<'_>, list: u128) -> Answer {
    let row = Entry::new(&x.account.name, list, T::read(x)?);
    let full = |max| ApiError::bad(T::INVALID, format!("A list has at most {max} {}", T::ENTRIES));
    let added = sip_domains::add_entry(x.services(), &row).await;
    added.map_err(|why| not_added(why, full, || ApiError::bad(T::INVALID, row.details.taken())))?;
    Ok(created(represent(x.account_sid(), &row)))
}

async fn update<T: Resource>(x: &RestContext<'_>, mut row: Entry<T>) -> Answer {
    if row.details.change(x)? {
        sip_domains::change_entry(x.services(), &mut row).await?;
    }
    Ok(ok(represent(x.account_sid(), &row)))
}

/// The resource of an entry.
pub(super) fn represent<T: Resource>(account_sid: &str, row: &Entry<T>) -> Value {
    let dates = (row.created_at, row.updated_at);
    let mut body = base(account_sid, (T::PREFIX, row.id), &place::<T>(row.list), dates);
    format::extend(&mut body, row.details.fields(&sid::spell(words(T::KIND).2, row.list)));
    body
}

/// The path of a list's entries below `SIP`.
fn place<T: Resource>(list: u128) -> String {
    let (lists, _, prefix) = words(T::KIND);
    format!("{lists}/{}/{}", sid::spell(prefix, list), T::NAME)
}

impl Resource for Network {
    const PREFIX: &'static str = "IP";
    const NAME: &'static str = "IpAddresses";
    const KEY: &'static str = "ip_addresses";
    const INVALID: u32 = 20001;
    const ENTRIES: &'static str = "addresses";

    fn read(x: &RestContext<'_>) -> Result<Self, ApiError> {
        let name = friendly_name(x, Self::INVALID)?;
        let network = network(x.parameters, None)?;
        Ok(Self { name, network: network.ok_or_else(|| ApiError::bad(Self::INVALID, "IpAddress is required"))? })
    }

    fn change(&mut self, x: &RestContext<'_>) -> Result<bool, ApiError> {
        if let Some(name) = x.parameters.get("FriendlyName") {
            self.name = named(name, Self::INVALID)?;
        }
        if let Some(network) = network(x.parameters, Some(self.network))? {
            self.network = network;
        }
        Ok(true)
    }

    fn taken(&self) -> String {
        format!("The list already has the network {}", self.network)
    }

    fn fields(&self, list: &str) -> Value {
        json!({
            "friendly_name": self.name,
            "ip_access_control_list_sid": list,
            "ip_address": self.network.addr().to_string(),
            "cidr_prefix_length": self.network.prefix_len(),
        })
    }
}

/// Minimum prefix length (IPv4, IPv6) of a network in an access list. 10.0.0.0/8 is the widest network of one owner.
const LEAST_PREFIX: (u8, u8) = (8, 16);

/// The network that `IpAddress` and `CidrPrefixLength` give. If a parameter is missing, the value comes from `now`, the
/// current network. `None` if there is no address.
pub(super) fn network(parameters: &Parameters, now: Option<IpNet>) -> Result<Option<IpNet>, ApiError> {
    const INVALID: u32 = Network::INVALID;
    let address: Option<IpAddr> = match parameters.get("IpAddress") {
        Some(text) => {
            let address =
                text.parse().map_err(|_| ApiError::bad(INVALID, format!("IpAddress is not valid: {text}")))?;
            Some(address)
        }
        None => now.map(|network| network.addr()),
    };
    let Some(address) = address else { return Ok(None) };
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let kept = now.filter(|network| network.addr().is_ipv4() == address.is_ipv4()).map(|network| network.prefix_len());
    let length = match parameters.number("CidrPrefixLength", 0..=whole, INVALID)? {
        Some(length) => u8::try_from(length).unwrap_or(u8::MAX),
        None => kept.unwrap_or(u8::try_from(whole).unwrap_or(u8::MAX)),
    };
    // A wider network would contain the phones and trunks of many others, and so disable the access control.
    let least = if address.is_ipv4() { LEAST_PREFIX.0 } else { LEAST_PREFIX.1 };
    if length < least {
        return Err(ApiError::bad(INVALID, format!("CidrPrefixLength must be at least {least} for {address}")));
    }
    let network = IpNet::new(address, length);
    network.map(Some).map_err(|_| ApiError::bad(INVALID, "CidrPrefixLength is not valid"))
}

/// This server stores a password only as digests for this server's realm. It never returns the password.
impl Resource for Credential {
    const PREFIX: &'static str = "CR";
    const NAME: &'static str = "Credentials";
    const KEY: &'static str = "credentials";
    const INVALID: u32 = 21243;
    const ENTRIES: &'static str = "credentials";

    fn read(x: &RestContext<'_>) -> Result<Self, ApiError> {
        let username = x.parameters.get("Username");
        let username = username.ok_or_else(|| ApiError::bad(Self::INVALID, "Username is required"))?;
        // SIP digest authentication cannot transport a user name with other characters.
        let sayable = username.chars().all(|c| !c.is_control() && !c.is_whitespace() && !"\":\\@;,<>".contains(c));
        if username.chars().count() > LONGEST_NAME || !sayable {
            return Err(ApiError::bad(
                Self::INVALID,
                "Username is longer than 32 characters, or has characters that SIP does not allow",
            ));
        }
        let password = password(x)?.ok_or_else(|| ApiError::bad(Self::INVALID, "Password is required"))?;
        Ok(sip_domains::credential(&x.routing(), username, password))
    }

    fn change(&mut self, x: &RestContext<'_>) -> Result<bool, ApiError> {
        let Some(password) = password(x)? else { return Ok(false) };
        *self = sip_domains::credential(&x.routing(), &self.username, password);
        Ok(true)
    }

    fn taken(&self) -> String {
        format!("The list already has a user with this name: {}", self.username)
    }

    fn fields(&self, list: &str) -> Value {
        json!({ "credential_list_sid": list, "username": self.username })
    }
}

/// The parameter `Password`. `None` if the parameter is absent or empty.
fn password<'a>(x: &'a RestContext<'_>) -> Result<Option<&'a str>, ApiError> {
    let Some(password) = x.parameters.given_as_it_is("Password").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if !is_strong(password) {
        let rule =
            "Password must have 12 to 256 characters, including a digit, a lower-case letter and an upper-case letter";
        return Err(ApiError::bad(Credential::INVALID, rule));
    }
    Ok(Some(password))
}

pub(super) fn is_strong(password: &str) -> bool {
    PASSWORD.contains(&password.chars().count())
        && password.chars().any(|c| c.is_ascii_digit())
        && password.chars().any(char::is_lowercase)
        && password.chars().any(char::is_uppercase)
        && !password.chars().any(char::is_control)
}
