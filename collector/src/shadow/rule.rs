//! Which live calls are shadowed, by whom, and for how much.

use crate::replay::{Arm, Judge, lot};
use understudy_call::record::CallRecord;

/// Changes which calls are drawn against those that replays draw.
const SEED: u64 = 0x7368_6164_6f77;

/// A rule of `shadow`.
#[derive(Clone)]
pub struct Rule {
    /// What it takes.
    pub matching: RuleMatch,
    /// Who is asked.
    pub to: Vec<Arm>,
    /// Share of the calls, 0 to 1: the same calls for all of `to`.
    pub sample: f64,
    /// Whether the text is sent as the client wrote it; else it is masked.
    pub raw: bool,
    /// What it may spend.
    pub budget: RuleBudget,
    /// Who compares the candidates' answers with the recorded ones, if anybody.
    pub judge: Option<RuleJudge>,
}

/// A judge of live answers: an upstream that is neither arm.
#[derive(Clone)]
pub struct RuleJudge {
    /// Who.
    pub judge: Judge,
    /// What it may spend; each answer takes two calls, one in each order.
    pub budget: RuleBudget,
}

/// What a rule takes; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleMatch {
    /// Task id, `*` for any.
    pub task: Option<String>,
    /// Model asked for, `*` for any run of characters.
    pub model: Option<String>,
    /// The route's name.
    pub route: Option<String>,
    /// The upstream addressed.
    pub upstream: Option<String>,
}

/// What a rule may spend a day (UTC), on all of its upstreams together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RuleBudget {
    /// Calls sent.
    pub calls_per_day: u64,
    /// US dollars, as far as prices are known.
    pub usd_per_day: Option<f64>,
    /// Calls in flight at each upstream.
    pub concurrency: usize,
}

impl RuleMatch {
    pub(super) fn takes(&self, record: &CallRecord, task: &str) -> bool {
        let equals = |wanted: &Option<String>, given: &Option<String>| wanted.is_none() || wanted == given;
        self.task.as_ref().is_none_or(|wanted| wanted == "*" || wanted == task)
            && self
                .model
                .as_ref()
                .is_none_or(|wanted| glob(wanted, record.request_model.as_deref().unwrap_or_default()))
            && equals(&self.route, &record.route)
            && equals(&self.upstream, &record.upstream)
    }
}

/// `*` stands for any run of characters. The text is a client's and may be long: no recursion, no trying of all ways.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

impl Rule {
    /// Whether a call is in the sample: by its id alone, so that all upstreams get the same calls.
    pub(super) fn draws(&self, call_id: &str) -> bool {
        is_drawn(SEED, call_id, self.sample)
    }

    /// What its judge is, for telling rules apart.
    pub(super) fn judge_key(&self) -> Option<(&str, &str, RuleBudget)> {
        let judge = self.judge.as_ref()?;
        Some((judge.judge.name(), judge.judge.model(), judge.budget))
    }

    /// The name of its purse: what is spent stays spent where sample or budget change.
    pub(super) fn purse(&self) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let matching = &self.matching;
        let to: Vec<&str> = self.to.iter().map(Arm::name).collect();
        format!(
            "task={} model={} route={} upstream={} to={}",
            part(&matching.task),
            part(&matching.model),
            part(&matching.route),
            part(&matching.upstream),
            to.join(",")
        )
    }
}

/// Whether a call is in a share of all.
pub(super) fn is_drawn(seed: u64, call_id: &str, share: f64) -> bool {
    let lot = lot(seed, call_id);
    let place = u64::from_le_bytes([lot[0], lot[1], lot[2], lot[3], lot[4], lot[5], lot[6], lot[7]]);
    (place as f64) < share * u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_match_gives_must_hold() {
        let record = CallRecord {
            request_model: Some("gpt-4o-mini".into()),
            upstream: Some("openai".into()),
            ..CallRecord::default()
        };
        let matching = |task: Option<&str>, model: Option<&str>, upstream: Option<&str>| RuleMatch {
            task: task.map(str::to_owned),
            model: model.map(str::to_owned),
            upstream: upstream.map(str::to_owned),
            route: None,
        };
        let takes = |matching: RuleMatch| matching.takes(&record, "mood-1");
        assert!(takes(RuleMatch::default()) && takes(matching(Some("*"), None, None)));
        assert!(takes(matching(Some("mood-1"), Some("gpt-*mini"), Some("openai"))));
        assert!(!takes(matching(Some("mood"), None, None)));
        assert!(!takes(matching(None, Some("gpt-4o"), None)));
        assert!(!takes(matching(None, None, Some("other"))));
    }

    #[test]
    fn a_star_is_any_run_of_characters() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("*b", "ab"),
            ("a*c*e", "abcde"),
            ("abc", "abc"),
            ("a**b", "ab"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("ab*ba", "aba"),
            ("a*c", "ab"),
            ("abc", "abcd"),
            ("*a*a*", "xax"),
        ] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
        assert!(!glob("a*a*a*b", &"a".repeat(1 << 20)));
    }

    #[test]
    fn the_sample_is_its_share_of_the_calls() {
        let rule = |sample| Rule {
            matching: RuleMatch::default(),
            to: Vec::new(),
            sample,
            raw: false,
            budget: RuleBudget {
                calls_per_day: 1,
                usd_per_day: None,
                concurrency: 1,
            },
            judge: None,
        };
        let drawn = |sample| {
            (0..20_000)
                .filter(|call| rule(sample).draws(&format!("call-{call}")))
                .count()
        };
        assert_eq!((drawn(0.0), drawn(1.0)), (0, 20_000));
        // Ten standard errors.
        assert!((drawn(0.05) as f64 - 1000.0).abs() < 310.0, "{}", drawn(0.05));
    }
}
