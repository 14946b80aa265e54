//! The proxy's metrics: one struct, registered once, passed in. Labels are bounded: never a key, a user or a prompt.

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Bounds of call durations in seconds, those of the OpenTelemetry conventions for generative AI.
const CALL_SECONDS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// Bounds of own time in seconds, from 10 µs.
const OVERHEAD_SECONDS: [f64; 12] = [
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1,
];

/// What the hot path counts. `calls = in_flight + kept + dropped` at every moment.
#[derive(Clone)]
pub struct Metrics {
    /// Calls whose head was accepted, by upstream addressed and API.
    pub calls: IntCounterVec,
    /// Calls neither kept nor dropped yet.
    pub in_flight: IntGauge,
    /// Calls that ended, by upstream addressed, API and outcome.
    pub ended: IntCounterVec,
    /// Responses by upstream that served and status class.
    pub responses: IntCounterVec,
    /// Requests refused before their head was accepted, by reason.
    pub rejected: IntCounterVec,
    /// Calls whose record is written to the spool.
    pub kept: IntCounter,
    /// Calls without a record, by reason.
    pub dropped: IntCounterVec,
    /// Seconds from a call's start to the upstream's last byte.
    pub duration: HistogramVec,
    /// Seconds from a call's start to the first piece of the response body.
    pub first_chunk: HistogramVec,
    /// Own time in seconds: total less waiting for client and upstream.
    pub overhead: Histogram,
    /// Seconds that calls waited for their record to be written.
    pub capture_wait: Histogram,
    /// Request body bytes.
    pub request_bytes: IntCounterVec,
    /// Response body bytes.
    pub response_bytes: IntCounterVec,
    /// 1 while calls do not wait for the spool.
    pub spool_slow: IntGauge,
    /// 1 while the last write failed: calls are not kept.
    pub spool_failing: IntGauge,
    /// Bytes of all segments.
    pub spool_bytes: IntGauge,
    /// Records that survive power loss.
    pub synced: IntCounter,
    /// Fsyncs of the spool that failed.
    pub sync_errors: IntCounter,
    /// Records lost after they were kept, by reason. A collector in the same process counts its own here too.
    pub evicted: IntCounterVec,
    /// Calls by route and arm of their split.
    pub split_calls: IntCounterVec,
    /// Weights in force, as shares from 0 to 1.
    pub split_weight: prometheus::GaugeVec,
    /// Trips of the guard, by route, candidate and what was worse.
    pub guard_trips: IntCounterVec,
    /// Trips in force by route and candidate.
    pub guard_tripped: IntGaugeVec,
    /// Calls of a split route that stayed with the baseline, by reason.
    pub not_canaried: IntCounterVec,
    /// Calls that the baseline answered in a candidate's place, by route, candidate and reason.
    pub fallbacks: IntCounterVec,
    /// Seconds for which a candidate's streamed answer was held, by route and candidate.
    pub held: HistogramVec,
    /// Reloads of the config, by result.
    pub reloads: IntCounterVec,
    /// 1 while the config on disk is not the one in force because it is wrong.
    pub reload_failed: IntGauge,
    /// 1 while the listener's certificate on disk is not the one in force because it is wrong.
    pub certificate_failed: IntGauge,
    /// 1 for the hash of the config in force.
    pub config_info: IntGaugeVec,
    /// Routes that name a task that the task book does not have.
    pub unknown_task_routes: IntGauge,
    /// Version of the task book in force, 0 = none.
    pub taskbook_version: Gauge,
    /// Seconds since the store last said which task book is the newest.
    pub taskbook_age: Gauge,
}

impl Metrics {
    /// Makes and registers all of them.
    ///
    /// # Errors
    /// Where one of the names is taken in this registry.
    pub fn register(registry: &Registry, version: &str) -> Result<Metrics, prometheus::Error> {
        let make = Make { registry };
        let build = make.gauges("understudy_build_info", "The program's version.", &["version"])?;
        build.with_label_values(&[version]).set(1);
        Ok(Metrics {
            calls: make.counters("understudy_calls_total", "Calls accepted.", &["upstream", "api"])?,
            in_flight: make.gauge("understudy_calls_in_flight", "Calls neither kept nor dropped yet.")?,
            ended: make.counters(
                "understudy_calls_ended_total",
                "Calls ended.",
                &["upstream", "api", "outcome"],
            )?,
            responses: make.counters(
                "understudy_responses_total",
                "Responses by the upstream that served and status class.",
                &["upstream", "class"],
            )?,
            rejected: make.counters(
                "understudy_rejected_total",
                "Requests refused before their head was accepted.",
                &["reason"],
            )?,
            kept: make.counter("understudy_kept_total", "Calls whose record is written to the spool.")?,
            dropped: make.counters("understudy_dropped_total", "Calls without a record.", &["reason"])?,
            duration: make.histograms(
                "understudy_call_duration_seconds",
                "Time to the upstream's last byte.",
                &CALL_SECONDS,
                &["upstream"],
            )?,
            first_chunk: make.histograms(
                "understudy_first_chunk_seconds",
                "Time to the first piece of the response body.",
                &CALL_SECONDS,
                &["upstream"],
            )?,
            overhead: make.histogram("understudy_overhead_seconds", "Own time of a call.", &OVERHEAD_SECONDS)?,
            capture_wait: make.histogram(
                "understudy_capture_wait_seconds",
                "Time that a call waited for its record to be written.",
                &OVERHEAD_SECONDS,
            )?,
            request_bytes: make.counters("understudy_request_bytes_total", "Request body bytes.", &["upstream"])?,
            response_bytes: make.counters("understudy_response_bytes_total", "Response body bytes.", &["upstream"])?,
            spool_slow: make.gauge("understudy_spool_slow", "1 while calls do not wait for the spool.")?,
            spool_failing: make.gauge(
                "understudy_spool_failing",
                "1 while the last write to the spool failed, and calls are not kept.",
            )?,
            spool_bytes: make.gauge("understudy_spool_bytes", "Bytes of all spool segments.")?,
            synced: make.counter(
                "understudy_synced_total",
                "Kept calls whose record survives power loss.",
            )?,
            sync_errors: make.counter("understudy_spool_sync_errors_total", "Fsyncs of the spool that failed.")?,
            evicted: make.counters(
                "understudy_evicted_total",
                "Records lost after they were kept.",
                &["reason"],
            )?,
            split_calls: make.counters(
                "understudy_split_calls_total",
                "Calls by route and arm of their split.",
                &["route", "arm"],
            )?,
            split_weight: make.share_gauges(
                "understudy_split_weight",
                "Weights in force, as shares.",
                &["route", "arm"],
            )?,
            guard_trips: make.counters(
                "understudy_guard_trips_total",
                "Candidates taken out by the guard of this process.",
                &["route", "candidate", "metric"],
            )?,
            guard_tripped: make.gauges(
                "understudy_guard_tripped",
                "Trips of the guard in force.",
                &["route", "candidate"],
            )?,
            not_canaried: make.counters(
                "understudy_not_canaried_total",
                "Calls of a split route that stayed with the baseline.",
                &["route", "reason"],
            )?,
            fallbacks: make.counters(
                "understudy_fallbacks_total",
                "Calls that the baseline answered in a candidate's place.",
                &["route", "candidate", "reason"],
            )?,
            held: make.histograms(
                "understudy_held_seconds",
                "Time for which a candidate's streamed answer was held.",
                &CALL_SECONDS,
                &["route", "candidate"],
            )?,
            reloads: make.counters("understudy_config_reloads_total", "Reloads of the config.", &["result"])?,
            reload_failed: make.gauge(
                "understudy_config_reload_failed",
                "1 while the config on disk is wrong, and an older one in force.",
            )?,
            certificate_failed: make.gauge(
                "understudy_certificate_reload_failed",
                "1 while the certificate on disk is wrong, and an older one in force.",
            )?,
            config_info: make.gauges("understudy_config_info", "Hash of the config in force.", &["hash"])?,
            unknown_task_routes: make.gauge(
                "understudy_unknown_task_routes",
                "Routes that name a task that the task book does not have.",
            )?,
            taskbook_version: make.share_gauge("understudy_taskbook_version", "Version of the task book in force.")?,
            taskbook_age: make.share_gauge(
                "understudy_taskbook_age_seconds",
                "Time since the store last said which task book is the newest.",
            )?,
        })
    }
}

struct Make<'a> {
    registry: &'a Registry,
}

impl Make<'_> {
    fn add<C: prometheus::core::Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn share_gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.add(Gauge::new(name, help)?)
    }

    fn share_gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<prometheus::GaugeVec, prometheus::Error> {
        self.add(prometheus::GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram, prometheus::Error> {
        self.add(Histogram::with_opts(
            HistogramOpts::new(name, help).buckets(bounds.to_vec()),
        )?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        bounds: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        self.add(HistogramVec::new(
            HistogramOpts::new(name, help).buckets(bounds.to_vec()),
            labels,
        )?)
    }
}

/// The status class of a code, as a label: `2xx`, …, or `none`.
pub fn status_class(status: Option<u16>) -> &'static str {
    match status.map(|status| status / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        _ => "none",
    }
}
