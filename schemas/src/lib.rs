//! The bytes of Warren: what host and workers, and node and node, say to each other.
//!
//! Holds the FlatBuffers schemas' generated code (`fbs/`), the header of a datagram, the ids
//! and the time type that every room shares. It is not the protocol's behaviour (that is
//! `plugins/tunnel`) and does no I/O; it compiles natively and into a worker.

mod address;
pub mod batch;
pub mod cell;
pub mod control;
pub mod descriptor;
mod ids;
pub mod state;
pub mod stream;
pub mod suites;
mod time;

pub use address::Address;
pub use ids::{CircuitHandle, CircuitId, LinkId, PeerId, RequestId};
pub use time::Timestamp;

/// Code that `flatc` wrote from `fbs/`; `cargo xtask tidy` checks that it is current.
#[rustfmt::skip]
#[expect(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "generated"
)]
pub mod generated {
    #[path = "batch_generated.rs"]
    mod batch_generated;
    #[path = "control_generated.rs"]
    mod control_generated;
    #[path = "descriptor_generated.rs"]
    mod descriptor_generated;
    #[path = "state_generated.rs"]
    mod state_generated;
    #[path = "stream_generated.rs"]
    mod stream_generated;

    pub use batch_generated::warren::batch;
    pub use control_generated::warren::control;
    pub use descriptor_generated::warren::descriptor;
    pub use state_generated::warren::state;
    pub use stream_generated::warren::stream;
}
