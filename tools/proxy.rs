//! `tandem proxy` directs the requests of unmodified applications to this server instead of their provider.
//!
//! ```text
//!  application ──CONNECT api.twilio.com:443──► front ──terminates TLS──► relay ──octets unchanged──► http.listen
//!              ──GET http://api.twilio.com/──►       ──Host unchanged──────────────────────────────►
//!              ──CONNECT any other host:443──►       a tunnel, or 403 (--no-pass-through)
//! ```
//!
//! After the TLS termination, the proxy does not parse the requests. Therefore bodies are streamed, connections remain
//! open, and WebSockets work as they do without a proxy. The limits of the server apply.

mod front;
mod relay;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use tandem_cli::say;

use anyhow::{Context, anyhow};
use axum::http::Uri;
use tandem_config::Config;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::authority::Authority;
use crate::hosts::HOSTS;
use front::{Front, HostPort};
use tandem_cli::Failure;

/// Default address of the proxy.
pub(crate) const LISTEN: &str = "127.0.0.1:3128";

/// Run a proxy that directs unmodified applications to this server
///
/// The server at `http.listen` answers the requests to *.twilio.com, api.telnyx.com or *.signalwire.com that go through
/// this proxy. The Host header stays unchanged, and selects the product and the region. If the proxy listens on a
/// loopback address, connections to all other hosts pass through unchanged. Otherwise these connections are refused.
/// The proxy uses certificates of a local authority (`tandem ca`), and creates this authority if it does not exist.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// Configuration file of the server, for http.listen and data_dir (default: tandem.toml in this directory,
    /// otherwise /etc/tandem/tandem.toml of the installed service)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the proxy. Every client that can connect to this address can use the proxy
    #[arg(long, value_name = "HOST:PORT", default_value = LISTEN)]
    listen: SocketAddr,
    /// Additional address that accepts TLS without CONNECT. Clients use this address if DNS or a hosts file resolves
    /// the providers' host names to this machine
    #[arg(long, value_name = "HOST:PORT")]
    listen_tls: Option<SocketAddr>,
    /// URL of the server (default: `http.listen`)
    #[arg(long, value_name = "http://HOST:PORT")]
    url: Option<Uri>,
    /// Pass connections to all other hosts through unchanged; this is the default on a loopback address
    #[arg(long)]
    pass_through: bool,
    /// Refuse connections to all other hosts, also on a loopback address
    #[arg(long, conflicts_with = "pass_through")]
    no_pass_through: bool,
    /// Maximum number of simultaneous connections. Further connections wait
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

/// Runs the proxy until SIGTERM or Ctrl-C.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    tandem_cli::log("info");
    let (config, _) = tandem_cli::client_config(arguments.config.as_deref())?;
    let server = match &arguments.url {
        Some(url) => HostPort::of(url).map_err(Failure::Input)?,
        None => listening(&config)?,
    };
    let authority = Authority::load_or_make(&config.data_dir).map_err(Failure::Environment)?;
    tandem_cli::block_on(serve(arguments, &config, server, authority))?.map_err(Failure::Environment)
}

/// Returns the address of the server, as stated in the server's configuration.
fn listening(config: &Config) -> Result<HostPort, Failure> {
    let listen = tandem_cli::reachable(config.http.listen);
    if listen.port() == 0 {
        return Err(Failure::Input(anyhow!(
            "http.listen has port 0, so the server's port is unknown: name the server with --url http://HOST:PORT"
        )));
    }
    Ok(HostPort { host: listen.ip().to_string(), port: listen.port() })
}

impl Arguments {
    /// Returns whether connections to hosts that do not belong to a provider pass through. On a loopback address, these
    /// connections pass through, because a client on this machine could also open them without the proxy.
    fn passes_through(&self) -> bool {
        self.pass_through || (self.listen.ip().is_loopback() && !self.no_pass_through)
    }
}

async fn serve(arguments: Arguments, config: &Config, server: HostPort, authority: Authority) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = bind(arguments.listen, "--listen 127.0.0.1:3129").await?;
    let tls = match arguments.listen_tls {
        Some(listen) => Some(bind(listen, "--listen-tls 127.0.0.1:8443").await?),
        None => None,
    };
    let bound = listener.local_addr()?;
    if authority.is_new {
        say!("There was no certificate authority, so a new one was created: {}", authority.certificate().display());
    }
    say!(
        "{HOSTS} go to http://{server}; {}.",
        match arguments.passes_through() {
            true => "requests to other hosts are passed through",
            false => "requests to other hosts are refused",
        }
    );
    say!("{}", authority.instructions(&tandem_cli::reachable(bound).to_string()));
    if !bound.ip().is_loopback() {
        tracing::warn!("every client that reaches {bound} can use this proxy");
    }
    tracing::info!("proxy on http://{bound}");
    if let Some(tls) = &tls {
        tracing::info!("TLS on {}", tls.local_addr()?);
    }
    // The server may return URLs with its own address. A connection to this address passes through, because it needs no
    // certificate from this authority.
    let own = config.http.public_url.as_deref().and_then(|url| HostPort::of(&url.parse().ok()?).ok());
    let own = [Some(server.clone()), own].into_iter().flatten().collect();
    let max_connections = arguments.max_connections.into();
    let front = Front::new(authority, server, own, arguments.passes_through(), max_connections);
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
