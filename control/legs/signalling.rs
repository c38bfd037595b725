//! Converts the SIP events of a leg to events for the call.

use bytes::Bytes;
use tandem_call::output::{LegEvent, Progress, SipEndReason};
use tandem_media as media;
use tandem_sip as sip;

use super::{LegIo, Refusal};
use crate::reason;

impl LegIo {
    /// Handles a SIP event. Returns an event for the call, if the call needs the event.
    pub fn on_sip(&mut self, event: sip::Event) -> Option<LegEvent> {
        match event {
            sip::Event::Provisional { status, sdp, .. } => {
                let early_media = match (sdp, &mut self.session) {
                    (Some(sdp), Some(session)) => session.accept(&sdp).is_ok(),
                    _ => std::mem::take(&mut self.has_early_media),
                };
                self.negotiated |= early_media;
                // 181 and 182 say that the call is forwarded or waits, and 199 says that a branch has ended (RFC 6228).
                // After none of these responses does a phone ring.
                let rings = early_media || !matches!(status, 181 | 182 | 199);
                rings.then_some(LegEvent::Ringing { progress: Progress { alerting: status == 180, early_media } })
            }
            sip::Event::Answered { sdp, headers, dialog, .. } => self.answered(sdp, headers, dialog.as_deref()),
            sip::Event::Acknowledged { sdp, .. } if std::mem::take(&mut self.late_offer) => self.take_late_answer(sdp),
            sip::Event::Offered { sdp, refusable, .. } => {
                self.offered(sdp, refusable);
                None
            }
            // Our offer was sent in a provisional response.
            sip::Event::OfferAnswered { sdp, .. } if std::mem::take(&mut self.late_offer) => {
                self.take_late_answer(Some(sdp))
            }
            sip::Event::OfferAnswered { sdp, .. } => {
                if let Some(session) = &mut self.session {
                    // An invalid answer leaves the session unchanged (RFC 3261 §14.1).
                    let _ = session.accept(&sdp);
                }
                self.bring_new_keys();
                None
            }
            sip::Event::Info { digit, .. } => Some(LegEvent::Dtmf(digit)),
            sip::Event::Ended { cause: sip::EndCause::Rejected, status: Some(status), headers, .. }
                if let Some(outgoing) = self.redirects.as_mut().and_then(|it| it.next(status, &headers)) =>
            {
                self.send(sip::Command::Invite { leg: self.key, invite: Box::new(outgoing) });
                None
            }
            sip::Event::Ended { cause, status, reason: words, .. } => self.ended(cause, status, words),
            sip::Event::RefreshDue { .. } => {
                self.refresh();
                None
            }
            sip::Event::ReferAnswered { status, .. } => Some(LegEvent::ReferAnswered { status }),
            sip::Event::ReferProgress { status, done, .. } => Some(LegEvent::ReferProgress { status, done }),
            sip::Event::Acknowledged { .. }
            | sip::Event::Incoming { .. }
            | sip::Event::OfferRejected { .. }
            | sip::Event::Referred { .. }
            | sip::Event::Trace { .. }
            | sip::Event::Binding(_)
            | sip::Event::AuthenticationFailed(_)
            | sip::Event::UnknownSource(_)
            | sip::Event::TrunkTroubled(_) => None,
        }
    }

    /// Handles the 200 of the far end. The SDP answer is in the 200, or was in a provisional response.
    fn answered(
        &mut self,
        sdp: Option<Bytes>,
        headers: Vec<sip::Header>,
        dialog: Option<&sip::DialogState>,
    ) -> Option<LegEvent> {
        let session = self.session.as_mut()?;
        let accepted = match sdp {
            Some(sdp) => session.accept(&sdp).map_err(|error| error.to_string()),
            None if self.negotiated => Ok(()),
            None => Err(self.refusal.take().map_or_else(|| "there is no SDP".to_owned(), |refusal| refusal.why)),
        };
        if let Err(why) = accepted {
            return Some(self.hangup_without_audio(&why));
        }
        self.negotiated = true;
        let headers = headers.into_iter().map(|header| (header.name, header.value)).collect();
        let dialog = dialog.map(|dialog| dialog.to_string().into());
        Some(LegEvent::Answered { codec: self.codec().map(str::to_owned), headers, dialog })
    }

    /// Answers the offer of the far end. If a re-INVITE has no offer, makes an offer. `refusable` says whether an
    /// unusable offer may be refused. Otherwise the function declines the streams of the offer, so that the far end
    /// receives an answer.
    fn offered(&mut self, sdp: Option<Bytes>, refusable: bool) {
        let Some(session) = &mut self.session else { return };
        let answer = match sdp {
            Some(offer) => match session.answer_preferring(&offer, &self.preferred) {
                Ok(answer) => {
                    self.has_early_media = !self.negotiated;
                    self.negotiated = true;
                    Ok(answer)
                }
                Err(error) => {
                    let refusal = Refusal::of(&error);
                    let declined = if refusable { None } else { session.decline(&offer) };
                    if !self.negotiated {
                        self.refusal = Some(refusal.clone());
                    }
                    declined.ok_or(refusal)
                }
            },
            None => {
                self.late_offer = true;
                Ok(session.offer_preferring(&self.preferred))
            }
        };
        match answer {
            Ok(sdp) => self.send(sip::Command::AnswerOffer { leg: self.key, sdp }),
            Err(refusal) => {
                let status = refusal.status;
                let (reason, headers) = refusal.into_parts();
                self.send(sip::Command::RejectOffer { leg: self.key, status, reason, headers });
            }
        }
    }

    /// Handles the end of the dialog. Returns `None` if this server has ended the dialog.
    fn ended(&mut self, cause: sip::EndCause, status: Option<u16>, words: Option<String>) -> Option<LegEvent> {
        self.gone = true;
        let reason = match cause {
            sip::EndCause::LocalHangup => return None,
            sip::EndCause::Bye => SipEndReason::Bye,
            sip::EndCause::Cancelled => SipEndReason::Cancelled,
            sip::EndCause::Rejected => {
                words.as_deref().and_then(reason::cause).map_or(SipEndReason::Rejected, SipEndReason::Refused)
            }
            sip::EndCause::Timeout | sip::EndCause::AckTimeout | sip::EndCause::SessionExpired => SipEndReason::Timeout,
            sip::EndCause::Unresolved
            | sip::EndCause::NoSocket
            | sip::EndCause::Unconnected(_)
            | sip::EndCause::Tls(_)
            | sip::EndCause::Invalid
            | sip::EndCause::Forbidden => SipEndReason::Unreachable,
            sip::EndCause::Overload | sip::EndCause::TrunkFull => SipEndReason::Failed,
        };
        let detail = self.why(cause, status, words);
        Some(LegEvent::Ended { reason, sip_status: status, detail })
    }

    /// Sends an offer with the current codec. This offer refreshes the session timer, or brings a new key.
    fn refresh(&mut self) {
        let mut preferred = self.preference();
        preferred.codecs.truncate(1);
        if let Some(session) = &mut self.session {
            let sdp = session.offer_preferring(&preferred);
            self.send(sip::Command::Offer { leg: self.key, sdp });
        }
    }

    /// Makes another offer if the far end needs a new key of ours.
    fn bring_new_keys(&mut self) {
        if self.session.as_ref().is_some_and(media::Session::owes_new_keys) {
            self.refresh();
        }
    }

    /// Handles the answer to our offer, after an INVITE without an offer.
    fn take_late_answer(&mut self, sdp: Option<Bytes>) -> Option<LegEvent> {
        let accepted = match (sdp, &mut self.session) {
            (Some(sdp), Some(session)) => session.accept(&sdp).map_err(|error| error.to_string()),
            _ => Err("the ACK has no answer to our offer".to_owned()),
        };
        self.negotiated |= accepted.is_ok();
        self.bring_new_keys();
        // After a failed re-INVITE, the session continues unchanged.
        let why = accepted.err().filter(|_| !self.negotiated)?;
        Some(self.hangup_without_audio(&why))
    }

    fn hangup_without_audio(&mut self, why: &str) -> LegEvent {
        tracing::warn!(leg = %self.key, "SDP refused: {why}");
        self.redirects = None;
        // An answered call cannot be refused. So the BYE carries the reason that a refusal would carry.
        let headers = self.final_headers();
        let reason = Some(reason::NOT_ACCEPTABLE.to_owned());
        self.send(sip::Command::Hangup { leg: self.key, status: 488, reason, headers });
        let detail = Some(format!("its SDP has no usable audio: {why}"));
        LegEvent::Ended { reason: SipEndReason::Failed, sip_status: Some(488), detail }
    }

    /// Returns the reason of an end as text: the reason from the far end, or the reason of the local failure.
    pub(super) fn why(&self, cause: sip::EndCause, status: Option<u16>, words: Option<String>) -> Option<String> {
        match (cause, status, words, &self.callee) {
            (sip::EndCause::Bye | sip::EndCause::Cancelled, _, words, _) => {
                words.map(|words| format!("{cause} by the far end ({words})"))
            }
            (sip::EndCause::Rejected, Some(status @ (401 | 407)), _, Some(callee)) if !callee.authenticates => {
                Some(format!("{status}: {} demands credentials, but none are configured", callee.name))
            }
            (sip::EndCause::Rejected, Some(status), words, _) => {
                Some(format!("{status} {}", words.unwrap_or_default()))
            }
            (_, _, _, Some(callee)) => Some(format!("{}: {cause}", callee.name)),
            _ => Some(cause.to_string()),
        }
    }
}
