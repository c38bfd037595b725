//! The Reason header (RFC 3326). This module reads the Q.850 cause of the telephone network, and writes the cause of a
//! hang-up by this server.

use tandem_call::leg::EndCause;
use tandem_call::output::HangupReason;

/// The Reason value if this server hangs up because the session description of the far end is unusable (RFC 3261
/// §21.4.26).
pub(crate) const NOT_ACCEPTABLE: &str = "SIP;cause=488;text=\"Not Acceptable Here\"";

/// Returns the Reason value for a hang-up.
pub(crate) fn of(reason: HangupReason) -> String {
    if reason.answered_elsewhere {
        // With this value, phones do not show a missed call.
        return "SIP;cause=200;text=\"Call completed elsewhere\"".to_owned();
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
/// cause is less specific than the SIP status.
pub(crate) fn cause(value: &str) -> Option<EndCause> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_network_says_is_read_among_other_reasons_and_16_says_nothing() {
        assert_eq!(cause("SIP;cause=503, Q.850 ; cause=17;text=\"User busy\""), Some(EndCause::Busy));
        assert_eq!(cause("q.850;text=\"x\";cause=1"), Some(EndCause::NotFound));
        for nothing in ["Q.850;cause=16", "Busy Here", "SIP;cause=486", "Q.850;cause=900", ""] {
            assert_eq!(cause(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_call_answered_elsewhere_is_no_missed_call() {
        let says = |cause, answered_elsewhere| of(HangupReason { cause, answered_elsewhere });
        assert_eq!(says(EndCause::NormalClearing, false), "Q.850;cause=16;text=\"Normal call clearing\"");
        assert_eq!(says(EndCause::OriginatorCancel, true), "SIP;cause=200;text=\"Call completed elsewhere\"");
    }
}
