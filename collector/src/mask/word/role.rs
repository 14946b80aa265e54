//! Which rules a word may be of use to, told once for all of them as the page is cut.
//!
//! Each rule then looks only at its own words, and most words of most texts are nobody's. What is told here may be too
//! much and never too little: the rule itself looks again.

use super::{Gap, Shape, Word};
use crate::mask::lexicon::Flags;
use crate::mask::{person, street};

/// What may begin at a word; several at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Role(u8);

impl Role {
    pub(in super::super) const NONE: Role = Role(0);
    /// A name.
    pub(in super::super) const PERSON: Role = Role(1);
    /// The cue of a date of birth.
    pub(in super::super) const BIRTH: Role = Role(2);
    /// The cue of a record number, or one by itself.
    pub(in super::super) const RECORD: Role = Role(4);
    /// A part of an address.
    pub(in super::super) const STREET: Role = Role(8);
    /// It has digits.
    pub(in super::super) const DIGITS: Role = Role(16);

    /// Whether any of `other` holds.
    pub(in super::super) const fn any(self, other: Role) -> bool {
        self.0 & other.0 != 0
    }

    const fn when(self, holds: bool) -> u8 {
        if holds { self.0 } else { 0 }
    }
}

const RECORD: Flags = Flags::RECORD.or(Flags::RECORD_OF);
const NAME: Flags = person::NAME.or(Flags::PARTICLE);
const NO_NAME: Flags = person::OTHER.or(Flags::TITLE);
/// What makes a word in lower case more than a word.
const TELLING: Flags = NAME.or(Flags::BIRTH).or(RECORD).or(street::ANY_KIND);

/// What may begin at a word, from it and the one after it.
#[inline]
pub(super) fn of(word: &Word, next: Option<&Word>, bytes: &[u8]) -> Role {
    let flags = word.flags;
    let next_flags = next.map_or(Flags::NONE, |next| next.flags);
    if word.shape == Shape::Lower && !flags.any(TELLING) {
        // An unknown word before a known name.
        return Role(Role::PERSON.when(next_flags.any(person::NAME)));
    }
    let shape = word.shape;
    let first = bytes[word.start as usize];
    let is_before_number = next.is_some_and(|next| next.has_digits);
    let is_before_name = next.is_some_and(|next| next.gap == Gap::Space && next.shape == Shape::Title);
    let may_be_person = match shape {
        Shape::Lower => flags.any(NAME) || next_flags.any(person::NAME),
        Shape::Title | Shape::Upper => flags.any(person::NAME) || !flags.any(NO_NAME),
        Shape::Initial => true,
        Shape::Number | Shape::Code => false,
    };
    let may_be_street = flags.any(street::ANY_KIND)
        || match shape {
            Shape::Title => is_before_number,
            Shape::Number | Shape::Code => is_before_name,
            Shape::Upper => word.end - word.start <= 3,
            Shape::Initial => true,
            Shape::Lower => false,
        };
    let is_prefixed_record = shape == Shape::Code && first == b'M';
    Role(
        Role::PERSON.when(may_be_person)
            | Role::BIRTH.when(flags.any(Flags::BIRTH) || (shape == Shape::Initial && first == b'D'))
            | Role::RECORD.when(flags.any(RECORD) || is_prefixed_record)
            | Role::STREET.when(may_be_street)
            | Role::DIGITS.when(word.has_digits),
    )
}
