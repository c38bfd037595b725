//! The request of a webhook: its parameters, and the signed request of one attempt.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::Method;
use tandem_id::AccountName;

/// The parameters of a request to an application, before serialisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// Parameters as `application/x-www-form-urlencoded`, in this order. A GET request has the parameters in its query.
    Form(Vec<(String, String)>),
    /// Parameters as `application/json`.
    Json(serde_json::Value),
}

/// The data of one attempt to send a request to an application, before the request is signed.
#[derive(Debug, Clone, Copy)]
pub struct SignInput<'a> {
    /// The URL of this attempt exactly as configured, with its fragment. It is the URL of the webhook, the failover URL,
    /// or the target of a redirect.
    pub url: &'a str,
    /// HTTP method of the request.
    pub method: Method,
    /// The parameters of the request.
    pub body: &'a Body,
    /// The id by which the receiver recognises a repeated request. Every attempt has this id.
    pub id: u128,
    /// Number of the attempt. The first attempt has the number 1.
    pub attempt: u32,
    /// Time of the signature.
    pub now: Timestamp,
}

/// The signed request of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// The URL without its fragment. In a GET request, the URL contains the parameters.
    pub url: String,
    /// All header fields except `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body, exactly as signed. A GET request has an empty body.
    pub body: Bytes,
}

/// Signs the requests of deliveries. An implementation does no I/O and gets the time as an argument.
pub trait DeliverySigner: Send + Sync {
    /// Returns the signed request of one attempt to send a delivery of this account and dialect.
    fn sign(&self, account: &AccountName, dialect: &str, input: &SignInput<'_>) -> SignedRequest;
}
