//! What was masked once does not change when it is masked again.

use super::super::*;
use super::{json, mask, masked};
use proptest::prelude::*;

fn other_mask() -> Mask {
    Mask::new(&MaskConfig::default(), &[9; 32]).unwrap()
}

/// Values of every kind, in many forms, made of what the dice say. Quotes are closed: what follows an open one is a value, and
/// a label that stands in a value is gone when it is masked.
fn value() -> impl Strategy<Value = String> {
    let names = "(Anna|José|Catalina|MARCO|Wei|Priya|Oluwaseun) (Lee|van der Berg|O'Neill|Kowalski|García Márquez)";
    prop_oneof![
        names,
        "(Dr\\.|Mr|Frau|Mme) (Weber|Dubois|Kovács)",
        "[a-z]{2,9}[._]?[a-z0-9]{1,8}@[a-z]{3,9}\\.(com|org|co\\.uk)",
        "\\+(33 6|44 20|49 30|91 98|1 506|351 91|86 13)[0-9] [0-9]{3} [0-9]{4}",
        "\\(?[2-9][0-9]{2}\\)?[- ][2-9][0-9]{2}-[0-9]{4}( x[0-9]{3})?",
        "0[1-9]{2}[0-9] [0-9]{3} [0-9]{4}",
        "4[0-9]{3} [0-9]{4} [0-9]{4} [0-9]{4}",
        "4111111111111111|5555-5555-5555-4444|378282246310005",
        "(DE89370400440532013000|GB29 NWBK 6016 1331 9268 19|FR1420041010050500013M02606)",
        "SSN:? [1-5][0-9]{2}-[1-9][1-9]-[1-9]{4}",
        "ssn=[1-5][0-9]{2}[1-9]{6}",
        "(1[0-9]{2}\\.2[0-4][0-9]\\.[0-9]{1,2}\\.[1-9][0-9]?|2001:db9::[1-9a-f]{1,4}:[0-9]{2}|fe80::[1-9a-f]{4}:[a-f0-9]{4})",
        "(DOB|born on|date of birth): (19[4-9][0-9]-0[1-9]-1[0-9]|0[1-9]/1[0-9]/[5-9][0-9]|[1-9] (March|Mai|agosto) 19[4-9][0-9])",
        "MRN:? ?[0-9]{6,9}",
        "(lives at|ship to|address:) [1-9][0-9]{1,3} (Elm|Oak Grove|King) (Street|Avenue|Road), (Springfield|Leeds)",
        "Lindenstraße [1-9][0-9]?, [1-9][0-9]{4} Berlin",
        "(password|api_key|client_secret)[:=] ?([A-Za-z0-9]{7,12}[0-9][A-Za-z]{4,20}|\"[A-Za-z0-9]{7,12}[0-9][A-Za-z]{4,20}\")",
        "(ghp_[A-Za-z0-9]{36}|AKIA[A-Z2-7]{16}|sk-proj-[A-Za-z0-9_-]{48})",
        "eyJ[A-Za-z0-9]{30}\\.eyJ[A-Za-z0-9]{40}\\.[A-Za-z0-9_-]{43}",
        "postgres://app:[a-z]{4}[0-9]{3}[A-Z]@db\\.internal/x",
        "Authorization: Bearer [A-Za-z0-9]{40}",
    ]
}

/// A text with some of them, and words, labels and ids around them. Numbers do not go over into one another.
fn text() -> impl Strategy<Value = String> {
    let around = prop_oneof![
        3 => value(),
        1 => "(Dear|Hi|Regards,\n|customer|Patient:|phone|call me at|from|and|with|, |\\. |; |\n| - |#W[0-9]{7}|Jordan shoes|order [0-9]{9})",
        1 => "[ -~]{0,12}",
    ];
    prop::collection::vec(around, 1..7).prop_map(|parts| parts.join("; "))
}

#[test]
fn masked_text_stays_on_the_labelled_set() {
    let Some(rows) = super::labelled::rows() else { return };
    let changed: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let once = masked(&row.text);
            let twice = masked(&once);
            (once != twice).then(|| format!("{}\n{once}\n{twice}", row.text))
        })
        .collect();
    assert!(
        changed.is_empty(),
        "{} of {}\n{}",
        changed.len(),
        rows.len(),
        changed[..changed.len().min(12)].join("\n\n")
    );
}

#[test]
fn a_letter_of_a_secret_is_no_cue_for_a_number_after_it() {
    // The surrogate of the first, under the key of these tests, has a `Ph` in it; the other has one itself.
    for text in [
        "password=1Zvjmqm7oiORLxyMtSXSPKTZAN; +1 5060 000 0000",
        "password=9FrlmzlbhPhABEUTRQSJ; +1 5060 000 0000",
    ] {
        let once = masked(text);
        assert!(once.ends_with("; +1 5060 000 0000"), "{once}");
        assert_eq!(masked(&once), once);
    }
}

#[test]
fn a_value_that_holds_what_looks_like_a_surrogate_is_masked() {
    let phone = masked("+33 6 12 34 51 83");
    assert_eq!(masked(&phone), phone);
    for text in [
        format!("password=\"ab {phone} 9\""),
        format!("password: \"{phone}-x1\""),
    ] {
        let once = masked(&text);
        assert!(!once.contains(&phone), "{once}");
        assert_eq!(masked(&once), once);
    }
}

#[test]
fn off_the_wire_nothing_is_a_surrogate() {
    let config = MaskConfig {
        off_the_wire: true,
        ..MaskConfig::default()
    };
    let wire = Mask::new(&config, &[7; 32]).unwrap();
    let on_wire = |text: &str| wire.text(text, &mut Counts::default()).into_owned();
    for text in [
        "+33 6 12 34 51 83",
        "ann@acme.org",
        "my name is Anna Kowalski",
        "4111 1111 1111 1111",
    ] {
        assert_eq!(on_wire(text), masked(text));
        assert_ne!(on_wire(&masked(text)), masked(text), "{text}");
    }
    // Some real numbers have the seal of a surrogate by chance.
    let chance = (0..100_000_u32)
        .map(|number| format!("MRN: {:07}", 1_000_000 + number))
        .find(|text| masked(text) == *text)
        .expect("one in about a thousand");
    assert_ne!(on_wire(&chance), chance);
}

#[test]
fn another_key_knows_no_surrogate_of_ours() {
    let once = masked("mail ann@acme.org, card 4111 1111 1111 1111, +33 6 12 34 51 83; my name is Anna Kowalski");
    let other = other_mask();
    assert!(other.find(&once).len() >= 4, "{once}");
    assert!(mask().find(&once).is_empty(), "{once}");
}

#[test]
fn labels_and_gaps_stay_as_they_are() {
    for (style, expected) in [
        (
            SurrogateStyle::Label,
            "Dear [PERSON], write to [EMAIL], password: [SECRET]",
        ),
        (SurrogateStyle::Remove, "Dear , write to , password: "),
    ] {
        let config = MaskConfig {
            surrogates: style,
            ..MaskConfig::default()
        };
        let mask = Mask::new(&config, &[7; 32]).unwrap();
        let text = |text: &str| mask.text(text, &mut Counts::default()).into_owned();
        let once = text("Dear Anna Kowalski, write to ann@acme.org, password: hunter2x");
        assert_eq!(once, expected);
        assert_eq!(text(&once), once);
        let number = mask
            .json("{\"card\":4111111111111111}", &mut Counts::default())
            .unwrap();
        assert_eq!(number, "{\"card\":0}");
    }
}

#[test]
fn clients_have_surrogates_of_their_own_which_stay_too() {
    let config = MaskConfig {
        scope: SurrogateScope::Client,
        ..MaskConfig::default()
    };
    let mask = Mask::new(&config, &[7; 32]).unwrap();
    let of_client = |client: Option<&str>, text: &str| {
        let draft = mask.draft_of_text(text);
        let known = mask.known(&Values::of_drafts([&draft]));
        mask.pen(client).finish(draft, &known, &mut Counts::default()).text
    };
    let source = "my name is Anna Kowalski, ann@acme.org";
    let (one, two) = (of_client(Some("one"), source), of_client(Some("two"), source));
    assert_ne!(one, two);
    assert_eq!(of_client(Some("one"), source), one);
    assert_eq!(of_client(Some("two"), &one), one);
    assert_eq!(of_client(None, source), masked(source));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn masked_text_stays(text in text()) {
        let once = masked(&text);
        prop_assert_eq!(masked(&once), once);
    }

    #[test]
    fn masked_json_stays(text in text(), value in value(), key in "[a-zA-Z_]{1,12}") {
        let source = serde_json::json!({"messages": [{"content": text}], key: value, "arguments": serde_json::json!({"v": value}).to_string()});
        let once = json(&source.to_string());
        prop_assert_eq!(json(&once), once);
    }

    #[test]
    fn a_tool_argument_that_repeats_a_value_still_equals_it(text in text(), value in value()) {
        // The value stands in prose, in an argument, and in what the tool gave back.
        let body = serde_json::json!({"messages": [
            {"role": "user", "content": format!("{text}\n{value}")},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": serde_json::json!({"v": value}).to_string()}}]},
            {"role": "tool", "content": serde_json::json!([{"v": value}]).to_string()},
        ]});
        let parsed: serde_json::Value = serde_json::from_str(&json(&body.to_string())).unwrap();
        let nested = |value: &serde_json::Value| -> serde_json::Value { serde_json::from_str(value.as_str().unwrap()).unwrap() };
        let argument = nested(&parsed["messages"][1]["tool_calls"][0]["function"]["arguments"])["v"].clone();
        let result = nested(&parsed["messages"][2]["content"])[0]["v"].clone();
        prop_assert_eq!(&argument, &result);
    }
}
