//! The seam to the protocol of an SDK.

use serde_json::Value;
use tandem_id::LegId;
use tandem_legs::browser::Ringing;

/// The party that has made the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalledBy {
    /// The page has called.
    Page,
    /// This server has called the page.
    Server,
}

/// The facts of a call that frames need.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The leg.
    pub leg: LegId,
    /// The id of the call in frames.
    pub id: String,
    /// The party that has made the call.
    pub called_by: CalledBy,
    /// A secret that names the call. A protocol may use it to resume the call.
    pub token: std::sync::Arc<str>,
    /// The id of the request that ends the call, if the protocol has requests. The page confirms it.
    pub end_id: u32,
}

/// An offer of the page, or a wish for one.
#[derive(Clone, Debug, PartialEq)]
pub enum PageOffer {
    /// The page restarts ICE. The value is the id of the page's request, if the protocol has requests.
    Restart(Value),
    /// The page was reloaded, and offers a new media connection.
    Resume,
    /// The page was reloaded, and wants an offer for a new media connection.
    Attach,
    /// The page holds the call (`true`), or takes it up again. The value is the id of the page's request.
    Hold(Value, bool),
}

/// The end of a call by this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The page's call is refused.
    Refused {
        /// 300 to 699.
        status: u16,
        /// The reason phrase.
        reason: Option<String>,
    },
    /// The page no longer rings.
    Cancelled {
        /// Whether another page or phone has answered.
        answered_elsewhere: bool,
    },
    /// The call is hung up.
    HungUp,
    /// The page's media connection cannot be continued.
    MediaLost,
}

/// The frames of an SDK's protocol. Each function returns the frames for the page, in order.
pub trait Protocol: Send + Sync {
    /// The name of the SDK, for people.
    fn name(&self) -> &'static str;
    /// The page rings.
    fn ring(&self, call: &Facts, ringing: &Ringing) -> Vec<String>;
    /// The far end of the page's call rings. `sdp` is our answer, for early media.
    fn progress(&self, call: &Facts, sdp: Option<&str>) -> Vec<String>;
    /// The page's call is answered. `sdp` is our answer, if the page does not have it.
    fn accepted(&self, call: &Facts, sdp: Option<&str>) -> Vec<String>;
    /// The answer to an offer of the page, or the offer that the page wants. `None` if the offer is refused.
    fn described(&self, call: &Facts, offer: PageOffer, sdp: Option<&str>) -> Vec<String>;
    /// The page has taken up the call over a new socket, and nothing in its media has changed.
    fn resumed(&self, call: &Facts) -> Vec<String>;
    /// The call has ended.
    fn ended(&self, call: &Facts, end: &End) -> Vec<String>;
    /// A message of the application for the user of the page.
    fn message(&self, call: &Facts, content_type: &str, body: &[u8]) -> Vec<String>;
}
