//! HTTP and WebSocket interfaces of two application backends. The frontends of these backends already exist. A gateway
//! of this server replaces each backend. The gateway makes the calls itself, and carries the audio and the events of
//! the calls to browsers.
//!
//! ```text
//!   frontend ──HTTP──────► dash, starlis ──NewCall, Request──► registry
//!            ◄─WebSocket── frontends     ◄─CallEvent────────── the bus (tandem_events)
//!            ◄────────────────────────────messages───────────► local streams
//! ```
#![forbid(unsafe_code)]

mod access;
mod dash;
mod frontends;
mod limits;
mod starlis;

use axum::Router;
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use tandem_id::AccountName;
use tandem_runtime::app::App;

pub use dash::DashConfig;
pub use starlis::{StarlisConfig, Tracks};

/// Settings of `[gateways]`. The table of a gateway enables the gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaysConfig {
    /// Settings of the dash gateway (`[gateways.dash]`). `None` disables the gateway.
    pub dash: Option<DashConfig>,
    /// Settings of the starlis gateway (`[gateways.starlis]`). `None` disables the gateway.
    pub starlis: Option<StarlisConfig>,
}

impl GatewaysConfig {
    /// Returns the TCP ports on which frontends expect an interface, each with the name of its setting. The result does
    /// not contain the port of `http.listen`.
    pub fn ports(&self, http: u16) -> Vec<(&'static str, u16)> {
        let mut ports: Vec<(&'static str, u16)> = Vec::new();
        for (key, port) in self.dash.iter().flat_map(DashConfig::ports) {
            if port != 0 && port != http && ports.iter().all(|(_, other)| *other != port) {
                ports.push((key, port));
            }
        }
        ports
    }

    /// Whether one of the gateways serves the path `/`.
    pub fn has_front_page(&self) -> bool {
        self.starlis.is_some()
    }
}

/// Builds two routers: the routes on `http.listen`, and the routes on the ports of [`GatewaysConfig::ports`].
pub fn routes(app: &App, config: GatewaysConfig) -> (Router, Router) {
    let dash = config.dash.map(|config| dash::routes(app.clone(), config)).unwrap_or_default();
    let starlis = config.starlis.map(|config| starlis::routes(app.clone(), config)).unwrap_or_default();
    (dash.clone().merge(starlis), dash)
}

/// Returns the account of a gateway. If no account is configured for the gateway, returns the first account of the
/// server.
fn account(app: &App, named: Option<&AccountName>) -> Option<AccountName> {
    match named {
        Some(name) => Some(name.clone()),
        None => app.accounts.all().first().map(|account| account.name.clone()),
    }
}

/// Returns the host of the server's public URL.
fn own_host(app: &App) -> Option<String> {
    tandem_settings::web_origin::host(&app.public_url).map(str::to_owned)
}

/// Returns a member of a JSON object as text. Returns `None` for an empty string, the number 0 and any other type.
/// Numbers are accepted because some clients send ids as numbers.
fn text(body: &Value, name: &str) -> Option<String> {
    match body.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.as_f64() != Some(0.0) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns a header field as text. `None` if the field is absent or is not ASCII text.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
