//! Offer and answer of a leg's media (RFC 3264), in the orders that RFC 6337 §2.2 lists. One state machine serves every
//! signalling. The descriptions come from [`Describe`], which the media session implements.
//!
//! Two offers never cross here. A signalling in which offers can cross resolves this itself (RFC 3261 §14.1) and reports
//! an offer of the far end only if the far end does not have this server's offer. So the machine answers each reported
//! offer, and keeps its own offer open for the signalling to repeat.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tandem_call::header_fields::HeaderFields;

use crate::fork::MediaKind;
use crate::signal::SignalCommand;

/// The writer and reader of a leg's media descriptions. The media session implements this trait.
///
/// A leg that rings at contacts with two kinds of media ([`MediaKind`]) has two sessions. One of them is in use, and all
/// functions concern the session in use unless they say otherwise.
pub trait Describe {
    /// Returns an offer. The codecs of the bridged leg come first.
    fn offer(&mut self) -> Bytes;
    /// Returns an offer that changes nothing but keys.
    fn refresh_offer(&mut self) -> Bytes;
    /// Returns the answer to the far end's first offer. The same offer may be prepared again until
    /// [`Describe::settle`].
    ///
    /// # Errors
    /// If the offer cannot be used. The media is unchanged then.
    fn prepare(&mut self, offer: &[u8]) -> Result<Bytes, Unusable>;
    /// Makes the prepared answer final, because it is sent now.
    fn settle(&mut self);
    /// Returns the final answer to an offer.
    ///
    /// # Errors
    /// If the offer cannot be used. The media is unchanged then.
    fn answer(&mut self, offer: &[u8]) -> Result<Bytes, Unusable>;
    /// Applies the far end's answer to the last offer.
    ///
    /// # Errors
    /// If the answer cannot be used. The media is unchanged then.
    fn accept(&mut self, answer: &[u8]) -> Result<(), Unusable>;
    /// Returns an answer that declines each stream of the offer. `None` if the offer cannot be read.
    fn decline(&mut self, offer: &[u8]) -> Option<Bytes>;
    /// Applies the media settings of the route with this index, because the leg is placed on this route now.
    fn use_route(&mut self, index: usize);
    /// Makes the session in use a session with this kind of media. The leg calls this function before the first offer.
    fn use_media(&mut self, kind: MediaKind);
    /// Opens the session of the other kind of media. Returns `false` if there is no room for it.
    fn open_other(&mut self) -> bool;
    /// Changes the session in use to the session of the other kind of media.
    fn switch(&mut self);
    /// Closes the session of the other kind of media, if there is one.
    fn close_other(&mut self);
    /// Returns the name of the agreed codec.
    fn codec(&self) -> Option<&'static str>;
    /// Whether the far end must get another offer now, for example because it needs a new key.
    fn owes_offer(&self) -> bool;
}

/// The reason why a description cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    /// The SIP status of the refusal.
    pub status: u16,
    /// The reason in words.
    pub why: String,
    /// The warn-code of the Warning header field (RFC 3261 §20.43).
    pub warning: u16,
}

impl Unusable {
    /// Returns the reason phrase (only for a 400, RFC 3261 §21.4.1) and a Warning header field (§20.43).
    pub fn into_parts(self) -> (Option<String>, HeaderFields) {
        let text: String = self.why.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(128).collect();
        let warning = ("Warning".to_owned(), format!("{} tandem \"{text}\"", self.warning));
        ((self.status == 400).then_some(text), HeaderFields::from([warning]))
    }
}

/// The state of a leg's offers and answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OfferAnswer {
    /// Nothing was offered.
    #[default]
    Idle,
    /// The far end has made the first offer. The answer is ready, and is not sent yet.
    Offered {
        /// The offer.
        offer: Bytes,
        /// The answer, which may be prepared again.
        answer: Bytes,
    },
    /// The far end has called without an offer. This server makes the first offer in its response.
    OfferDue,
    /// This server has made the first offer, which has no answer yet.
    Offering {
        /// Whether the offer is in a response to the far end's call. Its answer then comes with the acknowledgement of
        /// the response.
        in_response: bool,
    },
    /// This server has called without an offer. The far end makes the first offer in its response.
    AwaitingOffer,
    /// The far end's first offer cannot be used.
    Unusable(Unusable),
    /// Both sides have agreed, and no offer is open.
    Agreed(Agreement),
    /// Both sides have agreed, and this server has made another offer.
    Reoffering {
        /// The agreement that counts until the answer comes, and if the offer is refused.
        agreed: Agreement,
        /// Whether the far end has asked for the offer. Its answer then comes with an acknowledgement.
        in_response: bool,
    },
}

/// The agreement of both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// This server's answer to the far end's first offer. Each further response to the call repeats this answer.
    answer: Option<Bytes>,
    /// Whether the far end made the first offer in a response, and this response is still to be reported as early media.
    unreported: bool,
}

/// A description, or the lack of one, in a signal of the far end.
#[derive(Debug)]
pub enum Input<'a> {
    /// A provisional response to this server's call.
    Ringing(Option<&'a [u8]>),
    /// The acceptance of this server's call.
    Accepted(Option<&'a [u8]>),
    /// The acknowledgement of this server's acceptance.
    Acknowledged(Option<&'a [u8]>),
    /// An offer. The flag says whether it can be refused.
    Offer(&'a [u8], bool),
    /// The far end asks for an offer.
    OfferWanted,
    /// The answer to an offer that is not in one of the signals above.
    Answer(&'a [u8]),
    /// The far end has refused an offer.
    Refused,
    /// The signalling needs an offer.
    RefreshDue,
}

/// The effect of an input.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing is to be done.
    Nothing,
    /// Early media is agreed.
    EarlyMedia,
    /// The call is accepted and the media is agreed.
    Accepted,
    /// This order is to be sent.
    Send(SignalCommand),
    /// No media can be agreed, so the leg must end.
    Failed(String),
}

impl OfferAnswer {
    /// Handles the far end's call. Without an offer, this server makes the first offer.
    ///
    /// # Errors
    /// If the offer cannot be used.
    pub fn begin(&mut self, offer: Option<Bytes>, media: &mut impl Describe) -> Result<(), Unusable> {
        let Some(offer) = offer else {
            *self = Self::OfferDue;
            return Ok(());
        };
        match media.prepare(&offer) {
            Ok(answer) => {
                *self = Self::Offered { offer, answer };
                Ok(())
            }
            Err(unusable) => {
                *self = Self::Unusable(unusable.clone());
                Err(unusable)
            }
        }
    }

    /// Begins a call of this server. Returns the offer, unless the far end shall make it (`late`). A further call on
    /// another route begins anew.
    pub fn place(&mut self, late: bool, media: &mut impl Describe) -> Option<Bytes> {
        *self = if late { Self::AwaitingOffer } else { Self::Offering { in_response: false } };
        (!late).then(|| media.offer())
    }

    /// Prepares the answer again, because the preference of codecs has changed. Does nothing if no answer waits.
    pub fn prefer(&mut self, media: &mut impl Describe) {
        // This offer was already answered without an error, so another answer to this offer is possible.
        if let Self::Offered { offer, answer } = self
            && let Ok(another) = media.prepare(offer)
        {
            *answer = another;
        }
    }

    /// Whether both sides have agreed.
    pub fn is_agreed(&self) -> bool {
        match self {
            Self::Offered { .. } | Self::Agreed(_) | Self::Reoffering { .. } => true,
            Self::Idle | Self::OfferDue | Self::Offering { .. } | Self::AwaitingOffer | Self::Unusable(_) => false,
        }
    }

    /// Whether the answer to the far end's first offer can still change.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Offered { .. })
    }

    /// Whether the far end has called without an offer, and nothing is agreed yet.
    pub fn wants_offer(&self) -> bool {
        matches!(self, Self::OfferDue | Self::Offering { in_response: true })
    }

    /// Takes the reason why the far end's offer cannot be used, if a refusal with this status is about it.
    pub fn take_unusable(&mut self, status: u16) -> Option<Unusable> {
        match self {
            Self::Unusable(unusable) if unusable.status == status => match std::mem::take(self) {
                Self::Unusable(unusable) => Some(unusable),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the description for a provisional response. With early media, the answer is sent and final. If the far end
    /// called without an offer, the first provisional response carries the offer (RFC 3262 §5).
    pub fn ring(&mut self, early_media: bool, media: &mut impl Describe) -> Option<Bytes> {
        match self {
            Self::Offered { .. } | Self::Agreed(_) | Self::Reoffering { .. } if early_media => self.send_answer(media),
            Self::OfferDue => {
                *self = Self::Offering { in_response: true };
                Some(media.offer())
            }
            _ => None,
        }
    }

    /// Returns the description for the acceptance of the far end's call: the answer, or an offer.
    pub fn accept(&mut self, media: &mut impl Describe) -> Bytes {
        if let Some(answer) = self.send_answer(media) {
            return answer;
        }
        if !self.is_agreed() {
            *self = Self::Offering { in_response: true };
        }
        media.offer()
    }

    /// Returns the answer to the far end's first offer, and makes it final.
    fn send_answer(&mut self, media: &mut impl Describe) -> Option<Bytes> {
        if let Self::Offered { answer, .. } = self {
            let answer = std::mem::take(answer);
            media.settle();
            *self = Self::Agreed(Agreement { answer: Some(answer), unreported: false });
        }
        match self {
            Self::Agreed(agreed) | Self::Reoffering { agreed, .. } => agreed.answer.clone(),
            _ => None,
        }
    }

    /// Handles a signal of the far end. A signal that does not fit the state has no effect: it came twice or too late.
    pub fn handle(&mut self, input: Input<'_>, media: &mut impl Describe) -> Effect {
        match (&mut *self, input) {
            // The answer in a response to this server's call. A phone may repeat it, and another phone may send its own.
            (Self::Offering { in_response: false }, Input::Ringing(Some(answer))) => match media.accept(answer) {
                Ok(()) => {
                    *self = Self::Agreed(Agreement::default());
                    Effect::EarlyMedia
                }
                Err(_) => Effect::Nothing,
            },
            (Self::Agreed(_) | Self::Reoffering { .. }, Input::Ringing(Some(answer))) => {
                media.accept(answer).map_or(Effect::Nothing, |()| Effect::EarlyMedia)
            }
            (Self::Agreed(agreed) | Self::Reoffering { agreed, .. }, Input::Ringing(None)) => {
                if std::mem::take(&mut agreed.unreported) { Effect::EarlyMedia } else { Effect::Nothing }
            }
            (Self::Offering { in_response: false }, Input::Accepted(Some(answer))) => match media.accept(answer) {
                Ok(()) => {
                    *self = Self::Agreed(Agreement::default());
                    Effect::Accepted
                }
                Err(unusable) => Effect::Failed(unusable.why),
            },
            (Self::Agreed(_) | Self::Reoffering { .. }, Input::Accepted(Some(answer))) => {
                media.accept(answer).map_or_else(|unusable| Effect::Failed(unusable.why), |()| Effect::Accepted)
            }
            (Self::Agreed(_) | Self::Reoffering { .. }, Input::Accepted(None)) => Effect::Accepted,
            (Self::Unusable(unusable), Input::Accepted(_)) => Effect::Failed(std::mem::take(&mut unusable.why)),
            (Self::Offering { in_response: false } | Self::AwaitingOffer, Input::Accepted(_)) => {
                Effect::Failed("there is no SDP".to_owned())
            }
            // The answer to an offer in a response of this server.
            (Self::Offering { in_response: true }, Input::Acknowledged(Some(answer)) | Input::Answer(answer)) => {
                match media.accept(answer) {
                    Ok(()) => self.agree(Agreement::default(), media),
                    Err(unusable) => Effect::Failed(unusable.why),
                }
            }
            (Self::Offering { in_response: true }, Input::Acknowledged(None)) => {
                Effect::Failed("the ACK has no answer to our offer".to_owned())
            }
            // An unusable answer to a later offer leaves the media unchanged (RFC 3261 §14.1).
            (
                Self::Reoffering { agreed, in_response: true },
                Input::Acknowledged(Some(answer)) | Input::Answer(answer),
            )
            | (Self::Reoffering { agreed, in_response: false }, Input::Answer(answer)) => {
                let agreed = std::mem::take(agreed);
                let _ = media.accept(answer);
                self.agree(agreed, media)
            }
            (Self::Reoffering { agreed, in_response: true }, Input::Acknowledged(None))
            | (Self::Reoffering { agreed, .. }, Input::Refused) => {
                *self = Self::Agreed(std::mem::take(agreed));
                Effect::Nothing
            }
            // One offer at a time: the far end's first offer is not answered yet (RFC 3261 §14.2, RFC 3311 §5.2).
            (Self::Offered { .. }, Input::OfferWanted | Input::Offer(_, true)) => {
                Effect::Send(SignalCommand::RefuseOffer { status: 500, reason: None, headers: HeaderFields::new() })
            }
            (_, Input::Offer(offer, refusable)) => self.answer_offer(offer, refusable, media),
            (_, Input::OfferWanted) => {
                let sdp = media.offer();
                *self = match std::mem::take(self) {
                    Self::Agreed(agreed) | Self::Reoffering { agreed, .. } => {
                        Self::Reoffering { agreed, in_response: true }
                    }
                    _ => Self::Offering { in_response: true },
                };
                Effect::Send(SignalCommand::Answer { sdp })
            }
            (Self::Agreed(agreed), Input::RefreshDue) => {
                let agreed = std::mem::take(agreed);
                self.reoffer(agreed, media)
            }
            // The remaining signals came twice, too late or too early.
            (
                _,
                Input::Ringing(_)
                | Input::Accepted(_)
                | Input::Acknowledged(_)
                | Input::Answer(_)
                | Input::Refused
                | Input::RefreshDue,
            ) => Effect::Nothing,
        }
    }

    /// Answers an offer of the far end. An offer that cannot be used changes nothing.
    fn answer_offer(&mut self, offer: &[u8], refusable: bool, media: &mut impl Describe) -> Effect {
        match media.answer(offer) {
            Ok(sdp) => {
                if !self.is_agreed() {
                    *self = Self::Agreed(Agreement { answer: None, unreported: true });
                }
                Effect::Send(SignalCommand::Answer { sdp })
            }
            Err(unusable) => {
                if !self.is_agreed() {
                    *self = Self::Unusable(unusable.clone());
                }
                let declined = if refusable { None } else { media.decline(offer) };
                Effect::Send(match declined {
                    Some(sdp) => SignalCommand::Answer { sdp },
                    None => {
                        let status = unusable.status;
                        let (reason, headers) = unusable.into_parts();
                        SignalCommand::RefuseOffer { status, reason, headers }
                    }
                })
            }
        }
    }

    /// Records an agreement. If the far end needs another offer, makes it.
    fn agree(&mut self, agreed: Agreement, media: &mut impl Describe) -> Effect {
        if media.owes_offer() {
            return self.reoffer(agreed, media);
        }
        *self = Self::Agreed(agreed);
        Effect::Nothing
    }

    fn reoffer(&mut self, agreed: Agreement, media: &mut impl Describe) -> Effect {
        *self = Self::Reoffering { agreed, in_response: false };
        Effect::Send(SignalCommand::Offer { sdp: media.refresh_offer() })
    }
}

#[cfg(test)]
mod tests;
