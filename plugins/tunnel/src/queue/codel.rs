//! CoDel (RFC 8289, section 5): drops when every cell of an interval waited longer than the target.

use std::time::Duration;

use warren_schemas::Timestamp;

/// Waiting that is no fault.
const TARGET: Duration = Duration::from_millis(20);
/// How long waiting must stay above the target.
const INTERVAL: Duration = Duration::from_millis(100);

/// What becomes of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Send,
    Drop,
}

/// The control law's state for one queue.
#[derive(Debug, Default)]
pub(super) struct Codel {
    pub(super) first_above: Option<Timestamp>,
    pub(super) dropping: bool,
    pub(super) drop_next: Timestamp,
    pub(super) count: u32,
    pub(super) last_count: u32,
}

impl Codel {
    /// Judges a cell that has waited for `sojourn`; the `last` of a queue is always sent.
    pub(super) fn judge(&mut self, now: Timestamp, sojourn: Duration, last: bool) -> Fate {
        let late = self.is_late(now, sojourn, last);
        if self.dropping {
            if !late {
                self.dropping = false;
            } else if now >= self.drop_next {
                self.count = self.count.saturating_add(1);
                self.drop_next = control_law(self.drop_next, self.count);
                return Fate::Drop;
            }
            return Fate::Send;
        }
        if !late {
            return Fate::Send;
        }
        self.dropping = true;
        let recently = now.since(self.drop_next) < INTERVAL * 16;
        let delta = self.count.saturating_sub(self.last_count);
        self.count = if recently && delta > 1 { delta } else { 1 };
        self.last_count = self.count;
        self.drop_next = control_law(now, self.count);
        Fate::Drop
    }

    fn is_late(&mut self, now: Timestamp, sojourn: Duration, last: bool) -> bool {
        if sojourn < TARGET || last {
            self.first_above = None;
            return false;
        }
        match self.first_above {
            None => {
                self.first_above = Some(now.after(INTERVAL));
                false
            }
            Some(end) => now >= end,
        }
    }
}

fn control_law(from: Timestamp, count: u32) -> Timestamp {
    from.after(INTERVAL.div_f64(f64::from(count.max(1)).sqrt()))
}
