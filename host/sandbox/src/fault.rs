//! What an error of a call means, in words that name the plugin, the call and the limit.

use warren_schemas::batch::{Batch, MAX_ANSWER};
use warren_schemas::state::MAX_STATE;
use warren_workers::{Frames, WorkerFault, plain_line};
use wasmtime::WasmBacktrace;

use crate::guest::{Guest, Stop};

/// Bytes of a worker's own words that go into a fault, and from there into the log.
const WORDS: usize = 2048;

/// What an error of a call means.
pub(crate) fn of_error(
    plugin: &str,
    call: &'static str,
    guest: &Guest,
    error: &wasmtime::Error,
) -> WorkerFault {
    let (plugin, frames) = (plugin.to_owned(), frames(error));
    match guest.stopped {
        Some(Stop::Deadline(limit_ms)) => WorkerFault::Deadline { plugin, call, limit_ms, frames },
        Some(Stop::Memory) => WorkerFault::Memory { plugin, call, limit: guest.memory, frames },
        None => {
            let cause = format!("{:#}", error.root_cause());
            if cause.contains("fuel allocated for hostcalls") {
                let most = if matches!(call, "export-state" | "snapshot") { MAX_STATE } else { MAX_ANSWER };
                let detail = format!("more than {most} bytes at once");
                return WorkerFault::Answer { plugin, call, detail };
            }
            let detail = match &guest.last_words {
                Some(words) => format!("{cause}; its last words: {words}"),
                None => cause,
            };
            WorkerFault::Trap { plugin, call, detail: words(&detail), frames }
        }
    }
}

/// A worker's own words, as one line that the log can bear.
pub(crate) fn words(detail: &str) -> String {
    let mut plain: String = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.truncate(plain.floor_char_boundary(WORDS));
    plain
}

/// Slots may not overlap in sum: a few bytes of answer must not become a flood of datagrams.
pub(crate) fn check_actions(batch: &Batch) -> Result<(), String> {
    let asked: usize = batch.slots().map(|slot| usize::from(slot.length)).sum();
    let there = batch.payload().len();
    if asked <= there {
        return Ok(());
    }
    Err(format!("{} actions with {asked} bytes, out of a payload of {there}", batch.slot_count()))
}

/// The functions that were running. What the panic machinery adds on top of them is left out.
fn frames(error: &wasmtime::Error) -> Frames {
    const MACHINERY: [&str; 6] = [
        "__rust",
        "rust_",
        "core::option::",
        "core::panicking::",
        "std::panicking::",
        "std::sys::backtrace::",
    ];
    let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
    let names = frames.iter().map(|frame| match frame.func_name() {
        Some(name) => plain_line(&format!("{:#}", rustc_demangle::demangle(name))),
        None => format!("function {}", frame.func_index()),
    });
    let machinery = |name: &String| MACHINERY.iter().any(|start| name.starts_with(start));
    Frames::new(names.skip_while(machinery))
}
