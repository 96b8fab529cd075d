//! Warren itself, as a system to measure.

use anyhow::Context;

use super::{GoOn, HOPS, Moved, System, fetch_all};
use crate::cpu::PerRole;
use crate::network::Network;
use crate::web::WebServer;

/// A network of `warren` processes whose client fetches over HTTP.
pub struct Warren {
    network: Network,
    server: WebServer,
}

impl Warren {
    /// Takes a network whose client has circuits of [`HOPS`] hops.
    ///
    /// # Errors
    /// When the web server does not start.
    pub fn new(network: Network) -> anyhow::Result<Self> {
        Ok(Self { network, server: WebServer::start()? })
    }
}

impl System for Warren {
    fn name(&self) -> &'static str {
        "warren"
    }

    fn cpu(&self) -> PerRole {
        PerRole::of(&self.network)
    }

    fn download(&mut self, parallel: u8, bytes: u64, go_on: GoOn<'_>) -> anyhow::Result<Moved> {
        let socks = self.network.client().and_then(|client| client.socks());
        let socks = socks.context("the network has no client with a SOCKS door")?;
        let login = |_| format!("h{HOPS}:{}", self.network.token());
        fetch_all(socks, login, &self.server, (parallel, bytes), go_on)
    }
}
