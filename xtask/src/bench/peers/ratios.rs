//! What a comparison comes to.

use std::collections::BTreeMap;

use serde::Serialize;
use warren_bench::peers::Row;

/// Warren ÷ another system, by that system and the downloads at once.
pub(super) type Ratios = BTreeMap<&'static str, BTreeMap<u8, Ratio>>;

/// Warren's figure divided by the other's.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Ratio {
    pub(super) mb_per_s: f64,
    pub(super) cpu_total: f64,
}

/// The median speed, the median wait, and the CPU of the run whose sum is the median, so that its roles add up.
/// All rows are of one system and as many downloads.
pub(super) fn median(rows: &[Row]) -> Option<Row> {
    let by = |of: fn(&Row) -> f64| {
        let mut sorted: Vec<&Row> = rows.iter().collect();
        sorted.sort_by(|a, b| of(a).total_cmp(&of(b)));
        sorted.get(sorted.len() / 2).copied()
    };
    let mut row = by(|row| row.cpu_s_per_gb.total.unwrap_or_default())?.clone();
    row.mb_per_s = by(|row| row.mb_per_s)?.mb_per_s;
    row.first_byte_s = by(|row| row.first_byte_s)?.first_byte_s;
    Some(row)
}

/// Of every row that is not Warren's and has one of Warren's beside it.
pub(super) fn of(rows: &[Row]) -> Ratios {
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    let mut ratios = Ratios::new();
    for other in rows.iter().filter(|row| row.system != "warren") {
        let ours = rows.iter().find(|row| row.system == "warren" && row.parallel == other.parallel);
        let Some(ours) = ours else { continue };
        let cpu = ours.cpu_s_per_gb.total.unwrap_or_default() / other.cpu_s_per_gb.total.unwrap_or(f64::NAN);
        let ratio = Ratio { mb_per_s: rounded(ours.mb_per_s / other.mb_per_s), cpu_total: rounded(cpu) };
        ratios.entry(other.system).or_default().insert(other.parallel, ratio);
    }
    ratios
}

#[cfg(test)]
mod tests {
    use warren_bench::cpu::CpuPerGb;

    use super::*;

    fn row(system: &'static str, parallel: u8, mb_per_s: f64, total: f64) -> Row {
        let total = Some(total);
        let cpu_s_per_gb = CpuPerGb { originator: total, relay: None, exit: None, total };
        Row { system, hops: 3, parallel, mb_per_s, cpu_s_per_gb, first_byte_s: 0.1 }
    }

    #[test]
    fn medians_are_of_speed_and_of_the_sum_of_cpu() {
        let rows = [row("tor", 1, 30.0, 9.0), row("tor", 1, 10.0, 7.0), row("tor", 1, 20.0, 8.5)];
        assert_eq!(median(&rows), Some(row("tor", 1, 20.0, 8.5)));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_ratio_is_ours_divided_by_theirs_with_as_many_downloads() {
        let rows = [row("warren", 1, 60.0, 10.0), row("tor", 1, 30.0, 20.0), row("tor", 4, 90.0, 20.0)];
        let ratios = of(&rows);
        assert_eq!(ratios["tor"].len(), 1);
        assert_eq!(ratios["tor"][&1], Ratio { mb_per_s: 2.0, cpu_total: 0.5 });
        assert_eq!(
            serde_json::to_string(&ratios).unwrap(),
            r#"{"tor":{"1":{"mb_per_s":2.0,"cpu_total":0.5}}}"#
        );
    }
}
