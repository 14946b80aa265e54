//! Surrogates of dates of birth: the same form, in a year of the nineteenth century. Nobody living was born in it, so it
//! needs no seal.

use super::Surrogates;
use super::stream::Stream;
use crate::mask::date::{self, Date, Field};
use crate::mask::kind::Kind;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Letters of a short name.
const SHORT: usize = 3;

impl Surrogates {
    pub(super) fn birth(&self, value: &str) -> String {
        let mut stream = self.stream(Kind::DateOfBirth, value.to_lowercase().as_bytes());
        if is_compact(value) {
            return format!("{}{}{}", year(&mut stream), two(&mut stream, 12), two(&mut stream, 28));
        }
        let Some(date) = whole(value) else {
            return self.words(Kind::DateOfBirth, value);
        };
        let mut surrogate = String::new();
        let mut done = 0;
        for (field, bytes) in date.parts {
            surrogate += &value[done..bytes.start];
            let part = &value[bytes.clone()];
            surrogate += &match field {
                Field::Year => year(&mut stream),
                // Either may be the month.
                Field::DayOrMonth if part.len() == 1 => (1 + stream.below(9)).to_string(),
                Field::DayOrMonth => two(&mut stream, 12),
                Field::MonthName => month_like(part, &mut stream),
            };
            done = bytes.end;
        }
        surrogate + &value[done..]
    }

    pub(super) fn is_birth(value: &str) -> bool {
        let is_past = |year: &str| year.len() == 4 && year.starts_with("18");
        is_compact(value) && is_past(&value[..4])
            || whole(value).is_some_and(|date| {
                let mut years = date.parts.iter().filter(|(field, _)| *field == Field::Year);
                years.any(|(_, bytes)| is_past(&value[bytes.clone()]))
            })
    }
}

fn whole(value: &str) -> Option<Date> {
    date::read(value, 0).filter(|date| date.end() == value.len())
}

fn is_compact(value: &str) -> bool {
    value.len() == 8 && value.bytes().all(|byte| byte.is_ascii_digit())
}

fn year(stream: &mut Stream) -> String {
    (1800 + stream.below(100)).to_string()
}

/// Two digits, from 01 on.
fn two(stream: &mut Stream, most: u32) -> String {
    format!("{:02}", 1 + stream.below(most))
}

/// Another month where the name is English; else the same.
fn month_like(name: &str, stream: &mut Stream) -> String {
    let is_of = |month: &&str| name.eq_ignore_ascii_case(month) || name.eq_ignore_ascii_case(&month[..SHORT]);
    if !MONTHS.iter().any(is_of) {
        return name.to_owned();
    }
    let month = MONTHS[stream.below(12) as usize];
    let month = if name.len() == SHORT { &month[..SHORT] } else { month };
    match name.chars().nth(1) {
        Some(letter) if letter.is_uppercase() => month.to_uppercase(),
        _ if name.starts_with(char::is_lowercase) => month.to_lowercase(),
        _ => month.to_owned(),
    }
}
