//! What the live worker was given by its host in one call, so that a shadow is given the same.
//!
//! The tape holds secrets (random bytes become keys): it is wiped after each call, and holds nothing
//! while nobody follows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::{Zeroize, Zeroizing};

use crate::{DhRefusal, LogLevel, WorkerHost};

/// Random bytes that are kept of one call; with more the shadow is given up.
const RANDOM: usize = 16 << 10;
/// Answers of the onion key that are kept of one call; with more the shadow is given up.
const ANSWERS: usize = 1024;

type Point = Zeroizing<Vec<u8>>;
type Answer = Result<Zeroizing<[u8; 32]>, DhRefusal>;

/// One call's gifts. Shared by a worker's host, which writes, and a shadow's, which reads: both are
/// called on one thread, so nobody ever waits for the lock.
#[derive(Clone, Default)]
pub(crate) struct Tape(Arc<Mutex<Reel>>);

#[derive(Default)]
struct Reel {
    recording: bool,
    /// In the order in which it was given, whatever the size of each portion.
    random: Zeroizing<Vec<u8>>,
    /// How much of it the shadow took.
    taken: usize,
    answers: Vec<(u32, Point, Answer)>,
    /// What the shadow asked for that was not there, or what did not fit.
    trouble: Option<&'static str>,
}

impl Tape {
    fn reel(&self) -> MutexGuard<'_, Reel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of the live worker begins that will be followed.
    pub(crate) fn begin(&self) {
        let mut reel = self.reel();
        reel.wipe();
        reel.recording = true;
    }

    /// The live worker answered; what comes now is the shadow's.
    pub(crate) fn rewind(&self) {
        self.reel().recording = false;
    }

    /// The call is over. Says what did not fit or was not there.
    pub(crate) fn end(&self) -> Option<&'static str> {
        let mut reel = self.reel();
        let trouble = reel.trouble;
        reel.wipe();
        trouble
    }
}

impl Reel {
    fn wipe(&mut self) {
        self.recording = false;
        self.random.zeroize();
        self.taken = 0;
        self.answers.clear();
        self.trouble = None;
    }

    fn note_random(&mut self, bytes: &[u8]) {
        if !self.recording {
            return;
        }
        if self.random.len() + bytes.len() > RANDOM {
            self.trouble = Some("the live worker took more randomness in one call than is recorded");
            return;
        }
        // In one piece from the start: growing would leave secrets behind.
        let room = RANDOM - self.random.len();
        self.random.reserve_exact(room);
        self.random.extend_from_slice(bytes);
    }

    fn note_answer(&mut self, epoch: u32, point: &[u8], answer: Result<[u8; 32], DhRefusal>) {
        if !self.recording {
            return;
        }
        if self.answers.len() >= ANSWERS {
            self.trouble = Some("the live worker used the onion key more often in one call than is recorded");
            return;
        }
        self.answers.push((epoch, Zeroizing::new(point.to_vec()), answer.map(Zeroizing::new)));
    }

    fn give_random(&mut self, bytes: &mut [u8]) {
        let end = self.taken + bytes.len();
        match self.random.get(self.taken..end) {
            Some(recorded) => {
                bytes.copy_from_slice(recorded);
                self.taken = end;
            }
            None => {
                bytes.fill(0);
                self.trouble = Some("it asked for more randomness than the live worker");
            }
        }
    }

    fn give_answer(&mut self, epoch: u32, point: &[u8]) -> Result<[u8; 32], DhRefusal> {
        let same =
            self.answers.iter().position(|(other, asked, _)| *other == epoch && asked.as_slice() == point);
        match same {
            Some(at) => self.answers.swap_remove(at).2.map(|shared| *shared),
            None => {
                self.trouble = Some("it used the onion key where the live worker did not");
                Err(DhRefusal::RateLimited)
            }
        }
    }
}

/// The host of a worker that may be followed.
pub(crate) struct Tap {
    pub(crate) host: Box<dyn WorkerHost>,
    pub(crate) tape: Tape,
}

impl WorkerHost for Tap {
    fn log(&mut self, level: LogLevel, line: &str) {
        self.host.log(level, line);
    }

    fn random(&mut self, bytes: &mut [u8]) {
        self.host.random(bytes);
        self.tape.reel().note_random(bytes);
    }

    fn onion_dh(&mut self, epoch: u32, point: &[u8]) -> Result<[u8; 32], DhRefusal> {
        let answer = self.host.onion_dh(epoch, point);
        self.tape.reel().note_answer(epoch, point, answer);
        answer
    }
}

/// The host of a shadow: it has nothing of its own, and its lines are for whoever looks closely.
pub(crate) struct Replay {
    pub(crate) tape: Tape,
}

impl WorkerHost for Replay {
    fn log(&mut self, level: LogLevel, line: &str) {
        tracing::debug!(?level, "shadow: {line}");
    }

    fn random(&mut self, bytes: &mut [u8]) {
        self.tape.reel().give_random(bytes);
    }

    fn onion_dh(&mut self, epoch: u32, point: &[u8]) -> Result<[u8; 32], DhRefusal> {
        self.tape.reel().give_answer(epoch, point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts upwards; the onion key doubles the first byte.
    struct Counting(u8);

    impl WorkerHost for Counting {
        fn log(&mut self, _: LogLevel, _: &str) {}
        fn random(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
        }
        fn onion_dh(&mut self, epoch: u32, point: &[u8]) -> Result<[u8; 32], DhRefusal> {
            if epoch == 1 { Ok([point[0] * 2; 32]) } else { Err(DhRefusal::UnknownEpoch) }
        }
    }

    fn pair() -> (Tap, Replay, Tape) {
        let tape = Tape::default();
        let tap = Tap { host: Box::new(Counting(0)), tape: tape.clone() };
        (tap, Replay { tape: tape.clone() }, tape)
    }

    fn random(host: &mut dyn WorkerHost, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        host.random(&mut bytes);
        bytes
    }

    #[test]
    fn a_shadow_gets_the_same_in_portions_and_an_order_of_its_own() {
        let (mut live, mut shadow, tape) = pair();
        tape.begin();
        let first = random(&mut live, 5);
        assert_eq!(live.onion_dh(1, &[3; 32]), Ok([6; 32]));
        assert_eq!(live.onion_dh(2, &[4; 32]), Err(DhRefusal::UnknownEpoch));
        let second = random(&mut live, 3);
        tape.rewind();
        assert_eq!(shadow.onion_dh(2, &[4; 32]), Err(DhRefusal::UnknownEpoch));
        let all = [first, second].concat();
        assert_eq!([random(&mut shadow, 2), random(&mut shadow, 6)].concat(), all);
        assert_eq!(shadow.onion_dh(1, &[3; 32]), Ok([6; 32]));
        assert_eq!(tape.end(), None);
        assert!(tape.reel().random.is_empty() && tape.reel().answers.is_empty());
    }

    #[test]
    fn whatever_it_asks_for_beyond_that_is_noticed() {
        let (mut live, mut shadow, tape) = pair();
        tape.begin();
        random(&mut live, 5);
        live.onion_dh(1, &[3; 32]).unwrap();
        tape.rewind();
        assert_eq!(random(&mut shadow, 6), [0; 6]);
        assert!(tape.end().unwrap().contains("randomness"));
        tape.begin();
        live.onion_dh(1, &[3; 32]).unwrap();
        tape.rewind();
        shadow.onion_dh(1, &[3; 32]).unwrap();
        assert!(shadow.onion_dh(1, &[3; 32]).is_err(), "once each");
        assert!(tape.end().unwrap().contains("onion key"));
    }

    #[test]
    fn nothing_is_kept_unless_it_records_nor_more_than_it_may() {
        let (mut live, _, tape) = pair();
        random(&mut live, 100);
        live.onion_dh(1, &[3; 32]).unwrap();
        assert!(tape.reel().random.is_empty() && tape.reel().answers.is_empty());
        tape.begin();
        random(&mut live, RANDOM);
        assert_eq!(tape.reel().trouble, None);
        random(&mut live, 1);
        assert!(tape.end().unwrap().contains("more randomness"));
        tape.begin();
        (0..=ANSWERS).for_each(|_| assert!(live.onion_dh(2, &[0; 32]).is_err()));
        assert_eq!(tape.reel().answers.len(), ANSWERS);
        assert!(tape.end().unwrap().contains("onion key"));
    }
}
