//! Names to addresses, with bounds on how many and how long.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use warren_ports::{Clock, DialError};
use warren_schemas::Timestamp;

use crate::{DropReason, Share};

/// How long a UDP flow trusts a resolved name.
const KEEP: Duration = Duration::from_secs(60);
/// Names kept for one circuit.
const MAX_NAMES: usize = 256;

/// The addresses of `name`, unchecked, in the resolver's order. The lookup keeps its place in the
/// bounds until the resolver is done with it, even when nobody waits any more.
pub(crate) async fn lookup(share: &Share, name: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let Some(permit) = share.lookup() else {
        share.count(DropReason::NoRoom);
        return Err(DialError::Limit);
    };
    let query = (name.to_owned(), port);
    let running = tokio::spawn(async move {
        let found = tokio::net::lookup_host(query).await.map(|found| found.take(16).collect::<Vec<_>>());
        drop(permit);
        found
    });
    match tokio::time::timeout(share.exit.limits.resolve, running).await {
        Ok(Ok(Ok(found))) if !found.is_empty() => Ok(found),
        Ok(_) => {
            share.count(DropReason::Unresolved);
            Err(DialError::HostUnreachable)
        }
        Err(_) => {
            share.count(DropReason::Unresolved);
            Err(DialError::TimedOut)
        }
    }
}

/// Names that one circuit's UDP flows resolved of late.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, (Timestamp, IpAddr)>);

impl Names {
    pub(crate) fn get(&self, clock: &dyn Clock, name: &str) -> Option<IpAddr> {
        let (resolved, ip) = self.0.get(name)?;
        (clock.now().since(*resolved) < KEEP).then_some(*ip)
    }

    pub(crate) fn insert(&mut self, clock: &dyn Clock, name: &str, ip: IpAddr) {
        let now = clock.now();
        if self.0.len() >= MAX_NAMES {
            self.0.retain(|_, (resolved, _)| now.since(*resolved) < KEEP);
        }
        if self.0.len() < MAX_NAMES {
            self.0.insert(name.to_owned(), (now, ip));
        }
    }
}
