//! Routing of calls. An inbound call goes to the owner of its number. An outbound call goes to a trunk or a URI.
#![forbid(unsafe_code)]

pub mod channels;
mod configured;
pub mod connections;
pub mod country;
pub mod customer_trunk;
mod internal;
pub mod inventory;
pub mod new_call;
pub mod number_pool;
pub mod phones;
pub mod trunk;

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tandem_accounts::Accounts;
use tandem_call::address::{Address, PhoneNumber};
use tandem_call::conversation::{AgentSpec, ConversationSpec, ConversationTarget};
use tandem_call::leg::LegOwner;
use tandem_call::program::instruction::{
    AfterBridge, Converse, Dial, DialRecord, DialTarget, Instruction, Program, RejectReason,
};
use tandem_call::recording::{RecordingChannels, RecordingFormat, RecordingSource, RecordingSpec};
use tandem_call::route::{Decision, Route};
use tandem_call::{Callback, Method, StatusEvent, Target};
use tandem_leg::signal::Caller;
use tandem_media as media;
use tandem_settings::{
    Application, ApplicationKind, Bridge, DtmfMode, EndpointConfig, NumberConfig, NumberPattern, RecordBridge,
    TrunkConfig,
};
use tandem_sip as sip;
use tandem_store::domains::DomainRow;
use tandem_store::resources::Resource;

use crate::channels::{Barred, Channel};
use crate::configured::{ConfiguredApplications, ConfiguredNumber, ConfiguredNumbers};
use crate::inventory::{
    Inventory, Limits, Number, OutboundProfile, RecordCalls, VerifiedCaller, Voice, VoiceApplication,
};
use crate::number_pool::NumberPool;
use crate::phones::Phones;
use crate::trunk::numbering::Numbering;

pub use self::internal::InternalDestination;
pub use tandem_call::program::instruction::is_trunk_id;

/// Maximum number of trunks that are tried for one call.
const MAX_ROUTES: usize = 8;
/// Minimum number of digits of a prefix that makes an account the owner of a block of numbers. A shorter prefix only
/// defines a route.
const MIN_BLOCK_DIGITS: usize = 7;
/// Maximum number of numbers in the file, and in the inventory, with which an unknown number is compared. The comparison
/// reads every digit, so a caller who dials random numbers must not start an unlimited search.
const MAX_COMPARED: usize = 10_000;
/// Maximum ringing time of a bridged number. Most callers hang up earlier.
const BRIDGE_TIMEOUT: Duration = Duration::from_secs(180);

/// The numbers, applications and trunks of the configuration, and the resources of accounts.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    numbers: Arc<ConfiguredNumbers>,
    applications: Arc<ConfiguredApplications>,
    trunks: Vec<Arc<TrunkConfig>>,
    phones: Arc<Phones>,
    inventory: Arc<Inventory>,
    pool: Arc<NumberPool>,
    strict_callers: bool,
    accounts: Arc<Accounts>,
}

/// The result of the check whether an account may use a calling number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallerIdCheck {
    /// The account may use the calling number: it is the account's own number, a verified caller ID, or not a telephone
    /// number.
    Own,
    /// The calling number does not belong to the account, and the configuration allows every number.
    Tolerated,
    /// The calling number does not belong to the account, and the call is refused.
    Refused,
}

/// The explanation for a refused call to an unknown number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownNumber {
    /// The reason why the call is refused.
    pub why: String,
    /// One sentence that says how to accept such calls.
    pub remedy: String,
}

/// The destination of an outbound leg.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Request-URI of the INVITE.
    pub request_uri: String,
    /// SIP URI of the next hop, if it differs from the Request-URI.
    pub next_hop: Option<String>,
    /// Host part of the From header, if the trunk sets it.
    pub from_host: Option<String>,
    /// Credentials of the trunk.
    pub credentials: Option<sip::Credentials>,
    /// The trunk. The field is also set if the call goes to a SIP URI that belongs to the trunk.
    pub trunk: Option<Arc<TrunkConfig>>,
    /// The user whose registered phones ring. If this field is set, the other fields are not used.
    pub aor: Option<sip::Aor>,
}

impl Outbound {
    /// Returns the host part of the URIs for this server's own numbers. This is the domain of the trunk. If the trunk
    /// has no domain, it is the host of the next hop.
    pub fn host(&self) -> String {
        let uri = self.next_hop.as_deref().unwrap_or(&self.request_uri);
        let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        self.from_host.clone().unwrap_or_else(|| rest.split([';', '?']).next().unwrap_or(rest).to_owned())
    }

    /// Returns the URI of the next hop if an account has chosen this URI: in a request, or as a trunk made by REST.
    /// Returns `None` for the URIs of configured trunks and for phones.
    pub fn chosen_uri(&self) -> Option<&str> {
        let of_operator = self.trunk.as_ref().is_some_and(|trunk| customer_trunk::id(&trunk.name).is_none());
        if self.aor.is_some() || of_operator && self.next_hop.is_some() {
            return None;
        }
        Some(self.next_hop.as_deref().unwrap_or(&self.request_uri))
    }

    /// Returns the IP address of the next hop, if its URI has an IP address and not a host name.
    pub fn address(&self) -> Option<IpAddr> {
        address_in(self.next_hop.as_deref().unwrap_or(&self.request_uri))
    }

    pub fn trunk_name(&self) -> Option<&str> {
        self.trunk.as_deref().map(|trunk| &*trunk.name)
    }
}

/// Returns the IP address in a SIP URI. Returns `None` if the URI has a host name.
pub fn address_in(uri: &str) -> Option<IpAddr> {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = rest.split([';', '?']).next().unwrap_or(rest);
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, _)) => host.parse().ok(),
        None => host.split(':').next().and_then(|host| host.parse().ok()),
    }
}

impl Routing {
    /// Creates the routing from the configuration. `inline` parses the document in the settings of a number.
    pub fn new(
        numbers: Vec<NumberConfig>,
        applications: Arc<Vec<Application>>,
        trunks: Vec<TrunkConfig>,
        inline: impl Fn(&NumberConfig) -> Option<Program>,
    ) -> Self {
        let numbers = numbers
            .into_iter()
            .map(|number| {
                let program = inline(&number);
                (number, program)
            })
            .collect();
        Self {
            numbers: Arc::new(ConfiguredNumbers::new(numbers)),
            applications: Arc::new(ConfiguredApplications::new(applications)),
            trunks: trunks.into_iter().map(Arc::new).collect(),
            ..Self::default()
        }
    }

    /// Sets the phones.
    pub fn with_phones(self, phones: Arc<Phones>) -> Self {
        Self { phones, ..self }
    }

    /// Sets the inventory of accounts, and the numbers that accounts may take.
    pub fn with_inventory(self, inventory: Arc<Inventory>, pool: NumberPool) -> Self {
        Self { inventory, pool: Arc::new(pool), ..self }
    }

    /// Sets whether a call must use a calling number that belongs to its account.
    pub fn with_strict_callers(self, strict: bool) -> Self {
        Self { strict_callers: strict, ..self }
    }

    /// Returns the inventory of accounts.
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inventory
    }

    /// Returns the numbers that accounts may take.
    pub fn pool(&self) -> &NumberPool {
        &self.pool
    }

    /// Returns an iterator over the numbers of the configuration.
    pub fn configured(&self) -> impl Iterator<Item = &NumberConfig> {
        self.numbers.iter()
    }

    /// Returns the entry of a complete number in the configuration.
    pub fn configured_number(&self, number: &str) -> Option<&NumberConfig> {
        self.numbers.exact(number)
    }

    /// Returns the numbers of an account in the configuration.
    pub fn configured_of(&self, account: &str) -> impl Iterator<Item = &NumberConfig> {
        self.numbers.of_account(account)
    }

    /// Sets the accounts. A subaccount uses the trunks of the account that created it.
    pub fn with_accounts(self, accounts: Arc<Accounts>) -> Self {
        Self { accounts, ..self }
    }

    /// Returns the phones of the accounts.
    pub fn phones(&self) -> &Arc<Phones> {
        &self.phones
    }

    /// Returns the applications of the configuration.
    pub fn applications(&self) -> &[Application] {
        self.applications.all()
    }

    /// Returns the application of the configuration with this id.
    pub fn configured_application(&self, id: &str) -> Option<&Application> {
        self.applications.get(id)
    }

    /// Whether the configuration has trunks. Without trunks, every client on this host may call.
    pub fn has_trunks(&self) -> bool {
        !self.trunks.is_empty()
    }

    /// Returns all trunks, in the order of the configuration.
    pub fn trunks(&self) -> &[Arc<TrunkConfig>] {
        &self.trunks
    }

    /// Returns the settings of the trunk with this name.
    pub fn trunk(&self, name: Option<&str>) -> Option<&Arc<TrunkConfig>> {
        self.trunks.iter().find(|trunk| Some(&*trunk.name) == name)
    }

    /// Returns the route of a call to `user` that arrived over `trunk`. Returns `None` if the number is unknown.
    pub fn inbound(&self, trunk: Option<&str>, user: &str) -> Option<Route> {
        let account = self.trunk(trunk).and_then(|trunk| trunk.account.as_deref());
        self.to_number(account, user)
    }

    /// Explains why a call to an unknown number is refused. The result names the most similar known number and one
    /// solution.
    pub fn unknown_number(&self, trunk: Option<&str>, user: &str) -> UnknownNumber {
        let given = self.configured().filter_map(|one| one.number.exact()).take(MAX_COMPARED).map(str::to_owned);
        let known = given.chain(self.inventory.numbers.some_keys(MAX_COMPARED));
        let near = known.filter_map(|own| Some((likeness(&own, user)?, own)));
        let near = near.max().map(|(_, own)| own);
        let why = match &near {
            Some(own) => format!("no account has this number, but {own} is known"),
            None => "no account has this number".to_owned(),
        };
        let lacks_plus = near.as_deref().filter(|own| own.strip_prefix('+') == Some(user));
        let remedy = match (lacks_plus, trunk) {
            (Some(own), Some(trunk)) => format!(
                "Trunk {trunk:?} sends {own} without \"+\": set inbound_add_prefix = \"+\" in its [[trunks]] entry."
            ),
            (Some(own), None) => format!("The caller has to dial {own}."),
            (None, _) => format!(
                "To take the call, add a [[numbers]] entry with these three keys: number = {user:?}, account = {:?}, \
                 voice_url = \"http://127.0.0.1:5000/voice\".",
                self.account_for(trunk, near.as_deref())
            ),
        };
        UnknownNumber { why, remedy }
    }

    /// Returns the most likely account for a new number. The first choice is the account of the trunk, the second
    /// choice is the account of the most similar number, and the last choice is the first account.
    fn account_for(&self, trunk: Option<&str>, near: Option<&str>) -> String {
        let of_trunk = self.trunk(trunk).and_then(|trunk| trunk.account.clone());
        let near = near.and_then(|near| self.configured_number(near));
        let of_near = near.map(|one| Arc::clone(&one.account));
        let first = || self.accounts.all().first().map(|account| Arc::clone(&account.name));
        of_trunk.or(of_near).or_else(first).map_or_else(|| "NAME".to_owned(), |name| name.to_string())
    }

    /// Returns the route of a call that arrived over `trunk`, as [`Self::inbound`] does. If calls from the trunk may go
    /// to phones, `request_uri` may also name a phone at an address of this server.
    pub fn inbound_or_phone(&self, trunk: Option<&str>, user: &str, request_uri: &str) -> Option<Route> {
        self.inbound(trunk, user).or_else(|| {
            let trunk = self.trunk(trunk).filter(|trunk| trunk.phones)?;
            let account = trunk.account.clone().or_else(|| self.phones.owner(request_uri))?;
            let to = Address::from(request_uri);
            self.phones.find(&account, &to).map(|_| straight(self.documents(&account), &account, to, None))
        })
    }

    /// Returns the route of a call to the number `user`. If `account` is given, only numbers of this account are
    /// considered.
    fn to_number(&self, account: Option<&str>, user: &str) -> Option<Route> {
        // A call for an account may also go to a number of its subaccounts.
        let theirs = |held: &Arc<Resource<Number>>, own: &str| {
            held.account == own || self.accounts.parent(&held.account).as_deref() == Some(own)
        };
        match self.number(user).filter(|held| account.is_none_or(|own| theirs(held, own))) {
            Some(held) => Some(self.to_inventory_number(&held, user)),
            None => self.to_configured(account, user),
        }
    }

    /// Returns the number from the inventory, unless the configuration file gives the number to another account.
    fn number(&self, number: &str) -> Option<Arc<Resource<Number>>> {
        self.inventory.numbers.find(number).filter(|held| !self.belongs_to_another(held))
    }

    /// Whether the configuration file gives the number to an account other than its owner in the inventory.
    pub fn belongs_to_another(&self, held: &Resource<Number>) -> bool {
        self.is_configured_for_another(&held.account, &held.name)
    }

    /// Whether the configuration file gives the number to another account. A number of the parent account counts as the
    /// account's own.
    fn is_configured_for_another(&self, account: &str, number: &str) -> bool {
        let parent = self.accounts.parent(account);
        let own = |one: &NumberConfig| &*one.account == account || Some(&one.account) == parent.as_ref();
        self.numbers.fitting(number).any(|(one, _)| !own(one) && names(&one.number, number))
    }

    /// Whether another account owns a number, or the file assigns the number to an account. In both cases, `account`
    /// cannot take the number. An account can take numbers from its own blocks.
    pub fn is_taken(&self, account: &str, number: &str) -> bool {
        let given = || self.configured_number(number).is_some();
        self.inventory.numbers.find(number).is_some() || given() || self.is_configured_for_another(account, number)
    }

    /// Returns the route of a call to a number from the inventory, with the recording setting of the number.
    fn to_inventory_number(&self, held: &Resource<Number>, user: &str) -> Route {
        let record = held.details.record.map(|RecordCalls { dual, mp3 }| {
            let channels = if dual { RecordingChannels::Dual } else { RecordingChannels::Mono };
            let format = if mp3 { RecordingFormat::Mp3 } else { RecordingFormat::Wav };
            RecordingSpec { format, ..RecordingSpec::new(RecordingSource::Request, channels) }
        });
        Route { record, ..self.route_of_number(held, user) }
    }

    /// Returns the route according to the number's own settings. If the number has no own settings, the settings in the
    /// file decide.
    fn route_of_number(&self, held: &Resource<Number>, user: &str) -> Route {
        let Number { dialect, voice, application, trunk, forwarded_to, .. } = &held.details;
        if let Some(number) = forwarded_to.as_deref().and_then(|number| number.parse().ok()) {
            return straight(dialect.as_str().into(), &held.account.as_str().into(), Address::Phone(number), None);
        }
        let owner = |application: Option<&str>| LegOwner {
            application: application.map(Arc::from),
            ..LegOwner::new(held.account.as_str(), dialect.as_str())
        };
        let route = |voice: &Voice, application: Option<&str>, decision| Route {
            owner: owner(application),
            status: voice.status(),
            record: None,
            decision,
        };
        let nobody = || Decision::Reject(RejectReason::Status(404));
        let document = |voice: &Voice| match voice.document() {
            Some(target) => Decision::Document { target, fallback: voice.fallback() },
            None => nobody(),
        };
        if let Some(id) = trunk.as_deref().and_then(customer_trunk::spelled) {
            let account = held.account.as_str().into();
            return self.to_customer_trunk(&account, id, user).unwrap_or_else(|| route(voice, None, nobody()));
        }
        if let Some(id) = application.as_deref() {
            if let Some((trunk, connection)) = self.phones.connections().get(&held.account, id) {
                let account: Arc<str> = held.account.as_str().into();
                let rings = |phone: &Arc<str>| {
                    straight(dialect.as_str().into(), &account, Address::Client(Arc::clone(phone)), None)
                };
                let leads = match &connection.phone {
                    _ if connection.inactive => None,
                    Some(phone) => Some(rings(phone)),
                    None => self.to_customer_trunk(&account, trunk, user),
                };
                return leads.unwrap_or_else(|| route(voice, None, nobody()));
            }
            if ApplicationKind::of(dialect) == ApplicationKind::Commands {
                let account = held.account.as_str().into();
                let commanding = self.commanding(&held.account, id);
                return commanding.map_or_else(
                    || route(voice, Some(id), nobody()),
                    |application| to_application(account, &application),
                );
            }
            return match self.application(&held.account, dialect, id) {
                Some(voice) => route(&voice, Some(id), document(&voice)),
                None => route(voice, Some(id), nobody()),
            };
        }
        if voice.url.is_some() {
            return route(voice, None, document(voice));
        }
        match self.to_configured(Some(&held.account), user) {
            Some(floor) => Route { status: voice.status().or(floor.status), ..floor },
            None => route(voice, None, nobody()),
        }
    }

    /// Returns the limits on concurrent calls for a connection or an application of an account.
    fn limits(&self, account: &str, connection: &str) -> Limits {
        if let Some((_, connection)) = self.phones.connections().get(account, connection) {
            return connection.limits;
        }
        let application = self.inventory.applications.find(connection).filter(|held| held.account == account);
        application.map(|held| held.details.limits).unwrap_or_default()
    }

    /// Returns the channels that a call to `user` takes, each with its limit. If the caller belongs to a connection and
    /// no application handles the call, the call takes the outbound channels of this connection. Otherwise the call
    /// takes the inbound channels of the connection or application that receives the call.
    pub fn channels(
        &self,
        caller: Option<&Caller>,
        route: &Route,
        user: &str,
    ) -> Result<Vec<(Channel, Option<u32>)>, Barred> {
        let account = &*route.owner.account;
        if let (Some(caller), Decision::Program(_)) = (caller, &route.decision) {
            let domain = caller.domain.as_deref().and_then(|domain| self.phones.domain(domain));
            let trunk = domain.filter(|domain| domain.details.trunk).map(|domain| domain.id);
            if let Some(id) = self.phones.connections().calling(account, caller.username.as_deref(), trunk) {
                return self.outbound_channels(account, Some(&id), &Address::from(user));
            }
        }
        let held = self.number(user).filter(|held| held.account == account);
        let of_number = held.and_then(|held| held.details.application.clone());
        let connection = route.owner.application.as_deref().map(str::to_owned).or(of_number);
        let channel = |id: String| {
            let limit = self.limits(account, &id).inbound;
            (Channel::Inbound(id), limit)
        };
        Ok(connection.map(channel).into_iter().collect())
    }

    /// Returns the channels that a call from a connection to `to` takes, each with its limit. Returns an error if the
    /// outbound profile forbids the call.
    pub fn outbound_channels(
        &self,
        account: &str,
        connection: Option<&str>,
        to: &Address,
    ) -> Result<Vec<(Channel, Option<u32>)>, Barred> {
        let Some(connection) = connection else { return Ok(Vec::new()) };
        let limits = self.limits(account, connection);
        let mut channels = vec![(Channel::Outbound(connection.to_owned()), limits.outbound)];
        let profile = limits.profile.and_then(|id| self.inventory.profiles.find(&format!("{id:032x}")));
        if let Some(profile) = profile.filter(|profile| profile.account == account) {
            let OutboundProfile { disabled, most_calls, destinations, .. } = &profile.details;
            if *disabled {
                return Err(Barred::Disabled);
            }
            if let Address::Phone(number) = to
                && number.is_e164()
                && !destinations.iter().any(|country| country == country::of(number.as_str()))
            {
                return Err(Barred::Destination(number.to_string()));
            }
            channels.push((Channel::Profile(profile.id), *most_calls));
        }
        Ok(channels)
    }

    /// Returns the application of the account with this id, if the application sends commands. The application is
    /// either in the configuration file, or is an active application that the account has created.
    pub fn commanding(&self, account: &str, id: &str) -> Option<Application> {
        if let Some(application) = self.configured_application(id).filter(|app| &*app.account == account) {
            return Some(application.clone()).filter(|app| app.works_by == ApplicationKind::Commands);
        }
        let held = self.inventory.applications.find(id).filter(|held| held.account == account)?;
        let VoiceApplication { dialect, voice, inactive, first_command_within, .. } = &held.details;
        let works_by = ApplicationKind::of(dialect);
        if *inactive || works_by != ApplicationKind::Commands {
            return None;
        }
        Some(Application {
            id: id.into(),
            account: account.into(),
            provider: dialect.as_str().into(),
            works_by,
            webhook_url: Arc::clone(voice.url.as_ref()?),
            webhook_failover_url: voice.fallback_url.clone(),
            webhook_method: Method::Post,
            webhook_timeout_secs: voice.timeout,
            first_command_within: first_command_within.map(|seconds| Duration::from_secs(seconds.into())),
            status_callback: None,
        })
    }

    /// Returns the URLs of an account's application with this dialect and id.
    pub fn application(&self, account: &str, dialect: &str, id: &str) -> Option<Voice> {
        let held = self.inventory.applications.find(id);
        let held = held.filter(|held| held.account == account && held.details.dialect == dialect);
        let held = held.map(|held| held.details.voice.clone());
        let own = |app: &&Application| &*app.account == account && &*app.provider == dialect;
        let file = || self.configured_application(id).filter(own).map(Voice::from);
        match held {
            // If the stored application has no URL, the settings in the file still apply.
            Some(Voice { url: None, .. }) => file().or(held),
            Some(_) => held,
            None => file(),
        }
    }

    /// Returns the route of an internal call to an application. The application belongs to the account, or is an
    /// application of another account that is open to all accounts.
    pub fn to_own_application(&self, account: &str, dialect: &str, id: &str) -> Option<Route> {
        let held = self.inventory.applications.find(id).filter(|held| held.details.open);
        let owner = held.as_ref().map_or(account, |held| &held.account);
        let voice = self.application(owner, dialect, id)?;
        Some(Route {
            owner: LegOwner { application: Some(id.into()), ..LegOwner::new(owner, dialect) },
            status: voice.status(),
            record: None,
            decision: Decision::Document { target: voice.document()?, fallback: voice.fallback() },
        })
    }

    /// Returns the id of an account's number. The number is in the inventory of the account, is in the file, or is a
    /// verified caller ID of the account. Returns `None` for any other number.
    pub fn number_id(&self, account: &str, address: &Address) -> Option<u128> {
        let Address::Phone(number) = address else { return None };
        let number = number.as_str();
        if let Some(held) = self.number(number).filter(|held| held.account == account) {
            return Some(held.id);
        }
        if self.configured_number(number).is_some_and(|one| &*one.account == account) {
            return Some(inventory::file_id(account, number));
        }
        self.inventory.callers.find(&VerifiedCaller::key(account, number)).map(|caller| caller.id)
    }

    /// Returns a number of the account whose calls go to this application or connection, if there is one.
    pub fn number_of_application(&self, account: &str, id: &str) -> Option<Arc<Resource<Number>>> {
        let numbers = self.inventory.numbers.all(account);
        numbers.into_iter().find(|number| number.details.application.as_deref() == Some(id))
    }

    /// Returns one of the account's numbers in international format, if the account has such a number.
    pub fn any_number(&self, account: &str) -> Option<Address> {
        let given = self.configured_of(account).filter_map(|one| one.number.exact());
        let given = given.filter_map(|number| number.parse().ok()).find(PhoneNumber::is_e164);
        let held = || self.inventory.numbers.all(account).into_iter().find_map(|held| held.name.parse().ok());
        given.or_else(held).map(Address::Phone)
    }

    /// Whether an account may use a calling number. If the configuration is not strict, every number is allowed.
    pub fn may_call_from(&self, account: &str, from: &Address) -> bool {
        self.caller(account, from) != CallerIdCheck::Refused
    }

    /// Returns the first of these header fields of an application that states who calls. If the configuration is strict,
    /// an application may not set such a field, because it would replace the checked calling number at many carriers.
    pub fn refused_header<'a>(&self, headers: &'a [(String, String)]) -> Option<&'a str> {
        let stated = headers
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| tandem_settings::header_pattern::states_caller(name));
        stated.filter(|_| self.strict_callers)
    }

    /// Applies the policy for calling numbers. The policy is the same for every dialect: a telephone number must belong
    /// to the account. The configuration decides whether another number is refused or tolerated.
    pub fn caller(&self, account: &str, from: &Address) -> CallerIdCheck {
        match from {
            Address::Phone(number) if !self.owns(account, number.as_str()) => {
                if self.strict_callers {
                    CallerIdCheck::Refused
                } else {
                    CallerIdCheck::Tolerated
                }
            }
            _ => CallerIdCheck::Own,
        }
    }

    /// Returns the number in the file that matches `user` best. If `account` is given, only numbers of this account are
    /// considered.
    fn best_fit(&self, account: Option<&str>, user: &str) -> Option<(&NumberConfig, Option<&Program>)> {
        let mine = |(number, _): &&ConfiguredNumber| account.is_none_or(|own| own == &*number.account);
        self.numbers.fitting(user).find(mine).map(|(number, program)| (number, program.as_ref()))
    }

    fn to_configured(&self, account: Option<&str>, user: &str) -> Option<Route> {
        let (number, program) = self.best_fit(account, user)?;
        let application = number.application.as_ref().and_then(|id| self.configured_application(id));
        Some(match application {
            Some(application) => to_application(Arc::clone(&number.account), application),
            None => Route {
                owner: LegOwner::new(
                    Arc::clone(&number.account),
                    number.provider.clone().unwrap_or_else(|| self.documents(&number.account)),
                ),
                status: number.status_callback.as_ref().map(|url| Callback {
                    target: Target { url: Arc::clone(url), method: number.status_callback_method },
                    failover: None,
                    events: vec![StatusEvent::Completed],
                    elsewhere: Vec::new(),
                    timeout: None,
                }),
                record: None,
                decision: self.decision(number, program, user),
            },
        })
    }

    /// Returns the route of a call from a phone. The called domain decides first. The application of the phone decides
    /// next. Then the account's phones, numbers and trunks decide, in this order. The error is the SIP status for the
    /// phone.
    pub fn from_phone(&self, caller: &Caller, request_uri: &str, user: &str) -> Result<Route, u16> {
        let account = &caller.account;
        let domain = caller.domain.as_ref().and_then(|domain| self.phones.domain(domain));
        if let Some(domain) = domain.as_ref().filter(|domain| domain.details.trunk) {
            return self.route_from_customer_trunk(account, domain.id, user);
        }
        if let Some(route) = domain.and_then(|domain| self.to_domain(&domain)) {
            return Ok(route);
        }
        let endpoint = caller.username.as_deref().and_then(|username| self.phones.endpoint(account, username));
        if let Some(route) = endpoint.as_deref().and_then(|endpoint| self.to_its_application(endpoint)) {
            return Ok(route);
        }
        let uri = Address::from(request_uri);
        let named = match user.parse() {
            Ok(number) => Address::Phone(number),
            Err(_) => Address::Client(user.into()),
        };
        for to in [&uri, &named] {
            if self.phones.find(account, to).is_some() {
                return Ok(straight(self.documents(account), account, to.clone(), None));
            }
        }
        if let Some(route) = self.to_number(Some(account), user) {
            return Ok(route);
        }
        let Address::Phone(_) = &named else { return Err(404) };
        if self.own(account, &self.documents(account), &named, &[]).is_none()
            && self.outbound(account, &named, &[], |_| sip::Health::Up, &mut rand::rng()).is_empty()
        {
            return Err(404);
        }
        match endpoint.filter(|endpoint| endpoint.outbound) {
            Some(endpoint) => {
                Ok(straight(self.documents(account), account, named, endpoint.caller_id.clone().map(Address::Phone)))
            }
            None => Err(403),
        }
    }

    /// Returns the route of a call to a SIP domain. Returns `None` if the domain has no document.
    fn to_domain(&self, domain: &DomainRow) -> Option<Route> {
        let details = &domain.details;
        let target = |(url, method): &(String, String)| Target {
            url: url.as_str().into(),
            method: Method::parse(method).unwrap_or_default(),
        };
        let decision = Decision::Document {
            target: target(details.voice.as_ref()?),
            fallback: details.fallback.as_ref().map(target),
        };
        Some(Route {
            owner: LegOwner::new(domain.account.as_str(), self.documents(&domain.account)),
            status: details.status_callback.as_ref().map(|status| completed(target(status))),
            record: None,
            decision,
        })
    }

    /// Returns the route of a call from the PBX of a customer trunk to a number. The call goes over the server's trunks
    /// without an application. If no trunk accepts the number, the call may go to a number of the account.
    fn route_from_customer_trunk(&self, account: &Arc<str>, trunk: u128, user: &str) -> Result<Route, u16> {
        let customer_trunks = self.phones.customer_trunks();
        let customer_trunk = customer_trunks.get(account, trunk).ok_or(404u16)?;
        let to = Address::Phone(user.parse().map_err(|_| 404u16)?);
        if self.outbound(account, &to, &[], |_| sip::Health::Up, &mut rand::rng()).is_empty() {
            return self.to_number(Some(account), user).ok_or(404);
        }
        Ok(programmed(self.documents(account), account, customer_trunk::terminate(customer_trunk, to)))
    }

    /// Returns the route of a call to a number of a customer trunk. The call goes to the PBX without an application.
    /// Returns `None` if the account has no such trunk.
    pub fn to_customer_trunk(&self, account: &Arc<str>, trunk: u128, user: &str) -> Option<Route> {
        let customer_trunks = self.phones.customer_trunks();
        let customer_trunk = customer_trunks.get(account, trunk)?;
        Some(programmed(self.documents(account), account, customer_trunk::originate(customer_trunk, trunk, user)))
    }

    fn to_its_application(&self, endpoint: &EndpointConfig) -> Option<Route> {
        let account = Arc::clone(&endpoint.account);
        let dialect = endpoint.provider.clone().unwrap_or_else(|| self.documents(&endpoint.account));
        if let Some(id) = &endpoint.application {
            if let Some(application) = self.configured_application(id).filter(|app| app.account == endpoint.account) {
                return Some(to_application(account, application));
            }
            let voice = self.application(&account, &dialect, id)?;
            let decision = Decision::Document { target: voice.document()?, fallback: voice.fallback() };
            return Some(Route {
                owner: LegOwner { application: Some(Arc::clone(id)), ..LegOwner::new(account, dialect) },
                status: voice.status(),
                record: None,
                decision,
            });
        }
        let url = endpoint.voice_url.as_ref()?;
        Some(Route {
            owner: LegOwner::new(account, dialect),
            status: None,
            record: None,
            decision: Decision::Document {
                target: Target { url: Arc::clone(url), method: endpoint.voice_method },
                fallback: None,
            },
        })
    }

    fn decision(&self, number: &NumberConfig, program: Option<&Program>, user: &str) -> Decision {
        if let Some(url) = &number.voice_url {
            let target = Target { url: Arc::clone(url), method: number.voice_method };
            let fallback =
                number.fallback_url.as_ref().map(|url| Target { url: Arc::clone(url), method: number.fallback_method });
            return Decision::Document { target, fallback };
        }
        if let Some(program) = program {
            return Decision::Program(program.clone());
        }
        if let Some(name) = &number.agent {
            let agent = AgentSpec { name: Arc::clone(name), ..AgentSpec::default() };
            return Decision::Program(agent_program(agent));
        }
        match &number.bridge {
            Some(bridge) => match self.bridge_target(bridge, user) {
                Some(target) => Decision::Program(bridge_program(target, number.record)),
                None => Decision::Reject(RejectReason::Status(503)),
            },
            None => Decision::Reject(RejectReason::Status(404)),
        }
    }

    fn bridge_target(&self, bridge: &Bridge, user: &str) -> Option<DialTarget> {
        match bridge {
            Bridge::Trunks(names) => {
                let first = names.iter().find_map(|name| self.trunk(Some(name))?.uri.as_deref())?;
                let to = match user.parse() {
                    Ok(number) => Address::Phone(number),
                    Err(_) => Address::Sip(with_user(first, user).into()),
                };
                Some(DialTarget { via: names.clone(), ..DialTarget::new(to) })
            }
            Bridge::Prefixes => Some(DialTarget::new(Address::Phone(user.parse().ok()?))),
            Bridge::Uri(_) => Some(DialTarget::new(Address::Sip(bridge.uri(user)?.into()))),
        }
    }

    /// Whether a calling number belongs to an account. This is true if the number is in the account's inventory or is a
    /// verified caller ID of the account. It is also true if the file gives the account this number. A prefix with
    /// seven or more digits in the file gives the account all numbers with this prefix.
    pub fn owns(&self, account: &str, number: &str) -> bool {
        let held = self.number(number).is_some_and(|held| held.account == account);
        if held || self.inventory.callers.find(&VerifiedCaller::key(account, number)).is_some() {
            return true;
        }
        self.numbers.fitting(number).any(|(one, _)| &*one.account == account && names(&one.number, number))
    }

    /// Returns the default dialect for the documents of an account.
    fn documents(&self, account: &str) -> Arc<str> {
        self.accounts.documents(account).into()
    }

    fn may_use(&self, account: &str, trunk: &TrunkConfig) -> bool {
        let own = trunk.account.as_deref();
        own.is_none_or(|own| own == account || Some(own) == self.accounts.parent(account).as_deref())
    }

    /// Returns the accounts whose trunks an account may use: the account itself and the account that created it.
    pub fn trunk_owners(&self, account: &str) -> Vec<Arc<str>> {
        std::iter::once(account.into()).chain(self.accounts.parent(account)).collect()
    }

    /// Returns the trunk whose `byoc` setting is this id.
    fn byoc(&self, id: &str) -> Option<&Arc<TrunkConfig>> {
        self.trunks.iter().find(|trunk| trunk.byoc.as_deref() == Some(id))
    }

    /// Whether the account may use a trunk with this `byoc` setting.
    pub fn has_trunk_id(&self, account: &str, id: &str) -> bool {
        self.byoc(id).is_some_and(|trunk| self.may_use(account, trunk))
    }

    /// Whether a trunk that the account may use accepts the number.
    fn has_way_out(&self, account: &str, number: &str) -> bool {
        let accepts = |trunk: &TrunkConfig| trunk.prefixes.iter().any(|prefix| number.starts_with(&**prefix));
        self.trunks.iter().any(|trunk| self.may_use(account, trunk) && accepts(trunk))
    }

    /// Returns the routes to `user` over the named trunks. Trunks that are up come first. Otherwise the given order is
    /// used.
    fn over(&self, via: &[Arc<str>], user: &str, health: impl Fn(&str) -> sip::Health) -> Vec<Outbound> {
        let mut trunks: Vec<_> = via.iter().filter_map(|name| self.trunk(Some(name))).collect();
        trunks.sort_by_key(|trunk| trouble(health(&trunk.name)));
        trunks.into_iter().filter_map(|trunk| over_trunk(trunk, user)).take(MAX_ROUTES).collect()
    }

    /// Returns the codecs for calls over a trunk. Returns an empty list if the trunk has no setting for codecs.
    pub fn codecs(&self, trunk: Option<&str>) -> Vec<media::Codec> {
        let names = self.trunk(trunk).map(|trunk| &*trunk.codecs);
        media::CodecName::codecs(names.unwrap_or_default())
    }

    /// Returns the encryption setting for a leg's media, from its trunk or its phone. Without a trunk and a phone, the
    /// media is not encrypted.
    pub fn srtp(&self, trunk: Option<&str>, phone: Option<&sip::Aor>) -> media::Srtp {
        match (self.trunk(trunk), phone) {
            (Some(trunk), _) => trunk.srtp,
            (None, _) if trunk.is_some_and(|name| self.phones.customer_trunks().is_secure(name)) => {
                media::Srtp::Required
            }
            (None, Some(phone)) => self.phones.srtp(phone),
            (None, None) => media::Srtp::Off,
        }
    }

    /// Returns the hosts from which RTP is accepted in calls over a trunk. For a call without a trunk, returns the
    /// default.
    pub fn media_source(&self, trunk: Option<&str>) -> media::MediaSource {
        self.trunk(trunk).map(|trunk| trunk.media_source).unwrap_or_default()
    }

    /// Returns the DTMF mode for calls over a trunk. For a call without a trunk, returns the default.
    pub fn dtmf(&self, trunk: Option<&str>) -> DtmfMode {
        self.trunk(trunk).map(|trunk| trunk.dtmf).unwrap_or_default()
    }

    /// Whether calls over a trunk follow 3xx responses. A call without a trunk follows 3xx responses.
    pub fn redirects(&self, trunk: Option<&str>) -> bool {
        self.trunk(trunk).is_none_or(|trunk| trunk.redirects)
    }

    /// Returns the trunk's setting for reliable provisional responses (PRACK), if the trunk has this setting.
    pub fn prack(&self, trunk: Option<&str>) -> Option<sip::Prack> {
        self.trunk(trunk).and_then(|trunk| trunk.prack)
    }

    /// Returns the routes for a leg of `account` to `to`, best route first. Returns at most 8 routes. If a route fails,
    /// the call continues over the next route. The list is empty if there is no route.
    ///
    /// `via` names the trunks to use. The names of configured trunks come only from the configuration; an application
    /// selects a trunk by its `byoc` id. If `via` is empty, a call to a number goes over the trunks that accept the
    /// number. Trunks that are up come first, then trunks with the longest matching prefix, then trunks with the lowest
    /// priority value. The order of otherwise equal trunks is random and depends on their weights.
    pub fn outbound(
        &self,
        account: &str,
        to: &Address,
        via: &[Arc<str>],
        health: impl Fn(&str) -> sip::Health,
        rng: &mut impl Rng,
    ) -> Vec<Outbound> {
        if let Some(customer_trunk) = via.first().and_then(|name| customer_trunk::id(name)) {
            return self.phones.customer_trunks().originate(account, customer_trunk, &to.user(), rng);
        }
        if let Some(id) = via.first().filter(|id| is_trunk_id(id)) {
            let usable = self.byoc(id).filter(|trunk| self.may_use(account, trunk));
            return usable.and_then(|trunk| over_trunk(trunk, &to.user())).into_iter().collect();
        }
        if !via.is_empty() {
            return self.over(via, &to.user(), health);
        }
        if let Some(aor) = self.phones.find(account, to) {
            let request_uri = self.phones.target(&aor, to);
            let (next_hop, from_host, credentials, trunk) = (None, None, None, None);
            return vec![Outbound { request_uri, next_hop, from_host, credentials, trunk, aor: Some(aor) }];
        }
        match to {
            Address::Phone(number) => {
                let number = number.as_str();
                let mut routes: Vec<_> = self
                    .trunks
                    .iter()
                    .filter(|trunk| self.may_use(account, trunk))
                    .filter_map(|trunk| {
                        let fits = trunk.prefixes.iter().filter(|prefix| number.starts_with(&***prefix));
                        let fit = fits.map(|prefix| prefix.len()).max()?;
                        let rank = (trouble(health(&trunk.name)), Reverse(fit), trunk.priority);
                        Some((rank, weighted_sort_key(trunk.weight, rng), over_trunk(trunk, number)?))
                    })
                    .collect();
                routes.sort_by(|(a, lot_a, _), (b, lot_b, _)| a.cmp(b).then(lot_a.total_cmp(lot_b)));
                routes.into_iter().take(MAX_ROUTES).map(|(_, _, route)| route).collect()
            }
            Address::Sip(uri) => {
                // The headers after `?` are not part of the Request-URI (RFC 3261 §19.1.5).
                let request_uri = uri.split('?').next().unwrap_or(uri).to_owned();
                let user = to.user();
                let called = with_user(&request_uri, &user);
                let trunk = self
                    .trunks
                    .iter()
                    .filter(|trunk| self.may_use(account, trunk))
                    .find(|trunk| trunk.uri.as_deref().is_some_and(|uri| with_user(uri, &user) == called));
                let from_host =
                    trunk.and_then(|trunk| trunk.from_domain.as_ref()).map(std::string::ToString::to_string);
                let trunk = trunk.cloned();
                vec![Outbound { request_uri, next_hop: None, from_host, credentials: None, trunk, aor: None }]
            }
            // A call to an application is an internal call.
            Address::Client(_) | Address::Application(_) | Address::Name(_) => Vec::new(),
        }
    }
}

/// Whether a pattern in the file makes its account the owner of a number. The pattern is the number itself, or a prefix
/// with seven or more digits.
fn names(pattern: &NumberPattern, number: &str) -> bool {
    pattern.prefix().is_none_or(|digits| digits.len() >= MIN_BLOCK_DIGITS) && pattern.fits(number).is_some()
}

/// Returns how similar a called number is to a known number. Returns `None` if the numbers are not similar. Two numbers
/// are similar if at least their last six digits are equal. Such numbers differ only at the start, for example in `+`,
/// `00` or a prefix of the trunk. Two numbers of the same length are also similar if at most two digits differ (one
/// digit in numbers of fewer than seven digits).
fn likeness(own: &str, called: &str) -> Option<usize> {
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).collect::<Vec<u8>>();
    let (own, called) = (digits(own), digits(called));
    let common = own.iter().rev().zip(called.iter().rev()).take_while(|(one, other)| one == other).count();
    let wrong = own.iter().zip(&called).filter(|(one, other)| one != other).count();
    let typed_wrong = own.len() == called.len() && own.len() >= 3 && wrong <= if own.len() < 7 { 1 } else { 2 };
    match common {
        6.. => Some(1_000 + common),
        _ if typed_wrong => Some(own.len() - wrong),
        _ => None,
    }
}

/// Returns the route to a number over a trunk. Returns `None` if the trunk has only inbound calls.
fn over_trunk(trunk: &Arc<TrunkConfig>, number: &str) -> Option<Outbound> {
    let uri = trunk.uri.as_deref()?;
    Some(Outbound {
        request_uri: with_user(uri, &Numbering::of(trunk).called_out(number)),
        next_hop: Some(uri.to_owned()),
        from_host: trunk.from_domain.as_ref().map(std::string::ToString::to_string),
        credentials: trunk_credentials(trunk),
        trunk: Some(Arc::clone(trunk)),
        aor: None,
    })
}

fn trouble(health: sip::Health) -> u8 {
    match health {
        sip::Health::Up | sip::Health::Unknown => 0,
        sip::Health::Doubtful => 1,
        sip::Health::Down => 2,
    }
}

/// Returns a random sort key. The element with the lowest key comes first. The probability that an element comes first
/// is proportional to its weight (Efraimidis and Spirakis 2006).
pub fn weighted_sort_key(weight: u16, rng: &mut impl Rng) -> f64 {
    let chance = (f64::from(rng.next_u32()) + 1.0) / (f64::from(u32::MAX) + 1.0);
    -chance.ln() / f64::from(weight.max(1))
}

fn to_application(account: Arc<str>, application: &Application) -> Route {
    let method = application.webhook_method;
    let target = Target { url: Arc::clone(&application.webhook_url), method };
    let failover = application.webhook_failover_url.as_ref().map(|url| Target { url: Arc::clone(url), method });
    let (status, decision) = match application.works_by {
        ApplicationKind::Commands => {
            let events = ALL_EVENTS.to_vec();
            let timeout = application.webhook_timeout();
            let decision = application.first_command_within.map_or(Decision::Commands, Decision::CommandsWithTimeout);
            (Some(Callback { target, failover, events, elsewhere: Vec::new(), timeout }), decision)
        }
        ApplicationKind::Documents => {
            let url = application.status_callback.as_ref();
            let status = url.map(|url| completed(Target { url: Arc::clone(url), method: Method::Post }));
            (status, Decision::Document { target, fallback: failover })
        }
    };
    let dialect = Arc::clone(&application.provider);
    let owner = LegOwner { application: Some(Arc::clone(&application.id)), ..LegOwner::new(account, dialect) };
    Route { owner, status, record: None, decision }
}

fn completed(target: Target) -> Callback {
    Callback { target, failover: None, events: vec![StatusEvent::Completed], elsewhere: Vec::new(), timeout: None }
}

/// Returns the route from a phone to the called party, without an application.
fn straight(dialect: Arc<str>, account: &Arc<str>, to: Address, caller_id: Option<Address>) -> Route {
    let mut program = bridge_program(DialTarget::new(to), RecordBridge::Off);
    for instruction in &mut program.instructions {
        if let Instruction::Dial(dial) = instruction {
            dial.caller_id.clone_from(&caller_id);
        }
    }
    programmed(dialect, account, program)
}

/// Returns the route of a call that runs a program without a request to an application.
fn programmed(dialect: Arc<str>, account: &Arc<str>, program: Program) -> Route {
    let owner = LegOwner::new(Arc::clone(account), dialect);
    Route { owner, status: None, record: None, decision: Decision::Program(program) }
}

/// The status events that an application with commands receives.
pub const ALL_EVENTS: [StatusEvent; 6] = [
    StatusEvent::Initiated,
    StatusEvent::Ringing,
    StatusEvent::Answered,
    StatusEvent::Completed,
    StatusEvent::InProgress,
    StatusEvent::Absent,
];

/// Builds the program of a conversation with an agent.
pub fn agent_program(agent: AgentSpec) -> Program {
    let spec = Box::new(ConversationSpec::new(ConversationTarget::Agent(Box::new(agent))));
    Program { instructions: vec![Instruction::Converse(Converse { spec, action: None })], warnings: Vec::new() }
}

/// Builds the program of a direct bridge. The progress, the answer and the refusal of the called party reach the caller
/// unchanged.
pub fn bridge_program(target: DialTarget, record: RecordBridge) -> Program {
    let record = match record {
        RecordBridge::Off => None,
        RecordBridge::Mono => Some(RecordingChannels::Mono),
        RecordBridge::Dual => Some(RecordingChannels::Dual),
    };
    let dial = Dial {
        targets: vec![target],
        queue: None,
        sequential: false,
        timeout: BRIDGE_TIMEOUT,
        time_limit: None,
        caller_id: None,
        caller_name: None,
        answer_on_bridge: true,
        ring_tone: None,
        hangup_on_star: false,
        record: record.map(|channels| DialRecord {
            from_ringing: false,
            spec: RecordingSpec::new(RecordingSource::Trunk, channels),
        }),
        action: None,
        after: AfterBridge::Hangup,
        pass_failure: true,
        refer: None,
    };
    Program { instructions: vec![Instruction::Dial(dial)], warnings: Vec::new() }
}

fn trunk_credentials(trunk: &TrunkConfig) -> Option<sip::Credentials> {
    let (username, password) = (trunk.username.as_ref()?, trunk.password.as_ref()?);
    Some(sip::Credentials { username: username.to_string(), password: password.expose().to_owned() })
}

/// Replaces or adds the user part in a URI of the form `sip:host:port;params`. `user` has no percent escapes; the URI
/// gets the escapes that the grammar requires (RFC 3261 §25.1).
pub fn with_user(uri: &str, user: &str) -> String {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("sip", uri));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}:{}@{host}", sip::escape_user(user))
}

#[cfg(test)]
mod tests;
