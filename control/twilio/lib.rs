//! Twilio's dialect.
//!
//! ```text
//!   signed_request ── sign       webhook ── format, sid          reply ── markup
//!   browser                      the Voice SDK in browsers: /signal, tokens, sounds
//!   stream                       rest ── path, form, request, list, call, recording, account, media, resource_fields
//! ```
#![forbid(unsafe_code)]

mod account;
pub mod browser;
mod call;
mod conference;
pub mod console;
mod conversation;
mod error;
mod explain;
pub mod family;
mod form;
mod format;
mod hosted;
mod list;
mod media;
mod overrides;
mod path;
mod recording;
mod reply;
mod request;
mod resource_fields;
pub mod rest;
pub mod sid;
pub mod sign;
pub mod signed_request;
mod siprec;
mod stream;
mod transcription;
pub mod twiml;
mod webhook;

use tandem_accounts::{Account, TwilioCredentials};

use self::family::{Credentials, Family, Provider};
pub use self::hosted::{Page, hosted};
use self::sid::Ids;

/// The dialect's name in the configuration and in records.
pub const NAME: &str = "twilio";

/// Twilio itself. The methods that this module does not override have the defaults of [`Provider`].
#[derive(Debug)]
pub struct Twilio;

impl Provider for Twilio {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ids(&self) -> Ids {
        Ids::Prefixed
    }

    fn root(&self) -> &'static str {
        path::ROOT
    }

    fn new_account(&self, id: u128) -> Option<Account> {
        Some(Account::new_subaccount(id))
    }

    fn has_api_keys(&self) -> bool {
        true
    }

    fn answers_in_xml(&self) -> bool {
        true
    }

    fn credentials<'a>(&self, account: &'a Account) -> Option<Credentials<'a>> {
        let TwilioCredentials { account_sid, auth_token } = account.twilio.as_ref()?;
        Some(Credentials { sid: account_sid.into(), secret: auth_token, signing_key: auth_token })
    }
}

/// Twilio's dialect. If `strip_https_port` is true, this server removes the port from an `https` URL before signing the
/// URL. Otherwise this server signs the URL as configured.
pub fn dialect(strip_https_port: bool) -> Family {
    Family::new(&Twilio, strip_https_port)
}

/// An account at Twilio, for tests.
#[cfg(test)]
fn owner(sid: &str) -> family::Owner<'_> {
    family::Owner::new(&Twilio, sid)
}
