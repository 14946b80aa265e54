//! `verdict --propose`: what verdicts amount to, as a diff of the config file, for people who keep it in git.
//!
//! Changes nothing. Of several candidates that are ready the smallest that is sufficient is proposed. What is printed is
//! a unified diff that `patch` takes; the config that it makes was read and found valid.

use crate::serve;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use understudy_collector::cascade::{size_of, smallest_sufficient};
use understudy_collector::verdict::Verdict;
use understudy_proxy::config::{Config, Overrides};

/// The first weight, in per cent.
const FIRST_WEIGHT: u32 = 5;
/// Lines of context in a diff.
const CONTEXT: usize = 3;

/// A diff, and what there is to say besides.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Proposal {
    /// A unified diff; empty where nothing is proposed.
    pub(crate) diff: String,
    /// For people.
    pub(crate) words: Vec<String>,
}

/// What the verdicts say should change in this config.
pub(crate) fn propose(path: &Path, config: &Config, verdicts: &[Verdict]) -> Result<Proposal> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    of_text(&text, path, config, verdicts)
}

fn of_text(text: &str, path: &Path, config: &Config, verdicts: &[Verdict]) -> Result<Proposal> {
    let mut by_task: BTreeMap<&str, Vec<Verdict>> = BTreeMap::new();
    for verdict in verdicts {
        by_task.entry(&verdict.task).or_default().push(verdict.clone());
    }
    let (mut routes, mut words) = (Vec::new(), Vec::new());
    for (task, verdicts) in by_task {
        let size = |name: &str| size_of(config.upstreams.get(name));
        let Some(Verdict { candidate, .. }) = smallest_sufficient(&verdicts, size) else {
            continue;
        };
        let routed = config
            .routes
            .all()
            .iter()
            .find(|route| route.matching.task.as_deref() == Some(task));
        match (routed, config.upstreams.get(candidate)) {
            (Some(route), _) if route.split.get(candidate).is_some_and(|weight| *weight > 0) => {
                words.push(format!(
                    "{task}: {candidate} is ready, and its route `{}` has it already",
                    route.id
                ));
            }
            (Some(route), _) => {
                words.push(format!(
                    "{task}: {candidate} is ready: give it a weight in the split of its route `{}`",
                    route.id
                ));
            }
            (None, None) => words.push(format!(
                "{task}: {candidate} is ready, and is no upstream of {}",
                path.display()
            )),
            (None, Some(upstream)) if !upstream.trusted => words.push(format!(
                "{task}: {candidate} is ready; as it would see unmasked text, it needs `trusted: true` first"
            )),
            (None, Some(_)) => routes.push(route(task, candidate, &config.default_upstream)),
        }
    }
    if routes.is_empty() {
        return Ok(Proposal {
            diff: String::new(),
            words,
        });
    }
    let Some(changed) = insert(text, &routes) else {
        words.push(format!("add to `routes` of {}:\n{}", path.display(), routes.concat()));
        return Ok(Proposal {
            diff: String::new(),
            words,
        });
    };
    Config::parse(&changed, path, &Overrides::default(), &serve::environment)
        .context("the config that would be proposed is not valid; nothing is proposed")?;
    Ok(Proposal {
        diff: diff(&path.display().to_string(), text, &changed),
        words,
    })
}

fn route(task: &str, candidate: &str, baseline: &str) -> String {
    let rest = 100 - FIRST_WEIGHT;
    format!(
        "- match: {{ task: {task} }}\n  split: {{ {baseline}: {rest}, {candidate}: {FIRST_WEIGHT} }}\n  \
         rollout: {{ stepWeight: {FIRST_WEIGHT}, maxWeight: 50, interval: 10m, minCalls: 200, promote: manual }}\n  \
         guard: {{ error: 2%, invalid: 1%, fallback: 5%, p95_latency: 1.2x, agreement: 5% }}\n"
    )
}

/// The text with these routes in front of those that it has: the first match wins. `None` where its list is not written
/// a line an entry.
fn insert(text: &str, routes: &[String]) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = match lines.iter().position(|line| line.starts_with("routes:")) {
        None => {
            lines.push("routes:".into());
            lines.len()
        }
        Some(at) => {
            let rest = lines[at]["routes:".len()..]
                .split('#')
                .next()
                .unwrap_or_default()
                .trim();
            match rest {
                "" => {}
                "[]" => lines[at] = "routes:".into(),
                _ => return None,
            }
            at + 1
        }
    };
    let entry = lines[at..].iter().find(|line| line.trim_start().starts_with("- "));
    let indent = entry.map_or(2, |line| line.len() - line.trim_start().len());
    let new = routes.iter().flat_map(|route| route.lines());
    let new: Vec<String> = new.map(|line| format!("{:indent$}{line}", "")).collect();
    lines.splice(at..at, new);
    Some(lines.join("\n") + "\n")
}

/// A unified diff of two texts that differ in one place.
fn diff(name: &str, old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let rest = old.len().min(new.len()) - same;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest);
    let tail = tail.take_while(|(one, other)| one == other).count();
    let (from, after) = (same.saturating_sub(CONTEXT), tail.min(CONTEXT));
    let (old_end, new_end) = (old.len() - tail, new.len() - tail);
    let length = |end: usize| end + after - from;
    let mut out = format!(
        "--- {name}\n+++ {name}\n@@ -{},{} +{},{} @@\n",
        from + 1,
        length(old_end),
        from + 1,
        length(new_end)
    );
    let mut push = |mark: char, lines: &[&str]| lines.iter().for_each(|line| out.push_str(&format!("{mark}{line}\n")));
    push(' ', &old[from..same]);
    push('-', &old[same..old_end]);
    push('+', &new[same..new_end]);
    push(' ', &old[old_end..old_end + after]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_collector::verdict::{Decision, Evidence, VerdictConfig, verdict};

    const CONFIG: &str = "default_upstream: big\nupstreams:\n  big: { url: http://b }\n  small: { url: http://s, trusted: true, model: m-135m }\n  \
         middle: { url: http://m, trusted: true, model: m-1b }\nroutes: # in order\n  - match: { model: x }\n    split: { big: 100 }\nlog: { level: info }\n";

    fn ready(task: &str, candidate: &str) -> Verdict {
        let evidence = Evidence {
            task,
            candidate,
            ..Evidence::default()
        };
        Verdict {
            verdict: Decision::Promote,
            ..verdict(&evidence, &VerdictConfig::default())
        }
    }

    fn proposal(text: &str, verdicts: &[Verdict]) -> Proposal {
        let path = Path::new("u.yaml");
        let config = Config::parse(text, path, &Overrides::default(), &|_| None).unwrap();
        of_text(text, path, &config, verdicts).unwrap()
    }

    #[test]
    fn the_smallest_sufficient_candidate_is_proposed_as_a_diff_that_patch_takes() {
        let told = proposal(CONFIG, &[ready("t-1", "middle"), ready("t-1", "small")]);
        let expected = "--- u.yaml\n+++ u.yaml\n@@ -4,6 +4,10 @@\n   small: { url: http://s, trusted: true, model: m-135m }\n   \
             middle: { url: http://m, trusted: true, model: m-1b }\n routes: # in order\n+  - match: { task: t-1 }\n\
             +    split: { big: 95, small: 5 }\n\
             +    rollout: { stepWeight: 5, maxWeight: 50, interval: 10m, minCalls: 200, promote: manual }\n\
             +    guard: { error: 2%, invalid: 1%, fallback: 5%, p95_latency: 1.2x, agreement: 5% }\n   \
             - match: { model: x }\n     split: { big: 100 }\n log: { level: info }\n";
        assert_eq!(told.diff, expected);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("u.yaml"), CONFIG).unwrap();
        std::fs::write(folder.path().join("p"), &told.diff).unwrap();
        let patch = std::process::Command::new("patch")
            .args(["-i", "p"])
            .current_dir(folder.path())
            .output();
        if let Ok(patched) = patch {
            assert!(patched.status.success(), "{patched:?}");
        }
    }

    #[test]
    fn a_config_without_routes_gets_some_and_what_cant_be_edited_is_said() {
        let verdicts = [ready("t-1", "small"), ready("t-2", "nobody")];
        let bare = CONFIG.split("routes:").next().unwrap().to_owned();
        let told = proposal(&bare, &verdicts);
        assert!(
            told.diff.contains("+routes:\n+  - match: { task: t-1 }"),
            "{}",
            told.diff
        );
        assert!(told.words[0].contains("nobody"), "{told:?}");
        let flow = format!("{bare}routes: [{{ match: {{ model: x }}, split: {{ big: 100 }} }}]\n");
        let told = proposal(&flow, &verdicts);
        assert!(
            told.diff.is_empty() && told.words[1].contains("add to `routes`"),
            "{told:?}"
        );
        assert_eq!(proposal(CONFIG, &[]), Proposal::default());
    }
}
