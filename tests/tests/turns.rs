//! A tool loop whose arm changes at every turn, both ways, in every API: a strict baseline refuses any id, signature or
//! pairing that is not as it would be without us, and never has to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use understudy_call::call::Api;
use understudy_tests::agents::{Agent, UNSIGNED};
use understudy_tests::arms::{alternate, assert_whole, converse, pinned, served};
use understudy_tests::program::{Home, Program};
use understudy_tests::strict::{Strict, TOOL, candidate};
use understudy_tests::upstream::{Seen, Step, Upstream};

const TURNS: usize = 9;

struct Stage {
    strict: Arc<Strict>,
    home: Home,
    program: Program,
}

impl Stage {
    fn new() -> Stage {
        Stage::with(|seen| candidate(seen, TURNS), "")
    }

    fn with(small: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static, routes: &str) -> Stage {
        let strict = Arc::new(Strict::new(TURNS));
        let answering = strict.clone();
        let baseline = Upstream::start(move |seen| answering.answer(seen));
        let small = Upstream::start(small);
        let home = Home::new();
        let program = home.serve_config(&format!(
            "default_upstream: baseline\nallow_pins: true\nexpose_headers: true\nupstreams:\n  baseline: {{ url: {} }}\n  \
             small: {{ url: {}, api: openai_chat, model: small-1, trusted: true }}\n{routes}",
            baseline.url(),
            small.url(),
        ));
        Stage { strict, home, program }
    }

    /// Makes the client one that the baseline knows.
    fn introduce(&self, agent: Agent) {
        let hello = [agent.first_message("Look it up, please.")];
        let answer = pinned(&self.program, agent, "baseline", "hello", &hello);
        assert_eq!(answer.status(), 200);
    }

    /// A whole conversation; who served each of its turns.
    fn converse(&self, agent: Agent, arms: [&str; 2]) -> Vec<String> {
        converse(&self.program, agent, arms, &|| format!("{:#?}", self.strict.refused()))
    }

    fn assert_alternates(&self, agent: Agent) {
        self.introduce(agent);
        for arms in [["baseline", "small"], ["small", "baseline"]] {
            let why = || format!("{:#?}", self.strict.refused());
            alternate(&self.program, agent, arms, TURNS, &why);
        }
        assert_eq!(self.strict.refused(), Vec::<String>::new());
    }
}

fn alternates(api: Api, ways: &[&'static str]) -> Stage {
    let stage = Stage::new();
    for way in ways {
        for streams in [false, true] {
            stage.assert_alternates(Agent { api, way, streams });
        }
    }
    stage
}

/// Rows of both arms say the same kind of thing, in the client's API.
fn assert_rows(stage: Stage, api: Api) {
    assert_eq!(stage.program.scrape_at_rest().unaccounted(), 0.0);
    stage.program.terminate();
    for row in stage.home.rows() {
        let case = row.tags.get("case").cloned().unwrap_or_default();
        assert_eq!(row.api, api.as_str(), "{case}");
        assert_whole(&row);
        let by_candidate = served(&row) == ["small"];
        if by_candidate {
            assert_eq!(row.response_model.as_deref(), Some("small-1"), "{case}");
            assert_eq!(row.arm.as_deref(), Some("small"), "{case}");
        }
        let is_last = row.output_text.as_deref() == Some("All done.");
        assert_eq!(
            row.tool_calls.is_empty(),
            is_last,
            "{case}: {:?} {:?}",
            row.output_text,
            row.tool_calls
        );
    }
}

#[test]
fn a_chat_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::OpenaiChat, &[""]), Api::OpenaiChat);
}

#[test]
fn a_messages_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::AnthropicMessages, &[""]), Api::AnthropicMessages);
}

#[test]
fn a_responses_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::OpenaiResponses, &[""]), Api::OpenaiResponses);
}

#[test]
fn a_gemini_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::Gemini, &["", "array"]), Api::Gemini);
}

#[test]
fn an_ollama_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::Ollama, &[""]), Api::Ollama);
}

#[test]
fn a_cohere_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::CohereChat, &[""]), Api::CohereChat);
}

#[test]
fn a_converse_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::BedrockConverse, &[""]), Api::BedrockConverse);
}

/// What a candidate can't sign stays with the baseline, which never sees that another arm was asked for.
#[test]
fn conversations_that_only_the_baseline_can_sign_stay_there_and_never_fail() {
    let stage = Stage::new();
    for (api, way) in [(Api::AnthropicMessages, "thinking"), (Api::Gemini, "signed")] {
        for streams in [false, true] {
            let agent = Agent { api, way, streams };
            stage.introduce(agent);
            for arms in [["baseline", "small"], ["small", "baseline"]] {
                let served = stage.converse(agent, arms);
                let calls_tools = &served[..served.len() - 1];
                assert!(
                    calls_tools.iter().all(|by| by == "baseline"),
                    "{}: {served:?}",
                    agent.name()
                );
            }
        }
    }
    assert_eq!(stage.strict.refused(), Vec::<String>::new());
}

/// Where every second answer of the candidate is one that its agent could not work with, the baseline takes that turn, and
/// neither the agent nor the baseline's history knows.
#[test]
fn a_conversation_goes_on_where_every_second_answer_falls_back() {
    for (api, way) in UNSIGNED {
        let asked = AtomicUsize::new(0);
        let every_second = move |seen: &Seen| {
            let steps = candidate(seen, TURNS);
            if asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                return steps;
            }
            // As long as the real name, so that the framing holds.
            let garble = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace(TOOL, "cook_up").into_bytes();
            let garbled = steps.into_iter().map(|step| match step {
                Step::Send(bytes) => Step::Send(garble(bytes)),
                other => other,
            });
            garbled.collect()
        };
        let stage = Stage::with(every_second, "routes:\n  - split: { baseline: 100, small: 0 }\n");
        for streams in [false, true] {
            let agent = Agent { api, way, streams };
            stage.introduce(agent);
            let served = stage.converse(agent, ["small", "small"]);
            let by = |arm: &str| served.iter().filter(|by| *by == arm).count();
            assert!(
                by("small") >= TURNS / 2 && by("baseline") >= TURNS / 2,
                "{}: {served:?}",
                agent.name()
            );
        }
        assert_eq!(stage.strict.refused(), Vec::<String>::new());
    }
}
