//! A set of numbers as ranges: `1-5,9`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A set of numbers; small where they lie together. Written as `1-5,9`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// First to last of each range, inclusive; ranges neither touch nor overlap.
    ranges: BTreeMap<u64, u64>,
}

impl Numbers {
    /// All numbers from `first` to `last`, inclusive; none where `last` is smaller.
    pub fn range(first: u64, last: u64) -> Numbers {
        let mut numbers = Numbers::default();
        numbers.insert_range(first, last);
        numbers
    }

    /// Adds a number.
    pub fn insert(&mut self, number: u64) {
        self.insert_range(number, number);
    }

    /// Adds all numbers from `first` to `last`, inclusive.
    pub fn insert_range(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        let (mut first, mut last) = (first, last);
        // What overlaps or touches is merged: there are few such, as ranges lie apart.
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            first = first.min(start);
            last = last.max(end);
            self.ranges.remove(&start);
        }
        self.ranges.insert(first, last);
    }

    /// Takes a number out.
    pub fn remove(&mut self, number: u64) {
        let Some((&start, &end)) = self.ranges.range(..=number).next_back() else {
            return;
        };
        if end < number {
            return;
        }
        self.ranges.remove(&start);
        if start < number {
            self.ranges.insert(start, number - 1);
        }
        if number < end {
            self.ranges.insert(number + 1, end);
        }
    }

    /// Adds all numbers of another set.
    pub fn extend(&mut self, other: &Numbers) {
        other.ranges().for_each(|(first, last)| self.insert_range(first, last));
    }

    /// Whether it holds a number.
    pub fn contains(&self, number: u64) -> bool {
        self.ranges
            .range(..=number)
            .next_back()
            .is_some_and(|(_, last)| number <= *last)
    }

    /// How many numbers it holds.
    pub fn len(&self) -> u64 {
        self.ranges()
            .map(|(first, last)| (last - first).saturating_add(1))
            .fold(0, u64::saturating_add)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest number.
    pub fn first(&self) -> Option<u64> {
        self.ranges.first_key_value().map(|(first, _)| *first)
    }

    /// The highest number.
    pub fn last(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, last)| *last)
    }

    /// First and last of each range, inclusive, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }

    /// How many ranges it takes.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The numbers from `first` to `last` that it does not hold.
    pub fn missing(&self, first: u64, last: u64) -> Numbers {
        let mut missing = Numbers::default();
        let mut next = first;
        for (start, end) in self.ranges() {
            if start > last {
                break;
            }
            if start > next {
                missing.ranges.insert(next, start - 1);
            }
            next = next.max(end.saturating_add(1));
        }
        if next <= last {
            missing.ranges.insert(next, last);
        }
        missing
    }
}

impl FromIterator<u64> for Numbers {
    fn from_iter<T: IntoIterator<Item = u64>>(numbers: T) -> Numbers {
        let mut set = Numbers::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(formatter, "{comma}{first}")?;
            } else {
                write!(formatter, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// Not a set of numbers.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no set of numbers like 1-5,9")]
pub struct NumbersError(String);

impl FromStr for Numbers {
    type Err = NumbersError;

    fn from_str(text: &str) -> Result<Numbers, NumbersError> {
        let mut numbers = Numbers::default();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            match (first.parse(), last.parse()) {
                (Ok(first), Ok(last)) => numbers.insert_range(first, last),
                _ => return Err(NumbersError(range.to_owned())),
            }
        }
        Ok(numbers)
    }
}

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Numbers, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_that_touch_are_one() {
        let numbers: Numbers = [5, 1, 3, 2, 9, u64::MAX].into_iter().collect();
        assert_eq!(numbers.to_string(), format!("1-3,5,9,{}", u64::MAX));
        assert_eq!((numbers.len(), numbers.last()), (6, Some(u64::MAX)));
        assert_eq!(Numbers::range(3, 2), Numbers::default());
        assert_eq!(Numbers::range(2, 4).missing(1, 6).to_string(), "1,5-6");
    }

    #[test]
    fn what_is_no_set_is_an_error() {
        for text in ["x", "1-", "-1", "1-2-3"] {
            assert!(text.parse::<Numbers>().is_err(), "{text}");
        }
        assert!("".parse::<Numbers>().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((0u64..60, 0u64..8, any::<bool>()), 0..60)) {
            let (mut numbers, mut model) = (Numbers::default(), BTreeSet::new());
            for (first, more, add) in steps {
                if add {
                    numbers.insert_range(first, first + more);
                    model.extend(first..=first + more);
                } else {
                    numbers.remove(first);
                    model.remove(&first);
                }
            }
            prop_assert_eq!(numbers.len(), model.len() as u64);
            prop_assert!((0..70).all(|number| numbers.contains(number) == model.contains(&number)));
            let missing = numbers.missing(5, 50);
            prop_assert!((0..70).all(|n| missing.contains(n) == ((5..=50).contains(&n) && !model.contains(&n))));
            prop_assert_eq!(numbers.to_string().parse::<Numbers>().unwrap(), numbers);
        }
    }
}
