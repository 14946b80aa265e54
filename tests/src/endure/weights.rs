//! Weights change under load with streams open: no call fails, no stream is cut, and the new weight holds within a second.

use super::load::{self, Agents, time_quantile};
use super::origin::Origin;
use super::{Report, millis};
use crate::fixtures::{CHAT, chat_request};
use crate::http::Request;
use crate::program::Home;
use std::time::{Duration, Instant};

/// The longest until a new weight holds.
const WITHIN: Duration = Duration::from_secs(1);

/// So many changes at so many calls per second; `timed` makes a goal of the second.
pub fn run(changes: usize, rate: u64, timed: bool) -> Report {
    let mut report = Report::new(format!(
        "{changes} changes of weights at {rate} calls/s with open streams"
    ));
    let runtime = super::runtime();
    let origin = Origin::start(runtime.handle());
    let home = Home::new();
    let config = |number: usize| {
        let (llm, small) = if number.is_multiple_of(2) { (100, 0) } else { (0, 100) };
        format!(
            "default_upstream: llm\nexpose_headers: true\nupstreams:\n  llm: {{ url: {0} }}\n  \
             small: {{ url: {0}, api: openai_chat, trusted: true }}\n\
             routes: [{{ name: canary, split: {{ llm: {llm}, small: {small} }} }}]\n",
            origin.url()
        )
    };
    let program = home.serve_config(&config(0));
    let probe = || {
        let request =
            Request::post(CHAT, chat_request("plain", "Who answers?", false)).header("authorization", "Bearer k");
        let answer = request.send(program.listen);
        let served = answer
            .head
            .header("x-understudy-served-by")
            .unwrap_or_default()
            .to_owned();
        (answer.status(), served)
    };
    // From now on the client is one that the baseline knows.
    let (status, _) = probe();
    assert_eq!(status, 200);
    let load = load::start(&runtime, Agents::new(program.listen), rate, "call", |number| {
        match number % 50 {
            0 => "stream-40-100",
            1..=9 => "stream-5-20",
            _ => "plain",
        }
    });
    let mut times = Vec::new();
    let (mut failed_probes, mut back) = (0, 0);
    for number in 1..=changes {
        let wanted = if number.is_multiple_of(2) { "llm" } else { "small" };
        let written = Instant::now();
        home.write_config(&config(number));
        crate::eventually("the new weight holds", || {
            let (status, served) = probe();
            failed_probes += usize::from(status != 200);
            served == wanted
        });
        times.push(written.elapsed().as_micros() as u64);
        // Once it holds it holds.
        back += (0..20).filter(|_| probe().1 != wanted).count();
    }
    let (calls, measured) = load.finish(&runtime);
    let metrics = program.scrape_at_rest();
    program.terminate();
    let (failed, words) = load::failures(&calls);
    let streams = calls.iter().filter(|call| call.end_mark).count();
    let slowest = Duration::from_micros(times.iter().copied().max().unwrap_or_default());
    report.figure("calls", calls.len());
    report.figure("calls/s", format!("{measured:.0}"));
    report.figure("streams seen to their end mark", streams);
    report.figure("calls, p50", millis(time_quantile(&calls, 0.5)));
    let half = Duration::from_micros(load::quantile(&mut times, 0.5));
    report.figure("holds after, p50", millis(half));
    if timed {
        report.goal("holds after, at most", millis(slowest), "1 s", slowest <= WITHIN);
    } else {
        report.figure("holds after, at most", millis(slowest));
    }
    report.goal("calls failed or cut", words, "0", failed == 0 && !calls.is_empty());
    report.goal("probes failed", failed_probes, "0", failed_probes == 0);
    report.goal("calls at the old weight after one at the new", back, "0", back == 0);
    let unaccounted = metrics.unaccounted();
    report.goal("calls - kept - dropped", unaccounted, "0", unaccounted == 0.0);
    report
}
