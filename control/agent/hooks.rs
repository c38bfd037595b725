//! The requests that a script sends at the start of a conversation, and those that follow from their answers.

use jiff::Timestamp;
use tandem_dialect::agent::{AgentScript, MAX_REQUESTS, Response, ScriptRequest, ScriptStep};

/// Maximum number of requests that a script sends at the start. Further requests are not sent.
const MAX_HOOKS: usize = 8;

/// The ids of the requests whose answers are missing, each with the number of its requests so far.
#[derive(Default)]
pub(crate) struct Hooks(Vec<(String, u32)>);

impl Hooks {
    /// Returns the requests that the script sends at the start.
    pub(crate) fn begin(&mut self, script: &mut dyn AgentScript, at: Timestamp) -> Vec<ScriptRequest> {
        let mut requests = script.begin(at);
        requests.truncate(MAX_HOOKS);
        self.0.extend(requests.iter().map(|request| (request.id.clone(), 1)));
        requests
    }

    /// Gives an answer to the script. Returns the next request, which is to be sent, or the result. `None` if no request of the start
    /// has this id, or if the script wants more than [`MAX_REQUESTS`] requests for it.
    pub(crate) fn answered(
        &mut self,
        script: &mut dyn AgentScript,
        id: &str,
        answer: Result<&Response, String>,
        at: Timestamp,
    ) -> Option<ScriptStep> {
        let place = self.0.iter().position(|(hook, _)| hook == id)?;
        let (id, requests) = self.0.swap_remove(place);
        match script.answered(&id, answer, at) {
            ScriptStep::Request(request) => (requests < MAX_REQUESTS).then(|| {
                self.0.push((id.clone(), requests + 1));
                ScriptStep::Request(ScriptRequest { id, ..request })
            }),
            result @ ScriptStep::Result(_) => Some(result),
        }
    }
}
