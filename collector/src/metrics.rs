//! The collector's metrics: one struct, registered once, passed in. Labels are bounded.

use prometheus::{Counter, CounterVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use understudy_call::record::CallRecord;

/// The most tasks that have a label of their own.
const MAX_TASKS: usize = 500;

/// Why storing fails: what the store said, or that the spool, the journal beside it or a table failed.
pub const REASONS: [&str; 11] = [
    "unavailable",
    "timeout",
    "denied",
    "not_found",
    "exists",
    "invalid",
    "unsupported",
    "spool",
    "journal",
    "table",
    "erase",
];

/// Why a live call that a shadow drew was not sent: its lane is full, it can't be asked again, the day's calls or money
/// are spent; or why its score was given up: the store stayed out of reach.
pub const SKIPPED: [&str; 5] = ["busy", "not_replayable", "budget_calls", "budget_usd", "store"];

/// What the cold path counts. `kept + recovered = stored + waiting + evicted`.
#[derive(Clone)]
pub struct Metrics {
    /// Records in objects.
    pub stored: IntCounter,
    /// Records in the spool that are not in an object yet.
    pub waiting: IntGauge,
    /// Records that were in the spool at the start: `kept + recovered = stored + waiting + evicted`.
    pub recovered: IntGauge,
    /// Records lost after they were kept, by reason.
    pub evicted: IntCounterVec,
    /// Seconds that the oldest waiting record has waited.
    pub lag: prometheus::Gauge,
    /// Bytes of the spool that are not in an object yet.
    pub waiting_bytes: IntGauge,
    /// Tries to store that failed, by reason: one of [`REASONS`].
    pub store_errors: IntCounterVec,
    /// Objects written.
    pub objects: IntCounter,
    /// Tokens by upstream and direction.
    pub tokens: IntCounterVec,
    /// US dollars by upstream, where the price is known.
    pub cost: CounterVec,
    /// Values masked, by kind.
    pub masked: IntCounterVec,
    /// Calls by task.
    pub task_calls: IntCounterVec,
    /// 1 for each task whose calls are no longer what they were when it was fitted.
    pub task_drifted: IntGaugeVec,
    /// Calls of shadows by the upstream asked and how they ended.
    pub shadow_calls: IntCounterVec,
    /// US dollars that they cost, by upstream, where the price is known.
    pub shadow_cost: CounterVec,
    /// Live calls in the sample of a shadow that were not sent, by reason: one of [`SKIPPED`].
    pub shadow_skipped: IntCounterVec,
    /// Answers of shadows that a judge was to look at, by judge and what came of it: `better`, `as_good` or `worse` than the
    /// recorded one, `unread` (an error, a silence, or no word that can be read), or not asked: `busy`, `budget`.
    pub shadow_judged: IntCounterVec,
    /// How far the judge is to be believed, by judge and what is counted: `decided` and of them for the `first_place`;
    /// `inconsistent` pairs; `exact` scores, and those that it agrees with (`exact_agreed`).
    pub shadow_judge_checks: IntCounterVec,
    tasks_seen: std::sync::Arc<std::sync::Mutex<std::collections::BTreeSet<String>>>,
}

impl Metrics {
    /// Makes and registers all of them. A proxy in the same process has registered `evicted`: it is shared.
    ///
    /// # Errors
    /// Where one of the names is taken in this registry.
    pub fn register(registry: &Registry, evicted: Option<IntCounterVec>) -> Result<Metrics, prometheus::Error> {
        fn add<C: prometheus::core::Collector + Clone + 'static>(
            registry: &Registry,
            collector: Result<C, prometheus::Error>,
        ) -> Result<C, prometheus::Error> {
            let collector = collector?;
            registry.register(Box::new(collector.clone()))?;
            Ok(collector)
        }
        let counters = |name, help, labels: &[&str]| add(registry, IntCounterVec::new(Opts::new(name, help), labels));
        Ok(Metrics {
            stored: add(
                registry,
                IntCounter::new("understudy_stored_total", "Records in objects."),
            )?,
            waiting: add(
                registry,
                IntGauge::new(
                    "understudy_waiting",
                    "Records in the spool that are not in an object yet.",
                ),
            )?,
            recovered: add(
                registry,
                IntGauge::new(
                    "understudy_recovered",
                    "Records that were in the spool when this process started.",
                ),
            )?,
            evicted: match evicted {
                Some(shared) => shared,
                None => counters(
                    "understudy_evicted_total",
                    "Records lost after they were kept.",
                    &["reason"],
                )?,
            },
            lag: add(
                registry,
                prometheus::Gauge::new(
                    "understudy_ingest_lag_seconds",
                    "Time that the oldest waiting record has waited.",
                ),
            )?,
            waiting_bytes: add(
                registry,
                IntGauge::new(
                    "understudy_waiting_bytes",
                    "Bytes of the spool that are not in an object yet.",
                ),
            )?,
            store_errors: {
                let help = "Tries to store that failed, by reason.";
                let errors = counters("understudy_store_errors_total", help, &["reason"])?;
                // There from the start, so that an increase is seen at the first.
                for reason in REASONS {
                    errors.with_label_values(&[reason]);
                }
                errors
            },
            objects: add(
                registry,
                IntCounter::new("understudy_store_objects_total", "Objects written."),
            )?,
            tokens: counters(
                "understudy_tokens_total",
                "Tokens of kept calls.",
                &["upstream", "direction"],
            )?,
            cost: add(
                registry,
                CounterVec::new(
                    Opts::new(
                        "understudy_cost_usd_total",
                        "Cost of kept calls in US dollars, where known.",
                    ),
                    &["upstream"],
                ),
            )?,
            masked: counters("understudy_masked_total", "Values masked.", &["kind"])?,
            task_calls: counters("understudy_task_calls_total", "Kept calls by task.", &["task"])?,
            task_drifted: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "understudy_task_drifted",
                        "1 for each task whose prompts, tools or answers changed since the fit.",
                    ),
                    &["task"],
                ),
            )?,
            shadow_calls: counters(
                "understudy_shadow_calls_total",
                "Calls of shadows, by the upstream asked and how they ended.",
                &["candidate", "outcome"],
            )?,
            shadow_cost: add(
                registry,
                CounterVec::new(
                    Opts::new(
                        "understudy_shadow_cost_usd_total",
                        "Cost of shadows in US dollars, where known.",
                    ),
                    &["candidate"],
                ),
            )?,
            shadow_skipped: {
                let help = "Live calls in a shadow's sample that were not sent, by reason.";
                let skipped = counters("understudy_shadow_skipped_total", help, &["reason"])?;
                for reason in SKIPPED {
                    skipped.with_label_values(&[reason]);
                }
                skipped
            },
            shadow_judged: counters(
                "understudy_shadow_judged_total",
                "Answers of shadows that a judge was to look at, by what came of it.",
                &["judge", "said"],
            )?,
            shadow_judge_checks: counters(
                "understudy_shadow_judge_checks_total",
                "How far the judge of shadows is to be believed: decisions, for the first place, inconsistent, exact scores, agreed.",
                &["judge", "check"],
            )?,
            tasks_seen: std::sync::Arc::default(),
        })
    }

    /// Counts what a stored record tells.
    pub fn count(&self, record: &CallRecord) {
        let upstream = record
            .arm
            .as_deref()
            .or(record.upstream.as_deref())
            .unwrap_or("unknown");
        let tokens = [("input", record.input_tokens), ("output", record.output_tokens)];
        for (direction, count) in tokens {
            if let Some(count) = count.and_then(|count| u64::try_from(count).ok()) {
                self.tokens.with_label_values(&[upstream, direction]).inc_by(count);
            }
        }
        if let Some(cost) = record.cost_usd.filter(|cost| cost.is_finite() && *cost >= 0.0) {
            let counter: Counter = self.cost.with_label_values(&[upstream]);
            counter.inc_by(cost);
        }
        for masked in &record.masked {
            self.masked
                .with_label_values(&[&masked.kind])
                .inc_by(u64::try_from(masked.count).unwrap_or(0));
        }
        let task = record.task_id.as_deref().unwrap_or("other");
        let label = self.label_of(task);
        self.task_calls.with_label_values(&[label]).inc();
        // There from the task's first call on, so that "has not drifted" can be told from "is not watched".
        let _ = self.task_drifted.with_label_values(&[label]);
    }

    /// A task was seen to have drifted; `task_drifted` is reset with the next task book.
    pub fn count_drift(&self, task: &str) {
        self.task_drifted.with_label_values(&[self.label_of(task)]).set(1);
    }

    /// The task, as long as there are not too many of them.
    fn label_of<'a>(&self, task: &'a str) -> &'a str {
        let mut seen = self
            .tasks_seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let label = if seen.contains(task) || seen.len() < MAX_TASKS {
            task
        } else {
            "more"
        };
        if !seen.contains(label) {
            seen.insert(label.to_owned());
        }
        label
    }
}
