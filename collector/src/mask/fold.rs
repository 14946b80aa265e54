//! Words without case and accents, as the lexicon has them.

/// A folded word, up to a length that no known word reaches.
#[derive(Clone, Copy)]
pub(super) struct Folded {
    bytes: [u8; Folded::BYTES],
    count: usize,
}

impl Folded {
    const BYTES: usize = 24;

    pub(super) fn new(word: &str) -> Folded {
        let mut folded = Folded {
            bytes: [0; Folded::BYTES],
            count: 0,
        };
        for letter in word.chars().take(Folded::BYTES) {
            fold(letter, |byte| {
                if let Some(place) = folded.bytes.get_mut(folded.count) {
                    *place = byte;
                    folded.count += 1;
                }
            });
        }
        folded
    }

    /// The word; empty where its letters beyond Latin were cut.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.count]).unwrap_or_default()
    }
}

/// Gives the bytes of a letter without case and accent.
pub(super) fn fold(letter: char, mut give: impl FnMut(u8)) {
    if letter.is_ascii() {
        return give(letter.to_ascii_lowercase() as u8);
    }
    if is_combining(letter) {
        return;
    }
    if let Some(plain) = plain_letters(letter) {
        return plain.bytes().for_each(give);
    }
    let mut bytes = [0; 4];
    for lower in letter.to_lowercase() {
        lower.encode_utf8(&mut bytes).bytes().for_each(&mut give);
    }
}

fn is_combining(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}')
}

/// Latin letters with accents, in the order of Unicode, and what they are without.
fn plain_letters(letter: char) -> Option<&'static str> {
    Some(match letter {
        'À'..='Å' | 'à'..='å' | 'Ā'..='ą' | 'Ǎ' | 'ǎ' | 'Ạ'..='ặ' => "a",
        'Æ' | 'æ' => "ae",
        'Ç' | 'ç' | 'Ć'..='č' => "c",
        'Ď'..='đ' | 'Ð' | 'ð' => "d",
        'È'..='Ë' | 'è'..='ë' | 'Ē'..='ě' | 'Ẹ'..='ệ' => "e",
        'Ĝ'..='ģ' | 'Ǧ' | 'ǧ' => "g",
        'Ĥ'..='ħ' => "h",
        'Ì'..='Ï' | 'ì'..='ï' | 'Ĩ'..='ı' | 'Ỉ'..='ị' => "i",
        'Ĵ' | 'ĵ' => "j",
        'Ķ' | 'ķ' => "k",
        'Ĺ'..='ł' => "l",
        'Ñ' | 'ñ' | 'Ń'..='ŉ' => "n",
        'Ò'..='Ö' | 'Ø' | 'ò'..='ö' | 'ø' | 'Ō'..='ő' | 'Ơ' | 'ơ' | 'Ọ'..='ợ' => "o",
        'Œ' | 'œ' => "oe",
        'Ŕ'..='ř' => "r",
        'Ś'..='š' | 'Ș' | 'ș' => "s",
        'ß' | 'ẞ' => "ss",
        'Ţ'..='ŧ' | 'Ț' | 'ț' => "t",
        'Þ' | 'þ' => "th",
        'Ù'..='Ü' | 'ù'..='ü' | 'Ũ'..='ų' | 'Ư' | 'ư' | 'Ụ'..='ự' => "u",
        'Ŵ' | 'ŵ' => "w",
        'Ý' | 'ý' | 'ÿ' | 'Ŷ'..='Ÿ' | 'Ỳ'..='ỹ' => "y",
        'Ź'..='ž' => "z",
        _ => return None,
    })
}
