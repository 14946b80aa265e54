//! The language that a text is in, as far as its script and its commonest words tell.
//!
//! Coarse on purpose: unsure is `None`, and short texts always are.

/// Fewest letters that tell a script.
const MIN_LETTERS: usize = 40;
/// Share of the letters that one script must have.
const SCRIPT_SHARE: f64 = 0.6;
/// Fewest common words that tell a language, and how many times those of the next one.
const MIN_WORDS: usize = 5;
const TIMES_NEXT: usize = 2;
/// Characters of a text that are looked at.
const MAX_CHARS: usize = 20_000;

/// Words that are common in one language and are not words of the others here.
const COMMON: [(&str, &[&str]); 7] = [
    (
        "English",
        &[
            "the", "and", "of", "to", "is", "are", "you", "with", "that", "for", "this", "have", "your", "it", "was",
            "from", "not", "be",
        ],
    ),
    (
        "German",
        &[
            "der", "und", "ist", "nicht", "sie", "das", "ein", "eine", "mit", "auf", "für", "den", "dem", "ich", "wir",
            "auch", "werden", "zu",
        ],
    ),
    (
        "French",
        &[
            "les", "et", "est", "vous", "pour", "dans", "une", "des", "pas", "nous", "avec", "sur", "votre", "ce",
            "cette", "qui", "aux",
        ],
    ),
    (
        "Spanish",
        &[
            "el", "los", "las", "y", "está", "para", "por", "usted", "su", "con", "una", "del", "pero", "muy", "es",
            "lo",
        ],
    ),
    (
        "Italian",
        &[
            "il", "gli", "che", "è", "di", "per", "sono", "della", "non", "una", "con", "questo", "nel", "più", "anche",
        ],
    ),
    (
        "Portuguese",
        &[
            "os", "não", "você", "para", "uma", "com", "seu", "são", "está", "em", "ao", "mas", "isso", "também", "do",
            "da",
        ],
    ),
    (
        "Dutch",
        &[
            "het", "een", "van", "niet", "zijn", "voor", "met", "dat", "wij", "ook", "naar", "maar", "wordt", "deze",
            "je", "en",
        ],
    ),
];

/// The language of a text, or its script where that tells no more; `None` where unsure.
pub fn language(text: &str) -> Option<&'static str> {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    let mut letters = 0;
    for script in text.chars().take(MAX_CHARS).filter(|c| c.is_alphabetic()).map(script) {
        letters += 1;
        match counts.iter_mut().find(|(known, _)| *known == script) {
            Some((_, count)) => *count += 1,
            None => counts.push((script, 1)),
        }
    }
    // A character of Chinese or Japanese says as much as several letters.
    let is_dense = |script: &str| matches!(script, "Han" | "Japanese" | "Korean");
    // Japanese is written with Han among its own.
    let japanese = counts
        .iter()
        .any(|(script, count)| *script == "Japanese" && count * 10 >= letters);
    let (script, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let enough = if is_dense(script) { MIN_LETTERS / 4 } else { MIN_LETTERS };
    if letters < enough || (count as f64) < SCRIPT_SHARE * letters as f64 && !japanese {
        return None;
    }
    match script {
        "Latin" => by_words(text),
        "Han" if japanese => Some("Japanese"),
        other => Some(other),
    }
}

fn by_words(text: &str) -> Option<&'static str> {
    let mut counts = [0usize; COMMON.len()];
    let limited = text.char_indices().nth(MAX_CHARS).map_or(text, |(end, _)| &text[..end]);
    for word in limited
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
    {
        let word = word.to_lowercase();
        for (count, (_, words)) in counts.iter_mut().zip(COMMON) {
            *count += usize::from(words.contains(&word.as_str()));
        }
    }
    let (best, most) = counts.iter().enumerate().max_by_key(|(_, count)| **count)?;
    let next = counts
        .iter()
        .enumerate()
        .filter(|(place, _)| *place != best)
        .map(|(_, count)| *count)
        .max()?;
    (*most >= MIN_WORDS && *most >= TIMES_NEXT * next).then_some(COMMON[best].0)
}

fn script(c: char) -> &'static str {
    match u32::from(c) {
        0x41..=0x24f | 0x1e00..=0x1eff => "Latin",
        0x370..=0x3ff => "Greek",
        0x400..=0x52f => "Cyrillic",
        0x590..=0x5ff => "Hebrew",
        0x600..=0x6ff | 0x750..=0x77f => "Arabic",
        0x900..=0x97f => "Devanagari",
        0xe00..=0xe7f => "Thai",
        0x3040..=0x30ff => "Japanese",
        0x3400..=0x9fff | 0xf900..=0xfaff => "Han",
        0xac00..=0xd7af | 0x1100..=0x11ff => "Korean",
        _ => "another script",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_common_words_tell_languages() {
        let cases = [
            (
                "The report was sent to the client, and you have a copy of it with the notes.",
                Some("English"),
            ),
            (
                "Der Bericht ist an den Kunden gesendet, und Sie werden auch eine Kopie mit den Notizen bekommen.",
                Some("German"),
            ),
            (
                "Le rapport est envoyé et vous avez une copie avec les notes pour votre dossier dans la boîte.",
                Some("French"),
            ),
            (
                "Отчёт был отправлен клиенту вчера вечером, копия у вас.",
                Some("Cyrillic"),
            ),
            ("报告昨天已经发送给客户了，您有一份副本。", Some("Han")),
            (
                "レポートは昨日お客様に送られました。コピーがあります。",
                Some("Japanese"),
            ),
            ("too short", None),
            (
                "SELECT name, total FROM invoices WHERE total > 100 ORDER BY name LIMIT 10",
                None,
            ),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(language(text), expected, "{text}");
        }
    }
}
