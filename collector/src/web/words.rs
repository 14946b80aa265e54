//! Numbers as people read them. What is not known is `?`, never 0.

/// A whole number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 call`, `2 calls`.
pub(super) fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A number of calls or tokens in few letters: `1.2 M`.
pub(super) fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 9_995_000.0 => format!("{:.0} M", number / 1e6),
        size if size >= 999_500.0 => format!("{:.1} M", number / 1e6),
        size if size >= 9_995.0 => format!("{:.0} k", number / 1e3),
        size if size >= 999.5 => format!("{:.1} k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

/// A share in per cent.
pub(super) fn percent(share: Option<f64>) -> String {
    match share.map(|share| 100.0 * share) {
        None => "?".into(),
        Some(share) if share > 0.0 && share < 0.1 => "< 0.1 %".into(),
        Some(share) if share.fract().abs() < 0.05 || share >= 99.95 => format!("{share:.0} %"),
        Some(share) => format!("{share:.1} %"),
    }
}

/// US dollars.
pub(super) fn dollars(amount: Option<f64>) -> String {
    let Some(amount) = amount else {
        return "?".into();
    };
    let sign = if amount < 0.0 { "−" } else { "" };
    match amount.abs() {
        0.0 => "$0".into(),
        size if size < 0.000_05 => format!("{sign}< $0.0001"),
        size if size < 0.01 => format!("{sign}${size:.4}"),
        size if size < 100.0 => format!("{sign}${size:.2}"),
        size => format!("{sign}${}", count(size.round() as u64)),
    }
}

/// Milliseconds, as seconds where they are many.
pub(super) fn time(milliseconds: Option<f64>) -> String {
    match milliseconds {
        None => "?".into(),
        Some(0.0) => "0 ms".into(),
        Some(time) if time >= 9_950.0 => format!("{:.0} s", time / 1000.0),
        Some(time) if time >= 995.0 => format!("{:.1} s", time / 1000.0),
        Some(time) if time >= 9.95 => format!("{time:.0} ms"),
        Some(time) => format!("{time:.1} ms"),
    }
}

/// An agreement, or another number from 0 to 1.
pub(super) fn unit(value: Option<f64>) -> String {
    value.map_or_else(|| "?".into(), |value| format!("{value:.3}"))
}

/// A difference, with its sign.
pub(super) fn signed(value: Option<f64>) -> String {
    match value {
        None => "?".into(),
        Some(value) if value < 0.0 => format!("−{:.3}", -value),
        Some(value) => format!("+{value:.3}"),
    }
}

/// The first characters of a text.
pub(super) fn excerpt(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}…", text[..at].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_and_unknown_is_not_zero() {
        assert_eq!((count(0), count(1_234_567)), ("0".into(), "1,234,567".into()));
        assert_eq!(
            (counted(1, "call"), counted(2, "call")),
            ("1 call".into(), "2 calls".into())
        );
        assert_eq!(
            (short(950.0), short(1_234.0), short(1e6)),
            ("950".into(), "1.2 k".into(), "1.0 M".into())
        );
        assert_eq!(
            (percent(None), percent(Some(0.5)), percent(Some(0.0001))),
            ("?".into(), "50 %".into(), "< 0.1 %".into())
        );
        assert_eq!(
            (dollars(None), dollars(Some(-0.5)), dollars(Some(1234.6))),
            ("?".into(), "−$0.50".into(), "$1,235".into())
        );
        assert_eq!(
            (time(None), time(Some(42.0)), time(Some(1234.0))),
            ("?".into(), "42 ms".into(), "1.2 s".into())
        );
        assert_eq!(
            (signed(Some(-0.0504)), signed(Some(0.0))),
            ("−0.050".into(), "+0.000".into())
        );
        assert_eq!(excerpt("naïve text", 5), "naïve…");
    }
}
