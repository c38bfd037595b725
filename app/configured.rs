//! The parts that are built from the configuration, at the start and again at a reload.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tandem_accounts::{Account, Accounts};
use tandem_agent::Agents;
use tandem_config::Config;
use tandem_routing::inventory::Inventory;
use tandem_routing::number_pool::NumberPool;
use tandem_routing::phones::{self, Phones};
use tandem_routing::{Routing, trunk};
use tandem_settings::{NumberConfig, TrunkConfig};
use tandem_sip as sip;
use tandem_stir::Stir;
use tandem_store::Store;

/// Builds the agents and the certificates of the configuration. An error names the key.
pub(super) fn agents_and_stir(config: &Config) -> anyhow::Result<(Agents, Stir)> {
    let agents = Agents::new(config.agents.iter().cloned()).map_err(|why| anyhow!("agents: {why}"))?;
    let stir = Stir::new(&config.stir, &config.trunks).map_err(|(path, why)| anyhow!("{path}: {why}"))?;
    Ok((agents, stir))
}

/// Builds the phones from the configuration. The phones can belong to the configured accounts and to `first_account`,
/// which is the account that the server created.
pub(super) fn phones(config: &Config, first_account: Option<Account>) -> Arc<Phones> {
    let (sip, srtp) = (&config.sip, config.media.endpoint_srtp);
    let phones = Phones::new(&sip.registrar, &sip.advertise, config.endpoints.clone(), srtp);
    let accounts = config.accounts.iter().cloned().chain(first_account);
    Arc::new(phones.with_trunks(&config.trunks).with_accounts(accounts).with_reserved(reserved_names(config)))
}

/// Returns the settings of `[sip]` together with the SIP settings of trunks and phones.
pub(super) async fn sip_settings(config: &Config, phones: &Phones, store: &Store) -> anyhow::Result<sip::Config> {
    let trunks = &config.trunks;
    let own_word = |trunk: &TrunkConfig| Some((Arc::clone(&trunk.name), trunk.prack?));
    let transfers = |trunk: &TrunkConfig| Some((Arc::clone(&trunk.name), trunk.refer?));
    Ok(sip::Config {
        trunks: sources(trunks),
        tls_trunks: trunks.iter().map(TrunkConfig::tls).collect(),
        trunk_settings: trunks.iter().map(trunk::sip_trunk).collect(),
        directory: phones.load(store).await.context("phones")?,
        prack_by_trunk: trunks.iter().filter_map(own_word).collect(),
        refer_by_trunk: trunks.iter().filter_map(transfers).collect(),
        ..config.sip.clone()
    })
}

/// Builds the routing of calls from the configuration.
pub(super) fn routing(
    config: &Config,
    phones: Arc<Phones>,
    inventory: Arc<Inventory>,
    accounts: &Arc<Accounts>,
) -> Routing {
    let inline = |number: &NumberConfig| config.inline_document(number)?.ok();
    let applications = Arc::new(config.applications.clone());
    let pool = match config.number_pool.is_empty() && config.trunks.is_empty() {
        true => NumberPool::fictitious(),
        false => NumberPool::new(config.number_pool.clone()),
    };
    Routing::new(config.numbers.clone(), applications, config.trunks.clone(), inline)
        .with_phones(phones)
        .with_inventory(inventory, pool)
        .with_strict_callers(config.twilio.strict_caller_id)
        .with_unknown_sources(config.sip.unknown_sources)
        .with_accounts(Arc::clone(accounts))
}

/// Returns the names that no account may have as its SIP domain, in addition to the names of this server in SIP: the
/// names of the certificates, the host of `http.public_url`, and the hosts of the trunks.
fn reserved_names(config: &Config) -> Vec<String> {
    let tls_trunks = config.trunks.iter().map(TrunkConfig::tls).collect();
    let tls = sip::Config { tls_trunks, ..config.sip.clone() };
    let certificates = sip::transport::own_certificates(&tls).into_iter().flat_map(|own| own.names);
    let trunks = config.trunks.iter().flat_map(|trunk| [&trunk.uri, &trunk.registrar, &trunk.from_domain]).flatten();
    let public = config.http.public_url.iter().filter_map(|url| url.split("://").nth(1)?.split(['/', ':']).next());
    let hosts = trunks.map(|uri| &**uri).chain(public).map(|text| phones::host_of(text).0.to_owned());
    certificates.chain(hosts).collect()
}

/// Returns the networks from which the server accepts calls. If no trunk is configured, these are the loopback
/// networks and this machine's own address: many softphones call 127.0.0.1 from the address of the network card.
fn sources(trunks: &[TrunkConfig]) -> Vec<sip::TrunkAcl> {
    if trunks.is_empty() {
        let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|network| network.parse().ok());
        return vec![sip::TrunkAcl {
            name: "loopback".into(),
            networks: loopback.chain(own_address().map(Into::into)).collect(),
        }];
    }
    let acl = |trunk: &TrunkConfig| sip::TrunkAcl { name: Arc::clone(&trunk.name), networks: trunk.networks() };
    trunks.iter().map(acl).collect()
}

/// Returns the IPv4 address from which this machine sends to other networks. `None` without a default route. Connecting
/// a UDP socket looks up the route and sends nothing. The destination is an address for documentation (RFC 5737).
fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
