//! `Calls/{Sid}/Events`: the requests that created or changed the call, and the requests that this server sent to the
//! call's application. Each event has an HTTP request and the answer. The oldest event comes first.

use serde_json::{Map, Value, json};
use tandem_http::exchange::HttpExchange;
use tandem_id::LegId;

use super::super::error::{ApiError, allow};
use super::super::{format, sid};
use super::{Answer, RestContext as Request, Verb, ok};

/// Prefix of page tokens. Events have no SIDs, so a token contains the number of the last event.
const PREFIX: &str = "EV";

pub(super) async fn answer(x: &Request<'_>, call: LegId, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => list(x, call).await,
        ([], _) => Err(ApiError::method_not_allowed(allow::GET)),
        _ => Err(x.not_found()),
    }
}

async fn list(x: &Request<'_>, call: LegId) -> Answer {
    let paging = x.paging(PREFIX)?;
    let page = paging.page();
    let leg = x.leg(call).await?;
    let first = match page.after {
        Some(last) => usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1),
        None => page.offset,
    };
    let exchanges = x.app.calls.log(leg.session).await?.exchanges;
    let its_own = exchanges.iter().filter(|(about, _)| *about == Some(call)).map(|(_, exchange)| exchange);
    // One item more than the page size shows that there is a next page.
    let items = its_own.enumerate().skip(first).take(page.limit.saturating_add(1));
    let items = items.map(|(number, exchange)| (sid::spell(PREFIX, number as u128), event(exchange))).collect();
    Ok(ok(x.list("events", &format!("Calls/{}/Events", x.ids().call(call)), &paging, items)))
}

fn event(exchange: &HttpExchange) -> Value {
    let answer = exchange.answer.as_ref();
    let body = answer.map(|answer| answer.body.as_str()).or(exchange.error.as_deref());
    json!({
        "request": {
            "method": exchange.method,
            "url": exchange.url,
            "parameters": parameters(exchange),
        },
        "response": {
            "response_code": answer.map(|answer| answer.status),
            "request_duration": exchange.elapsed_ms,
            "content_type": answer.and_then(|answer| answer.content_type.as_deref()),
            "response_body": body.unwrap_or_default(),
            "date_created": format::rfc2822(exchange.at),
        },
    })
}

/// The parameters of an exchange, with their names in the API's spelling. A name that occurs more than once has a list
/// of values.
fn parameters(exchange: &HttpExchange) -> Value {
    let mut all = Map::new();
    for (name, value) in &exchange.parameters {
        let value = Value::from(value.as_str());
        match all.get_mut(&snake_case(name)) {
            None => {
                all.insert(snake_case(name), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    Value::Object(all)
}

/// Converts `StatusCallback` to `status_callback`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut small = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && small {
            out.push('_');
        }
        small = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_names_become_snake_case() {
        let names =
            [("StatusCallback", "status_callback"), ("To", "to"), ("msg", "msg"), ("SipHeader_X-A", "sip_header_x-a")];
        for (name, field) in names {
            assert_eq!(snake_case(name), field);
        }
    }

    #[test]
    fn a_repeated_parameter_becomes_a_list() {
        let pairs = [("A", "1"), ("B", "2"), ("A", "3"), ("A", "4")].map(|(name, value)| (name.into(), value.into()));
        let exchange = HttpExchange::new(jiff::Timestamp::UNIX_EPOCH, "GET", "http://h/", &pairs, Default::default());
        assert_eq!(parameters(&exchange), json!({ "a": ["1", "3", "4"], "b": "2" }));
        assert_eq!(event(&exchange)["response"]["response_code"], Value::Null);
    }
}
