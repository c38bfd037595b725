//! Numbers, applications and caller IDs: the REST resources, and the changes that a form makes to such a resource.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tandem_call::Method;
use tandem_call::address::Address;
use tandem_host::clock;
use tandem_routing::country;
use tandem_routing::inventory::{Number, VerifiedCaller, Voice, VoiceApplication};
use tandem_routing::number_pool::{AddressRequirements, Block, Capability, NumberKind};
use tandem_store::resources::Resource;

use super::error::ApiError;
use super::family::Owner;
use super::form::Parameters;
use super::format;
use super::path::VERSION;

/// Maximum length of a `FriendlyName`, in characters.
const LONGEST_NAME: usize = 64;
/// Maximum length of a value that is stored but not used, in octets.
const LONGEST_KEPT: usize = 1024;

/// A field that this server stores but does not use. The three elements are the parameter's name, the key in the
/// resource, and the type.
type Field = (&'static str, &'static str, Form);

/// The type of a stored field. The type also gives the value that the resource shows for an unset field.
#[derive(Clone, Copy)]
enum Form {
    /// An absolute URL.
    Url,
    /// `GET` or `POST`. The value of an unset field is `POST`.
    Method,
    /// A boolean. The value of an unset field is false.
    Flag,
    /// A SID. An unset SID field shows the same value as an unset URL field.
    Sid,
    /// Any other text. The value of an unset field is null.
    Text,
    /// One of these words. The value of an unset field is the first word.
    Word(&'static [&'static str]),
}

const VERSIONS: Form = Form::Word(&[VERSION, "2008-08-01"]);

const OF_NUMBERS: [Field; 13] = [
    ("ApiVersion", "api_version", VERSIONS),
    ("SmsUrl", "sms_url", Form::Url),
    ("SmsMethod", "sms_method", Form::Method),
    ("SmsFallbackUrl", "sms_fallback_url", Form::Url),
    ("SmsFallbackMethod", "sms_fallback_method", Form::Method),
    ("VoiceCallerIdLookup", "voice_caller_id_lookup", Form::Flag),
    ("VoiceReceiveMode", "voice_receive_mode", Form::Word(&["voice", "fax"])),
    ("EmergencyStatus", "emergency_status", Form::Word(&["Inactive", "Active"])),
    ("EmergencyAddressSid", "emergency_address_sid", Form::Text),
    ("AddressSid", "address_sid", Form::Text),
    ("IdentitySid", "identity_sid", Form::Text),
    ("BundleSid", "bundle_sid", Form::Text),
    ("SmsApplicationSid", "sms_application_sid", Form::Sid),
];

/// The key of the flag that lets other accounts call an application.
const OPEN: &str = "public_application_connect_enabled";

const OF_APPLICATIONS: [Field; 9] = [
    ("ApiVersion", "api_version", VERSIONS),
    ("SmsUrl", "sms_url", Form::Url),
    ("SmsMethod", "sms_method", Form::Method),
    ("SmsFallbackUrl", "sms_fallback_url", Form::Url),
    ("SmsFallbackMethod", "sms_fallback_method", Form::Method),
    ("SmsStatusCallback", "sms_status_callback", Form::Url),
    ("MessageStatusCallback", "message_status_callback", Form::Url),
    ("VoiceCallerIdLookup", "voice_caller_id_lookup", Form::Flag),
    ("PublicApplicationConnectEnabled", OPEN, Form::Flag),
];

/// Changes a number with the parameters of a form. The calling function must first check that the application and the
/// trunk exist.
pub(super) fn change_number(number: &mut Number, parameters: &Parameters) -> Result<(), ApiError> {
    change_name(&mut number.friendly_name, parameters)?;
    let set = |name: &str, slot: &mut Option<String>| {
        if parameters.has(name) {
            *slot = parameters.get(name).map(str::to_owned);
        }
        parameters.get(name).is_some()
    };
    // A number has either an application or a trunk. Setting the application removes the trunk, and setting the trunk
    // removes the application.
    if set("VoiceApplicationSid", &mut number.application) {
        number.trunk = None;
    }
    if set("TrunkSid", &mut number.trunk) {
        number.application = None;
    }
    change_voice(&mut number.voice, parameters)?;
    let Number { voice, application, trunk, .. } = &*number;
    if application.is_none() && trunk.is_none() {
        primary(voice, parameters)?;
    }
    change_kept(&mut number.other, &OF_NUMBERS, parameters)
}

/// Changes an application with the parameters of a form.
pub(super) fn change_application(
    application: &mut VoiceApplication,
    name: &mut String,
    parameters: &Parameters,
) -> Result<(), ApiError> {
    change_name(name, parameters)?;
    change_voice(&mut application.voice, parameters)?;
    primary(&application.voice, parameters)?;
    change_kept(&mut application.other, &OF_APPLICATIONS, parameters)?;
    application.open = application.other.get(OPEN).is_some_and(|open| *open == Value::Bool(true));
    Ok(())
}

/// Sets the name to the value of `FriendlyName`, if the form has this parameter.
pub(super) fn change_name(name: &mut String, parameters: &Parameters) -> Result<(), ApiError> {
    let Some(text) = parameters.get("FriendlyName") else { return Ok(()) };
    if text.chars().count() > LONGEST_NAME {
        return Err(ApiError::bad(20001, format!("FriendlyName is longer than {LONGEST_NAME} characters")));
    }
    *name = text.to_owned();
    Ok(())
}

fn change_voice(voice: &mut Voice, parameters: &Parameters) -> Result<(), ApiError> {
    let url = |name: &str, slot: &mut Option<Arc<str>>| -> Result<(), ApiError> {
        if parameters.has(name) {
            *slot = parameters.url(name, 21402)?;
        }
        Ok(())
    };
    let method = |name: &str, slot: &mut Method| -> Result<(), ApiError> {
        if parameters.get(name).is_some() {
            *slot = parameters.method(name).map_err(|error| ApiError { code: 21403, ..error })?;
        }
        Ok(())
    };
    url("VoiceUrl", &mut voice.url)?;
    method("VoiceMethod", &mut voice.method)?;
    url("VoiceFallbackUrl", &mut voice.fallback_url)?;
    method("VoiceFallbackMethod", &mut voice.fallback_method)?;
    url("StatusCallback", &mut voice.status_callback)?;
    method("StatusCallbackMethod", &mut voice.status_callback_method)
}

/// Checks that a request with a fallback URL also has a primary URL (error 21405).
fn primary(voice: &Voice, parameters: &Parameters) -> Result<(), ApiError> {
    match (parameters.get("VoiceFallbackUrl"), &voice.url) {
        (Some(_), None) => Err(ApiError::bad(21405, "VoiceFallbackUrl needs a VoiceUrl")),
        _ => Ok(()),
    }
}

fn change_kept(kept: &mut Map<String, Value>, fields: &[Field], parameters: &Parameters) -> Result<(), ApiError> {
    for (name, key, form) in fields.iter().filter(|(name, ..)| parameters.has(name)) {
        let Some(text) = parameters.get(name) else {
            kept.remove(*key);
            continue;
        };
        let bad = |code| ApiError::bad(code, format!("{name} is not valid: {text}"));
        if text.len() > LONGEST_KEPT {
            return Err(bad(20001));
        }
        let value = match form {
            Form::Url => json!(parameters.url(name, 21402)?),
            Form::Sid | Form::Text => json!(text),
            Form::Method => json!(Method::parse(text).ok_or_else(|| bad(21403))?.name()),
            Form::Flag => json!(parameters.flag(name, false)?),
            Form::Word(words) => {
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(text)).ok_or_else(|| bad(20001))?;
                json!(word)
            }
        };
        kept.insert((*key).to_owned(), value);
    }
    Ok(())
}

/// Adds the stored fields to a resource. A URL field or SID field that is not set gets the value `unset`.
fn read_kept(resource: &mut Value, fields: &[Field], kept: &Map<String, Value>, unset: &Value) {
    let Some(resource) = resource.as_object_mut() else { return };
    for (_, key, form) in fields {
        let default = || match form {
            Form::Url | Form::Sid => unset.clone(),
            Form::Method => json!("POST"),
            Form::Flag => json!(false),
            Form::Text => Value::Null,
            Form::Word(words) => json!(words.first()),
        };
        resource.insert((*key).to_owned(), kept.get(*key).cloned().unwrap_or_else(default));
    }
}

fn read_voice(resource: &mut Value, voice: &Voice, unset: &Value) {
    let Some(resource) = resource.as_object_mut() else { return };
    let url = |url: &Option<Arc<str>>| url.as_deref().map_or_else(|| unset.clone(), Value::from);
    for (key, value) in [
        ("voice_url", url(&voice.url)),
        ("voice_method", json!(voice.method.name())),
        ("voice_fallback_url", url(&voice.fallback_url)),
        ("voice_fallback_method", json!(voice.fallback_method.name())),
        ("status_callback", url(&voice.status_callback)),
        ("status_callback_method", json!(voice.status_callback_method.name())),
    ] {
        resource.insert(key.to_owned(), value);
    }
}

/// A date of a resource. A resource of the configuration file has no date. For such a resource the date is the start
/// time of the server.
fn date(at: Timestamp) -> String {
    format::rfc2822(if at == Timestamp::UNIX_EPOCH { clock::started() } else { at })
}

/// The IncomingPhoneNumber resource.
pub(super) fn number(owner: Owner<'_>, row: &Resource<Number>) -> Value {
    let (pn, details) = (owner.ids.spell("PN", row.id), &row.details);
    let pooled = |key: &str| details.other.get(key).cloned();
    let mut resource = json!({
        "sid": pn,
        "account_sid": owner.sid,
        "friendly_name": friendly_name(row),
        "phone_number": row.name,
        "address_requirements": pooled("address_requirements").unwrap_or_else(|| json!("none")),
        "beta": is_beta(details),
        "capabilities": pooled("capabilities").unwrap_or_else(|| capabilities(&[Capability::Voice])),
        "date_created": date(row.created_at),
        "date_updated": date(row.updated_at),
        "emergency_address_status": "unregistered",
        "origin": ORIGIN,
        "status": "in-use",
        "trunk_sid": details.trunk,
        "type": kind(row).word(),
        "voice_application_sid": details.application.as_deref().unwrap_or_default(),
        "uri": owner.uri(format_args!("IncomingPhoneNumbers/{pn}")),
    });
    read_voice(&mut resource, &details.voice, &json!(""));
    read_kept(&mut resource, &OF_NUMBERS, &details.other, &json!(""));
    resource
}

/// The `origin` of every number.
pub(super) const ORIGIN: &str = "twilio";

/// Whether the number pool marked the number as new to the network (`beta`).
pub(super) fn is_beta(number: &Number) -> bool {
    number.other.get("beta").and_then(Value::as_bool).unwrap_or(false)
}

/// The attributes that a number has in the pool. When an account takes the number from the pool, these attributes are
/// stored with the number.
pub(super) fn pooled(block: &Block) -> Map<String, Value> {
    let mut kept = Map::new();
    kept.insert("type".into(), block.kind.word().into());
    kept.insert("capabilities".into(), capabilities(&block.capabilities));
    kept.insert("address_requirements".into(), block.address_requirements.word().into());
    kept.insert("beta".into(), block.beta.into());
    kept
}

/// The kind of the number. The pool gives the kind. If the pool gave no kind, the area code decides whether the number
/// is toll-free or local.
pub(super) fn kind(row: &Resource<Number>) -> NumberKind {
    let word = row.details.other.get("type").and_then(Value::as_str);
    if let Some(kind) = word.and_then(|word| KINDS.iter().find(|(kind, _)| kind.word() == word)) {
        return kind.0;
    }
    match row.name.get(..5) {
        Some("+1800" | "+1833" | "+1844" | "+1855" | "+1866" | "+1877" | "+1888") => NumberKind::TollFree,
        _ => NumberKind::Local,
    }
}

/// The kinds of numbers, each with the name of the kind's REST list.
pub(super) const KINDS: [(NumberKind, &str); 7] = [
    (NumberKind::Local, "Local"),
    (NumberKind::TollFree, "TollFree"),
    (NumberKind::Mobile, "Mobile"),
    (NumberKind::National, "National"),
    (NumberKind::Voip, "Voip"),
    (NumberKind::SharedCost, "SharedCost"),
    (NumberKind::MachineToMachine, "MachineToMachine"),
];

/// A value that the REST API writes as a word.
pub(super) trait Word {
    /// The API's word.
    fn word(self) -> &'static str;
}

impl Word for NumberKind {
    fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Mobile => "mobile",
            Self::TollFree => "toll_free",
            Self::National => "national",
            Self::Voip => "voip",
            Self::SharedCost => "shared_cost",
            Self::MachineToMachine => "machine_to_machine",
        }
    }
}

impl Word for AddressRequirements {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Any => "any",
            Self::Local => "local",
            Self::Foreign => "foreign",
        }
    }
}

/// The `capabilities` object with all its keys.
pub(super) fn capabilities(has: &[Capability]) -> Value {
    json!({
        "voice": has.contains(&Capability::Voice),
        "sms": has.contains(&Capability::Sms),
        "mms": has.contains(&Capability::Mms),
        "fax": has.contains(&Capability::Fax),
    })
}

pub(super) fn application(owner: Owner<'_>, row: &Resource<VoiceApplication>) -> Value {
    let ap = owner.ids.spell("AP", row.id);
    let mut resource = json!({
        "sid": ap,
        "account_sid": owner.sid,
        "friendly_name": row.name,
        "date_created": date(row.created_at),
        "date_updated": date(row.updated_at),
        "uri": owner.uri(format_args!("Applications/{ap}")),
    });
    read_voice(&mut resource, &row.details.voice, &Value::Null);
    read_kept(&mut resource, &OF_APPLICATIONS, &row.details.other, &Value::Null);
    resource
}

/// The OutgoingCallerId resource of a verified number.
pub(super) fn caller(owner: Owner<'_>, row: &Resource<VerifiedCaller>) -> Value {
    let pn = owner.ids.spell("PN", row.id);
    json!({
        "sid": pn,
        "account_sid": owner.sid,
        "friendly_name": row.details.friendly_name,
        "phone_number": row.name,
        "date_created": date(row.created_at),
        "date_updated": date(row.updated_at),
        "uri": owner.uri(format_args!("OutgoingCallerIds/{pn}")),
    })
}

/// Whether the number contains the pattern. A pattern consists of digits, letters as on a telephone keypad, and `*` for
/// any digit. If the pattern begins with `+`, the number must begin with the pattern.
pub(super) fn contains(number: &str, pattern: &str) -> bool {
    let key = |c: char| match c.to_ascii_uppercase() {
        'A'..='C' => '2',
        'D'..='F' => '3',
        'G'..='I' => '4',
        'J'..='L' => '5',
        'M'..='O' => '6',
        'P'..='S' => '7',
        'T'..='V' => '8',
        'W'..='Z' => '9',
        other => other,
    };
    let digits: Vec<char> = number.chars().filter(char::is_ascii_digit).collect();
    let pattern_digits: Vec<char> =
        pattern.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '*').map(key).collect();
    let fits = |window: &[char]| {
        window.iter().zip(&pattern_digits).all(|(digit, expected)| *expected == '*' || digit == expected)
    };
    match (pattern_digits.len(), pattern.starts_with('+')) {
        (0, _) => true,
        (count, true) => digits.get(..count).is_some_and(fits),
        (count, false) => digits.windows(count).any(fits),
    }
}

/// Whether both texts have the same digits.
pub(super) fn same(number: &str, other: &str) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    digits(number) == digits(other)
}

/// The first three digits after the country calling code.
pub(super) fn area_code(number: &str) -> Option<&str> {
    country::national(number)?.get(..3)
}

/// The number's `friendly_name`: the stored name, or the formatted number.
pub(super) fn friendly_name(row: &Resource<Number>) -> String {
    let given = &row.details.friendly_name;
    if given.is_empty() { name_of(&row.name) } else { given.clone() }
}

/// The default name of a number: `(415) 867-5309`.
pub(super) fn name_of(number: &str) -> String {
    format::formatted(&Address::from(number))
}

#[cfg(test)]
#[path = "resource_fields_tests.rs"]
mod tests;
