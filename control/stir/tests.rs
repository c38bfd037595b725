use tandem_call::address::Address;
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{LegInfo, LegOwner};
use tandem_call::output::Invite;
use tandem_http::testing::{Answer, WebServer};
use tandem_id::{AccountName, CallId, LegId};
use tandem_routing::Routing;
use tandem_routing::trunk::identity::{ParentLeg, PresentedCaller, present};

use super::*;

const CALLER: &str = "+12155551212";
const CALLED: &str = "+12155551213";

fn trunk(more: serde_json::Value) -> TrunkConfig {
    let mut trunk = serde_json::json!({ "name": "carrier", "uri": "sip:10.0.0.1" });
    for (key, value) in more.as_object().unwrap() {
        trunk[key] = value.clone();
    }
    serde_json::from_value(trunk).unwrap()
}

fn incoming(headers: &[(&str, &str)]) -> IncomingCall {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    IncomingCall {
        from_user: CALLER.to_owned(),
        from_uri: format!("sip:{CALLER}@h"),
        from_display: None,
        to_user: CALLED.to_owned(),
        to_uri: "sip:+1-215-555-1214;x=1@h".to_owned(),
        request_uri: format!("sip:{CALLED}@h"),
        headers: headers.iter().map(header).collect(),
        line: String::new(),
        signalling_id: "c".to_owned(),
        source: ([192, 0, 2, 1], 5060).into(),
        transport: "UDP",
        is_secure: false,
        trunk: Some("carrier".into()),
        caller: None,
        parameters: Vec::new(),
        client_state: None,
        offer: None,
        replaces: None,
        dialog: None,
    }
}

fn stir(verify: Verify) -> Stir {
    let config = StirConfig::default();
    Stir { verify, ..Stir::new(&config, &[]).unwrap() }
}

#[test]
fn a_verification_request_expects_the_numbers_that_the_application_gets() {
    let trunk = trunk(serde_json::json!({}));
    let signed = incoming(&[("X-A", "b"), ("y", "a.b.c;ppt=shaken")]);
    let request = stir(Verify::Report).verification_request(Some(&trunk), &signed).unwrap();
    assert_eq!(request.identities, ["a.b.c;ppt=shaken"]);
    assert_eq!(request.expected.orig, ["12155551212"]);
    // The first number comes from the Request-URI, and the second number comes from the To header.
    assert_eq!(request.expected.dest, ["12155551213", "12155551214"]);
    let mut anonymous = incoming(&[("Identity", "a.b.c"), ("P-Asserted-Identity", "\"A\" <sip:+12155551299@h>")]);
    assert_eq!(
        stir(Verify::Report).verification_request(Some(&trunk), &anonymous).unwrap().expected.orig,
        ["12155551212"]
    );
    anonymous.from_user = "anonymous".to_owned();
    assert_eq!(
        stir(Verify::Report).verification_request(Some(&trunk), &anonymous).unwrap().expected.orig,
        ["12155551299"]
    );
}

#[test]
fn calls_of_phones_and_calls_without_an_identity_are_not_verified() {
    let own = |verify: &str| trunk(serde_json::json!({ "stir": { "verify": verify } }));
    let signed = incoming(&[("Identity", "a.b.c")]);
    let plain = incoming(&[]);
    assert!(stir(Verify::Off).verification_request(None, &signed).is_none());
    assert!(stir(Verify::Report).verification_request(Some(&own("off")), &signed).is_none());
    assert!(stir(Verify::Off).verification_request(Some(&own("report")), &signed).is_some());
    assert!(stir(Verify::Report).verification_request(None, &plain).is_none());
    assert!(stir(Verify::Require).verification_request(None, &plain).unwrap().required);
    let mut phone = signed.clone();
    phone.caller = Some(tandem_leg::signal::Caller {
        account: AccountName::new("acme"),
        identity: tandem_leg::signal::Identity::Sip { username: Some("alice".into()), domain: None },
    });
    assert!(stir(Verify::Require).verification_request(None, &phone).is_none());
}

#[tokio::test]
async fn an_unverifiable_identity_is_unknown_a_wrong_identity_has_failed_and_require_refuses_both() {
    let verify = async |verify: Verify, value: &str| {
        let request = stir(verify).verification_request(None, &incoming(&[("Identity", value)])).unwrap();
        stir(verify).verify(request, &Tally::default()).await
    };
    let found = verify(Verify::Report, "no.identity").await.unwrap();
    assert_eq!((found.verstat, found.token), (Verstat::Failed, None));
    let found = verify(Verify::Report, "a.b.c;ppt=div").await.unwrap();
    assert_eq!(found.verstat, Verstat::Unknown);
    assert_eq!(line(&found), "Identity: not verified: its PASSporT type is not shaken");
    assert_eq!(verify(Verify::Require, "a.b.c;ppt=div").await.unwrap_err().status(), 437);
    assert_eq!(verify(Verify::Require, "no.identity").await.unwrap_err().status(), 438);
    let none = stir(Verify::Require).verification_request(None, &incoming(&[])).unwrap();
    assert_eq!(stir(Verify::Require).verify(none, &Tally::default()).await.unwrap_err(), Fault::Absent);
}

/// Starts an HTTPS server at 127.0.0.1, and creates a certificate cache that fetches from this server.
async fn fetching(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (WebServer, Certificates) {
    let (server, client) = https(answer).await;
    let certificates = Certificates::new(client, Anchors::default(), vec![server.address.port()]);
    (server, certificates)
}

/// Starts an HTTPS server at 127.0.0.1, and creates a client that may fetch from this server.
async fn https(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (WebServer, Client) {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let server = WebServer::start_with(Some(Arc::new(tls)), move |requested| answer(&requested.target)).await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, certified.cert.pem()).unwrap();
    let allow_networks = vec!["127.0.0.1/32".parse().unwrap()];
    let config = StirConfig { ca_file: Some(ca_file), allow_networks, ..StirConfig::default() };
    (server, client(&config).unwrap())
}

#[tokio::test]
async fn the_servers_own_certificate_is_fetched_and_its_expiry_and_its_public_key_are_checked() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = |key: &rcgen::KeyPair| {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(2026, 11, 25);
        // TNAuthList with the service provider code 1234 (RFC 8226 §9).
        let list = [0x30, 0x08, 0xa0, 0x06, 0x16, 0x04, b'1', b'2', b'3', b'4'].to_vec();
        let oid = [1, 3, 6, 1, 5, 5, 7, 1, 26];
        params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&oid, list)];
        params.self_signed(key).unwrap().pem()
    };
    let (own, other) = (certificate(&key), certificate(&rcgen::KeyPair::generate().unwrap()));
    let (server, client) = https(move |target| match target {
        "/own" => Answer::body(own.clone()),
        "/other" => Answer::body(other.clone()),
        _ => Answer::status(404),
    })
    .await;
    let found = async |path: &str| {
        let url: Arc<str> = format!("https://{}/{path}", server.address).into();
        let all = Some(Signer::new(key.serialize_pem().as_bytes(), Arc::clone(&url)).unwrap());
        let fetcher = Some(Fetcher::new(client.clone(), vec![server.address.port()]));
        let signers = Arc::new(Signers { all, ..Signers::default() });
        let [(requested, found)] = &Stir { fetcher, signers, ..stir(Verify::Off) }.own_certificates().await[..] else {
            panic!("one key");
        };
        assert_eq!(**requested, *url);
        found.clone()
    };
    assert_eq!(found("own").await, Ok(1_795_564_800));
    let fault = found("other").await.unwrap_err();
    assert!(matches!(&fault, Fault::Certificate(why) if why.contains("another key")), "{fault}");
    assert!(matches!(found("absent").await, Err(Fault::Unreachable(_))));
    assert!(stir(Verify::Off).own_certificates().await.is_empty(), "no calls are signed");
}

#[tokio::test]
async fn concurrent_calls_fetch_a_certificate_once_and_a_failure_is_cached() {
    let (mut server, certificates) = fetching(|_| Answer::body("no certificate")).await;
    let url = format!("https://{}/shaken.pem", server.address);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (certificates, url) = (certificates.clone(), url.clone());
            tokio::spawn(async move { certificates.get(&url).await })
        })
        .collect();
    for one in waiting {
        assert!(matches!(one.await.unwrap(), Err(Fault::Certificate(_))));
    }
    assert!(certificates.get(&url).await.is_err());
    assert_eq!(server.rest().len(), 1);
}

#[tokio::test]
async fn a_url_without_a_certificate_is_unreachable_and_a_forbidden_url_is_never_requested() {
    let (mut server, certificates) = fetching(|target| match target {
        "/moved" => Answer::redirect(302, "/shaken.pem"),
        "/large" => Answer::body("x".repeat(70_000)),
        "/endless" => Answer::Endless,
        _ => Answer::status(404),
    })
    .await;
    let port = server.address.port();
    for path in ["moved", "large", "endless", "absent"] {
        let fault = certificates.get(&format!("https://127.0.0.1:{port}/{path}")).await.unwrap_err();
        assert!(matches!(&fault, Fault::Unreachable(_)), "{path}: {fault}");
    }
    assert_eq!(server.rest().len(), 4);
    let never = [
        format!("http://127.0.0.1:{port}/a"),
        format!("https://user@127.0.0.1:{port}/a"),
        format!("https://127.0.0.1:{port}/a?b"),
        format!("https://127.0.0.1:{port}/a#b"),
        format!("https://127.0.0.2:{port}/a"),
        "https://127.0.0.1/a".to_owned(),
        "ftp://127.0.0.1/a".to_owned(),
        "no url".to_owned(),
    ];
    for url in never {
        let fault = certificates.get(&url).await.unwrap_err();
        assert!(matches!(&fault, Fault::Unreachable(_)), "{url}: {fault}");
    }
    assert!(server.rest().is_empty());
}

#[tokio::test]
async fn a_call_waits_for_a_silent_certificate_server_until_its_timeout() {
    let (server, certificates) = fetching(|_| Answer::Silence).await;
    let signer = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let url = format!("https://{}/shaken.pem", server.address);
    let claims = tandem_sip::stir::Claims {
        attestation: Attestation::B,
        orig: canonical_number(CALLER).unwrap(),
        dest: canonical_number(CALLED).unwrap(),
        iat: clock::time().as_second().unsigned_abs(),
        origid: String::new(),
    };
    let identity = Signer::new(signer.as_bytes(), url.into()).unwrap().identity(&claims).unwrap();
    let stir = Stir { certificates: Some(certificates), timeout: Duration::from_millis(100), ..stir(Verify::Report) };
    let request = stir.verification_request(None, &incoming(&[("Identity", &identity)])).unwrap();
    let found = stir.verify(request, &Tally::default()).await.unwrap();
    assert_eq!((found.verstat, found.attestation), (Verstat::Unknown, Some(tandem_call::leg::Attestation::B)));
    assert!(found.detail.unwrap().ends_with(" timed out"));
}

/// Creates the settings in the form that the configuration file gives.
fn signing(trunks: &[TrunkConfig]) -> Stir {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("shaken.key");
    std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let certificate_url = Some("https://cert.example.org/passport.cer".into());
    Stir::new(&StirConfig { key: Some(key), certificate_url, ..StirConfig::default() }, trunks).unwrap()
}

fn routing() -> Routing {
    let number = |number: &str| {
        serde_json::from_value(serde_json::json!({ "number": number, "account": "acme", "twiml": "<Response/>" }))
            .unwrap()
    };
    Routing::new(vec![number("+12155550100"), number("+1212555*"), number("+44*")], Arc::default(), Vec::new(), |_| {
        None
    })
}

fn invite(from: &str, to: &str) -> Invite {
    Invite {
        from: Address::from(from),
        to: Address::from(to),
        caller_name: None,
        headers: HeaderFields::new(),
        inherits_headers: false,
        credentials: None,
        via: Vec::new(),
        replaces: None,
    }
}

fn leg_with_headers(headers: &[(&str, &str)]) -> LegInfo {
    tandem_routing::new_call::inbound_leg(
        LegId(1),
        CallId(1),
        LegOwner::new(AccountName::new("acme"), "twilio"),
        incoming(headers),
        None,
    )
    .0
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_700_000_000).unwrap()
}

/// Returns the Identity headers that a trunk receives.
fn identity_headers(
    stir: &Stir,
    trunk: Option<&TrunkConfig>,
    invite: &Invite,
    parent_leg: Option<&LegInfo>,
) -> Vec<String> {
    let signing = stir.signing_request(&routing(), &AccountName::new("acme"), invite, parent_leg);
    let parent_leg = parent_leg.map(|leg| ParentLeg { leg: Arc::new(leg.clone()), numbering: Numbering::default() });
    let presented: PresentedCaller = present(trunk, invite, parent_leg.as_ref(), "h");
    let (headers, _) = signing.headers(trunk, invite, &presented, now());
    headers.into_iter().filter(|(name, _)| name == "Identity").map(|(_, value)| value).collect()
}

fn read(headers: &[String]) -> Passport {
    let [header] = headers else { panic!("{headers:?}") };
    Passport::read(&Identity::parse(header).unwrap()).unwrap()
}

#[test]
fn own_numbers_get_attestation_a_other_numbers_b_and_numbers_from_a_trunk_c() {
    let carrier = trunk(serde_json::json!({}));
    let stir = signing(std::slice::from_ref(&carrier));
    let attested = |from: &str, parent_leg: Option<&LegInfo>| {
        let passport = read(&identity_headers(&stir, Some(&carrier), &invite(from, CALLED), parent_leg));
        assert_eq!((&*passport.orig, &*passport.dest), (&from[1..], &["12155551213".to_owned()][..]));
        assert_eq!(passport.iat, 1_700_000_000);
        (passport.attestation, passport.origid)
    };
    let (a, ours) = attested("+12155550100", None);
    assert_eq!(a, Attestation::A);
    assert_eq!(attested("+12125551234", None).0, Attestation::A, "a block");
    assert_eq!(attested("+441632960000", None).0, Attestation::B, "a country is no block");
    let mut transit = leg_with_headers(&[]);
    transit.to = Address::from("+12155550199");
    let (c, theirs) = attested(CALLER, Some(&transit));
    assert_eq!(c, Attestation::C);
    assert_eq!(attested("+12155550100", Some(&transit)), (Attestation::A, ours.clone()));
    assert_ne!(ours, theirs);
    let is_uuid = ours.len() == 36 && ours.as_bytes()[14] == b'8' && b"89ab".contains(&ours.as_bytes()[19]);
    assert!(is_uuid, "{ours}");
    let other =
        signing(&[]).signing_request(&routing(), &AccountName::new("other"), &invite("+12155550100", CALLED), None);
    let presented = present(Some(&carrier), &invite("+12155550100", CALLED), None, "h");
    let (headers, line) = other.headers(Some(&carrier), &invite("+12155550100", CALLED), &presented, now());
    let names: Vec<_> = headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["Date", "Identity"]);
    assert_eq!(headers[0].1, "Tue, 14 Nov 2023 22:13:20 GMT");
    let line = line.map(|vouched| vouched.to_string());
    assert_eq!(line.as_deref(), Some("Identity: signed with attestation B for 12155550100"), "another account's");
}

#[test]
fn a_relayed_call_keeps_its_identity_and_a_forwarded_call_gets_a_diversion() {
    let carrier = trunk(serde_json::json!({}));
    let stir = signing(std::slice::from_ref(&carrier));
    let inbound = leg_with_headers(&[("Identity", "a.b.c;ppt=shaken"), ("Identity", "d.e.f;ppt=rcd")]);
    let same = invite(CALLER, &format!("sip:{CALLED}@10.0.0.1"));
    for trunk in [Some(&carrier), None] {
        assert_eq!(identity_headers(&stir, trunk, &same, Some(&inbound)), ["a.b.c;ppt=shaken", "d.e.f;ppt=rcd"]);
    }
    let forwarded = identity_headers(&stir, Some(&carrier), &invite(CALLER, "+12155559999"), Some(&inbound));
    assert_eq!(forwarded[..2], ["a.b.c;ppt=shaken", "d.e.f;ppt=rcd"]);
    let diversion = Diversion::read(&Identity::parse(&forwarded[2]).unwrap()).unwrap();
    assert_eq!((&*diversion.orig, &*diversion.div), ("12155551212", "12155551213"));
    assert_eq!((diversion.dest, diversion.iat), (vec!["12155559999".to_owned()], 1_700_000_000));
    // Without our signed diversion, a verifier would not accept the forwarded headers.
    assert!(identity_headers(&stir, None, &invite(CALLER, "sip:+12155559999@h"), Some(&inbound)).is_empty());
    let mut short = inbound.clone();
    short.to = Address::from("100");
    let signed_anew = identity_headers(&stir, Some(&carrier), &invite(CALLER, "+12155559999"), Some(&short));
    assert_eq!(read(&signed_anew).attestation, Attestation::C);
    let own_number = identity_headers(&stir, Some(&carrier), &invite("+12155550100", CALLED), Some(&inbound));
    assert_eq!(read(&own_number).attestation, Attestation::A);
    let silent = trunk(serde_json::json!({ "stir": { "sign": false } }));
    assert!(identity_headers(&stir, Some(&silent), &same, Some(&inbound)).is_empty());
}

#[test]
fn only_calls_over_trunks_with_visible_e164_numbers_are_signed() {
    let carrier = trunk(serde_json::json!({ "stir": { "attestation": "B" } }));
    let stir = signing(std::slice::from_ref(&carrier));
    assert_eq!(
        read(&identity_headers(&stir, Some(&carrier), &invite("+12155550100", CALLED), None)).attestation,
        Attestation::B
    );
    assert!(identity_headers(&stir, None, &invite("+12155550100", "sip:+1215@h"), None).is_empty());
    for (from, to) in [("100", CALLED), ("anonymous", CALLED), ("+12155550100", "100"), ("+12155550100", "sip:bob@h")] {
        assert!(identity_headers(&stir, Some(&carrier), &invite(from, to), None).is_empty(), "{from} {to}");
    }
    // A bridged call goes to the URI of the trunk. This URI has the number in the trunk's format.
    let digits = trunk(serde_json::json!({ "number_format": "digits" }));
    let straight = identity_headers(&stir, Some(&digits), &invite("+12155550100", "sip:12155551213@10.0.0.1"), None);
    assert_eq!(read(&straight).dest, ["12155551213"]);
    // The number of an anonymous caller is signed only for a trunk that receives the number in any case.
    let mut hidden = leg_with_headers(&[("Privacy", "id"), ("P-Asserted-Identity", "<sip:+12155550100@h>")]);
    hidden.from = Address::from("anonymous");
    let anonymous = invite("anonymous", CALLED);
    let trusted = trunk(serde_json::json!({ "trusted": true, "caller_id": "pai" }));
    assert_eq!(read(&identity_headers(&stir, Some(&trusted), &anonymous, Some(&hidden))).orig, "12155550100");
    assert!(identity_headers(&stir, Some(&carrier), &anonymous, Some(&hidden)).is_empty());
}

#[test]
fn a_fault_names_its_setting() {
    let key = Some("/etc/tandem/none.key".into());
    let config = StirConfig {
        verify: Verify::Require,
        ca_file: Some("/nonexistent".into()),
        certificate_url: Some("https://a/b".into()),
        ..StirConfig::default()
    };
    let trunks = [
        trunk(serde_json::json!({ "stir": { "key": "/nonexistent", "certificate_url": "http://a/b" } })),
        trunk(serde_json::json!({ "stir": { "key": "/nonexistent", "certificate_url": "https://a/b" } })),
        trunk(serde_json::json!({ "stir": { "verify": "report" } })),
    ];
    let paths = |config: &StirConfig| faults(config, &trunks).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    let of_trunks = ["trunks[0].stir.certificate_url", "trunks[1].stir.key"];
    assert_eq!(paths(&config), ["stir.verify", "stir.certificate_url", of_trunks[0], of_trunks[1]]);
    let config = StirConfig { verify: Verify::Off, key, certificate_url: None, ..config };
    assert_eq!(paths(&config), ["trunks[2].stir.verify", "stir.key", of_trunks[0], of_trunks[1]]);
}
