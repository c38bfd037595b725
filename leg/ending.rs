//! The end of a leg, for the call and for people. This module also reads and writes the Reason header field (RFC 3326)
//! with the Q.850 cause of the telephone network.

use tandem_call::leg::EndCause;
use tandem_call::output::{EndReason, HangupReason};

use crate::attempt::LegRoute;
use crate::signal::{SignalEnd, SignalEndCause};

/// The Reason value if this server hangs up because the description of the far end is unusable (RFC 3261 §21.4.26).
pub(crate) const NOT_ACCEPTABLE: &str = "SIP;cause=488;text=\"Not Acceptable Here\"";
/// The Reason value if another contact or another leg has answered the call. Asterisk sends the same text. Phones that
/// know this text do not show a missed call.
pub const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// Returns the Reason value for a hang-up.
pub(crate) fn reason_of(reason: HangupReason) -> String {
    if reason.answered_elsewhere {
        return ELSEWHERE.to_owned();
    }
    let (cause, text) = match reason.cause {
        EndCause::NormalClearing | EndCause::OriginatorCancel | EndCause::TimeLimit => (16, "Normal call clearing"),
        EndCause::Rejected => (21, "Call rejected"),
        EndCause::Busy => (17, "User busy"),
        EndCause::Timeout | EndCause::NoAnswer => (19, "No answer from user"),
        EndCause::NotFound => (1, "Unallocated number"),
        EndCause::Failed => (41, "Temporary failure"),
        EndCause::Unspecified => (31, "Normal, unspecified"),
    };
    format!("Q.850;cause={cause};text=\"{text}\"")
}

/// Returns the end cause for the Q.850 cause in a Reason header. Returns `None` if there is no Q.850 cause, or if the
/// cause is less specific than the status.
fn q850_cause(value: &str) -> Option<EndCause> {
    let number: u8 = value.split(',').find_map(|reason| {
        let mut parts = reason.split(';').map(str::trim);
        parts.next().filter(|protocol| protocol.eq_ignore_ascii_case("Q.850"))?;
        parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("cause").then(|| value.trim().parse().ok())?
        })
    })?;
    Some(match number {
        1 | 2 | 3 | 22 | 28 => EndCause::NotFound,
        17 => EndCause::Busy,
        18..=20 => EndCause::NoAnswer,
        21 | 55 | 57 | 87 => EndCause::Rejected,
        25 | 27 | 34 | 38 | 41 | 42 | 44 | 47 | 58 | 88 | 102 => EndCause::Failed,
        _ => return None,
    })
}

/// Returns the kind of an end for the call.
pub(crate) fn kind_of(end: &SignalEnd) -> EndReason {
    match end.cause {
        SignalEndCause::HungUp => EndReason::HungUp,
        SignalEndCause::Cancelled => EndReason::Cancelled,
        SignalEndCause::Refused => {
            end.reason.as_deref().and_then(q850_cause).map_or(EndReason::Rejected, EndReason::Refused)
        }
        SignalEndCause::NoResponse | SignalEndCause::Expired => EndReason::Timeout,
        SignalEndCause::Unreachable | SignalEndCause::Invalid => EndReason::Unreachable,
        SignalEndCause::Local | SignalEndCause::RouteFull | SignalEndCause::Overloaded => EndReason::Failed,
    }
}

/// Returns the reason of an end for people: the reason of the far end, or the reason of the local failure. `route` is the
/// route on which the leg was placed.
pub(crate) fn why(route: Option<&LegRoute>, end: &SignalEnd) -> Option<String> {
    let SignalEnd { cause, detail, status, reason, .. } = end;
    match (cause, status, route) {
        (SignalEndCause::HungUp | SignalEndCause::Cancelled, ..) => {
            reason.as_ref().map(|reason| format!("{detail} by the far end ({reason})"))
        }
        (SignalEndCause::Refused, Some(status @ (401 | 407)), Some(route)) if !route.authenticates => {
            Some(format!("{status}: {} demands credentials, but none are configured", route.name))
        }
        (SignalEndCause::Refused, Some(status), _) => {
            Some(format!("{status} {}", reason.as_deref().unwrap_or_default()))
        }
        (_, _, Some(route)) => Some(format!("{}: {detail}", route.name)),
        _ => Some(detail.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_q850_cause_is_read_among_other_reasons_and_cause_16_is_ignored() {
        assert_eq!(q850_cause("SIP;cause=503, Q.850 ; cause=17;text=\"User busy\""), Some(EndCause::Busy));
        assert_eq!(q850_cause("q.850;text=\"x\";cause=1"), Some(EndCause::NotFound));
        for nothing in ["Q.850;cause=16", "Busy Here", "SIP;cause=486", "Q.850;cause=900", ""] {
            assert_eq!(q850_cause(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_call_answered_elsewhere_is_not_a_missed_call() {
        let value = |cause, answered_elsewhere| reason_of(HangupReason { cause, answered_elsewhere });
        assert_eq!(value(EndCause::NormalClearing, false), "Q.850;cause=16;text=\"Normal call clearing\"");
        assert_eq!(value(EndCause::OriginatorCancel, true), "SIP;cause=200;text=\"Call completed elsewhere\"");
    }

    #[test]
    fn each_end_of_a_leg_has_a_kind_and_a_text() {
        let trunk = LegRoute { name: "trunk \"t\" (sip:t)".to_owned(), ..LegRoute::default() };
        let end = |cause, status, reason: Option<&str>| SignalEnd {
            status,
            reason: reason.map(str::to_owned),
            ..SignalEnd::of(cause)
        };
        use SignalEndCause as C;
        for (end, kind, words) in [
            (end(C::HungUp, None, None), EndReason::HungUp, None),
            (
                end(C::HungUp, None, Some("Q.850;cause=16")),
                EndReason::HungUp,
                Some("hung up by the far end (Q.850;cause=16)"),
            ),
            (end(C::Cancelled, None, None), EndReason::Cancelled, None),
            (end(C::Refused, Some(486), Some("Busy Here")), EndReason::Rejected, Some("486 Busy Here")),
            (
                end(C::Refused, Some(503), Some("Q.850;cause=17")),
                EndReason::Refused(EndCause::Busy),
                Some("503 Q.850;cause=17"),
            ),
            (
                end(C::Refused, Some(407), None),
                EndReason::Rejected,
                Some("407: trunk \"t\" (sip:t) demands credentials, but none are configured"),
            ),
            (end(C::Unreachable, None, None), EndReason::Unreachable, Some("trunk \"t\" (sip:t): unreachable")),
            (end(C::RouteFull, None, None), EndReason::Failed, Some("trunk \"t\" (sip:t): the route has no room")),
        ] {
            assert_eq!((kind_of(&end), why(Some(&trunk), &end).as_deref()), (kind, words), "{end:?}");
        }
        assert_eq!(why(None, &end(C::Expired, None, None)).as_deref(), Some("the far end fell silent"));
    }
}
