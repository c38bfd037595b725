//! Tests that compare the resources with Twilio's published examples, and tests of parameters. The tests need no
//! server.

use jiff::Timestamp;
use tandem_id::AccountName;
use tandem_store::domains::{Credential, DomainDetails, DomainRow, Entry, ListRow, MappingRow, Network, Purpose};

use super::super::super::form::Parameters;
use super::super::tests::published;
use super::*;

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const AT: Timestamp = Timestamp::UNIX_EPOCH;

fn parameters(form: &str) -> Parameters {
    Parameters::parse(&crate::Twilio, form.as_bytes())
}

fn row(details: DomainDetails) -> DomainRow {
    let (account, name) = (AccountName::new("acme"), "a.example".to_owned());
    DomainRow { id: 1, account, name, details, created_at: AT, updated_at: AT }
}

fn list(kind: ListKind) -> ListRow {
    ListRow { id: 2, account: AccountName::new("acme"), kind, name: "staff".into(), created_at: AT, updated_at: AT }
}

#[test]
fn sip_resources_have_every_field_of_the_published_examples() {
    let mut details = DomainDetails::default();
    domains::apply(
        &parameters(
            "FriendlyName=x&VoiceUrl=http://a/v&ByocTrunkSid=BY00000000000000000000000000000001\
             &EmergencyCallerSid=PN00000000000000000000000000000001",
        ),
        &mut details,
    )
    .unwrap();
    let domain = domains::domain(ACCOUNT, &row(details), &[Purpose::CallsByAddress]);
    let (credentials, networks) = (list(ListKind::Credentials), list(ListKind::Addresses));
    let credential = Credential { username: "alice".into(), ha1_md5: String::new(), ha1_sha256: String::new() };
    let address = Network { name: "office".into(), network: "192.0.2.7/24".parse().unwrap() };
    let credential = entries::represent(ACCOUNT, &Entry::new(&AccountName::new("acme"), 2, credential));
    let address = entries::represent(ACCOUNT, &Entry::new(&AccountName::new("acme"), 2, address));
    assert_eq!((&address["ip_address"], &address["cidr_prefix_length"]), (&json!("192.0.2.7"), &json!(24)));
    let mapped = |path: &[&str], list: &ListRow| {
        let (mapping_path, _) = mappings::parse_path(path).unwrap();
        let row = MappingRow {
            id: 5,
            account: AccountName::new("acme"),
            domain: 1,
            list: 2,
            purpose: Purpose::Registrations,
            created_at: AT,
        };
        mappings::represent(ACCOUNT, mapping_path, &row, list)
    };
    let sip = "/2010-04-01/Accounts/{AccountSid}/SIP";
    let in_list = |name: &str| format!("{sip}/CredentialLists/{{CredentialListSid}}/Credentials{name}");
    let in_acl = |name: &str| format!("{sip}/IpAccessControlLists/{{IpAccessControlListSid}}/IpAddresses{name}");
    let mut operations = vec![
        (format!("{sip}/Domains.json"), "post", domain.clone()),
        (format!("{sip}/Domains/{{Sid}}.json"), "post", domain),
        (format!("{sip}/CredentialLists.json"), "post", lists::represent(ACCOUNT, &credentials)),
        (format!("{sip}/IpAccessControlLists.json"), "post", lists::represent(ACCOUNT, &networks)),
        (in_list(".json"), "post", credential.clone()),
        (in_list("/{Sid}.json"), "get", credential),
        (in_acl(".json"), "post", address.clone()),
        (in_acl("/{Sid}.json"), "post", address),
    ];
    for (path, list) in [
        (&["CredentialListMappings"][..], &credentials),
        (&["IpAccessControlListMappings"], &networks),
        (&["Auth", "Calls", "CredentialListMappings"], &credentials),
        (&["Auth", "Calls", "IpAccessControlListMappings"], &networks),
        (&["Auth", "Registrations", "CredentialListMappings"], &credentials),
    ] {
        let place = format!("{sip}/Domains/{{DomainSid}}/{}.json", path.join("/"));
        operations.push((place, "post", mapped(path, list)));
    }
    published("twilio_api_v2010.json", &operations);
}

#[test]
fn an_absent_parameter_keeps_the_value_of_a_domain_and_an_empty_parameter_clears_it() {
    let mut details = DomainDetails::default();
    domains::apply(&parameters("VoiceMethod=GET&SipRegistration=true"), &mut details).unwrap();
    assert_eq!((details.registration, &details.voice), (true, &None));
    domains::apply(&parameters("VoiceUrl=http://a/v"), &mut details).unwrap();
    assert_eq!(details.voice, Some(("http://a/v".into(), "GET".into())));
    domains::apply(&parameters("FriendlyName=x"), &mut details).unwrap();
    assert_eq!(details.voice, Some(("http://a/v".into(), "GET".into())), "not named, not changed");
    domains::apply(&parameters("VoiceUrl=&SipRegistration=false"), &mut details).unwrap();
    assert_eq!((details.registration, &details.voice), (false, &None));
    let body = domains::domain(ACCOUNT, &row(details), &[Purpose::CallsByPassword, Purpose::CallsByAddress]);
    assert_eq!((&body["voice_method"], &body["voice_url"]), (&json!("GET"), &Value::Null));
    assert_eq!(body["auth_type"], "IP_ACL,CREDENTIAL_LIST");
    for (bad, code) in [("VoiceUrl=/v", 21231), ("VoiceMethod=PUT", 21209), ("ByocTrunkSid=x", 21231)] {
        let error = domains::apply(&parameters(bad), &mut DomainDetails::default()).unwrap_err();
        assert_eq!(error.code, code, "{bad}");
    }
}

#[test]
fn an_ip_address_without_a_prefix_length_is_a_single_address() {
    let network = |form: &str, now: Option<&str>| {
        let now = now.map(|text| text.parse().unwrap());
        entries::network(&parameters(form), now).map(|network| network.map(|network| network.to_string()))
    };
    assert_eq!(network("IpAddress=192.0.2.1", None).unwrap().as_deref(), Some("192.0.2.1/32"));
    assert_eq!(network("IpAddress=2001:db8::1", None).unwrap().as_deref(), Some("2001:db8::1/128"));
    let wide = "IpAddress=192.0.2.1&CidrPrefixLength=24";
    assert_eq!(network(wide, None).unwrap().as_deref(), Some("192.0.2.1/24"));
    assert_eq!(network("CidrPrefixLength=8", Some("10.0.0.1/32")).unwrap().as_deref(), Some("10.0.0.1/8"));
    assert_eq!(network("IpAddress=10.0.0.2", Some("10.0.0.1/8")).unwrap().as_deref(), Some("10.0.0.2/8"));
    assert_eq!(network("", None).unwrap(), None);
    for bad in [
        "IpAddress=host",
        "IpAddress=10.0.0.1&CidrPrefixLength=33",
        "IpAddress=10.0.0.1&CidrPrefixLength=0",
        "IpAddress=10.0.0.1&CidrPrefixLength=1",
        "IpAddress=10.0.0.1&CidrPrefixLength=7",
        "IpAddress=2001:db8::1&CidrPrefixLength=15",
    ] {
        assert!(network(bad, None).is_err(), "{bad}");
    }
}

#[test]
fn weak_passwords_are_refused() {
    assert!(entries::is_strong("IWasAtSignal2018"));
    for weak in ["", "Short1", "alllowercase1", "ALLUPPERCASE1", "NoDigitsInHere", "With\nNewline1234"] {
        assert!(!entries::is_strong(weak), "{weak}");
    }
}
