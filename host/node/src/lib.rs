//! The program `warren`: configuration, command line, and how the rooms are put together.
//!
//! No logic of its own: what a relay, a circuit or a torrent does is decided in the rooms below.
//! I/O: reads the configuration, keeps the node's secrets, prints, and starts everything else.

mod audit;
pub mod cli;
pub mod commands;
pub mod config;
mod exchange;
pub mod factory;
pub mod folders;
mod front_door;
mod guards;
mod health;
pub mod identity;
pub mod logging;
pub mod node;
mod operator;
mod scheduling;
pub mod screen;
pub mod signature;
pub mod stop;
mod swap;
