//! Keys that are given as one text, in a variable or a file: `name=…`, 64 hexadecimal digits each, with blanks, commas or
//! line ends between them. Older generations are `name.<id>=…`. What is wrong is said without a word of it: it is secret.

use anyhow::{Result, bail};
use std::collections::BTreeMap;
use understudy_call::keys::{Key, unhex};

/// The keys in `text`, by name; `place` is where it comes from.
pub(super) fn parse(text: &str, place: &str) -> Result<BTreeMap<String, Key>> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let parts = lines.flat_map(|line| line.split([' ', '\t', ',', ';', '\r']));
    let mut keys = BTreeMap::new();
    for (at, part) in parts.filter(|part| !part.is_empty()).enumerate() {
        let given = part.split_once('=').filter(|(name, _)| !name.is_empty());
        let Some((name, bytes)) = given.and_then(|(name, digits)| Some((name, unhex(digits)?))) else {
            bail!(
                "{place}: entry {} is no key: it must be `name=…` with 64 hexadecimal digits",
                at + 1
            );
        };
        if keys.insert(name.to_owned(), Key::new(bytes)).is_some() {
            bail!("{place}: {name} is given twice");
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_lines_and_from_one_line_and_errors_tell_no_secret() {
        let (one, other) = ("a1".repeat(32), "b2".repeat(32));
        let lines = format!("# of the cluster\nspool={one}\n\norigin.01234567={other}\r\n");
        let line = format!("spool={one}, origin.01234567={other};");
        for text in [lines, line] {
            let keys = parse(&text, "the variable K").unwrap();
            assert_eq!(keys.len(), 2);
            assert_eq!(keys["spool"], Key::new([0xa1; 32]));
            assert_eq!(keys["origin.01234567"], Key::new([0xb2; 32]));
        }
        let short = &one[1..];
        for text in [
            one.clone(),
            format!("spool={short}"),
            format!("={one}"),
            format!("x spool={one}"),
        ] {
            let error = parse(&text, "the variable K").unwrap_err().to_string();
            assert!(error.starts_with("the variable K: entry 1 is no key"), "{error}");
            assert!(!error.contains(short), "{error}");
        }
        let twice = format!("spool={one} spool={other}");
        assert!(
            parse(&twice, "k.txt")
                .unwrap_err()
                .to_string()
                .contains("spool is given twice")
        );
        assert!(parse("", "k.txt").unwrap().is_empty());
    }
}
