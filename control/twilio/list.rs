//! Lists: the requested page, and the JSON envelope around the items.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use tandem_history::query::{Page, Range};

use super::error::ApiError;
use super::form::Parameters;
use super::sid::Ids;

/// The requested page of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Paging {
    size: usize,
    page: usize,
    /// The id of the last item of the previous page, from the page token.
    after: Option<u128>,
}

const PAGE_KEYS: [&str; 3] = ["PageSize", "Page", "PageToken"];
/// Prefix of a page token. After the prefix, the token has the SID of an item.
const TOKEN: &str = "PA";

impl Paging {
    /// Parses `PageSize` (at most 1000), `Page` and `PageToken`. `ids` and `prefix` describe the SIDs of the listed
    /// items.
    pub(super) fn parse(parameters: &Parameters, ids: Ids, prefix: &str) -> Result<Self, ApiError> {
        let number = |name: &str, default: usize| match parameters.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| ApiError::bad(20001, format!("{name} is not a number"))),
        };
        let size = number("PageSize", 50)?;
        if size > 1000 {
            return Err(ApiError::bad(20007, "PageSize is larger than 1000"));
        }
        let after = match parameters.get("PageToken") {
            None => None,
            Some(token) => Some(
                token
                    .strip_prefix(TOKEN)
                    .and_then(|sid| ids.parse(prefix, sid))
                    .ok_or_else(|| ApiError::bad(20001, "PageToken does not belong to this list"))?,
            ),
        };
        Ok(Self { size: size.max(1), page: number("Page", 0)?.min(1_000_000), after })
    }

    /// The page in the form that the registry's queries use.
    pub(super) fn page(&self) -> Page {
        // With a token, the page starts after the token's item. A page number without a token needs an offset.
        let offset = if self.after.is_some() { 0 } else { self.page.saturating_mul(self.size) };
        Page { limit: self.size, after: self.after, offset }
    }

    /// The items of this page, taken from the whole list. If more items follow, the result has one item of the next
    /// page too, as [`Paging::envelope`] expects.
    pub(super) fn part<T>(&self, all: Vec<T>, id: impl Fn(&T) -> Option<u128>) -> Vec<T> {
        let page = self.page();
        let begin = match page.after {
            // If the token's item no longer exists, a client is probably deleting all items page by page. In this case
            // the page starts at the beginning of the list.
            Some(after) => all.iter().position(|one| id(one) == Some(after)).map_or(0, |place| place + 1),
            None => page.offset,
        };
        all.into_iter().skip(begin).take(page.limit + 1).collect()
    }

    /// Builds the envelope. `items` are pairs of a SID and a resource. If `items` has one item more than the page size,
    /// there is a next page.
    pub(super) fn envelope(
        &self,
        key: &'static str,
        path: &str,
        parameters: &Parameters,
        mut items: Vec<(String, Value)>,
    ) -> Value {
        let more = items.len() > self.size;
        items.truncate(self.size);
        let uri = |page: usize, token: Option<&str>| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(parameters.pairs().filter(|(name, _)| !PAGE_KEYS.contains(name)));
            query.append_pair("PageSize", &self.size.to_string()).append_pair("Page", &page.to_string());
            if let Some(token) = token {
                query.append_pair("PageToken", token);
            }
            format!("{path}?{}", query.finish())
        };
        let next = match items.last() {
            Some((sid, _)) if more => Some(uri(self.page + 1, Some(&format!("{TOKEN}{sid}")))),
            _ => None,
        };
        let start = if items.is_empty() { 0 } else { self.page.saturating_mul(self.size) };
        let mut envelope = Map::new();
        envelope.insert("first_page_uri".into(), uri(0, None).into());
        envelope.insert("next_page_uri".into(), json!(next));
        envelope.insert("previous_page_uri".into(), json!((self.page > 0).then(|| uri(self.page - 1, None))));
        envelope.insert("uri".into(), uri(self.page, parameters.get("PageToken")).into());
        envelope.insert("page".into(), self.page.into());
        envelope.insert("page_size".into(), self.size.into());
        envelope.insert("start".into(), start.into());
        envelope.insert("end".into(), (start + items.len().saturating_sub(1)).into());
        envelope.insert(key.into(), items.into_iter().map(|(_, item)| item).collect());
        Value::Object(envelope)
    }
}

/// A date filter on a value that the resource shows in whole seconds. `Name` selects a UTC day. `Name>` selects the given
/// time and later times. `Name<` selects earlier times, as the list of calls publishes it.
pub(super) fn range(parameters: &Parameters, name: &str) -> Result<Range, ApiError> {
    let mut range = Range::default();
    if let Some(text) = parameters.get(name) {
        let (_, day) = parse_time(name, text)?;
        range.from = midnight(day);
        range.until = day.tomorrow().ok().and_then(midnight);
    }
    if let Some(text) = parameters.get(&format!("{name}>")) {
        range.from = Some(second_from(parse_time(name, text)?.0));
    }
    if let Some(text) = parameters.get(&format!("{name}<")) {
        range.until = Some(second_from(parse_time(name, text)?.0));
    }
    Ok(range)
}

/// A date filter like [`range`], but `Name<` also selects the given time: "on or before midnight of this date". All lists
/// except the list of calls publish this, unless the provider publishes another rule.
pub(super) fn range_to(parameters: &Parameters, name: &str) -> Result<Range, ApiError> {
    let mut range = range(parameters, name)?;
    if let Some(text) = parameters.get(&format!("{name}<"))
        && parameters.provider().includes_last_date()
    {
        range.until = Some(second_after(parse_time(name, text)?.0));
    }
    Ok(range)
}

/// Returns the first whole second that is not before `at`. A time that is shown in whole seconds is at or after `at` if
/// the time is at or after this second.
fn second_from(at: Timestamp) -> Timestamp {
    if at.subsec_nanosecond() == 0 { at } else { second_after(at) }
}

/// Returns the first whole second after `at`.
pub(super) fn second_after(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().saturating_add(1)).unwrap_or(at)
}

/// A time parameter of the newer APIs: an RFC 3339 time, or a date. A date means the start of that day in UTC.
pub(super) fn time(parameters: &Parameters, name: &str) -> Result<Option<Timestamp>, ApiError> {
    parameters.given(name).map(|text| parse_time(name, text).map(|(at, _)| at)).transpose()
}

/// Parses `YYYY-MM-DD` (the start of that day in UTC), an RFC 3339 time, or an RFC 2822 time as the API's answers have it.
/// Returns the time and the UTC day of this time.
fn parse_time(name: &str, text: &str) -> Result<(Timestamp, Date), ApiError> {
    let bad = || ApiError::bad(20001, format!("{name}: {text} is not a date"));
    // A date has ten characters. The parser would also accept a longer text and use only the date in the text.
    if text.len() == 10 {
        let day: Date = text.parse().map_err(|_| bad())?;
        return Ok((midnight(day).ok_or_else(bad)?, day));
    }
    let at: Timestamp = text.parse().or_else(|_| DateTimeParser::new().parse_timestamp(text)).map_err(|_| bad())?;
    Ok((at, at.to_zoned(TimeZone::UTC).date()))
}

fn midnight(day: Date) -> Option<Timestamp> {
    day.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters::parse(&crate::Twilio, query.as_bytes())
    }

    fn items(count: usize) -> Vec<(String, Value)> {
        (0..count).map(|n| (format!("CA{n:032x}"), json!({ "n": n }))).collect()
    }

    #[test]
    fn an_empty_list_has_exactly_the_published_fields() {
        let parameters = parameters("");
        let envelope = Paging::parse(&parameters, Ids::Prefixed, "CA").unwrap().envelope(
            "calls",
            "/x/Calls.json",
            &parameters,
            items(0),
        );
        let expected = json!({
            "calls": [], "end": 0, "start": 0, "page": 0, "page_size": 50,
            "first_page_uri": "/x/Calls.json?PageSize=50&Page=0", "uri": "/x/Calls.json?PageSize=50&Page=0",
            "next_page_uri": null, "previous_page_uri": null,
        });
        assert_eq!(envelope, expected);
    }

    #[test]
    fn pages_link_to_each_other_and_keep_the_filters() {
        let first = parameters("StartTime>=2024-01-02&PageSize=2");
        let paging = Paging::parse(&first, Ids::Prefixed, "CA").unwrap();
        let envelope = paging.envelope("calls", "/x/Calls.json", &first, items(3));
        assert_eq!(envelope["calls"].as_array().unwrap().len(), 2);
        let next = envelope["next_page_uri"].as_str().unwrap();
        let token = "PACA00000000000000000000000000000001";
        assert_eq!(next, format!("/x/Calls.json?StartTime%3E=2024-01-02&PageSize=2&Page=1&PageToken={token}"));
        let second = parameters(next.split_once('?').unwrap().1);
        let paging = Paging::parse(&second, Ids::Prefixed, "CA").unwrap();
        assert_eq!(paging.page(), Page { limit: 2, after: Some(1), offset: 0 });
        let envelope = paging.envelope("calls", "/x/Calls.json", &second, items(1));
        assert_eq!((envelope["start"].as_u64(), envelope["end"].as_u64()), (Some(2), Some(2)));
        assert_eq!(envelope["next_page_uri"], Value::Null);
        assert_eq!(envelope["previous_page_uri"], "/x/Calls.json?StartTime%3E=2024-01-02&PageSize=2&Page=0");
    }

    #[test]
    fn a_page_number_without_a_token_sets_the_offset() {
        assert_eq!(Paging::parse(&parameters("Page=3&PageSize=10"), Ids::Prefixed, "CA").unwrap().page().offset, 30);
    }

    #[test]
    fn invalid_page_parameters_are_refused() {
        for (query, code) in
            [("PageSize=1001", 20007), ("PageSize=x", 20001), ("Page=-1", 20001), ("PageToken=x", 20001)]
        {
            assert_eq!(Paging::parse(&parameters(query), Ids::Prefixed, "CA").unwrap_err().code, code, "{query}");
        }
    }

    #[test]
    fn dates_and_times_become_the_range_of_a_filter() {
        let at = |text: &str| Some(text.parse::<jiff::Timestamp>().unwrap());
        let on = range(&parameters("StartTime=2024-01-02"), "StartTime").unwrap();
        assert_eq!(on, Range { from: at("2024-01-02T00:00:00Z"), until: at("2024-01-03T00:00:00Z") });
        assert_eq!(range(&parameters("StartTime=2024-01-02T15:00:00Z"), "StartTime").unwrap(), on);
        // The dates of the API's answers are RFC 2822 dates.
        for text in ["Tue,%2002%20Jan%202024%2015:00:00%20GMT", "Tue,%2002%20Jan%202024%2016:00:00%20%2B0100"] {
            let from = range(&parameters(&format!("StartTime%3E={text}")), "StartTime").unwrap().from;
            assert_eq!(from, at("2024-01-02T15:00:00Z"), "{text}");
            assert_eq!(range(&parameters(&format!("StartTime={text}")), "StartTime").unwrap(), on, "{text}");
        }
        assert!(
            range(&parameters("StartTime=Mon,%2002%20Jan%202024%2015:00:00%20GMT"), "StartTime").is_err(),
            "no Monday"
        );
        let between =
            range(&parameters("StartTime%3E=2024-01-02T03:04:05Z&StartTime%3C=2024-01-05"), "StartTime").unwrap();
        assert_eq!(between, Range { from: at("2024-01-02T03:04:05Z"), until: at("2024-01-05T00:00:00Z") });
        assert_eq!(range(&parameters("EndTime=yesterday"), "EndTime").unwrap_err().code, 20001);
        // Resources show whole seconds, so a fraction of a second selects by the next second.
        let fraction = range(&parameters("StartTime%3E=2024-01-02T03:04:05.5Z"), "StartTime").unwrap();
        assert_eq!(fraction.from, at("2024-01-02T03:04:06Z"));
        let until = |query: &str| range_to(&parameters(query), "DateCreated").unwrap().until;
        assert_eq!(until("DateCreated%3C=2024-01-05"), at("2024-01-05T00:00:01Z"), "on or before midnight");
        assert_eq!(until("DateCreated%3C=2024-01-05T01:02:03Z"), at("2024-01-05T01:02:04Z"));
        assert_eq!(until("DateCreated=2024-01-05"), at("2024-01-06T00:00:00Z"));
    }
}
