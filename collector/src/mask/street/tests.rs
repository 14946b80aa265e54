use super::*;
use crate::mask::lexicon::Lexicon;
use proptest::prelude::*;

fn found<'t>(text: &'t str, label: &str) -> Vec<&'t str> {
    let mut hits = Vec::new();
    find(&Page::new(text, Lexicon::shared()), label, &mut hits);
    hits.iter().map(|hit| &text[hit.start..hit.end]).collect()
}

#[test]
fn addresses_of_many_countries() {
    for address in [
        "12 Elm Street",
        "4521 N. Oak Grove Ave Apt 3B, Springfield, IL 62704",
        "221B Baker Street, London NW1 6XE",
        "Flat 7, Orchard Road, Leeds, LS4 3FZ",
        "3/7 Wattle Arcade, Dubbo, NSW, 2830",
        "H.No. 12, Lotus Marg, Pune 411001",
        "Lindenallee 12, 10115 Berlin",
        "Anna-Linden-Platz 5, 80331 München",
        "Lange Straße 7",
        "12, rue du Moulin, 69001 Lyon",
        "rue du Moulin, 69001 Lyon",
        "Calle Olmo 12, 28013 Madrid",
        "Rua das Flores, 45, Centro, 01310-100 São Paulo / SP",
        "Via Garibaldi 8, 20121 Milano",
        "Keizersgracht 174, 1016 DW Amsterdam",
        "Storgatan 5, 123 45 Solna",
        "PO Box 1202, Leeds, LS4 3FZ",
        "Unit 7194 Box 5854, APO AE 09012",
        "Kossuth utca 15., 6720 Szeged",
    ] {
        assert_eq!(found(&format!("I live at {address}."), ""), [address]);
        assert_eq!(found(address, "address"), [address]);
    }
}

#[test]
fn numbers_and_words_that_are_no_address_stay() {
    for text in [
        "5 Golden Rules",
        "Spring 2024",
        "see Section 12",
        "Route 66",
        "on Wall Street",
        "a 30 Day Trial period",
        "version 2.5 Street",
        "in 2024 Main results",
        "Python 3 Center",
        "born 30 December 2005, MRN 36394017",
    ] {
        assert!(found(text, "").is_empty(), "{text}: {:?}", found(text, ""));
    }
}

proptest! {
    /// What a page tells of its words leaves no address out.
    #[test]
    fn an_address_has_a_part_only_where_the_page_says(
        text in "((12|7a|Elm|Street|street|Rue|Lindenallee|PO|P|O|Box|APO|AE|09012|H|No|C|St|utca|de|lot|Q)[ .,/-]{1,2}){0,12}"
    ) {
        let page = Page::new(&text, Lexicon::shared());
        let places: Vec<usize> = page.places(Role::STREET).collect();
        for index in 0..page.len() {
            prop_assert!(super::core::at(&page, index).is_none() || places.contains(&index), "{}", page.written(index));
        }
    }
}
