//! What kinds of answers a task gets, without a model.

use super::groups::Group;
use super::prompts::Prompts;
use crate::answer::kind;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use understudy_call::call::Response;
use understudy_call::features::phrases_of;

/// A phrase of so large a share of a task's written answers is of their form.
const COMMON: f64 = 0.2;
/// An answer of so large a share of such phrases is filled-in form.
const FORM: f64 = 0.5;
/// Fewer conversations with a written answer have no form.
const CONVERSATIONS: usize = 5;
/// Bytes of an answer that are compared.
const COMPARED: usize = 4096;

/// Kinds and their shares among the known answers, largest first: [`kind`], with `form` for prose that mostly repeats
/// what the task's other answers say.
pub(super) fn answers(group: &Group, prompts: &Prompts) -> Vec<(String, f64)> {
    let inputs = group.calls.iter().map(|call| prompts.calls[*call].input);
    let known: Vec<(&str, &Response, String)> = inputs
        .filter_map(|input| {
            input
                .response
                .map(|response| (input.conversation, response, kind(response)))
        })
        .collect();
    let prose = known.iter().filter(|(_, _, kind)| kind == "prose");
    let forms = forms(prose.map(|(conversation, response, _)| (*conversation, response.output_text.as_str())));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut is_form = forms.into_iter();
    for (_, _, kind) in &known {
        let kind = if kind == "prose" && is_form.next() == Some(true) {
            "form"
        } else {
            kind
        };
        *counts.entry(kind).or_default() += 1;
    }
    let share = |(kind, count): (&str, usize)| (kind.to_owned(), count as f64 / known.len() as f64);
    let mut answers: Vec<(String, f64)> = counts.into_iter().map(share).collect();
    answers.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    answers
}

/// For each written answer (its conversation, its text) whether it is filled-in form.
fn forms<'a>(answers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<bool> {
    let answers: Vec<(&str, Vec<u32>)> = answers
        .map(|(conversation, text)| (conversation, phrases_of(&text[..text.floor_char_boundary(COMPARED)])))
        .collect();
    let conversations = answers
        .iter()
        .map(|(conversation, _)| conversation)
        .collect::<BTreeSet<_>>()
        .len();
    if conversations < CONVERSATIONS {
        return vec![false; answers.len()];
    }
    let mut seen_in: HashMap<u32, BTreeSet<&str>> = HashMap::new();
    for (conversation, phrases) in &answers {
        for phrase in phrases {
            seen_in.entry(*phrase).or_default().insert(conversation);
        }
    }
    let is_common = |phrase: &&u32| seen_in[*phrase].len() as f64 >= (conversations as f64 * COMMON).max(3.0);
    let is_form = |(_, phrases): &(&str, Vec<u32>)| {
        !phrases.is_empty() && phrases.iter().filter(is_common).count() as f64 >= phrases.len() as f64 * FORM
    };
    answers.iter().map(is_form).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_that_repeats_itself_is_form() {
        let form =
            |number: usize| format!("Dear customer, your parcel {number} left our house today and comes tomorrow.");
        let own = [
            "The lighthouse keeper sang to his cat about the wide and windy sea of winter.",
            "Bread rises best where a patient baker leaves it alone beside a warm oven overnight.",
        ];
        let ids: Vec<String> = (0..8).map(|at| format!("c{at}")).collect();
        let texts: Vec<String> = (0..6).map(form).chain(own.map(str::to_owned)).collect();
        let answers = ids.iter().map(String::as_str).zip(texts.iter().map(String::as_str));
        assert_eq!(
            forms(answers.clone()),
            [true, true, true, true, true, true, false, false]
        );
        // One conversation that says the same again and again has no form.
        assert_eq!(forms(texts.iter().map(|text| ("c", text.as_str()))), [false; 8]);
    }
}
