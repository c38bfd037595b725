//! `/v2/fqdn_connections` and `/v2/ip_connections`: trunks to host names and to IP addresses. `/v2/fqdns` and
//! `/v2/ips`: the host names and IP addresses of these trunks.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_id::AccountName;
use tandem_operations::connections;
use tandem_operations::trunks::{self, TargetError, UserNameTaken};
use tandem_routing::connections::{ADDRESSES, HOSTS, TO_ADDRESSES, TO_HOSTS, TrunkAddress};
use tandem_routing::customer_trunk::{CustomerTrunk, Login};
use tandem_runtime::app::App;
use tandem_store::resources::{Kind as Stored, Resource};

use super::super::error::ApiError;
use super::super::parameters::Parameters;
use super::listing::ListFields;
use super::resource::Kind;
use super::{connection, connection_error, phones, stored};

/// The differences between host names and IP addresses.
pub(super) trait TrunkAddressing: Send + Sync + 'static {
    const TRUNK: &'static str;
    const TRUNKS: &'static str;
    const PLACE: &'static str;
    const PLACES: &'static str;
    /// The name of the parameter with the host name or IP address.
    const PARAMETER: &'static str;
    /// The word in `default_primary_..._id`.
    const CHOICE: &'static str;
    const ADDRESS_LIST_FIELDS: ListFields;

    fn trunks() -> Stored<CustomerTrunk>;
    fn places() -> Stored<TrunkAddress>;
    /// The host part of the trunk's URI, and the source address of the trunk's calls. The source address is `None` if
    /// the address is unknown.
    fn place(kept: Parameters<'_>) -> Result<(String, Option<IpAddr>), ApiError>;
}

/// Host names (FQDNs).
pub(super) struct Hosts;
/// IP addresses.
pub(super) struct Addresses;

/// A trunk to host names or IP addresses.
pub(super) struct Trunk<F>(PhantomData<F>);
/// One host name or IP address of a trunk.
pub(super) struct AddressResource<F>(PhantomData<F>);

impl TrunkAddressing for Hosts {
    const TRUNK: &'static str = "fqdn_connection";
    const TRUNKS: &'static str = "/v2/fqdn_connections";
    const PLACE: &'static str = "fqdn";
    const PLACES: &'static str = "/v2/fqdns";
    const PARAMETER: &'static str = "fqdn";
    const CHOICE: &'static str = "fqdn";
    const ADDRESS_LIST_FIELDS: ListFields = ListFields {
        filters: &[
            ("connection_id", "/connection_id"),
            ("fqdn", "/fqdn"),
            ("port", "/port"),
            ("dns_record_type", "/dns_record_type"),
        ],
        sorts: &[("created_at", "/created_at")],
    };

    fn trunks() -> Stored<CustomerTrunk> {
        TO_HOSTS
    }

    fn places() -> Stored<TrunkAddress> {
        HOSTS
    }

    fn place(kept: Parameters<'_>) -> Result<(String, Option<IpAddr>), ApiError> {
        kept.required("dns_record_type")?;
        kept.check("dns_record_type", &["a", "A", "srv", "SRV"])?;
        let host = kept.required("fqdn")?;
        let is_host = host.len() <= 253 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        match is_host {
            true => Ok((host.to_owned(), None)),
            false => Err(ApiError::bad_value("fqdn", "The 'fqdn' parameter must be a host name.")),
        }
    }
}

impl TrunkAddressing for Addresses {
    const TRUNK: &'static str = "ip_connection";
    const TRUNKS: &'static str = "/v2/ip_connections";
    const PLACE: &'static str = "ip";
    const PLACES: &'static str = "/v2/ips";
    const PARAMETER: &'static str = "ip_address";
    const CHOICE: &'static str = "ip";
    const ADDRESS_LIST_FIELDS: ListFields = ListFields {
        filters: &[("connection_id", "/connection_id"), ("ip_address", "/ip_address"), ("port", "/port")],
        sorts: &[("created_at", "/created_at")],
    };

    fn trunks() -> Stored<CustomerTrunk> {
        TO_ADDRESSES
    }

    fn places() -> Stored<TrunkAddress> {
        ADDRESSES
    }

    fn place(kept: Parameters<'_>) -> Result<(String, Option<IpAddr>), ApiError> {
        let text = kept.required("ip_address")?;
        let address: IpAddr = text
            .parse()
            .map_err(|_| ApiError::bad_value("ip_address", "The 'ip_address' parameter must be an IP address."))?;
        let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        Ok((host, Some(address.to_canonical())))
    }
}

impl<F: TrunkAddressing> Kind for Trunk<F> {
    type Details = CustomerTrunk;

    const RECORD_TYPE: &'static str = F::TRUNK;
    const PATH: &'static str = F::TRUNKS;
    const LIST_FIELDS: ListFields = connection::LIST_FIELDS;

    async fn all(app: &App, account: &Account) -> Result<Vec<Arc<Resource<CustomerTrunk>>>, ApiError> {
        stored::all(app, F::trunks(), &account.name).await
    }

    fn settings(details: &mut CustomerTrunk) -> &mut Map<String, Value> {
        &mut details.other
    }

    fn apply(app: &App, row: &mut Resource<CustomerTrunk>, given: Parameters<'_>) -> Result<(), ApiError> {
        let kept = row.details.other.clone();
        let kept = Parameters(&kept);
        let limits = connection::limits(app, &row.account, kept)?;
        let inbound = kept.object("inbound")?;
        let mut first = Vec::new();
        for rank in ["primary", "secondary", "tertiary"] {
            let choice = inbound.text(&format!("default_{rank}_{}_id", F::CHOICE))?;
            first.extend(choice.and_then(|id| id.parse::<u128>().ok()));
        }
        let customer_trunk = &mut row.details;
        customer_trunk.login = login(app, &row.account, kept, given, customer_trunk.login.take())?;
        customer_trunk.in_turn = inbound.text("default_routing_method")? == Some("round-robin");
        customer_trunk.transport =
            kept.text("transport_protocol")?.filter(|word| *word != "UDP").map(str::to_ascii_lowercase);
        customer_trunk.secure = kept.text("encrypted_media")? == Some("SRTP");
        customer_trunk.inactive = kept.get("active") == Some(&Value::Bool(false));
        (customer_trunk.first, customer_trunk.limits) = (first, limits);
        row.name = kept.text("connection_name")?.unwrap_or_default().to_owned();
        Ok(())
    }

    async fn keep(app: &App, mut row: Resource<CustomerTrunk>) -> Result<Arc<Resource<CustomerTrunk>>, ApiError> {
        let kept = trunks::keep_connection(app.calls.services(), F::trunks(), &mut row).await;
        kept.map_err(|why| stored::not_kept(why, user_name_taken()))?;
        Ok(Arc::new(row))
    }

    async fn remove(app: &App, row: &Resource<CustomerTrunk>) -> Result<(), ApiError> {
        connections::delete(app.calls.services(), F::trunks(), row).await.map_err(connection_error)
    }

    fn more(_: &App, row: &Resource<CustomerTrunk>) -> Value {
        json!({ "active": !row.details.inactive })
    }
}

/// The credentials that the trunk uses for calls to this server. `None` if the settings have no user name. The
/// credentials change only if the request changes the user name or the password.
fn login(
    app: &App,
    account: &AccountName,
    kept: Parameters<'_>,
    given: Parameters<'_>,
    before: Option<Login>,
) -> Result<Option<Login>, ApiError> {
    let Some(username) = phones::user_name(kept)? else { return Ok(None) };
    let password = phones::password(kept)?.ok_or_else(|| ApiError::missing("password"))?;
    if given.get("password").is_none() && before.as_ref().is_some_and(|before| before.username == username) {
        return Ok(before);
    }
    let routing = app.calls.services().routing.load_full();
    trunks::login(&routing, account, username, password).map(Some).map_err(|UserNameTaken| user_name_taken())
}

fn user_name_taken() -> ApiError {
    ApiError::duplicate("user_name", "The user name is taken.")
}

impl<F: TrunkAddressing> Kind for AddressResource<F> {
    type Details = TrunkAddress;

    const RECORD_TYPE: &'static str = F::PLACE;
    const PATH: &'static str = F::PLACES;
    const LIST_FIELDS: ListFields = F::ADDRESS_LIST_FIELDS;

    async fn all(app: &App, account: &Account) -> Result<Vec<Arc<Resource<TrunkAddress>>>, ApiError> {
        stored::all(app, F::places(), &account.name).await
    }

    fn settings(details: &mut TrunkAddress) -> &mut Map<String, Value> {
        &mut details.other
    }

    fn apply(app: &App, row: &mut Resource<TrunkAddress>, _: Parameters<'_>) -> Result<(), ApiError> {
        let kept = Parameters(&row.details.other);
        let (host, source) = F::place(kept)?;
        let port = kept.integer("port", 1..=65_535)?.unwrap_or(5060);
        // A service record contains the port (RFC 3263 §4.2).
        let by_service = kept.text("dns_record_type")?.is_some_and(|kind| kind.eq_ignore_ascii_case("srv"));
        let uri = if by_service { format!("sip:{host}") } else { format!("sip:{host}:{port}") };
        // An IP address may have no connection. A host name needs a connection.
        row.parent = match kept.text("connection_id")?.filter(|id| !id.is_empty()) {
            None => None,
            Some(id) => {
                let connections = app.calls.services().routing.load_full().phones().connections();
                let connection = connections.get(&row.account, id).filter(|(_, connection)| connection.phone.is_none());
                Some(connection.ok_or_else(ApiError::no_connection_of_number)?.0)
            }
        };
        (row.details.uri, row.details.source) = (uri, source);
        Ok(())
    }

    async fn keep(app: &App, mut row: Resource<TrunkAddress>) -> Result<Arc<Resource<TrunkAddress>>, ApiError> {
        let kept = trunks::keep_address(app.calls.services(), F::places(), &mut row).await;
        kept.map_err(|why| match why {
            TargetError::Forbidden(uri, why) => {
                ApiError::bad_value(F::PARAMETER, format!("Calls may not go to {uri}: this address is {why}."))
            }
            TargetError::NotAdded(why) => {
                stored::not_kept(why, ApiError::duplicate("ip_address", "The address is in use."))
            }
        })?;
        Ok(Arc::new(row))
    }

    async fn remove(app: &App, row: &Resource<TrunkAddress>) -> Result<(), ApiError> {
        stored::remove(app, F::places(), row).await
    }
}
