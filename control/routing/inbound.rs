//! Inbound calls: the route of a call that arrives over a trunk, from a phone or from a customer trunk.

use std::sync::Arc;

use tandem_call::address::Address;
use tandem_call::conversation::AgentSpec;
use tandem_call::leg::LegOwner;
use tandem_call::program::instruction::{DialTarget, Instruction, Program, RejectReason};
use tandem_call::recording::{RecordingChannels, RecordingFormat, RecordingSource, RecordingSpec};
use tandem_call::route::{Decision, Route};
use tandem_call::{Callback, Method, Target};
use tandem_id::AccountName;
use tandem_leg::signal::{Caller, Identity};
use tandem_settings::{Application, ApplicationKind, Bridge, EndpointConfig, NumberConfig, RecordBridge};
use tandem_sip as sip;
use tandem_store::domains::DomainRow;
use tandem_store::resources::Resource;

use crate::configured::ConfiguredNumber;
use crate::customer_trunk;
use crate::inventory::{Number, RecordCalls, Voice, completed, target};
use crate::{ALL_EVENTS, Routing, agent_program, bridge_program, with_user};

impl Routing {
    /// Returns the route of a call to `user` that arrived over `trunk`. Returns `None` if the number is unknown.
    pub fn inbound(&self, trunk: Option<&str>, user: &str) -> Option<Route> {
        let account = self.trunk(trunk).and_then(|trunk| trunk.account.as_ref());
        self.to_number(account, user)
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
    pub(crate) fn to_number(&self, account: Option<&AccountName>, user: &str) -> Option<Route> {
        // A call for an account may also go to a number of its subaccounts.
        let theirs = |held: &Arc<Resource<Number>>, own: &AccountName| {
            held.account == *own || self.accounts.parent(&held.account).as_ref() == Some(own)
        };
        match self.number(user).filter(|held| account.is_none_or(|own| theirs(held, own))) {
            Some(held) => Some(self.to_inventory_number(&held, user)),
            None => self.to_configured(account, user),
        }
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
            return straight(dialect.as_str().into(), &held.account, Address::Phone(number), None);
        }
        let owner = |application: Option<&str>| LegOwner {
            application: application.map(Arc::from),
            ..LegOwner::new(held.account.clone(), dialect.as_str())
        };
        let route = |voice: &Voice, application: Option<&str>, decision| Route {
            owner: owner(application),
            status: voice.status(),
            record: None,
            decision,
        };
        let nobody = || Decision::Reject(RejectReason::Status(404));
        let document = |voice: &Voice| voice.decision().unwrap_or_else(nobody);
        if let Some(id) = trunk.as_deref().and_then(customer_trunk::spelled) {
            let account = held.account.clone();
            return self.to_customer_trunk(&account, id, user).unwrap_or_else(|| route(voice, None, nobody()));
        }
        if let Some(id) = application.as_deref() {
            if let Some((trunk, connection)) = self.phones.connections().get(&held.account, id) {
                let account = held.account.clone();
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
                let account = held.account.clone();
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

    /// Returns the number in the file that matches `user` best. If `account` is given, only numbers of this account are
    /// considered.
    pub(crate) fn best_fit(
        &self,
        account: Option<&AccountName>,
        user: &str,
    ) -> Option<(&NumberConfig, Option<&Program>)> {
        let mine = |(number, _): &&ConfiguredNumber| account.is_none_or(|own| *own == number.account);
        self.numbers.fitting(user).find(mine).map(|(number, program)| (number, program.as_ref()))
    }

    fn to_configured(&self, account: Option<&AccountName>, user: &str) -> Option<Route> {
        let (number, program) = self.best_fit(account, user)?;
        let application = number.application.as_ref().and_then(|id| self.configured_application(id));
        Some(match application {
            Some(application) => to_application(number.account.clone(), application),
            None => Route {
                owner: LegOwner::new(
                    number.account.clone(),
                    number.provider.clone().unwrap_or_else(|| self.documents(&number.account)),
                ),
                status: target(number.status_callback.as_ref(), number.status_callback_method).map(completed),
                record: None,
                decision: self.decision(number, program, user),
            },
        })
    }

    /// Returns the route of a call from a client of an account. The error is the SIP status for the client.
    pub fn from_client(&self, caller: &Caller, request_uri: &str, user: &str) -> Result<Route, u16> {
        match &caller.identity {
            Identity::Sip { .. } => self.route_from_phone(caller, request_uri, user),
            Identity::Token { application, .. } => {
                let id = application.as_ref().ok_or(403u16)?;
                self.to_application_of(&caller.account, &self.documents(&caller.account), id).ok_or(404)
            }
            Identity::Subscriber { .. } => self.route_from_subscriber(&caller.account, request_uri, user),
        }
    }

    /// Returns the route of a call from a subscriber: to a number of the account, to another client, or over a trunk. The
    /// error is the SIP status.
    fn route_from_subscriber(&self, account: &AccountName, request_uri: &str, user: &str) -> Result<Route, u16> {
        if let Some(route) = self.to_number(Some(account), user) {
            return Ok(route);
        }
        let to = Address::from(request_uri);
        let is_reachable = match &to {
            // Whether the client is connected is known only to the call.
            Address::Client(_) => true,
            Address::Phone(_) => !self.outbound(account, &to, &[], |_| sip::Health::Up, &mut rand::rng()).is_empty(),
            Address::Sip(_) | Address::Application(_) | Address::Name(_) => false,
        };
        if is_reachable { Ok(straight(self.documents(account), account, to, None)) } else { Err(404) }
    }

    /// Returns the route of a call from a phone. The called domain decides first. The application of the phone decides
    /// next. Then the account's phones, numbers and trunks decide, in this order. The error is the SIP status for the
    /// phone.
    fn route_from_phone(&self, caller: &Caller, request_uri: &str, user: &str) -> Result<Route, u16> {
        let account = &caller.account;
        let domain = caller.domain().and_then(|domain| self.phones.domain(domain));
        if let Some(domain) = domain.as_ref().filter(|domain| domain.details.trunk) {
            return self.route_from_customer_trunk(account, domain.id, user);
        }
        if let Some(route) = domain.and_then(|domain| self.to_domain(&domain)) {
            return Ok(route);
        }
        let endpoint = caller.name().and_then(|username| self.phones.endpoint(account, username));
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
    pub(crate) fn to_domain(&self, domain: &DomainRow) -> Option<Route> {
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
            owner: LegOwner::new(domain.account.clone(), self.documents(&domain.account)),
            status: details.status_callback.as_ref().map(|status| completed(target(status))),
            record: None,
            decision,
        })
    }

    /// Returns the route of a call from the PBX of a customer trunk to a number. The call goes over the server's trunks
    /// without an application. If no trunk accepts the number, the call may go to a number of the account.
    fn route_from_customer_trunk(&self, account: &AccountName, trunk: u128, user: &str) -> Result<Route, u16> {
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
    pub fn to_customer_trunk(&self, account: &AccountName, trunk: u128, user: &str) -> Option<Route> {
        let customer_trunks = self.phones.customer_trunks();
        let customer_trunk = customer_trunks.get(account, trunk)?;
        Some(programmed(self.documents(account), account, customer_trunk::originate(customer_trunk, trunk, user)))
    }

    fn to_its_application(&self, endpoint: &EndpointConfig) -> Option<Route> {
        let account = endpoint.account.clone();
        let dialect = endpoint.provider.clone().unwrap_or_else(|| self.documents(&endpoint.account));
        if let Some(id) = &endpoint.application {
            return self.to_application_of(&account, &dialect, id);
        }
        let target = target(endpoint.voice_url.as_ref(), endpoint.voice_method)?;
        Some(Route {
            owner: LegOwner::new(account, dialect),
            status: None,
            record: None,
            decision: Decision::Document { target, fallback: None },
        })
    }

    /// Returns the route to the account's application with this id, whatever its provider. `None` if there is none.
    pub fn to_application(&self, account: &AccountName, id: &str) -> Option<Route> {
        if let Some(application) = self.commanding(account, id) {
            return Some(to_application(account.clone(), &application));
        }
        let held = self.inventory.applications.find(id).map(|held| held.details.dialect.clone());
        self.to_application_of(account, held.as_deref().unwrap_or(&self.documents(account)), id)
    }

    /// Returns the route to the account's application with this id.
    fn to_application_of(&self, account: &AccountName, dialect: &str, id: &str) -> Option<Route> {
        match self.configured_application(id).filter(|app| app.account == *account) {
            Some(application) => Some(to_application(account.clone(), application)),
            None => self.to_document_of(account, dialect, id),
        }
    }

    fn decision(&self, number: &NumberConfig, program: Option<&Program>, user: &str) -> Decision {
        if let Some(document) = target(number.voice_url.as_ref(), number.voice_method) {
            let fallback = target(number.fallback_url.as_ref(), number.fallback_method);
            return Decision::Document { target: document, fallback };
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
}

fn to_application(account: AccountName, application: &Application) -> Route {
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

/// Returns the route from a phone to the called party, without an application.
fn straight(dialect: Arc<str>, account: &AccountName, to: Address, caller_id: Option<Address>) -> Route {
    let mut program = bridge_program(DialTarget::new(to), RecordBridge::Off);
    for instruction in &mut program.instructions {
        if let Instruction::Dial(dial) = instruction {
            dial.caller_id.clone_from(&caller_id);
        }
    }
    programmed(dialect, account, program)
}

/// Returns the route of a call that runs a program without a request to an application.
fn programmed(dialect: Arc<str>, account: &AccountName, program: Program) -> Route {
    let owner = LegOwner::new(account.clone(), dialect);
    Route { owner, status: None, record: None, decision: Decision::Program(program) }
}
