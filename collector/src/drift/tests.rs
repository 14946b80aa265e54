//! Drifts of a made-up agent, and their absence.

use super::*;
use crate::cluster::{FitInput, FitOptions, fit};
use proptest::prelude::*;
use understudy_call::call::{Message, Role, ToolCall, ToolOffered};

const CLERK: &str = "You are an accounting clerk. Read the invoice that follows, find its total, its date and the name \
    of the supplier, and give them as JSON with the keys total, date and supplier. Give nothing but the JSON.";

/// How a made-up agent behaves.
#[derive(Clone, Copy)]
struct Agent {
    system: &'static str,
    schema: &'static str,
    /// Of ten answers so many are tool calls.
    calls: u32,
    words: usize,
}

const USUAL: Agent = Agent {
    system: CLERK,
    schema: "string",
    calls: 3,
    words: 20,
};

/// A cheap, even and repeatable dice: 0..sides.
fn dice(seed: u64, sides: u32) -> u32 {
    hash(&seed.to_string()) % sides
}

fn calls(agent: Agent, seeds: std::ops::Range<u64>) -> Vec<(String, Request, Response)> {
    seeds
        .map(|seed| {
            let user = format!("Invoice {seed} of {} works", "very ".repeat(dice(seed, 9) as usize));
            let request = Request {
                messages: vec![
                    Message::text(Role::System, agent.system),
                    Message::text(Role::User, user),
                ],
                tools: vec![ToolOffered {
                    name: "file".into(),
                    description: None,
                    schema: serde_json::json!({"type": agent.schema}),
                }],
                ..Request::default()
            };
            let mut response = Response::default();
            if dice(seed ^ 0xffff, 10) < agent.calls {
                response.tool_calls = vec![ToolCall {
                    name: "file".into(),
                    arguments: "{}".into(),
                    id: None,
                }];
            } else {
                response.output_text = "paid in full ".repeat(agent.words + dice(seed, 4) as usize);
            }
            (format!("c{seed}"), request, response)
        })
        .collect()
}

fn fitted() -> CompiledBook {
    let kept = calls(USUAL, 0..300);
    let ids: Vec<String> = (0..300).map(|at| format!("id{at}")).collect();
    let inputs: Vec<FitInput<'_>> = kept
        .iter()
        .zip(&ids)
        .map(|((conversation, request, response), id)| FitInput {
            call_id: id,
            conversation,
            request,
            response: Some(response),
        })
        .collect();
    fit(&inputs, None, &FitOptions::default()).unwrap().compile()
}

/// After how many calls of a changed agent, which 500 calls of the usual one precede, a drift is seen, and of what.
fn seen_after(changed: Agent) -> Option<(usize, Aspect)> {
    let book = fitted();
    let mut watch = Watch::new();
    for (conversation, request, response) in &calls(USUAL, 1000..1500) {
        let look = Look::at(&book, request, Some(response)).unwrap();
        assert_eq!(watch.push(&book, conversation, &look), None);
    }
    for (at, (conversation, request, response)) in calls(changed, 2000..2200).iter().enumerate() {
        let look = Look::at(&book, request, Some(response)).unwrap();
        if let Some((_, drift)) = watch.push(&book, conversation, &look) {
            return Some((at + 1, drift.aspect));
        }
    }
    None
}

#[test]
fn each_kind_of_change_is_seen_and_named() {
    let system = "You are an accounting clerk. Read the invoice that follows, find its total, its date and the name \
        of the supplier, and give them as XML with the tags total, date and supplier. Give nothing but the XML.";
    for (changed, aspect) in [
        (Agent { system, ..USUAL }, Aspect::System),
        (
            Agent {
                schema: "object",
                ..USUAL
            },
            Aspect::Tools,
        ),
        (Agent { calls: 9, ..USUAL }, Aspect::Answer),
        (Agent { words: 200, ..USUAL }, Aspect::Length),
    ] {
        let (after, seen) = seen_after(changed).expect("a drift");
        assert_eq!(seen, aspect);
        assert!(after <= 200, "{aspect:?} after {after}");
    }
    assert_eq!(seen_after(USUAL), None);
    assert_eq!(
        seen_after(Agent { calls: 4, ..USUAL }),
        None,
        "ten points are within what is let pass"
    );
}

#[test]
fn a_drift_is_told_once_and_says_what_changed() {
    let book = fitted();
    let mut watch = Watch::new();
    let told: Vec<String> = calls(
        Agent {
            schema: "object",
            ..USUAL
        },
        0..100,
    )
    .iter()
    .filter_map(|(conversation, request, response)| {
        let look = Look::at(&book, request, Some(response)).unwrap();
        watch
            .push(&book, conversation, &look)
            .map(|(task, drift)| format!("{task}: {drift}"))
    })
    .collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains(&book.book().tasks[0].id), "{told:?}");
    assert!(told[0].contains("the tools offered changed"), "{told:?}");
    assert_eq!(watch.drifted().len(), 1);
}

#[test]
fn the_steps_of_one_conversation_are_one_witness() {
    let book = fitted();
    let mut watch = Watch::new();
    let (_, request, response) = &calls(
        Agent {
            schema: "object",
            ..USUAL
        },
        0..1,
    )[0];
    for _ in 0..500 {
        let look = Look::at(&book, request, Some(response)).unwrap();
        assert_eq!(watch.push(&book, "one", &look), None);
    }
}

proptest! {
    #[test]
    fn a_share_reaches_as_far_as_chance_does(share in 0.0f64..=1.0, count in 1.0f64..1e6) {
        let (low, high) = (reach(share, count, false), reach(share, count, true));
        prop_assert!((0.0..=share).contains(&low) && (share..=1.0).contains(&high));
        prop_assert!(divergence(share, high) >= 0.0 && !divergence(share, high).is_nan());
        prop_assert!(reach(share, count * 100.0, true) <= high);
    }
}
