//! What a worker's imports do: `log`, `random` and `onion` of `wit/worker.wit`, and nothing else.

use warren_workers::{DhRefusal, LogLevel, plain_line};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, WasmList, WasmStr};

use crate::guest::Guest;

/// Instances that may be imported, spelled as components spell them.
pub(crate) const ALLOWED: [&str; 3] =
    ["warren:worker/log@0.1.0", "warren:worker/random@0.1.0", "warren:worker/onion@0.1.0"];

/// Random bytes that one call gives.
const FILL: u32 = 4096;

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "values are made by `Lift` from what the worker passes")]
enum Level {
    #[component(name = "error")]
    Error,
    #[component(name = "warn")]
    Warn,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
enum Refusal {
    #[component(name = "unknown-epoch")]
    UnknownEpoch,
    #[component(name = "bad-point")]
    BadPoint,
    #[component(name = "rate-limited")]
    RateLimited,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
        }
    }
}

impl From<DhRefusal> for Refusal {
    fn from(refusal: DhRefusal) -> Self {
        match refusal {
            DhRefusal::UnknownEpoch => Self::UnknownEpoch,
            DhRefusal::BadPoint => Self::BadPoint,
            DhRefusal::RateLimited => Self::RateLimited,
        }
    }
}

type Shared = Result<Vec<u8>, Refusal>;

/// Gives a linker the three imports.
pub(crate) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let [log, random, onion] = ALLOWED;
    linker.instance(log)?.func_wrap("write", write)?;
    linker.instance(random)?.func_wrap("fill", fill)?;
    linker.instance(onion)?.func_wrap("dh", dh)
}

fn write(mut store: StoreContextMut<'_, Guest>, (level, line): (Level, WasmStr)) -> wasmtime::Result<()> {
    // Cut before it is copied: the worker may pass all of its memory.
    let line = plain_line(&line.to_str(&store)?);
    store.data_mut().log(level.into(), &line);
    Ok(())
}

fn fill(mut store: StoreContextMut<'_, Guest>, (count,): (u32,)) -> wasmtime::Result<(Vec<u8>,)> {
    if count > FILL {
        return Err(wasmtime::Error::msg(format!("asked for {count} random bytes, {FILL} are given")));
    }
    let mut bytes = vec![0; count as usize];
    store.data_mut().host().random(&mut bytes);
    Ok((bytes,))
}

fn dh(
    mut store: StoreContextMut<'_, Guest>,
    (epoch, point): (u32, WasmList<u8>),
) -> wasmtime::Result<(Shared,)> {
    let Ok(point) = <[u8; 32]>::try_from(point.as_le_slice(&store)) else {
        return Ok((Err(Refusal::BadPoint),));
    };
    let shared = store.data_mut().host().onion_dh(epoch, &point);
    Ok((shared.map(|shared| shared.to_vec()).map_err(Refusal::from),))
}
