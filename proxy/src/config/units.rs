//! The units that people write in config: durations, byte sizes, percentages.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;
use std::time::Duration;

/// `20ms`, `60s`, `10m`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// `500`, `64KiB`, `8MiB`, `4GiB` (also `KB`, `MB`, `GB`, of 1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// `100%`, `2.5%`; from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Percent(pub(super) f64);

/// `1.2x`: so many times another; at least 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times(pub(super) f64);

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

impl Span {
    pub(super) fn parse(text: &str) -> Option<Span> {
        let (number, unit) = number_and_unit(text)?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        Duration::try_from_secs_f64(number * seconds).ok().map(Span)
    }
}

impl Size {
    pub(super) fn parse(text: &str) -> Option<Size> {
        let (number, unit) = number_and_unit(text)?;
        let bytes = match unit {
            "" | "B" => 1.0,
            "KB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "KiB" => 1024.0,
            "MiB" => 1048576.0,
            "GiB" => 1073741824.0,
            _ => return None,
        };
        Some(Size((number * bytes) as u64))
    }
}

impl Percent {
    fn parse(text: &str) -> Option<Percent> {
        match number_and_unit(text)? {
            (number, "%") if number <= 100.0 => Some(Percent(number)),
            _ => None,
        }
    }
}

impl Times {
    fn parse(text: &str) -> Option<Times> {
        match number_and_unit(text)? {
            (number, "x") if number >= 1.0 => Some(Times(number)),
            _ => None,
        }
    }
}

struct UnitVisitor<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::custom(format!("`{text}` is not {}", self.expected)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! deserialize_unit {
    ($type:ident, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                deserializer.deserialize_any(UnitVisitor {
                    expected: $expected,
                    parse: $type::parse,
                })
            }
        }
    };
}

deserialize_unit!(Span, "a duration such as 20ms, 60s, 10m, 2h or 7d");
deserialize_unit!(Size, "a size such as 500, 64KiB, 8MiB or 4GiB");
deserialize_unit!(Percent, "a percentage such as 5% or 100%");
deserialize_unit!(Times, "a factor of 1x or more, such as 1.2x");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        assert_eq!(Span::parse("20ms"), Some(Span(Duration::from_millis(20))));
        assert_eq!(Span::parse("7d"), Some(Span(Duration::from_secs(604_800))));
        assert_eq!(Size::parse("8MiB"), Some(Size(8 << 20)));
        assert_eq!(Size::parse("500"), Some(Size(500)));
        assert_eq!(Percent::parse("2.5%"), Some(Percent(2.5)));
        assert_eq!(Times::parse("1.2x"), Some(Times(1.2)));
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        assert_eq!(Span::parse("20"), None);
        assert_eq!(Span::parse("ms"), None);
        assert_eq!(Size::parse("8 parsecs"), None);
        assert_eq!(Percent::parse("101%"), None);
        assert_eq!(Percent::parse("5"), None);
        assert_eq!((Times::parse("0.5x"), Times::parse("1.2")), (None, None));
    }
}
