//! Requests for Twilio's other products. If a proxy or a hosts entry redirects all of Twilio's host names to this
//! server, the server also receives requests for products that this server does not have. The answer is an error that
//! Twilio's libraries understand.

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::error::ApiError;

/// Suffix of all of Twilio's host names.
const DOMAIN: &str = ".twilio.com";
/// The products for which this server serves every path on the product's own host name.
const PRODUCTS: [&str; 4] = ["api", "insights", "monitor", "trunking"];
/// Path prefixes that this server serves under any host name: the REST API, and the paths of the Voice SDK for browsers.
const SERVED: [&str; 5] = ["/2010-04-01", "/v1/Trunks", "/signal", "/v4/Endpoint", "/js/client/sounds/"];

/// Answers requests for unsupported products with 404. All other requests go to the next handler.
pub async fn refuse(request: Request, next: Next) -> Response {
    match refusal_of(&request) {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    }
}

fn refusal_of(request: &Request) -> Option<ApiError> {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = named.or_else(|| request.uri().host())?;
    let host = host.split(':').next().unwrap_or(host).to_ascii_lowercase();
    let path = request.uri().path();
    // In the host name, an edge or a region may follow the product.
    let product = host.strip_suffix(DOMAIN)?.split('.').next()?;
    if PRODUCTS.contains(&product) || SERVED.iter().any(|served| path.starts_with(served)) {
        return None;
    }
    let message = format!("This server supports voice only and does not serve {host}: {path}");
    Some(ApiError::new(StatusCode::NOT_FOUND, 20404, message))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn only_hosts_of_other_twilio_products_get_404() {
        let refused = |host: &str, path: &str| {
            let request = Request::builder().uri(path).header(header::HOST, host).body(Body::empty()).unwrap();
            refusal_of(&request).map(|error| (error.status.as_u16(), error.code))
        };
        for (host, path) in [
            ("lookups.twilio.com", "/v1/PhoneNumbers/+15550001111"),
            ("verify.twilio.com:443", "/v2/Services"),
            ("Messaging.Twilio.com", "/v1/Services"),
            ("sdk.twilio.com", "/js/voice/releases/2.0.0/twilio.min.js"),
        ] {
            assert_eq!(refused(host, path), Some((404, 20404)), "{host}");
        }
        for (host, path) in [
            ("api.twilio.com", "/2010-04-01/Accounts/AC1/Calls.json"),
            ("trunking.dublin.ie1.twilio.com", "/v1/Trunks/TK1"),
            ("api.dublin.ie1.twilio.com:443", "/healthz"),
            ("voice.twilio.com", "/2010-04-01/Accounts.json"),
            ("monitor.twilio.com", "/v1/Alerts"),
            ("insights.twilio.com", "/v1/Voice/CA1/Summary"),
            ("voice-js.roaming.twilio.com", "/signal"),
            ("chunderw-vpc-gll-us1.twilio.com", "/signal"),
            ("eventgw.us1.twilio.com", "/v4/EndpointEvents"),
            ("sdk.twilio.com", "/js/client/sounds/releases/1.0.0/incoming.mp3"),
            ("127.0.0.1:8080", "/v2/calls"),
            ("nottwilio.com", "/healthz"),
        ] {
            assert_eq!(refused(host, path), None, "{host}");
        }
    }
}
