//! The way from a task that works for a call (a stream, a conversation, a conference) to that call.

use tandem_call::stream::CallOver;

use crate::event_log::Line;

/// The call of a task. The task reports each `Update` to the call. No method waits.
pub trait CallPort<Update>: Send + Sync {
    /// Passes a report to the call. An implementation may drop a report that the call does not need if too many messages
    /// wait for the call.
    ///
    /// # Errors
    /// Returns an error if the call has ended.
    fn report(&self, update: Update) -> Result<(), CallOver>;

    /// Adds a line to the call's log.
    fn log(&self, line: Line);
}
