//! What a Rust author of a worker depends on.
//!
//! A worker is a type that implements [`Machine`]; [`worker!`] turns it into the exports of the
//! world `warren:worker/tunnel`. [`Host`] is all it may ask of the outside: a log line, randomness
//! and a Diffie-Hellman with the relay's onion key. No sockets, files, clocks or WASI: the crate
//! does no I/O, and outside `wasm32` the macro expands to nothing.
//!
//! ```
//! use warren_sdk::{Description, Host, Machine};
//! use warren_sdk::schemas::{Timestamp, batch::Batch};
//!
//! #[derive(Default)]
//! struct Quiet;
//!
//! impl Machine for Quiet {
//!     fn describe() -> Description {
//!         Description::new("quiet", "0.1.0")
//!     }
//!     fn configure(&mut self, _: &mut Host, _: Timestamp, _: &[u8]) -> Result<(), String> {
//!         Ok(())
//!     }
//!     fn control(&mut self, _: &mut Host, _: Timestamp, _: &[u8]) -> Vec<u8> {
//!         Batch::with_slots(0).into_bytes()
//!     }
//!     fn data(&mut self, _: &mut Host, _: Timestamp, batch: Vec<u8>) -> Vec<u8> {
//!         batch
//!     }
//!     fn timeout(&mut self, _: &mut Host, _: Timestamp) -> Vec<u8> {
//!         Batch::with_slots(0).into_bytes()
//!     }
//!     fn shutdown(&mut self, _: &mut Host, _: Timestamp, _: u8) -> Vec<u8> {
//!         Batch::with_slots(0).into_bytes()
//!     }
//! }
//!
//! warren_sdk::worker!(Quiet);
//! ```

mod description;
#[cfg(target_arch = "wasm32")]
pub mod glue;
mod host;
#[cfg(any(target_arch = "wasm32", test))]
mod memory;

pub use description::Description;
pub use host::{Host, Level, Refusal};
pub use warren_schemas as schemas;
use warren_schemas::Timestamp;

/// A worker: the verbs of `wit/worker.wit` on a value of its own. Time is an argument and never
/// goes back; each `Vec<u8>` returned is an encoded batch.
pub trait Machine: Default + 'static {
    /// What this module says of itself; the same at any time.
    fn describe() -> Description;

    /// Computes known answers with the code that works later. Called in a fresh instance before
    /// `configure`. A machine that has nothing to compute need not implement it.
    ///
    /// # Errors
    /// Says which answer came out wrong.
    fn self_test(&mut self, _host: &mut Host) -> Result<(), String> {
        Ok(())
    }

    /// Takes its configuration; called first, and again whenever that changes.
    ///
    /// # Errors
    /// Says in words why the configuration is refused; the one before stays in force.
    fn configure(&mut self, host: &mut Host, now: Timestamp, config: &[u8]) -> Result<(), String>;

    /// Takes one encoded request.
    fn control(&mut self, host: &mut Host, now: Timestamp, request: &[u8]) -> Vec<u8>;

    /// Takes an encoded batch, to be worked on in place and returned.
    fn data(&mut self, host: &mut Host, now: Timestamp, batch: Vec<u8>) -> Vec<u8>;

    /// The time that a batch asked for has come.
    fn timeout(&mut self, host: &mut Host, now: Timestamp) -> Vec<u8>;

    /// Its state for a successor.
    ///
    /// # Errors
    /// Says why there is none; so does every machine that does not implement it.
    fn export_state(&mut self) -> Result<Vec<u8>, String> {
        Err("this worker does not export its state".to_owned())
    }

    /// A copy of the state for a shadow that never acts, while this machine goes on.
    ///
    /// # Errors
    /// Says why there is none; so does every machine that does not implement it.
    fn snapshot(&mut self) -> Result<Vec<u8>, String> {
        Err("this worker gives no copy of its state".to_owned())
    }

    /// Takes over the state of a predecessor.
    ///
    /// # Errors
    /// Says why it cannot; so does every machine that does not implement it.
    fn import_state(&mut self, _host: &mut Host, _now: Timestamp, _state: Vec<u8>) -> Result<(), String> {
        Err("this worker does not import state".to_owned())
    }

    /// Says goodbye; not called again.
    fn shutdown(&mut self, host: &mut Host, now: Timestamp, reason: u8) -> Vec<u8>;
}

/// Makes a [`Machine`] the worker that this component is. Once in a `cdylib`. Its memory is allocated
/// by this crate, so that no copy of the state stays behind in it.
// rustfmt does not come to rest on the macro's body.
#[rustfmt::skip]
#[macro_export]
macro_rules! worker {
    ($machine:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Exports;

            ::std::thread_local! {
                static MACHINE: ::std::cell::RefCell<$machine> = $crate::glue::begin();
            }

            fn with<T>(run: impl FnOnce(&mut $machine, &mut $crate::Host) -> T) -> T {
                $crate::glue::secrets_are_freed(false);
                MACHINE.with_borrow_mut(|machine| run(machine, &mut $crate::Host::of_this_worker()))
            }

            impl $crate::glue::Guest for Exports {
                fn describe() -> $crate::glue::Description {
                    $crate::glue::description(<$machine as $crate::Machine>::describe())
                }
                fn self_test() -> ::std::result::Result<(), ::std::string::String> {
                    with(|machine, host| $crate::Machine::self_test(machine, host))
                }
                fn configure(
                    now: u64,
                    config: ::std::vec::Vec<u8>,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    with(|machine, host| {
                        $crate::Machine::configure(machine, host, $crate::glue::time(now), &config)
                    })
                }
                fn control(now: u64, request: ::std::vec::Vec<u8>) -> ::std::vec::Vec<u8> {
                    with(|machine, host| {
                        $crate::Machine::control(machine, host, $crate::glue::time(now), &request)
                    })
                }
                fn data(now: u64, batch: ::std::vec::Vec<u8>) -> ::std::vec::Vec<u8> {
                    with(|machine, host| $crate::Machine::data(machine, host, $crate::glue::time(now), batch))
                }
                fn timeout(now: u64) -> ::std::vec::Vec<u8> {
                    with(|machine, host| $crate::Machine::timeout(machine, host, $crate::glue::time(now)))
                }
                fn export_state() -> ::std::result::Result<::std::vec::Vec<u8>, ::std::string::String> {
                    with(|machine, _| $crate::Machine::export_state(machine))
                }
                fn snapshot() -> ::std::result::Result<::std::vec::Vec<u8>, ::std::string::String> {
                    with(|machine, _| {
                        $crate::glue::secrets_are_freed(true);
                        $crate::Machine::snapshot(machine)
                    })
                }
                fn import_state(
                    now: u64,
                    state: ::std::vec::Vec<u8>,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    with(|machine, host| {
                        $crate::Machine::import_state(machine, host, $crate::glue::time(now), state)
                    })
                }
                fn touch(page: u32, least: u32) -> u32 {
                    $crate::glue::touch(page, least)
                }
                fn shutdown(now: u64, reason: u8) -> ::std::vec::Vec<u8> {
                    with(|machine, host| {
                        $crate::Machine::shutdown(machine, host, $crate::glue::time(now), reason)
                    })
                }
            }

            $crate::glue::bindings::export!(Exports with_types_in $crate::glue::bindings);
        };
    };
}
