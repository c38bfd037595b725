//! Request methods.

use super::lossy;

/// A request method (RFC 3261 §7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Info,
    Update,
    Prack,
    Refer,
    Notify,
    Subscribe,
    Register,
    Other(String),
}

impl Method {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Info => "INFO",
            Self::Update => "UPDATE",
            Self::Prack => "PRACK",
            Self::Refer => "REFER",
            Self::Notify => "NOTIFY",
            Self::Subscribe => "SUBSCRIBE",
            Self::Register => "REGISTER",
            Self::Other(name) => name,
        }
    }

    pub(super) fn of(method: &sipx_sip::Method) -> Self {
        match method {
            sipx_sip::Method::Invite => Self::Invite,
            sipx_sip::Method::Ack => Self::Ack,
            sipx_sip::Method::Bye => Self::Bye,
            sipx_sip::Method::Cancel => Self::Cancel,
            sipx_sip::Method::Options => Self::Options,
            sipx_sip::Method::Info => Self::Info,
            sipx_sip::Method::Update => Self::Update,
            sipx_sip::Method::Register => Self::Register,
            other => match other.as_bytes() {
                b"PRACK" => Self::Prack,
                b"REFER" => Self::Refer,
                b"NOTIFY" => Self::Notify,
                b"SUBSCRIBE" => Self::Subscribe,
                name => Self::Other(lossy(name)),
            },
        }
    }
}
