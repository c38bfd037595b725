use serde_json::json;
use tandem_call::leg::LegOwner;
use tandem_call::output::Invite;
use tandem_id::{AccountName, CallId, LegId};

use super::*;

fn trunk(more: serde_json::Value) -> TrunkConfig {
    let mut trunk = json!({ "name": "t", "uri": "sip:h" });
    for (key, value) in more.as_object().unwrap() {
        trunk[key] = value.clone();
    }
    serde_json::from_value(trunk).unwrap()
}

fn incoming(headers: &[(&str, &str)]) -> IncomingCall {
    let headers = headers.iter().map(|(name, value)| header(name, value)).collect();
    IncomingCall {
        from_user: "03011111111".to_owned(),
        from_uri: "sip:03011111111@h".to_owned(),
        from_display: Some("From".to_owned()),
        to_user: "03012345678".to_owned(),
        headers,
        request_uri: "sip:03012345678@h".to_owned(),
        to_uri: "sip:03012345678@h".to_owned(),
        line: String::new(),
        signalling_id: "c".to_owned(),
        source: ([192, 0, 2, 1], 5060).into(),
        transport: "UDP",
        is_secure: false,
        trunk: None,
        caller: None,
        parameters: Vec::new(),
        client_state: None,
        offer: None,
        replaces: None,
        dialog: None,
    }
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn parent(headers: &[(&str, &str)]) -> LegInfo {
    let mut incoming = incoming(headers);
    incoming.from_user = "+493011111111".to_owned();
    incoming.to_user = "+493012345678".to_owned();
    let (info, _) = crate::new_call::inbound_leg(
        LegId(1),
        CallId(1),
        LegOwner::new(AccountName::new("acme"), "twilio"),
        incoming,
        None,
    );
    info
}

fn parent_leg(leg: &LegInfo) -> ParentLeg {
    ParentLeg { leg: Arc::new(leg.clone()), numbering: Numbering::default() }
}

fn invite(from: &str, to: &str) -> Invite {
    Invite { caller_name: Some("Ann".to_owned()), ..Invite::new(Address::from(to), Address::from(from)) }
}

fn header_lines(presented: &PresentedCaller) -> Vec<String> {
    presented.headers.iter().map(|header| format!("{}: {}", header.0, header.1)).collect()
}

#[test]
fn the_caller_of_a_trusted_trunk_comes_from_its_caller_id_header() {
    let headers = [
        ("P-Asserted-Identity", "\"Asserted\" <tel:+493022222222;x=1>, <sip:other@h>"),
        ("Remote-Party-ID", "<sip:03033333333@h;user=phone>;party=calling;privacy=off"),
    ];
    let from = |more: serde_json::Value| {
        let mut call = incoming(&headers);
        receive(&trunk(more), &mut call);
        (call.from_user, call.from_display.unwrap())
    };
    let german = |id: &str, trusted: bool| {
        from(json!({ "caller_id": id, "trusted": trusted, "number_format": "national", "country_code": "49" }))
    };
    assert_eq!(german("pai", true), ("+493022222222".to_owned(), "Asserted".to_owned()));
    assert_eq!(german("rpid", true), ("+493033333333".to_owned(), "From".to_owned()));
    assert_eq!(german("from", true).0, "+493011111111");
    assert_eq!(german("pai", false).0, "+493011111111", "not believed");
    assert_eq!(from(json!({})).0, "03011111111");
}

#[test]
fn an_identity_is_read_by_the_grammar_of_addresses() {
    let caller_of = |id: &str, headers: &[(&str, &str)]| {
        let mut call = incoming(headers);
        receive(&trunk(json!({ "caller_id": id, "trusted": true })), &mut call);
        (call.from_user, call.from_display.unwrap())
    };
    for (value, user, display) in [
        (r#""<0041222>" <sip:+41223334455@h>"#, "+41223334455", "<0041222>"),
        ("<tel:+41-22-333-44-55>", "+41223334455", "From"),
        (r#""Ann, \"A;privacy=full\"" <sip:+4122@h>"#, "+4122", "Ann, \"A;privacy=full\""),
        ("<sip:switch.example>, <tel:22-333-44-55;phone-context=+41>", "+41223334455", "From"),
    ] {
        assert_eq!(caller_of("pai", &[("P-Asserted-Identity", value)]), (user.into(), display.into()), "{value}");
        assert_eq!(caller_of("rpid", &[("Remote-Party-ID", value)]), (user.into(), display.into()), "{value}");
    }
    let pair = [("Remote-Party-ID", "<sip:2@h>;party=called"), ("Remote-Party-ID", "<sip:1@h>;party=calling")];
    assert_eq!(caller_of("rpid", &pair).0, "1");
    let forwarded = |name: &str, value: &str| forwarded_from(&[header(name, value)].into());
    let quoted = r#""<sip:x@y>, \"z\"" <sip:+41-22-1@h>;reason=no-answer"#;
    assert_eq!(forwarded("Diversion", quoted).as_deref(), Some("+41221"));
    let history = "<tel:+41-22-1>;index=1, \"a,b\" <sip:+41222@h;cause=302>;index=1.1";
    assert_eq!(forwarded("History-Info", history).as_deref(), Some("+41221"));
}

#[test]
fn a_caller_with_privacy_is_anonymous() {
    for headers in [
        [("P-Asserted-Identity", "<sip:+493022222222@h>"), ("Privacy", "user;id")],
        [("X", ""), ("Remote-Party-ID", "<sip:1@h>;party=calling;privacy=full")],
    ] {
        for trusted in [true, false] {
            let mut call = incoming(&headers);
            receive(&trunk(json!({ "caller_id": "pai", "trusted": trusted })), &mut call);
            assert_eq!((&*call.from_user, call.from_display), ("anonymous", None), "trusted: {trusted}");
        }
    }
    for (user, uri) in [
        ("anonymous", "sip:anonymous@anonymous.invalid"),
        ("Anonymous", "sip:Anonymous@192.0.2.1"),
        ("+493022222222", "sip:+493022222222@anonymous.invalid;user=phone"),
        ("", "sip:anonymous.invalid"),
    ] {
        let mut call = IncomingCall { from_user: user.to_owned(), from_uri: uri.to_owned(), ..incoming(&[]) };
        receive(&trunk(json!({})), &mut call);
        let (leg, _) = crate::new_call::inbound_leg(
            LegId(1),
            CallId(1),
            LegOwner::new(AccountName::new("acme"), "twilio"),
            call,
            None,
        );
        assert_eq!(leg.from, Address::Name("anonymous".into()), "{uri}");
    }
    let mut call = incoming(&[("Privacy", "none")]);
    receive(&trunk(json!({ "trusted": true })), &mut call);
    assert_eq!(call.from_user, "03011111111");
}

#[test]
fn the_last_forwarding_party_is_found() {
    let from =
        |headers: &[(&str, &str)]| forwarded_from(&headers.iter().map(|(name, value)| header(name, value)).collect());
    assert_eq!(from(&[("Diversion", "\"A, B\" <tel:+491>;reason=no-answer, <sip:+492@h>")]).as_deref(), Some("+491"));
    assert_eq!(from(&[("Diversion", "sip:+493@h;reason=unconditional")]).as_deref(), Some("+493"));
    let history = "<sip:+491@h>;index=1, <sip:+492@h;cause=302>;index=1.1, <sip:+493@h;cause=302>;index=1.1.1";
    assert_eq!(from(&[("History-Info", history)]).as_deref(), Some("+492"));
    assert_eq!(from(&[("History-Info", "<sip:+491@h>;index=1"), ("History-Info", "<sip:+491@g>;index=1.1")]), None);
    assert_eq!(from(&[("History-Info", "<sip:+491@h>;index=1")]), None);
    for rubbish in ["", "<", "<sip:", ",,,", "\"\\", "><"] {
        assert_eq!(from(&[("Diversion", rubbish)]).unwrap_or_default(), "");
    }
}

#[test]
fn the_caller_id_is_written_to_the_header_of_the_trunk() {
    let written = |more: serde_json::Value| {
        let presented = present(Some(&trunk(more)), &invite("+493011111111", "+491"), None, "us");
        (presented.from_user.clone(), header_lines(&presented).join("\n"))
    };
    let number = "+493011111111".to_owned();
    assert_eq!(written(json!({})), (number.clone(), String::new()));
    let pai = "\"Ann\" <sip:+493011111111@us>";
    assert_eq!(
        written(json!({ "caller_id": "pai", "trusted": true })),
        (number.clone(), format!("P-Asserted-Identity: {pai}"))
    );
    assert_eq!(written(json!({ "caller_id": "pai" })), (number.clone(), format!("P-Preferred-Identity: {pai}")));
    let rpid = format!("Remote-Party-ID: {pai};party=calling;screen=yes;privacy=off");
    assert_eq!(written(json!({ "caller_id": "rpid" })), (number, rpid));
    let (user, headers) = written(json!({ "caller_id": "rpid", "number_format": "national", "country_code": "49" }));
    assert_eq!(user, "03011111111");
    assert!(headers.contains("<sip:03011111111@us>"), "{headers}");
}

#[test]
fn only_trusted_trunks_see_the_number_of_an_anonymous_caller() {
    let parent = parent(&[("P-Asserted-Identity", "<sip:+493022222222@h>"), ("Privacy", "id")]);
    let mut hidden = parent.clone();
    hidden.from = Address::from("anonymous");
    let written = |more: serde_json::Value, parent: &LegInfo| {
        let call = invite(&parent.from.to_string(), "+493012345678");
        let presented = present(Some(&trunk(more)), &call, Some(&parent_leg(parent)), "us");
        assert_eq!((&*presented.from_user, presented.from_host.as_deref()), ("anonymous", Some("anonymous.invalid")));
        header_lines(&presented).join("\n")
    };
    let trusted = json!({ "caller_id": "pai", "trusted": true });
    assert_eq!(
        written(trusted.clone(), &hidden),
        "Privacy: id\nP-Asserted-Identity: \"Ann\" <sip:+493022222222@us>",
        "the number behind it"
    );
    assert!(written(trusted, &parent).contains("<sip:+493011111111@us>"));
    assert_eq!(written(json!({ "caller_id": "pai" }), &hidden), "Privacy: id");
    assert_eq!(written(json!({ "caller_id": "rpid" }), &hidden), "Privacy: id");
    let rpid = written(json!({ "caller_id": "rpid", "trusted": true }), &hidden);
    assert!(rpid.ends_with(";privacy=full"), "{rpid}");
}

#[test]
fn a_forwarded_call_names_the_forwarding_party() {
    let parent = parent(&[("Diversion", "<sip:+498@h>;reason=user-busy"), ("History-Info", "<sip:+498@h>;index=1")]);
    let written = |forwarding: &str, from: &str, to: &str| {
        let trunk = trunk(json!({ "forwarding": forwarding }));
        header_lines(&present(Some(&trunk), &invite(from, to), Some(&parent_leg(&parent)), "us"))
    };
    let caller = "+493011111111";
    assert_eq!(
        written("diversion", caller, "+497"),
        [
            "Diversion: <sip:+493012345678@us>;reason=unconditional;counter=1",
            "Diversion: <sip:+498@h>;reason=user-busy"
        ]
    );
    assert_eq!(
        written("history-info", caller, "+497"),
        ["History-Info: <sip:+498@h>;index=1", "History-Info: <sip:+497@us;cause=302>;index=1.1;mp=1"]
    );
    for nothing in [
        written("off", caller, "+497"),
        written("diversion", caller, "+493012345678"),
        written("diversion", "+496", "+497"),
    ] {
        assert!(nothing.is_empty(), "{nothing:?}");
    }
}

#[test]
fn the_index_of_a_history_entry_is_read_by_the_grammar() {
    for (history, index) in [
        ("<sip:+4122@h>;index=1, <sip:+18011@h> ; index=1.2", "index=1.2.1;mp=1.2"),
        ("<sip:+4122@h>;index=1, <sip:+18011@h>;INDEX=1.2;rc=1", "index=1.2.1;mp=1.2"),
        ("<sip:a;index=9@h>;index=\"1.3\"", "index=1.3.1;mp=1.3"),
        ("\"x;index=7\" <sip:a@h>;index = 2", "index=2.1;mp=2"),
        ("<sip:a@h>", "index=1.1;mp=1"),
        ("<sip:a@h>;index=\"1;x\"", "index=1.1;mp=1"),
        ("<sip:a@h>;index", "index=1.1;mp=1"),
    ] {
        let parent = parent(&[("History-Info", history)]);
        let trunk = trunk(json!({ "forwarding": "history-info" }));
        let presented = present(Some(&trunk), &invite("+493011111111", "+497"), Some(&parent_leg(&parent)), "us");
        let written = header_lines(&presented).pop().unwrap();
        assert_eq!(written, format!("History-Info: <sip:+497@us;cause=302>;{index}"), "{history}");
    }
}

#[test]
fn a_number_sign_in_a_number_is_escaped_in_every_identity() {
    let (mut parent, headers) = (parent(&[]), |more: serde_json::Value, parent: &LegInfo| {
        let call = invite("+4930#1", "+497#2");
        header_lines(&present(Some(&trunk(more)), &call, Some(&parent_leg(parent)), "us")).join("\n")
    });
    (parent.from, parent.to) = (Address::from("+4930#1"), Address::from("+498#3"));
    for caller_id in ["pai", "rpid"] {
        let written = headers(json!({ "caller_id": caller_id, "trusted": true }), &parent);
        assert!(written.contains("<sip:+4930%231@us>"), "{written}");
    }
    let written = headers(json!({ "forwarding": "history-info" }), &parent);
    assert!(written.contains("<sip:+498%233@us>") && written.contains("<sip:+497%232@us;cause=302>"), "{written}");
}

#[test]
fn a_header_of_the_application_overrides_the_identity_header() {
    let mut call = invite("+493011111111", "+491");
    call.headers.push(("p-asserted-identity".to_owned(), "<sip:me@h>".to_owned()));
    let trunk = trunk(json!({ "caller_id": "pai", "trusted": true }));
    assert!(present(Some(&trunk), &call, None, "us").headers.is_empty());
}
