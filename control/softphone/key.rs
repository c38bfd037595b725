//! The key of the page. [`guard`](crate::guard) notices the proxies that name themselves. Others do not, such as nginx
//! with its defaults, `ssh -R` and `socat`: their requests look like those of a browser on this machine. The key is only
//! in the address that `tandem dev` prints, so whoever comes through such a proxy does not have it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;
use tandem_settings::Secret;

use crate::{PATH, Softphone, refused};

/// The header field with the key. The script of the page sends it.
const FIELD: HeaderName = HeaderName::from_static("x-tandem-key");

/// A key of 128 bits, which is new at each start of the server. Only [`Self::address`] shows it.
#[derive(Clone, Debug)]
pub struct Key(Secret);

impl Key {
    /// Makes a key.
    pub fn random() -> Self {
        Self(Secret::new(&format!("{:032x}", rand::random::<u128>())))
    }

    /// Returns the address of the page of this server. The key is in the fragment, which a browser sends to nobody.
    pub fn address(&self, server: SocketAddr) -> String {
        format!("http://{server}{PATH}#{}", self.0.expose())
    }

    /// Returns whether the text is this key. The time of the comparison does not depend on the text's content.
    fn is(&self, given: &[u8]) -> bool {
        self.0.expose().as_bytes().ct_eq(given).into()
    }
}

/// Middleware that answers only a page that has the key.
pub(crate) async fn guard(State(phone): State<Arc<Softphone>>, request: Request, next: Next) -> Response {
    if request.headers().get(FIELD).is_some_and(|given| phone.dialled.key.is(given.as_bytes())) {
        return next.run(request).await;
    }
    refused(
        StatusCode::FORBIDDEN,
        "The key of this page is missing or wrong. Open the address that `tandem dev` prints, key included. Each start of \
         `tandem dev` has a new key.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_the_address_only_and_nothing_else_is_the_key() {
        let key = Key::random();
        let address = key.address("127.0.0.1:8080".parse().unwrap());
        let text = address.strip_prefix("http://127.0.0.1:8080/dev/phone#").unwrap();
        assert!(text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit()), "{text}");
        assert!(key.is(text.as_bytes()) && !format!("{key:?}").contains(text));
        let other = Key::random();
        for wrong in ["", &text[1..], &format!("{text}0"), &text.replace(|digit| digit != '0', "0")] {
            assert!(!key.is(wrong.as_bytes()), "{wrong}");
        }
        assert!(!other.is(text.as_bytes()));
    }
}
