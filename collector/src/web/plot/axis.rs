//! From values to places, with ticks at round numbers.

use maud::{Markup, html};

/// About so many ticks.
const TICKS: f64 = 5.0;

/// A scale: values from `low` to `high` lie between two places.
pub(super) struct Axis {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// From the least to the greatest value, widened to round numbers.
    pub(super) fn of(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::MAX, f64::MIN), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low < high {
            (low, high)
        } else {
            (low.min(0.0) - 0.5, high.max(0.0) + 0.5)
        };
        let step = round_step((high - low) / TICKS);
        Axis {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            step,
            from,
            to,
        }
    }

    /// Between exactly these.
    pub(super) fn between(low: f64, high: f64, from: f64, to: f64) -> Axis {
        let step = round_step((high - low) / TICKS);
        Axis {
            low,
            high,
            step,
            from,
            to,
        }
    }

    /// The place of a value; one beyond the ends lies at the end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        let first = (self.low / self.step).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        let step = self.step;
        (first..=last).map(move |tick| tick as f64 * step)
    }

    /// As an axis below, with lines up to `top`.
    pub(super) fn below(&self, bottom: f64, top: f64, words: impl Fn(f64) -> String) -> Markup {
        html! {
            @for tick in self.ticks() {
                @let x = format!("{:.1}", self.at(tick));
                line.grid.zero[tick == 0.0] x1=(x) x2=(x) y1=(top) y2=(bottom) {}
                text.tick x=(x) y=(bottom + 18.0) text-anchor="middle" { (words(tick)) }
            }
        }
    }

    /// As an axis at the left, with lines up to `right`.
    pub(super) fn beside(&self, left: f64, right: f64, words: impl Fn(f64) -> String) -> Markup {
        html! {
            @for tick in self.ticks() {
                @let y = self.at(tick);
                line.grid.zero[tick == 0.0] x1=(left) x2=(right) y1=(format!("{y:.1}")) y2=(format!("{y:.1}")) {}
                text.tick x=(left - 8.0) y=(format!("{:.1}", y + 4.0)) text-anchor="end" { (words(tick)) }
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, near `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        let axis = Axis::of([-0.13, 0.04].into_iter(), 0.0, 100.0);
        let ticks: Vec<String> = axis.ticks().map(|tick| format!("{tick:.2}")).collect();
        assert_eq!(ticks, ["-0.15", "-0.10", "-0.05", "0.00", "0.05"]);
        assert!(axis.at(-0.13) > 0.0 && axis.at(0.04) < 100.0);
        assert_eq!((axis.at(-9.0), axis.at(9.0)), (0.0, 100.0));
    }

    #[test]
    fn equal_values_and_odd_ones_have_an_axis_too() {
        for values in [
            vec![],
            vec![0.0],
            vec![7.0, 7.0],
            vec![f64::NAN, f64::INFINITY],
            vec![1e-12, 2e-12],
        ] {
            let axis = Axis::of(values.into_iter(), 0.0, 100.0);
            let ticks = axis.ticks().count();
            assert!(ticks > 0 && ticks < 30, "{ticks}");
            assert!(axis.at(0.0).is_finite());
        }
    }
}
