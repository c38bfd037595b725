//! Documents that are programs with state: what such a program is asked, and what it may answer.
//!
//! ```text
//!   the leg asks what follows ──asked()──► Done: instructions, at whose end the leg asks again
//!                                       └► Document, Request ──HTTP──answered()──► Done, Document, Request
//! ```

use tandem_accounts::Account;
use tandem_call::fetch::{Fetch, FetchFailure};
use tandem_call::program::instruction::Program;

use super::{Context, Notice};
pub use tandem_http::{Request, Response, Timeouts};

/// The program of one leg. It lives as long as the leg, and performs nothing.
pub trait Script: Send {
    /// The leg asks what follows: for the first time, after an outcome, or because it was sent to another document.
    fn asked(&mut self, account: &Account, fetch: &Fetch, context: &Context) -> Step;

    /// What came of the request that the step before asked for. Of a document an answer is one with a status of 2xx.
    fn answered(&mut self, fetch: &Fetch, answer: Result<&Response, FetchFailure>) -> Step;
}

/// What follows.
pub enum Step {
    /// The leg runs this. `line`: how the program came to it, for the call's log.
    Done {
        /// The instructions, or why there are none.
        result: Result<Program, FetchFailure>,
        /// For people.
        line: String,
    },
    /// A document is asked for, signed as the dialect's are.
    Document(Notice),
    /// A request of the program's own.
    Request(Box<Request>),
}
