//! Where a worker stood when it was stopped.

use std::fmt;

use crate::plain_line;

/// Functions that are kept.
const FRAMES: usize = 24;
/// Bytes that are kept of a function's name.
const NAME: usize = 160;

/// Names of the functions that were running, the innermost first. Empty where nothing is known, as of
/// native workers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frames(Vec<String>);

impl Frames {
    /// Takes the innermost 24 names, each made plain and cut to 160 bytes: they come out of the module.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let plain = |name: String| {
            let mut name = plain_line(&name);
            name.truncate(name.floor_char_boundary(NAME));
            name
        };
        Self(names.into_iter().take(FRAMES).map(plain).collect())
    }

    /// The names, the innermost first.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// Nothing, or `; it was in a, called by b, c`: to stand behind a sentence.
impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((innermost, callers)) = self.0.split_first() else { return Ok(()) };
        write!(f, "; it was in {innermost}")?;
        if callers.is_empty() {
            return Ok(());
        }
        write!(f, ", called by {}", callers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_the_end_of_a_sentence() {
        let names = |names: &[&str]| Frames::new(names.iter().map(|name| (*name).to_owned())).to_string();
        assert_eq!(names(&[]), "");
        assert_eq!(names(&["a::b"]), "; it was in a::b");
        assert_eq!(names(&["a::b", "c", "d\nx"]), "; it was in a::b, called by c, d x");
    }

    #[test]
    fn a_module_cannot_fill_the_log_with_names() {
        let frames = Frames::new((0..1000).map(|at| format!("{at}{}", "é".repeat(5000))));
        assert_eq!(frames.names().len(), FRAMES);
        assert!(frames.names().iter().all(|name| name.len() <= NAME));
    }
}
