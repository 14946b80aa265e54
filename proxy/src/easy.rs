//! Whether a call is easy for its task, for routes that say `when: easy`: hard calls stay with the baseline.
//!
//! Pure, and of the request alone: how like the task it is, how long, how deep in its loop, and how many tools it offers.

use understudy_call::call::{Request, Role};
use understudy_call::taskbook::{Assignment, Task};

/// Likeness to the task's template below which a call lies at its rim.
const LIKENESS: f64 = 0.75;
/// Bytes of text beyond which a call is long: about 8,000 tokens.
const LONG: usize = 32_000;
/// Tools offered beyond those that the task's calls usually have.
const MORE_TOOLS: usize = 2;

/// Why a call is hard; `None` = it is easy.
pub(crate) fn hard(request: &Request, assignment: Option<&Assignment>, task: Option<&Task>) -> Option<String> {
    let (Some(assignment), Some(task)) = (assignment, task) else {
        return Some("it is of no known task".into());
    };
    if assignment.confidence < LIKENESS {
        return Some(format!(
            "its likeness to the task is {:.2}, below {LIKENESS}",
            assignment.confidence
        ));
    }
    let length: usize = request.messages.iter().map(|message| message.text.len()).sum();
    if length > LONG {
        return Some(format!("its text has {length} bytes, more than {LONG}"));
    }
    if request.messages.iter().any(|message| message.media_parts > 0) {
        return Some("it holds what is not text".into());
    }
    let usual_tools = task.tools.len() + MORE_TOOLS;
    if request.tools.len() > usual_tools {
        return Some(format!(
            "it offers {} tools, the task's calls {} or fewer",
            request.tools.len(),
            usual_tools
        ));
    }
    let turns = request
        .messages
        .iter()
        .filter(|message| message.role == Role::Assistant);
    let (turns, most) = (turns.count(), task.turns.map_or(u32::MAX, |[_, _, most]| most));
    (turns > most as usize).then(|| format!("{turns} answers lie before it, {most} at most before the task's calls"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_call::call::{Message, ToolOffered};

    #[test]
    fn what_lies_at_the_rim_is_long_or_has_many_tools_is_hard() {
        let task = Task {
            turns: Some([0, 0, 1]),
            ..Task::default()
        };
        let near = Assignment {
            task: "t".into(),
            confidence: 0.9,
        };
        let easy = Request {
            messages: vec![Message::text(Role::User, "hi")],
            ..Request::default()
        };
        assert_eq!(hard(&easy, Some(&near), Some(&task)), None);
        let far = Assignment {
            confidence: 0.5,
            ..near.clone()
        };
        let told = |request: &Request, of: &Assignment| hard(request, Some(of), Some(&task)).unwrap_or_default();
        assert!(told(&easy, &far).contains("likeness"));
        let mut long = easy.clone();
        long.messages[0].text = "x".repeat(LONG + 1);
        assert!(told(&long, &near).contains("bytes"));
        let mut deep = easy.clone();
        deep.messages.extend(vec![Message::text(Role::Assistant, "a"); 2]);
        assert!(told(&deep, &near).contains("answers"));
        let mut tools = easy.clone();
        let tool = ToolOffered {
            name: "f".into(),
            description: None,
            schema: serde_json::Value::Null,
        };
        tools.tools = vec![tool; 3];
        assert!(told(&tools, &near).contains("tools"));
        assert!(hard(&easy, None, None).is_some());
    }
}
