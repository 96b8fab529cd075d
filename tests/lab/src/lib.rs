//! Distance and narrowness on one machine: a box that delays, drops and rate-limits the UDP datagrams
//! between processes on loopback.
//!
//! Every node hangs on a [`Line`] of its own, as on the Internet: what one node sends another goes up the
//! sender's line and down the receiver's, each direction a [`Way`] with a rate, a queue, a delay and a loss.
//! [`Fabric`] computes on virtual time what becomes of a datagram; [`Lab`] is the I/O around it. A node is
//! reached at an address of the box (`tunnel.advertise`) and listens at another (`tunnel.listen`), so that
//! `warren` runs unchanged and no privilege is needed. Only tunnel datagrams pass the box: it takes those
//! of up to 1350 bytes. The overlay goes past it.
//!
//! I/O: UDP sockets on loopback, a timer, the clock, one thread.

mod fabric;
mod lab;
mod timer;
mod way;

pub use fabric::{Counters, Fabric, Line, Node};
pub use lab::{Lab, Place};
pub use way::{Conditions, Fate, Way};
