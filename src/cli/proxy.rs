//! `tandem proxy`: brings what unmodified applications ask of their provider to this server.
//!
//! ```text
//!  application ──CONNECT api.twilio.com:443──► front ──ends TLS──► relay ──octets as they are──► http.listen
//!              ──GET http://api.twilio.com/──►       ──Host kept─────────────────────────────►
//!              ──CONNECT anywhere else:443───►       a plain tunnel, or 403 (--no-pass-through)
//! ```
//!
//! Nothing of a request is read once its TLS has ended: bodies stream, connections are kept alive and WebSockets open as
//! between application and server, which sets the limits.

mod front;
pub(super) mod hosts;
mod relay;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use axum::http::Uri;
use hosts::HOSTS;
use tandem_config::Config;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::authority::Authority;
use super::ca::trust;
use front::{Front, Place};

/// Where it listens when nobody says.
pub(crate) const LISTEN: &str = "127.0.0.1:3128";

/// Run a proxy that brings unmodified applications to this server
///
/// Applications that ask *.twilio.com, api.telnyx.com or *.signalwire.com by this proxy are answered by the server at
/// `http.listen`; the Host header stays, and with it the product and the region. Connections to
/// every other host are let through untouched when the proxy listens on a loopback address, and refused otherwise.
/// The certificates it shows are of our own authority (`tandem ca`), which it makes when there is none.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The server's configuration, for http.listen and data_dir; when left out, tandem.toml in this directory if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen. Whoever reaches it may use it
    #[arg(long, value_name = "HOST:PORT", default_value = LISTEN)]
    listen: SocketAddr,
    /// Listen here for TLS without a proxy's CONNECT too: for names that DNS or a hosts file points at this machine
    #[arg(long, value_name = "HOST:PORT")]
    listen_tls: Option<SocketAddr>,
    /// Where the server is, when not at `http.listen`
    #[arg(long, value_name = "http://HOST:PORT")]
    url: Option<Uri>,
    /// Let connections to all other hosts through, untouched; so it is anyway on a loopback address
    #[arg(long)]
    pass_through: bool,
    /// Refuse connections to all other hosts, also on a loopback address
    #[arg(long, conflicts_with = "pass_through")]
    no_pass_through: bool,
    /// Connections at a time; more wait
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    max_connections: u16,
}

const HELP: &str = "\
An application needs its proxy variable and its CA variable; `tandem ca` prints these lines with the right paths:
  python  HTTPS_PROXY=http://127.0.0.1:3128 REQUESTS_CA_BUNDLE=data/ca/bundle.pem
  node    HTTP_PROXY=http://127.0.0.1:3128 NODE_EXTRA_CA_CERTS=data/ca/tandem-ca.pem
  go      HTTPS_PROXY=http://127.0.0.1:3128 SSL_CERT_FILE=data/ca/bundle.pem
  ruby    HTTPS_PROXY=http://127.0.0.1:3128 SSL_CERT_FILE=data/ca/bundle.pem
  php     HTTPS_PROXY=http://127.0.0.1:3128 php -d curl.cainfo=data/ca/bundle.pem
  csharp  HTTPS_PROXY=http://127.0.0.1:3128 SSL_CERT_FILE=data/ca/bundle.pem
  java    -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=3128, and a trust store (see `tandem ca`)

Without a proxy variable: use --listen-tls 0.0.0.0:443 and a hosts entry that points api.twilio.com at this machine.";

/// Runs until SIGTERM or Ctrl-C.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    super::log("info");
    let (config, _) = super::client_config(arguments.config.as_deref())?;
    let server = match &arguments.url {
        Some(url) => Place::of(url).map_err(Failure::Input)?,
        None => listening(&config)?,
    };
    let authority = Authority::load_or_make(&config.data_dir).map_err(Failure::Environment)?;
    super::block_on(serve(arguments, &config, server, authority))?.map_err(Failure::Environment)
}

/// Where the server listens according to its configuration.
fn listening(config: &Config) -> Result<Place, Failure> {
    let listen = super::reachable(config.http.listen);
    if listen.port() == 0 {
        return Err(Failure::Input(anyhow!(
            "http.listen has port 0, so the server's port is unknown: name the server with --url http://HOST:PORT"
        )));
    }
    Ok(Place { host: listen.ip().to_string(), port: listen.port() })
}

impl Arguments {
    /// Whether connections to hosts that are no provider's are let through. Who reaches a loopback address could open them
    /// without this proxy.
    fn passes_through(&self) -> bool {
        self.pass_through || (self.listen.ip().is_loopback() && !self.no_pass_through)
    }
}

async fn serve(arguments: Arguments, config: &Config, server: Place, authority: Authority) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = bind(arguments.listen, "--listen 127.0.0.1:3129").await?;
    let tls = match arguments.listen_tls {
        Some(listen) => Some(bind(listen, "--listen-tls 127.0.0.1:8443").await?),
        None => None,
    };
    let bound = listener.local_addr()?;
    if authority.is_new {
        println!("There was no certificate authority, so a new one was created: {}", authority.certificate().display());
    }
    println!(
        "{HOSTS} go to http://{server}; {}.",
        match arguments.passes_through() {
            true => "requests to other hosts are passed through",
            false => "requests to other hosts are refused",
        }
    );
    println!("{}", trust(&authority, &super::reachable(bound).to_string()));
    if !bound.ip().is_loopback() {
        tracing::warn!("every client that reaches {bound} can use this proxy");
    }
    tracing::info!("proxy on http://{bound}");
    if let Some(tls) = &tls {
        tracing::info!("TLS on {}", tls.local_addr()?);
    }
    // A server may hand out URLs of its own; these need no certificate of ours.
    let own = config.http.public_url.as_deref().and_then(|url| Place::of(&url.parse().ok()?).ok());
    let own = [Some(server.clone()), own].into_iter().flatten().collect();
    let most = arguments.max_connections.into();
    let front = Front::new(authority, server, own, arguments.passes_through(), most);
    let direct = async {
        match tls {
            Some(tls) => front.serve_tls(tls).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = front.serve(listener) => {}
        () = direct => {}
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

async fn bind(listen: SocketAddr, instead: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; to use another port: {instead}"))
}
