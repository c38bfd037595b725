//! DataMap: a function without a web server of its own. The server itself evaluates expressions, sends one request to a web
//! server, and makes the result from templates.
//!
//! ```text
//!   expressions ──a match──► output
//!       │ none
//!       ▼
//!   the first webhook with its arguments ──answer──► foreach ──► expressions ──► output
//!       │ none                             └─failure or no output─┐
//!       └─────────────────────────────────────────────────────────┴──► output of the function, or a general error
//! ```

use jiff::Timestamp;
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value as Json, json};

use super::address::address;
use super::params::{flag, number};
use super::template::{LONGEST, Scope, expand, expand_all, truncate, walk, written};

/// Maximum number of elements of a `foreach`.
const MAX_ELEMENTS: usize = 1_000;
/// Maximum length of a text in which an expression is searched, in octets.
const LONGEST_SUBJECT: usize = 16 * 1024;
/// Maximum size of a compiled regular expression, in octets.
const LARGEST_REGEX: usize = 256 * 1024;
/// The text for the model if nothing has given a result.
pub(super) const NO_OUTPUT: &str = "There was an error processing this request.";

/// The next step of a function with a DataMap.
#[derive(Debug)]
pub(super) enum MapStep {
    /// Send the request of the webhook with this index.
    Request { webhook: usize, request: MapRequest },
    /// The result: an object with `response` and `action`.
    Output(Json),
}

/// The request of a webhook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MapRequest {
    pub(super) method: http::Method,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// Starts the function. `call` is the data of the call, with the arguments in `args`.
pub(super) fn begin(map: &Json, call: &Json, now: Timestamp) -> MapStep {
    let places = [call, arguments(call)];
    let scope = Scope { places: &places, now };
    if let Some(output) = expressions(map.get("expressions"), scope) {
        return MapStep::Output(output);
    }
    let webhooks = map.get("webhooks").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    match webhooks.iter().position(|webhook| is_eligible(webhook, call)).and_then(|at| Some((at, webhooks.get(at)?))) {
        Some((at, webhook)) => MapStep::Request { webhook: at, request: request(webhook, call, scope) },
        None => MapStep::Output(fallback(map, scope)),
    }
}

/// Takes the answer of the web server: the HTTP status and the body, or the reason why there is none.
pub(super) fn answered(
    map: &Json,
    webhook: usize,
    call: &Json,
    answer: Result<(u16, &[u8]), &str>,
    now: Timestamp,
) -> Json {
    let places = [call, arguments(call)];
    let scope = Scope { places: &places, now };
    let webhook = map.get("webhooks").and_then(|webhooks| webhooks.get(webhook)).unwrap_or(&Json::Null);
    let made = match answer {
        Ok((status, body)) => read(body, status).filter(|data| !has_error(webhook, data)),
        Err(_) => None,
    };
    made.and_then(|data| made_from(webhook, data, call, now)).unwrap_or_else(|| fallback(map, scope))
}

/// The arguments. Older documents write them without `args`.
fn arguments(call: &Json) -> &Json {
    call.get("args").unwrap_or(&Json::Null)
}

/// The result of a webhook whose answer is `data`.
fn made_from(webhook: &Json, mut data: Json, call: &Json, now: Timestamp) -> Option<Json> {
    let members = data.as_object_mut()?;
    for key in ["global_data", "prompt_vars"] {
        if let Some(value) = call.get(key).filter(|_| !members.contains_key(key)) {
            members.insert(key.to_owned(), value.clone());
        }
    }
    members.entry("input").or_insert_with(|| call.clone());
    if let Some(foreach) = webhook.get("foreach") {
        each(foreach, &mut data, call, now);
    }
    // Older documents write `${response.x}`, and the arguments without `input`.
    let older = json!({ "response": data });
    let places = [&data, &older, call, arguments(call)];
    let scope = Scope { places: &places, now };
    expressions(webhook.get("expressions"), scope).or_else(|| output(webhook.get("output"), scope))
}

/// The answer as data: an object as it is, and any other value as `array`. `None` if the answer is not JSON.
fn read(body: &[u8], status: u16) -> Option<Json> {
    let mut data = match serde_json::from_slice(body).ok()? {
        object @ Json::Object(_) => object,
        list @ Json::Array(_) => json!({ "array": list }),
        _ => return None,
    };
    if !(200..300).contains(&status)
        && let Some(members) = data.as_object_mut()
    {
        members.insert("http_code".to_owned(), status.into());
    }
    Some(data)
}

fn names(value: Option<&Json>) -> Vec<String> {
    match value {
        Some(Json::Array(items)) => items.iter().map(written).collect(),
        Some(Json::String(name)) => name.split(',').map(|name| name.trim().to_owned()).collect(),
        _ => Vec::new(),
    }
}

fn has_error(webhook: &Json, data: &Json) -> bool {
    names(webhook.get("error_keys")).iter().any(|key| data.get(key).is_some())
}

/// Whether a webhook can run: it makes something of its answer, and the call has at least one of its `require_args`.
fn is_eligible(webhook: &Json, call: &Json) -> bool {
    let makes = ["output", "expressions"].iter().any(|key| webhook.get(key).is_some_and(|value| !value.is_null()));
    let required = names(webhook.get("require_args").or_else(|| webhook.get("required_args")));
    let given = |name: &String| {
        call.get("args").and_then(|args| args.get(name)).is_some_and(|value| !value.is_null() && value != "")
    };
    makes && (required.is_empty() || required.iter().any(given))
}

fn request(webhook: &Json, call: &Json, scope: Scope<'_>) -> MapRequest {
    let url = address(&expand(webhook.get("url").and_then(Json::as_str).unwrap_or_default(), scope), None);
    // `body` is no member that the service reads, but its older SDKs wrote it.
    let params = webhook.get("params").or_else(|| webhook.get("body")).filter(|params| !params.is_null());
    let mut params = params.map(|params| expand_all(params, scope));
    if webhook.get("input_args_as_params").and_then(flag) == Some(true) {
        let mut members = params.take().and_then(|params| params.as_object().cloned()).unwrap_or_default();
        members.extend(call.get("args").and_then(Json::as_object).cloned().unwrap_or_default());
        params = Some(Json::Object(members));
    }
    let method = method(webhook.get("method").and_then(Json::as_str).unwrap_or_default(), params.is_some());
    let form = webhook.get("form_param").and_then(Json::as_str).filter(|name| !name.is_empty());
    let (kind, body) = match (params, form) {
        (Some(params), Some(name)) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair(name, &params.to_string());
            ("application/x-www-form-urlencoded", form.finish().into_bytes())
        }
        (Some(params), None) => ("application/json", params.to_string().into_bytes()),
        (None, _) => ("application/json", Vec::new()),
    };
    let none = Map::new();
    let headers = webhook.get("headers").and_then(Json::as_object).unwrap_or(&none);
    // The service sends the values as written. Documents that have templates there expect their values.
    let headers = headers.iter().map(|(name, value)| (name.clone(), expand(&written(value), scope)));
    let mut headers: Vec<_> = headers.take(50).collect();
    if !body.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        headers.push(("Content-Type".to_owned(), kind.to_owned()));
    }
    MapRequest { method, url, headers, body }
}

/// The method of a request with this name. Parameters make a POST of a GET.
fn method(name: &str, has_params: bool) -> http::Method {
    use http::Method;
    let known = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let named = known.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(name.trim()));
    named.unwrap_or(if has_params { Method::POST } else { Method::GET })
}

/// Makes one text of the elements of an array, and adds it to the data.
fn each(foreach: &Json, data: &mut Json, call: &Json, now: Timestamp) {
    let text = |key: &str| foreach.get(key).and_then(Json::as_str).filter(|text| !text.is_empty());
    let (Some(from), Some(to), Some(append)) = (text("input_key"), text("output_key"), text("append")) else { return };
    // The key is a path. Older documents write a template.
    let from = from.strip_prefix("${").and_then(|from| from.strip_suffix('}')).unwrap_or(from);
    let from = from.strip_prefix("response.").unwrap_or(from);
    let found = walk(data, from).or_else(|| (from == "response").then(|| data.get("array"))?);
    let Some(items) = found.and_then(Json::as_array) else { return };
    let max = foreach.get("max").and_then(number).filter(|max| *max >= 1.0).unwrap_or(f64::MAX);
    let mut out = String::new();
    for (place, item) in items.iter().take(MAX_ELEMENTS).enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "the number is small")]
        if place as f64 >= max || out.len() >= LONGEST {
            break;
        }
        let this = json!({ "this": item });
        let places = [&this, &*data, call];
        out.push_str(&expand(append, Scope { places: &places, now }));
    }
    truncate(&mut out, LONGEST);
    if let Some(members) = data.as_object_mut() {
        members.insert(to.to_owned(), out.into());
    }
}

/// The output of the first expression that gives one.
fn expressions(list: Option<&Json>, scope: Scope<'_>) -> Option<Json> {
    list?.as_array()?.iter().find_map(|one| {
        let subject = one.get("string").and_then(Json::as_str)?;
        let mut subject = expand(subject, scope);
        truncate(&mut subject, LONGEST_SUBJECT);
        let pattern = expand(one.get("pattern").and_then(Json::as_str)?, scope);
        let matches = regex(&pattern).is_ok_and(|regex| regex.is_match(&subject));
        output(one.get(if matches { "output" } else { "nomatch-output" }), scope)
    })
}

/// A regular expression. `/pattern/flags` gives the flags: `i` ignores case, and with `s` a dot also matches the end of a
/// line. Otherwise the expression ignores case. Expressions that look around or back are not served.
pub(super) fn regex(pattern: &str) -> Result<Regex, regex::Error> {
    let flagged = pattern.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'));
    let flagged = flagged.filter(|(_, flags)| flags.chars().all(|flag| "imsx".contains(flag)));
    let (pattern, flags) = flagged.unwrap_or((pattern, "i"));
    RegexBuilder::new(pattern)
        .case_insensitive(flags.contains('i'))
        .dot_matches_new_line(flags.contains('s'))
        .multi_line(flags.contains('m'))
        .ignore_whitespace(flags.contains('x'))
        .size_limit(LARGEST_REGEX)
        .dfa_size_limit(LARGEST_REGEX)
        .build()
}

/// An output with its templates replaced. `None` if there is no output.
fn output(output: Option<&Json>, scope: Scope<'_>) -> Option<Json> {
    match output? {
        Json::String(text) => Some(json!({ "response": expand(text, scope) })),
        object @ Json::Object(members) if !members.is_empty() => Some(expand_all(object, scope)),
        _ => None,
    }
}

fn fallback(map: &Json, scope: Scope<'_>) -> Json {
    output(map.get("output"), scope).unwrap_or_else(|| json!({ "response": NO_OUTPUT }))
}

/// The patterns of a DataMap that this server cannot evaluate.
pub(super) fn unusable_patterns(map: &Json) -> Vec<String> {
    let of = |list: Option<&Json>| {
        let patterns =
            list.and_then(Json::as_array).into_iter().flatten().filter_map(|one| one.get("pattern")?.as_str());
        // A pattern with templates is complete only when the function runs.
        let fixed = patterns.filter(|pattern| !pattern.contains("${") && !pattern.contains("%{"));
        fixed.filter(|pattern| regex(pattern).is_err()).map(str::to_owned).collect::<Vec<_>>()
    };
    let webhooks = map.get("webhooks").and_then(Json::as_array).into_iter().flatten();
    webhooks.flat_map(|webhook| of(webhook.get("expressions"))).chain(of(map.get("expressions"))).collect()
}

/// The parts of the data that templates read before a web server has answered.
pub(super) fn with_arguments(mut data: Map<String, Json>, arguments: &Json) -> Json {
    data.insert("args".to_owned(), arguments.clone());
    data.insert("input".to_owned(), json!({}));
    Json::Object(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(args: Json) -> Json {
        let data = json!({"call_id": "c1", "global_data": {"token": "t"}, "prompt_vars": {"time_of_day": "morning"}});
        with_arguments(data.as_object().unwrap().clone(), &args)
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn output_of(step: MapStep) -> Json {
        match step {
            MapStep::Output(output) => output,
            MapStep::Request { .. } => panic!("{step:?}"),
        }
    }

    fn requested(map: &Json, args: Json) -> (usize, MapRequest) {
        match begin(map, &call(args), now()) {
            MapStep::Request { webhook, request } => (webhook, request),
            MapStep::Output(output) => panic!("{output}"),
        }
    }

    #[test]
    fn the_first_expression_that_matches_anywhere_ends_the_function() {
        let map = json!({"expressions": [
            {"string": "${args.command}", "pattern": "stop", "output": {"response": "Stopped", "action": [{"stop": true}]}},
            {"string": "${args.command}", "pattern": "/Play (.*)/", "output": {"response": "Playing ${args.file}"}},
            {"string": "${args.command}", "pattern": "x", "output": {"response": "x"}, "nomatch-output": {"response": "no"}},
        ]});
        let run = |command: &str| output_of(begin(&map, &call(json!({"command": command, "file": "a"})), now()));
        assert_eq!(run("please STOP it"), json!({"response": "Stopped", "action": [{"stop": true}]}));
        assert_eq!(run("Play it")["response"], "Playing a");
        assert_eq!(run("play it")["response"], "no");
    }

    #[test]
    fn a_webhook_gets_the_arguments_in_its_url_and_its_answer_becomes_the_output() {
        let map = json!({"webhooks": [{
            "url": "https://api.test/w?q=${lc:enc:args.city}", "method": "GET", "headers": {"X-Key": "k"},
            "output": {"response": "In ${input.args.city}: ${current.text}, ${response.current.text}, ${args.city}"},
        }]});
        let (webhook, request) = requested(&map, json!({"city": "New York"}));
        assert_eq!((request.url.as_str(), request.method.as_str()), ("https://api.test/w?q=new%20york", "GET"));
        assert_eq!(request.headers, [("X-Key".to_owned(), "k".to_owned())]);
        let call = call(json!({"city": "New York"}));
        let output = answered(&map, webhook, &call, Ok((200, br#"{"current":{"text":"sunny"}}"#)), now());
        assert_eq!(output["response"], "In New York: sunny, sunny, New York");
    }

    #[test]
    fn parameters_make_a_post_with_json_or_with_one_form_field() {
        let map = json!({"webhooks": [{"url": "http://h/", "method": "GET", "params": {"q": "${args.q}", "n": 3},
            "output": {"response": "x"}}]});
        let (_, request) = requested(&map, json!({"q": "a \"b\""}));
        assert_eq!(request.method, "POST");
        assert_eq!(serde_json::from_slice::<Json>(&request.body).unwrap(), json!({"q": "a \"b\"", "n": 3}));
        let map = json!({"webhooks": [{"url": "http://h/", "form_param": "data", "input_args_as_params": true,
            "output": {"response": "x"}}]});
        let (_, request) = requested(&map, json!({"q": "1"}));
        assert_eq!(request.method, "POST");
        assert_eq!(request.body, b"data=%7B%22q%22%3A%221%22%7D");
        assert_eq!(request.headers[0].1, "application/x-www-form-urlencoded");
    }

    #[test]
    fn a_webhook_uses_each_published_method() {
        for (name, params, sent) in [
            ("PUT", true, "PUT"),
            ("delete", false, "DELETE"),
            ("POST", false, "POST"),
            ("GET", true, "POST"),
            ("", false, "GET"),
        ] {
            assert_eq!(method(name, params).as_str(), sent, "{name}");
        }
    }

    #[test]
    fn the_first_webhook_with_its_arguments_runs_and_no_other() {
        let map = json!({"webhooks": [
            {"url": "http://h/none"},
            {"url": "http://h/zip", "require_args": ["zip"], "output": {"response": "zip"}},
            {"url": "http://h/city", "require_args": "city", "output": {"response": "city"}},
        ], "output": {"response": "Nothing for ${args.other}"}});
        assert_eq!(requested(&map, json!({"city": "x"})).0, 2);
        assert_eq!(requested(&map, json!({"city": "x", "zip": "1"})).0, 1);
        assert_eq!(output_of(begin(&map, &call(json!({"other": "y"})), now()))["response"], "Nothing for y");
        let failed = answered(&map, 1, &call(json!({"other": "z"})), Err("no connection"), now());
        assert_eq!(failed["response"], "Nothing for z");
    }

    #[test]
    fn an_array_is_below_array_and_foreach_makes_a_text_of_it() {
        let map = json!({"webhooks": [{"url": "http://h/", "foreach": {"input_key": "results", "output_key": "list",
            "max": 2, "append": "${this.title} (${input.args.q});"}, "output": {"response": "${list} of ${total}"}}]});
        let body = br#"{"results":[{"title":"a"},{"title":"b"},{"title":"c"}],"total":3}"#;
        assert_eq!(
            answered(&map, 0, &call(json!({"q": "x"})), Ok((200, body)), now())["response"],
            "a (x);b (x); of 3"
        );
        let map = json!({"webhooks": [{"url": "http://h/", "output": {"response": "${array[0].joke}"}}]});
        assert_eq!(answered(&map, 0, &call(json!({})), Ok((200, br#"[{"joke":"ha"}]"#)), now())["response"], "ha");
    }

    #[test]
    fn an_error_key_a_wrong_answer_or_no_answer_give_the_fallback() {
        let map = json!({"webhooks": [{"url": "http://h/", "error_keys": ["error", "http_code"],
            "output": {"response": "fine"}}]});
        let run =
            |answer: Result<(u16, &[u8]), &str>| answered(&map, 0, &call(json!({})), answer, now())["response"].clone();
        assert_eq!(run(Ok((200, b"{}"))), "fine");
        for answer in
            [Ok((200, &b"{\"error\":null}"[..])), Ok((404, b"{}")), Ok((200, b"<html>")), Ok((200, b"")), Err("x")]
        {
            assert_eq!(run(answer), NO_OUTPUT, "{answer:?}");
        }
    }

    #[test]
    fn expressions_of_a_webhook_come_before_its_output() {
        let map = json!({"webhooks": [{"url": "http://h/", "output": {"response": "other"}, "expressions": [
            {"string": "${status}", "pattern": "open", "output": {"response": "It is open."}}]}]});
        let run = |body: &[u8]| answered(&map, 0, &call(json!({})), Ok((200, body)), now())["response"].clone();
        assert_eq!(run(br#"{"status":"OPEN"}"#), "It is open.");
        assert_eq!(run(br#"{"status":"closed"}"#), "other");
    }

    #[test]
    fn a_pattern_that_looks_around_is_reported() {
        let map = json!({"expressions": [{"string": "x", "pattern": "(?=a)"}, {"string": "x", "pattern": "${args.p}("}],
            "webhooks": [{"expressions": [{"pattern": "(a)\\1"}, {"pattern": "ok"}]}]});
        assert_eq!(unusable_patterns(&map), ["(a)\\1", "(?=a)"]);
    }

    #[test]
    fn a_huge_answer_gives_a_bounded_text() {
        let map = json!({"webhooks": [{"url": "http://h/", "foreach": {"input_key": "array", "output_key": "o",
            "append": "${this}${this}"}, "output": {"response": "${o}"}}]});
        let body = serde_json::to_vec(&vec!["y".repeat(1_000); 5_000]).unwrap();
        let output = answered(&map, 0, &call(json!({})), Ok((200, &body)), now());
        assert!(output.to_string().len() <= LONGEST + 100);
    }
}
