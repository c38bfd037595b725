//! Dynamic variables of an assistant: their values, and the texts that contain them as `{{name}}`. The variables with the
//! prefix `telnyx_current_` are the present time in several forms.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use tandem_call::leg::{Attestation, Direction, LegInfo, Verstat};

use crate::id;

/// Maximum number of variables.
const MAX_VARIABLES: usize = 200;
/// Maximum length of a variable's value, in characters.
const LONGEST_VARIABLE: usize = 8 * 1024;
/// Size in octets of a text after which further variables are not filled in. Without this limit, a short text with many
/// variables could become very large.
const LARGEST_TEXT: usize = 512 * 1024;
/// The prefix of the names that Telnyx reserves for its own variables.
const RESERVED: &str = "telnyx_";
const CURRENT_TIME: &str = "telnyx_current_time";
/// The form of [`CURRENT_TIME`], by the codes of `strftime`.
const TIME_FORMAT: &str = "%A, %B %d %Y %I:%M:%S %p %Z";
const TIME_OF_DAY: &str = "telnyx_current_time_of_day";
const TIME_OF_DAY_FORMAT: &str = "%I:%M:%S %p %Z";
/// The variables of the present time, in UTC, each with its form.
const TIMES: &[(&str, &str)] = &[
    (CURRENT_TIME, TIME_FORMAT),
    (TIME_OF_DAY, TIME_OF_DAY_FORMAT),
    ("telnyx_current_date", "%B %d %Y"),
    ("telnyx_current_weekday", "%A"),
    ("telnyx_current_month", "%B"),
    ("telnyx_current_day", "%d"),
    ("telnyx_current_year", "%Y"),
];

/// The values of dynamic variables, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Variables {
    values: BTreeMap<String, String>,
    /// The present time.
    pub(crate) now: Timestamp,
}

impl Variables {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { values: BTreeMap::new(), now }
    }

    /// Adds the members of an object. A value that is not a text is written as JSON.
    pub(crate) fn add(&mut self, values: &Value) {
        for (name, value) in values.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            if self.values.len() < MAX_VARIABLES || self.values.contains_key(name) {
                self.values.insert(name.clone(), text.chars().take(LONGEST_VARIABLE).collect());
            }
        }
    }

    pub(crate) fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    /// Replaces each `{{name}}` in a text by the variable's value. Unknown names stay unchanged.
    pub(crate) fn filled(&self, text: &str) -> String {
        let (mut filled, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, after)) = rest.split_once("{{").filter(|_| filled.len() < LARGEST_TEXT) {
            let Some((name, behind)) = after.split_once("}}") else { break };
            filled.push_str(before);
            match self.values.get(name.trim()) {
                Some(value) => filled.push_str(value),
                None => match self.time(name.trim()) {
                    Some(time) => filled.push_str(&time),
                    None => filled.extend(["{{", name, "}}"]),
                },
            }
            rest = behind;
        }
        filled.push_str(rest);
        filled
    }

    /// The value of a variable of the present time. `None` if there is no such variable, time zone or format.
    fn time(&self, name: &str) -> Option<String> {
        let in_zone = |format: &str, zone: &str| {
            let zone = if zone.is_empty() { TimeZone::UTC } else { TimeZone::get(zone).ok()? };
            strtime::format(format, &self.now.to_zoned(zone)).ok()
        };
        if let Some((variable, filter)) = name.split_once('|') {
            // `telnyx_current_time | date: "FORMAT", "ZONE"`, where the zone is optional.
            let arguments = filter.trim().strip_prefix("date:").filter(|_| variable.trim() == CURRENT_TIME)?;
            let mut quoted = arguments.split('"').skip(1).step_by(2);
            return in_zone(quoted.next()?, quoted.next().unwrap_or_default());
        }
        if let Some((_, format)) = TIMES.iter().find(|(known, _)| *known == name) {
            return in_zone(format, "");
        }
        let of_zone = |variable: &str| name.strip_prefix(variable)?.strip_prefix('_').filter(|zone| !zone.is_empty());
        match of_zone(TIME_OF_DAY) {
            Some(zone) => in_zone(TIME_OF_DAY_FORMAT, zone),
            None => in_zone(TIME_FORMAT, of_zone(CURRENT_TIME)?),
        }
    }
}

/// The facts about the call that Telnyx publishes as variables.
pub(super) fn facts(leg: &LegInfo) -> Map<String, Value> {
    let inbound = leg.direction == Direction::Inbound;
    let (agent, user) = if inbound { (&leg.to, &leg.from) } else { (&leg.from, &leg.to) };
    let identity = leg.sip.identity.as_deref().filter(|_| inbound);
    let attestation = identity.and_then(|one| one.attestation);
    let is_verified = attestation == Some(Attestation::A) && identity.is_some_and(|one| one.verstat == Verstat::Passed);
    let caller_name = leg.caller_name.clone().unwrap_or_else(|| leg.from.user().into_owned());
    let mut facts = Map::new();
    let mut fact = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    fact("telnyx_conversation_channel", "phone_call".into());
    fact("telnyx_agent_target", agent.to_string().into());
    fact("telnyx_end_user_target", user.to_string().into());
    fact("telnyx_end_user_target_verified", is_verified.into());
    fact("telnyx_call_from", leg.from.to_string().into());
    fact("telnyx_call_to", leg.to.to_string().into());
    fact("telnyx_call_caller_id_name", caller_name.into());
    if let Some(attestation) = attestation {
        fact("telnyx_shaken_stir_attestation", attestation.letter().to_ascii_lowercase().into());
    }
    fact("call_control_id", id::call_control_id(leg.id).into());
    facts
}

/// The variables that the SIP header fields of the far end set: `X-Full-Name` sets `full_name`.
pub(super) fn of_headers(leg: &LegInfo) -> Map<String, Value> {
    let variable = |(name, value): &(String, String)| {
        let name = name.to_ascii_lowercase().replace('-', "_");
        let name = name.strip_prefix("x_").filter(|name| !name.is_empty() && !name.starts_with(RESERVED))?;
        Some((name.to_owned(), value.as_str().into()))
    };
    leg.sip.headers.iter().filter_map(variable).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture;

    fn at_four() -> Variables {
        Variables::new("2025-02-24T16:04:15Z".parse().unwrap())
    }

    #[test]
    fn a_text_with_open_braces_stays_unchanged() {
        let mut variables = at_four();
        variables.add(&json!({ "a": "{{a}}" }));
        for (text, expected) in [("{{", "{{"), ("{{a", "{{a"), ("x{{a}}{{ a }}", "x{{a}}{{a}}"), ("}}{{b}}", "}}{{b}}")]
        {
            assert_eq!(variables.filled(text), expected);
        }
    }

    #[test]
    fn the_present_time_has_the_published_forms() {
        let of_day = "{{telnyx_current_time_of_day}}, {{telnyx_current_time_of_day_Europe/London}}";
        for (text, expected) in [
            ("{{telnyx_current_time}}", "Monday, February 24 2025 04:04:15 PM UTC"),
            ("{{telnyx_current_time_America/New_York}}", "Monday, February 24 2025 11:04:15 AM EST"),
            (of_day, "04:04:15 PM UTC, 04:04:15 PM GMT"),
            ("{{telnyx_current_weekday}} {{telnyx_current_date}}", "Monday February 24 2025"),
            (r#"{{ telnyx_current_time | date: "%I:%M %p", "America/New_York" }}"#, "11:04 AM"),
            (r#"{{ telnyx_current_time | date: "%A, %B %d, %Y" }}"#, "Monday, February 24, 2025"),
        ] {
            assert_eq!(at_four().filled(text), expected);
        }
        for unknown in [
            "{{telnyx_current_time_Mars/Base}}",
            "{{telnyx_current_time_}}",
            "{{telnyx_current_time | upper}}",
            r#"{{telnyx_current_time | date: "%!" }}"#,
        ] {
            assert_eq!(at_four().filled(unknown), unknown);
        }
    }

    #[test]
    fn variables_do_not_make_a_text_larger_than_the_limit() {
        let mut variables = at_four();
        variables.add(&json!({ "a": "x".repeat(LONGEST_VARIABLE) }));
        let filled = variables.filled(&"{{a}}".repeat(20_000));
        assert!(filled.len() <= LARGEST_TEXT + LONGEST_VARIABLE + 5 * 20_000, "{} octets", filled.len());
    }

    #[test]
    fn header_fields_of_the_far_end_are_variables_without_their_prefix() {
        let mut leg = fixture::leg();
        leg.sip.headers.push(("x-Full-Name".into(), "Ann".into()));
        leg.sip.headers.push(("X-Telnyx-Call-To".into(), "evil".into()));
        leg.sip.headers.push(("X-".into(), "nothing".into()));
        assert_eq!(Value::Object(of_headers(&leg)), json!({ "full_name": "Ann", "ticket": "42" }));
    }
}
