//! The API's answers as XML and CSV. The API first makes every answer as JSON. Then this module converts the JSON.
//!
//! The path's extension gives the format: `Calls.json`, `Calls.xml` or `Calls.csv`. The answer to the path `Calls` is
//! XML unless the request accepts JSON.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use quick_xml::escape::escape;
use serde_json::{Map, Value};

use super::super::family;
use super::super::path::VERSION;

/// Maximum size of an answer that is converted, in octets. An answer has at most 1000 resources.
const LONGEST: usize = 16 * 1024 * 1024;

/// The format of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Json,
    Xml,
    Csv,
}

/// The requested format, and the path for this request as JSON: an extension of another format is replaced with
/// `.json`. `in_xml` says whether XML is the default format.
pub(super) fn requested_form<'a>(path: &'a str, headers: &HeaderMap, in_xml: bool) -> (Form, Cow<'a, str>) {
    let is_old = path.strip_prefix('/').is_some_and(|path| path.starts_with(VERSION));
    let last = path.rsplit('/').next().unwrap_or_default();
    let json = |stem: &str| Cow::Owned(format!("{stem}.json"));
    match last.rsplit_once('.').map(|(_, extension)| extension) {
        _ if !is_old => (Form::Json, path.into()),
        Some("xml") => (Form::Xml, json(path.trim_end_matches(".xml"))),
        Some("csv") => (Form::Csv, json(path.trim_end_matches(".csv"))),
        Some(_) => (Form::Json, path.into()),
        None => {
            let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            let json = !in_xml || accepted.is_some_and(|accept| accept.contains("json"));
            (if json { Form::Json } else { Form::Xml }, path.into())
        }
    }
}

/// Converts an answer to `form` if the answer is JSON. Audio is unchanged.
pub(super) async fn rewritten(form: Form, path: &str, response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if form == Form::Json || !kind.is_some_and(|kind| kind.starts_with("application/json")) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // This server wrote the body, and the page size limits the body's length.
    let body = axum::body::to_bytes(body, LONGEST).await.unwrap_or_default();
    let Ok(value) = serde_json::from_slice::<Value>(&body) else { return Response::from_parts(parts, body.into()) };
    let (kind, text) = match form {
        Form::Csv if !is_error(&value) => ("text/csv; charset=utf-8", csv(&value)),
        _ => ("application/xml", xml(&value, path)),
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, text.into())
}

/// The keys of a Call resource whose values are times. The times are converted for clients that parse only RFC 3339.
const TIMES: [&str; 3] = ["start_time", "end_time", "date_sent"];

/// Converts the times in an answer to RFC 3339. A text that is not an RFC 2822 date becomes null.
pub(super) fn with_iso_dates(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if TIMES.contains(&key.as_str()) => *value = family::iso8601(text).into(),
                    _ => with_iso_dates(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(with_iso_dates),
        _ => {}
    }
}

fn is_error(value: &Value) -> bool {
    value.get("code").is_some() && value.get("more_info").is_some()
}

/// The list in an answer: the key of the list and the items of the list.
fn list(value: &Value) -> Option<(&str, &Vec<Value>)> {
    value.get("uri")?;
    let mut lists = value.as_object()?.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_array()?)));
    lists.next().filter(|_| value.get("sid").is_none())
}

fn xml(value: &Value, path: &str) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<TwilioResponse>");
    match (list(value), value) {
        (Some((key, items)), Value::Object(fields)) => {
            let name = pascal(key);
            text.push('<');
            text.push_str(&name);
            for (key, value) in fields.iter().filter(|(_, value)| !value.is_array()) {
                let (key, value) = (key.replace('_', ""), plain(value));
                text.push_str(&format!(" {key}=\"{}\"", escape(&*without_extension(&key, &value))));
            }
            text.push('>');
            items.iter().for_each(|item| element(&mut text, &singular(&name), item));
            text.push_str(&format!("</{name}>"));
        }
        _ if is_error(value) => element(&mut text, "RestException", value),
        _ => element(&mut text, &resource(path), value),
    }
    text.push_str("</TwilioResponse>\n");
    text
}

fn element(text: &mut String, name: &str, value: &Value) {
    text.push_str(&format!("<{name}>"));
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| element(text, &pascal(key), value)),
        Value::Array(items) => items.iter().for_each(|item| element(text, &singular(name), item)),
        _ => text.push_str(&escape(&*without_extension(name, &plain(value)))),
    }
    text.push_str(&format!("</{name}>"));
}

/// Removes `.json` from a path in an XML answer, so that a client that requests the path gets XML too.
fn without_extension<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    let is_path = name.to_ascii_lowercase().ends_with("uri") && value.starts_with('/');
    if is_path { value.replacen(".json", "", 1).into() } else { value.into() }
}

/// Converts an answer to CSV. The first row is a header. Then each item of the list has one row. A single resource also
/// has one row. Objects and arrays are left out.
fn csv(value: &Value) -> String {
    let single = [value.clone()];
    let rows: &[Value] = list(value).map_or(&single, |(_, items)| items);
    let is_flat = |value: &Value| !value.is_object() && !value.is_array();
    let none = Map::new();
    let first = rows.first().and_then(Value::as_object).unwrap_or(&none);
    let keys: Vec<&String> = first.iter().filter(|(_, value)| is_flat(value)).map(|(key, _)| key).collect();
    let line = |cells: Vec<String>| cells.join(",") + "\r\n";
    let head = line(keys.iter().map(|key| pascal(key)).collect());
    let row = |row: &Value| line(keys.iter().map(|key| cell(&plain(&row[key.as_str()]))).collect());
    rows.iter().map(row).fold(head, |text, row| text + &row)
}

/// A cell in CSV (RFC 4180 §2). If a spreadsheet would read the text as a formula, the cell gets a leading `'`. A phone
/// number in international format is not a formula.
fn cell(text: &str) -> String {
    let is_number = || text.strip_prefix('+').is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    let is_formula = text.starts_with(['=', '@', '-', '+']) && !is_number();
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Converts a key to the name of an XML element, for example `subresource_uris` to `SubresourceUris`. Characters that
/// such a name cannot have are removed.
fn pascal(key: &str) -> String {
    let words = key.split('_').filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let mut characters = word.chars().filter(char::is_ascii_alphanumeric);
        let first = characters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(characters).collect::<String>()
    };
    let name: String = words.map(capital).collect();
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) { name } else { format!("N{name}") }
}

/// The singular of a name: `Calls` to `Call`, `Addresses` to `Address`, `Countries` to `Country`.
fn singular(name: &str) -> String {
    if let Some(stem) = name.strip_suffix("ies") {
        return format!("{stem}y");
    }
    name.strip_suffix("sses")
        .map_or_else(|| name.strip_suffix('s').unwrap_or(name).to_owned(), |stem| format!("{stem}ss"))
}

/// The name of the resource at a path, in the singular. This is the last path segment that is a name and not an id.
fn resource(path: &str) -> String {
    let path = path.trim_end_matches(".json");
    let is_name = |segment: &&str| {
        segment.len() < 34
            && segment.starts_with(|c: char| c.is_ascii_uppercase())
            && segment.chars().all(|c| c.is_ascii_alphabetic())
    };
    path.rsplit('/').find(is_name).map_or_else(|| "Version".to_owned(), singular)
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::response::IntoResponse;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_extension_or_the_accept_header_selects_json_xml_or_csv() {
        let form = |path: &str, accept: Option<&str>| {
            let mut headers = HeaderMap::new();
            accept.into_iter().for_each(|accept| drop(headers.insert(header::ACCEPT, accept.parse().unwrap())));
            let (form, path) = requested_form(path, &headers, true);
            (form, path.into_owned())
        };
        let calls = "/2010-04-01/Accounts/AC1/Calls";
        assert_eq!(form(&format!("{calls}.xml"), None), (Form::Xml, format!("{calls}.json")));
        assert_eq!(form(&format!("{calls}.csv"), Some("*/*")), (Form::Csv, format!("{calls}.json")));
        assert_eq!(form(&format!("{calls}.json"), None), (Form::Json, format!("{calls}.json")));
        assert_eq!(form(calls, Some("*/*")), (Form::Xml, calls.to_owned()));
        assert_eq!(form(calls, Some("application/json")), (Form::Json, calls.to_owned()));
        assert_eq!(form("/v1/Trunks", None).0, Form::Json);
    }

    #[test]
    fn paths_in_an_xml_answer_have_no_json_extension() {
        let page = "/2010-04-01/Accounts/AC1/Calls.json?Page=1";
        let call = json!({ "sid": "CA1", "uri": "/2010-04-01/Accounts/AC1/Calls/CA1.json", "url": "/a.json" });
        let text = xml(&json!({ "uri": page, "next_page_uri": page, "calls": [call] }), "/Calls.json");
        assert!(text.contains("nextpageuri=\"/2010-04-01/Accounts/AC1/Calls?Page=1\""), "{text}");
        assert!(text.contains("<Uri>/2010-04-01/Accounts/AC1/Calls/CA1</Uri><Url>/a.json</Url>"), "{text}");
    }

    #[test]
    fn call_times_become_rfc_3339_and_empty_times_null() {
        let call = json!({ "start_time": "Fri, 21 Sep 2018 10:00:00 +0000", "end_time": "", "date_created": "" });
        let mut value = json!({ "calls": [call] });
        with_iso_dates(&mut value);
        let expected = json!({ "start_time": "2018-09-21T10:00:00Z", "end_time": null, "date_created": "" });
        assert_eq!(value["calls"][0], expected);
    }

    async fn written(form: Form, path: &str, value: Value) -> (String, String) {
        let response = rewritten(form, path, Json(value).into_response()).await;
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        (kind, String::from_utf8(axum::body::to_bytes(response.into_body(), 10_000).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_list_a_resource_and_an_error_are_written_as_xml() {
        let calls = json!({
            "calls": [{ "sid": "CA1", "from": "a & <b>", "answered_by": null, "subresource_uris": { "recordings": "/r" } }],
            "page": 0, "page_size": 50, "next_page_uri": null, "uri": "/x?a=1&b=2",
        });
        let (kind, text) = written(Form::Xml, "/2010-04-01/Accounts/AC1/Calls.json", calls).await;
        assert_eq!(kind, "application/xml");
        for part in [
            "<TwilioResponse><Calls ",
            " pagesize=\"50\"",
            " uri=\"/x?a=1&amp;b=2\"",
            "<Sid>CA1</Sid>",
            "<From>a &amp; &lt;b&gt;</From>",
            "<AnsweredBy></AnsweredBy>",
            "<SubresourceUris><Recordings>/r</Recordings></SubresourceUris></Call></Calls></TwilioResponse>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let one = json!({ "sid": "CA1", "uri": "/x" });
        let path = "/2010-04-01/Accounts/AC1/Calls/CA00000000000000000000000000000001.json";
        assert!(written(Form::Xml, path, one).await.1.contains("<TwilioResponse><Call><Sid>CA1</Sid>"));
        let error = json!({ "code": 20404, "message": "no", "more_info": "m", "status": 404 });
        let (kind, text) = written(Form::Csv, path, error).await;
        assert!(kind == "application/xml" && text.contains("<RestException><Code>20404</Code>"), "{kind} {text}");
    }

    #[tokio::test]
    async fn a_list_is_written_as_csv() {
        let calls = json!({
            "calls": [
                { "sid": "CA1", "to": "+15551230001", "caller_name": "=1+1, \"x\"", "subresource_uris": {} },
                { "sid": "CA2", "to": null, "caller_name": "b", "subresource_uris": {} },
            ],
            "uri": "/x",
        });
        let (kind, text) = written(Form::Csv, "/2010-04-01/Accounts/AC1/Calls.json", calls).await;
        assert_eq!(kind, "text/csv; charset=utf-8");
        let lines: Vec<&str> = text.split("\r\n").collect();
        let column = |name: &str| lines[0].split(',').position(|one| one == name).unwrap();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].contains("\"'=1+1, \"\"x\"\"\"") && lines[1].contains("+15551230001"), "{text}");
        assert_eq!(lines[2].split(',').nth(column("Sid")), Some("CA2"));
        let empty = json!({ "calls": [], "uri": "/x" });
        assert_eq!(written(Form::Csv, "/2010-04-01/Accounts/AC1/Calls.json", empty).await.1, "\r\n");
    }

    #[test]
    fn field_names_become_xml_element_names() {
        assert_eq!((pascal("sms_url").as_str(), pascal("1&<x").as_str()), ("SmsUrl", "N1x"));
        let names = ["Calls", "Addresses", "Countries", "Balance"].map(singular);
        assert_eq!(names, ["Call", "Address", "Country", "Balance"]);
        assert_eq!(resource("/2010-04-01/Accounts/AC1.json"), "Account");
        assert_eq!(resource("/2010-04-01.json"), "Version");
    }
}
