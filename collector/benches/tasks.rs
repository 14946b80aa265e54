//! How well and how fast tasks are found in recorded agent traffic whose tasks are known, and how soon a changed prompt
//! is seen:  cargo bench -p understudy-collector --bench tasks [-- CALLS]     (1,000,000 calls in the last part)
//!
//! Reads `../shared/traces` and prints a table; says so where that is missing.

#![expect(clippy::print_stdout, reason = "a bench that prints its table")]

use rayon::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;
use understudy_call::call::{Api, Message, Request, Response, Role};
use understudy_call::taskbook::{CompiledBook, TaskBook};
use understudy_call::wire;
use understudy_collector::cluster::{FitInput, FitOptions, fit};
use understudy_collector::drift::{Look, Watch};

/// Runs of the drift part.
const RUNS: u64 = 100;
/// Labels of fewer calls are no task.
const LABEL: usize = 8;
/// A drift counts as noticed within so many calls of the task.
const NOTICED: usize = 200;

/// One recorded call.
#[derive(Clone)]
struct Kept {
    id: String,
    conversation: String,
    label: String,
    request: Request,
    response: Response,
}

impl Kept {
    fn of(line: &str) -> Option<Kept> {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let request = wire::parse_request_at(Api::OpenaiChat, "", line["request"].to_string().as_bytes()).ok()?;
        let answer = wire::assemble(Api::OpenaiChat, None, line["response"].to_string().as_bytes()).ok()?;
        Some(Kept {
            id: text("id"),
            conversation: format!("{}/{}", text("source"), text("session")),
            label: text("task_label"),
            request,
            response: wire::parse_response(Api::OpenaiChat, 200, &answer),
        })
    }

    fn input(&self) -> FitInput<'_> {
        FitInput {
            call_id: &self.id,
            conversation: &self.conversation,
            request: &self.request,
            response: Some(&self.response),
        }
    }

    fn look(&self, book: &CompiledBook) -> Option<Look> {
        Look::at(book, &self.request, Some(&self.response))
    }
}

fn read(folder: &Path) -> Result<Vec<Kept>, Box<dyn Error>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "zst"));
    files.sort();
    let mut kept = Vec::new();
    for file in files {
        let mut decoder = zstd::Decoder::new(std::fs::File::open(&file)?)?;
        decoder.window_log_max(27)?;
        let mut text = String::new();
        decoder.read_to_string(&mut text)?;
        kept.extend(text.lines().filter_map(Kept::of));
    }
    Ok(kept)
}

/// A cheap, even and repeatable number of a text.
fn lot(seed: u64, text: &str) -> u64 {
    let digest = blake3::hash(format!("{seed} {text}").as_bytes());
    u64::from_le_bytes(digest.as_bytes().first_chunk().copied().unwrap_or_default())
}

/// The calls, in two halves by conversation.
fn halves(kept: &[Kept], seed: u64) -> (Vec<&Kept>, Vec<&Kept>) {
    kept.iter()
        .partition(|call| lot(seed, &call.conversation).is_multiple_of(2))
}

fn fitted(calls: &[&Kept], previous: Option<&TaskBook>, sample: usize) -> Result<TaskBook, Box<dyn Error>> {
    let inputs: Vec<FitInput<'_>> = calls.iter().map(|call| call.input()).collect();
    let options = FitOptions {
        sample,
        ..FitOptions::default()
    };
    Ok(fit(&inputs, previous, &options)?)
}

fn task_of(book: &CompiledBook, call: &Kept) -> Option<String> {
    book.assign(&call.request).map(|assignment| assignment.task)
}

/// Of the second half's calls whose label the first half has: the share that a book of the first half gives a task of
/// mostly that label.
fn frozen(kept: &[Kept]) -> Result<(f64, usize), Box<dyn Error>> {
    let (first, second) = halves(kept, 0);
    let book = fitted(&first, None, FitOptions::default().sample)?.compile();
    let mut of_task: HashMap<String, BTreeMap<&str, usize>> = HashMap::new();
    let mut of_label: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &first {
        *of_label.entry(&call.label).or_default() += 1;
        if let Some(task) = task_of(&book, call) {
            *of_task.entry(task).or_default().entry(&call.label).or_default() += 1;
        }
    }
    let known =
        |call: &&&Kept| of_label.get(call.label.as_str()).is_some_and(|calls| *calls >= LABEL) && is_core(&call.label);
    let known: Vec<&&Kept> = second.iter().filter(known).collect();
    let right = |call: &&&&Kept| {
        let labels = task_of(&book, call).and_then(|task| of_task.get(&task));
        labels
            .and_then(|labels| labels.iter().max_by_key(|(_, calls)| **calls))
            .is_some_and(|(label, _)| *label == call.label)
    };
    Ok((
        known.iter().filter(right).count() as f64 / known.len() as f64,
        known.len(),
    ))
}

/// Labels with a definition.
fn is_core(label: &str) -> bool {
    !label.starts_with("crewai") && !label.ends_with("/other")
}

/// Of the first half's calls with a task: the share that keeps it when all calls are fitted anew.
fn refitted(kept: &[Kept]) -> Result<(f64, usize), Box<dyn Error>> {
    let (first, _) = halves(kept, 0);
    let before = fitted(&first, None, FitOptions::default().sample)?;
    let all: Vec<&Kept> = kept.iter().collect();
    let after = fitted(&all, Some(&before), FitOptions::default().sample)?.compile();
    let before = before.compile();
    let had: Vec<&&Kept> = first.iter().filter(|call| task_of(&before, call).is_some()).collect();
    let keeps = had
        .iter()
        .filter(|call| task_of(&before, call) == task_of(&after, call))
        .count();
    Ok((keeps as f64 / had.len() as f64, had.len()))
}

/// Half of the calls are fitted, the other half watched: how many tasks are said to have drifted, and which.
fn false_flags(kept: &[Kept], seed: u64) -> Result<Vec<String>, Box<dyn Error>> {
    let (first, second) = halves(kept, seed);
    let book = fitted(&first, None, FitOptions::default().sample)?.compile();
    let mut watch = Watch::new();
    let flags = shuffled(second, seed).into_iter().filter_map(|call| {
        let look = call.look(&book)?;
        let (task, drift) = watch.push(&book, &call.conversation, &look)?;
        Some(format!("{task}: {drift}"))
    });
    Ok(flags.collect())
}

/// Calls by conversation, conversations in an order of their own.
fn shuffled(mut calls: Vec<&Kept>, seed: u64) -> Vec<&Kept> {
    calls.sort_by_cached_key(|call| lot(seed ^ 0xabcd, &call.conversation));
    calls
}

/// An edit, and after how many calls it was seen.
type Noticed = (Edit, Option<usize>);

/// What an edit of a prompt does to it.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Change,
    Remove,
    Insert,
    Append,
}

/// One line of the prompt of a task is edited in the middle of a run: after how many calls of the task it is seen; none
/// where no task is large enough.
fn noticed(kept: &[Kept], seed: u64) -> Result<Option<Noticed>, Box<dyn Error>> {
    let (first, second) = halves(kept, seed);
    let book = fitted(&first, None, FitOptions::default().sample)?.compile();
    let second = shuffled(second, seed);
    let mut of_task: BTreeMap<String, Vec<&Kept>> = BTreeMap::new();
    for call in second {
        if let Some(task) = task_of(&book, call) {
            of_task.entry(task).or_default().push(call);
        }
    }
    of_task.retain(|_, calls| {
        calls.len() >= 2 * NOTICED
            && calls
                .iter()
                .map(|call| &call.conversation)
                .collect::<BTreeSet<_>>()
                .len()
                >= 60
    });
    let Some((task, calls)) = of_task
        .iter()
        .nth((lot(seed, "task") % of_task.len().max(1) as u64) as usize)
    else {
        return Ok(None);
    };
    // A line that all its prompts have.
    let lines = |call: &Kept| -> BTreeSet<String> {
        let leading = call
            .request
            .messages
            .iter()
            .take_while(|message| message.role != Role::Assistant);
        leading
            .flat_map(|message| message.text.lines())
            .filter(|line| line.split_whitespace().count() >= 6)
            .map(str::to_owned)
            .collect()
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in calls.iter().flat_map(|call| lines(call)) {
        *counts.entry(line).or_default() += 1;
    }
    let common: Vec<&String> = counts
        .iter()
        .filter(|(_, count)| **count * 100 >= calls.len() * 98)
        .map(|(line, _)| line)
        .collect();
    if common.is_empty() {
        return Ok(None);
    }
    let line = common[(lot(seed, "line") % common.len() as u64) as usize];
    let edit = [Edit::Change, Edit::Remove, Edit::Insert, Edit::Append][(lot(seed, "edit") % 4) as usize];
    const NEW: &str = "From now on weigh every answer twice and keep it under forty words.";
    let edited = |text: &str| match edit {
        Edit::Change => text.replace(line.as_str(), NEW),
        Edit::Remove => text.replace(line.as_str(), ""),
        Edit::Insert => text.replace(line.as_str(), &format!("{line}\n{NEW}")),
        Edit::Append => format!("{text}\n{NEW}"),
    };
    let mut watch = Watch::new();
    for (at, call) in calls.iter().enumerate() {
        let mut call = (*call).clone();
        let since = at.checked_sub(NOTICED);
        if since.is_some() {
            let leading = call
                .request
                .messages
                .iter_mut()
                .take_while(|message| message.role != Role::Assistant);
            let holds = |message: &&mut Message| message.text.contains(line.as_str());
            leading
                .filter(holds)
                .for_each(|message| message.text = edited(&message.text));
        }
        if let Some(look) = call.look(&book)
            && let Some((drifted, _)) = watch.push(&book, &call.conversation, &look)
        {
            let seen = since.filter(|_| drifted == task).map(|since| since + 1);
            return Ok(Some((edit, seen)));
        }
    }
    Ok(Some((edit, None)))
}

/// The traces again and again, numbers changed, until there are `calls`: seconds to draw and fit, and to assign all.
fn many(kept: &[Kept], calls: usize) -> Result<(f64, f64, f64), Box<dyn Error>> {
    let changed = |at: usize| {
        let mut call = kept[at % kept.len()].clone();
        let round = (at / kept.len()) as u8;
        if round > 0 {
            let turn = |digit: char| char::from(b'0' + (digit as u8 - b'0' + round) % 10);
            for message in &mut call.request.messages {
                message.text = message
                    .text
                    .chars()
                    .map(|each| if each.is_ascii_digit() { turn(each) } else { each })
                    .collect();
            }
            call.conversation = format!("{}/{round}", call.conversation);
            call.id = format!("{}/{round}", call.id);
        }
        call
    };
    let began = Instant::now();
    // What a fit holds: the sample. Which calls are in it is drawn before they are made.
    let sample = FitOptions::default().sample.min(calls);
    let mut lots: Vec<(u64, usize)> = (0..calls).map(|at| (lot(7, &at.to_string()), at)).collect();
    lots.select_nth_unstable(sample - 1);
    let drawn: Vec<Kept> = lots[..sample].par_iter().map(|(_, at)| changed(*at)).collect();
    let book = fitted(&drawn.iter().collect::<Vec<_>>(), None, sample)?.compile();
    let fit_seconds = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let assigned = (0..calls)
        .into_par_iter()
        .filter(|at| book.assign(&changed(*at).request).is_some())
        .count();
    Ok((
        fit_seconds,
        began.elapsed().as_secs_f64(),
        assigned as f64 / calls as f64,
    ))
}

/// The most memory that the process held, in MiB.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    if !folder.is_dir() {
        println!("skipped: {} is missing", folder.display());
        return Ok(());
    }
    let calls = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(1_000_000);
    let kept = read(&folder)?;
    let all: Vec<&Kept> = kept.iter().collect();
    let began = Instant::now();
    let book = fitted(&all, None, FitOptions::default().sample)?;
    let per_thousand = began.elapsed().as_secs_f64() * 1000.0 / kept.len() as f64;
    println!(
        "{} calls, {} tasks, {per_thousand:.2} s to fit 1,000 calls on one core",
        kept.len(),
        book.tasks.len()
    );
    let book = book.compile();
    let began = Instant::now();
    let bytes: usize = kept
        .iter()
        .map(|call| {
            call.request
                .messages
                .iter()
                .map(|message| message.text.len())
                .sum::<usize>()
        })
        .sum();
    let found = kept.iter().filter(|call| book.assign(&call.request).is_some()).count();
    println!(
        "assign: {:.1} µs a call of {} bytes on average; {found} of {} have a task",
        began.elapsed().as_secs_f64() * 1e6 / kept.len() as f64,
        bytes / kept.len(),
        kept.len()
    );
    let (share, of) = frozen(&kept)?;
    println!(
        "frozen half: {:.1} % of {of} calls whose label was known get a task of that label",
        share * 100.0
    );
    let (share, of) = refitted(&kept)?;
    println!(
        "refit on twice the data: {:.1} % of {of} calls keep their task",
        share * 100.0
    );

    let flags: Vec<Vec<String>> = (1..=RUNS)
        .into_par_iter()
        .map(|seed| false_flags(&kept, seed).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    let flagged = flags.iter().filter(|flags| !flags.is_empty()).count();
    println!("unchanged agents: a false flag in {flagged} of {RUNS} runs");
    flags.iter().flatten().take(10).for_each(|flag| println!("  {flag}"));
    let seen: Vec<Noticed> = (1..=RUNS)
        .into_par_iter()
        .map(|seed| noticed(&kept, seed).map_err(|error| error.to_string()))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect();
    for edit in [Edit::Change, Edit::Remove, Edit::Insert, Edit::Append] {
        let of_kind: Vec<Option<usize>> = seen
            .iter()
            .filter(|(kind, _)| *kind as u8 == edit as u8)
            .map(|(_, seen)| *seen)
            .collect();
        let mut after: Vec<usize> = of_kind.iter().flatten().copied().collect();
        after.sort_unstable();
        let in_time = after.iter().filter(|after| **after <= NOTICED).count();
        println!(
            "a line of the prompt edited ({edit:?}): noticed within {NOTICED} calls in {in_time} of {} runs, median {} calls",
            of_kind.len(),
            after.get(after.len() / 2).map_or("-".into(), usize::to_string)
        );
    }

    let (fitting, assigning, share) = many(&kept, calls)?;
    println!(
        "{calls} calls: {fitting:.0} s to draw and fit, {assigning:.0} s to make and assign all on all cores, {:.1} % have a task, peak {} MiB",
        share * 100.0,
        peak_mib().unwrap_or_default()
    );
    Ok(())
}
