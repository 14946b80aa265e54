//! A wall clock that jumps an hour ahead and back while calls go on: durations and partitions stay right.

use super::load::{self, Agents};
use super::origin::Origin;
use super::shim::Shim;
use super::{Report, kept};
use crate::program::Home;
use std::collections::BTreeSet;
use std::time::Duration;

/// Calls per second.
const RATE: u64 = 100;
/// Seconds that the clock is ahead, one after the other.
const JUMPS: [i64; 6] = [0, 3600, 0, -3600, 7200, -86_400];

/// So many seconds at each jump.
pub fn run(seconds: f64) -> Report {
    let mut report = Report::new(format!(
        "wall clock ahead by {JUMPS:?} s, {seconds} s each, under {RATE} calls/s"
    ));
    let runtime = super::runtime();
    let origin = Origin::start(runtime.handle());
    let (home, shim) = (Home::new(), Shim::new());
    let config = format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ wait: 10s }}\nstore: {{ flush: {{ after: 300ms }} }}\n",
        origin.url()
    );
    let program = shim.serve(&home, &config);
    let load = load::start(&runtime, Agents::new(program.listen), RATE, "call", |number| {
        if number % 4 == 0 { "stream-10-50" } else { "plain" }
    });
    for jump in JUMPS {
        shim.clock(jump);
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }
    let (calls, _) = load.finish(&runtime);
    let metrics = program.scrape_at_rest();
    program.terminate();

    let (failed, words) = load::failures(&calls);
    let slowest = calls
        .iter()
        .map(|call| call.took)
        .max()
        .unwrap_or_default()
        .as_secs_f64()
        * 1000.0;
    let rows = home.rows();
    let wrong = rows.iter().filter(|row| {
        let times = [
            row.duration_ms,
            row.first_chunk_ms,
            row.first_token_ms,
            row.inter_token_p50_ms,
            row.inter_token_p99_ms,
            row.longest_stall_ms,
        ];
        // No part of a call takes longer than the longest that a client saw.
        let mut times = times.into_iter().flatten();
        times.any(|time| !(0.0..=slowest + 1.0).contains(&time))
    });
    let wrong = wrong.count();
    let hours = |micros: i64| micros.div_euclid(3_600_000_000);
    let of_rows: BTreeSet<i64> = rows.iter().filter_map(|row| row.started_at).map(hours).collect();
    let of_folders: BTreeSet<i64> = partitions(&home);
    let records = kept(&home);
    let missing = calls.iter().filter(|call| records.get(&call.case) != Some(&1)).count();
    report.figure("calls, and records", format!("{}, {}", calls.len(), rows.len()));
    report.goal("calls failed", words, "0", failed == 0 && !calls.is_empty());
    report.goal("calls not kept once", missing, "0", missing == 0);
    report.goal("negative or overlong times in records", wrong, "0", wrong == 0);
    report.goal(
        "hours of partitions, and of the records in them",
        format!("{}, {}", of_folders.len(), of_rows.len()),
        "the same, several",
        of_folders == of_rows && of_rows.len() >= 4,
    );
    let evicted = metrics.sum("understudy_evicted_total", &[]);
    report.goal("evicted for their age", evicted, "0", evicted == 0.0);
    report
}

/// The hours since the epoch of the folders that calls lie in.
fn partitions(home: &Home) -> BTreeSet<i64> {
    let paths = home
        .files()
        .into_iter()
        .map(|(path, _)| path.to_string_lossy().into_owned());
    let hour_of = |path: String| {
        let (_, rest) = path.split_once("/calls/dt=")?;
        let (date, rest) = rest.split_once("/hour=h")?;
        let hour: i64 = rest.split('/').next()?.parse().ok()?;
        let mut numbers = date.split('-').map(|number| number.parse::<i64>());
        let (year, month, day) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(days(year, month, day) * 24 + hour)
    };
    paths.filter_map(hour_of).collect()
}

/// Days since the epoch of a date (Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::days;

    #[test]
    fn dates_are_days_since_the_epoch() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(2026, 11, 21), 20_778);
    }
}
