//! What tests of candidates begin with: a baseline and a candidate that takes its calls, and agents whose calls change their
//! arm from turn to turn.

use crate::agents::Agent;
use crate::http::{Answer, Request};
use crate::program::{Home, Program};
use crate::upstream::{Seen, Step, Upstream};
use serde_json::Value;
use understudy_call::call::Api;
use understudy_call::record::CallRecord;
use understudy_call::wire;

/// The key that a client of these tests sends.
pub const CLIENT_KEY: &str = "key-of-the-client";
/// The key that a candidate is asked with.
pub const CANDIDATE_KEY: &str = "key-of-the-candidate";
/// More turns than any conversation here has.
const MOST_TURNS: usize = 40;

/// A baseline, `big`, and a candidate, `small`, to which all conversations go once their client is known.
pub struct Canary {
    /// Who is addressed.
    pub baseline: Upstream,
    /// Who answers.
    pub candidate: Upstream,
    /// Config and data.
    pub home: Home,
    /// The program between them.
    pub program: Program,
}

impl Canary {
    /// With what both answer, the API that the candidate speaks, and more of the route `canary`.
    pub fn new(
        big: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
        small: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
        api: Api,
        more: &str,
    ) -> Canary {
        let (baseline, candidate) = (Upstream::start(big), Upstream::start(small));
        let home = Home::new();
        home.write_config(&format!(
            "default_upstream: big\nupstreams:\n  big: {{ url: {} }}\n  \
             small: {{ url: {}, api: {}, model: small-1, key_env: CANDIDATE_KEY, trusted: true }}\n\
             routes:\n  - name: canary\n    split: {{ big: 0, small: 100 }}\n    {more}\n",
            baseline.url(),
            candidate.url(),
            api.as_str(),
        ));
        let program = home.serve(&["--config", "understudy.yaml"], &[("CANDIDATE_KEY", CANDIDATE_KEY)]);
        Canary {
            baseline,
            candidate,
            home,
            program,
        }
    }

    /// Ends the program; what it took is stored then.
    pub fn end(self) -> Home {
        self.program.terminate();
        self.home
    }
}

/// The upstreams whose answer the client of a call got.
pub fn served(row: &CallRecord) -> Vec<&str> {
    let served = row.attempts.iter().filter(|attempt| attempt.served);
    served.map(|attempt| attempt.upstream.as_str()).collect()
}

/// An agent's call with this history, pinned to an arm.
pub fn pinned(program: &Program, agent: Agent, arm: &str, case: &str, history: &[Value]) -> Answer {
    Request::post(&agent.path(), agent.request(history).to_string())
        .header("authorization", &format!("Bearer {CLIENT_KEY}"))
        .header("x-understudy-route", arm)
        .header("x-understudy-tag-case", case)
        .send(program.listen)
}

/// A whole conversation whose arm changes at every turn; who served each of them. `why` says more of a failure. Asserts that
/// each answer is whole and as it was asked for, shows no reasoning of a candidate, and that the conversation ends well.
pub fn converse(program: &Program, agent: Agent, arms: [&str; 2], why: &dyn Fn() -> String) -> Vec<String> {
    let mut history = vec![agent.first_message("Look it up, please.")];
    let mut by = Vec::new();
    loop {
        let (turn, name) = (by.len(), agent.name());
        let arm = arms[turn % 2];
        let case = format!("{name} from {}, turn {turn} at {arm}", arms[0]);
        let answer = pinned(program, agent, arm, &case, &history);
        let why = || format!("{case}: {}\n{}", answer.text(), why());
        assert_eq!(answer.status(), 200, "{}", why());
        assert!(
            !answer.text().contains("nobody sees"),
            "a candidate's reasoning shows: {}",
            why()
        );
        let served_by = answer.head.header("x-understudy-served-by").unwrap_or_default();
        by.push(served_by.to_owned());
        let assembled = wire::assemble(agent.api, answer.head.header("content-type"), &answer.body);
        let assembled = assembled.unwrap_or_else(|error| panic!("{error}: {}", why()));
        assert_eq!(assembled.streamed, agent.streams, "{}", why());
        let is_whole = answer.complete && !assembled.partial && assembled.error.is_none();
        assert!(is_whole, "{}", why());
        if !agent.go_on(&mut history, &assembled.body) {
            break;
        }
        assert!(by.len() < MOST_TURNS, "the conversation has no end: {}", why());
    }
    let last = history.last().map(Value::to_string).unwrap_or_default();
    assert!(last.contains("All done."), "{}: {history:#?}", agent.name());
    by
}

/// Asserts that a whole conversation of so many turns is served by the arms in turn. `why` says more of a failure.
pub fn alternate(program: &Program, agent: Agent, arms: [&str; 2], turns: usize, why: &dyn Fn() -> String) {
    let by = converse(program, agent, arms, why);
    let expected: Vec<&str> = (0..turns).map(|turn| arms[turn % 2]).collect();
    assert_eq!(by, expected, "{}", agent.name());
}

/// Asserts that a row tells of a whole answer, with the usage that the strict fakes tell.
pub fn assert_whole(row: &CallRecord) {
    let case = row.tags.get("case").map(String::as_str).unwrap_or_default();
    assert_eq!(
        (row.input_tokens, row.output_tokens),
        (Some(11), Some(7)),
        "{case}: {:?}",
        row.response_body
    );
    assert!(!row.partial && row.error.is_none(), "{case}: {:?}", row.error);
}
