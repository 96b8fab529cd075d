//! What a worker exports, as wasmtime calls it.

use warren_workers::Description;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, ComponentType, Func, Instance, Lift, TypedFunc};

use crate::guest::Guest;
use crate::plugin::MACHINE;

pub(crate) type Bytes = (Vec<u8>,);
pub(crate) type Done = (Result<(), String>,);
pub(crate) type State = (Result<Vec<u8>, String>,);

/// `description` of the contract.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Described {
    name: String,
    version: String,
    suites: Vec<u8>,
    #[component(name = "writes-state")]
    writes_state: u16,
    #[component(name = "reads-state")]
    reads_state: Vec<u16>,
}

impl From<Described> for Description {
    fn from(described: Described) -> Self {
        let Described { name, version, suites, writes_state, reads_state } = described;
        Self { name, version, suites, writes_state, reads_state }
    }
}

/// The exports of `warren:worker/machine`.
pub(crate) struct Exports {
    pub(crate) describe: TypedFunc<(), (Described,)>,
    pub(crate) self_test: TypedFunc<(), Done>,
    pub(crate) configure: TypedFunc<(u64, Vec<u8>), Done>,
    pub(crate) control: TypedFunc<(u64, Vec<u8>), Bytes>,
    pub(crate) data: TypedFunc<(u64, Vec<u8>), Bytes>,
    pub(crate) timeout: TypedFunc<(u64,), Bytes>,
    pub(crate) export_state: TypedFunc<(), State>,
    pub(crate) snapshot: TypedFunc<(), State>,
    /// Its type was checked; it is named again at the call, which lends its bytes.
    pub(crate) import_state: Func,
    pub(crate) touch: TypedFunc<(u32, u32), (u32,)>,
    pub(crate) shutdown: TypedFunc<(u64, u8), Bytes>,
}

impl Exports {
    pub(crate) fn of(instance: &Instance, store: &mut Store<Guest>) -> wasmtime::Result<Self> {
        let missing = |name: &str| wasmtime::Error::msg(format!("it does not export {name}"));
        let machine = instance.get_export_index(&mut *store, None, MACHINE);
        let machine = machine.ok_or_else(|| missing(MACHINE))?;
        let mut index = |name: &str| -> wasmtime::Result<ComponentExportIndex> {
            instance.get_export_index(&mut *store, Some(&machine), name).ok_or_else(|| missing(name))
        };
        let (describe, self_test, snapshot) = (index("describe")?, index("self-test")?, index("snapshot")?);
        let (configure, control, data) = (index("configure")?, index("control")?, index("data")?);
        let (timeout, touch, shutdown) = (index("timeout")?, index("touch")?, index("shutdown")?);
        let (export_state, import_state) = (index("export-state")?, index("import-state")?);
        let import_state = instance.get_func(&mut *store, import_state);
        let import_state = import_state.ok_or_else(|| missing("import-state"))?;
        import_state.typed::<(u64, &[u8]), Done>(&*store)?;
        Ok(Self {
            describe: instance.get_typed_func(&mut *store, describe)?,
            self_test: instance.get_typed_func(&mut *store, self_test)?,
            configure: instance.get_typed_func(&mut *store, configure)?,
            control: instance.get_typed_func(&mut *store, control)?,
            data: instance.get_typed_func(&mut *store, data)?,
            timeout: instance.get_typed_func(&mut *store, timeout)?,
            export_state: instance.get_typed_func(&mut *store, export_state)?,
            snapshot: instance.get_typed_func(&mut *store, snapshot)?,
            import_state,
            touch: instance.get_typed_func(&mut *store, touch)?,
            shutdown: instance.get_typed_func(&mut *store, shutdown)?,
        })
    }
}
