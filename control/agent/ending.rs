//! The work after a conversation: a last question to the model, and the reports of the script to web servers.

use std::time::Duration;

use jiff::Timestamp;
use tandem_dialect::agent::{AgentScript, ConversationSummary, DialogueLine, EndReason};
use tandem_http::Client;

use super::chat::{ChatRequest, LONGEST_TEXT, ModelQuestion, Piece};
use super::config::ModelConfig;
use super::tools::LARGEST;

/// Maximum duration of the question to the model.
const LONGEST_QUESTION: Duration = Duration::from_secs(60);
/// Maximum duration of one report.
const LONGEST_REPORT: Duration = Duration::from_secs(30);
/// The reason why a realtime model does not answer a question after the conversation.
const NO_QUESTION: &str =
    "a realtime model answers no question after the conversation: use a chat model (http:// or https://) for a summary";
/// Maximum number of reports.
const MAX_REPORTS: usize = 4;

/// The work after a conversation.
pub(super) struct Ending {
    pub(super) script: Box<dyn AgentScript>,
    pub(super) question: Option<ModelQuestion>,
    pub(super) why: EndReason,
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) dialogue: Vec<DialogueLine>,
}

/// A report that was sent, for the call's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndReport {
    /// The URL of the report, without user name, password and query.
    pub url: String,
    /// The status of the answer, or the reason why there is none.
    pub result: Result<u16, String>,
}

impl Ending {
    /// Does the work. The time is limited: 60 s for the question, and 30 s for each of at most 4 reports.
    pub(super) async fn run(mut self, client: &Client, model: &ModelConfig) -> Vec<EndReport> {
        let answer = match self.question.take() {
            Some(question) => Some(ask(client.clone(), model, question).await),
            None => None,
        };
        let summary = ConversationSummary {
            why: self.why,
            began: self.began,
            ended: self.ended,
            dialogue: &self.dialogue,
            answer,
        };
        let requests = self.script.end_report(&summary, self.ended);
        let mut reports = Vec::new();
        for mut request in requests.into_iter().take(MAX_REPORTS) {
            let limits = &mut request.request;
            limits.timeouts.total = limits.timeouts.total.min(LONGEST_REPORT);
            limits.max_body = limits.max_body.min(LARGEST);
            let sent = client.send(&request.request).await;
            let result = match sent {
                Ok(answer) if (200..300).contains(&answer.status) => Ok(answer.status),
                Ok(answer) => Err(format!("status {}", answer.status)),
                Err(why) => Err(why.to_string()),
            };
            // The query may have a token.
            let url = tandem_http::without_credentials(&request.request.url);
            let url = url.split('?').next().unwrap_or_default().to_owned();
            reports.push(EndReport { url, result });
        }
        reports
    }
}

/// Asks the model, and returns the whole answer. A realtime model is not asked, because it answers no question after the
/// conversation. Repeats the question once, if another attempt may succeed.
async fn ask(client: Client, model: &ModelConfig, question: ModelQuestion) -> Result<String, String> {
    if model.is_realtime() {
        return Err(NO_QUESTION.to_owned());
    }
    let answer = async {
        match ask_once(client.clone(), model, question.clone()).await {
            Err((_, false)) => ask_once(client, model, question).await,
            answer => answer,
        }
    };
    match tokio::time::timeout(LONGEST_QUESTION, answer).await {
        Ok(answer) => answer.map_err(|(why, _)| why),
        Err(_) => Err(format!("no answer in {} s", LONGEST_QUESTION.as_secs())),
    }
}

/// Asks the model, and returns the whole answer without the model's reasoning. An error has the reason, and whether another attempt
/// is useless.
async fn ask_once(client: Client, model: &ModelConfig, question: ModelQuestion) -> Result<String, (String, bool)> {
    let mut request = ChatRequest::begin(client, model, question);
    let mut text = String::new();
    loop {
        match request.next().await {
            Piece::Text(piece) if text.len() + piece.len() <= LONGEST_TEXT => text.push_str(&piece),
            Piece::Text(_) => return Err(("the answer is too long".to_owned(), true)),
            Piece::End(_) => return Ok(without_reasoning(&text).to_owned()),
            Piece::Failed { why, for_good } => return Err((why, for_good)),
        }
    }
}

/// Returns the text behind the reasoning, which some models write first.
fn without_reasoning(text: &str) -> &str {
    let ends = [("<think>", "</think>"), ("<thinking>", "</thinking>")];
    let reasoned = |(start, _): &&(&str, &str)| text.trim_start().starts_with(start);
    let rest = ends.iter().find(reasoned).and_then(|(_, end)| text.split_once(end)).map_or(text, |(_, rest)| rest);
    rest.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_the_last_question_has_no_reasoning() {
        assert_eq!(without_reasoning("\n<think>He wants tea.</think>\n{\"tea\": 1}"), r#"{"tea": 1}"#);
        assert_eq!(without_reasoning(" Use <think> tags."), "Use <think> tags.");
        assert_eq!(without_reasoning("<think>cut off"), "<think>cut off");
    }

    #[tokio::test]
    async fn the_last_question_is_repeated_once_unless_the_error_is_permanent() {
        use tandem_http::testing::{Answer, WebServer};
        use tandem_http::{Client, NetworkPolicy};

        let policy = NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()] };
        let client = Client::new(policy, Duration::from_secs(5)).unwrap();
        for (status, attempts) in [(503, 2), (401, 1)] {
            let mut server = WebServer::start(move |_| Answer::status(status)).await;
            let model = serde_json::from_str(&format!(r#"{{"url":"{}"}}"#, server.url("/v1"))).unwrap();
            let why = ask(client.clone(), &model, ModelQuestion::default()).await.unwrap_err();
            assert!(why.contains(&status.to_string()), "{why}");
            assert_eq!(server.rest().len(), attempts, "{status}");
        }
        let realtime = serde_json::from_str(r#"{"url":"ws://127.0.0.1:9/v1/realtime"}"#).unwrap();
        let why = ask(client, &realtime, ModelQuestion::default()).await.unwrap_err();
        assert!(why.contains("use a chat model"), "{why}");
    }
}
