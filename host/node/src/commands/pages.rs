//! A page that is shown again and again in a terminal.

use console::Term;

use super::say;

/// The screen that programs of a whole page have to themselves, without a cursor; and back (xterm's
/// control sequences, "The Alternate Screen Buffer").
const OPEN: &str = "\x1b[?1049h\x1b[?25l";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";
/// Cursor home; what is left of the line goes; all below goes (ECMA-48: CUP, EL, ED).
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const BELOW: &str = "\x1b[J";

/// Where pages are shown. What was in the terminal before is there again when this is dropped.
pub(super) struct Pages {
    terminal: Term,
}

impl Pages {
    pub(super) fn new() -> Self {
        say(OPEN);
        Self { terminal: Term::stdout() }
    }

    /// Shows a page in the place of the one before; false when nobody reads any more.
    pub(super) fn show(&mut self, page: &str) -> bool {
        let (rows, columns) = self.terminal.size();
        say(&fit(page, usize::from(rows), usize::from(columns)))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        say(CLOSE);
    }
}

/// As much of a page as there is room for. Nothing is cleared before it is overwritten, so that nothing
/// flickers, and no line feed follows the last line, so that nothing scrolls.
fn fit(page: &str, rows: usize, columns: usize) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let fits = lines.len() <= rows;
    let shown = if fits { lines.len() } else { rows.saturating_sub(1) };
    let mut shown: Vec<String> = lines.iter().take(shown).map(|line| cut(line, columns)).collect();
    if !fits {
        shown.push(cut(&format!("… {} more lines", lines.len() - shown.len()), columns));
    }
    format!("{HOME}{}{REST_OF_LINE}{BELOW}", shown.join(&format!("{REST_OF_LINE}\r\n")))
}

fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    let kept = line.chars().take(columns.saturating_sub(1));
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_its_screen() {
        assert_eq!(fit("one\ntwo\n", 2, 9), "\x1b[Hone\x1b[K\r\ntwo\x1b[K\x1b[J");
        assert_eq!(fit("one\ntwo\nthree\n", 2, 14), "\x1b[Hone\x1b[K\r\n… 2 more lines\x1b[K\x1b[J");
        assert_eq!(fit("a long line\n", 1, 6), "\x1b[Ha lon…\x1b[K\x1b[J");
    }
}
