//! Reloads under load, good and bad ones: no call fails, no stream is cut, a bad config keeps the old one.

use super::load::{self, Agents, time_quantile};
use super::origin::Origin;
use super::{Report, kept, millis};
use crate::program::Home;
use std::time::{Duration, Instant};

/// So many reloads at so many calls per second.
pub fn run(reloads: usize, rate: u64) -> Report {
    let mut report = Report::new(format!("{reloads} reloads at {rate} calls/s with open streams"));
    let runtime = super::runtime();
    let origin = Origin::start(runtime.handle());
    let home = Home::new();
    let good = |number: usize| {
        format!(
            "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ exclude: [{{ path: /none/{number} }}] }}\n\
             routes: [{{ match: {{ model: none-{number} }}, split: {{ llm: 100 }} }}]\n",
            origin.url()
        )
    };
    let program = home.serve_config(&good(0));
    let load = load::start(&runtime, Agents::new(program.listen), rate, "call", |number| {
        match number % 50 {
            0 => "stream-40-100",
            1..=9 => "stream-5-20",
            _ => "plain",
        }
    });
    let applied = |result: &str| {
        program
            .scrape()
            .sum("understudy_config_reloads_total", &[("result", result)])
    };
    let hash = || {
        let scrape = program.scrape();
        let line = scrape
            .text
            .lines()
            .find(|line| line.starts_with("understudy_config_info") && line.ends_with(" 1"));
        line.unwrap_or_default().to_owned()
    };
    let (mut done, mut kept_old, mut bad) = (0, 0, 0);
    let mut times = Vec::new();
    for number in 1..=reloads {
        let is_bad = number % 4 == 0;
        let result = if is_bad { "failed" } else { "ok" };
        let (before, in_force) = (applied(result), hash());
        let text = if is_bad {
            format!("{}nonsense: {number}\n", good(number))
        } else {
            good(number)
        };
        let written = Instant::now();
        home.write_config(&text);
        crate::eventually("the config is read again", || applied(result) > before);
        times.push(written.elapsed().as_micros() as u64);
        done += 1;
        if is_bad {
            bad += 1;
            kept_old += usize::from(hash() == in_force);
        }
    }
    let (calls, measured) = load.finish(&runtime);
    let metrics = program.scrape_at_rest();
    program.terminate();
    let (failed, words) = load::failures(&calls);
    let streams = calls.iter().filter(|call| call.end_mark).count();
    let records = kept(&home);
    let missing = calls
        .iter()
        .filter(|call| call.is_whole() && records.get(&call.case) != Some(&1))
        .count();
    report.figure("calls", calls.len());
    report.figure("calls/s", format!("{measured:.0}"));
    report.figure("streams seen to their end mark", streams);
    report.figure("calls, p50", millis(time_quantile(&calls, 0.5)));
    report.figure(
        "in force after, p50",
        millis(Duration::from_micros(load::quantile(&mut times, 0.5))),
    );
    report.goal("reloads", done, &reloads.to_string(), done == reloads);
    report.goal(
        "bad configs that kept the old one",
        format!("{kept_old} of {bad}"),
        "all",
        kept_old == bad,
    );
    report.goal("calls failed or cut", words, "0", failed == 0 && !calls.is_empty());
    report.goal("calls not kept once", missing, "0", missing == 0);
    let unaccounted = metrics.unaccounted();
    report.goal("calls - kept - dropped", unaccounted, "0", unaccounted == 0.0);
    report
}
