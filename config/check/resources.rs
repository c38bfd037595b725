//! Checks of accounts, applications, numbers and endpoints. If a setting names an object, this object must
//! exist. The settings must also agree with each other.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tandem_accounts::{Account, DEFAULT_ACCOUNT};
use tandem_agent::AgentConfig;
use tandem_http::{NetworkPolicy, Origin};
use tandem_id::AccountName;
use tandem_media::Srtp;
use tandem_routing::number_pool::{LARGEST_BLOCK, LARGEST_POOL};
use tandem_settings::{
    Application, ApplicationKind, Bridge, ConsoleRole, NumberConfig, PROVIDERS, RecordBridge, TrunkConfig,
};
use url::{Host, Url};

use super::{Report, is_name};
use crate::Config;

/// A key in tandem.example.toml: the text `change-me` in base64.
const PUBLISHED: &str = "Y2hhbmdlLW1lLWNoYW5nZS1tZS1jaGFuZ2UtbWUhISE=";

/// Message for phones that use SRTP without TLS.
const PHONES_IN_THE_CLEAR: &str = "its SRTP keys are sent unencrypted, so anybody on the network path can read them; listen on tls:// and let the phone register there";

/// Minimum number of characters of a password of the web console: whoever has it can listen to calls.
const MIN_CONSOLE_PASSWORD: usize = 12;

pub(super) fn check(config: &Config, names: &Names<'_>, report: &mut Report<'_>) {
    check_accounts(config, report);
    check_other_secrets(config, report);
    check_applications(config, names, report);
    for (index, number) in config.numbers.iter().enumerate() {
        check_number(number, &format!("numbers[{index}]"), names, report);
    }
    let patterns = config.numbers.iter().enumerate().map(|(i, one)| (format!("numbers[{i}].number"), &one.number));
    report.unique("the number", patterns.collect::<Vec<_>>());
    note_numbers_without_plus(config, report);
    check_pool(config, names, report);
    check_endpoints(config, names, report);
    check_console_users(config, names, report);
}

/// Checks the users of the web console.
fn check_console_users(config: &Config, names: &Names<'_>, report: &mut Report<'_>) {
    for (index, user) in config.console.users.iter().enumerate() {
        let path = format!("console.users[{index}]");
        name(&format!("{path}.name"), &user.name, report);
        if user.password.expose().chars().count() < MIN_CONSOLE_PASSWORD {
            let message = format!("must have at least {MIN_CONSOLE_PASSWORD} characters");
            report.fault(format!("{path}.password"), message);
        }
        match (user.role, &user.account) {
            (_, Some(account)) if !names.accounts.contains_key(account.as_str()) => {
                report.fault(format!("{path}.account"), format!("there is no account \"{account}\""));
            }
            (ConsoleRole::Account, None) => {
                report.fault(format!("{path}.account"), "is missing: the role \"account\" sees one account");
            }
            (ConsoleRole::Operator, Some(_)) => {
                let message =
                    "the role \"operator\" sees all accounts: leave the account out, or use the role \"account\"";
                report.fault(format!("{path}.account"), message);
            }
            _ => {}
        }
    }
    let users = config.console.users.iter().enumerate().map(|(i, one)| (format!("console.users[{i}].name"), &one.name));
    report.unique("the user", users.collect::<Vec<_>>());
}

/// Adds a note for every telephone number without `+`. Carriers write numbers with `+`, so a call may not find the number
/// without `+`.
fn note_numbers_without_plus(config: &Config, report: &mut Report<'_>) {
    let international = config.numbers.iter().filter_map(|one| one.number.exact()).find(|text| text.starts_with('+'));
    let unlike = international.map(|other| format!(", unlike {other}")).unwrap_or_default();
    for (index, one) in config.numbers.iter().enumerate() {
        let number = one.number.exact().unwrap_or_default();
        if number.len() >= 10 && number.bytes().all(|octet| octet.is_ascii_digit()) {
            let message = format!(
                "has no \"+\"{unlike}: a call to +{number} does not find it (number_format of a trunk says how that writes \
                 numbers)"
            );
            report.note(format!("numbers[{index}].number"), message);
        }
    }
}

/// Adds a note if a password or key has fewer than 7 characters, because a short password or key is easy to guess.
fn note_weak(path: &str, text: &str, report: &mut Report<'_>) {
    if (1..7).contains(&text.len()) {
        let message = format!("has only {} characters and is easy to guess; use 16 random ones", text.len());
        report.note(path, message);
    }
}

/// The names in the configuration. Each check finds a name without a search through a list, because a configuration may
/// have 100,000 numbers.
pub(super) struct Names<'a> {
    /// The accounts. The value is `None` for the account that the server creates if no account is configured.
    pub(super) accounts: HashMap<&'a str, Option<&'a Account>>,
    trunks: HashMap<&'a str, &'a TrunkConfig>,
    pub(super) applications: HashMap<&'a str, &'a Application>,
    pub(super) agents: HashMap<&'a str, &'a AgentConfig>,
    /// The accounts of the trunks that have prefixes. `None` is a trunk for all accounts.
    with_prefixes: HashSet<Option<&'a AccountName>>,
    config: &'a Config,
}

impl<'a> Names<'a> {
    pub(super) fn of(config: &'a Config) -> Self {
        let trunks = || config.trunks.iter();
        Self {
            accounts: match config.accounts.is_empty() {
                true => HashMap::from([(DEFAULT_ACCOUNT, None)]),
                false => by(&config.accounts, |one| one.name.as_str()).map(|(name, one)| (name, Some(one))).collect(),
            },
            trunks: by(&config.trunks, |one| &one.name).collect(),
            applications: by(&config.applications, |one| &one.id).collect(),
            agents: by(&config.agents, |one| &one.name).collect(),
            with_prefixes: trunks().filter(|one| !one.prefixes.is_empty()).map(|one| one.account.as_ref()).collect(),
            config,
        }
    }

    fn account(&self, name: &AccountName) -> Option<&'a Account> {
        self.accounts.get(name.as_str()).copied().flatten()
    }

    fn documents(&self, account: &AccountName) -> &'static str {
        self.account(account).map_or("twilio", Account::documents)
    }

    /// Whether a trunk with prefixes takes calls of this account.
    fn has_prefixes(&self, account: &AccountName) -> bool {
        self.with_prefixes.contains(&None) || self.with_prefixes.contains(&Some(account))
    }
}

/// Returns the elements with their names. If several elements have a name, the first of them comes last, so that a map
/// contains the first.
fn by<T>(list: &[T], name: fn(&T) -> &str) -> impl Iterator<Item = (&str, &T)> {
    list.iter().rev().map(move |one| (name(one), one))
}

fn check_accounts(config: &Config, report: &mut Report<'_>) {
    for (index, account) in config.accounts.iter().enumerate() {
        let path = format!("accounts[{index}]");
        name(&format!("{path}.name"), account.name.as_str(), report);
        if let Some(twilio) = &account.twilio {
            check_account_sid(&format!("{path}.twilio.account_sid"), &twilio.account_sid, report);
            secret(config, &format!("{path}.twilio.auth_token"), &twilio.auth_token, report);
            match (&twilio.test_account_sid, &twilio.test_auth_token) {
                (Some(sid), Some(token)) => {
                    check_account_sid(&format!("{path}.twilio.test_account_sid"), sid, report);
                    secret(config, &format!("{path}.twilio.test_auth_token"), token, report);
                }
                (Some(_), None) => {
                    report.fault(
                        format!("{path}.twilio.test_account_sid"),
                        "needs test_auth_token too: set both or neither",
                    );
                }
                (None, Some(_)) => {
                    report.fault(
                        format!("{path}.twilio.test_auth_token"),
                        "needs test_account_sid too: set both or neither",
                    );
                }
                (None, None) => {}
            }
        }
        if let Some(telnyx) = &account.telnyx {
            secret(config, &format!("{path}.telnyx.api_key"), &telnyx.api_key, report);
            secret(config, &format!("{path}.telnyx.signing_seed"), &telnyx.signing_seed, report);
            if BASE64_STANDARD.decode(&telnyx.signing_seed).map_or(0, |seed| seed.len()) != 32 {
                let message = "must be 32 bytes in base64; `head -c 32 /dev/urandom | base64` makes one";
                report.fault(format!("{path}.telnyx.signing_seed"), message);
            }
        }
        if let Some(signalwire) = &account.signalwire {
            if !is_uuid(&signalwire.project_id) {
                report.fault(format!("{path}.signalwire.project_id"), "is not a UUID");
            }
            secret(config, &format!("{path}.signalwire.api_token"), &signalwire.api_token, report);
            secret(config, &format!("{path}.signalwire.signing_key"), &signalwire.signing_key, report);
        }
    }
    let each = |key: fn(&Account) -> Option<&str>, name: &str| {
        let accounts = config.accounts.iter().enumerate();
        accounts
            .filter_map(|(i, one)| Some((format!("accounts[{i}].{name}"), key(one)?.to_owned())))
            .collect::<Vec<_>>()
    };
    report.unique("the name", each(|one| Some(one.name.as_str()), "name"));
    let mut sids = each(|one| one.twilio.as_ref().map(|keys| &*keys.account_sid), "twilio.account_sid");
    sids.extend(each(|one| one.twilio.as_ref()?.test_account_sid.as_deref(), "twilio.test_account_sid"));
    report.unique("the account_sid", sids);
    report.unique("the key", each(|one| one.telnyx.as_ref().map(|keys| &*keys.api_key), "telnyx.api_key"));
    let projects = each(|one| one.signalwire.as_ref().map(|keys| &*keys.project_id), "signalwire.project_id");
    report.unique("the project_id", projects);
}

fn check_account_sid(path: &str, sid: &str, report: &mut Report<'_>) {
    let digits = sid.strip_prefix("AC").unwrap_or_default();
    if digits.len() != 32 || !digits.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f')) {
        report.fault(path, "must be \"AC\" and 32 hex digits in lower case");
    }
}

fn check_applications(config: &Config, names: &Names<'_>, report: &mut Report<'_>) {
    for (index, application) in config.applications.iter().enumerate() {
        let path = format!("applications[{index}]");
        filled(&format!("{path}.id"), &application.id, report);
        report.owner(format!("{path}.account"), &application.account, &names.accounts);
        check_provider(names, &application.provider, &application.account, &path, report);
        target(names, &format!("{path}.webhook_url"), &application.webhook_url, report);
        if let Some(url) = &application.webhook_failover_url {
            target(names, &format!("{path}.webhook_failover_url"), url, report);
        }
        if let Some(url) = &application.status_callback {
            target(names, &format!("{path}.status_callback"), url, report);
        }
        if application.webhook_timeout_secs.is_some_and(|seconds| !(1..=30).contains(&seconds)) {
            report.fault(format!("{path}.webhook_timeout_secs"), "is outside 1 to 30 seconds");
        }
    }
    let ids = config.applications.iter().enumerate().map(|(i, one)| (format!("applications[{i}].id"), one.id.clone()));
    report.unique("the id", ids.collect::<Vec<_>>());
}

/// Returns the provider whose document format the account uses by default. The default applies if a number or endpoint
/// does not name a provider.
pub(crate) fn documents(config: &Config, account: &AccountName) -> &'static str {
    config.accounts.iter().find(|one| one.name == *account).map_or("twilio", Account::documents)
}

/// Checks that the provider exists. Also checks that the account has the credentials that sign the requests of this
/// provider's format.
fn check_provider(names: &Names<'_>, provider: &str, account: &AccountName, path: &str, report: &mut Report<'_>) {
    let key = format!("{path}.provider");
    let Some((table, is_set)) = credentials(provider) else {
        report.exists(key, "provider", provider, &PROVIDERS.into_iter().map(|name| (name, ())).collect());
        return;
    };
    let Some(account) = names.account(account) else { return };
    if !is_set(account) {
        report.fault(key, format!("account {:?} has no {table}, which signs {provider}'s requests", account.name));
    }
}

/// A function that returns whether an account has a certain table of credentials.
type IsSet = fn(&Account) -> bool;

/// Returns the name of the table with the credentials for this provider, and a function that checks whether an account
/// has this table. Returns `None` for a provider that does not exist.
fn credentials(provider: &str) -> Option<(&'static str, IsSet)> {
    match provider {
        "twilio" => Some(("twilio = { account_sid, auth_token }", |account| account.twilio.is_some())),
        "signalwire" | "swml" => {
            Some(("signalwire = { project_id, api_token, signing_key }", |account| account.signalwire.is_some()))
        }
        "telnyx" | "texml" => Some(("telnyx = { api_key, signing_seed }", |account| account.telnyx.is_some())),
        _ => None,
    }
}

fn check_pool(config: &Config, names: &Names<'_>, report: &mut Report<'_>) {
    if config.number_pool.is_empty() && config.accounts.len() > 1 {
        let message = "is absent: with several accounts, only an operator's account can take numbers by REST; list the \
                       numbers that the other accounts may take";
        report.note("number_pool", message);
    }
    for (index, block) in config.number_pool.iter().enumerate() {
        let path = format!("number_pool[{index}]");
        if !block.number.is_e164() {
            let message = format!("{:?} is not an E.164 number (\"+\" and 2 to 15 digits)", block.number.as_str());
            report.fault(format!("{path}.number"), message);
        } else if let (Some(last), None) = (&block.last, block.bounds()) {
            let message = format!(
                "{last} is not the last number of a block of at most {LARGEST_BLOCK} numbers of equal length that begins with {}",
                block.number
            );
            report.fault(format!("{path}.last"), message);
        }
        if let Some(account) = &block.account {
            report.exists(format!("{path}.account"), "account", account.as_str(), &names.accounts);
        }
        let is_country = |country: &str| country.len() == 2 && country.bytes().all(|octet| octet.is_ascii_uppercase());
        if block.country.as_deref().is_some_and(|country| !is_country(country)) {
            report.fault(format!("{path}.country"), "is not two capital letters (ISO 3166-1): \"US\"");
        }
        for (key, degrees, max) in [("latitude", block.latitude, 90.0), ("longitude", block.longitude, 180.0)] {
            if degrees.is_some_and(|degrees| !(-max..=max).contains(&degrees)) {
                report.fault(format!("{path}.{key}"), format!("is outside -{max} to {max} degrees"));
            }
        }
    }
    let sizes = config
        .number_pool
        .iter()
        .filter_map(tandem_routing::number_pool::Block::bounds)
        .map(|(first, last)| last - first + 1);
    let size: u64 = sizes.sum();
    if size > LARGEST_POOL {
        report.fault("number_pool", format!("has {size} numbers; the maximum is {LARGEST_POOL}"));
    }
    let given: HashMap<&str, usize> =
        config.numbers.iter().enumerate().rev().filter_map(|(i, one)| Some((one.number.exact()?, i))).collect();
    for (index, block) in config.number_pool.iter().enumerate() {
        if let Some(taken) = given.get(block.number.as_str()).filter(|_| block.last.is_none()) {
            let message = format!("is already configured as numbers[{taken}], so no account can buy it");
            report.fault(format!("number_pool[{index}].number"), message);
        }
    }
}

fn check_number(number: &NumberConfig, path: &str, names: &Names<'_>, report: &mut Report<'_>) {
    report.owner(format!("{path}.account"), &number.account, &names.accounts);
    let ways = [
        ("voice_url", number.voice_url.is_some()),
        ("application", number.application.is_some()),
        ("twiml", number.twiml.is_some()),
        ("bridge", number.bridge.is_some()),
        ("agent", number.agent.is_some()),
    ];
    let chosen: Vec<&str> = ways.iter().filter(|(_, set)| *set).map(|(key, _)| *key).collect();
    match chosen.as_slice() {
        [_] => {}
        [] => report.fault(path, "nothing handles its calls: set voice_url, application, twiml, bridge or agent"),
        [first, rest @ ..] => {
            let message = format!(
                "cannot be set together with {first}; keep one of voice_url, application, twiml, bridge and agent"
            );
            rest.iter().for_each(|key| report.fault(format!("{path}.{key}"), message.clone()));
        }
    }
    if let Some(id) = &number.application {
        own_application(names, &format!("{path}.application"), id, &number.account, report);
    }
    if let Some(name) = &number.agent {
        report.exists(format!("{path}.agent"), "agent", name, &names.agents);
    }
    match &number.provider {
        Some(provider) => {
            check_provider(names, provider, &number.account, path, report);
            if ApplicationKind::of(provider) == ApplicationKind::Commands
                && number.application.is_none()
                && number.bridge.is_none()
                && number.agent.is_none()
            {
                let message = "this provider's applications send commands and return no documents: set application";
                report.fault(format!("{path}.provider"), message);
            }
        }
        None if number.voice_url.is_some() => {
            check_provider(names, names.documents(&number.account), &number.account, path, report);
        }
        None => {}
    }
    match names.config.inline_document(number) {
        None => {}
        Some(Ok(program)) => {
            program.warnings.iter().for_each(|warning| report.note(format!("{path}.twiml"), &warning.message));
        }
        Some(Err(failure)) => report.fault(format!("{path}.twiml"), failure.detail),
    }
    let urls = [
        ("voice_url", &number.voice_url),
        ("fallback_url", &number.fallback_url),
        ("status_callback", &number.status_callback),
    ];
    for (key, url) in urls {
        if let Some(url) = url {
            target(names, &format!("{path}.{key}"), url, report);
        }
    }
    if number.fallback_url.is_some() && number.voice_url.is_none() {
        report.fault(format!("{path}.fallback_url"), "is used only when voice_url fails, and voice_url is not set");
    }
    for name in number.bridge.iter().flat_map(Bridge::trunks) {
        report.exists(format!("{path}.bridge"), "trunk", name, &names.trunks);
        if names.trunks.get(&**name).is_some_and(|trunk| trunk.uri.is_none()) {
            report.fault(format!("{path}.bridge"), format!("trunk {name:?} has no uri to send the calls to"));
        }
    }
    if number.bridge == Some(Bridge::Prefixes) && !names.has_prefixes(&number.account) {
        let message = format!("no trunk of account {:?} has prefixes, so no trunk can take the calls", number.account);
        report.fault(format!("{path}.bridge"), message);
    }
    if number.record != RecordBridge::Off && number.bridge.is_none() {
        report.fault(format!("{path}.record"), "works only with bridge; in a document use <Record> or <Dial record>");
    }
}

fn check_endpoints(config: &Config, names: &Names<'_>, report: &mut Report<'_>) {
    if config.media.endpoint_srtp != Srtp::Off && !listens_on_tls(config) {
        report.note("media.endpoint_srtp", PHONES_IN_THE_CLEAR);
    }
    let mut seen = HashSet::new();
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        let path = format!("endpoints[{index}]");
        report.owner(format!("{path}.account"), &endpoint.account, &names.accounts);
        name(&format!("{path}.username"), &endpoint.username, report);
        secret(config, &format!("{path}.password"), endpoint.password.expose(), report);
        if !seen.insert((&endpoint.account, &endpoint.username)) {
            report.fault(
                format!("{path}.username"),
                format!("the account already has an endpoint {:?}", endpoint.username),
            );
        }
        if let Some(url) = &endpoint.voice_url {
            target(names, &format!("{path}.voice_url"), url, report);
            if endpoint.application.is_some() {
                let message = "cannot be set together with voice_url; keep one of them";
                report.fault(format!("{path}.application"), message);
            }
        }
        if let Some(id) = &endpoint.application {
            own_application(names, &format!("{path}.application"), id, &endpoint.account, report);
        }
        match &endpoint.provider {
            Some(provider) => check_provider(names, provider, &endpoint.account, &path, report),
            None if endpoint.voice_url.is_some() => {
                check_provider(names, names.documents(&endpoint.account), &endpoint.account, &path, report);
            }
            None => {}
        }
        if endpoint.srtp.is_some_and(|srtp| srtp != Srtp::Off) && !listens_on_tls(config) {
            report.note(format!("{path}.srtp"), PHONES_IN_THE_CLEAR);
        }
        if endpoint.outbound && (endpoint.voice_url.is_some() || endpoint.application.is_some()) {
            report.note(format!("{path}.outbound"), "has no effect: the application handles the calls");
        }
    }
}

/// Checks that the application exists and belongs to the account.
pub(super) fn own_application(names: &Names<'_>, path: &str, id: &str, account: &AccountName, report: &mut Report<'_>) {
    report.exists(path.to_owned(), "application", id, &names.applications);
    if let Some(other) = names.applications.get(id).filter(|one| one.account != *account) {
        report.fault(path, format!("belongs to account {:?}", other.account));
    }
}

/// Checks that the text is an absolute `http` or `https` URL, and that the network policy allows the address in the
/// URL. A host name is not checked, except `localhost`.
fn target(names: &Names<'_>, path: &str, text: &str, report: &mut Report<'_>) {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = url else {
        // A text that is not a URL may contain a password all the same.
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        report.fault(path, format!("{shown:?} is not an http:// or https:// URL"));
        return;
    };
    allowed(names.config, path, &url, report);
}

/// Checks that the network policy allows the address in a URL. A host name is not checked, except `localhost`.
pub(super) fn allowed(config: &Config, path: &str, url: &Url, report: &mut Report<'_>) {
    if Origin::of(url).is_some_and(|own| config.origins.iter().any(|origin| origin.from.covers(&own))) {
        // Connections go to another origin, and the checks of `[[origins]]` cover that origin.
        return;
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain("localhost")) => IpAddr::from([127, 0, 0, 1]),
        _ => return,
    };
    let policy = NetworkPolicy { allow_networks: config.webhooks.allow_networks.clone() };
    if policy.check(address).is_err() {
        report.fault(
            path,
            format!("{address} is not a public address: to allow it, add its network to webhooks.allow_networks"),
        );
    }
}

pub(super) fn name(path: &str, text: &str, report: &mut Report<'_>) {
    if !is_name(text) {
        report.fault(path, format!("{text:?} is not a name (1 to 64 of the characters a-z, A-Z, 0-9, -, _ and .)"));
    }
}

/// Checks a credential of the HTTP API. The credential must not be empty. If other machines can reach the server, the
/// credential must not be a value from the example file.
pub(super) fn secret(config: &Config, path: &str, text: &str, report: &mut Report<'_>) {
    filled(path, text, report);
    note_weak(path, text, report);
    placeholder(config, path, text, report);
}

/// Checks that a password or key is not an example value, such as `change-me`. These values are published.
pub(super) fn placeholder(config: &Config, path: &str, text: &str, report: &mut Report<'_>) {
    let plain = text.to_ascii_lowercase().replace(['-', '_', ' '], "");
    if !plain.contains("changeme") && text != PUBLISHED {
        return;
    }
    match is_local(config) {
        true => {
            report.note(path, "is the published example value; replace it before other machines can reach the server");
        }
        false => report.fault(path, "is the published example value, which anybody could use; replace it"),
    }
}

/// Checks the passwords and keys outside of accounts, trunks and phones.
fn check_other_secrets(config: &Config, report: &mut Report<'_>) {
    let keys = [
        ("recordings.encryption_key", &config.recordings.encryption_key),
        ("ice.turn_secret", &config.ice.turn_secret),
        ("speech.tts_key", &config.speech.tts_key),
        ("speech.stt_key", &config.speech.stt_key),
    ];
    let mut keys: Vec<(String, &str)> =
        keys.into_iter().filter_map(|(path, key)| Some((path.to_owned(), key.as_ref()?.expose()))).collect();
    keys.extend(config.sip.hep_password.as_deref().map(|password| ("sip.hep_password".to_owned(), password)));
    for (index, agent) in config.agents.iter().enumerate() {
        keys.extend(agent.model.key.as_ref().map(|key| (format!("agents[{index}].model.key"), key.expose())));
    }
    for (index, recorder) in config.siprec.iter().enumerate() {
        keys.extend(recorder.password.as_ref().map(|key| (format!("siprec[{index}].password"), key.expose())));
    }
    for (path, text) in keys {
        placeholder(config, &path, text, report);
    }
}

/// Returns whether only this machine can reach the server, by HTTP and by SIP.
fn is_local(config: &Config) -> bool {
    let is_loopback = |listen: &String| tandem_sip::parse_listen(listen).is_none_or(|(_, at)| at.ip().is_loopback());
    let public_url = config.http.public_url.as_deref().map(Url::parse);
    let is_public_url_local = match public_url.as_ref().map(|url| url.as_ref().map(Url::host)) {
        None | Some(Err(_) | Ok(None)) => true,
        Some(Ok(Some(Host::Ipv4(address)))) => address.is_loopback(),
        Some(Ok(Some(Host::Ipv6(address)))) => address.is_loopback(),
        Some(Ok(Some(Host::Domain(name)))) => name == "localhost",
    };
    is_public_url_local && config.http.listen.ip().is_loopback() && config.sip.listen.iter().all(is_loopback)
}

/// Returns whether phones can register over TLS. Phones can register over TLS if the server listens on `tls://` or
/// `wss://`.
fn listens_on_tls(config: &Config) -> bool {
    config.sip.listen.iter().any(|listen| listen.starts_with("tls://") || listen.starts_with("wss://"))
}

fn filled(path: &str, text: &str, report: &mut Report<'_>) {
    if text.is_empty() {
        report.fault(path, "is empty");
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, octet)| match index {
            8 | 13 | 18 | 23 => octet == b'-',
            _ => octet.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_names_its_credentials() {
        assert!(PROVIDERS.iter().all(|provider| credentials(provider).is_some()));
    }
}
