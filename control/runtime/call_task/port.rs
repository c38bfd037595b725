//! The port of a call: the reports of the call's streams, conversations and conferences become messages of the inbox.

use tandem_call::stream::CallOver;
use tandem_history::call_port::CallPort;
use tandem_history::event_log::Line;

use crate::inbox::{Inbox, PostError};

/// Passes reports to the inbox of a call. `pass` turns a report into a message.
pub(super) struct InboxPort<F> {
    inbox: Inbox,
    pass: F,
}

impl<F> InboxPort<F> {
    pub(super) fn new(inbox: &Inbox, pass: F) -> Self {
        Self { inbox: inbox.clone(), pass }
    }
}

impl<Update, F: Fn(&Inbox, Update) -> Result<(), PostError> + Send + Sync> CallPort<Update> for InboxPort<F> {
    fn report(&self, update: Update) -> Result<(), CallOver> {
        match (self.pass)(&self.inbox, update) {
            Err(PostError::Over) => Err(CallOver),
            Ok(()) | Err(PostError::Full) => Ok(()),
        }
    }

    fn log(&self, line: Line) {
        self.inbox.log().push_line(line);
    }
}
