//! Session timers (RFC 4028) in the roles UAC and UAS. This module negotiates the timer, refreshes the session, and
//! ends a session that was not refreshed in time.

use std::time::{Duration, Instant};

use super::leg_cx::LegCx;
use super::state::{End, State};
use super::transactions::client::{InDialogRequest, Purpose};
use crate::header::ByeHeaders;
use crate::leg::{EndCause, Event};
use crate::message::{Content, Method, Request, Response};
use crate::negotiated_timer::NegotiatedTimer;

/// Reason header of the BYE. This server sends this BYE if a session was not refreshed in time.
const EXPIRED: &str = "Reason: SIP;cause=408;text=\"Session timer expired\"\r\n";
/// Lowest permitted value of Min-SE, in seconds (RFC 4028 §5).
pub(super) const LOWEST_MIN_SE: u32 = 90;
/// Maximum session interval, in seconds. A longer interval from the far end is reduced to this value.
const MAX_INTERVAL: u32 = 86_400;
/// Time between a refresh that was refused for a temporary reason and the next refresh.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The timer of a session that one side must refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionTimer {
    /// Session interval in seconds.
    pub(super) interval: u32,
    /// Time at which this server refreshes the session. `None` if the far end refreshes, or while a refresh has no
    /// response yet.
    pub(super) refresh_at: Option<Instant>,
    pub(super) we_refresh: bool,
    pub(super) expires_at: Instant,
}

impl SessionTimer {
    pub(super) fn new(now: Instant, negotiated_timer: NegotiatedTimer) -> Self {
        let NegotiatedTimer { interval, we_refresh, .. } = negotiated_timer;
        let whole = Duration::from_secs(u64::from(interval));
        // RFC 4028 §10: the side that does not refresh ends the session somewhat earlier than the interval.
        let timeout = if we_refresh { whole } else { whole - (whole / 3).min(Duration::from_secs(32)) };
        Self { interval, we_refresh, refresh_at: we_refresh.then_some(now + whole / 2), expires_at: now + timeout }
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.refresh_at.map_or(self.expires_at, |at| at.min(self.expires_at))
    }

    /// Returns the header lines for a request that refreshes the session. The roles do not change.
    fn lines(&self) -> String {
        let refresher = if self.we_refresh { "uac" } else { "uas" };
        format!("Session-Expires: {};refresher={refresher}\r\n", self.interval)
    }
}

/// Parses a value such as `1800;refresher=uac`. Returns the seconds, and whether the sender of the request refreshes.
/// The second value is `None` if the text has no `refresher`.
fn parse(value: &str) -> Option<(u32, Option<bool>)> {
    let mut parts = value.split(';').map(str::trim);
    let interval = parts.next()?.parse().ok()?;
    let refresher = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("refresher").then(|| value.trim().eq_ignore_ascii_case("uac"))
    });
    Some((interval, refresher))
}

/// Returns the number in a header field with a time in seconds.
pub(super) fn seconds(content: &Content, name: &'static str) -> Option<u32> {
    content.value(name)?.split(';').next()?.trim().parse().ok()
}

/// Negotiates the session timer as UAS (RFC 4028 §9). Returns the session timer for the 2xx. If the far end requests an
/// interval that is too short, returns the Min-SE for a 422 as the error.
pub(super) fn negotiate(request: &Request, ours: u32, min_se: u32) -> Result<Option<NegotiatedTimer>, u32> {
    let content = &request.content;
    let min_se = min_se.max(LOWEST_MIN_SE);
    let known = content.has_token("Supported", "timer") || content.has_token("Require", "timer");
    let requested = content.value("Session-Expires").and_then(|value| parse(&value));
    let far_end_min_se = seconds(content, "Min-SE").unwrap_or(LOWEST_MIN_SE).min(MAX_INTERVAL);
    let Some((requested, sender)) = requested else {
        let negotiated_timer =
            NegotiatedTimer { interval: ours.max(far_end_min_se).max(min_se), we_refresh: false, known };
        return Ok((known && ours > 0).then_some(negotiated_timer));
    };
    if requested < min_se && known {
        return Err(min_se);
    }
    let limit = if ours > 0 { ours } else { MAX_INTERVAL };
    let interval = requested.min(limit).max(far_end_min_se).max(min_se);
    // The far end refreshes if it supports session timers, because its requests keep its NAT mapping open.
    let we_refresh = if known { sender == Some(false) } else { true };
    Ok(Some(NegotiatedTimer { interval, we_refresh, known }))
}

/// Returns the session timer lines for a 2xx.
pub(super) fn answer_lines(negotiated_timer: Option<NegotiatedTimer>) -> String {
    let Some(NegotiatedTimer { interval, we_refresh, known }) = negotiated_timer else { return String::new() };
    let refresher = if we_refresh { "uas" } else { "uac" };
    // RFC 4028 §9: the far end is required to support session timers only if it refreshes.
    let require = if known && !we_refresh { "Require: timer\r\n" } else { "" };
    format!("{require}Session-Expires: {interval};refresher={refresher}\r\n")
}

/// Returns the session timer in a 2xx to a request of this server (RFC 4028 §7.2).
fn timer_in(response: &Response) -> Option<NegotiatedTimer> {
    let (interval, sender) = parse(&response.content.value("Session-Expires")?)?;
    let interval = interval.clamp(LOWEST_MIN_SE, MAX_INTERVAL);
    Some(NegotiatedTimer { interval, we_refresh: sender.unwrap_or(true), known: true })
}

/// Returns the Min-SE in a 422. Returns `None` for any other status, and if the Min-SE is greater than `MAX_INTERVAL`.
pub(super) fn min_se_of(response: &Response) -> Option<u32> {
    (response.status == 422)
        .then(|| seconds(&response.content, "Min-SE"))
        .flatten()
        .filter(|&min_se| min_se <= MAX_INTERVAL)
}

impl LegCx<'_, '_> {
    /// Returns the session timer lines for a later request that refreshes the session.
    pub(super) fn refresh_lines(&self) -> String {
        self.leg.extensions.session.as_ref().map(|session| session.lines()).unwrap_or_default()
    }

    /// Starts the session timer of a 2xx that was sent. If the 2xx has no session timer, stops the timer of the leg.
    pub(super) fn start_session(&mut self, negotiated_timer: Option<NegotiatedTimer>) {
        self.leg.extensions.session =
            negotiated_timer.map(|negotiated_timer| Box::new(SessionTimer::new(self.cx.now, negotiated_timer)));
        self.arm_leg();
    }

    /// Starts the session timer of a 2xx to an INVITE or UPDATE. If the 2xx has no session timer, stops the timer of
    /// the leg.
    pub(super) fn learn_session(&mut self, response: &Response) {
        if response.content.value("Allow").is_some() {
            self.leg.extensions.far_end_allows_update = response.content.has_token("Allow", "UPDATE");
        }
        self.start_session(timer_in(response));
    }

    pub(super) fn session_timeout(&mut self) {
        let leg = &mut *self.leg;
        let (key, updates) = (leg.key, leg.extensions.far_end_allows_update);
        let busy = leg.waiting_offer.is_some() || !leg.offer.is_idle() || leg.awaiting_ack.is_some();
        if !matches!(leg.state, State::Established) || leg.is_reported() {
            leg.extensions.session = None;
            return;
        }
        let Some(session) = leg.extensions.session.as_mut() else { return };
        if session.expires_at <= self.cx.now {
            leg.extensions.session = None;
            let bye_headers = ByeHeaders { lines: EXPIRED.to_owned(), headers: Vec::new() };
            self.send_bye(bye_headers, End::of(EndCause::SessionExpired, None));
            return;
        }
        if session.refresh_at.is_none_or(|at| at > self.cx.now) {
            return;
        }
        // If a request of this server has no response yet, this request refreshes the session too. If a request of the
        // far end is open, it must be answered first.
        if busy {
            session.refresh_at = Some(self.cx.now + RETRY_PAUSE);
            return;
        }
        session.refresh_at = None;
        if updates {
            self.send_refresh();
        } else {
            self.cx.core.event(Event::RefreshDue { leg: key });
        }
    }

    fn send_refresh(&mut self) {
        let lines = self.refresh_lines();
        self.send_in_dialog(Method::Update, Purpose::Refresh, InDialogRequest { lines, ..InDialogRequest::default() });
    }

    /// Handles the response to an UPDATE that refreshes the session. `status` is 408 if no response came.
    pub(super) fn refresh_answered(&mut self, status: u16, response: Option<&Response>) {
        let leg = &mut *self.leg;
        if leg.is_reported() || !matches!(leg.state, State::Established) {
            return;
        }
        let key = leg.key;
        match (status, response) {
            (200..=299, Some(response)) => {
                if let Some(target) = response.content.contact() {
                    leg.dialog.target = target;
                }
                self.learn_session(response);
            }
            (408 | 481, _) => {
                leg.extensions.session = None;
                let bye_headers = ByeHeaders { lines: EXPIRED.to_owned(), headers: Vec::new() };
                self.send_bye(bye_headers, End::of(EndCause::SessionExpired, Some(status)));
            }
            (422, Some(response)) if min_se_of(response).is_some() => {
                let min_se = min_se_of(response).unwrap_or(LOWEST_MIN_SE);
                if let Some(session) = &mut leg.extensions.session
                    && session.interval < min_se
                {
                    session.interval = min_se;
                    self.send_refresh();
                }
            }
            // The far end does not support UPDATE, although its Allow header contained UPDATE.
            (405 | 501, _) => {
                leg.extensions.far_end_allows_update = false;
                self.cx.core.event(Event::RefreshDue { leg: key });
            }
            _ => {
                if let Some(session) = &mut leg.extensions.session {
                    session.refresh_at = Some(self.cx.now + RETRY_PAUSE);
                }
            }
        }
        self.arm_leg();
    }

    /// Schedules the refresh again. This function is called if an offer that should refresh the session failed but the
    /// call continues.
    pub(super) fn refresh_again(&mut self) {
        if let Some(session) = &mut self.leg.extensions.session
            && session.we_refresh
            && session.refresh_at.is_none()
        {
            session.refresh_at = Some(self.cx.now + RETRY_PAUSE);
        }
        self.arm_leg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_expires_is_read_with_and_without_its_refresher() {
        assert_eq!(parse("1800"), Some((1800, None)));
        assert_eq!(parse("90 ; refresher=uas"), Some((90, Some(false))));
        assert_eq!(parse("90;x=y;Refresher=UAC"), Some((90, Some(true))));
        assert_eq!(parse("soon"), None);
    }

    #[test]
    fn the_refresher_refreshes_half_way_and_the_other_side_expires_a_third_or_32_s_early() {
        let now = crate::testing::instant();
        let timer =
            |interval, we_refresh| SessionTimer::new(now, NegotiatedTimer { interval, we_refresh, known: true });
        let after = |seconds| now + Duration::from_secs(seconds);
        let ours = timer(1800, true);
        assert_eq!((ours.refresh_at, ours.expires_at), (Some(after(900)), after(1800)));
        let theirs = timer(1800, false);
        assert_eq!((theirs.refresh_at, theirs.expires_at), (None, after(1768)));
        assert_eq!(timer(90, false).expires_at, after(60));
    }
}
