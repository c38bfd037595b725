//! The chat completions API of OpenAI. Sends one request and reads the response while the response arrives
//! (`text/event-stream`).
//!
//! Other servers differ from OpenAI's server in many small ways. Some send a complete tool call in one piece, leave out
//! or repeat indices, send the reasoning in separate fields, or do not send `[DONE]`. The parser accepts all known
//! differences.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tandem_call::recognition::decimal;
pub use tandem_dialect::agent::ScriptCall as ToolCall;
use tandem_http::{Client, Request, StreamingResponse, Timeouts};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::config::ModelConfig;

/// Maximum length of one line of a response, in octets.
const LONGEST_LINE: usize = 256 * 1024;
/// Maximum length of a tool call's arguments, in octets.
const LONGEST_ARGUMENTS: usize = 64 * 1024;
/// Maximum length of the id of a tool call and of the name of a tool, in octets.
const LONGEST_NAME: usize = 256;
/// Maximum number of tool calls in one response.
pub(super) const MAX_TOOL_CALLS: usize = 16;
/// Maximum length of the text of one response, in octets. An hour of speech has about this length.
pub(super) const LONGEST_TEXT: usize = 64 * 1024;
/// Maximum size of one response with everything around its text, in octets.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
/// Number of consecutive unreadable lines after which a response counts as failed.
const MAX_UNREADABLE_LINES: u32 = 10;
/// Maximum number of pieces that wait in the channel. While the channel is full, the task does not read from the
/// connection.
const WAITING: usize = 64;
/// Maximum number of characters of an error message that are shown.
const SHOWN: usize = 300;

/// A piece of the model's response.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Piece {
    /// Text for the caller.
    Text(String),
    /// The end of a complete response, with the tool calls of the model.
    End(Vec<ToolCall>),
    /// The end of a failed response.
    Failed {
        /// The reason of the failure.
        why: String,
        /// Whether another attempt is useless.
        for_good: bool,
    },
}

/// The parts of a request to the model, in the JSON format of the model's API.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct ModelQuestion {
    pub(super) messages: Vec<Value>,
    pub(super) tools: Vec<Value>,
    /// Fields that replace those of the configuration.
    pub(super) fields: Map<String, Value>,
}

/// A running request to the model. The request ends when this value is dropped.
pub(super) struct ChatRequest {
    pieces: mpsc::Receiver<Piece>,
    task: AbortHandle,
}

impl ChatRequest {
    /// Sends the request.
    pub(super) fn begin(client: Client, model: &ModelConfig, question: ModelQuestion) -> Self {
        let (sender, pieces) = mpsc::channel(WAITING);
        let request = request(model, question);
        let task = tokio::spawn(async move {
            let last = match client.open(&request).await {
                Err(error) => Piece::Failed { why: error.to_string(), for_good: false },
                Ok(answer) => read(answer, &sender).await,
            };
            // The receiver may no longer exist, so an error is ignored.
            let _ = sender.send(last).await;
        });
        Self { pieces, task: task.abort_handle() }
    }

    /// Waits for the next piece. This function is cancel-safe.
    pub(super) async fn next(&mut self) -> Piece {
        let gone = || Piece::Failed { why: "the request ended".to_owned(), for_good: false };
        self.pieces.recv().await.unwrap_or_else(gone)
    }
}

/// The reason why a tool call is too long. `None` if it is not.
pub(super) fn excess(call: &ToolCall) -> Option<&'static str> {
    match call {
        _ if call.id.len() > LONGEST_NAME => Some("the id of a tool call is too long"),
        _ if call.name.len() > LONGEST_NAME => Some("the name of a tool is too long"),
        _ if call.arguments.len() > LONGEST_ARGUMENTS => Some("a tool call is too long"),
        _ => None,
    }
}

impl Drop for ChatRequest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn request(model: &ModelConfig, question: ModelQuestion) -> Request {
    let ModelQuestion { messages, tools, fields } = question;
    let mut body = model.extra.clone();
    if let Some(name) = &model.name {
        body.insert("model".to_owned(), json!(**name));
    }
    if let Some(max) = model.max_tokens {
        body.insert(model.max_tokens_field.to_string(), json!(max));
    }
    if let Some(temperature) = model.temperature {
        body.insert("temperature".to_owned(), json!(decimal(temperature)));
    }
    for (name, value) in fields {
        // Documents of providers call the limit `max_tokens`. The endpoint may have another name for it.
        let name = if name == "max_tokens" { model.max_tokens_field.to_string() } else { name };
        body.insert(name, value);
    }
    body.insert("messages".to_owned(), Value::Array(messages));
    body.insert("stream".to_owned(), json!(true));
    if !tools.is_empty() {
        body.insert("tools".to_owned(), Value::Array(tools));
    }
    let mut headers = vec![
        ("Content-Type".to_owned(), "application/json".to_owned()),
        ("Accept".to_owned(), "text/event-stream".to_owned()),
    ];
    headers.extend(model.authorization());
    Request {
        method: http::Method::POST,
        url: model.endpoint(),
        headers,
        body: Value::Object(body).to_string().into(),
        // The responder has a shorter limit of its own for the time until the next word.
        timeouts: Timeouts { connect: None, total: model.timeout() * 2 },
        max_body: 0,
    }
}

/// Reads a response to its end and returns the last piece.
async fn read(mut answer: StreamingResponse, pieces: &mpsc::Sender<Piece>) -> Piece {
    let failed = |why: String| Piece::Failed { why, for_good: false };
    let status = answer.status();
    if !(200..300).contains(&status) {
        let mut body = Vec::new();
        while let Ok(Some(piece)) = answer.piece().await
            && body.len() < 4 * SHOWN
        {
            body.extend_from_slice(&piece);
        }
        let (shown, lasting) = refusal(&body);
        let for_good = lasting || matches!(status, 400 | 401 | 403 | 404 | 422);
        return Piece::Failed { why: format!("the model answered {status}: {shown}"), for_good };
    }
    let mut reading = ChunkReader::default();
    loop {
        let piece = match answer.piece().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return reading.end(),
            Err(error) => return failed(error.to_string()),
        };
        match reading.take(&piece) {
            Ok(texts) => {
                for text in texts {
                    if pieces.send(Piece::Text(text)).await.is_err() {
                        return reading.end();
                    }
                }
            }
            // The next answer would be as long.
            Err(why) if reading.is_excessive => return Piece::Failed { why, for_good: true },
            Err(why) => return failed(why),
        }
        if reading.done {
            return reading.end();
        }
    }
}

/// Returns the text of an error body, and whether another request is useless.
fn refusal(body: &[u8]) -> (String, bool) {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let error = parsed.as_ref().and_then(|body| body.get("error"));
    let text = error.and_then(|error| error.get("message").unwrap_or(error).as_str());
    let shown = text.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let code = |name: &str| error.and_then(|error| error.get(name)?.as_str()).unwrap_or_default().to_owned();
    let lasting = ["insufficient_quota", "credit_balance_exhausted", "invalid_api_key", "account_deactivated"];
    let for_good = lasting.contains(&code("code").as_str()) || lasting.contains(&code("type").as_str());
    (shown.chars().take(SHOWN).collect(), for_good)
}

/// The parser of a response's event stream. The parser is pure: it has no I/O and reads no clock.
#[derive(Default)]
struct ChunkReader {
    /// The octets of an incomplete line.
    line: Vec<u8>,
    calls: Vec<(u64, ToolCall)>,
    /// Whether a `finish_reason` has arrived.
    finished: bool,
    /// Whether `[DONE]` has arrived. No data follows `[DONE]`.
    done: bool,
    garbage: u32,
    any: bool,
    /// The octets of all lines so far.
    octets: usize,
    /// The octets of all texts so far.
    text_octets: usize,
    /// Whether the response is longer than a response may be.
    is_excessive: bool,
}

impl ChunkReader {
    /// Parses the next octets. Returns the texts in these octets.
    fn take(&mut self, octets: &[u8]) -> Result<Vec<String>, String> {
        let mut texts = Vec::new();
        self.octets += octets.len();
        if self.octets > LARGEST_ANSWER {
            return Err(self.exceeds(format!("the model's answer has more than {LARGEST_ANSWER} octets")));
        }
        for octet in octets {
            match octet {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.line(&line, &mut texts)?;
                }
                octet if self.line.len() < LONGEST_LINE => self.line.push(*octet),
                _ => return Err("a line of the answer is too long".to_owned()),
            }
        }
        Ok(texts)
    }

    fn line(&mut self, line: &[u8], texts: &mut Vec<String>) -> Result<(), String> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(data) = line.strip_prefix(b"data:") else {
            // These lines are empty, or they are comments or unused fields.
            let known =
                line.is_empty() || [":", "event:", "id:", "retry:"].iter().any(|one| line.starts_with(one.as_bytes()));
            return if known { Ok(()) } else { self.garbage() };
        };
        let data = data.strip_prefix(b" ").unwrap_or(data);
        if data.starts_with(b"[DONE]") {
            (self.done, self.any) = (true, true);
            return Ok(());
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk>(data) else { return self.garbage() };
        (self.garbage, self.any) = (0, true);
        if let Some(error) = chunk.error {
            let text = error.get("message").and_then(Value::as_str).map_or_else(|| error.to_string(), str::to_owned);
            return Err(format!("the model reported an error: {}", text.chars().take(SHOWN).collect::<String>()));
        }
        let Some(choice) = chunk.choices.into_iter().find(|choice| choice.index == 0) else { return Ok(()) };
        self.finished |= choice.finish_reason.is_some();
        let Some(delta) = choice.delta else { return Ok(()) };
        self.text_octets += delta.content.as_ref().map_or(0, String::len);
        if self.text_octets > LONGEST_TEXT {
            return Err(self.exceeds(format!("the text of the model's answer has more than {LONGEST_TEXT} octets")));
        }
        texts.extend(delta.content.filter(|text| !text.is_empty()));
        delta.tool_calls.into_iter().flatten().try_for_each(|call| self.call(call))
    }

    fn garbage(&mut self) -> Result<(), String> {
        self.garbage += 1;
        if self.garbage >= MAX_UNREADABLE_LINES {
            Err("the model's answer is not a readable event stream".to_owned())
        } else {
            Ok(())
        }
    }

    /// Adds a piece of a tool call. The piece continues the last tool call with the same index. If the id of the piece
    /// differs from the id of this tool call, the piece starts a new tool call.
    fn call(&mut self, piece: CallPiece) -> Result<(), String> {
        let index = piece.index.unwrap_or_default();
        let id = piece.id.unwrap_or_default();
        let function = piece.function.unwrap_or_default();
        let is_it = |(known, call): &(u64, ToolCall)| *known == index && (id.is_empty() || call.id == id);
        let at = match self.calls.iter().rposition(is_it) {
            Some(at) => at,
            None if self.calls.len() >= MAX_TOOL_CALLS => return Err("too many tool calls in one answer".to_owned()),
            None => {
                let id = if id.is_empty() { format!("call_{}", self.calls.len() + 1) } else { id };
                self.calls.push((index, ToolCall { id, ..ToolCall::default() }));
                self.calls.len() - 1
            }
        };
        let Some((_, call)) = self.calls.get_mut(at) else { return Ok(()) };
        if let Some(name) = function.name.filter(|_| call.name.is_empty()) {
            call.name = name;
        }
        match function.arguments {
            Some(Value::String(text)) => call.arguments.push_str(&text),
            // Some servers send the arguments as a JSON object instead of a string.
            Some(Value::Null) | None => {}
            Some(object) => call.arguments.push_str(&object.to_string()),
        }
        match excess(call) {
            Some(why) => Err(self.exceeds(why.to_owned())),
            None => Ok(()),
        }
    }

    fn exceeds(&mut self, why: String) -> String {
        self.is_excessive = true;
        why
    }

    fn end(self) -> Piece {
        let complete = self.finished || self.done;
        if !complete {
            let why = if self.any {
                "the answer ended before it was complete"
            } else {
                "the model's answer contains nothing readable"
            };
            return Piece::Failed { why: why.to_owned(), for_good: false };
        }
        Piece::End(self.calls.into_iter().map(|(_, call)| call).filter(|call| !call.name.is_empty()).collect())
    }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Deserialize)]
struct CallPiece {
    index: Option<u64>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize, Default)]
struct Function {
    name: Option<String>,
    arguments: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> (String, Piece) {
        let mut reading = ChunkReader::default();
        // The test passes one octet at a time.
        let texts: Vec<String> = text.as_bytes().iter().flat_map(|octet| reading.take(&[*octet]).unwrap()).collect();
        (texts.concat(), reading.end())
    }

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn fields_of_a_script_replace_those_of_the_configuration() {
        let model = json!({
            "url": "http://127.0.0.1/v1", "name": "m", "max_tokens": 100, "temperature": 0.2, "extra": { "seed": 7 },
        });
        let model: ModelConfig = serde_json::from_value(model).unwrap();
        let fields = json!({ "max_tokens": 50, "temperature": 0.9, "messages": "none", "stream": false });
        let question =
            ModelQuestion { messages: vec![], tools: vec![], fields: fields.as_object().cloned().unwrap_or_default() };
        let body: Value = serde_json::from_slice(&request(&model, question).body).unwrap();
        let expected = json!({
            "seed": 7, "model": "m", "max_completion_tokens": 50, "temperature": 0.9, "messages": [], "stream": true,
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn streamed_text_is_joined_in_order() {
        let (text, end) = all(concat!(
            ": ping\r\n\r\n",
            "data: {\"choices\":[]}\r\n\r\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"content\":null}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Good \"}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"day.\"}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\ndata: [DONE]\n\n"
        ));
        assert_eq!((text.as_str(), end), ("Good day.", Piece::End(vec![])));
    }

    #[test]
    fn tool_calls_are_assembled_from_every_known_form() {
        let openai = concat!(
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}}]}\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"x\\\"\"}}]}}]}\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n"
        );
        assert_eq!(all(openai).1, Piece::End(vec![call("a", "f", "{\"x\":1}")]));
        let whole = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}},\
                     {\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"stop\"}]}\n";
        assert_eq!(all(whole).1, Piece::End(vec![call("a", "f", "{\"x\":1}"), call("b", "g", "{}")]));
    }

    #[test]
    fn an_incomplete_or_invalid_answer_is_a_failure() {
        let broken = "data: {\"choices\":[{\"delta\":{\"content\":\"Good\"}}]}\n";
        assert!(matches!(all(broken).1, Piece::Failed { for_good: false, .. }));
        let mut reading = ChunkReader::default();
        assert!(reading.take("<html>\n".repeat(20).as_bytes()).is_err());
        let mut reading = ChunkReader::default();
        let error = reading.take(b"data: {\"error\":{\"message\":\"overloaded\"}}\n").unwrap_err();
        assert_eq!(error, "the model reported an error: overloaded");
        assert!(ChunkReader::default().take(&vec![b'x'; LONGEST_LINE + 2]).is_err());
        assert_eq!(
            refusal(br#"{"error":{"message":"No money","code":"insufficient_quota"}}"#),
            ("No money".into(), true)
        );
        assert_eq!(refusal(b"{\"error\":\"busy\"}"), ("busy".into(), false));
    }

    #[test]
    fn an_answer_beyond_its_limits_fails() {
        let text = |text: &str| format!("data: {}\n", json!({ "choices": [{ "delta": { "content": text } }] }));
        let call = |name: &str, arguments: &str| {
            let call = json!({ "id": "a", "function": { "name": name, "arguments": arguments } });
            format!("data: {}\n", json!({ "choices": [{ "delta": { "tool_calls": [call] } }] }))
        };
        let endless = [
            (text(&"x".repeat(LONGEST_TEXT / 2)), "text of the model's answer"),
            (text("x"), "text of the model's answer"),
            (": nothing yet\n".to_owned(), "octets"),
            (text(""), "octets"),
            (call("f", &"x".repeat(LONGEST_ARGUMENTS / 2)), "tool call is too long"),
            (call(&"f".repeat(300), ""), "name of a tool is too long"),
        ];
        for (piece, expected) in endless {
            let mut reading = ChunkReader::default();
            let failed = (0..LARGEST_ANSWER).find_map(|_| reading.take(piece.as_bytes()).err()).unwrap();
            assert!(failed.contains(expected) && reading.is_excessive, "{failed}");
        }
    }
}
