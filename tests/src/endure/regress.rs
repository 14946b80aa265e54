//! A candidate with a twentieth of the traffic falls ill under load: how many canaried calls, and how long, until its guard
//! takes it out, and what clients see of it.

use super::Report;
use super::load::{self, Agents};
use super::origin::{Illness, Origin};
use crate::fixtures::{CHAT, chat_request};
use crate::http::Request;
use crate::program::Home;
use std::time::{Duration, Instant};

/// Canaried calls, or else time, within which it is to be out; the later counts.
const WITHIN: (u64, Duration) = (200, Duration::from_secs(30));
/// Canaried calls before it falls ill.
const BEFORE: u64 = 100;

/// What it may be taken out for.
const METRICS: [&str; 4] = ["error", "invalid", "fallback", "p95_latency"];

/// How one fell ill and was taken out.
struct Course {
    /// Canaried calls, and time, from the illness to the trip.
    canaried: u64,
    took: Duration,
    /// The metrics that tripped.
    metrics: Vec<&'static str>,
    calls: usize,
    /// Of them, those that a client saw fail.
    failed: usize,
}

/// Each illness so many times, at so many calls per second; `timed` makes a goal of how soon.
pub fn run(times: usize, rate: u64, timed: bool) -> Report {
    let mut report = Report::new(format!(
        "a candidate with 5 % of {rate} calls/s falls ill, {times} times each"
    ));
    for (name, illness, for_what) in [
        ("errors + 20 points", Illness::Errors, ["error", "fallback"].as_slice()),
        ("invalid + 20 points", Illness::Empty, &["invalid", "fallback"]),
        ("exponential durations x 2", Illness::Slow, &["p95_latency"]),
    ] {
        let courses: Vec<Course> = (0..times).map(|_| course(illness, rate)).collect();
        let tell = |of: &dyn Fn(&Course) -> String| courses.iter().map(of).collect::<Vec<_>>().join(", ");
        let canaried = tell(&|course| course.canaried.to_string());
        let seconds = tell(&|course| format!("{:.1}", course.took.as_secs_f64()));
        let is_soon = |course: &Course| course.canaried <= WITHIN.0 || course.took <= WITHIN.1;
        let (words, out) = (
            format!("{canaried} canaried calls; {seconds} s"),
            format!("{name}: out after"),
        );
        if timed {
            let asked = "200 canaried calls or 30 s, the later";
            report.goal(&out, words, asked, courses.iter().all(is_soon));
        } else {
            report.figure(&out, words);
        }
        let is_for_it = courses
            .iter()
            .flat_map(|course| &course.metrics)
            .all(|metric| for_what.contains(metric));
        let words = tell(&|course| course.metrics.join(" "));
        report.goal(&format!("{name}: for"), words, &for_what.join(" or "), is_for_it);
        let (calls, failed) = (
            courses.iter().map(|course| course.calls),
            courses.iter().map(|course| course.failed),
        );
        let (calls, failed) = (calls.sum::<usize>(), failed.sum::<usize>());
        let name = format!("{name}: calls that clients saw fail");
        report.goal(&name, format!("{failed} of {calls}"), "0", failed == 0 && calls > 0);
    }
    report
}

fn course(illness: Illness, rate: u64) -> Course {
    let runtime = super::runtime();
    let (llm, small) = (Origin::start(runtime.handle()), Origin::start(runtime.handle()));
    let home = Home::new();
    let program = home.serve_config(&format!(
        "default_upstream: llm\nupstreams:\n  llm: {{ url: {} }}\n  \
         small: {{ url: {}, api: openai_chat, trusted: true }}\n\
         routes:\n  - name: canary\n    split: {{ llm: 95, small: 5 }}\n    \
         fallback: {{ on: [error, timeout, invalid_output, truncated], timeout: 10s }}\n    \
         guard: {{ error: 2%, invalid: 1%, fallback: 5%, p95_latency: 1.2x }}\n",
        llm.url(),
        small.url(),
    ));
    // From now on the client is one that the baseline knows.
    let hello = Request::post(CHAT, chat_request("plain", "Hello", false)).header("authorization", "Bearer k");
    assert_eq!(hello.send(program.listen).status(), 200);
    let load = load::start(
        &runtime,
        Agents::new(program.listen).apart(),
        rate,
        "call",
        |_| "wide-60",
    );
    crate::eventually("it has taken calls", || small.requests() >= BEFORE);
    let trips = || {
        let scrape = program.scrape();
        let counted = |metric: &&str| scrape.sum("understudy_guard_trips_total", &[("metric", metric)]) > 0.0;
        METRICS.into_iter().filter(counted).collect::<Vec<_>>()
    };
    assert_eq!(trips(), Vec::<&str>::new(), "while it is well");
    let (before, began) = (small.requests(), Instant::now());
    small.fall_ill(illness);
    let mut metrics = Vec::new();
    crate::eventually("it is taken out", || {
        metrics = trips();
        !metrics.is_empty()
    });
    let (canaried, took) = (small.requests() - before, began.elapsed());
    let (calls, _) = load.finish(&runtime);
    program.terminate();
    Course {
        canaried,
        took,
        metrics,
        calls: calls.len(),
        failed: load::failures(&calls).0,
    }
}
