//! Who has a thread's seat: starting, exchanging and ending its worker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use warren_ports::swap::WorkerSwap;
use warren_schemas::batch::SlotKind;
use warren_schemas::control::{CloseReason, Event, Request, TunnelConfig};
use warren_schemas::{RequestId, Timestamp};
use warren_workers::{
    CommitFault, Description, Retired, Seat, ShadowVerdict, SwapFault, WorkerFactory, WorkerFault,
};

use super::WorkerLoop;
use super::gauge::{State, thread_cpu};
use crate::messages::{Exited, Faults, SeatOrder, Started, ToKeeper};

/// How long a shadow may wait for calls: a worker that nobody asks for anything cannot be followed.
const SHADOW_PATIENCE: Duration = Duration::from_secs(3);

/// Who waits for a shadow's verdict.
pub(super) struct Watch {
    answer: oneshot::Sender<ShadowVerdict>,
    until: Timestamp,
}

impl WorkerLoop {
    /// A seat for workers of `factory`, filled.
    ///
    /// # Errors
    /// What the worker did instead of starting.
    pub(super) fn sit(&mut self, factory: Arc<dyn WorkerFactory>) -> Result<Description, WorkerFault> {
        let now = self.clock.now();
        self.config.draining = false;
        let mut seat = Seat::new(factory, (self.hosts)(), self.config.encode());
        seat.start(now)?;
        let module = seat.module().cloned();
        self.seat = Some(seat);
        self.wake_at = Some(now);
        self.gauge.set_state(State::Running);
        self.tell_module();
        module.ok_or_else(|| WorkerFault::Trap {
            plugin: String::new(),
            call: "describe",
            detail: "it left at once".to_owned(),
            frames: warren_workers::Frames::default(),
        })
    }

    pub(super) fn handle_order(&mut self, order: SeatOrder) {
        match order {
            SeatOrder::Start { factory, answer } => {
                let started = self.start(factory);
                if let Err(reason) = &started {
                    tracing::error!(worker = self.index, reason, "no worker");
                    self.report.push(ToKeeper::StartFailed { worker: self.index });
                }
                drop(answer.send(started));
            }
            SeatOrder::Prepare { factory, answer } => drop(answer.send(self.prepare(factory))),
            SeatOrder::Shadow { answers, answer } => self.shadow(answers, answer),
            // Nobody waits for it any more: it was given up.
            SeatOrder::Commit { answer } if answer.is_closed() => self.abandon_successor(),
            SeatOrder::Warm { page, answer } => drop(answer.send(self.warm(page))),
            SeatOrder::Commit { answer } => drop(answer.send(self.commit())),
            SeatOrder::Trust => {
                if let Some(seat) = &mut self.seat {
                    seat.trust();
                }
            }
            SeatOrder::Revert { answer } => drop(answer.send(self.revert())),
            SeatOrder::Abandon => self.abandon_successor(),
            SeatOrder::Faults { answer } => {
                let seat = self.seat.as_ref();
                let count = seat.map_or(0, Seat::restarts);
                let last = seat.and_then(Seat::last_fault).map(str::to_owned);
                _ = answer.send(Faults { count, last });
            }
            SeatOrder::Reject { what, detail } => self.reject(what, detail),
            SeatOrder::Kill { answer } => drop(answer.send(self.kill())),
            SeatOrder::Retire => self.retire(),
        }
    }

    /// Fills the seat, or has a worker stay that was about to go.
    fn start(&mut self, factory: Arc<dyn WorkerFactory>) -> Result<Started, String> {
        let Some(seat) = &self.seat else {
            let module = self.sit(factory).map_err(|fault| fault.to_string())?;
            return Ok(Started { module, fresh: true });
        };
        if !seat.is_for(&factory) {
            self.prepare(factory)?;
            self.commit()?;
        }
        let Some(seat) = &mut self.seat else { return Err("it has no worker".to_owned()) };
        seat.stay();
        self.set_draining(false);
        self.wake_at = Some(self.clock.now());
        let Some(seat) = &self.seat else { return Err("it has no worker".to_owned()) };
        let module = seat.module().cloned().ok_or_else(|| "it has failed and starts again".to_owned());
        self.gauge.set_state(State::Running);
        Ok(Started { module: module?, fresh: false })
    }

    /// The worker keeps its circuits; whoever asks it for more is sent to another link.
    fn retire(&mut self) {
        let Some(seat) = &mut self.seat else { return };
        seat.retire();
        self.gauge.set_state(State::Draining);
        self.set_draining(true);
    }

    fn set_draining(&mut self, draining: bool) {
        if self.config.draining != draining {
            let config = TunnelConfig { draining, ..self.config.clone() };
            self.configure(&config);
        }
    }

    fn prepare(&mut self, factory: Arc<dyn WorkerFactory>) -> Result<Description, String> {
        let now = self.clock.now();
        let Some(seat) = &mut self.seat else { return Err("it has no worker".to_owned()) };
        let prepared = seat.prepare(now, factory);
        prepared.map_err(|fault| self.swap_fault(fault))
    }

    fn swap_fault(&mut self, fault: SwapFault) -> String {
        let text = fault.to_string();
        if let SwapFault::Lost(lost) = fault {
            self.lose_worker(&lost);
        }
        text
    }

    fn shadow(&mut self, answers: u32, answer: oneshot::Sender<ShadowVerdict>) {
        let now = self.clock.now();
        let failed = |reason: &str| ShadowVerdict::Failed(reason.to_owned());
        let Some(seat) = &mut self.seat else { return drop(answer.send(failed("there is no worker"))) };
        match seat.shadow(now, answers) {
            Ok(()) => self.watch = Some(Watch { answer, until: now.after(SHADOW_PATIENCE) }),
            Err(fault) => {
                let text = self.swap_fault(fault);
                drop(answer.send(ShadowVerdict::Failed(text)));
            }
        }
    }

    /// Tells the shadow's verdict when there is one, or when nothing came to compare for too long.
    pub(super) fn look_at_shadow(&mut self) {
        let Some(watch) = &self.watch else { return };
        let verdict = self.seat.as_ref().and_then(Seat::shadow_verdict);
        let verdict = verdict.unwrap_or_else(|| ShadowVerdict::Failed("the worker is gone".to_owned()));
        let over = !matches!(verdict, ShadowVerdict::Running { .. }) || self.clock.now() >= watch.until;
        if over && let Some(watch) = self.watch.take() {
            drop(watch.answer.send(verdict));
        }
    }

    fn warm(&mut self, page: u32) -> Result<bool, String> {
        let now = self.clock.now();
        let Some(seat) = &mut self.seat else { return Err("it has no worker".to_owned()) };
        let warmed = seat.warm(now, page);
        warmed.map_err(|fault| self.swap_fault(fault))
    }

    /// The state goes over within this turn: no call falls between.
    fn commit(&mut self) -> Result<(WorkerSwap, Option<Retired>), String> {
        let Some(seat) = &mut self.seat else { return Err("it has no worker".to_owned()) };
        let (now, cpu) = (self.clock.now(), thread_cpu());
        let committed = seat.commit(now);
        let (pause_us, pause_cpu_us) =
            (self.clock.now().since(now).as_micros(), thread_cpu().saturating_sub(cpu).as_micros());
        match committed {
            Ok(committed) => {
                self.tell_module();
                let swap = WorkerSwap {
                    worker: self.index,
                    pause_us: u64::try_from(pause_us).unwrap_or(u64::MAX),
                    pause_cpu_us: u64::try_from(pause_cpu_us).unwrap_or(u64::MAX),
                    state_bytes: committed.state_bytes as u64,
                    compared: 0,
                };
                Ok((swap, committed.retired))
            }
            Err(fault) => {
                let text = fault.to_string();
                if let CommitFault::Lost(lost) = fault {
                    self.lose_worker(&lost);
                }
                Err(text)
            }
        }
    }

    fn revert(&mut self) -> Result<WorkerSwap, String> {
        let now = self.clock.now();
        let Some(seat) = &mut self.seat else { return Err("it has no worker".to_owned()) };
        match seat.prepare_rollback(now) {
            Ok(_) => self.commit().map(|(swap, _)| swap),
            // After three faults in a row the seat went back by itself.
            Err(SwapFault::NoPrevious) => Ok(WorkerSwap {
                worker: self.index,
                pause_us: 0,
                pause_cpu_us: 0,
                state_bytes: 0,
                compared: 0,
            }),
            Err(fault) => Err(self.swap_fault(fault)),
        }
    }

    fn abandon_successor(&mut self) {
        self.watch = None;
        if let Some(seat) = &mut self.seat {
            seat.abandon();
        }
    }

    fn kill(&mut self) -> bool {
        let now = self.clock.now();
        let lost = self.seat.as_mut().and_then(|seat| seat.kill(now, "an operator's order"));
        if let Some(lost) = &lost {
            self.lose_worker(lost);
        }
        lost.is_some()
    }

    /// What the worker told cannot be: it goes, as after any bad answer.
    pub(super) fn reject(&mut self, what: &'static str, detail: String) {
        let now = self.clock.now();
        let lost = self.seat.as_mut().and_then(|seat| seat.reject(now, what, detail));
        if let Some(lost) = &lost {
            self.lose_worker(lost);
        }
    }

    /// Whether there are circuits on the worker. It is asked itself: what the keeper knows is some seconds
    /// old, and a worker that leaves takes its circuits with it.
    pub(super) fn is_needed(&mut self) -> bool {
        let Some(seat) = &mut self.seat else { return false };
        let answer = seat.control(self.clock.now(), &Request::Monitor.encode(RequestId::default()));
        let needed = answer.as_ref().is_ok_and(|batch| {
            batch.slots().filter(|slot| slot.kind == SlotKind::Event).any(|slot| {
                let Ok((_, Event::Sync(frame))) = Event::decode(batch.bytes_of(&slot)) else { return false };
                frame.relayed_circuits.unwrap_or(0) > 0 || !frame.circuits.is_empty()
            })
        });
        self.carry_out(answer);
        needed
    }

    /// The worker says goodbye and leaves; the thread passes datagrams on until it gets another one, or
    /// ends with the node.
    pub(super) fn leave(&mut self, reason: CloseReason) -> Exited {
        self.abandon_successor();
        self.gauge.set_state(State::Parked);
        let Some(seat) = self.seat.take() else {
            self.report.push(ToKeeper::Left { worker: self.index });
            return Exited::Nobody;
        };
        let left = seat.shutdown(self.clock.now(), reason.0);
        self.wake_at = None;
        self.drop_circuits();
        self.report.push(ToKeeper::Left { worker: self.index });
        match left {
            Ok(goodbye) => {
                for (slot, batch) in goodbye.iter().flat_map(|batch| batch.slots().map(move |s| (s, batch))) {
                    if slot.kind == SlotKind::Send {
                        self.outbox.push(slot.address, batch.bytes_of(&slot));
                    }
                }
                Exited::Said(reason)
            }
            Err(fault) => {
                tracing::warn!(worker = self.index, %fault, "the worker was ended without a goodbye");
                Exited::Enforced(fault.to_string())
            }
        }
    }

    /// Tells the keeper which module is at work here.
    pub(super) fn tell_module(&mut self) {
        let Some(module) = self.seat.as_ref().and_then(Seat::module).cloned() else { return };
        self.gauge.set_plugin(&module.to_string());
        self.report.push(ToKeeper::Module { worker: self.index, module });
    }

    pub(super) fn show_seat(&mut self) {
        let Some(seat) = &self.seat else { return };
        let restarted = self.gauge.restarts() != seat.restarts();
        self.gauge.set_restarts(seat.restarts());
        if self.gauge.state() != State::Draining {
            let quarantined = seat.quarantined().is_some();
            self.gauge.set_state(if quarantined { State::Quarantined } else { State::Running });
        }
        if restarted {
            self.tell_module();
        }
    }
}
