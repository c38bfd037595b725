//! Customer trunks: trunks that applications create by REST for the PBXs of their accounts. Calls go in both
//! directions.
//!
//! ```text
//!   PBX ── number@its domain, by password or address ──▶ our trunks        (terminated)
//!   a number of the trunk ──▶ the PBX's own URIs, by priority and weight; last a document   (originated)
//! ```
//!
//! A SIP domain ([`tandem_store::domains`]) with the trunk's id identifies the calls from a PBX. If the trunk has no
//! domain name, this domain has a name that nobody can call.

use std::collections::HashMap;
use std::sync::Arc;

use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tandem_call::address::{Address, PhoneNumber};
use tandem_call::program::instruction::{DialTarget, Instruction, Program};
use tandem_call::{Method, Target};
use tandem_id::AccountName;
use tandem_settings::{RecordBridge, TrunkConfig};
use tandem_store::resources::{self, Kind, Resource};
use tandem_store::{Store, StoreError};

use crate::connections::Connections;
use crate::inventory::Limits;
use crate::{Outbound, bridge_program, weighted_sort_key, with_user};

/// The stored customer trunks. The name of the resource is the friendly name of the trunk.
pub const TRUNK: Kind<CustomerTrunk> = Kind::new("trunk");
/// The stored origination URIs. The parent of a URI is its trunk.
pub const ORIGINATION: Kind<Origination> = Kind::new("origination");

/// Maximum number of URIs that are tried for one call.
const MAX_URIS_TRIED: usize = 8;
/// Prefix of the names of customer trunks. The name of a trunk in the configuration never has this prefix.
const PREFIX: &str = "pbx:";

/// The settings of a customer trunk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomerTrunk {
    /// The host name that the PBX calls. `None` means that the PBX must not call.
    pub domain: Option<String>,
    /// Whether calls must be encrypted in both directions (TLS and SRTP).
    pub secure: bool,
    /// The transfers (REFER) that the PBX may request. The account pays for these transfers.
    pub transfers: Transfers,
    /// The settings for the recording of calls.
    pub record: Record,
    /// URL of the document for a call that the PBX does not answer at any of its URIs.
    pub recovery: Option<Arc<str>>,
    /// HTTP method of `recovery`.
    pub recovery_method: Method,
    /// Credentials with which the PBX may call every host name of this server.
    pub login: Option<Login>,
    /// Transport for URIs without a transport: `tcp` or `tls`.
    pub transport: Option<String>,
    /// Ids of the hosts or addresses that are tried first, in this order.
    pub first: Vec<u128>,
    /// Whether the other hosts or addresses are tried in random order. Otherwise the order of their creation is used.
    pub in_turn: bool,
    /// Limits on concurrent calls.
    pub limits: Limits,
    /// Whether the trunk is disabled. A disabled trunk neither makes nor receives calls.
    pub inactive: bool,
    /// Additional members that the provider's API stores.
    pub other: Map<String, Value>,
}

/// A user name, and the digest hashes of its password for one realm (RFC 7616 §3.4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The user name for digest authentication.
    pub username: String,
    /// The hash `H(A1)` for `algorithm=MD5`.
    pub ha1_md5: String,
    /// The hash `H(A1)` for `algorithm=SHA-256`.
    pub ha1_sha256: String,
}

/// The transfers that a PBX may request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transfers {
    /// No transfers.
    #[default]
    Off,
    /// Transfers to SIP URIs whose user part is not a telephone number.
    Sip,
    /// All transfers.
    On,
}

/// The recording settings for the calls of a PBX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The time at which the recording starts. `None` means no recording.
    pub from: Option<RecordFrom>,
    /// Whether each party has a separate channel in the recording.
    pub dual: bool,
    /// Whether the recording omits silence at its start and at its end.
    pub trim: bool,
}

/// The time at which a recording starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordFrom {
    /// The recording starts when the call rings.
    Ringing,
    /// The recording starts when the call is answered.
    Answer,
}

/// A URI to which calls to a PBX go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origination {
    /// The URI in the form `sip:HOST[:PORT][;transport=...]`.
    pub uri: String,
    /// The priority. URIs with the lowest value are tried first.
    pub priority: u16,
    /// The weight. URIs of one priority are tried in random order, which depends on their weights.
    pub weight: u16,
    /// Whether the URI is used.
    pub enabled: bool,
}

/// All customer trunks, held in memory. The number of trunks in the database limits the size of this map.
#[derive(Debug, Default)]
pub struct CustomerTrunks(HashMap<u128, TrunkEntry>);

#[derive(Debug)]
struct TrunkEntry {
    row: Resource<CustomerTrunk>,
    originations: Vec<Origination>,
}

impl CustomerTrunks {
    /// Reads the customer trunks from the database, and adds the trunks of the connections.
    pub async fn load(store: &Store, connections: &Connections) -> Result<Self, StoreError> {
        let rows = resources::all(store, TRUNK).await?;
        let mut known: HashMap<_, _> =
            rows.into_iter().map(|row| (row.id, TrunkEntry { row, originations: Vec::new() })).collect();
        for origination in resources::all(store, ORIGINATION).await? {
            let of = origination.parent.and_then(|id| known.get_mut(&id));
            if let Some(trunk) = of {
                trunk.originations.push(origination.details);
            }
        }
        let own = |(row, originations): (&Resource<CustomerTrunk>, _)| {
            (row.id, TrunkEntry { row: row.clone(), originations })
        };
        known.extend(connections.trunks().map(own));
        Ok(Self(known))
    }

    /// Returns a customer trunk, if the trunk belongs to the account.
    pub fn get(&self, account: &AccountName, id: u128) -> Option<&CustomerTrunk> {
        self.0.get(&id).filter(|known| known.row.account == *account).map(|known| &known.row.details)
    }

    /// Whether the trunk with this name accepts only encrypted calls.
    pub fn is_secure(&self, name: &str) -> bool {
        id(name).and_then(|id| self.0.get(&id)).is_some_and(|known| known.row.details.secure)
    }

    /// Whether the trunk with this name allows its far end to transfer a call to `uri`. For a trunk of the
    /// configuration, this function sets no limit and returns `true`.
    pub fn may_transfer(&self, name: &str, uri: &str) -> bool {
        let Some(id) = id(name) else { return true };
        match self.0.get(&id).map(|known| known.row.details.transfers) {
            Some(Transfers::On) => true,
            Some(Transfers::Sip) => {
                let to = Address::from(uri);
                !uri.starts_with("tel:") && to.user().parse::<PhoneNumber>().is_err()
            }
            Some(Transfers::Off) | None => false,
        }
    }

    /// Returns the routes of a call to `user`, best route first. Returns an empty list if the trunk does not belong to
    /// the account.
    pub fn originate(&self, account: &AccountName, trunk: u128, user: &str, rng: &mut impl Rng) -> Vec<Outbound> {
        let Some(known) = self.0.get(&trunk).filter(|known| known.row.account == *account) else { return Vec::new() };
        let enabled = known.originations.iter().filter(|one| one.enabled);
        let mut ways: Vec<_> = enabled.map(|one| (one.priority, weighted_sort_key(one.weight, rng), one)).collect();
        ways.sort_by(|(a, lot_a, _), (b, lot_b, _)| a.cmp(b).then(lot_a.total_cmp(lot_b)));
        ways.into_iter().take(MAX_URIS_TRIED).filter_map(|(_, _, one)| outbound(trunk, one, user)).collect()
    }
}

/// Returns the name of a customer trunk, for code that identifies trunks by name.
pub fn name(id: u128) -> Arc<str> {
    format!("{PREFIX}{id:032x}").into()
}

/// Returns the id of the customer trunk with this name. Returns `None` for the name of a trunk of the configuration.
pub fn id(name: &str) -> Option<u128> {
    u128::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()
}

/// Parses the id of a customer trunk in the provider's form: two letters and 32 hexadecimal digits.
pub fn spelled(text: &str) -> Option<u128> {
    let digits = text.get(2..).filter(|digits| digits.len() == 32)?;
    u128::from_str_radix(digits, 16).ok()
}

/// Builds the program of a call from a PBX to a number. The call goes over the trunks of the server.
pub fn terminate(customer_trunk: &CustomerTrunk, number: Address) -> Program {
    recorded(bridge_program(DialTarget::new(number), recording(customer_trunk.record)), customer_trunk.record)
}

/// Builds the program of a call to `user` at the PBX. If the PBX does not answer, the program continues with the
/// recovery document.
pub fn originate(customer_trunk: &CustomerTrunk, trunk: u128, user: &str) -> Program {
    // For each URI that is tried, routing replaces this host with the host of the URI.
    let to = match user.parse() {
        Ok(number) => Address::Phone(number),
        Err(_) => Address::Sip(with_user("sip:pbx.invalid", user).into()),
    };
    let target = DialTarget { via: vec![name(trunk)], ..DialTarget::new(to) };
    let mut program = recorded(bridge_program(target, recording(customer_trunk.record)), customer_trunk.record);
    if let Some(url) = &customer_trunk.recovery {
        for instruction in &mut program.instructions {
            if let Instruction::Dial(dial) = instruction {
                dial.pass_failure = false;
            }
        }
        let target = Target { url: Arc::clone(url), method: customer_trunk.recovery_method };
        program.instructions.push(Instruction::Redirect(target));
    }
    program
}

fn recording(record: Record) -> RecordBridge {
    match (record.from, record.dual) {
        (None, _) => RecordBridge::Off,
        (Some(_), true) => RecordBridge::Dual,
        (Some(_), false) => RecordBridge::Mono,
    }
}

fn recorded(mut program: Program, record: Record) -> Program {
    for instruction in &mut program.instructions {
        if let Instruction::Dial(dial) = instruction
            && let Some(recorded) = &mut dial.record
        {
            recorded.from_ringing = record.from == Some(RecordFrom::Ringing);
            recorded.spec.trim = record.trim;
        }
    }
    program
}

fn outbound(trunk: u128, origination: &Origination, user: &str) -> Option<Outbound> {
    // Some applications write `sip://host` instead of `sip:host`.
    let uri = origination.uri.replacen("://", ":", 1);
    let settings = json!({ "name": name(trunk), "uri": uri });
    let settings: TrunkConfig = serde_json::from_value(settings).ok()?;
    Some(Outbound {
        request_uri: with_user(&uri, user),
        next_hop: Some(uri),
        from_host: None,
        credentials: None,
        trunk: Some(Arc::new(settings)),
        user: None,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn known(originations: &[(&str, u16, u16, bool)]) -> CustomerTrunks {
        let originations = originations
            .iter()
            .map(|&(uri, priority, weight, enabled)| Origination { uri: uri.into(), priority, weight, enabled })
            .collect();
        let row = Resource { id: 7, ..Resource::new(&AccountName::new("acme"), "pbx", CustomerTrunk::default()) };
        CustomerTrunks([(7, TrunkEntry { row, originations })].into())
    }

    #[test]
    fn origination_urls_are_tried_by_priority_and_then_by_weight() {
        let customer_trunks = known(&[
            ("sip:third.example", 20, 1, true),
            ("sip://first.example:5070;transport=tcp", 10, 9, true),
            ("sip:second.example", 10, 1, true),
            ("sip:never.example", 0, 1, false),
        ]);
        let mut rng = StdRng::seed_from_u64(1);
        let mut firsts = 0;
        for _ in 0..1_000 {
            let ways = customer_trunks.originate(&AccountName::new("acme"), 7, "+15551230001", &mut rng);
            let uris: Vec<_> = ways.iter().map(|way| way.request_uri.as_str()).collect();
            assert_eq!(uris.len(), 3);
            assert_eq!(uris[2], "sip:+15551230001@third.example");
            firsts += usize::from(uris[0] == "sip:+15551230001@first.example:5070;transport=tcp");
        }
        assert!((850..950).contains(&firsts), "{firsts} of 1000, where 900 are to be expected");
        assert!(
            customer_trunks.originate(&AccountName::new("other"), 7, "+1", &mut rng).is_empty(),
            "it is not theirs"
        );
    }

    #[test]
    fn the_transfer_mode_of_a_customer_trunk_limits_its_transfers() {
        let may = |transfers, uri: &str| {
            let mut customer_trunks = known(&[]);
            customer_trunks.0.get_mut(&7).unwrap().row.details.transfers = transfers;
            customer_trunks.may_transfer(&name(7), uri)
        };
        let (number, person) = ("sip:+15551230001@pbx.example", "sip:alice@pbx.example");
        assert!(!may(Transfers::Off, number) && !may(Transfers::Off, person));
        assert!(
            !may(Transfers::Sip, number) && !may(Transfers::Sip, "tel:+15551230001") && may(Transfers::Sip, person)
        );
        assert!(may(Transfers::On, number) && may(Transfers::On, person));
        assert!(known(&[]).may_transfer("carrier", number), "others have their own settings");
        assert!(!known(&[]).may_transfer(&name(8), person), "it is gone");
    }

    #[test]
    fn the_name_of_a_customer_trunk_differs_from_configured_names() {
        assert_eq!(id(&name(7)), Some(7));
        assert_eq!(id("carrier"), None);
    }

    #[test]
    fn a_failed_origination_runs_the_recovery_document_and_the_recording_setting_applies() {
        let record = Record { from: Some(RecordFrom::Ringing), dual: true, trim: true };
        let customer_trunk = CustomerTrunk { recovery: Some("http://app/".into()), record, ..CustomerTrunk::default() };
        let program = originate(&customer_trunk, 7, "+15551230001");
        let [Instruction::Dial(dial), Instruction::Redirect(target)] = &program.instructions[..] else {
            panic!("{program:?}")
        };
        assert_eq!((&*target.url, dial.pass_failure, &*dial.targets[0].via[0]), ("http://app/", false, &*name(7)));
        let recorded = dial.record.as_ref().unwrap();
        assert!(recorded.from_ringing && recorded.spec.trim);
        let named = originate(&CustomerTrunk::default(), 7, "a@b");
        let [Instruction::Dial(dial)] = &named.instructions[..] else { panic!("{named:?}") };
        assert_eq!(dial.targets[0].to.to_string(), "sip:a%40b@pbx.invalid");
        assert_eq!(dial.targets[0].to.user(), "a@b");
        let plain = originate(&CustomerTrunk::default(), 7, "100");
        let [Instruction::Dial(dial)] = &plain.instructions[..] else { panic!("{plain:?}") };
        assert!(dial.record.is_none() && dial.pass_failure);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_customer_trunk_is_visible_to_its_account_only() {
        tandem_store::testing::on_each_database(async |store| {
            let trunk = Resource { id: 2, ..Resource::new(&AccountName::new("acme"), "pbx", CustomerTrunk::default()) };
            assert!(resources::put(&store, TRUNK, &trunk).await.unwrap());
            let customer_trunks = CustomerTrunks::load(&store, &Connections::default()).await.unwrap();
            assert!(
                customer_trunks.get(&AccountName::new("acme"), 2).is_some()
                    && customer_trunks.get(&AccountName::new("other"), 2).is_none()
            );
        })
        .await;
    }
}
