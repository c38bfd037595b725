use rand::SeedableRng;
use rand::rngs::StdRng;
use tandem_id::AccountName;

use super::*;
use crate::flow::ConnectionId;
use crate::message::Contact;
use crate::testing::{change_name, instant};

struct Office {
    registrar: Registrar,
    rng: StdRng,
    now: Instant,
    cseq: u32,
}

impl Office {
    fn new(change: impl FnOnce(&mut RegistrarConfig)) -> Self {
        let mut config = RegistrarConfig::default();
        change(&mut config);
        Self { registrar: Registrar::new(config), rng: StdRng::from_seed([1; 32]), now: instant(), cseq: 0 }
    }

    fn register(&mut self, contacts: &[&str], expires: Option<u32>) -> Result<Vec<Change>, Refusal> {
        self.register_as("alice", contacts, expires, |_| {})
    }

    fn register_as(
        &mut self,
        user: &str,
        contacts: &[&str],
        expires: Option<u32>,
        change: impl FnOnce(&mut Register),
    ) -> Result<Vec<Change>, Refusal> {
        self.cseq += 1;
        let contacts = match contacts {
            ["*"] => Contacts::All,
            listed => Contacts::Listed(listed.iter().map(|text| Contact::parse(text.as_bytes()).unwrap()).collect()),
        };
        let mut register = Register {
            host: None,
            aor: aor(user),
            contacts,
            expires,
            path: Vec::new(),
            sip_call_id: "one".to_owned(),
            cseq: self.cseq,
            flow: flow("192.0.2.9:40000", Transport::Udp),
            local: "127.0.0.1:5060".parse().unwrap(),
            symmetric: false,
            user_agent: None,
        };
        change(&mut register);
        self.registrar.register(self.now, register, &mut self.rng)
    }

    /// Returns the contacts that calls to alice's bindings go to, in the order of the preference.
    fn reached(&self) -> Vec<String> {
        let mut entries: Vec<&Entry> = self.registrar.of(&aor("alice")).collect();
        entries.sort_by_key(|entry| Reverse(entry.preference()));
        let mut contacts = Vec::new();
        for entry in entries {
            let binding = BindingRef { aor: aor("alice"), id: entry.binding.id };
            let target = self.registrar.contact(self.now, &binding);
            contacts.extend(target.map(|target| target.contact).filter(|contact| !contacts.contains(contact)));
        }
        contacts
    }

    /// Returns the target of the user's only binding.
    fn target(&self, user: &str) -> ContactTarget {
        let id = self.registrar.of(&aor(user)).next().unwrap().binding.id;
        self.registrar.contact(self.now, &BindingRef { aor: aor(user), id }).unwrap()
    }

    fn bindings(&self) -> Vec<String> {
        self.registrar.contact_values(self.now, &aor("alice"), None)
    }
}

fn aor(user: &str) -> Aor {
    Aor { account: AccountName::new("acme"), username: user.into(), domain: None }
}

fn flow(peer: &str, transport: Transport) -> Flow {
    Flow {
        transport,
        peer: peer.parse().unwrap(),
        local: 0,
        connection: None,
        identity: None,
        pinned: true,
        secure: false,
    }
}

#[test]
fn contacts_are_bound_refreshed_listed_and_removed() {
    let mut office = Office::new(|_| {});
    office.register(&["<sip:a@192.0.2.1>;expires=600;q=0.5", "<sip:b@192.0.2.1>"], Some(1_200)).unwrap();
    assert_eq!(office.bindings(), ["<sip:a@192.0.2.1>;expires=600;q=0.500", "<sip:b@192.0.2.1>;expires=1200"]);
    assert_eq!(office.reached(), ["sip:b@192.0.2.1", "sip:a@192.0.2.1"]);
    office.now += Duration::from_secs(100);
    // This URI differs only in letter case (RFC 3261 §19.1.4).
    let changes = office.register(&["<SIP:b@192.0.2.1>"], Some(1_000)).unwrap();
    assert!(matches!(&changes[..], [Change::Refreshed(one)] if one.expires_in == Duration::from_secs(1_000)));
    assert_eq!(office.registrar.len(), 2);
    assert!(office.register(&[], None).unwrap().is_empty(), "a fetch changes nothing");
    let changes = office.register(&["<sip:a@192.0.2.1>;expires=0"], None).unwrap();
    assert!(matches!(&changes[..], [Change::Unbound(one)] if one.contact == "sip:a@192.0.2.1"));
    office.register(&["*"], Some(0)).unwrap();
    assert_eq!((office.registrar.len(), office.registrar.sources.len(), office.registrar.users.len()), (0, 0, 0));
}

#[test]
fn an_invalid_register_is_refused_and_changes_no_binding() {
    let mut office = Office::new(|config| config.max_contacts = 2);
    office.register(&["<sip:a@h>"], None).unwrap();
    assert_eq!(office.register(&["*"], None), Err(Refusal::Malformed("Contact * goes with Expires 0")));
    assert_eq!(office.register(&["<sip:b@h>", "<sip:c@h>;expires=59"], None), Err(Refusal::TooBrief(60)));
    assert_eq!(office.register(&["<tel:+1555>"], None), Err(Refusal::Malformed("Contact is no SIP URI")));
    assert_eq!(
        office.register(&["<sip:b@h>", "<sip:c@h>", "<sip:d@h>"], None),
        Err(Refusal::Malformed("Too many Contacts"))
    );
    assert_eq!(office.reached(), ["sip:a@h"]);
}

#[test]
fn an_older_request_of_the_same_call_id_is_refused_and_another_call_id_is_not_compared() {
    let mut office = Office::new(|_| {});
    office.register_as("alice", &["<sip:a@h>"], None, |one| one.cseq = 5).unwrap();
    let again = office.register_as("alice", &["<sip:a@h>"], None, |one| one.cseq = 5);
    assert_eq!(again, Err(Refusal::OutOfOrder));
    assert_eq!(office.register_as("alice", &["*"], Some(0), |one| one.cseq = 4), Err(Refusal::OutOfOrder));
    let rebooted = office.register_as("alice", &["<sip:a@h>"], None, |one| {
        (one.cseq, one.sip_call_id) = (1, "two".to_owned());
    });
    assert!(rebooted.is_ok());
    assert_eq!(office.registrar.len(), 1);
}

#[test]
fn a_binding_expires_and_gets_keep_alives_until_then() {
    let mut office = Office::new(|config| config.keep_alive_seconds = 25);
    office.register(&["<sip:a@10.0.0.1>"], Some(60)).unwrap();
    let (mut kept, mut over) = (0, 0);
    while let Some(at) = office.registrar.poll_timeout() {
        office.now = at;
        while let Some(due) = office.registrar.take_due(at) {
            match due {
                Due::KeepAlive(target) => {
                    assert_eq!(target.flow.peer, "192.0.2.9:40000".parse().unwrap());
                    kept += 1;
                }
                Due::Expired(change) => {
                    assert!(matches!(change, Change::Unbound(binding) if binding.expires_in.is_zero()));
                    over += 1;
                }
            }
        }
    }
    assert_eq!((kept, over, office.registrar.len()), (2, 1, 0));
}

#[test]
fn an_expired_binding_is_not_called_before_its_timer_fires() {
    let mut office = Office::new(|_| {});
    office.register(&["<sip:a@h>"], Some(60)).unwrap();
    office.now += Duration::from_secs(60);
    assert!(office.reached().is_empty() && office.bindings().is_empty());
    let changes = office.register(&[], None).unwrap();
    assert!(matches!(&changes[..], [Change::Unbound(_)]));
}

#[test]
fn a_phone_is_called_at_its_source_address_or_at_its_contact_if_the_hosts_are_equal() {
    let mut office = Office::new(|_| {});
    let mut reach = |user: &str, contact: &str, transport, symmetric| {
        let from = flow("192.0.2.9:40000", transport);
        office.register_as(user, &[contact], None, |one| (one.flow, one.symmetric) = (from, symmetric)).unwrap();
        office.target(user).flow.peer.to_string()
    };
    assert_eq!(reach("nat", "<sip:a@10.0.0.1:5060>", Transport::Udp, false), "192.0.2.9:40000");
    assert_eq!(reach("public", "<sip:a@192.0.2.9:5080>", Transport::Udp, false), "192.0.2.9:5080");
    assert_eq!(reach("rport", "<sip:a@192.0.2.9:5080>", Transport::Udp, true), "192.0.2.9:40000");
    assert_eq!(reach("name", "<sip:a@phone.invalid>", Transport::Udp, false), "192.0.2.9:40000");
    assert_eq!(reach("tcp", "<sip:a@192.0.2.9:5080;transport=tcp>", Transport::Tcp, false), "192.0.2.9:40000");
}

#[test]
fn a_phone_whose_connection_is_closed_is_called_at_its_contact() {
    let mut office = Office::new(|_| {});
    let connected = Flow { connection: Some(ConnectionId(7)), ..flow("192.0.2.9:40000", Transport::Tcp) };
    let contact = "<sip:a@192.0.2.9:5080;transport=tcp>";
    office.register_as("alice", &[contact], None, |one| one.flow = connected).unwrap();
    assert_eq!(office.target("alice").flow, connected);
    assert!(office.registrar.lose_connection(office.now, "192.0.2.9:40000".parse().unwrap()).is_empty());
    assert_eq!(office.target("alice").flow, Flow { connection: None, ..flow("192.0.2.9:5080", Transport::Tcp) });
}

#[test]
fn a_browser_whose_websocket_is_closed_is_no_longer_registered() {
    let mut office = Office::new(|_| {});
    let connected = Flow { connection: Some(ConnectionId(7)), ..flow("192.0.2.9:40000", Transport::Ws) };
    office.register_as("alice", &["<sip:a@browser.invalid;transport=ws>"], None, |one| one.flow = connected).unwrap();
    assert_eq!(office.reached().len(), 1);
    let changes = office.registrar.lose_connection(office.now, "192.0.2.9:40000".parse().unwrap());
    assert!(matches!(changes.as_slice(), [Change::Unbound(_)]), "{changes:?}");
    assert!(office.reached().is_empty());
    assert!(office.registrar.lose_connection(office.now, "192.0.2.9:40000".parse().unwrap()).is_empty());
}

#[test]
fn too_many_contacts_remove_the_oldest_contact_and_a_full_registrar_refuses_new_contacts() {
    let mut office = Office::new(|config| (config.max_contacts, config.max_bindings) = (2, 3));
    for contact in ["<sip:a@h>", "<sip:b@h>", "<sip:a@h>", "<sip:c@h>"] {
        office.now += Duration::from_secs(1);
        office.register(&[contact], None).unwrap();
    }
    assert_eq!(office.reached(), ["sip:c@h", "sip:a@h"]);
    office.register_as("bob", &["<sip:d@h>"], None, |_| {}).unwrap();
    assert_eq!(office.register_as("carol", &["<sip:e@h>"], None, |_| {}), Err(Refusal::Full));
    assert!(office.register(&["<sip:a@h>"], None).is_ok(), "what is there can be refreshed");
}

#[test]
fn a_phone_that_registers_from_another_address_replaces_its_binding() {
    let mut office = Office::new(|_| {});
    let contact = |port: u16| format!("<sip:a@10.0.0.1:{port}>;+sip.instance=\"<urn:uuid:1>\";reg-id=1");
    office.register(&[&contact(1_000)], None).unwrap();
    office.register(&[&contact(2_000)], None).unwrap();
    assert_eq!(office.reached(), ["sip:a@10.0.0.1:2000"]);
    assert_eq!(office.bindings(), ["<sip:a@10.0.0.1:2000>;expires=3600;+sip.instance=\"<urn:uuid:1>\";reg-id=1"]);
}

#[test]
fn a_phone_with_two_flows_is_called_over_the_open_flow() {
    let mut office = Office::new(|_| {});
    let contact = |number: u8| format!("<sip:a@10.0.0.1:{number}000>;+sip.instance=\"<urn:uuid:1>\";reg-id={number}");
    office.register(&["<sip:other@h>"], None).unwrap();
    for (number, source) in [(1, "192.0.2.1:1"), (2, "192.0.2.2:2")] {
        let over = |one: &mut Register| {
            one.flow = flow(source, Transport::Tcp);
            one.flow.connection = Some(crate::flow::ConnectionId(number.into()));
        };
        office.now += Duration::from_secs(1);
        office.register_as("alice", &[&contact(number)], None, over).unwrap();
    }
    assert_eq!(office.reached(), ["sip:a@10.0.0.1:2000", "sip:other@h"]);
    office.registrar.lose_connection(office.now, "192.0.2.2:2".parse().unwrap());
    assert_eq!(office.reached(), ["sip:a@10.0.0.1:1000", "sip:other@h"]);
}

#[test]
fn a_call_to_a_phone_follows_the_path_of_its_register() {
    let mut office = Office::new(|_| {});
    let path = vec!["<sip:edge.example;lr>".to_owned()];
    office.register_as("alice", &["<sip:a@10.0.0.1>"], None, |one| one.path = path).unwrap();
    let target = office.target("alice");
    assert_eq!(target.routes, [Bytes::from_static(b"<sip:edge.example;lr>")]);
    assert_eq!(target.flow.peer.to_string(), "192.0.2.9:40000");
}

#[test]
fn stored_bindings_are_restored_after_a_restart() {
    let mut office = Office::new(|_| {});
    office.register(&["<sip:a@10.0.0.1>"], Some(600)).unwrap();
    let refreshed = office.register(&["<sip:a@10.0.0.1>"], Some(600)).unwrap().remove(0);
    let Change::Refreshed(binding) = refreshed else { panic!() };
    let mut after = Office::new(|_| {});
    let change = after.registrar.restore(after.now, *binding, flow("192.0.2.9:40000", Transport::Udp));
    assert!(matches!(change, Some(Change::Restored(_))), "{change:?}");
    assert_eq!(after.bindings(), ["<sip:a@10.0.0.1>;expires=600"]);
    assert!(after.registrar.is_phone("192.0.2.9:40000".parse().unwrap(), &aor("alice")));
    assert!(!after.registrar.is_phone("192.0.2.9:40001".parse().unwrap(), &aor("alice")));
}

#[test]
fn a_gruu_leads_to_its_phone_at_any_address_until_the_phone_unregisters() {
    let mut office = Office::new(|_| {});
    let phone = |host: &str, instance: &str| format!("<sip:alice@{host}>;+sip.instance=\"<urn:uuid:{instance}>\"");
    office.register(&[&phone("192.0.2.1", "a"), &phone("192.0.2.2", "b"), "<sip:alice@192.0.2.3>"], None).unwrap();
    let described = office.registrar.contact_values(office.now, &aor("alice"), Some("sip:alice@tandem"));
    assert_eq!(
        described,
        [
            "<sip:alice@192.0.2.1>;expires=3600;+sip.instance=\"<urn:uuid:a>\";pub-gruu=\"sip:alice@tandem;gr=urn:uuid:a\"",
            "<sip:alice@192.0.2.2>;expires=3600;+sip.instance=\"<urn:uuid:b>\";pub-gruu=\"sip:alice@tandem;gr=urn:uuid:b\"",
            "<sip:alice@192.0.2.3>;expires=3600",
        ]
    );
    let reached = |office: &Office, gr: &str| {
        office.registrar.target_of_instance(office.now, &aor("alice"), gr).map(|target| target.contact)
    };
    assert_eq!(reached(&office, "URN:uuid:b").as_deref(), Some("sip:alice@192.0.2.2"));
    assert_eq!(reached(&office, "urn:uuid:c"), None);
    office.now += Duration::from_secs(1);
    office.register(&[&phone("192.0.2.9", "a")], None).unwrap();
    let newest = reached(&office, "urn:uuid:a");
    assert_eq!(newest.as_deref(), Some("sip:alice@192.0.2.9"), "the newest of two without a reg-id");
    assert_eq!(office.reached().len(), 4);
}

#[test]
fn a_gr_parameter_names_its_instance_in_any_case_of_letters() {
    let mut office = Office::new(|_| {});
    let contact = "<sip:alice@192.0.2.1>;+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\"";
    let changes = office.register(&[contact], None).unwrap();
    let [Change::Bound(binding)] = &changes[..] else { panic!("{changes:?}") };
    assert!(binding.is_of("URN:UUID:F81D4fae-7dec-11d0-a765-00a0c91e6bf6") && !binding.is_of("urn:uuid:f81d"));
}

#[test]
fn every_binding_of_a_user_counts_as_a_contact_at_its_address_until_it_expires() {
    let mut office = Office::new(|_| {});
    for (number, source) in [(1, "192.0.2.1:1"), (2, "192.0.2.2:2")] {
        let contact = format!("<sip:a@10.0.0.1>;+sip.instance=\"<urn:uuid:1>\";reg-id={number}");
        office.register_as("alice", &[&contact], Some(60), |one| one.flow = flow(source, Transport::Udp)).unwrap();
    }
    let is_at = |office: &Office, user: &str, ip: &str| {
        office.registrar.has_contact_at(office.now, &aor(user), ip.parse().unwrap())
    };
    assert!(is_at(&office, "alice", "192.0.2.1") && is_at(&office, "alice", "192.0.2.2"));
    assert!(!is_at(&office, "alice", "10.0.0.1") && !is_at(&office, "bob", "192.0.2.1"));
    office.now += Duration::from_secs(60);
    assert!(!is_at(&office, "alice", "192.0.2.1"));
}

#[test]
fn a_binding_is_called_over_the_open_flow_of_its_phone_until_the_binding_ends() {
    let mut office = Office::new(|_| {});
    let over =
        |connection: u64, peer: &str| Flow { connection: Some(ConnectionId(connection)), ..flow(peer, Transport::Tcp) };
    let mut bind = |contact: &str, flow: Flow| match office
        .register_as("alice", &[contact], None, |register| register.flow = flow)
        .as_deref()
    {
        Ok([Change::Bound(binding)]) => BindingRef { aor: aor("alice"), id: binding.id },
        other => panic!("{other:?}"),
    };
    let phone = "+sip.instance=\"<urn:uuid:1>\"";
    let first = bind(&format!("<sip:a@10.0.0.1>;{phone};reg-id=1"), over(1, "192.0.2.1:1"));
    let second = bind(&format!("<sip:a@10.0.0.1>;{phone};reg-id=2"), over(2, "192.0.2.1:2"));
    let other = bind("<sip:a@10.0.0.2>", over(3, "192.0.2.2:3"));
    office.registrar.lose_connection(office.now, "192.0.2.1:1".parse().unwrap());
    let port = |office: &Office, binding: &BindingRef| {
        office.registrar.contact(office.now, binding).map(|target| target.flow.peer.port())
    };
    assert_eq!([&first, &second, &other].map(|binding| port(&office, binding)), [Some(2), Some(2), Some(3)]);
    office.register(&["*"], Some(0)).unwrap();
    assert_eq!([&first, &other].map(|binding| port(&office, binding)), [None, None]);
    let of_bob = BindingRef { aor: aor("bob"), ..other };
    assert_eq!(port(&office, &of_bob), None);
}

#[test]
fn a_refreshed_binding_gets_no_more_keep_alives_than_another() {
    let mut office = Office::new(|config| config.keep_alive_seconds = 25);
    for _ in 0..5 {
        office.register(&["<sip:a@10.0.0.1>"], Some(3_600)).unwrap();
    }
    let mut kept = 0;
    let end = office.now + Duration::from_secs(100);
    while let Some(at) = office.registrar.poll_timeout().filter(|at| *at <= end) {
        office.now = at;
        while let Some(due) = office.registrar.take_due(at) {
            kept += u32::from(matches!(due, Due::KeepAlive(_)));
        }
    }
    assert_eq!(kept, 4);
}

/// Returns what another node has bound, with this Call-ID and CSeq.
fn foreign(id: u128, contact: &str, sip_call_id: &str, cseq: u32) -> Binding {
    Binding {
        id: BindingId(id),
        aor: aor("alice"),
        host: None,
        contact: contact.to_owned(),
        q: 1_000,
        path: Vec::new(),
        instance: None,
        sip_call_id: sip_call_id.to_owned(),
        cseq,
        source: "192.0.2.9:40000".parse().unwrap(),
        direct: None,
        local: "10.0.0.1:5060".parse().unwrap(),
        transport: Transport::Udp,
        user_agent: None,
        expires_in: Duration::from_secs(600),
    }
}

fn learn(office: &mut Office, binding: Binding) -> Vec<&'static str> {
    let (route, to_node) = (Bytes::from_static(b"<sip:node;lr>"), flow("10.0.0.1:5060", Transport::Udp));
    names(&office.registrar.learn(office.now, binding, to_node, Some(route)))
}

fn names(changes: &[Change]) -> Vec<&'static str> {
    changes.iter().map(change_name).collect()
}

#[test]
fn a_foreign_binding_is_called_through_its_node_and_forgotten_by_its_id() {
    let mut office = Office::new(|_| {});
    assert_eq!(learn(&mut office, foreign(1, "sip:a@10.9.9.9", "one", 1)), ["learned"]);
    let target = office.target("alice");
    assert_eq!((target.flow.peer.to_string().as_str(), target.routes.len()), ("10.0.0.1:5060", 1));
    let registrar = &office.registrar;
    assert!(registrar.has_contact_at(office.now, &aor("alice"), "192.0.2.9".parse().unwrap()));
    assert!(!registrar.is_source("192.0.2.9:40000".parse().unwrap()), "the phone has proved nothing here");
    assert_eq!((registrar.own(), registrar.len()), (0, 1));
    assert!(office.registrar.forget(office.now, BindingId(2)).is_none());
    assert!(matches!(office.registrar.forget(office.now, BindingId(1)), Some(Change::Forgotten(_))));
    assert_eq!((office.registrar.own(), office.registrar.len()), (0, 0));
}

#[test]
fn a_phone_that_registers_here_takes_its_foreign_binding_with_it() {
    let mut office = Office::new(|_| {});
    learn(&mut office, foreign(1, "sip:a@10.9.9.9", "one", 1));
    office.cseq = 1;
    let changes = office.register(&["<sip:a@10.9.9.9>"], None).unwrap();
    assert!(matches!(&changes[..], [Change::Refreshed(one)] if one.id == BindingId(1)));
    assert!(office.registrar.forget(office.now, BindingId(1)).is_none(), "it is an own binding now");
    assert_eq!(learn(&mut office, foreign(1, "sip:a@10.9.9.9", "one", 2)), [""; 0], "the same REGISTER");
    assert_eq!(learn(&mut office, foreign(1, "sip:a@10.9.9.9", "one", 3)), ["learned"]);
    assert!(!office.registrar.is_source("192.0.2.9:40000".parse().unwrap()));
    assert_eq!(learn(&mut office, foreign(1, "sip:a@10.9.9.9", "one", 2)), [""; 0], "an older REGISTER");
    assert_eq!(office.registrar.len(), 1);
}

#[test]
fn the_later_of_two_registrations_of_a_contact_at_two_nodes_remains() {
    let mut office = Office::new(|_| {});
    office.register(&["<sip:a@10.9.9.9>"], None).unwrap();
    assert_eq!(learn(&mut office, foreign(1, "sip:a@10.9.9.9", "one", 5)), ["unbound", "learned"]);
    assert_eq!(learn(&mut office, foreign(2, "sip:a@10.9.9.9", "one", 4)), [""; 0]);
    assert_eq!(office.registrar.len(), 1);
    // After a restart, a phone counts from 1 with another Call-ID. Nobody knows which REGISTER was the later one.
    assert_eq!(learn(&mut office, foreign(3, "sip:a@10.9.9.9", "two", 1)), ["learned"]);
    assert_eq!(office.registrar.len(), 2);
}

#[test]
fn foreign_bindings_have_the_limits_of_own_bindings() {
    let mut office = Office::new(|config| (config.max_contacts, config.max_bindings) = (2, 3));
    for (id, expected) in [(1, vec!["learned"]), (2, vec!["learned"]), (3, vec!["learned", "forgotten"])] {
        office.now += Duration::from_secs(1);
        assert_eq!(learn(&mut office, foreign(id, &format!("sip:{id}@10.9.9.9"), "one", 1)), expected);
    }
    office.register_as("bob", &["<sip:d@h>"], None, |_| {}).unwrap();
    assert_eq!(learn(&mut office, foreign(4, "sip:4@10.9.9.9", "one", 1)), [""; 0]);
    assert_eq!(learn(&mut office, foreign(3, "sip:3@10.9.9.9", "one", 2)), ["learned"], "a known one has its place");
    let expired = Binding { expires_in: Duration::ZERO, ..foreign(3, "sip:3@10.9.9.9", "one", 3) };
    assert_eq!(learn(&mut office, expired), [""; 0]);
}
