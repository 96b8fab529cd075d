//! What a worker may write into the operator's log.

/// The longest line, in bytes.
pub const MAX_LINE: usize = 1024;

/// One line of at most [`MAX_LINE`] bytes: it must not forge further lines of the operator's log, nor
/// speak to the terminal that shows it.
#[must_use]
pub fn plain_line(line: &str) -> String {
    let line = line.get(..line.floor_char_boundary(MAX_LINE)).unwrap_or_default();
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_short() {
        assert_eq!(plain_line("a\nERROR forged\x1b[2J\u{9b}1m"), "a ERROR forged [2J 1m");
        assert_eq!(plain_line(&"é".repeat(600)).len(), 1024);
        assert_eq!(plain_line(&format!("x{}", "é".repeat(600))).len(), 1023);
    }
}
