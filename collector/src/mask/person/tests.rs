use super::*;
use crate::mask::lexicon::Lexicon;
use proptest::prelude::*;

fn found<'t>(text: &'t str, label: &str) -> Vec<&'t str> {
    let mut hits = Vec::new();
    find(&Page::new(text, Lexicon::shared()), label, &mut hits);
    hits.iter().map(|hit| &text[hit.start..hit.end]).collect()
}

#[test]
fn names_of_known_words_need_no_cue() {
    for (text, name) in [
        ("We met Anna Kowalska there.", "Anna Kowalska"),
        ("so HELGA BRANDT wrote", "HELGA BRANDT"),
        ("then pablo quintero asked", "pablo quintero"),
        ("by Jean-Luc de la Fontaine.", "Jean-Luc de la Fontaine"),
        ("Kowalska, Anna", "Kowalska, Anna"),
        ("Seán O'Reilly's desk", "Seán O'Reilly"),
        ("with Martha J. Quill today", "Martha J. Quill"),
        ("saw J.R. Hendricks there", "J.R. Hendricks"),
        ("by MARCO O'Neill.", "MARCO O'Neill"),
    ] {
        assert_eq!(found(text, ""), [name], "{text}");
    }
}

#[test]
fn words_that_are_names_too_need_a_cue() {
    for text in [
        "Grace Period ends in May",
        "the Austin office",
        "Will Call window",
        "Mark Complete",
        "Jordan River",
        "Paris Street",
        "Lincoln Memorial",
        "the Jasmine rice",
        "Carter Center",
        "chase the lead",
        "Hi Team",
        "Dear Customer",
        "User Guide",
    ] {
        assert!(found(text, "").is_empty(), "{text}: {:?}", found(text, ""));
    }
    assert_eq!(found("Dear Grace,", ""), ["Grace"]);
    assert_eq!(found("Ms. Will called", ""), ["Will"]);
    assert_eq!(found("patient Jordan, 42", ""), ["Jordan"]);
}

#[test]
fn labels_and_signatures_name_the_unknown() {
    assert_eq!(found("Regards,\nXiulqa", ""), ["Xiulqa"]);
    assert_eq!(found("Qorvath Zeymi", "customerName"), ["Qorvath Zeymi"]);
    assert_eq!(found("{\"patient\": \"Qorvath Zeymi\"}", ""), ["Qorvath Zeymi"]);
    assert_eq!(found("Qorvath Zeymi <q.z@example.org>", ""), ["Qorvath Zeymi"]);
    assert!(found("Acme Widgets", "product_name").is_empty());
}

proptest! {
    /// What a page tells of its words leaves no name out.
    #[test]
    fn a_name_begins_only_where_the_page_says(
        text in "((Anna|anna|LEE|Will|will|van|J|de|Dr|x|Kowalski|Quux|12|A4|or)[ .,'-]{1,2}){0,12}"
    ) {
        let page = Page::new(&text, Lexicon::shared());
        let places: Vec<usize> = page.places(Role::PERSON).collect();
        for index in 0..page.len() {
            let begins = Case::of(&page, index).is_some_and(|case| name::may_begin(&page, index, case));
            prop_assert!(!begins || places.contains(&index), "{}", page.written(index));
        }
    }
}
