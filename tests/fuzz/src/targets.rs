//! The targets, a file each.

pub(crate) mod batch;
pub(crate) mod cipher;
pub(crate) mod control;
pub(crate) mod datagrams;
pub(crate) mod descriptor;
pub(crate) mod messages;
pub(crate) mod state;
