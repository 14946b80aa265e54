//! The mask as its callers see it.

mod labelled;
mod twice;

use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

fn mask() -> &'static Mask {
    static MASK: LazyLock<Mask> = LazyLock::new(|| Mask::new(&MaskConfig::default(), &[7; 32]).unwrap());
    &MASK
}

fn json(text: &str) -> String {
    mask().json(text, &mut Counts::default()).unwrap().into_owned()
}

fn masked(text: &str) -> String {
    mask().text(text, &mut Counts::default()).into_owned()
}

#[test]
fn the_mask_is_shared_by_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Mask>();
}

#[test]
fn a_repeated_address_gets_one_surrogate_in_prose_and_arguments() {
    let arguments = serde_json::json!({"email": "Ann@example.org", "user": 7}).to_string();
    let body = serde_json::json!({"messages": [
        {"role": "user", "content": "I am ann@example.org, help"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": arguments}}]},
        {"role": "tool", "content": "[{\"contact\":\"ann@example.org\"}]"},
    ]});
    let mut counts = Counts::default();
    let text = mask().json(&body.to_string(), &mut counts).unwrap().into_owned();
    assert_eq!(counts.get(Kind::Email), 3);
    assert!(!text.to_lowercase().contains("ann@"));
    let surrogate = masked("ann@example.org");
    assert_eq!(text.matches(&surrogate).count(), 3, "{text}");
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let arguments = parsed["messages"][1]["tool_calls"][0]["function"]["arguments"]
        .as_str()
        .unwrap();
    let arguments: serde_json::Value = serde_json::from_str(arguments).unwrap();
    assert_eq!(arguments, serde_json::json!({"email": surrogate, "user": 7}));
}

#[test]
fn a_value_found_by_its_context_is_replaced_where_it_recurs_bare() {
    let text = json(
        r#"{"phone": "5062336690", "log": "dialled 5062336690 twice", "password": "hunter2x", "line": "su hunter2x"}"#,
    );
    assert!(!text.contains("5062336690") && !text.contains("hunter2x"), "{text}");
    let text = masked("my password is hunter2x, so type hunter2x");
    assert!(!text.contains("hunter2x"), "{text}");
    assert_eq!(mask().find("my password is hunter2x, so type hunter2x").len(), 2);
}

#[test]
fn escaped_values_are_seen_through_and_other_bytes_stay() {
    let source = r#"{ "a" :"\u0061nn\u0040example.org\u000a", "é":"\ud83d\ude42 \/ \ud800" , "n":1.50 }"#;
    let text = json(source);
    let surrogate = masked("ann@example.org");
    assert_eq!(text, source.replace(r"\u0061nn\u0040example.org", &surrogate));
}

#[test]
fn json_inside_json_is_masked_at_every_level() {
    let mut text = r#"{"to":"ann@example.org"}"#.to_owned();
    for _ in 0..6 {
        text = serde_json::json!({"arguments": text}).to_string();
        let mut inner: serde_json::Value = serde_json::from_str(&json(&text)).unwrap();
        while let Some(deeper) = inner["arguments"].as_str() {
            inner = serde_json::from_str(deeper).unwrap();
        }
        assert_eq!(inner["to"], masked("ann@example.org"));
    }
}

#[test]
fn sensitive_numbers_stay_numbers() {
    let text = json(
        r#"{"card":4111111111111111,"phone":5062336690,"ssn":[123456789],"id":5062336690123,"ts":1719382210,"x":0.4111111111111111}"#,
    );
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, value) in [("card", 4_111_111_111_111_111_u64), ("phone", 5_062_336_690)] {
        let number = parsed[key].as_u64().unwrap();
        assert!(
            number != value && number.to_string().len() == value.to_string().len(),
            "{text}"
        );
    }
    assert_ne!(parsed["ssn"][0], 123_456_789);
    assert!(text.ends_with(r#""id":5062336690123,"ts":1719382210,"x":0.4111111111111111}"#));
}

#[test]
fn keys_are_masked_too() {
    assert!(!json(r#"{"ann@example.org":{"ann@example.org":1}}"#).contains("ann@"));
}

#[test]
fn bodies_fall_back_to_text() {
    let mask = mask();
    let mut counts = Counts::default();
    let body = mask.body(b"{\"to\":\"ann@example.org\"", &mut counts);
    assert!(body.parse_error && !body.text.contains("ann@") && counts.get(Kind::Email) == 1);
    let body = mask.body(b"\xff ann@example.org", &mut counts);
    assert!(body.parse_error && body.text.starts_with("\u{fffd} ") && !body.text.contains("ann@"));
    assert!(!mask.body(b"{\"to\":\"ann@example.org\"}", &mut counts).parse_error);
    assert_eq!(
        mask.body(b"", &mut counts),
        MaskedBody {
            text: String::new(),
            parse_error: false
        }
    );
    assert_eq!(counts.into_vec().len(), 1);
}

#[test]
fn deep_json_takes_no_stack() {
    let deep = "[".repeat(100_000) + "\"ann@example.org\"" + &"]".repeat(100_000);
    assert!(!json(&deep).contains("ann@"));
    let deep = "{\"a\":".repeat(100_000);
    assert!(mask().body(deep.as_bytes(), &mut Counts::default()).parse_error);
}

#[test]
fn rules_can_be_off_and_dictionaries_on() {
    let dictionary = Dictionary {
        name: "names".to_owned(),
        kind: Kind::Person,
        entries: vec!["Ann Lee".to_owned()],
        ignore_case: true,
    };
    let config = MaskConfig {
        rules: Rules::None,
        dictionaries: vec![dictionary],
        ..MaskConfig::default()
    };
    let mask = Mask::new(&config, &[7; 32]).unwrap();
    let mut counts = Counts::default();
    let text = mask
        .json(r#"{"a":"ann lee <ann@example.org>"}"#, &mut counts)
        .unwrap()
        .into_owned();
    assert!(text.contains("ann@example.org") && !text.contains("ann lee"));
    assert_eq!((counts.get(Kind::Person), counts.total()), (1, 1));
}

/// Any JSON, with sensitive values and escapes in it more often than by chance.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof![
        any::<String>(),
        "[ -~]{0,40}",
        Just("mail ann@example.org or +33 6 12 34 51 83".to_owned()),
        Just("{\"card\":4111111111111111,\"k\":\"a\\u0040b.org\"}".to_owned()),
    ];
    let leaf = prop_oneof![
        text.prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::from(4_111_111_111_111_111_u64)),
        any::<f64>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-z_@.]{0,12}", inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn json_stays_json(value in any_json(), pretty in any::<bool>()) {
        let source = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let mask = mask();
        let mut counts = Counts::default();
        let text = mask.json(&source, &mut counts).unwrap();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        prop_assert_eq!(counts.total() == 0, matches!(text, Cow::Borrowed(_)));
        prop_assert!(!text.contains("ann@example.org"));
    }

    #[test]
    fn json_is_taken_exactly_where_serde_json_takes_it(text in "[\\[\\]{}:,\"\\\\u0-9a-e. -]{0,24}") {
        let ours = mask().json(&text, &mut Counts::default()).is_ok();
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    #[test]
    fn nothing_panics(text in any::<String>(), dense in "[0-9+(). :/@\\\\\"a-fn%é世-]{0,200}") {
        let mask = mask();
        for text in [&text, &dense] {
            let spans = mask.find(text);
            prop_assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
            let points = spans_in_code_points(text, &spans);
            prop_assert_eq!(points.len(), spans.len());
            mask.body(text.as_bytes(), &mut Counts::default());
        }
    }

    #[test]
    fn nothing_panics_on_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
        mask().body(&body, &mut Counts::default());
    }
}
