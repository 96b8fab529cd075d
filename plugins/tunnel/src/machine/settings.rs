//! The configuration, ready for use.

use std::time::Duration;

use warren_schemas::Timestamp;
use warren_schemas::control::{SYNC_NEVER, TunnelConfig};

use crate::cookie::CookieKey;
use crate::drop_reason::DropReason;
use crate::limits::Bounds;
use crate::ntor::Target;

/// Why a configuration is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// It says relay, but names no onion key to be one with.
    #[error("a relay needs an onion key")]
    NoOnionKey,
    /// It says exit, but not relay.
    #[error("an exit has to be a relay too")]
    ExitWithoutRelay,
    /// The machine has exported its state.
    #[error("the state has gone to a successor")]
    Gone,
    /// Link ids carry the index: it stays while there are links.
    #[error("the worker's index cannot change while it has links")]
    WorkerIndex,
}

/// What `configure` gave, with bounds filled in.
pub(super) struct Settings {
    pub config: TunnelConfig,
    pub bounds: Bounds,
    pub cookies: CookieKey,
}

impl Settings {
    pub(super) fn new(config: TunnelConfig) -> Result<Self, ConfigError> {
        if config.relay && config.onion_keys.is_empty() {
            return Err(ConfigError::NoOnionKey);
        }
        if config.exit && !config.relay {
            return Err(ConfigError::ExitWithoutRelay);
        }
        let bounds = Bounds::of(&config.limits, config.workers);
        let cookies = CookieKey::new(config.cookie_key);
        Ok(Self { config, bounds, cookies })
    }

    /// When the next report is due.
    pub(super) fn next_sync(&self, now: Timestamp) -> Option<Timestamp> {
        let period = self.config.sync_period;
        (period != 0 && period != SYNC_NEVER).then(|| now.after(Duration::from_micros(period)))
    }

    /// Ourselves, as a handshake for the onion key of `epoch` names us.
    pub(super) fn own_target(&self, now: Timestamp, epoch: u32) -> Result<Target, DropReason> {
        let key = self.config.onion_keys.iter().find(|key| key.epoch == epoch && now < key.accept_until);
        let key = key.ok_or(DropReason::OnionKey)?;
        Ok(Target { peer_id: self.config.peer_id, epoch, onion_key: key.public })
    }
}
