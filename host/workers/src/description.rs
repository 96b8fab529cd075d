//! What a module says of itself.

use std::fmt;

use crate::plain_line;

/// Bytes of a name or of a version.
const WORDS: usize = 64;
const SUITES: usize = 16;
const VERSIONS: usize = 64;

/// What a module says of itself: for people, and for whoever decides whether it may follow another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// What it is: at most 64 bytes, one line.
    pub name: String,
    /// Its version: at most 64 bytes, one line.
    pub version: String,
    /// Handshake suites it speaks, best first: at most 16.
    pub suites: Vec<u8>,
    /// Version of the state that it exports; 0 when it exports none.
    pub writes_state: u16,
    /// Versions of a state that it imports: at most 64.
    pub reads_state: Vec<u16>,
}

impl Description {
    /// Takes what a worker said, words made plain.
    ///
    /// # Errors
    /// Says which part is longer than it may be.
    pub fn from_worker(self) -> Result<Self, String> {
        let parts = [
            ("name", self.name.len(), WORDS),
            ("version", self.version.len(), WORDS),
            ("list of suites", self.suites.len(), SUITES),
            ("list of state versions", self.reads_state.len(), VERSIONS),
        ];
        if let Some((part, length, most)) = parts.into_iter().find(|(_, length, most)| length > most) {
            return Err(format!("a {part} of {length}, {most} allowed"));
        }
        Ok(Self { name: plain_line(&self.name), version: plain_line(&self.version), ..self })
    }

    /// Whether a worker of this module can go on where one of `other` stopped.
    #[must_use]
    pub fn can_follow(&self, other: &Self) -> bool {
        other.writes_state != 0 && self.reads_state.contains(&other.writes_state)
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(writes_state: u16, reads_state: &[u16]) -> Description {
        Description {
            name: "a".to_owned(),
            version: "1".to_owned(),
            suites: vec![1],
            writes_state,
            reads_state: reads_state.to_vec(),
        }
    }

    #[test]
    fn follows_whose_state_it_reads() {
        assert!(module(2, &[1, 2]).can_follow(&module(1, &[1])));
        assert!(!module(1, &[1]).can_follow(&module(2, &[1, 2])));
        assert!(!module(1, &[0, 1]).can_follow(&module(0, &[])), "there is no state to go on with");
    }

    #[test]
    fn says_no_more_than_it_may() {
        let forged = Description { name: "a\nERROR b".to_owned(), ..module(1, &[1]) };
        assert_eq!(forged.from_worker().unwrap().to_string(), "a ERROR b 1");
        let long = [
            Description { name: "n".repeat(65), ..module(1, &[1]) },
            Description { version: "v".repeat(65), ..module(1, &[1]) },
            Description { suites: vec![1; 17], ..module(1, &[1]) },
            module(1, &[1; 65]),
        ];
        for description in long {
            let error = description.from_worker().unwrap_err();
            assert!(error.contains("allowed"), "{error}");
        }
    }
}
