//! Trunks that accounts have created. A trunk connects this server to a PBX of the account. The trunk has a domain that
//! the PBX calls, and URIs at which this server calls the PBX. A change applies to new calls at once.

use jiff::Timestamp;
use tandem_id::AccountName;
use tandem_routing::Routing;
use tandem_routing::connections::{MAX_ROWS, TrunkAddress};
use tandem_routing::customer_trunk::{CustomerTrunk, Login, ORIGINATION, Origination, TRUNK};
use tandem_routing::phones::provisioned::ProvisionedPhone;
use tandem_runtime::services::Services;
use tandem_sip::Ha1;
use tandem_store::StoreError;
use tandem_store::domains::{self, DomainDetails, DomainRow};
use tandem_store::resources::{self, Filter, Kind, NotAdded, Resource};

use crate::numbers::{NumberError, Numbers};
use crate::phones;

/// Maximum number of trunks of an account.
const MAX_TRUNKS: u64 = 1000;
/// Maximum number of origination URIs of a trunk.
const MAX_ORIGINATION_URLS: u64 = 100;

/// The reason why a trunk was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum TrunkError {
    /// The account already has the maximum number of trunks. The value is this maximum.
    #[error("the account already has the maximum of {0} trunks")]
    Full(u64),
    /// Another domain has the name of the trunk's domain.
    #[error("the domain name is taken")]
    DomainTaken,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Creates a trunk.
pub async fn create(services: &Services, row: &Resource<CustomerTrunk>) -> Result<(), TrunkError> {
    let store = &services.store;
    resources::add(store, TRUNK, row, &Filter::default(), MAX_TRUNKS).await.map_err(|error| match error {
        NotAdded::Full(max) => TrunkError::Full(max),
        NotAdded::Taken => TrunkError::DomainTaken,
        NotAdded::Store(error) => TrunkError::Store(error),
    })?;
    if let Err(error) = keep_domain(services, row).await {
        resources::delete(store, TRUNK, &row.account, row.id).await?;
        return Err(error);
    }
    Ok(services.phones_changed().await?)
}

/// Stores a changed trunk and the domain of the trunk.
pub async fn change(services: &Services, row: &mut Resource<CustomerTrunk>) -> Result<(), TrunkError> {
    keep_domain(services, row).await?;
    Ok(change_settings(services, row).await?)
}

/// Stores a changed trunk, but not the domain of the trunk. So the domain name and the encryption setting must be
/// unchanged.
pub async fn change_settings(services: &Services, row: &mut Resource<CustomerTrunk>) -> Result<(), StoreError> {
    row.updated_at = Timestamp::now();
    resources::put(&services.store, TRUNK, row).await?;
    services.phones_changed().await
}

/// Deletes a trunk. The account keeps the numbers of the trunk. `spelled` is the id of the trunk in the form that
/// numbers use.
pub async fn delete(
    services: &Services,
    numbers: &Numbers<'_>,
    row: &Resource<CustomerTrunk>,
    spelled: &str,
) -> Result<(), NumberError> {
    for number in numbers.of_trunk(spelled) {
        numbers.attach(&number, None).await?;
    }
    let (store, account) = (&services.store, &row.account);
    // The domain is deleted before the trunk. A domain without its trunk would appear in the list of domains.
    domains::delete_domain(store, account, row.id).await?;
    resources::delete(store, TRUNK, account, row.id).await?;
    Ok(services.phones_changed().await?)
}

/// Stores the SIP domain that the PBX calls. If the trunk has no domain name, the stored domain has a name under
/// `.invalid`. Nobody can call this name.
async fn keep_domain(services: &Services, row: &Resource<CustomerTrunk>) -> Result<(), TrunkError> {
    let domain = DomainRow {
        id: row.id,
        account: row.account.clone(),
        name: row.details.domain.clone().unwrap_or_else(|| format!("{:032x}.invalid", row.id)),
        details: DomainDetails { secure: row.details.secure, trunk: true, ..DomainDetails::default() },
        created_at: row.created_at,
        updated_at: Timestamp::now(),
    };
    let is_stored = domains::upsert_domain(&services.store, &domain).await?;
    if is_stored { Ok(()) } else { Err(TrunkError::DomainTaken) }
}

/// The reason why an address to which calls go was not stored.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Calls of the account may not go to this URI. The second value is the reason, for example `a loopback address`.
    #[error("calls may not go to {0}: this address is {1}")]
    Forbidden(String, String),
    /// The limit is reached, or another account has the address.
    #[error(transparent)]
    NotAdded(#[from] NotAdded),
}

impl From<StoreError> for TargetError {
    fn from(error: StoreError) -> Self {
        Self::NotAdded(NotAdded::Store(error))
    }
}

/// Checks that calls of the account may go to the URI.
async fn check_target(services: &Services, account: &AccountName, uri: &str) -> Result<(), TargetError> {
    // Some applications write `sip://host` instead of `sip:host`.
    let uri = uri.replacen("://", ":", 1);
    match services.refusal_of_target(account, &uri).await {
        Some(why) => Err(TargetError::Forbidden(uri, why)),
        None => Ok(()),
    }
}

/// Stores a new or a changed address of a trunk. Only one account can have an IP address.
pub async fn keep_address(
    services: &Services,
    kind: Kind<TrunkAddress>,
    row: &mut Resource<TrunkAddress>,
) -> Result<(), TargetError> {
    check_target(services, &row.account, &row.details.uri).await?;
    row.claim = row.details.source.map(|source| format!("connection address {source}"));
    Ok(phones::keep(services, kind, row, MAX_ROWS).await?)
}

/// The user name of the credentials is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the user name is taken")]
pub struct UserNameTaken;

/// Returns the credentials that a trunk uses for calls to this server. They contain hashes of the password and not the
/// password.
pub fn login(routing: &Routing, account: &AccountName, username: &str, password: &str) -> Result<Login, UserNameTaken> {
    if routing.phones().is_taken(account, username) {
        return Err(UserNameTaken);
    }
    let Ha1 { md5, sha256 } = Ha1::of(username, routing.phones().realm(), password);
    Ok(Login { username: username.to_owned(), ha1_md5: md5.into(), ha1_sha256: sha256.into() })
}

/// Stores a new or a changed trunk that an account created as a connection. The user name of its credentials is unique
/// within the account.
pub async fn keep_connection(
    services: &Services,
    kind: Kind<CustomerTrunk>,
    row: &mut Resource<CustomerTrunk>,
) -> Result<(), NotAdded> {
    let login = row.details.login.as_ref();
    row.claim = login.map(|login| ProvisionedPhone::claim(&row.account, &login.username));
    phones::keep(services, kind, row, MAX_ROWS).await
}

/// Adds an origination URI. The parent of the URI is its trunk.
pub async fn add_origination(services: &Services, row: &Resource<Origination>) -> Result<(), TargetError> {
    check_target(services, &row.account, &row.details.uri).await?;
    let of_trunk = Filter { parent: row.parent, ..Filter::default() };
    Ok(phones::add(services, ORIGINATION, row, &of_trunk, MAX_ORIGINATION_URLS).await?)
}

/// Stores a changed origination URI.
pub async fn change_origination(services: &Services, row: &mut Resource<Origination>) -> Result<(), TargetError> {
    check_target(services, &row.account, &row.details.uri).await?;
    row.updated_at = Timestamp::now();
    resources::put(&services.store, ORIGINATION, row).await?;
    Ok(services.phones_changed().await?)
}

/// Deletes an origination URI.
pub async fn delete_origination(services: &Services, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    phones::remove(services, ORIGINATION, account, id).await
}
