//! Documents that are programs with state: the input of such a program, and the steps it may return.
//!
//! ```text
//!   the leg asks for the next step ──asked()──► Done: instructions; at their end the leg asks again
//!                                           └► Document, Request ──HTTP──answered()──► Done, Document, Request
//! ```

use tandem_accounts::Account;
use tandem_call::fetch::{Fetch, FetchFailure};
use tandem_call::program::instruction::Program;

use super::{Context, Notice};
pub use tandem_http::{Request, Response, Timeouts};

/// The program of one leg. It lives as long as the leg, and does no I/O.
pub trait Script: Send {
    /// Returns the next step. The leg asks at its start, after an outcome, and when it was sent to another document.
    fn asked(&mut self, account: &Account, fetch: &Fetch, context: &Context) -> Step;

    /// Takes the result of the request of the previous step. For a document, `Ok` is always an answer with a 2xx
    /// status.
    fn answered(&mut self, fetch: &Fetch, answer: Result<&Response, FetchFailure>) -> Step;
}

/// The next step of a program.
pub enum Step {
    /// The leg runs these instructions.
    Done {
        /// The instructions, or the reason why there are none.
        result: Result<Program, FetchFailure>,
        /// A description, for the call's log, of how the program reached this step.
        line: String,
    },
    /// A document must be fetched. The notice is signed like every request of this dialect.
    Document(Notice),
    /// The program itself makes an HTTP request.
    Request(Box<Request>),
}
