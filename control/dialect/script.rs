//! The interface of scripts. A script is a document that is a stateful program. This file defines the input of a
//! script, and the steps that a script can return.
//!
//! ```text
//!   the leg asks for the next step ──asked()──► Done: instructions; at their end the leg asks again
//!                                           └► Document, Request ──HTTP──answered()──► Done, Document, Request
//! ```

use tandem_accounts::Account;
use tandem_call::conversation::AgentSpec;
use tandem_call::fetch::{Fetch, FetchFailure};
use tandem_call::program::instruction::Program;
use tandem_call::snapshot::CallSnapshotError;

use super::{Context, Notice};
pub use tandem_http::{Request, Response, Timeouts};

/// The program of one leg. The program lives as long as the leg and does no I/O. It is data: another process continues
/// with the octets of [`Script::write`], which [`Documents::read_script`](super::Documents::read_script) reads.
pub trait Script: Send {
    /// Returns the next step. The leg requests a step when the leg starts, and after the result of its last
    /// instruction. The leg also requests a step after the leg was sent to another document. If the leg repeats
    /// its request, because a restart has lost the response that the program awaits, the step is the request again.
    fn handle_fetch(&mut self, account: &Account, fetch: &Fetch, context: &Context) -> Step;

    /// Takes the result of the request in the previous step, and returns the next step. For a document, `Ok` is always
    /// a response with a 2xx status.
    fn handle_response(&mut self, fetch: &Fetch, answer: Result<&Response, FetchFailure>) -> Step;

    /// Takes the agents that have left for a document and cannot come back, because the leg has ended. Their reports are due.
    fn take_absent_agents(&mut self) -> Vec<AgentSpec> {
        Vec::new()
    }

    /// Writes the state of the program. The octets contain secrets of the application.
    fn write(&self) -> Result<Vec<u8>, CallSnapshotError>;
}

/// The next step of a program.
pub enum Step {
    /// The leg runs these instructions.
    Done {
        /// The instructions, or the reason why there are no instructions.
        result: Result<Program, FetchFailure>,
        /// A text for the call's log that describes how the program reached this step.
        line: String,
    },
    /// The server must fetch a document. The notice is signed like every request of this dialect.
    Document(Notice),
    /// The program itself sends an HTTP request.
    Request(Box<Request>),
}
