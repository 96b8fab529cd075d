//! `warren circuits`

use super::{Failure, asking, control, say, say_json, text};
use crate::cli::Global;

pub(super) fn circuits(global: &Global) -> Result<(), Failure> {
    let path = control(global)?;
    let (circuits, waiting) = asking(async { Ok(warren_api::circuits(&path).await?) })?;
    if global.json {
        for circuit in &circuits {
            say_json(circuit)?;
        }
        return Ok(());
    }
    let mut shown: String = circuits.iter().map(text::circuit).collect();
    waiting.iter().for_each(|reason| shown.push_str(&format!("waiting: {reason}\n")));
    if shown.is_empty() {
        shown.push_str("no circuits\n");
    }
    say(&shown);
    Ok(())
}
