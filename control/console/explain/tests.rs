//! Tests of explanations, without a server.

use tandem_settings::{EndpointConfig, NumberConfig};
use tandem_sip as sip;
use tandem_store::Store;

use super::*;

const HERE: &str = "pbx.example";

/// A server with two phones of acme, of which alice may call over trunks, a carrier and a PBX that may call phones.
async fn routing(directory: &std::path::Path, strict: bool) -> Routing {
    let endpoint = |name: &str, more: serde_json::Value| -> EndpointConfig {
        let mut all = serde_json::json!({ "account": "acme", "username": name, "password": "change-me-please" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    };
    let alice = serde_json::json!({ "outbound": true, "caller_id": "+15551230001" });
    let endpoints = vec![endpoint("alice", alice), endpoint("bob", serde_json::json!({}))];
    let registrar = sip::RegistrarConfig { domains: vec![HERE.to_owned()], ..sip::RegistrarConfig::default() };
    let phones =
        tandem_routing::phones::Phones::new(&registrar, &sip::Advertise::default(), endpoints, Default::default());
    let store = Store::open(&format!("sqlite:{}/tandem.db", directory.display())).await.unwrap();
    phones.load(&store).await.unwrap();
    let trunk = |json: serde_json::Value| serde_json::from_value::<TrunkConfig>(json).unwrap();
    let trunks = vec![
        trunk(serde_json::json!({ "name": "carrier", "uri": "sip:192.0.2.1", "prefixes": ["+"] })),
        trunk(
            serde_json::json!({ "name": "desk", "account": "acme", "phones": true, "inbound_from": ["192.0.2.9/32"] }),
        ),
    ];
    let number: NumberConfig =
        serde_json::from_value(serde_json::json!({ "number": "804", "account": "acme", "voice_url": "http://app/" }))
            .unwrap();
    Routing::new(vec![number], Arc::default(), trunks, |_| None)
        .with_phones(Arc::new(phones))
        .with_strict_callers(strict)
}

/// Returns the outcomes of a call, as an operator sees them. The phone bob is registered.
fn explained(routing: &Routing, from: &str, to: &str) -> Vec<Outcome> {
    let origins = origins(routing, &|_| true, &AccountName::new("acme"), (from, to));
    let view = View {
        routing,
        health: &|_| Health::Up,
        rings: &|user, _| &*user.name == "bob",
        is_page: &|_| false,
        is_active: &|_| true,
        sees: &|_| true,
        is_operator: true,
        is_detailed: origins.len() == 1,
    };
    outcomes(&view, &origins, (from, to))
}

fn of<'a>(outcomes: &'a [Outcome], caller: &str) -> &'a Outcome {
    outcomes.iter().find(|one| one.callers.iter().any(|name| name.starts_with(caller))).unwrap()
}

fn text(outcome: &Outcome) -> String {
    serde_json::to_string(outcome).unwrap()
}

#[tokio::test]
async fn a_phone_with_outbound_calls_over_the_trunk_with_its_caller_id() {
    let directory = tempfile::tempdir().unwrap();
    let routing = routing(directory.path(), false).await;
    let [alice] = &*explained(&routing, "alice", "+442071234567") else { panic!() };
    assert!(alice.ok && alice.callers == ["phone alice of account acme"], "{alice:?}");
    assert!(text(alice).contains("over trunk carrier (up)") && text(alice).contains("+15551230001"), "{alice:?}");
    let [bob] = &*explained(&routing, "bob", "+442071234567") else { panic!() };
    assert!(!bob.ok && bob.status == Some(403) && text(bob).contains("outbound = true"), "{bob:?}");
}

#[tokio::test]
async fn a_caller_id_that_the_account_may_not_show_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let routing = routing(directory.path(), true).await;
    let [alice] = &*explained(&routing, "alice", "+442071234567") else { panic!() };
    assert!(!alice.ok && text(alice).contains("strict_caller_id"), "{alice:?}");
}

#[tokio::test]
async fn the_name_of_a_phone_rings_this_phone_for_those_who_may_call_it() {
    let directory = tempfile::tempdir().unwrap();
    let routing = routing(directory.path(), false).await;
    for to in ["bob", "client:bob", "sip:bob@pbx.example"] {
        let [alice] = &*explained(&routing, "alice", to) else { panic!() };
        assert!(alice.ok && alice.goes_to.as_ref().unwrap().text == "phone bob (registered)", "{to}: {alice:?}");
    }
    let all = explained(&routing, "", "bob");
    let [machine, desk, carrier] = ["this machine", "trunk desk", "trunk carrier"].map(|name| of(&all, name));
    assert!(machine.ok && desk.ok, "{all:?}");
    assert!(!carrier.ok && carrier.status == Some(404) && text(carrier).contains("phones = true"), "{carrier:?}");
    assert!(!text(carrier).contains("[[numbers]]"), "{carrier:?}");
    let [bob] = &*explained(&routing, "bob", "alice") else { panic!() };
    assert_eq!((bob.ok, bob.status), (false, Some(480)), "alice is not registered: {bob:?}");
}

#[tokio::test]
async fn callers_with_different_outcomes_are_apart_if_no_caller_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let routing = routing(directory.path(), false).await;
    let all = explained(&routing, "+15550109999", "804");
    assert_eq!(all.len(), 2, "{all:?}");
    let (taken, other) = (of(&all, "trunk carrier"), of(&all, "any other address"));
    assert!(taken.ok && taken.callers.len() == 5, "{taken:?}");
    assert_eq!((other.ok, other.status), (false, Some(401)));
    let unknown = explained(&routing, "alicia", "804");
    assert_eq!(unknown[0].callers, ["a phone with the name alicia"]);
    assert!(!unknown[0].ok && unknown.len() == 3);
}
