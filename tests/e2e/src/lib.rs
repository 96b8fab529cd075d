//! What the end-to-end tests share: a [`lab::Lab`] of `warren` processes, a web server that counts, a
//! SOCKS client of our own, and libtorrent.
//!
//! Nothing of Warren is linked here: the tests meet the program as a person does. Not here: starting
//! and stopping nodes (`tests/bench`). I/O: processes, loopback sockets, temporary folders.
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `WARREN_BIN` | the program | `warren` in the folder above the test's own |
//! | `WARREN_PLUGINS` | folder of `tunnel.wasm` | `warren/plugins` in the user's cache |
//! | `WARREN_E2E_MODE` | `wasm` or `native` workers | `wasm` |
//! | `WARREN_E2E_TRACE` | set: events are printed as they come, with the seconds since the start | unset |
//! | `WARREN_E2E_NO_NAMESPACE` | set: as if there were no namespaces to be had | unset |
//! | `WARREN_NOT_RUN` | tests that cannot run here append a line to this file and pass | unset: they fail |
//! | `WARREN_PYTHON` | a Python that can import libtorrent | the one `cargo xtask setup` made |

pub mod fetch;
pub mod lab;
pub mod namespace;
pub mod not_run;
pub mod operator;
pub mod origin;
pub mod swarm;
pub mod trace;
pub mod tracker;
