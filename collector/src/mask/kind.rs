//! The words of the mask: kinds, spans and counts.
//!
//! Holds no value that was found, only where it was and how often.

use understudy_call::record::MaskedCount;

/// What a masked value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Name of a person.
    Person,
    /// E-mail address.
    Email,
    /// Telephone number.
    Phone,
    /// Payment card number.
    CreditCard,
    /// International bank account number.
    Iban,
    /// Social security number of the United States.
    UsSsn,
    /// IPv4 or IPv6 address.
    IpAddress,
    /// Credential: key, token, password, private key.
    Secret,
    /// Street address.
    StreetAddress,
    /// Date of birth.
    DateOfBirth,
    /// Medical record number.
    Mrn,
    /// An entry of an operator's dictionary that has no narrower kind.
    Dictionary,
    /// What an operator's pattern found, where its name tells nothing narrower.
    Pattern,
}

impl Kind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Kind; 13] = [
        Kind::Person,
        Kind::Email,
        Kind::Phone,
        Kind::CreditCard,
        Kind::Iban,
        Kind::UsSsn,
        Kind::IpAddress,
        Kind::Secret,
        Kind::StreetAddress,
        Kind::DateOfBirth,
        Kind::Mrn,
        Kind::Dictionary,
        Kind::Pattern,
    ];

    /// The name in the `masked` column and in span output.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Person => "PERSON",
            Kind::Email => "EMAIL",
            Kind::Phone => "PHONE",
            Kind::CreditCard => "CREDIT_CARD",
            Kind::Iban => "IBAN",
            Kind::UsSsn => "US_SSN",
            Kind::IpAddress => "IP_ADDRESS",
            Kind::Secret => "SECRET",
            Kind::StreetAddress => "STREET_ADDRESS",
            Kind::DateOfBirth => "DATE_OF_BIRTH",
            Kind::Mrn => "MRN",
            Kind::Dictionary => "DICTIONARY",
            Kind::Pattern => "PATTERN",
        }
    }

    /// The kind of a name, if there is one.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Where a value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte (first code point, after [`spans_in_code_points`]).
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// What it is.
    pub kind: Kind,
}

/// The same spans, counted in Unicode code points instead of bytes. They must be sorted, as `Mask::find` gives them.
pub fn spans_in_code_points(text: &str, spans: &[Span]) -> Vec<Span> {
    let mut byte = 0;
    let mut point = 0;
    let mut advance = |to: usize| {
        point += text.get(byte..to).map_or(0, |part| part.chars().count());
        byte = to;
        point
    };
    spans
        .iter()
        .map(|span| Span {
            start: advance(span.start),
            end: advance(span.end),
            kind: span.kind,
        })
        .collect()
}

/// How many values of each kind were replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts([u32; Kind::ALL.len()]);

impl Counts {
    /// Counts one more value.
    pub fn add(&mut self, kind: Kind) {
        let count = &mut self.0[kind as usize];
        *count = count.saturating_add(1);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Counts) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// How many values of a kind.
    pub fn get(&self, kind: Kind) -> u32 {
        self.0[kind as usize]
    }

    /// How many values in all.
    pub fn total(&self) -> u64 {
        self.0.iter().copied().map(u64::from).sum()
    }

    /// The `masked` column: kinds that were found, in the order of [`Kind::ALL`].
    pub fn into_vec(self) -> Vec<MaskedCount> {
        Kind::ALL
            .into_iter()
            .zip(self.0)
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| MaskedCount {
                kind: kind.as_str().to_owned(),
                count: i32::try_from(count).unwrap_or(i32::MAX),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_back_from_their_names() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(Kind::from_name(kind.as_str()), Some(kind));
            assert_eq!(kind as usize, place);
        }
        assert_eq!(Kind::from_name("email"), None);
    }

    #[test]
    fn counts_become_rows_without_zeros() {
        let mut counts = Counts::default();
        counts.add(Kind::Secret);
        counts.add(Kind::Email);
        counts.add(Kind::Secret);
        let mut twice = counts.clone();
        twice.merge(&counts);
        assert_eq!(twice.total(), 6);
        let rows: Vec<_> = counts.into_vec().into_iter().map(|row| (row.kind, row.count)).collect();
        assert_eq!(rows, [("EMAIL".to_owned(), 1), ("SECRET".to_owned(), 2)]);
    }

    #[test]
    fn code_points_are_counted_not_bytes() {
        let text = "é@x 🙂 é";
        let spans = [
            Span {
                start: 0,
                end: 4,
                kind: Kind::Email,
            },
            Span {
                start: text.len() - 2,
                end: text.len(),
                kind: Kind::Person,
            },
        ];
        let points = spans_in_code_points(text, &spans);
        assert_eq!((points[0].start, points[0].end), (0, 3));
        assert_eq!((points[1].start, points[1].end), (6, 7));
    }
}
