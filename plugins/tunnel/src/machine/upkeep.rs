//! What time brings: retries, signs of life, new keys, ends.

use warren_schemas::control::CloseReason;
use warren_schemas::{CircuitHandle, CircuitId, LinkId, Timestamp};

use super::Tunnel;
use super::closing::Ending;
use super::context::Context;
use crate::circuit::{Circuit, Next, Origin, Relay};
use crate::limits::{CIRCUIT_IDLE, CIRCUIT_LIFE, HALF_OPEN, REKEY};
use crate::link::{Link, PhasePing, Probe};
use crate::message::{HopMessage, LinkMessage};
use crate::retry::{GIVE_UP, Retry, Step};
use crate::timers::Whose;

/// What a circuit needs now.
enum Care {
    Nothing,
    /// Its CREATE or EXTEND is sent again.
    Again,
    /// Its last hop is asked whether it is there.
    Ping,
    /// The hop that is being added does not answer.
    NoAnswer,
    /// It ends.
    End(CloseReason),
}

impl Tunnel {
    /// A timer's time has come.
    pub(super) fn care(&mut self, cx: &mut Context<'_>, at: Timestamp, whose: Whose) {
        match whose {
            Whose::Link(id) => self.care_for_link(cx, at, id),
            Whose::Opening(id) => self.care_for_opening(cx, at, id),
            Whose::Circuit(handle) => self.care_for_circuit(cx, at, handle),
        }
    }

    /// Sets a link's timer to when it needs care.
    pub(super) fn arm_link(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            let due = link.due();
            self.timers.arm(&mut link.alarm, Whose::Link(id), due);
        }
    }

    /// Sets a circuit's timer to when it needs care.
    pub(super) fn arm_circuit(&mut self, handle: CircuitHandle) {
        if let Some(circuit) = self.circuits.get_mut(&handle) {
            let due = circuit.due();
            self.timers.arm(circuit.alarm(), Whose::Circuit(handle), due);
        }
    }

    fn care_for_opening(&mut self, cx: &Context<'_>, at: Timestamp, id: LinkId) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if !pending.alarm.rings(at) {
            return;
        }
        match pending.retry.step(cx.now) {
            Step::GiveUp => self.give_up_link(cx, id),
            Step::Again => self.send_link(id),
            Step::Wait => {
                let due = pending.retry.due();
                self.timers.arm(&mut pending.alarm, Whose::Opening(id), due);
            }
        }
    }

    fn care_for_link(&mut self, cx: &mut Context<'_>, at: Timestamp, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if !link.alarm.rings(at) {
            return;
        }
        if link.half_open {
            if cx.now >= link.opened.after(HALF_OPEN) {
                return self.drop_link(cx, id, CloseReason::Timeout);
            }
        } else if link.is_unused(cx.now) {
            return self.close_link(cx, id, CloseReason::Idle);
        } else {
            let (heard, silent_at) = (link.heard, link.silent_at());
            match probe(cx, &mut link.probe, heard, silent_at) {
                Step::GiveUp => return self.close_link(cx, id, CloseReason::Timeout),
                Step::Again => self.ask_link(id),
                Step::Wait => {}
            }
            self.renew_keys(cx, id);
        }
        self.arm_link(id);
    }

    fn ask_link(&mut self, id: LinkId) {
        let token = self.links.get(&id).and_then(|link| link.probe).map(|probe| probe.token);
        if let Some(token) = token {
            self.say(id, CircuitId(0), &LinkMessage::Ping(token));
        }
    }

    /// The hourly key, and the PING of its phase until that is answered.
    fn renew_keys(&mut self, cx: &mut Context<'_>, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(token) = link.phase_token(cx) else { return };
        link.phase_ping = Some(PhasePing { token, again: cx.now.after(PHASE_PING_PAUSE) });
        self.say(id, CircuitId(0), &LinkMessage::Ping(token));
    }

    fn care_for_circuit(&mut self, cx: &mut Context<'_>, at: Timestamp, handle: CircuitHandle) {
        let Some(circuit) = self.circuits.get_mut(&handle) else { return };
        if !circuit.alarm().rings(at) {
            return;
        }
        let care = match circuit {
            Circuit::Origin(origin) => origin.care(cx),
            Circuit::Relay(relay) => relay.care(cx.now),
        };
        match care {
            Care::Nothing => {}
            Care::Again => self.ask_again(cx, handle),
            Care::Ping => self.ask_last_hop(handle),
            Care::NoAnswer => self.building_failed(cx, handle, CloseReason::Timeout),
            Care::End(reason) => self.end_circuit(cx, handle, Ending::of(reason)),
        }
        self.arm_circuit(handle);
    }

    fn ask_again(&mut self, cx: &mut Context<'_>, handle: CircuitHandle) {
        match self.circuits.get(&handle) {
            Some(Circuit::Origin(origin)) if !origin.hops.is_empty() => self.send_extend(handle),
            Some(circuit) => {
                let leg = circuit.next_leg();
                self.send_create(handle);
                if let Some(leg) = leg {
                    self.doubt_link(cx, leg.link);
                }
            }
            None => {}
        }
    }

    /// A CREATE was not answered: a relay that has lost the link would never answer the next one either.
    fn doubt_link(&mut self, cx: &mut Context<'_>, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let heard = link.heard;
        if cx.now > heard && probe(cx, &mut link.probe, heard, cx.now) == Step::Again {
            self.ask_link(id);
            self.arm_link(id);
        }
    }

    fn ask_last_hop(&mut self, handle: CircuitHandle) {
        let Some(Circuit::Origin(origin)) = self.circuits.get(&handle) else { return };
        let Some(token) = origin.probe.map(|probe| probe.token) else { return };
        if let Err(reason) = self.tell_last_hop(handle, &HopMessage::Ping(token)) {
            self.counts.drop(reason);
        }
    }
}

/// How often the PING of a new key phase is sent until it is answered.
const PHASE_PING_PAUSE: std::time::Duration = std::time::Duration::from_secs(4);

/// Asks after a sign of life when it has been silent until `silent_at`. `Again` means: send the PING.
fn probe(cx: &mut Context<'_>, probe: &mut Option<Probe>, heard: Timestamp, silent_at: Timestamp) -> Step {
    if let Some(asked) = probe.as_mut().filter(|asked| asked.since > heard) {
        return asked.retry.step(cx.now);
    }
    *probe = None;
    if cx.now < silent_at {
        return Step::Wait;
    }
    *probe = Some(Probe { token: cx.random(), since: cx.now, retry: Retry::start(cx.now, GIVE_UP) });
    Step::Again
}

impl Link {
    /// The token of the PING that the key phase needs now, if any; moves to the next phase when it is time.
    fn phase_token(&mut self, cx: &mut Context<'_>) -> Option<[u8; 8]> {
        if let Some(ping) = &self.phase_ping {
            return (cx.now >= ping.again).then_some(ping.token);
        }
        if cx.now < self.rekeyed.after(REKEY) || !self.sealer.rekey() {
            return None;
        }
        self.rekeyed = cx.now;
        Some(cx.random())
    }
}

impl Origin {
    fn care(&mut self, cx: &mut Context<'_>) -> Care {
        if cx.now >= self.born.after(CIRCUIT_LIFE) {
            return Care::End(CloseReason::Expired);
        }
        if let Some(building) = &mut self.building {
            return match building.retry.as_mut().map(|retry| retry.step(cx.now)) {
                Some(Step::Again) => Care::Again,
                Some(Step::GiveUp) => Care::NoAnswer,
                Some(Step::Wait) | None => Care::Nothing,
            };
        }
        let (heard, silent_at) = (self.heard, self.silent_at());
        match probe(cx, &mut self.probe, heard, silent_at) {
            Step::Wait => Care::Nothing,
            Step::Again => Care::Ping,
            Step::GiveUp => Care::End(CloseReason::Timeout),
        }
    }
}

impl Relay {
    fn care(&mut self, now: Timestamp) -> Care {
        if now >= self.born.after(CIRCUIT_LIFE) {
            return Care::End(CloseReason::Expired);
        }
        if now >= self.heard.after(CIRCUIT_IDLE) {
            return Care::End(CloseReason::Idle);
        }
        self.tidy(now);
        let Next::Extending(extending) = &mut self.next else { return Care::Nothing };
        match extending.retry.as_mut().map(|retry| retry.step(now)) {
            Some(Step::Again) => Care::Again,
            Some(Step::GiveUp) => Care::NoAnswer,
            Some(Step::Wait) | None => Care::Nothing,
        }
    }
}
