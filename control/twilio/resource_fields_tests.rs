//! Tests of every parameter of numbers and applications, and of every key of Twilio's published examples.

use tandem_id::AccountName;

use super::*;

const ACCOUNT: &str = "AC00000000000000000000000000000001";

fn parameters(form: &str) -> Parameters {
    Parameters::parse(&crate::Twilio, form.as_bytes())
}

fn changed(number: &Number, form: &str) -> Result<Number, u32> {
    let mut number = number.clone();
    change_number(&mut number, &parameters(form)).map(|()| number).map_err(|error| error.code)
}

/// The sorted keys of a resource.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_number_has_exactly_the_published_fields() {
    let row = Resource::new(
        &AccountName::new("acme"),
        "+18089255327",
        Number { friendly_name: "main".into(), ..Number::default() },
    );
    let value = number(crate::owner(ACCOUNT), &row);
    let published = [
        "account_sid",
        "address_requirements",
        "address_sid",
        "api_version",
        "beta",
        "bundle_sid",
        "capabilities",
        "date_created",
        "date_updated",
        "emergency_address_sid",
        "emergency_address_status",
        "emergency_status",
        "friendly_name",
        "identity_sid",
        "origin",
        "phone_number",
        "sid",
        "sms_application_sid",
        "sms_fallback_method",
        "sms_fallback_url",
        "sms_method",
        "sms_url",
        "status",
        "status_callback",
        "status_callback_method",
        "trunk_sid",
        "type",
        "uri",
        "voice_application_sid",
        "voice_caller_id_lookup",
        "voice_fallback_method",
        "voice_fallback_url",
        "voice_method",
        "voice_receive_mode",
        "voice_url",
    ];
    assert_eq!(keys(&value), published);
    let pn = super::super::sid::spell("PN", row.id);
    for (key, expected) in [
        ("sid", json!(pn)),
        ("uri", json!(format!("/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers/{pn}.json"))),
        ("voice_url", json!("")),
        ("voice_method", json!("POST")),
        ("voice_caller_id_lookup", json!(false)),
        ("trunk_sid", Value::Null),
        ("type", json!("local")),
        ("capabilities", json!({ "voice": true, "sms": false, "mms": false, "fax": false })),
    ] {
        assert_eq!(value[key], expected, "{key}");
    }
    assert_eq!(
        number(crate::owner(ACCOUNT), &Resource::new(&AccountName::new("acme"), "+18005550100", Number::default()))["type"],
        "toll_free"
    );
}

#[test]
fn an_application_and_a_verified_caller_have_exactly_the_published_fields() {
    let value = application(
        crate::owner(ACCOUNT),
        &Resource::new(&AccountName::new("acme"), "app", VoiceApplication::default()),
    );
    let published = [
        "account_sid",
        "api_version",
        "date_created",
        "date_updated",
        "friendly_name",
        "message_status_callback",
        "public_application_connect_enabled",
        "sid",
        "sms_fallback_method",
        "sms_fallback_url",
        "sms_method",
        "sms_status_callback",
        "sms_url",
        "status_callback",
        "status_callback_method",
        "uri",
        "voice_caller_id_lookup",
        "voice_fallback_method",
        "voice_fallback_url",
        "voice_method",
        "voice_url",
    ];
    assert_eq!(keys(&value), published);
    assert_eq!((&value["voice_url"], &value["sms_method"]), (&Value::Null, &json!("POST")));
    let value = caller(
        crate::owner(ACCOUNT),
        &Resource::new(&AccountName::new("acme"), "+14158675309", VerifiedCaller::default()),
    );
    let published = ["account_sid", "date_created", "date_updated", "friendly_name", "phone_number", "sid", "uri"];
    assert_eq!(keys(&value), published);
}

#[test]
fn every_parameter_of_a_number_is_stored_and_returned() {
    let form = "FriendlyName=desk&VoiceUrl=http://127.0.0.1/v&VoiceMethod=get&VoiceFallbackUrl=http://localhost/f\
                &VoiceFallbackMethod=GET&StatusCallback=http://x/s&StatusCallbackMethod=GET&VoiceCallerIdLookup=true\
                &VoiceReceiveMode=fax&SmsUrl=http://x/sms&SmsMethod=GET&SmsFallbackUrl=http://x/smsf\
                &SmsFallbackMethod=GET&SmsApplicationSid=AP1&EmergencyStatus=Active&EmergencyAddressSid=AD1\
                &AddressSid=AD2&IdentitySid=RI1&BundleSid=BU1&ApiVersion=2008-08-01";
    let details = changed(&Number::default(), form).unwrap();
    let value =
        number(crate::owner(ACCOUNT), &Resource::new(&AccountName::new("acme"), "+15551230001", details.clone()));
    for (key, expected) in [
        ("friendly_name", json!("desk")),
        ("voice_url", json!("http://127.0.0.1/v")),
        ("voice_method", json!("GET")),
        ("voice_fallback_url", json!("http://localhost/f")),
        ("voice_fallback_method", json!("GET")),
        ("status_callback", json!("http://x/s")),
        ("status_callback_method", json!("GET")),
        ("voice_caller_id_lookup", json!(true)),
        ("voice_receive_mode", json!("fax")),
        ("sms_url", json!("http://x/sms")),
        ("sms_method", json!("GET")),
        ("sms_fallback_url", json!("http://x/smsf")),
        ("sms_fallback_method", json!("GET")),
        ("sms_application_sid", json!("AP1")),
        ("emergency_status", json!("Active")),
        ("emergency_address_sid", json!("AD1")),
        ("address_sid", json!("AD2")),
        ("identity_sid", json!("RI1")),
        ("bundle_sid", json!("BU1")),
        ("api_version", json!("2008-08-01")),
    ] {
        assert_eq!(value[key], expected, "{key}");
    }
    let stored: Number = serde_json::from_value(serde_json::to_value(&details).unwrap()).unwrap();
    assert_eq!(stored, details);
    let cleared = changed(&details, "VoiceUrl=&VoiceFallbackUrl=&SmsUrl=").unwrap();
    assert_eq!((cleared.voice.url, cleared.other.get("sms_url")), (None, None));
    assert_eq!(cleared.voice.status_callback.as_deref(), Some("http://x/s"), "what is not given stays");
}

#[test]
fn the_application_and_the_trunk_of_a_number_replace_each_other() {
    let with_app = changed(&Number::default(), "VoiceApplicationSid=AP1").unwrap();
    assert_eq!((with_app.application.as_deref(), with_app.trunk.as_deref()), (Some("AP1"), None));
    let with_trunk = changed(&with_app, "TrunkSid=TK1").unwrap();
    assert_eq!((with_trunk.application.as_deref(), with_trunk.trunk.as_deref()), (None, Some("TK1")));
    let again = changed(&with_trunk, "VoiceApplicationSid=AP1").unwrap();
    assert_eq!((again.application.as_deref(), again.trunk.as_deref()), (Some("AP1"), None));
    assert_eq!(changed(&with_trunk, "TrunkSid=").unwrap().trunk, None);
}

#[test]
fn an_invalid_parameter_of_a_number_gets_twilios_error_code() {
    for (form, code) in [
        ("VoiceUrl=voice", 21402),
        ("SmsUrl=ftp://x/", 21402),
        ("VoiceUrl=http://x/&VoiceMethod=PUT", 21403),
        ("SmsMethod=PUT", 21403),
        ("VoiceFallbackUrl=http://x/", 21405),
        ("VoiceReceiveMode=telex", 20001),
        ("VoiceCallerIdLookup=perhaps", 20001),
    ] {
        assert_eq!(changed(&Number::default(), form), Err(code), "{form}");
    }
    let long = format!("FriendlyName={}", "x".repeat(65));
    assert_eq!(changed(&Number::default(), &long), Err(20001));
}

#[test]
fn a_number_pattern_matches_anywhere_with_letters_as_digits_and_stars_as_wildcards() {
    for (pattern, fits) in [
        ("5309", true),
        ("867-5309", true),
        ("415***5309", true),
        ("+1415", true),
        ("+415", false),
        ("TOR", true),
        ("5308", false),
        ("141586753090", false),
        ("", true),
    ] {
        assert_eq!(contains("+14158675309", pattern), fits, "{pattern}");
    }
    assert_eq!((area_code("+14158675309"), area_code("+4930"), area_code("100")), (Some("415"), None, None));
}
