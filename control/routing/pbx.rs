//! PBXs of accounts: trunks that applications make by REST, in both directions.
//!
//! ```text
//!   PBX ── number@its domain, by password or address ──▶ our trunks        (terminated)
//!   a number that is the trunk's ──▶ the PBX's own URIs, by priority and weight; at the worst a document   (originated)
//! ```
//!
//! Whom a PBX's calls come from is a SIP domain's matter ([`tandem_store::domains`]): the domain with the trunk's id, which
//! has a name that nobody can call as long as the trunk has none.

use std::collections::HashMap;
use std::sync::Arc;

use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tandem_call::address::{Address, PhoneNumber};
use tandem_call::program::instruction::{DialTarget, Instruction, Program};
use tandem_call::{Method, Target};
use tandem_settings::{RecordBridge, TrunkConfig};
use tandem_store::resources::{self, Kind, Resource};
use tandem_store::{Store, StoreError};

use crate::connections::Connections;
use crate::holdings::Limits;
use crate::{Outbound, bridge_program, lot, with_user};

/// Trunks, by their friendly names.
pub const TRUNK: Kind<Pbx> = Kind::new("trunk");
/// Where their calls go, below them.
pub const ORIGINATION: Kind<Origination> = Kind::new("origination");

/// URIs that one call is tried at, at most.
const MOST_TRIED: usize = 8;
/// What the names of these trunks begin with, which no name of the configuration does.
const PREFIX: &str = "pbx:";

/// A trunk of an account.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pbx {
    /// The host that the PBX calls, if it may call.
    pub domain: Option<String>,
    /// Encrypted calls only, both ways: TLS and SRTP.
    pub secure: bool,
    /// Whether the PBX may have its calls transferred (REFER), at its account's expense.
    pub transfers: Transfers,
    /// What is recorded.
    pub record: Record,
    /// The document of a call that no URI of the PBX answers.
    pub recovery: Option<Arc<str>>,
    /// How it is asked for.
    pub recovery_method: Method,
    /// What it calls with at any host name of this server.
    pub login: Option<Login>,
    /// How it is called where its URIs do not say: `tcp`, `tls`.
    pub transport: Option<String>,
    /// Those of its places that are called first, by their ids.
    pub first: Vec<u128>,
    /// The others by chance, not in the order that they were made.
    pub in_turn: bool,
    /// How many calls it may have at the same time.
    pub limits: Limits,
    /// It neither takes nor makes calls.
    pub inactive: bool,
    /// What else its API keeps of it.
    pub other: Map<String, Value>,
}

/// A user name, and what digest authentication needs of its password (RFC 7616 §3.4.2), for one realm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// For `algorithm=MD5`.
    pub ha1_md5: String,
    /// For `algorithm=SHA-256`.
    pub ha1_sha256: String,
}

/// Which transfers a PBX may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transfers {
    /// None.
    #[default]
    Off,
    /// To SIP URIs that are no numbers.
    Sip,
    /// All.
    On,
}

/// What is recorded of a PBX's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// From when on; not at all when `None`.
    pub from: Option<RecordFrom>,
    /// Each party on a channel of its own.
    pub dual: bool,
    /// Without the silence at its ends.
    pub trim: bool,
}

/// When a recording begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordFrom {
    /// As soon as it rings.
    Ringing,
    /// Once it is answered.
    Answer,
}

/// Where a PBX is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origination {
    /// `sip:HOST[:PORT][;transport=...]`.
    pub uri: String,
    /// The lowest goes first.
    pub priority: u16,
    /// Among equals one goes first by chance, this often compared with the others.
    pub weight: u16,
    /// Whether it is called at all.
    pub enabled: bool,
}

/// All trunks of accounts, in memory. As many as there are in the database.
#[derive(Debug, Default)]
pub struct Pbxs(HashMap<u128, Known>);

#[derive(Debug)]
struct Known {
    row: Resource<Pbx>,
    originations: Vec<Origination>,
}

impl Pbxs {
    /// From the database.
    pub async fn load(store: &Store, connections: &Connections) -> Result<Self, StoreError> {
        let rows = resources::all(store, TRUNK).await?;
        let mut known: HashMap<_, _> =
            rows.into_iter().map(|row| (row.id, Known { row, originations: Vec::new() })).collect();
        for origination in resources::all(store, ORIGINATION).await? {
            let of = origination.parent.and_then(|id| known.get_mut(&id));
            if let Some(trunk) = of {
                trunk.originations.push(origination.details);
            }
        }
        let own = |(row, originations): (&Resource<Pbx>, _)| (row.id, Known { row: row.clone(), originations });
        known.extend(connections.trunks().map(own));
        Ok(Self(known))
    }

    /// A trunk, if it is the account's.
    pub fn get(&self, account: &str, id: u128) -> Option<&Pbx> {
        self.0.get(&id).filter(|known| known.row.account == account).map(|known| &known.row.details)
    }

    /// Whether the trunk of this name takes encrypted calls only.
    pub fn is_secure(&self, name: &str) -> bool {
        id(name).and_then(|id| self.0.get(&id)).is_some_and(|known| known.row.details.secure)
    }

    /// Whether the far end of a call over the trunk of this name may have it transferred to `uri`, as far as the trunk has a
    /// say in that.
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

    /// Where a call to `user` goes, the best way first; nowhere if the trunk is not the account's.
    pub fn originate(&self, account: &str, trunk: u128, user: &str, rng: &mut impl Rng) -> Vec<Outbound> {
        let Some(known) = self.0.get(&trunk).filter(|known| known.row.account == account) else { return Vec::new() };
        let enabled = known.originations.iter().filter(|one| one.enabled);
        let mut ways: Vec<_> = enabled.map(|one| (one.priority, lot(one.weight, rng), one)).collect();
        ways.sort_by(|(a, lot_a, _), (b, lot_b, _)| a.cmp(b).then(lot_a.total_cmp(lot_b)));
        ways.into_iter().take(MOST_TRIED).filter_map(|(_, _, one)| outbound(trunk, one, user)).collect()
    }
}

/// The name of a trunk, where trunks go by names.
pub fn name(id: u128) -> Arc<str> {
    format!("{PREFIX}{id:032x}").into()
}

/// The id of a trunk of an account; `None` if the name is one of the configuration.
pub fn id(name: &str) -> Option<u128> {
    u128::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()
}

/// The id of a trunk as applications spell it: 32 hex digits behind two letters.
pub fn spelled(text: &str) -> Option<u128> {
    let digits = text.get(2..).filter(|digits| digits.len() == 32)?;
    u128::from_str_radix(digits, 16).ok()
}

/// A call of a PBX to a number, over our trunks.
pub fn terminate(pbx: &Pbx, number: Address) -> Program {
    recorded(bridge_program(DialTarget::new(number), recording(pbx.record)), pbx.record)
}

/// A call to `user` to the PBX, and should nobody there answer, to its document.
pub fn originate(pbx: &Pbx, trunk: u128, user: &str) -> Program {
    // The host is that of whichever URI it is tried at.
    let to = match user.parse() {
        Ok(number) => Address::Phone(number),
        Err(_) => Address::Sip(format!("sip:{user}@pbx.invalid").into()),
    };
    let target = DialTarget { via: vec![name(trunk)], ..DialTarget::new(to) };
    let mut program = recorded(bridge_program(target, recording(pbx.record)), pbx.record);
    if let Some(url) = &pbx.recovery {
        for instruction in &mut program.instructions {
            if let Instruction::Dial(dial) = instruction {
                dial.pass_failure = false;
            }
        }
        let target = Target { url: Arc::clone(url), method: pbx.recovery_method };
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
    // `sip://host` is what applications write too.
    let uri = origination.uri.replacen("://", ":", 1);
    let settings = json!({ "name": name(trunk), "uri": uri });
    let settings: TrunkConfig = serde_json::from_value(settings).ok()?;
    Some(Outbound {
        request_uri: with_user(&uri, user),
        next_hop: Some(uri),
        from_host: None,
        credentials: None,
        trunk: Some(Arc::new(settings)),
        aor: None,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn known(originations: &[(&str, u16, u16, bool)]) -> Pbxs {
        let originations = originations
            .iter()
            .map(|&(uri, priority, weight, enabled)| Origination { uri: uri.into(), priority, weight, enabled })
            .collect();
        let row = Resource { id: 7, ..Resource::new("acme", "pbx", Pbx::default()) };
        Pbxs([(7, Known { row, originations })].into())
    }

    #[test]
    fn a_call_goes_to_the_lowest_priority_first_and_among_equals_by_weight() {
        let pbxs = known(&[
            ("sip:third.example", 20, 1, true),
            ("sip://first.example:5070;transport=tcp", 10, 9, true),
            ("sip:second.example", 10, 1, true),
            ("sip:never.example", 0, 1, false),
        ]);
        let mut rng = StdRng::seed_from_u64(1);
        let mut firsts = 0;
        for _ in 0..1_000 {
            let ways = pbxs.originate("acme", 7, "+15551230001", &mut rng);
            let uris: Vec<_> = ways.iter().map(|way| way.request_uri.as_str()).collect();
            assert_eq!(uris.len(), 3);
            assert_eq!(uris[2], "sip:+15551230001@third.example");
            firsts += usize::from(uris[0] == "sip:+15551230001@first.example:5070;transport=tcp");
        }
        assert!((850..950).contains(&firsts), "{firsts} of 1000, where 900 are to be expected");
        assert!(pbxs.originate("other", 7, "+1", &mut rng).is_empty(), "it is not theirs");
    }

    #[test]
    fn a_pbx_has_calls_transferred_as_its_trunk_allows() {
        let may = |transfers, uri: &str| {
            let mut pbxs = known(&[]);
            pbxs.0.get_mut(&7).unwrap().row.details.transfers = transfers;
            pbxs.may_transfer(&name(7), uri)
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
    fn a_trunks_name_is_told_from_those_of_the_configuration() {
        assert_eq!(id(&name(7)), Some(7));
        assert_eq!(id("carrier"), None);
    }

    #[test]
    fn what_nobody_answers_gets_the_document_and_recordings_are_as_wished() {
        let record = Record { from: Some(RecordFrom::Ringing), dual: true, trim: true };
        let pbx = Pbx { recovery: Some("http://app/".into()), record, ..Pbx::default() };
        let program = originate(&pbx, 7, "+15551230001");
        let [Instruction::Dial(dial), Instruction::Redirect(target)] = &program.instructions[..] else {
            panic!("{program:?}")
        };
        assert_eq!((&*target.url, dial.pass_failure, &*dial.targets[0].via[0]), ("http://app/", false, &*name(7)));
        let recorded = dial.record.as_ref().unwrap();
        assert!(recorded.from_ringing && recorded.spec.trim);
        let plain = originate(&Pbx::default(), 7, "100");
        let [Instruction::Dial(dial)] = &plain.instructions[..] else { panic!("{plain:?}") };
        assert!(dial.record.is_none() && dial.pass_failure);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_trunk_is_its_accounts_own() {
        tandem_store::testing::on_each_database(async |store| {
            let trunk = Resource { id: 2, ..Resource::new("acme", "pbx", Pbx::default()) };
            assert!(resources::put(&store, TRUNK, &trunk).await.unwrap());
            let pbxs = Pbxs::load(&store, &Connections::default()).await.unwrap();
            assert!(pbxs.get("acme", 2).is_some() && pbxs.get("other", 2).is_none());
        })
        .await;
    }
}
