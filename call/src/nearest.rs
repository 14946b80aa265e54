//! What somebody may have meant by a word that is none of those known: for errors that say what to do.

/// The known word that is nearest to another; `None` where none is near.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| {
            (
                !word.starts_with(unknown),
                strsim::damerau_levenshtein(unknown, word),
                word,
            )
        })
        .min()
        .filter(|(is_other, distance, word)| !is_other || *distance <= word.len().max(unknown.len()).div_ceil(2))
        .map(|(_, _, word)| word)
}

/// A reader's words on text that it can't read, without where it was and with the expected key nearest to an unknown one:
/// made from "unknown field `x`, expected one of `a`, `b`, `c` at line 5, column 1".
pub fn explained(message: &str) -> String {
    let mut words = message.split(" at line ").next().unwrap_or(message).to_owned();
    if let Some(suggestion) = nearest_key(message) {
        words.push_str(&format!(" (did you mean `{suggestion}`?)"));
    }
    words
}

fn nearest_key(message: &str) -> Option<&str> {
    let (unknown, rest) = message.split_once("unknown field `")?.1.split_once('`')?;
    let known = rest.split_once("expected ")?.1.trim_start_matches("one of ");
    let known = known.split_once(" at line ").map_or(known, |(keys, _)| keys);
    let keys = known.split(", ").flat_map(|keys| keys.split(" or "));
    nearest(unknown, keys.map(|key| key.trim_matches('`')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_brings_the_nearest_known_one_or_none() {
        assert_eq!(nearest("licens", ["context", "licence"]), Some("licence"));
        assert_eq!(nearest("qwertyuiop", ["context", "licence"]), None);
        let words = explained("unknown field `contxt`, expected one of `name`, `context` at line 5, column 1");
        assert!(
            words.ends_with("`name`, `context` (did you mean `context`?)"),
            "{words}"
        );
    }
}
