//! The HTTP ports: `http.listen`, `http.metrics_listen` and the ports of the gateways.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::anyhow;
use axum::Router;
use tandem_config::Config;
use tandem_gateway as gateway;
use tandem_runtime::app::App;
use tandem_server::{self as server, listener};
use tandem_softphone as softphone;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Maximum number of connections to the listener for metrics.
const METRICS_CONNECTIONS: usize = 64;
/// Maximum number of connections to each gateway port.
const GATEWAY_CONNECTIONS: usize = 256;
/// Maximum time for which [`HttpServer::stop`] waits for the requests.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Advice for a port that the operating system permits only with a capability.
pub const LOW_PORTS: &str = "ports below 1024 need the capability CAP_NET_BIND_SERVICE: choose a higher port, give the \
                             service the drop-in low-ports.conf (docs/install.md), or, for a program that is no service, \
                             `setcap cap_net_bind_service=+ep $(command -v tandem)`";

/// The bound ports.
pub(super) struct Listeners {
    main: TcpListener,
    metrics: Option<TcpListener>,
    gateways: Vec<TcpListener>,
    /// The address of `http.listen`.
    pub(super) address: SocketAddr,
}

impl Listeners {
    /// Binds the ports. An error names the key, and recommends a variable if another program uses the port.
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let main = bind_http("http.listen", config.http.listen).await?;
        let address = main.local_addr()?;
        let metrics = match config.http.metrics_listen {
            Some(listen) => Some(bind_http("http.metrics_listen", listen).await?),
            None => None,
        };
        let mut gateways = Vec::new();
        for (key, port) in config.gateways.ports(address.port()) {
            gateways.push(bind(key, SocketAddr::new(address.ip(), port), "0, or another port").await?);
        }
        Ok(Self { main, metrics, gateways, address })
    }

    /// Serves the routes on all ports. With `softphone`, also the page that makes this call. `connections` is the maximum
    /// number of connections to `http.listen`.
    pub(super) fn serve(
        self,
        app: App,
        config: &Config,
        connections: usize,
        softphone: Option<softphone::Dialled>,
    ) -> HttpServer {
        let (stop, stopped) = watch::channel(false);
        let mut others: Vec<JoinHandle<()>> = Vec::new();
        let has_metrics_port = self.metrics.is_some();
        if let Some(listener) = self.metrics {
            let router = server::metrics_router(app.clone());
            others.push(tokio::spawn(serve(listener, router, METRICS_CONNECTIONS, stopped.clone())));
        }
        let (gateways, elsewhere) = gateway::routes(&app, config.gateways.clone());
        let gateways = match softphone {
            Some(dialled) => gateways.merge(softphone::routes(app.clone(), dialled)),
            None => gateways,
        };
        for listener in self.gateways {
            others.push(tokio::spawn(serve(listener, elsewhere.clone(), GATEWAY_CONNECTIONS, stopped.clone())));
        }
        let gateways = (gateways, config.gateways.has_front_page());
        let router = server::router(
            app,
            !has_metrics_port,
            gateways,
            config.http.trusted_proxies.clone(),
            config.console.users.clone(),
        );
        let task = tokio::spawn(async move {
            serve(self.main, router, connections, stopped).await;
            for listener in others {
                // The other listeners receive the same signal to stop as the first listener.
                let _ = listener.await;
            }
        });
        HttpServer { address: self.address, stop, task }
    }
}

/// The running HTTP server.
pub(super) struct HttpServer {
    /// The address of `http.listen`.
    pub(super) address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Stops the server. Waits for the running requests, but at most [`STOP_TIMEOUT`].
    pub(super) async fn stop(self) {
        // Sending fails if no listener waits for the signal any more.
        let _ = self.stop.send(true);
        if tokio::time::timeout(STOP_TIMEOUT, self.task).await.is_err() {
            tracing::warn!("HTTP requests did not finish in time and were aborted");
        }
    }
}

async fn bind_http(key: &str, listen: SocketAddr) -> anyhow::Result<TcpListener> {
    bind(key, listen, "127.0.0.1:8090").await
}

/// Binds a port. `other` is the value that the error recommends for the variable of this key.
async fn bind(key: &str, listen: SocketAddr, other: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        let advice = advice(&error, &format!("{}={other}", key.to_uppercase().replace('.', "__")));
        anyhow!("{key}: cannot listen on {listen}: {error}{advice}")
    })
}

async fn serve(listener: TcpListener, router: Router, connections: usize, mut stopped: watch::Receiver<bool>) {
    let stop = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    listener::serve(listener, router, connections, stop).await;
}

/// Returns advice for an error that a bind returned, or an empty text. `variable` is the assignment of an environment
/// variable that selects another port.
pub(super) fn advice(error: &std::io::Error, variable: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("; stop what listens there, or listen elsewhere: TANDEM_{variable}"),
        ErrorKind::PermissionDenied => format!("; {LOW_PORTS}"),
        _ => String::new(),
    }
}
