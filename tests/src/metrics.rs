//! Reads Prometheus' text format, as much of it as the tests need.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The text itself.
    pub text: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    /// Of a scrape's text.
    pub fn parse(text: String) -> Metrics {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(sample).collect();
        Metrics { text, samples }
    }

    /// The sum of all samples of this name that have these labels; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples
            .iter()
            .filter(|(sample, _, _)| sample == name)
            .filter(|(_, found, _)| {
                labels
                    .iter()
                    .all(|(key, value)| found.get(*key).is_some_and(|f| f == value))
            })
            .map(|(_, _, value)| value)
            // An empty sum is -0.
            .fold(0.0, |sum, value| sum + value)
    }

    /// Calls less those in flight, kept and dropped: 0 where the accounting is right.
    pub fn unaccounted(&self) -> f64 {
        self.sum("understudy_calls_total", &[])
            - self.sum("understudy_calls_in_flight", &[])
            - self.sum("understudy_kept_total", &[])
            - self.sum("understudy_dropped_total", &[])
    }

    /// Kept and recovered calls less those stored, waiting and evicted: 0 where the collector's accounting is right.
    pub fn mislaid(&self) -> f64 {
        self.sum("understudy_kept_total", &[]) + self.sum("understudy_recovered", &[])
            - self.sum("understudy_stored_total", &[])
            - self.sum("understudy_waiting", &[])
            - self.sum("understudy_evicted_total", &[])
    }
}

fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| {
        let (key, value) = label.split_once("=\"")?;
        Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
    });
    Some((name.to_owned(), labels.collect(), value.parse().ok()?))
}
