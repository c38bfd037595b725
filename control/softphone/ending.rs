//! The end of a call in words.

use tandem_call::leg::{EndCause, EndFailure, EndedBy, LegInfo, SHUT_DOWN};

use crate::frame::Frame;

/// Returns the last line of a call whose leg has ended. With `has_error`, the call had an error besides.
pub(crate) fn of_leg(leg: &LegInfo, has_error: bool) -> Frame {
    let Some(end) = &leg.end else { return unknown() };
    let answered = leg.answered_at.is_some();
    let (words, failed) = match (end.failure.as_deref(), end.by) {
        (Some(EndFailure::Document(_)), _) => ("The application sent no usable document, so Tandem hung up.", true),
        (Some(EndFailure::Stream(_)), _) => ("The media stream of the application failed, so Tandem hung up.", true),
        (Some(EndFailure::Conversation(_)), _) => ("The conversation failed, so Tandem hung up.", true),
        (Some(EndFailure::Engine(_)), _) => ("A speech or language engine failed, so Tandem hung up.", true),
        (None, EndedBy::Application) if answered => ("The application hung up.", false),
        (None, EndedBy::Application) => match end.cause {
            EndCause::Busy => ("The application refused the call: busy.", true),
            _ => ("The application refused the call.", true),
        },
        (None, EndedBy::OtherLeg) if answered => ("The other party hung up.", false),
        (None, EndedBy::OtherLeg) => ("The other party did not take the call.", true),
        (None, EndedBy::FarEnd) => ("This page hung up.", false),
        (None, EndedBy::Server) if end.detail.as_deref() == Some(SHUT_DOWN) => ("`tandem dev` was stopped.", true),
        (None, EndedBy::Server) if end.cause == EndCause::TimeLimit => ("The call reached its time limit.", false),
        (None, EndedBy::Server) => ("Tandem ended the call.", true),
    };
    Frame::Ended { words: words.to_owned(), detail: Some(end.to_string()), failed: failed || has_error }
}

/// Returns the last line of a call that was refused before it had a leg.
pub(crate) fn refused(status: u16) -> Frame {
    let words = match status {
        403 => "Tandem refused the call: this number may not be called.".to_owned(),
        404 => "Tandem refused the call: no application has this number.".to_owned(),
        486 => "Tandem refused the call: the limit of calls is reached.".to_owned(),
        503 => "Tandem refused the call: it takes no calls now.".to_owned(),
        status => format!("Tandem refused the call with status {status}."),
    };
    Frame::Ended { words, detail: None, failed: true }
}

/// Returns the last line of a call whose end this server has not reported in time.
pub(crate) fn unknown() -> Frame {
    let words = "The call has ended, and Tandem did not report why. `tandem show last` may know more.".to_owned();
    Frame::Ended { words, detail: None, failed: true }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tandem_call::leg::{BY_INSTRUCTION, DOCUMENT_ENDED, LegEnd, LegOwner};
    use tandem_id::{AccountName, CallId, LegId};

    use super::*;

    fn words(answered: bool, by: EndedBy, cause: EndCause, detail: &str) -> (String, Option<String>, bool) {
        let at = Timestamp::UNIX_EPOCH;
        let owner = LegOwner::new(AccountName::new("acme"), "any");
        let leg = LegInfo::inbound(LegId(1), CallId(2), owner, "1".into(), "2".into(), at);
        let detail = Some(detail.to_owned());
        let end = LegEnd { at, cause, by, sip_status: None, detail, failure: None };
        let leg = LegInfo { answered_at: answered.then_some(at), end: Some(end), ..leg };
        match of_leg(&leg, false) {
            Frame::Ended { words, detail, failed } => (words, detail, failed),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_says_who_ended_the_call_and_whether_it_failed() {
        let normal = EndCause::NormalClearing;
        for (answered, by, cause, detail, expected, failed) in [
            (true, EndedBy::Application, normal, DOCUMENT_ENDED, "The application hung up.", false),
            (true, EndedBy::Application, normal, BY_INSTRUCTION, "The application hung up.", false),
            (false, EndedBy::Application, EndCause::Busy, "busy", "The application refused the call: busy.", true),
            (false, EndedBy::Application, EndCause::Rejected, "no", "The application refused the call.", true),
            (true, EndedBy::Server, normal, SHUT_DOWN, "`tandem dev` was stopped.", true),
            (true, EndedBy::Server, EndCause::Failed, "no media", "Tandem ended the call.", true),
            (true, EndedBy::OtherLeg, normal, "bye", "The other party hung up.", false),
        ] {
            let found = words(answered, by, cause, detail);
            assert_eq!(found, (expected.to_owned(), Some(detail.to_owned()), failed));
        }
    }

    #[test]
    fn a_call_that_was_refused_or_not_reported_is_never_a_success() {
        for frame in [refused(404), refused(599), unknown()] {
            assert!(matches!(frame, Frame::Ended { failed: true, .. }), "{frame:?}");
        }
    }
}
