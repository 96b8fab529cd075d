//! The state machine as a component: the verbs of `wit/worker.wit` over [`Tunnel`].

use warren_schemas::Timestamp;
use warren_schemas::batch::Batch;
use warren_schemas::control::TunnelConfig;
use warren_sdk::{Description, Host, Machine};

use crate::Tunnel;

struct Guest(Tunnel);

impl Default for Guest {
    fn default() -> Self {
        Self(Tunnel::new())
    }
}

impl Machine for Guest {
    fn describe() -> Description {
        Description {
            name: crate::NAME.to_owned(),
            version: crate::VERSION.to_owned(),
            suites: crate::suites().to_vec(),
            writes_state: crate::writes_state(),
            reads_state: crate::reads_state(),
        }
    }

    fn self_test(&mut self, _: &mut Host) -> Result<(), String> {
        Tunnel::self_test().map_err(|error| error.to_string())
    }

    fn configure(&mut self, _: &mut Host, now: Timestamp, config: &[u8]) -> Result<(), String> {
        let config = TunnelConfig::decode(config).map_err(|error| error.to_string())?;
        self.0.configure(now, config).map_err(|error| error.to_string())
    }

    fn control(&mut self, host: &mut Host, now: Timestamp, request: &[u8]) -> Vec<u8> {
        self.0.handle_control(host, now, request).into_bytes()
    }

    fn data(&mut self, host: &mut Host, now: Timestamp, batch: Vec<u8>) -> Vec<u8> {
        match Batch::from_host(batch) {
            Ok(batch) => self.0.handle_data(host, now, batch).into_bytes(),
            // The host's own fault, not a peer's; an empty answer loses no more than the batch.
            Err(error) => {
                Host::log(host, warren_sdk::Level::Error, &format!("not a batch: {error}"));
                Batch::with_slots(0).into_bytes()
            }
        }
    }

    fn timeout(&mut self, host: &mut Host, now: Timestamp) -> Vec<u8> {
        self.0.handle_timeout(host, now).into_bytes()
    }

    fn export_state(&mut self) -> Result<Vec<u8>, String> {
        self.0.export_state().map_err(|error| error.to_string())
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, String> {
        self.0.snapshot().map_err(|error| error.to_string())
    }

    fn import_state(&mut self, _: &mut Host, now: Timestamp, mut state: Vec<u8>) -> Result<(), String> {
        let taken = self.0.import_state(now, &state);
        warren_schemas::state::wipe(&mut state);
        taken.map_err(|error| error.to_string())
    }

    fn shutdown(&mut self, host: &mut Host, now: Timestamp, reason: u8) -> Vec<u8> {
        self.0.shutdown(host, now, reason).into_bytes()
    }
}

warren_sdk::worker!(Guest);
