//! The outcome of a call: its problems, whether the steps were met, and the report.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_call::recognition::decimal;
use tandem_sip as sip;
use tokio::time::Instant;

use super::super::audio_classifier::Kind;
use super::super::lines::{Tone, rounded};
use super::super::problems::{self, Informant, More, Problem};
use super::{Conversation, End};

/// Time limit after the end of a call for the server's last report about the problems of the call.
const REPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit after the end of a call for the answer of the application to a request of the call. The server waits for
/// an answer for at most 15 s, and then may send one request to the fallback URL.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// Duration of an answered call in which audio from the other side must have arrived, in seconds.
const AUDIO_AFTER: f64 = 1.0;

impl Conversation {
    /// Returns the problem because of which the phone did not wait for the answer.
    pub(in crate::call) fn stopped_by(&self) -> Option<&Problem> {
        self.stopped_by.as_ref()
    }

    /// Returns whether the server has reported a problem.
    pub(in crate::call) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Returns whether a step failed, or the call had a problem that no step expects.
    pub(in crate::call) fn has_failed(&self) -> bool {
        let unexplained = self.problems.is_empty() && self.application_failed();
        self.done.iter().any(|done| !done.passed) || unexplained || self.unexpected().next().is_some()
    }

    /// Returns whether all expectations were met. A call that was refused meets them if the script expects only the
    /// reason of the refusal.
    pub(in crate::call) fn has_passed(&self) -> bool {
        let refused = !self.done.is_empty() && !self.expected.is_empty();
        (self.was_answered() || refused) && !self.has_failed() && self.unknown_problems().is_none()
    }

    /// Returns the problems that no step expects.
    fn unexpected(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| !self.expected.iter().any(|expected| expected.is(problem)))
    }

    /// Returns the reason why the server of the call did not tell the problems of the call.
    pub(in crate::call) fn unknown_problems(&self) -> Option<&str> {
        match &self.informant {
            Informant::Silent(why) => Some(why),
            Informant::Nobody | Informant::Server(_) => None,
        }
    }

    /// Asks the server for the problems that the call has had until now. Returns whether more problems may follow. An
    /// error says why the server did not answer.
    pub(super) async fn refresh_problems(&mut self) -> Result<More, String> {
        let Informant::Server(server) = &self.informant else { return Ok(More::No) };
        let answer = server.ask().await.map_err(|failure| failure.to_string())?;
        self.problems = answer.problems;
        Ok(answer.more)
    }

    /// Asks the server for the problems of the call after the end of the call.
    pub(super) async fn learn_problems(&mut self) {
        let began = Instant::now();
        let (mut was_complete, mut is_waiting) = (false, false);
        loop {
            let answer = self.refresh_problems().await;
            let is_complete = answer == Ok(More::No);
            // The server reports the audio of a leg a little after the end of the leg, so it is asked twice.
            let is_settled = is_complete && was_complete || matches!(self.informant, Informant::Nobody);
            let asks = answer == Ok(More::AfterAnswer);
            if asks && !std::mem::replace(&mut is_waiting, true) {
                self.lines.print(Tone::Plain, "waiting", "for the application, which has not answered a request");
            }
            match answer {
                Ok(More::No) if is_settled => return,
                _ if began.elapsed() < if asks { ANSWER_TIMEOUT } else { REPORT_TIMEOUT } => {
                    was_complete = is_complete;
                    tokio::time::sleep(problems::EVERY).await;
                }
                Ok(More::AfterAnswer) => {
                    self.informant = Informant::Silent("the application has not answered a request".to_owned());
                    return;
                }
                Ok(More::No | More::Soon) => return,
                Err(why) => {
                    self.informant = Informant::Silent(why);
                    return;
                }
            }
        }
    }

    /// Returns whether the other side hung up because the application of the other side failed. In this case Tandem
    /// plays an error message and then hangs up with Q.850 cause 41 (temporary failure).
    fn application_failed(&self) -> bool {
        let failed = |reason: &String| reason.contains("Q.850;cause=41");
        self.end.as_ref().is_some_and(|end| end.cause == sip::EndCause::Bye && end.reason.as_ref().is_some_and(failed))
    }

    /// Returns whether the other side answered.
    pub(in crate::call) fn was_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// Returns whether the call reached its time limit.
    pub(in crate::call) fn has_timed_out(&self) -> bool {
        self.timed_out
    }

    /// Returns the end of the call, or `None` if SIP has not reported the end.
    pub(in crate::call) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Returns the JSON report of the call.
    pub(in crate::call) fn report(&mut self, to: &str, from: &str) -> Value {
        let at = |ms: u64| rounded(self.zero.unwrap_or(0.0) + ms as f64 / 1_000.0);
        let entries = self.segments.iter().map(|segment| {
            let (from, to) = (at(segment.began), at(segment.until));
            match segment.kind {
                Kind::Speech => json!({"kind": "speech", "from": from, "to": to}),
                Kind::Tone(hertz) => json!({"kind": "tone", "from": from, "to": to, "hertz": hertz.round()}),
                Kind::Sound => json!({"kind": "sound", "from": from, "to": to}),
            }
        });
        let steps = self
            .done
            .iter()
            .map(|done| json!({"step": done.step, "at": done.at, "seconds": done.seconds, "passed": done.passed}));
        let problems: Vec<Value> = self
            .problems
            .iter()
            .map(|problem| problem.report(self.expected.iter().any(|expected| expected.is(problem))))
            .collect();
        let words = self.words.iter().map(|(at, words)| json!({"at": rounded(*at), "words": words}));
        let digits: String = self.digits.iter().map(|(_, digit)| digit).collect();
        let end = self.end.as_ref();
        let audio = self.stats.as_ref().map(|stats| {
            json!({
                "packets_in": stats.packets_in, "packets_out": stats.packets_out, "lost": stats.lost,
                "jitter_ms": decimal(stats.jitter_ms), "mos": stats.mos.map(decimal),
            })
        });
        json!({
            "to": to,
            "from": from,
            "answered": self.answered.is_some(),
            "passed": self.has_passed(),
            "seconds": rounded(self.length()),
            "ended_by": self.ended_by(),
            "status": end.and_then(|end| end.status),
            "steps": steps.collect::<Vec<_>>(),
            "heard": entries.collect::<Vec<_>>(),
            "words": words.collect::<Vec<_>>(),
            "keys": digits,
            "problems": matches!(self.informant, Informant::Server(_)).then_some(problems),
            "audio": audio,
            "recording": self.record,
            "lines": self.lines.take_entries(),
        })
    }

    fn ended_by(&self) -> &'static str {
        match &self.end {
            _ if self.timed_out => "timeout",
            Some(End { cause: sip::EndCause::Bye, .. }) if !self.leaving => "other side",
            Some(End { cause: sip::EndCause::Rejected, .. }) => "refusal",
            _ if self.leaving => "this side",
            _ => "failure",
        }
    }

    /// Prints which side ended the call, and the audio statistics.
    pub(in crate::call) fn print_end(&mut self) {
        let Some(End { cause, status, reason }) = self.end.clone() else {
            self.lines.print(Tone::Bad, "lost", "the other side did not answer the hang-up");
            return;
        };
        let (tone, what) = match (self.was_answered(), self.leaving) {
            (true, true) => (Tone::Plain, "this side hung up".to_owned()),
            (true, false) if cause == sip::EndCause::Bye => (Tone::Plain, "the other side hung up".to_owned()),
            (false, true) => (Tone::Plain, "given up".to_owned()),
            _ => {
                let status = status.map(|status| format!(" with {status}")).unwrap_or_default();
                (Tone::Bad, format!("{cause}{status}"))
            }
        };
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        self.lines.print(tone, "ended", &format!("{what}{reason}"));
        if self.application_failed() {
            self.lines.advise(
                "the application failed, and the caller heard the error message: `tandem show last` shows the reason",
            );
        }
        for problem in self.unexpected().cloned().collect::<Vec<_>>() {
            self.lines.print(Tone::Bad, "problem", &format!("{}: {}", problem.cause, problem.message));
            if let Some(advice) = &problem.advice {
                self.lines.advise(advice);
            }
        }
        let Some(stats) = self.stats.filter(|_| self.answered.is_some()) else { return };
        let mos = stats.mos.map(|mos| format!(", MOS {mos:.1}")).unwrap_or_default();
        self.lines.note(&format!(
            "audio: {} packets in, {} out, {} lost{mos}",
            stats.packets_in, stats.packets_out, stats.lost
        ));
        if lacks_audio(stats.packets_in, self.length(), self.problems.len()) {
            self.lines.advise(
                "no audio arrived from the other side: a firewall blocks it, or the SDP of the other side names a wrong address (`media.advertise`)",
            );
        }
        if let Some(path) = &self.record {
            let shown = path.display().to_string();
            self.lines.note(&format!("recording: {shown} (left: the other side, right: this one)"));
        }
    }

    /// Returns the duration of the answered call, in seconds.
    fn length(&self) -> f64 {
        self.answered.map_or(0.0, |at| self.ended.unwrap_or_else(|| self.lines.now()) - at)
    }

    /// Prints all recognised words in one line.
    pub(in crate::call) fn print_transcript(&mut self) {
        let words: Vec<String> = self.words.iter().map(|(_, words)| words.clone()).collect();
        if !words.is_empty() {
            self.lines.note(&format!("transcript: {}", words.join(" ")));
        }
    }
}

/// Whether a firewall or a wrong address is the probable reason for a call without audio. A call that ended at once had
/// no time for audio, and a problem of the call is a reason of its own. `length` is in seconds.
fn lacks_audio(packets_in: u64, length: f64, problems: usize) -> bool {
    packets_in == 0 && length >= AUDIO_AFTER && problems == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_ended_at_once_or_failed_does_not_blame_a_firewall() {
        for (packets_in, length, problems, lacks) in
            [(0, 0.01, 0, false), (0, 0.9, 0, false), (0, 1.0, 0, true), (0, 30.0, 1, false), (1, 30.0, 0, false)]
        {
            assert_eq!(lacks_audio(packets_in, length, problems), lacks, "{packets_in} {length} {problems}");
        }
    }
}
