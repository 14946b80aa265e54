//! Names of tasks by an LLM: what it is shown of a task, and what is taken of its answer.
//!
//! It is shown what the task book tells and a few kept requests, masked as they are. The operator's upstream is asked;
//! tasks need no such name, so that one that can't be had changes nothing. Pure: no IO.

use serde_json::{Value, json};
use understudy_call::call::Request;
use understudy_call::taskbook::Task;

/// Characters shown of one request.
const SHOWN: usize = 1_500;
/// Template lines shown.
const LINES: usize = 20;
/// The longest name that is taken, in characters.
const LONGEST: usize = 60;
/// Tokens that an answer may have: room for a model that thinks before it speaks is not given.
const TOKENS: u32 = 60;

const WHAT: &str = "You name recurring tasks that AI agents give to language models. From the description of one task, answer \
    with a name for it and nothing else: two to six plain words that say what is done with what, as in `extract invoice totals` or \
    `choose the next database query`. No quotes, no full stop.";

/// The chat request that asks for the name of a task; `examples` are requests of its.
pub fn question(model: &str, task: &Task, examples: &[Request]) -> Value {
    let mut about = format!("Description: {}\n", task.description);
    if !task.tools.is_empty() {
        about += &format!("Tools offered: {}\n", task.tools.join(", "));
    }
    if !task.answers.is_empty() {
        let answers: Vec<String> = task
            .answers
            .iter()
            .map(|(kind, share)| format!("{kind} {:.0} %", share * 100.0))
            .collect();
        about += &format!("Answers: {}\n", answers.join(", "));
    }
    about += "Lines that its prompts share:\n";
    for line in task.lines.iter().take(LINES) {
        about += &format!("  {line}\n");
    }
    for (at, example) in examples.iter().enumerate() {
        let said: Vec<&str> = example.messages.iter().map(|message| message.text.as_str()).collect();
        let said: String = said.join("\n").chars().take(SHOWN).collect();
        about += &format!("Example request {}:\n{said}\n", at + 1);
    }
    chat_of(model, WHAT, &about, TOKENS)
}

/// A chat request of our own: what is wanted, and what about, in at most so many tokens.
pub(crate) fn chat_of(model: &str, what: &str, about: &str, tokens: u32) -> Value {
    let messages = [
        json!({"role": "system", "content": what}),
        json!({"role": "user", "content": about}),
    ];
    json!({"model": model, "max_tokens": tokens, "temperature": 0, "messages": messages})
}

/// The name in an answer: its first line with words in it, without what models put around names. None where that is no
/// name.
pub fn name_in(answer: &str) -> Option<String> {
    let line = answer
        .lines()
        .map(str::trim)
        .find(|line| line.chars().any(char::is_alphanumeric))?;
    let line = match line.split_once(':') {
        Some((label, rest)) if label.to_lowercase().ends_with("name") && !rest.trim().is_empty() => rest,
        _ => line,
    };
    let name = line.trim_matches(|letter: char| letter.is_whitespace() || "\"'`*_#.,;:“”‘’«»-–".contains(letter));
    let name: String = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_name = !name.is_empty() && name.chars().count() <= LONGEST && !name.chars().any(char::is_control);
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_call::call::{Message, Role};

    #[test]
    fn a_name_is_taken_out_of_what_models_put_around_it() {
        for (answer, name) in [
            ("extract invoice totals", Some("extract invoice totals")),
            (
                "\n\"Extract  invoice totals.\"\n\nIt reads invoices.",
                Some("Extract invoice totals"),
            ),
            ("**Task name:** `choose a tool`", Some("choose a tool")),
            (
                "Sure! This task is about reading all of the invoices that come in and giving their totals.",
                None,
            ),
            ("...", None),
            ("", None),
        ] {
            assert_eq!(name_in(answer).as_deref(), name, "{answer:?}");
        }
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let task = Task {
            description: "Reads invoices".into(),
            lines: (0..100).map(|at| format!("line {at}")).collect(),
            tools: vec!["file".into()],
            answers: vec![("json".into(), 0.5)],
            ..Task::default()
        };
        let example = Request {
            messages: vec![Message::text(Role::User, "word ".repeat(10_000))],
            ..Request::default()
        };
        let chat = question("m", &task, std::slice::from_ref(&example));
        let text = chat["messages"][1]["content"].as_str().unwrap();
        assert!(
            text.len() < 3_000 && text.contains("json 50 %") && text.contains("line 19") && !text.contains("line 20")
        );
        assert_eq!(chat["model"], "m");
    }
}
