//! A reload: new settings take effect while calls continue.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use tandem_config::Config;
use tandem_http::{Origins, tls_config};
use tandem_runtime::app::Reloaded;
use tandem_settings::log_filter::LOG;
use tandem_siprec::Connectors;

use crate::Server;
use crate::configured::{agents_and_stir, phones, routing, sip_settings};
use crate::entries;
use crate::first_account::FirstAccount;

/// Start of the line with the keys that take effect only at a restart.
pub(super) const NEEDS_RESTART: &str = "restart needed: ";

impl Server {
    /// Applies new settings while calls continue, with the entries of the web console. Returns the keys that take effect only at a
    /// restart. If TLS, STIR/SHAKEN, the database or the stored phones cause an error, the old settings remain in effect.
    pub async fn reload(&self, base: Config) -> anyhow::Result<Vec<String>> {
        let services = self.calls.services();
        let config =
            entries::join(&base, entries::load(&services.store).await.context("entries of the console")?).log();
        let first_account = match config.accounts.is_empty() {
            true => Some(FirstAccount::load_or_draw(&self.config.load_full().data_dir)?.account),
            false => None,
        };
        let (agents, stir) = agents_and_stir(&config)?;
        let tls = tls_config(config.webhooks.ca_file.as_deref()).context("webhooks.ca_file")?;
        let phones = phones(&config, first_account.clone());
        phones.listen_on(services.sip.local_addrs().iter().map(|(_, address)| *address));
        let sip_config = sip_settings(&config, &phones, &services.store).await?;
        services.sip.reload(sip_config).await.context("TLS")?;
        let inventory = Arc::clone(services.routing.load_full().inventory());
        services.routing.store(Arc::new(routing(&config, phones, inventory, &self.accounts)));
        services.stir.store(Arc::new(stir));
        services.siprec.store(Arc::new(Connectors::new(config.siprec.clone())));
        services.conversations.agents.store(Arc::new(agents));
        self.ice.store(Arc::new(config.ice.clone()));
        services.client.set_origins(Origins::new(config.origins.clone()));
        services.client.set_tls(tls);
        LOG.configure(&config.log.level).map_err(|why| anyhow!("log.level: {why}"))?;
        crate::start::warn_of_missing_speech(&config);
        if self.config.load_full().speech != config.speech {
            services.recogniser.reconfigure(config.speech.clone());
            services.audio.voice().reconfigure(config.speech.clone());
        }
        // This call also applies the phones that applications have added or changed with the REST API since the phones
        // were loaded above.
        services.phones_changed().await.context("phones")?;
        match first_account {
            Some(account) => self.accounts.replace([account]),
            None => self.accounts.replace(config.accounts.iter().cloned()),
        }
        let in_force = self.config.load_full();
        let restart = in_force.needs_restart(&config);
        self.config.store(Arc::new(in_force.replaced_by(config)));
        self.base.store(Arc::new(self.base.load_full().replaced_by(base)));
        Ok(restart)
    }

    /// Reads the current configuration and applies it. Logs the result, and returns the same result for the client that
    /// requested the reload.
    pub(super) async fn reload_from(&self, read: impl Fn() -> Result<Config, String>) -> Reloaded {
        let done = match read() {
            Ok(config) => {
                for note in &config.notes {
                    tracing::warn!("{note}");
                }
                let (trunks, numbers, endpoints) = (config.trunks.len(), config.numbers.len(), config.endpoints.len());
                let summary = format!("reloaded: trunks: {trunks}, numbers: {numbers}, endpoints: {endpoints}\n");
                let before = self.base.load_full();
                match before.refusal_of(&config) {
                    Some(why) => Err(format!("{why}\n")),
                    None => {
                        let removed = before.removed_by(&config).map(|names| format!("removed: {names}"));
                        let reloaded = self.reload(config).await;
                        let notes = |restart: Vec<String>| {
                            let restart =
                                (!restart.is_empty()).then(|| format!("{NEEDS_RESTART}{}", restart.join(", ")));
                            removed.into_iter().chain(restart).collect::<Vec<_>>()
                        };
                        reloaded.map(|restart| (summary, notes(restart))).map_err(|error| format!("{error:#}\n"))
                    }
                }
            }
            Err(faults) => Err(faults),
        };
        match done {
            Ok((mut summary, notes)) => {
                self.calls.services().reloaded();
                tracing::info!("{}", summary.trim_end());
                for line in notes {
                    tracing::warn!("{line}");
                    summary = format!("{summary}{line}\n");
                }
                Ok(summary)
            }
            Err(faults) => {
                for fault in faults.lines() {
                    tracing::error!("not reloaded: {fault}");
                }
                Err(faults)
            }
        }
    }
}
