//! What a call cost with all its attempts, for the guard: as rows say it later, and for a self-hosted upstream its machine's
//! time, as if it had worked on nothing else. Never guesses: what is not known of one attempt is not known of the call.

use understudy_call::call::{Response, Usage};
use understudy_call::frame::FrameHead;
use understudy_call::price::PriceTable;
use understudy_call::record::{Attempt, Outcome};
use understudy_client::UpstreamConfig;

/// What a call's cost is reckoned from, beside its answer.
#[derive(Clone, Debug)]
pub(crate) struct Bill {
    served: Attempt,
    lost: Vec<Attempt>,
    baseline: String,
    request_model: Option<String>,
    response_model: Option<String>,
    header_usage: Usage,
}

impl Bill {
    /// Of a call that was answered; a failure costs nothing, and says nothing of what answers cost.
    pub(crate) fn of(head: &FrameHead) -> Option<Bill> {
        let (served, lost): (Vec<Attempt>, Vec<Attempt>) = head.attempts.iter().cloned().partition(|one| one.served);
        let is_answered = |one: &Attempt| one.outcome == Outcome::Ok && one.status.is_some_and(|status| status < 400);
        Some(Bill {
            served: served.into_iter().find(is_answered)?,
            lost,
            baseline: head.upstream.clone(),
            request_model: head.request_model.clone(),
            response_model: head.response_model.clone(),
            header_usage: head.header_usage.unwrap_or_default(),
        })
    }

    /// US dollars.
    pub(crate) fn cost<'a>(
        &self,
        answer: &Response,
        prices: &PriceTable,
        upstream: &dyn Fn(&str) -> Option<&'a UpstreamConfig>,
    ) -> Option<f64> {
        let by_machine = |attempt: &Attempt| {
            let hour = upstream(&attempt.upstream)?.price?.gpu_hour;
            Some(hour / 3600.0 * attempt.duration_ms? / 1000.0)
        };
        let by_tokens = || {
            // A candidate's answer carries the name that its client asked for.
            let of_baseline = self.served.upstream == self.baseline;
            let told = answer.model.as_deref().filter(|_| of_baseline);
            let asked = self.request_model.as_deref().filter(|_| of_baseline);
            let configured = upstream(&self.served.upstream).and_then(|config| config.model.as_deref());
            let models = [self.response_model.as_deref(), told, configured, asked];
            let price = models.into_iter().flatten().find_map(|model| prices.lookup(model))?;
            price.cost(&answer.usage.or(self.header_usage))
        };
        let of_lost = |attempt: &Attempt| {
            // Without an answer, or with an error status, it is not billed; but a machine was busy.
            let is_free = attempt.status.is_none_or(|status| status >= 400);
            by_machine(attempt).or(attempt.cost_usd).or(is_free.then_some(0.0))
        };
        let lost: Option<f64> = self.lost.iter().map(of_lost).sum();
        Some(lost? + by_machine(&self.served).or_else(by_tokens)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_client::SelfHosted;
    use url::Url;

    fn attempt(upstream: &str, served: bool, cost_usd: Option<f64>) -> Attempt {
        Attempt {
            upstream: upstream.into(),
            status: Some(200),
            outcome: Outcome::Ok,
            duration_ms: Some(3600.0),
            served,
            cost_usd,
            ..Attempt::default()
        }
    }

    fn cost(attempts: &[Attempt], machine: Option<f64>, model: &str) -> Option<f64> {
        let prices = r#"{"models": [{"model": "big-1", "input": 1e-3, "output": 2e-3}, {"model": "small-1", "input": 1e-5, "output": 1e-5}]}"#;
        let prices = PriceTable::builtin().with_file(prices).unwrap();
        let mut small = UpstreamConfig::new("small", Url::parse("http://s").unwrap());
        small.model = Some(model.into());
        small.price = machine.map(|gpu_hour| SelfHosted { gpu_hour });
        let head = FrameHead {
            upstream: "big".into(),
            request_model: Some("big-1".into()),
            attempts: attempts.to_vec(),
            ..FrameHead::default()
        };
        let answer = Response {
            model: Some("big-1".into()),
            usage: Usage {
                input: Some(10),
                output: Some(5),
                ..Usage::default()
            },
            ..Response::default()
        };
        Bill::of(&head)?.cost(&answer, &prices, &|name| (name == "small").then_some(&small))
    }

    #[test]
    fn all_attempts_count_and_what_is_not_known_makes_nothing_up() {
        let near = |cost: Option<f64>, expected: f64| cost.is_some_and(|cost| (cost - expected).abs() < 1e-9);
        let baseline = attempt("big", true, None);
        assert!(near(cost(std::slice::from_ref(&baseline), None, "small-1"), 0.02));
        let own = attempt("small", true, None);
        assert!(
            near(cost(std::slice::from_ref(&own), None, "small-1"), 0.000_15),
            "not by the name that its client asked for"
        );
        assert_eq!(cost(std::slice::from_ref(&own), None, "nobody-knows-it"), None);
        assert!(
            near(cost(&[own], Some(10.0), "nobody-knows-it"), 0.01),
            "3.6 s of an hour"
        );
        let both = |lost| cost(&[lost, baseline.clone()], None, "small-1");
        assert!(near(both(attempt("small", false, Some(0.5))), 0.52));
        assert_eq!(both(attempt("small", false, None)), None, "it was cancelled");
        let refused = Attempt {
            status: None,
            ..attempt("small", false, None)
        };
        assert!(near(both(refused), 0.02));
        let failed = Attempt {
            status: Some(503),
            ..baseline.clone()
        };
        assert_eq!(cost(&[failed], None, "small-1"), None, "an outage is not cheap");
    }
}
