//! How the node is: what the rooms say of themselves, put together.

use std::net::SocketAddr;
use std::sync::Arc;

use warren_api::StatusSource;
use warren_core::Core;
use warren_overlay::Overlay;
use warren_ports::status::Status;
use warren_ports::{BoxFuture, Clock};
use warren_schemas::Timestamp;

use crate::config::Config;

/// Asks every room that has something to say.
pub(crate) struct Health {
    core: Arc<Core>,
    overlay: Overlay,
    roles: Vec<String>,
    socks: Option<SocketAddr>,
    clock: Arc<dyn Clock>,
    started: Timestamp,
}

impl Health {
    pub(crate) fn new(
        config: &Config,
        core: &Arc<Core>,
        overlay: &Overlay,
        socks: Option<SocketAddr>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let roles = [("relay", config.relay.enabled), ("exit", config.exit.enabled)];
        Self {
            core: Arc::clone(core),
            overlay: overlay.clone(),
            roles: roles.into_iter().filter(|(_, is)| *is).map(|(role, _)| role.to_owned()).collect(),
            socks,
            clock: Arc::clone(clock),
            started: clock.now(),
        }
    }
}

impl StatusSource for Health {
    fn status(&self) -> BoxFuture<'_, Status> {
        Box::pin(async {
            let mut status = self.core.status().await;
            status.uptime_s = self.clock.now().since(self.started).as_secs();
            status.roles.clone_from(&self.roles);
            status.socks_address = self.socks.map(|address| address.to_string());
            status.overlay_addresses = self.overlay.addresses().await;
            status.overlay_peers = self.overlay.peers().await;
            status
        })
    }
}
