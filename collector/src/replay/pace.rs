//! What a replay may spend: calls a second, calls, and money. Asked before every call that is sent, retries included.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a call waits for the first price to be known.
const FIRST_PRICE: Duration = Duration::from_millis(20);

/// The budget of a replay; the default has no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// Calls sent a second, at most.
    pub rate: Option<f64>,
    /// Calls sent, at most, to both arms, retries included.
    pub max_calls: Option<u64>,
    /// US dollars, at most.
    pub max_usd: Option<f64>,
}

/// A [`Budget`] being spent.
#[derive(Debug)]
pub(crate) struct Pace {
    budget: Budget,
    spent: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    next: Instant,
    calls: u64,
    in_flight: u64,
    answers: u64,
    usd: f64,
    carried_usd: f64,
    stopped: Option<&'static str>,
}

impl Pace {
    pub(crate) fn new(budget: Budget) -> Pace {
        Pace {
            budget,
            spent: Mutex::new(Spent {
                next: Instant::now(),
                calls: 0,
                in_flight: 0,
                answers: 0,
                usd: 0.0,
                carried_usd: 0.0,
                stopped: None,
            }),
        }
    }

    /// What was spent before: it counts, and tells nothing of what a call costs.
    pub(crate) fn carry(&self, calls: u64, usd: f64) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        (spent.calls, spent.carried_usd) = (spent.calls + calls, spent.carried_usd + usd);
    }

    /// Calls and US dollars so far, what was carried over included.
    pub(crate) fn spent(&self) -> (u64, f64) {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        (spent.calls, spent.carried_usd + spent.usd)
    }

    /// Waits until a call may be sent; false where none may be sent any more.
    pub(crate) async fn admit(&self) -> bool {
        loop {
            let now = Instant::now();
            let at = {
                let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
                match self.may_send(&mut spent) {
                    Some(true) => {
                        let at = spent.next.max(now);
                        let gap = self.budget.rate.map_or(0.0, |rate| 1.0 / rate);
                        spent.next = at + Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX / 4);
                        (spent.calls, spent.in_flight) = (spent.calls + 1, spent.in_flight + 1);
                        Some(at)
                    }
                    Some(false) => None,
                    None => return false,
                }
            };
            match at {
                Some(at) => {
                    tokio::time::sleep_until(at).await;
                    return true;
                }
                None => tokio::time::sleep(FIRST_PRICE).await,
            }
        }
    }

    /// Whether another call fits; `None` where none will, false where that is not known yet.
    fn may_send(&self, spent: &mut Spent) -> Option<bool> {
        if spent.stopped.is_none() && self.budget.max_calls.is_some_and(|most| spent.calls >= most) {
            spent.stopped = Some("--max-calls is reached");
        }
        if let (None, Some(most)) = (spent.stopped, self.budget.max_usd) {
            // One at a time until the first answer has told what an answer costs.
            if spent.answers == 0 && spent.in_flight > 0 {
                return Some(false);
            }
            let each = spent.usd / spent.answers.max(1) as f64;
            if spent.carried_usd + spent.usd + each * (spent.in_flight + 1) as f64 > most {
                spent.stopped = Some("--max-usd is reached");
            }
        }
        spent.stopped.is_none().then_some(true)
    }

    /// A try failed, and is made again.
    pub(crate) fn failed(&self) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.in_flight = spent.in_flight.saturating_sub(1);
    }

    /// An answer came, or none will; its cost where it is known.
    pub(crate) fn settle(&self, cost_usd: Option<f64>) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.in_flight = spent.in_flight.saturating_sub(1);
        spent.answers += 1;
        match cost_usd {
            Some(cost) => spent.usd += cost,
            None if self.budget.max_usd.is_some() => {
                spent.stopped =
                    Some("the price of its answers is not known, so --max-usd can't be kept: give `prices` or `price`");
            }
            None => {}
        }
    }

    /// Why no more is sent, if so.
    pub(crate) fn stopped(&self) -> Option<&'static str> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_and_money_end() {
        let pace = Pace::new(Budget {
            max_calls: Some(2),
            ..Budget::default()
        });
        assert!(pace.admit().await && pace.admit().await && !pace.admit().await);
        assert!(pace.stopped().unwrap().contains("--max-calls"));
        let pace = Pace::new(Budget {
            max_usd: Some(1.0),
            ..Budget::default()
        });
        for _ in 0..3 {
            assert!(pace.admit().await);
            pace.settle(Some(0.3));
        }
        assert!(!pace.admit().await, "a fourth would be past it");
        let unpriced = Pace::new(Budget {
            max_usd: Some(1.0),
            ..Budget::default()
        });
        assert!(unpriced.admit().await);
        unpriced.settle(None);
        assert!(!unpriced.admit().await && unpriced.stopped().unwrap().contains("not known"));
    }

    #[tokio::test]
    async fn calls_keep_their_distance() {
        let pace = Pace::new(Budget {
            rate: Some(200.0),
            ..Budget::default()
        });
        let started = Instant::now();
        for _ in 0..11 {
            assert!(pace.admit().await);
        }
        assert!(started.elapsed() >= Duration::from_millis(50));
    }
}
