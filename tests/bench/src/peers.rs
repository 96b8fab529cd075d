//! Systems that do the same work, to be measured beside each other: Warren, C tor, and IPv8 with
//! ipv8-rust-tunnels. Of the other two nothing is in this tree: they are run when they are installed.

use serde::Serialize;

use crate::cpu::{CpuPerGb, PerRole};
use crate::network::Network;
use crate::web::WebServer;

mod ipv8;
mod pull;
mod socks_udp;
mod source;
mod tor;
mod warren;

pub use ipv8::{Ipv8, Program as Ipv8Program};
pub use tor::{Tor, programs as tor_programs};
pub use warren::Warren;

/// Hops of every path here.
pub const HOPS: u8 = 3;
/// Downloads at once, at most.
pub const MAX_PARALLEL: u8 = 4;

/// Asked all the while; a no ends what is under way.
pub type GoOn<'a> = &'a dyn Fn() -> bool;

/// A running network of one system, with circuits of [`HOPS`] hops. Dropping it takes it down.
pub trait System {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// What each role has used until now.
    fn cpu(&self) -> PerRole;

    /// Downloads `bytes` bytes `parallel` times at once, at most [`MAX_PARALLEL`].
    ///
    /// # Errors
    /// When not all of them came, with the reason.
    fn download(&mut self, parallel: u8, bytes: u64, go_on: GoOn<'_>) -> anyhow::Result<Moved>;
}

/// How downloads went.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Moved {
    /// From the first request to the last byte of the last download.
    pub seconds: f64,
    /// From a request to its first byte: the median of the downloads.
    pub first_byte_s: f64,
}

/// One measured run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// Which system.
    pub system: &'static str,
    /// Always [`HOPS`].
    pub hops: u8,
    /// Downloads at once.
    pub parallel: u8,
    /// All downloads together, 10^6 bytes a second.
    pub mb_per_s: f64,
    /// User and system time, from the first request to the last byte.
    pub cpu_s_per_gb: CpuPerGb,
    /// Median of the downloads.
    pub first_byte_s: f64,
}

/// Downloads and measures.
///
/// # Errors
/// Those of [`System::download`].
pub fn measure(system: &mut dyn System, parallel: u8, bytes: u64, go_on: GoOn<'_>) -> anyhow::Result<Row> {
    let before = system.cpu();
    let moved = system.download(parallel, bytes, go_on)?;
    let spent = system.cpu().since(&before);
    let all = bytes * u64::from(parallel);
    Ok(Row {
        system: system.name(),
        hops: HOPS,
        parallel,
        mb_per_s: (all as f64 / moved.seconds / 1e4).round() / 100.0,
        cpu_s_per_gb: spent.per_gb(HOPS, all),
        first_byte_s: (moved.first_byte_s * 1e6).round() / 1e6,
    })
}

/// The middle one, the upper of two; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Several downloads by curl through one SOCKS door; `login` is asked for each one's user and password.
fn fetch_all(
    socks: &str,
    login: impl Fn(u8) -> String,
    server: &WebServer,
    (parallel, bytes): (u8, u64),
    go_on: GoOn<'_>,
) -> anyhow::Result<Moved> {
    let url = server.url(bytes);
    let start = |index| crate::curl::Curl::start(socks, &login(index), &url, bytes);
    let running = (0..parallel).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let fetched = running.into_iter().map(|one| one.finish(go_on)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Moved {
        seconds: fetched.iter().map(|one| one.seconds).fold(0.0, f64::max),
        first_byte_s: median(fetched.iter().map(|one| one.first_byte_s).collect()),
    })
}

/// How large a peer's network is: the same for each, so that no role has more processes in one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Relays that are no exits.
    pub relays: u8,
    /// Exits.
    pub exits: u8,
}

/// The size of a Warren network.
impl From<&Network> for Size {
    fn from(network: &Network) -> Self {
        let count = |role| network.nodes().iter().filter(|node| node.role() == role).count();
        let small = |count| u8::try_from(count).unwrap_or(u8::MAX);
        Self {
            relays: small(count(crate::network::Role::Relay)),
            exits: small(count(crate::network::Role::Exit)),
        }
    }
}
