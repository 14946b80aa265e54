//! Mixed traffic for long, with faults that come and go: memory and files stay flat, and the counts add up throughout.

use super::load::{self, Agents};
use super::origin::Origin;
use super::shim::{DiskFault, Shim};
use super::{Report, kept};
use crate::program::Home;
use std::time::{Duration, Instant};

/// Clients that stay away from their answer, one after the other.
const SILENT: Duration = Duration::from_millis(500);
/// What memory and files a run of at least so many seconds holds can be called flat or not: a shorter one warms up.
const WARM: u64 = 60;

/// So many seconds at so many calls per second.
pub fn run(seconds: u64, rate: u64) -> Report {
    let mut report = Report::new(format!(
        "{seconds} s of mixed traffic at {rate} calls/s, faults off and on"
    ));
    let runtime = super::runtime();
    let origin = Origin::start(runtime.handle());
    let (home, shim) = (Home::new(), Shim::new());
    let config = format!(
        "upstreams: {{ llm: {{ url: {} }} }}\nstore: {{ flush: {{ after: 1s }} }}\n",
        origin.url()
    );
    let program = shim.serve(&home, &config);
    let agents = Agents::new(program.listen).saying(4000);
    let leaver = {
        let agents = agents.clone();
        runtime.spawn(async move {
            for number in 0.. {
                let _ = tokio::time::timeout(SILENT, agents.call(&format!("gone-{number}"), "silent")).await;
            }
        })
    };
    let load = load::start(&runtime, agents, rate, "call", |number| match number % 20 {
        0 => "stream-40-50",
        1..=5 => "stream-10-10",
        6..=7 => "slow-300",
        _ => "plain",
    });
    let begun = Instant::now();
    let whole = Duration::from_secs(seconds);
    let mut samples = Samples::default();
    let mut faults = 0;
    while begun.elapsed() < whole {
        std::thread::sleep(Duration::from_millis(250));
        let share = begun.elapsed().as_secs_f64() / whole.as_secs_f64();
        // In each tenth one fault, for its second quarter; the last tenth is without.
        let tenth = (share * 10.0) as usize;
        let within = (share * 10.0).fract();
        let ill = tenth < 9 && (0.25..0.5).contains(&within);
        let fault = [
            DiskFault::Full,
            DiskFault::Broken,
            DiskFault::Hanging,
            DiskFault::ReadOnly,
        ][tenth % 4];
        shim.disk(if ill { fault } else { DiskFault::None });
        faults += usize::from(ill);
        let asked = Instant::now();
        let metrics = program.scrape();
        samples.skews.push((metrics.unaccounted(), asked.elapsed()));
        samples.memory.push(program.memory());
        samples.files.push(program.open_files());
    }
    shim.disk(DiskFault::None);
    leaver.abort();
    let (calls, measured) = load.finish(&runtime);
    let metrics = program.scrape_at_rest();
    let mut stored = metrics.clone();
    crate::eventually("kept = stored + evicted, and none waits", || {
        stored = program.scrape();
        stored.sum("understudy_waiting", &[]) == 0.0 && stored.mislaid() == 0.0
    });
    program.terminate();

    let (failed, words) = load::failures(&calls);
    let records = kept(&home);
    let dropped = metrics.sum("understudy_dropped_total", &[]);
    let rows: usize = records.values().sum();
    let twice = records.values().filter(|times| **times > 1).count();
    report.figure("calls", calls.len());
    report.figure("calls/s", format!("{measured:.0}"));
    report.figure(
        "scrapes, and with a fault of the disk",
        format!("{}, {faults}", samples.skews.len()),
    );
    report.figure("records, and calls dropped", format!("{rows}, {dropped}"));
    report.goal("calls failed or cut", words, "0", failed == 0 && !calls.is_empty());
    let skew = samples
        .skews
        .iter()
        .fold(0.0_f64, |most, (skew, _)| most.max(skew.abs()));
    // A scrape reads one counter after the other: calls that end meanwhile show in one and not yet in the other.
    let explained = |(skew, took): &(f64, Duration)| skew.abs() <= rate as f64 * took.as_secs_f64() + 5.0;
    report.goal(
        "calls - in flight - kept - dropped, most off in a scrape",
        skew,
        "5 and what comes during the scrape at most",
        samples.skews.iter().all(explained),
    );
    let rest = (metrics.unaccounted(), stored.mislaid());
    report.goal(
        "both equations at rest",
        format!("{rest:?}"),
        "0, 0",
        rest == (0.0, 0.0),
    );
    let all = metrics.sum("understudy_calls_total", &[]);
    report.goal(
        "calls - records - dropped",
        all - rows as f64 - dropped,
        "0",
        all == rows as f64 + dropped,
    );
    report.goal("kept twice", twice, "0", twice == 0);
    let mut flat = |name: &str, figure: String, asked: &str, holds: bool| {
        if seconds >= WARM {
            report.goal(name, figure, asked, holds);
        } else {
            report.figure(name, figure);
        }
    };
    let (early, late) = quarters(&samples.memory);
    flat(
        "memory, second quarter to last",
        format!("{} MiB to {} MiB", early >> 20, late >> 20),
        "a tenth and 16 MiB more at most",
        late <= early + early / 10 + (16 << 20),
    );
    let (early, late) = quarters(&samples.files);
    flat(
        "open files, second quarter to last",
        format!("{early} to {late}"),
        "a tenth and 20 more at most",
        late <= early + early / 10 + 20,
    );
    report
}

#[derive(Default)]
struct Samples {
    /// How far off the equation was, and how long the scrape took.
    skews: Vec<(f64, Duration)>,
    memory: Vec<u64>,
    files: Vec<u64>,
}

/// The medians of the second and the last quarter.
fn quarters(values: &[u64]) -> (u64, u64) {
    let quarter = values.len() / 4;
    let median = |part: &[u64]| load::quantile(&mut part.to_vec(), 0.5);
    (median(&values[quarter..2 * quarter]), median(&values[3 * quarter..]))
}
