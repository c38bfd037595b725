use jiff::Timestamp;
use serde_json::json;
use tandem_id::AccountName;
use tandem_routing::customer_trunk::{CustomerTrunk, Origination, Record, RecordFrom};
use tandem_store::domains::{ListRow, MappingRow, Purpose};
use tandem_store::resources::Resource;

use super::super::super::form::Parameters;
use super::super::tests::published;
use super::*;

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const AT: Timestamp = Timestamp::UNIX_EPOCH;

fn parameters(form: &str) -> Parameters {
    Parameters::parse(&crate::Twilio, form.as_bytes())
}

#[test]
fn trunking_paths_are_distinguished_from_other_paths() {
    assert_eq!(below("/v1/Trunks"), Some(vec![]));
    assert_eq!(below("/v1/Trunks/TK1/OriginationUrls/OU1"), Some(vec!["TK1", "OriginationUrls", "OU1"]));
    assert_eq!(below("/v1/TrunksX"), None);
    assert_eq!(below("/2010-04-01/Accounts.json"), None);
}

#[test]
fn urls_in_answers_have_a_host_that_the_client_can_reach() {
    assert_eq!(base(Some("trunking.twilio.com"), "http://127.0.0.1:8080"), "https://trunking.twilio.com");
    assert_eq!(base(Some("127.0.0.1:8080"), "http://127.0.0.1:8080"), "http://127.0.0.1:8080");
    assert_eq!(base(Some("eviltwilio.com"), "http://x"), "http://x");
    assert_eq!(base(None, "http://x"), "http://x");
}

#[test]
fn trunk_resources_have_every_field_of_the_published_examples() {
    let base = "http://x";
    let mut trunk = CustomerTrunk { domain: Some("a.example".into()), ..CustomerTrunk::default() };
    trunks::apply(&parameters("DisasterRecoveryUrl=http://a/&TransferMode=sip-only&Secure=true"), &mut trunk).unwrap();
    let trunk = Resource { id: 1, ..Resource::new(&AccountName::new("acme"), "name", trunk) };
    let trunk = trunks::represent(base, ACCOUNT, &trunk, &[Purpose::CallsByPassword]);
    assert_eq!((&trunk["auth_type"], &trunk["transfer_mode"]), (&json!("CREDENTIAL_LIST"), &json!("sip-only")));
    let mut origination = Origination { uri: String::new(), priority: 0, weight: 1, enabled: true };
    let form = "SipUrl=sip://sip-box.com:1234&Weight=2&Priority=3&Enabled=false";
    origination_urls::apply(&parameters(form), &mut origination).unwrap();
    let row = Resource { parent: Some(1), ..Resource::new(&AccountName::new("acme"), "name", origination) };
    let origination = origination_urls::represent(base, ACCOUNT, &row);
    let mapping = MappingRow {
        id: 2,
        account: AccountName::new("acme"),
        domain: 1,
        list: 3,
        purpose: Purpose::CallsByPassword,
        created_at: AT,
    };
    let list = |kind| ListRow {
        id: 3,
        account: AccountName::new("acme"),
        kind,
        name: "x".into(),
        created_at: AT,
        updated_at: AT,
    };
    let credentials = lists::represent(base, ACCOUNT, &mapping, &list(ListKind::Credentials));
    let networks = lists::represent(base, ACCOUNT, &mapping, &list(ListKind::Addresses));
    let page = |key: &'static str, item: &Value| {
        let nothing = parameters("");
        let items = vec![(String::new(), item.clone())];
        envelope(
            key,
            &Paging::parse(&nothing, crate::sid::Ids::Prefixed, "TK").unwrap().envelope(key, "/x", &nothing, items),
        )
    };
    let of_trunk = |name: &str| format!("/v1/Trunks/{{TrunkSid}}/{name}");
    let recording = recording::represent(Record::default());
    let number = Resource::new(&AccountName::new("acme"), "+14158675309", tandem_routing::inventory::Number::default());
    let number = phone_numbers::represent(base, crate::owner(ACCOUNT), 1, &number);
    published(
        "twilio_trunking_v1.json",
        &[
            ("/v1/Trunks".to_owned(), "post", trunk.clone()),
            ("/v1/Trunks".to_owned(), "get", page("trunks", &trunk)),
            ("/v1/Trunks/{Sid}".to_owned(), "post", trunk),
            (of_trunk("OriginationUrls"), "post", origination.clone()),
            (of_trunk("OriginationUrls"), "get", page("origination_urls", &origination)),
            (of_trunk("OriginationUrls/{Sid}"), "post", origination),
            (of_trunk("CredentialLists"), "post", credentials.clone()),
            (of_trunk("CredentialLists"), "get", page("credential_lists", &credentials)),
            (of_trunk("IpAccessControlLists"), "post", networks),
            (of_trunk("Recording"), "post", recording),
            (of_trunk("PhoneNumbers"), "post", number.clone()),
            (of_trunk("PhoneNumbers"), "get", page("phone_numbers", &number)),
        ],
    );
}

#[test]
fn origination_and_recording_parameters_are_parsed_or_refused() {
    let mut origination = Origination { uri: "sip:a".into(), priority: 1, weight: 1, enabled: true };
    for good in
        ["sip:pbx.example.com", "sip:10.0.0.1:5070;transport=tcp", "sips:a", "sip://a.example:1", "sip:[::1]:5060"]
    {
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("SipUrl", good).finish();
        origination_urls::apply(&parameters(&form), &mut origination)
            .unwrap_or_else(|error| panic!("{good}: {error:?}"));
    }
    for bad in ["SipUrl=http://a", "SipUrl=sip:", "SipUrl=sip:a%20b", "SipUrl=sip:a?x=y", "Weight=0", "Priority=65536"]
    {
        assert!(origination_urls::apply(&parameters(bad), &mut origination).is_err(), "{bad}");
    }
    let record = recording::read(&parameters("Mode=record-from-ringing-dual&Trim=trim-silence"), Record::default());
    let record = record.unwrap();
    assert_eq!(record, Record { from: Some(RecordFrom::Ringing), dual: true, trim: true });
    assert_eq!(recording::read(&parameters(""), record).unwrap(), record, "not named, not changed");
    assert!(recording::read(&parameters("Mode=sometimes"), record).is_err());
    assert!(trunks::apply(&parameters("TransferMode=never"), &mut CustomerTrunk::default()).is_err());
}
