//! The elements for the parties of a `Dial`: `Number`, `Sip`, `Client`, `Application`.

use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::fetch::FetchFailure;
use tandem_call::header_fields::HeaderFields;
use tandem_call::internal_call::InternalCall;
use tandem_call::machine_detection::{MachineDetection, Until};
use tandem_call::program::instruction::{Credentials, DialTarget, is_trunk_id};
use tandem_call::{Callback, StatusEvent};

use crate::code;
use crate::element::Element;
use crate::flavour::Meaning;
use crate::party::{self, MAX_HEADERS, is_allowed_header, split_sip_uri};
use crate::reader::Reader;

const NUMBER_METHOD: u32 = 13221;
const NUMBER_SEND_DIGITS: u32 = 13222;
const NUMBER_FORMAT: u32 = 13223;
const SIP_METHOD: u32 = 13241;
const SIP_URI: u32 = 13243;
const TOO_MANY_URIS: u32 = 13250;
const SIP_HEADERS_TOO_LONG: u32 = 13251;
const SIP_HEADER_NAME: u32 = 13252;
const SIP_HEADER_VALUE: u32 = 13253;
const NOT_CALLABLE: u32 = 13224;
const NO_AMD_CALLBACK: u32 = 21262;
/// Maximum length of `customerId`, in characters.
const MAX_CUSTOMER: usize = 256;
/// Maximum number of `Uri` elements in a `Sip`.
const MAX_URIS: usize = 10;

/// The events that the status callback of a called party can report.
pub(crate) const STATUS_EVENTS: [(&str, StatusEvent); 4] = [
    ("initiated", StatusEvent::Initiated),
    ("ringing", StatusEvent::Ringing),
    ("answered", StatusEvent::Answered),
    ("completed", StatusEvent::Completed),
];

/// Reads a telephone number that is the text of the `Dial` element.
pub(super) fn bare(reader: &mut Reader<'_>, text: &str) -> Option<DialTarget> {
    let number = (reader.flavour.phone)(text);
    if number.is_none() {
        reader.warn(NUMBER_FORMAT, format!("{}: not a telephone number; it was not called", short(text)));
    }
    number.map(DialTarget::new)
}

pub(super) fn number(reader: &mut Reader<'_>, element: &Element) -> Result<Option<DialTarget>, FetchFailure> {
    let Some(mut target) = bare(reader, &element.text()) else { return Ok(None) };
    progress(reader, element, NUMBER_METHOD, &mut target)?;
    if let Some(digits) = element.attribute("sendDigits").map(str::trim).filter(|digits| !digits.is_empty()) {
        target.send_digits = party::send_digits(digits);
        if target.send_digits.is_none() {
            reader.bad_value(element, "sendDigits", NUMBER_SEND_DIGITS);
        }
    }
    if let Some(byoc) = element.attribute("byoc").map(str::trim).filter(|text| !text.is_empty()) {
        // If the trunk is unknown, there is no route, and the dial fails. Only an id selects a trunk: no trunk has the
        // empty name.
        target.via = vec![if is_trunk_id(byoc) { byoc.into() } else { "".into() }];
    }
    Ok(Some(target))
}

/// Reads a `Sip`. The SIP URI is the text of the element. If the element has `Uri` elements, the SIP URIs are the texts
/// of these `Uri` elements, in the order of their priority.
pub(super) fn sip(reader: &mut Reader<'_>, element: &Element, out: &mut Vec<DialTarget>) -> Result<(), FetchFailure> {
    let mut headers = HeaderFields::new();
    let mut uris: Vec<(u64, &Element)> = Vec::new();
    for child in element.elements() {
        if reader.rule(child).is_none() {
            continue;
        }
        match child.name.as_str() {
            "Uri" if uris.len() < MAX_URIS => {
                let priority = reader.number(child, "priority", 0..=65_535, code::SCHEMA).unwrap_or_default();
                uris.push((priority, child));
            }
            "Uri" => reader.warn(TOO_MANY_URIS, format!("<Sip> with more than {MAX_URIS} <Uri>; the rest was skipped")),
            "Headers" => {
                for header in child.elements().filter(|header| header.name == "Header") {
                    let (name, value) = (header.attribute("name"), header.attribute("value"));
                    push_header(reader, name.unwrap_or_default(), value.unwrap_or_default(), &mut headers);
                }
            }
            _ => reader.misplaced(child, element),
        }
    }
    uris.sort_by_key(|(priority, _)| *priority);
    let places: Vec<&Element> =
        if uris.is_empty() { vec![element] } else { uris.into_iter().map(|(_, uri)| uri).collect() };
    for place in places {
        let Some((uri, uri_headers)) = sip_uri(reader, &place.text()) else { continue };
        let mut target = DialTarget::new(Address::Sip(uri.into()));
        target.headers = headers.clone();
        target.headers.extend(uri_headers);
        target.credentials = credentials(place).or_else(|| credentials(element));
        progress(reader, element, SIP_METHOD, &mut target)?;
        out.push(target);
    }
    Ok(())
}

pub(super) fn client(reader: &mut Reader<'_>, element: &Element) -> Result<Option<DialTarget>, FetchFailure> {
    let identity =
        element.elements().find(|child| child.name == "Identity").map_or_else(|| element.text(), Element::text);
    let mut headers = HeaderFields::new();
    for child in element.elements() {
        let known = reader.rule_in(child, element).is_some();
        if known && child.name == "Parameter" {
            // A phone receives parameters as headers of the INVITE.
            let name = child.attribute("name").unwrap_or_default();
            let prefix = if name.get(..2).is_some_and(|head| head.eq_ignore_ascii_case("X-")) { "" } else { "X-" };
            let header = if name.is_empty() { String::new() } else { format!("{prefix}{name}") };
            push_header(reader, &header, child.attribute("value").unwrap_or_default(), &mut headers);
        }
    }
    let name = identity.strip_prefix("client:").unwrap_or(&identity);
    if name.is_empty() || name.len() > 256 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        reader.warn(code::SCHEMA, "<Client> without an identity was not called");
        return Ok(None);
    }
    let mut target = DialTarget { headers, ..DialTarget::new(Address::Client(name.into())) };
    progress(reader, element, code::SCHEMA, &mut target)?;
    Ok(Some(target))
}

/// Reads an `Application`. The id is the text of the element, or the text of its `ApplicationSid` element.
pub(super) fn application(reader: &mut Reader<'_>, element: &Element) -> Result<Option<DialTarget>, FetchFailure> {
    let mut id = element.text();
    for child in element.elements() {
        match reader.rule_in(child, element) {
            Some(_) if child.name == "ApplicationSid" => id = child.text(),
            Some(rule) if rule.meaning == Meaning::Part => {}
            Some(_) => reader.misplaced(child, element),
            None => {}
        }
    }
    if id.is_empty() || id.len() > 64 || !id.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
        reader.warn(NOT_CALLABLE, format!("<Application> {}: not an application id; it was not called", short(&id)));
        return Ok(None);
    }
    let named = reader.parameters(element).into_iter().map(|(name, value)| (format!("Param_{name}"), value));
    let customer = element.attribute("customerId").filter(|text| !text.is_empty());
    if customer.is_some_and(|text| text.chars().count() > MAX_CUSTOMER || text.chars().any(char::is_control)) {
        reader.bad_value(element, "customerId", code::SCHEMA);
    }
    let handover = InternalCall {
        parameters: named.collect(),
        customer: customer.map(|text| text.chars().filter(|c| !c.is_control()).take(MAX_CUSTOMER).collect()),
        as_called: reader.flag(element, "copyParentTo", false, code::SCHEMA),
        ..InternalCall::default()
    };
    let to = Address::Application(id.into());
    let mut target = DialTarget { handover: Some(Box::new(handover)), ..DialTarget::new(to) };
    progress(reader, element, code::SCHEMA, &mut target)?;
    Ok(Some(target))
}

/// Reads a SIP URI and the headers after the `?` (RFC 3261 §19.1.1). If the URI is invalid, warns and returns `None`.
fn sip_uri(reader: &mut Reader<'_>, text: &str) -> Option<(String, HeaderFields)> {
    match split_sip_uri(text) {
        Ok((uri, headers)) => {
            let mut kept = HeaderFields::new();
            for (name, value) in headers {
                push_header(reader, &name, &value, &mut kept);
            }
            Some((uri, kept))
        }
        Err(problem) => {
            reader.warn(SIP_URI, format!("{}: {problem}; it was not called", short(text)));
            None
        }
    }
}

fn push_header(reader: &mut Reader<'_>, name: &str, value: &str, out: &mut HeaderFields) {
    let used: usize = out.iter().map(|(name, value)| name.len() + value.len()).sum();
    if !is_allowed_header(name) {
        reader.warn(SIP_HEADER_NAME, format!("header {} may not be set; it was skipped", short(name)));
    } else if value.chars().any(char::is_control) {
        reader.warn(SIP_HEADER_VALUE, format!("the value of header {name} has control characters; it was skipped"));
    } else if used + name.len() + value.len() >= MAX_HEADERS {
        reader.warn(SIP_HEADERS_TOO_LONG, format!("the headers have {MAX_HEADERS} octets or more; {name} was skipped"));
    } else {
        out.push((name.to_owned(), value.to_owned()));
    }
}

fn progress(
    reader: &mut Reader<'_>,
    element: &Element,
    method_code: u32,
    target: &mut DialTarget,
) -> Result<(), FetchFailure> {
    let method = reader.method(element, "method", method_code);
    target.whisper = reader.target(element.attribute("url"), method, code::BAD_URL)?;
    let detected = [("amd", StatusEvent::Detected)];
    let more: &[_] = if reader.flavour.defaults.detects_in_milliseconds { &detected } else { &[] };
    let events = [&STATUS_EVENTS, more].concat();
    target.status = reader.callback(element, "statusCallback", &events, &[StatusEvent::Completed], code::SCHEMA)?;
    target.detect = machine_detection(reader, element, target.status.as_ref())?.map(Box::new);
    Ok(())
}

/// Reads the settings of answering machine detection. A `sendDigits` attribute disables the detection, because the
/// detection would mistake the sent digits for audio of the called party.
fn machine_detection(
    reader: &mut Reader<'_>,
    element: &Element,
    status: Option<&Callback>,
) -> Result<Option<MachineDetection>, FetchFailure> {
    let modes = [("Enable", Some(Until::FirstResult)), ("DetectMessageEnd", Some(Until::GreetingEnd))];
    let until = reader.word(element, "machineDetection", &modes, None, code::SCHEMA);
    let Some(until) = until.filter(|_| element.attribute("sendDigits").is_none()) else { return Ok(None) };
    if reader.flavour.defaults.detects_in_milliseconds {
        return Ok(Some(in_milliseconds(reader, element, until, status)));
    }
    let within = reader.seconds(element, "machineDetectionTimeout", 3..=120, code::SCHEMA);
    let mut milliseconds = |name, range, default| {
        Duration::from_millis(reader.number(element, name, range, code::SCHEMA).unwrap_or(default))
    };
    let greeting = milliseconds("machineDetectionSpeechThreshold", 1_000..=6_000, 2_400);
    let after_greeting = milliseconds("machineDetectionSpeechEndThreshold", 500..=5_000, 1_200);
    let silence = milliseconds("machineDetectionSilenceTimeout", 2_000..=10_000, 5_000);
    let within = within.unwrap_or(Duration::from_secs(30));
    let callback = reader.callback(element, "amdStatusCallback", &[], &[], code::SCHEMA)?;
    if callback.is_none() {
        let name = &element.name;
        reader.warn(
            NO_AMD_CALLBACK,
            format!("<{name}> machineDetection: without an amdStatusCallback, the result is not reported"),
        );
    }
    Ok(Some(MachineDetection { callback, ..MachineDetection::new(until, within, greeting, after_greeting, silence) }))
}

/// Reads the settings of answering machine detection in TeXML. All times are in milliseconds, and an event of the
/// status callback reports the result.
fn in_milliseconds(
    reader: &mut Reader<'_>,
    element: &Element,
    until: Until,
    status: Option<&Callback>,
) -> MachineDetection {
    let mut milliseconds = |name, default| {
        Duration::from_millis(reader.number(element, name, 100..=60_000, code::SCHEMA).unwrap_or(default))
    };
    let within = milliseconds("machineDetectionTimeout", 30_000);
    let greeting = milliseconds("machineDetectionSpeechThreshold", 3_500);
    let after_greeting = milliseconds("machineDetectionSpeechEndThreshold", 800);
    let silence = milliseconds("machineDetectionSilenceTimeout", 3_500);
    let callback = status.filter(|status| status.wants(StatusEvent::Detected)).cloned();
    MachineDetection { callback, ..MachineDetection::new(until, within, greeting, after_greeting, silence) }
}

fn credentials(element: &Element) -> Option<Credentials> {
    let username = element.attribute("username").filter(|name| !name.is_empty())?.to_owned();
    Some(Credentials { username, password: element.attribute("password").unwrap_or_default().to_owned() })
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
