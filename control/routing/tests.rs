//! Tests of routing by numbers, by trunks, and by resources that applications created by REST.

use rand::SeedableRng;
use rand::rngs::StdRng;
use tandem_call::address::Address;
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::LegOwner;
use tandem_call::program::instruction::Instruction;
use tandem_call::route::Decision;
use tandem_id::{AccountName, CallId, LegId};
use tandem_leg::signal::{Caller, Identity, IncomingCall};
use tandem_media as media;
use tandem_store::Store;
use tandem_store::resources::Resource;

use super::*;
use crate::inventory::{Number, Voice, VoiceApplication};
use crate::trunk::numbering::Numbering;

#[test]
fn a_trunks_uri_takes_the_dialled_number_as_its_user() {
    assert_eq!(
        with_user("sip:10.0.0.1:5070;transport=tcp", "+15551230001"),
        "sip:+15551230001@10.0.0.1:5070;transport=tcp"
    );
    assert_eq!(with_user("sip:pbx@host", "100"), "sip:100@host");
    assert_eq!(with_user("sip:host", "+1800#1"), "sip:+1800%231@host");
    assert_eq!(with_user("sip:host", "+1800%23"), "sip:+1800%2523@host");
    assert_eq!(with_user("sip:host", "a@b c"), "sip:a%40b%20c@host");
}

#[tokio::test]
async fn the_account_of_a_number_overrides_its_configured_route() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
    let inventory = Arc::new(Inventory::default());
    let number = |number: &str, account: &str| {
        let number = serde_json::json!({ "number": number, "account": account, "voice_url": "http://file/" });
        serde_json::from_value::<NumberConfig>(number).unwrap()
    };
    let routing = Routing::new(
        vec![number("+15551230001", "acme"), number("+15551230003", "other"), number("+15552220*", "other")],
        Arc::default(),
        Vec::new(),
        |_| None,
    );
    let routing = routing.with_inventory(Arc::clone(&inventory), NumberPool::default());
    let route_of = |routing: &Routing, user: &str| match routing.inbound(None, user)?.decision {
        Decision::Document { target, .. } => Some(target.url.to_string()),
        Decision::Reject(reason) => Some(format!("{reason:?}")),
        _ => None,
    };
    let hold = async |number: &str, details: Number| {
        inventory.numbers.put(&store, Resource::new(&AccountName::new("acme"), number, details)).await.unwrap().id
    };
    let voice = |url: &str| Voice { url: Some(url.into()), ..Voice::default() };
    let at = |url: &str| Number { dialect: "twilio".into(), voice: voice(url), ..Number::default() };

    assert_eq!(route_of(&routing, "+15551230001").as_deref(), Some("http://file/"));
    assert_eq!(route_of(&routing, "+15551230002"), None);
    hold("+15551230002", at("http://rest/")).await;
    assert_eq!(route_of(&routing, "+15551230002").as_deref(), Some("http://rest/"));
    let renamed = Number { friendly_name: "main".into(), ..Number::default() };
    let changed = hold("+15551230001", renamed).await;
    assert_eq!(route_of(&routing, "+15551230001").as_deref(), Some("http://file/"), "only its name was changed");
    inventory.numbers.delete(&store, &AccountName::new("acme"), changed).await.unwrap();
    hold("+15551230001", at("http://rest/")).await;
    assert_eq!(route_of(&routing, "+15551230001").as_deref(), Some("http://rest/"));
    hold("+15551230003", at("http://rest/")).await;
    assert_eq!(route_of(&routing, "+15551230003").as_deref(), Some("http://file/"), "the file says whose it is");
    hold("+15551230004", Number { application: Some("AP1".into()), ..at("http://rest/") }).await;
    assert_eq!(route_of(&routing, "+15551230004").as_deref(), Some("Status(404)"), "its application is gone");
    let details = VoiceApplication {
        id: "AP1".into(),
        dialect: "twilio".into(),
        voice: voice("http://app/"),
        ..VoiceApplication::default()
    };
    inventory.applications.put(&store, Resource::new(&AccountName::new("acme"), "app", details)).await.unwrap();
    assert_eq!(route_of(&routing, "+15551230004").as_deref(), Some("http://app/"));
    hold("+15551230005", Number::default()).await;
    assert_eq!(route_of(&routing, "+15551230005").as_deref(), Some("Status(404)"), "nobody decides about it");

    hold("+15552220001", at("http://rest/")).await;
    assert_eq!(route_of(&routing, "+15552220001").as_deref(), Some("http://file/"), "of another account's block");
    assert!(
        routing.is_taken(&AccountName::new("acme"), "+15552220002")
            && !routing.is_taken(&AccountName::new("other"), "+15552220002")
    );

    let from = |number: &str| {
        routing.clone().with_strict_callers(true).may_call_from(&AccountName::new("acme"), &number.into())
    };
    assert!(from("+15551230001") && from("+15551230005") && from("client:alice"));
    assert!(!from("+15551230003") && !from("+15559999999"));
    assert!(routing.may_call_from(&AccountName::new("acme"), &"+15559999999".into()));
    let strict = routing.clone().with_strict_callers(true);
    for (name, is_refused) in [
        ("P-Asserted-Identity", true),
        ("p-preferred-identity", true),
        ("Remote-Party-ID", true),
        ("Diversion", true),
        ("History-Info", true),
        ("Identity", true),
        ("y", true),
        ("P-Charging-Vector", true),
        ("X-P-Asserted-Identity", false),
        ("User-to-User", false),
        ("Privacy", false),
        ("Referred-By", false),
    ] {
        let headers =
            [("X-Order".to_owned(), "7".to_owned()), (name.to_owned(), "<sip:+15559999999@h>".to_owned())].into();
        assert_eq!(strict.refused_header(&headers), is_refused.then_some(name));
        assert_eq!(routing.refused_header(&headers), None);
    }
    assert!(routing.number_id(&AccountName::new("acme"), &"+15551230001".into()).is_some());
    assert_eq!(routing.number_id(&AccountName::new("other"), &"+15551230001".into()), None);
}

#[test]
fn a_trunk_may_have_its_own_codecs() {
    let trunk = |name: &str, codecs: &[&str]| {
        serde_json::from_value(serde_json::json!({ "name": name, "uri": "sip:h", "codecs": codecs })).unwrap()
    };
    let trunks = vec![trunk("wide", &["g722", "PCMA"]), trunk("plain", &[])];
    let routing = Routing::new(Vec::new(), Arc::default(), trunks, |_| None);
    assert_eq!(routing.codecs(Some("wide")), [media::Codec::G722, media::Codec::Pcma]);
    assert_eq!((routing.codecs(Some("plain")), routing.codecs(None)), (vec![], vec![]));
}

#[test]
fn a_call_uses_the_trunk_of_the_given_id_if_the_account_owns_it() {
    let id = |last: u8| format!("BY{last:032x}");
    let trunks = [
        serde_json::json!({ "name": "usual", "uri": "sip:usual", "prefixes": ["+"] }),
        serde_json::json!({ "name": "own", "uri": "sip:own", "byoc": id(1), "account": "acme" }),
        serde_json::json!({ "name": "theirs", "uri": "sip:theirs", "byoc": id(2), "account": "other" }),
    ];
    let routing = routing(&trunks);
    let over = |via: &str| {
        let (via, to) = ([Arc::from(via)], Address::from("+15551230001"));
        let routes = routing.outbound(
            &AccountName::new("acme"),
            &to,
            &via,
            |_| sip::Health::Up,
            &mut StdRng::from_seed([1; 32]),
        );
        routes.first().map(|route| route.request_uri.clone())
    };
    assert_eq!(over(&id(1)).as_deref(), Some("sip:+15551230001@own"));
    assert_eq!((over(&id(2)), over(&id(3))), (None, None));
}

#[test]
fn an_id_of_a_trunk_is_never_the_name_of_a_trunk() {
    let id = format!("BY{:032x}", 7);
    let routing = routing(&[serde_json::json!({ "name": id, "uri": "sip:theirs", "account": "other" })]);
    let via = [Arc::from(&*id)];
    let to = Address::from("+15551230001");
    assert!(
        routing
            .outbound(&AccountName::new("acme"), &to, &via, |_| sip::Health::Up, &mut StdRng::from_seed([1; 32]))
            .is_empty()
    );
}

#[tokio::test]
async fn a_number_of_another_account_outside_of_the_pool_does_not_divert_calls_from_the_carrier() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
    let inventory = Arc::new(Inventory::default());
    let voice = Voice { url: Some("http://taker/".into()), ..Voice::default() };
    let details = Number { dialect: "twilio".into(), voice, ..Number::default() };
    inventory.numbers.put(&store, Resource::new(&AccountName::new("taker"), "+15551230001", details)).await.unwrap();
    let reaches = |trunks: &[serde_json::Value], pool: serde_json::Value, account: &str| {
        let pool = NumberPool::new(serde_json::from_value(pool).unwrap());
        let routing = routing(trunks).with_inventory(Arc::clone(&inventory), pool);
        routing.own(&AccountName::new(account), "twilio", &Address::from("+15551230001"), &[]).is_some()
    };
    let carrier = [trunk("carrier", &["+"], 0, 1)];
    let pool = || serde_json::json!([{ "number": "+15551230001" }]);
    let nothing = || serde_json::json!([]);
    assert!(!reaches(&carrier, nothing(), "caller") && reaches(&carrier, nothing(), "taker"));
    assert!(reaches(&carrier, pool(), "caller"), "the operator offers the number");
    assert!(reaches(&[], nothing(), "caller"), "there is no carrier");
    assert!(reaches(&[trunk("german", &["+49"], 0, 1)], nothing(), "caller"), "no carrier takes it");
}

fn outbound(routing: &Routing, to: &Address) -> Vec<Outbound> {
    routing.outbound(&AccountName::new("acme"), to, &[], |_| sip::Health::Up, &mut StdRng::from_seed([1; 32]))
}

fn routing(trunks: &[serde_json::Value]) -> Routing {
    let trunks = trunks.iter().map(|trunk| serde_json::from_value(trunk.clone()).unwrap()).collect();
    Routing::new(Vec::new(), Arc::default(), trunks, |_| None)
}

fn trunk(name: &str, prefixes: &[&str], priority: u16, weight: u16) -> serde_json::Value {
    serde_json::json!({
        "name": name, "uri": format!("sip:{name}"), "prefixes": prefixes, "priority": priority, "weight": weight
    })
}

fn names(routes: &[Outbound]) -> Vec<&str> {
    routes.iter().filter_map(|route| Some(&*route.trunk.as_ref()?.name)).collect()
}

#[test]
fn trunks_are_ordered_by_the_longest_prefix_and_then_by_priority() {
    let mut theirs = trunk("theirs", &["+"], 0, 1);
    theirs["account"] = "other".into();
    let routing = routing(&[
        trunk("second", &["+"], 2, 1),
        trunk("first", &["+", "0"], 1, 1),
        trunk("berlin", &["+4930", "+49"], 9, 1),
        trunk("pbx", &["1"], 0, 1),
        theirs,
    ]);
    let to = |number: &str| Address::from(number);
    assert_eq!(names(&outbound(&routing, &to("+493012345678"))), ["berlin", "first", "second"]);
    assert_eq!(names(&outbound(&routing, &to("+15551230001"))), ["first", "second"]);
    assert_eq!(names(&outbound(&routing, &to("100"))), ["pbx"]);
    assert!(outbound(&routing, &to("200")).is_empty());
}

#[test]
fn unhealthy_trunks_are_tried_last() {
    let routing = routing(&[trunk("a", &["+1"], 0, 1), trunk("b", &["+"], 0, 1), trunk("c", &["+"], 1, 1)]);
    let health = |name: &str| match name {
        "a" => sip::Health::Down,
        "b" => sip::Health::Doubtful,
        _ => sip::Health::Up,
    };
    let routes = routing.outbound(
        &AccountName::new("acme"),
        &"+15551230001".into(),
        &[],
        health,
        &mut StdRng::from_seed([1; 32]),
    );
    assert_eq!(names(&routes), ["c", "b", "a"]);
}

#[test]
fn a_bridge_uses_its_trunks_in_order_with_healthy_ones_first() {
    let mut national = trunk("national", &[], 0, 1);
    national["number_format"] = "national".into();
    national["country_code"] = "49".into();
    let number = |bridge: serde_json::Value| {
        let number = serde_json::json!({ "number": "*", "account": "acme", "bridge": bridge });
        serde_json::from_value::<NumberConfig>(number).unwrap()
    };
    let trunks = [trunk("a", &["+49"], 0, 1), national, trunk("c", &["+"], 1, 1)];
    let uris = |bridge: serde_json::Value, user: &str, down: &str| {
        let trunks = trunks.iter().map(|trunk| serde_json::from_value(trunk.clone()).unwrap()).collect();
        let routing = Routing::new(vec![number(bridge)], Arc::default(), trunks, |_| None);
        let Some(Decision::Program(program)) = routing.inbound(None, user).map(|route| route.decision) else {
            panic!()
        };
        let Some(Instruction::Dial(dial)) = program.instructions.first() else { panic!() };
        let health = |name: &str| if name == down { sip::Health::Down } else { sip::Health::Up };
        let (to, via) = (&dial.targets[0].to, &dial.targets[0].via);
        let routes = routing.outbound(&AccountName::new("acme"), to, via, health, &mut StdRng::from_seed([1; 32]));
        routes.into_iter().map(|route| route.request_uri).collect::<Vec<_>>()
    };
    let list = serde_json::json!(["trunk:national", "trunk:a"]);
    assert_eq!(uris(list.clone(), "+493012345678", ""), ["sip:03012345678@national", "sip:+493012345678@a"]);
    assert_eq!(uris(list.clone(), "+493012345678", "national"), ["sip:+493012345678@a", "sip:03012345678@national"]);
    assert_eq!(uris(list.clone(), "front-desk", ""), ["sip:front-desk@national", "sip:front-desk@a"]);
    // The called users are `+1800%231`, `+1800%2523` and `j%c3%b6rg%40x` in the INVITE.
    assert_eq!(uris(list.clone(), "+1800#1", ""), ["sip:+1800%231@national", "sip:+1800%231@a"]);
    assert_eq!(uris(list.clone(), "+1800%23", ""), ["sip:+1800%2523@national", "sip:+1800%2523@a"]);
    assert_eq!(uris(list, "jörg@x", ""), ["sip:j%C3%B6rg%40x@national", "sip:j%C3%B6rg%40x@a"]);
    assert_eq!(uris("sip:{number}@host".into(), "+1800#1", ""), ["sip:+1800%231@host"]);
    assert_eq!(uris("sip:{number}@host".into(), "+1800%23", ""), ["sip:+1800%2523@host"]);
    assert_eq!(uris("trunk:c".into(), "100", ""), ["sip:100@c"]);
    assert_eq!(uris("trunk:*".into(), "+493012345678", ""), ["sip:+493012345678@a", "sip:+493012345678@c"]);
}

#[test]
fn trunks_of_equal_priority_share_calls_by_weight() {
    let routing = routing(&[trunk("heavy", &["+"], 0, 30), trunk("light", &["+"], 0, 10)]);
    let mut rng = StdRng::from_seed([5; 32]);
    let mut heavy = 0;
    for _ in 0..4_000 {
        let routes =
            routing.outbound(&AccountName::new("acme"), &"+15551230001".into(), &[], |_| sip::Health::Up, &mut rng);
        assert_eq!(routes.len(), 2);
        heavy += usize::from(names(&routes)[0] == "heavy");
    }
    assert!((2_900..3_100).contains(&heavy), "{heavy} of 4000");
}

#[test]
fn each_trunk_gets_numbers_in_its_format() {
    let mut national = trunk("national", &["+"], 0, 1);
    national["number_format"] = "national".into();
    national["country_code"] = "49".into();
    let mut digits = trunk("digits", &["+"], 1, 1);
    digits["number_format"] = "digits".into();
    let routing = routing(&[national, digits]);
    let uris: Vec<_> = outbound(&routing, &"+493012345678".into()).into_iter().map(|route| route.request_uri).collect();
    assert_eq!(uris, ["sip:03012345678@national", "sip:493012345678@digits"]);
}

#[test]
fn a_call_to_a_trunks_own_uri_is_a_call_over_that_trunk() {
    let trunk = serde_json::json!({ "name": "pbx", "uri": "sip:10.0.0.1:5070" });
    let trunks = vec![serde_json::from_value(trunk).unwrap()];
    let routing = Routing::new(Vec::new(), Arc::default(), trunks, |_| None);
    let trunk =
        |uri: &str| outbound(&routing, &Address::Sip(uri.into())).remove(0).trunk.map(|trunk| trunk.name.clone());
    for user in ["100", "%31%30%30", "*21%23", "%2a21#"] {
        assert_eq!(trunk(&format!("sip:{user}@10.0.0.1:5070")).as_deref(), Some("pbx"), "{user}");
    }
    assert_eq!(trunk("sip:100@10.0.0.2:5070"), None);
}

#[test]
fn an_unknown_number_is_reported_with_the_nearest_known_number_and_a_remedy() {
    let number = |number: &str| {
        serde_json::from_value(serde_json::json!({ "number": number, "account": "acme", "twiml": "<Response/>" }))
            .unwrap()
    };
    let numbers = ["+15551230001", "+15559990001", "100"].map(number).into();
    let routing = Routing::new(numbers, Arc::default(), Vec::new(), |_| None);
    let unknown = |called: &str| routing.unknown_number(Some("carrier"), called);
    let entry = |called: &str| {
        format!(
            "To take the call, add a [[numbers]] entry with these three keys: number = \"{called}\", account = \"acme\", \
             voice_url = \"http://127.0.0.1:5000/voice\"."
        )
    };
    let unknown_number = unknown("15551230001");
    assert_eq!(unknown_number.why, "no account has this number, but +15551230001 is known");
    let remedy =
        "Trunk \"carrier\" sends +15551230001 without \"+\": set inbound_add_prefix = \"+\" in its [[trunks]] entry.";
    assert_eq!(unknown_number.remedy, remedy);
    assert_eq!(routing.unknown_number(None, "15551230001").remedy, "The caller has to dial +15551230001.");
    for called in ["0015551230001", "+15551230002"] {
        assert_eq!(unknown(called).why, "no account has this number, but +15551230001 is known");
        assert_eq!(unknown(called).remedy, entry(called));
    }
    assert_eq!(unknown("101").why, "no account has this number, but 100 is known");
    assert_eq!(unknown("+4930123").why, "no account has this number");
    assert!(unknown("+4930123").remedy.contains("account = \"NAME\""), "there is none to take");
}

#[test]
fn the_prefix_of_the_remedy_makes_the_number_known() {
    let mut trunk = trunk("carrier", &[], 1, 1);
    trunk["inbound_add_prefix"] = "+".into();
    let numbering = Numbering::of(&serde_json::from_value(trunk).unwrap());
    assert_eq!(numbering.called_in("15551230001"), "+15551230001");
}

#[test]
fn numbers_of_the_server_are_called_internally_unless_they_are_bridged() {
    let number = |number: &str, account: &str, more: serde_json::Value| {
        let mut value = serde_json::json!({ "number": number, "account": account });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<NumberConfig>(value).unwrap()
    };
    let url = || serde_json::json!({ "voice_url": "http://file/" });
    let bridge = |to: &str| serde_json::json!({ "bridge": to });
    let numbers = vec![
        number("+15551230001", "acme", url()),
        number("+15551230002", "other", url()),
        number("+15551239*", "acme", url()),
        number("+155512399*", "acme", bridge("trunk:usual")),
        number("+1777*", "acme", bridge("trunk:usual")),
        number("+15551230003", "acme", bridge("sip:{number}@pbx.example")),
        number("+15551230004", "acme", bridge("trunk:*")),
        number("100", "acme", url()),
        number("200", "other", url()),
    ];
    let trunk =
        serde_json::from_value(serde_json::json!({ "name": "usual", "uri": "sip:h", "prefixes": ["+"] })).unwrap();
    let routing = Routing::new(numbers, Arc::default(), vec![trunk], |_| None);
    let owner = |to: &str| {
        let own = routing.own(&AccountName::new("acme"), "twilio", &Address::from(to), &[])?;
        assert_eq!(own.called, Address::from(to));
        Some(own.route.owner.account.to_string())
    };
    for (to, account) in [
        ("+15551230001", Some("acme")),
        ("+15551230002", Some("other")),
        ("+15551239123", Some("acme")),
        ("+15551239912", None),
        ("+17775550001", None),
        ("+15551230003", Some("acme")),
        ("+15551230004", None),
        ("100", Some("acme")),
        ("200", None),
        ("+15559999999", None),
        ("client:alice", None),
        ("sip:+15551230001@elsewhere.example", None),
    ] {
        assert_eq!(owner(to).as_deref(), account, "{to}");
    }
    let chosen = [Arc::from("usual")];
    assert_eq!(
        routing.own(&AccountName::new("acme"), "twilio", &Address::from("+15551230001"), &chosen),
        None,
        "over a chosen trunk"
    );
}

#[test]
fn a_caller_id_is_owned_tolerated_or_refused() {
    let number = serde_json::json!({ "number": "+15551230001", "account": "acme", "voice_url": "http://file/" });
    let routing = Routing::new(vec![serde_json::from_value(number).unwrap()], Arc::default(), Vec::new(), |_| None);
    let strict = routing.clone().with_strict_callers(true);
    let check = |routing: &Routing, from: &str| routing.caller(&AccountName::new("acme"), &Address::from(from));
    assert_eq!(check(&strict, "+15551230001"), CallerIdCheck::Own);
    assert_eq!(check(&strict, "client:alice"), CallerIdCheck::Own);
    assert_eq!(check(&strict, "+15559999999"), CallerIdCheck::Refused);
    assert_eq!(check(&routing, "+15559999999"), CallerIdCheck::Tolerated);
}

#[test]
fn a_uri_with_an_ip_address_as_host_has_this_address() {
    for (uri, address) in [
        ("sip:192.0.2.1", Some("192.0.2.1")),
        ("sip:+1555@192.0.2.1:5080;transport=tcp", Some("192.0.2.1")),
        ("sips:bob@[2001:db8::1]:5061;lr", Some("2001:db8::1")),
        ("sip:[::1]", Some("::1")),
        ("sip:bob@pbx.example:5060", None),
        ("sip:bob", None),
        ("", None),
    ] {
        assert_eq!(address_in(uri), address.map(|address| address.parse().unwrap()), "{uri}");
    }
}

#[test]
fn a_client_with_a_token_calls_the_application_of_its_token_and_no_other() {
    let application = serde_json::json!({
        "id": "AP00000000000000000000000000000001", "account": "acme", "provider": "twilio", "webhook_url": "http://app/"
    });
    let applications = Arc::new(vec![serde_json::from_value(application).unwrap()]);
    let routing = Routing::new(Vec::new(), applications, Vec::new(), |_| None);
    let route = |account: &str, application: Option<&str>| {
        let identity = Identity::Token { name: "alice".into(), application: application.map(Into::into) };
        let caller = Caller { account: AccountName::new(account), identity };
        routing.from_client(&caller, "+15551230001", "+15551230001").map(|route| route.owner.application)
    };
    let id = "AP00000000000000000000000000000001";
    assert_eq!(route("acme", Some(id)), Ok(Some(id.into())));
    assert_eq!(route("other", Some(id)), Err(404), "the application of another account");
    assert_eq!(route("acme", Some("AP00000000000000000000000000000002")), Err(404));
    assert_eq!(route("acme", None), Err(403), "the token permits no calls");
}

#[test]
fn a_call_from_a_client_with_a_token_has_the_name_in_the_token_as_its_caller() {
    let identity = Identity::Token { name: "alice".into(), application: None };
    let incoming = IncomingCall {
        line: String::new(),
        request_uri: "+15551230001".to_owned(),
        to_uri: "+15551230001".to_owned(),
        from_uri: "client:mallory".to_owned(),
        from_user: "mallory".to_owned(),
        from_display: None,
        to_user: "+15551230001".to_owned(),
        signalling_id: "c".to_owned(),
        source: ([192, 0, 2, 1], 5060).into(),
        transport: "WSS",
        is_secure: true,
        trunk: None,
        caller: Some(Caller { account: AccountName::new("acme"), identity }),
        headers: HeaderFields::new(),
        parameters: Vec::new(),
        client_state: None,
        offer: None,
        replaces: None,
        dialog: None,
    };
    let owner = LegOwner::new(AccountName::new("acme"), "twilio");
    let (info, _) = crate::new_call::inbound_leg(LegId(1), CallId(1), owner, incoming, None);
    assert_eq!((info.from, info.to), (Address::from("client:alice"), Address::from("+15551230001")));
}
