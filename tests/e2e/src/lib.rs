//! Networks of `warren` processes on loopback, and the few things tests do with them: fetch through
//! SOCKS, kill a node, bring it back, look at its status.
//!
//! Nothing of Warren is linked here: the tests meet the program as a person does. The program is
//! `$WARREN_BIN`, or `warren` in the folder above the test's own; workers are Wasm unless
//! `$WARREN_WORKERS` says `native`. I/O: processes, loopback sockets, temporary folders.

pub mod fetch;
pub mod network;
pub mod origin;
pub mod process;
pub mod tools;
