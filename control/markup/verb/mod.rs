//! The verbs: one file for each verb or family of verbs.

pub(super) mod agent;
pub mod conference;
pub(super) mod conversation;
pub(super) mod dial;
pub(super) mod flow;
pub(super) mod gather;
pub(super) mod noun;
pub(super) mod pay;
pub(super) mod queue;
pub mod record;
pub(super) mod refer;
mod siprec;
pub(super) mod sound;
pub(super) mod speech;
pub mod stream;
