//! `AvailablePhoneNumbers`: the free numbers of the pool, by country and kind.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem_routing::country;
use tandem_routing::number_pool::{AddressRequirements, Block, Capability, NumberKind};

use super::super::error::{ApiError, allow};
use super::super::form::Parameters;
use super::super::path::VERSION;
use super::super::resource_fields::{self, KINDS, Word as _};
use super::{Answer, RestContext, Verb, ok};

/// One mile in metres.
const MILE: f64 = 1_609.344;

pub(super) fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    if x.verb != Verb::Get {
        return Err(ApiError::method_not_allowed(allow::GET));
    }
    match below {
        [] => {
            let countries: Vec<Value> = countries(x).iter().map(|(code, kinds)| country(x, code, kinds)).collect();
            Ok(ok(json!({ "countries": countries, "uri": uri(x, "") })))
        }
        [code] => {
            let all = countries(x);
            let (code, kinds) = all.iter().find(|(known, _)| known == code).ok_or_else(|| x.not_found())?;
            Ok(ok(country(x, code, kinds)))
        }
        [code, name] => {
            let kind = KINDS.iter().find(|(_, known)| known == name).ok_or_else(|| x.not_found())?;
            if !country::is_known(code) && !countries(x).iter().any(|(known, _)| known == code) {
                return Err(x.not_found());
            }
            list(x, code, *kind)
        }
        _ => Err(x.not_found()),
    }
}

fn list(x: &RestContext<'_>, code: &str, (kind, name): (NumberKind, &str)) -> Answer {
    let max = x.paging("PN")?.page().limit;
    let search = NumberSearch::parse(x.parameters)?;
    let block_fits = |block: &Block| {
        block.kind == kind && country_of(block.number.as_str(), block) == code && search.fits_block(block)
    };
    let numbers = x.numbers();
    let offered = numbers.offered(block_fits, |number| search.fits(number), max);
    let numbers: Vec<Value> = offered.iter().map(|(number, block)| available(number, block)).collect();
    Ok(ok(json!({ "available_phone_numbers": numbers, "uri": uri(x, &format!("/{code}/{name}")) })))
}

/// The countries of the numbers in the pool, in the order of the pool. Each country has a list of the kinds of numbers
/// that are in the pool.
fn countries(x: &RestContext<'_>) -> Vec<(String, Vec<NumberKind>)> {
    let mut countries: Vec<(String, Vec<NumberKind>)> = Vec::new();
    for block in x.numbers().blocks() {
        let code = country_of(block.number.as_str(), block);
        let place = countries.iter().position(|(known, _)| *known == code).unwrap_or_else(|| {
            countries.push((code.to_owned(), Vec::new()));
            countries.len() - 1
        });
        if let Some((_, kinds)) = countries.get_mut(place).filter(|(_, kinds)| !kinds.contains(&block.kind)) {
            kinds.push(block.kind);
        }
    }
    countries
}

fn country_of<'a>(number: &str, block: &'a Block) -> &'a str {
    block.country.as_deref().unwrap_or_else(|| country::of(number))
}

fn country(x: &RestContext<'_>, code: &str, kinds: &[NumberKind]) -> Value {
    let there = KINDS.iter().filter(|(kind, _)| kinds.contains(kind));
    let lists: Map<String, Value> =
        there.map(|(kind, name)| (kind.word().to_owned(), json!(uri(x, &format!("/{code}/{name}"))))).collect();
    json!({
        "country_code": code,
        "country": country::name(code),
        "beta": false,
        "uri": uri(x, &format!("/{code}")),
        "subresource_uris": lists,
    })
}

fn uri(x: &RestContext<'_>, below: &str) -> String {
    format!("/{VERSION}/Accounts/{}/AvailablePhoneNumbers{below}.json", x.account_sid())
}

fn available(number: &str, block: &Block) -> Value {
    let degrees = |degrees: Option<f64>| degrees.map(|degrees| format!("{degrees:.6}"));
    json!({
        "friendly_name": resource_fields::name_of(number),
        "phone_number": number,
        "lata": block.lata,
        "locality": block.locality,
        "rate_center": block.rate_center,
        "latitude": degrees(block.latitude),
        "longitude": degrees(block.longitude),
        "region": block.region,
        "postal_code": block.postal_code,
        "iso_country": country_of(number, block),
        "address_requirements": block.address_requirements.word(),
        "beta": block.beta,
        "capabilities": resource_fields::capabilities(&block.capabilities),
    })
}

/// The criteria of a search.
struct NumberSearch<'a> {
    parameters: &'a Parameters,
    capabilities: Vec<(Capability, bool)>,
    beta: bool,
    without: Vec<AddressRequirements>,
    near: Option<(f64, f64)>,
    /// Maximum distance from `near`, in metres.
    distance: f64,
}

impl<'a> NumberSearch<'a> {
    fn parse(parameters: &'a Parameters) -> Result<Self, ApiError> {
        use AddressRequirements::{Any, Foreign, Local};
        let mut search = Self {
            parameters,
            capabilities: Vec::new(),
            beta: parameters.flag("Beta", true)?,
            without: Vec::new(),
            near: None,
            distance: parameters.number("Distance", 1..=500, 20001)?.unwrap_or(25) as f64 * MILE,
        };
        for (name, capability) in [
            ("VoiceEnabled", Capability::Voice),
            ("SmsEnabled", Capability::Sms),
            ("MmsEnabled", Capability::Mms),
            ("FaxEnabled", Capability::Fax),
        ] {
            if parameters.get(name).is_some() {
                search.capabilities.push((capability, parameters.flag(name, true)?));
            }
        }
        for (name, requirements) in [
            ("ExcludeAllAddressRequired", &[Any, Local, Foreign][..]),
            ("ExcludeLocalAddressRequired", &[Local]),
            ("ExcludeForeignAddressRequired", &[Foreign]),
        ] {
            if parameters.flag(name, false)? {
                search.without.extend(requirements);
            }
        }
        if let Some(text) = parameters.get("NearLatLong") {
            let degrees = |text: &str| text.trim().parse::<f64>().ok().filter(|degrees| degrees.abs() <= 180.0);
            let place =
                text.split_once(',').and_then(|(latitude, longitude)| Some((degrees(latitude)?, degrees(longitude)?)));
            let bad = || ApiError::bad(20001, format!("NearLatLong is not valid: {text}"));
            search.near = Some(place.ok_or_else(bad)?);
        }
        Ok(search)
    }

    /// Whether the location and the attributes of the block match the search.
    fn fits_block(&self, block: &Block) -> bool {
        let is = |name: &str, value: &Option<Arc<str>>| {
            let value = value.as_deref();
            self.parameters
                .get(name)
                .is_none_or(|expected| value.is_some_and(|value| value.eq_ignore_ascii_case(expected)))
        };
        let near = self.near.is_none_or(|here| {
            let place = block.latitude.zip(block.longitude);
            place.is_some_and(|there| metres(here, there) <= self.distance)
        });
        near && is("InRegion", &block.region)
            && is("InLocality", &block.locality)
            && is("InPostalCode", &block.postal_code)
            && is("InRateCenter", &block.rate_center)
            && is("InLata", &block.lata)
            && self.capabilities.iter().all(|(one, required)| block.capabilities.contains(one) == *required)
            && (self.beta || !block.beta)
            && !self.without.contains(&block.address_requirements)
    }

    /// Whether the digits of the number match the search.
    fn fits(&self, number: &str) -> bool {
        let filter = |name: &str| self.parameters.get(name);
        let area = resource_fields::area_code(number);
        filter("AreaCode").is_none_or(|code| area == Some(code))
            && filter("Contains").is_none_or(|pattern| resource_fields::contains(number, pattern))
            && filter("NearNumber").is_none_or(|other| {
                country::of(other) == country::of(number) && resource_fields::area_code(other) == area
            })
    }
}

/// The great-circle distance in metres between two points. Latitudes and longitudes are in degrees.
fn metres((latitude, longitude): (f64, f64), (other_latitude, other_longitude): (f64, f64)) -> f64 {
    /// Mean radius of the earth, in metres.
    const RADIUS: f64 = 6_371_009.0;
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let across = latitude.to_radians().cos() * other_latitude.to_radians().cos();
    let chord = half(other_latitude - latitude) + across * half(other_longitude - longitude);
    2.0 * RADIUS * chord.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(query: &str, number: &str, block: &Value) -> bool {
        let block: Block = serde_json::from_value(block.clone()).unwrap();
        let parameters = Parameters::parse(&crate::Twilio, query.as_bytes());
        let search = NumberSearch::parse(&parameters).unwrap();
        search.fits_block(&block) && search.fits(number)
    }

    #[test]
    fn each_filter_selects_numbers_by_its_field() {
        let number = "+14155550123";
        let block = json!({
            "number": number, "region": "CA", "locality": "San Francisco", "postal_code": "94105", "lata": "722",
            "rate_center": "SNFC CNTRL", "latitude": 37.7897, "longitude": -122.3942, "capabilities": ["voice", "sms"],
            "address_requirements": "local", "beta": true,
        });
        for (query, through) in [
            ("", true),
            ("AreaCode=415", true),
            ("AreaCode=510", false),
            ("Contains=415555****", true),
            ("Contains=*0123", true),
            ("Contains=%2B1415", true),
            ("Contains=0124", false),
            ("InRegion=ca&InLocality=San+Francisco&InPostalCode=94105&InLata=722&InRateCenter=SNFC+CNTRL", true),
            ("InRegion=NY", false),
            ("VoiceEnabled=true&SmsEnabled=true&MmsEnabled=false", true),
            ("FaxEnabled=true", false),
            ("Beta=false", false),
            ("ExcludeAllAddressRequired=true", false),
            ("ExcludeLocalAddressRequired=true", false),
            ("ExcludeForeignAddressRequired=true", true),
            ("NearLatLong=37.8,-122.3", true),
            ("NearLatLong=38.5,-121.5&Distance=25", false),
            ("NearLatLong=38.5,-121.5&Distance=80", true),
            ("NearNumber=%2B14155550199", true),
            ("NearNumber=%2B15105550199", false),
        ] {
            assert_eq!(fits(query, number, &block), through, "{query}");
        }
        assert!(!fits("InRegion=CA", number, &json!({ "number": number })), "nobody knows where it is");
        assert!(NumberSearch::parse(&Parameters::parse(&crate::Twilio, b"NearLatLong=here")).is_err());
    }
}
