//! SIP domains and access lists. An access list contains credentials or networks, and is mapped to domains and trunks.
//! A change applies to the next SIP message of a phone.

use std::sync::Arc;

use jiff::Timestamp;
use tandem_host::clock;
use tandem_id::AccountName;
use tandem_routing::Routing;
use tandem_routing::phones::DomainNameError;
use tandem_runtime::services::Services;
use tandem_sip::Ha1;
use tandem_store::domains::{self, Credential, DomainRow, Entry, EntryDetails, ListKind, ListRow, MappingRow, Purpose};
use tandem_store::{StoreError, bindings};

/// Maximum number of domains in an account. An account may also have at most this number of lists of each kind.
const MAX_COUNT: u64 = 1000;

/// The reason why a domain, list, entry or mapping was not added or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The account or the list has reached the maximum number of items. The value is this maximum.
    #[error("there are {0} already, the maximum")]
    Full(u64),
    /// Another domain has this name, the list already has a user with this name, or the list already has this mapping.
    #[error("it is already in use")]
    Taken,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A type of list entry, with the maximum number of entries in a list of this type.
pub trait LimitedEntry: EntryDetails {
    /// Maximum number of entries in a list.
    const MAX_COUNT: u64;
}

impl LimitedEntry for Credential {
    const MAX_COUNT: u64 = 1000;
}

impl LimitedEntry for domains::Network {
    const MAX_COUNT: u64 = 100;
}

/// The reason why a text cannot be the name of an account's domain.
#[derive(Debug, thiserror::Error)]
pub enum DomainRefusal {
    /// The text is not a host name, or the server uses the name itself.
    #[error(transparent)]
    Name(#[from] DomainNameError),
    /// A phone of another account registers at this name.
    #[error("is taken")]
    Taken,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks that a text can be the name of a domain of the account, and returns the name in lower case. A name at which
/// phones of another account are registered is refused, because these phones could not register there any more.
pub async fn domain_name(services: &Services, account: &AccountName, text: &str) -> Result<String, DomainRefusal> {
    let phones = Arc::clone(services.routing.load().phones());
    let name = phones.domain_name(text)?;
    let is_own = phones.domain(&name).is_some_and(|domain| domain.account == *account);
    if !is_own && bindings::uses_host(&services.store, account, &name, clock::time()).await? {
        return Err(DomainRefusal::Taken);
    }
    Ok(name)
}

/// Adds a domain.
pub async fn add_domain(services: &Services, row: &DomainRow) -> Result<(), AccessError> {
    limited(domains::count_domains(&services.store, &row.account).await?, MAX_COUNT)?;
    keep_domain(services, row).await
}

/// Stores a changed domain.
pub async fn change_domain(services: &Services, row: &mut DomainRow) -> Result<(), AccessError> {
    row.updated_at = Timestamp::now();
    keep_domain(services, row).await
}

async fn keep_domain(services: &Services, row: &DomainRow) -> Result<(), AccessError> {
    taken(domains::upsert_domain(&services.store, row).await?)?;
    Ok(services.phones_changed().await?)
}

/// Deletes a domain and the mappings of the domain. Returns `false` if the account has no domain with this id.
pub async fn delete_domain(services: &Services, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    applied(services, domains::delete_domain(&services.store, account, id).await?).await
}

/// Adds a list without entries.
pub async fn add_list(
    services: &Services,
    account: &AccountName,
    kind: ListKind,
    name: String,
) -> Result<ListRow, AccessError> {
    limited(domains::count_lists(&services.store, account, kind).await?, MAX_COUNT)?;
    let now = Timestamp::now();
    let account = account.clone();
    let row = ListRow { id: rand::random(), account, kind, name, created_at: now, updated_at: now };
    domains::upsert_list(&services.store, &row).await?;
    Ok(row)
}

/// Renames a list.
pub async fn rename_list(services: &Services, row: &mut ListRow, name: String) -> Result<(), StoreError> {
    (row.name, row.updated_at) = (name, Timestamp::now());
    domains::upsert_list(&services.store, row).await
}

/// Deletes a list, and the entries and mappings of the list. Returns `false` if the account has no list with this id.
pub async fn delete_list(services: &Services, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    applied(services, domains::delete_list(&services.store, account, id).await?).await
}

/// Adds an entry to a list.
pub async fn add_entry<T: LimitedEntry>(services: &Services, row: &Entry<T>) -> Result<(), AccessError> {
    limited(domains::count_entries::<T>(&services.store, &row.account, row.list).await?, T::MAX_COUNT)?;
    taken(domains::upsert_entry(&services.store, row).await?)?;
    Ok(services.phones_changed().await?)
}

/// Stores a changed entry.
pub async fn change_entry<T: EntryDetails>(services: &Services, row: &mut Entry<T>) -> Result<(), StoreError> {
    row.updated_at = Timestamp::now();
    domains::upsert_entry(&services.store, row).await?;
    services.phones_changed().await
}

/// Deletes an entry of a list. Returns `false` if the account has no entry with this id.
pub async fn delete_entry<T: EntryDetails>(
    services: &Services,
    account: &AccountName,
    id: u128,
) -> Result<bool, StoreError> {
    applied(services, domains::delete_entry::<T>(&services.store, account, id).await?).await
}

/// Returns the credentials of a user for the realm of this server. The credentials contain hashes of the password and
/// not the password.
pub fn credential(routing: &Routing, username: &str, password: &str) -> Credential {
    let Ha1 { md5, sha256 } = Ha1::of(username, routing.phones().realm(), password);
    Credential { username: username.to_owned(), ha1_md5: md5.into(), ha1_sha256: sha256.into() }
}

/// Maps a list to a domain or to a trunk.
pub async fn map(
    services: &Services,
    account: &AccountName,
    domain: u128,
    list: u128,
    purpose: Purpose,
) -> Result<MappingRow, AccessError> {
    let (id, account, created_at) = (rand::random(), account.clone(), Timestamp::now());
    let row = MappingRow { id, account, domain, list, purpose, created_at };
    taken(domains::map(&services.store, &row).await?)?;
    services.phones_changed().await?;
    Ok(row)
}

/// Removes the mapping of a list to a domain or to a trunk. Returns `false` if the mapping does not exist.
pub async fn unmap(
    services: &Services,
    account: &AccountName,
    domain: u128,
    list: u128,
    purpose: Purpose,
) -> Result<bool, StoreError> {
    applied(services, domains::unmap(&services.store, account, domain, list, purpose).await?).await
}

/// Passes a change to SIP, if `changed` is true. Returns `changed`.
async fn applied(services: &Services, changed: bool) -> Result<bool, StoreError> {
    if changed {
        services.phones_changed().await?;
    }
    Ok(changed)
}

fn limited(count: u64, max: u64) -> Result<(), AccessError> {
    if count < max { Ok(()) } else { Err(AccessError::Full(max)) }
}

fn taken(is_stored: bool) -> Result<(), AccessError> {
    if is_stored { Ok(()) } else { Err(AccessError::Taken) }
}
