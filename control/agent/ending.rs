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
    /// Does the work. The time is limited: 60 s for the question, and 30 s for each of at most 4 reports. `answer` is the
    /// answer without a question.
    pub(super) async fn run(
        mut self,
        client: &Client,
        model: &ModelConfig,
        answer: Option<Result<String, String>>,
    ) -> Vec<EndReport> {
        let answer = match self.question.take() {
            Some(question) => Some(ask(client.clone(), model, question).await),
            None => answer,
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

/// Asks the model, and returns the whole answer.
async fn ask(client: Client, model: &ModelConfig, question: ModelQuestion) -> Result<String, String> {
    let mut request = ChatRequest::begin(client, model, question);
    let read = async {
        let mut text = String::new();
        loop {
            match request.next().await {
                Piece::Text(piece) if text.len() + piece.len() <= LONGEST_TEXT => text.push_str(&piece),
                Piece::Text(_) => return Err("the answer is too long".to_owned()),
                Piece::End(_) => return Ok(text),
                Piece::Failed { why, .. } => return Err(why),
            }
        }
    };
    tokio::time::timeout(LONGEST_QUESTION, read)
        .await
        .unwrap_or_else(|_| Err(format!("no answer in {} s", LONGEST_QUESTION.as_secs())))
}
