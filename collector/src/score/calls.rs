//! Tool calls compared: names and arguments of all of them, in whatever order.

use super::fields::{self, FieldCounts};
use serde_json::Value;
use understudy_call::call::{Request, ToolCall};

/// Parallel calls that are matched; further ones count as differing.
const MATCHED_CALLS: usize = 64;

/// Counts over the calls of two answers: a call's name is a field, and so is each of its arguments. Calls are matched so
/// that the most is in common; calls of different tools have nothing in common. Extra and missing ones count alike.
pub(super) fn compare(request: &Request, recorded: &[ToolCall], answer: &[ToolCall]) -> FieldCounts {
    let recorded: Vec<Flat<'_>> = recorded.iter().map(|call| Flat::of(request, call)).collect();
    let answer: Vec<Flat<'_>> = answer.iter().map(|call| Flat::of(request, call)).collect();
    let fields = |calls: &[Flat<'_>]| calls.iter().map(Flat::size).sum();
    let weights: Vec<Vec<usize>> = recorded
        .iter()
        .take(MATCHED_CALLS)
        .map(|wanted| {
            answer
                .iter()
                .take(MATCHED_CALLS)
                .map(|given| wanted.common(given))
                .collect()
        })
        .collect();
    FieldCounts {
        recorded: fields(&recorded),
        answered: fields(&answer),
        common: best_matching(&weights),
    }
}

/// A call as it is compared.
struct Flat<'a> {
    name: &'a str,
    /// Its arguments; `None` where it has none.
    arguments: Option<Value>,
}

impl<'a> Flat<'a> {
    fn of(request: &Request, call: &'a ToolCall) -> Flat<'a> {
        let tool = request.tools.iter().find(|tool| tool.name == call.name);
        let schema = tool.map_or(&Value::Null, |tool| &tool.schema);
        let arguments = match serde_json::from_str::<Value>(&call.arguments) {
            Ok(value) => fields::normal(&value, schema),
            Err(_) => Value::String(call.arguments.clone()),
        };
        // A call without arguments is written in several ways.
        let is_empty = match &arguments {
            Value::Object(fields) => fields.is_empty(),
            Value::String(text) => text.trim().is_empty(),
            other => other.is_null(),
        };
        Flat {
            name: &call.name,
            arguments: (!is_empty).then_some(arguments),
        }
    }

    fn size(&self) -> usize {
        1 + self.arguments.as_ref().map_or(0, fields::size)
    }

    fn common(&self, other: &Flat<'_>) -> usize {
        if self.name != other.name {
            return 0;
        }
        let arguments = self.arguments.as_ref().zip(other.arguments.as_ref());
        1 + arguments.map_or(0, |(left, right)| fields::compare(left, right).common)
    }
}

/// The largest sum of weights of a matching of rows with columns: the Hungarian method with potentials (Kuhn 1955,
/// Munkres 1957), O(n³).
fn best_matching(weights: &[Vec<usize>]) -> usize {
    let size = weights.len().max(weights.first().map_or(0, Vec::len));
    // Costs to be made least; a missing row or column costs nothing.
    let cost = |row: usize, column: usize| -> i64 {
        let weight = weights.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0);
        -i64::try_from(weight).unwrap_or(i64::MAX / 4)
    };
    let (mut of_row, mut of_column) = (vec![0i64; size + 1], vec![0i64; size + 1]);
    // Rows and columns count from 1: 0 is none.
    let mut row_at = vec![0usize; size + 1];
    for row in 1..=size {
        row_at[0] = row;
        let mut column = 0;
        let (mut least, mut from, mut used) = (vec![i64::MAX; size + 1], vec![0; size + 1], vec![false; size + 1]);
        while row_at[column] != 0 {
            used[column] = true;
            let (at, mut step, mut next) = (row_at[column], i64::MAX, 0);
            for other in (1..=size).filter(|other| !used[*other]) {
                let reduced = cost(at - 1, other - 1) - of_row[at] - of_column[other];
                if reduced < least[other] {
                    (least[other], from[other]) = (reduced, column);
                }
                if least[other] < step {
                    (step, next) = (least[other], other);
                }
            }
            for other in 0..=size {
                if used[other] {
                    of_row[row_at[other]] += step;
                    of_column[other] -= step;
                } else {
                    least[other] = least[other].saturating_sub(step);
                }
            }
            column = next;
        }
        while column != 0 {
            let before = from[column];
            row_at[column] = row_at[before];
            column = before;
        }
    }
    let matched = (1..=size).map(|column| (row_at[column] - 1, column - 1));
    let sum: i64 = matched.map(|(row, column)| -cost(row, column)).sum();
    usize::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_matching_is_found_where_the_greedy_one_is_not() {
        assert_eq!(best_matching(&[vec![5, 4], vec![4, 0]]), 8);
        assert_eq!(best_matching(&[]), 0);
        assert_eq!(best_matching(&[vec![], vec![]]), 0);
        assert_eq!(best_matching(&[vec![1, 2, 3]]), 3);
        assert_eq!(best_matching(&[vec![1], vec![7], vec![2]]), 7);
    }

    /// Against trying every permutation.
    #[test]
    fn matchings_are_those_of_brute_force() {
        fn brute(weights: &[Vec<usize>], row: usize, used: &mut Vec<bool>) -> usize {
            if row == weights.len() {
                return 0;
            }
            let mut best = brute(weights, row + 1, used);
            for column in 0..used.len() {
                if !used[column] {
                    used[column] = true;
                    best = best.max(weights[row][column] + brute(weights, row + 1, used));
                    used[column] = false;
                }
            }
            best
        }
        let mut state = 7u64;
        for _ in 0..200 {
            let mut next = |below: u64| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                usize::try_from((state >> 33) % below).unwrap()
            };
            let (rows, columns) = (1 + next(5), 1 + next(5));
            let weights: Vec<Vec<usize>> = (0..rows).map(|_| (0..columns).map(|_| next(9)).collect()).collect();
            assert_eq!(
                best_matching(&weights),
                brute(&weights, 0, &mut vec![false; columns]),
                "{weights:?}"
            );
        }
    }
}
