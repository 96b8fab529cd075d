//! Log lines: to standard error, as text or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Libraries that write addresses or infohashes below debug, or write much: they speak up only when
/// something is wrong, unless the level names them. The torrent engine puts both into its warnings.
const QUIET: &str = "librqbit=off,librqbit_core=off,librqbit_dht=off,librqbit_tracker_comms=off,librqbit_peer_protocol=off,\
                     libp2p=error,quinn=error,quinn_proto=error,reqwest=error,hyper=error,wasmtime=error,cranelift=error";

/// Starts logging for the whole process. Later calls have no effect.
pub fn start(log: &Log) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(&log.level)).with_writer(io::stderr);
    // A second call finds a subscriber in place; the first one keeps serving.
    let _ = match log.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// At debug and below the libraries speak with the rest.
fn filter(level: &str) -> EnvFilter {
    let loud = level.contains("debug") || level.contains("trace");
    let text = if loud { level.to_owned() } else { format!("{level},{QUIET}") };
    EnvFilter::builder().parse_lossy(text)
}
