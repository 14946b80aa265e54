//! `replay`: a task's kept calls to a candidate.

use crate::args::ReplayArguments;
use crate::log;
use crate::output::{self, count, dollars};
use crate::place::{Place, Wrong, existing_book, task};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use understudy_call::call::Api;
use understudy_client::{Secret, UpstreamConfig};
use understudy_collector::replay::{
    Arm, Budget, Drawn, FloorEnough, Judge, Judged, Progress, ReplayConfig, Replayed, Sample, draw_unseen, replay,
};
use understudy_collector::score::KindSummary;
use understudy_collector::specialise::{self, Seen};
use url::Url;

/// Replays, and prints what was done.
pub(crate) async fn run(arguments: ReplayArguments) -> Result<()> {
    let replayed = rehearse(&arguments).await?;
    output::print(arguments.format, std::slice::from_ref(&replayed), || table(&replayed))
}

/// Replays, with words and progress on stderr.
pub(crate) async fn rehearse(arguments: &ReplayArguments) -> Result<Replayed> {
    let place = Place::of(&arguments.place)?;
    let mut candidate = candidate(&place, arguments)?;
    candidate.constrain |= arguments.constrain;
    let asked = (candidate.url.clone(), candidate.model.clone());
    let candidate = Arm::candidate(Arc::new(place.open(candidate)?));
    let store = place.existing_store()?;
    let book = existing_book(&store).await?;
    let task = task(book.book(), &arguments.task)?.id.clone();
    let names = [Some(candidate.name()), candidate.model()];
    let trained_on = Seen::of(&specialise::load(&store).await?, names.into_iter().flatten());
    let order = (arguments.limit, arguments.seed);
    let sample = draw_unseen(&store, Some(&book), &task, order, &trained_on).await?;
    if sample.trained_on > 0 {
        eprintln!(
            "{} calls are left out: {} was trained on them",
            count(sample.trained_on as u64),
            arguments.to
        );
    }
    if sample.calls.is_empty() {
        let message = format!(
            "of {} calls of {task} none can be replayed",
            count(sample.of_task as u64)
        );
        return Err(Wrong(message).into());
    }
    let judge = judge(&place, arguments, &sample, &asked)?;
    let candidate = candidate.with_forms_of(&sample).with_judge(judge);
    let baseline = baseline(&place, arguments, &sample)?;
    let config = ReplayConfig {
        concurrency: arguments.concurrency.max(1),
        deadline: Duration::from_secs(arguments.timeout.max(1)),
        budget: Budget {
            rate: arguments.rate,
            max_calls: arguments.max_calls,
            max_usd: arguments.max_usd,
        },
        floor_enough: (!arguments.floor).then(|| FloorEnough {
            min_pairs: place.verdict().min_pairs,
            half_width: place.verdict().margin / 2.0,
        }),
        ..ReplayConfig::new(task)
    };
    let what = json!({ "command": "replay", "task": config.task, "to": arguments.to });
    log::note(&store, "read_content", what).await?;
    let bar = output::progress(
        sample.calls.len() as u64,
        "{bar:32} {pos} of {len} calls, {msg}, {elapsed} (eta {eta})",
    );
    let prices = place.prices()?;
    let replayed = replay(
        &store,
        &sample,
        &candidate,
        baseline.as_ref(),
        &prices,
        &config,
        |progress| {
            bar.set_position((progress.already + progress.asked) as u64);
            bar.set_message(format!("{} failed, {} so far", progress.failed, spent(progress)));
        },
    )
    .await;
    bar.finish_and_clear();
    let replayed = replayed?;
    say(&replayed, &sample, baseline.as_ref());
    Ok(replayed)
}

fn spent(progress: &Progress) -> String {
    match progress.unpriced {
        0 => dollars(Some(progress.cost_usd)),
        unpriced => format!(
            "{} and {unpriced} answers of unknown price",
            dollars(Some(progress.cost_usd))
        ),
    }
}

fn say(replayed: &Replayed, sample: &Sample, baseline: Option<&Arm>) {
    let done = &replayed.progress;
    eprintln!(
        "{}: {} of {} calls sampled, {} asked of {}, {} scored before, {} failed",
        replayed.task,
        count(done.calls as u64),
        count(sample.replayable as u64),
        count(done.asked as u64),
        replayed.candidate,
        count(done.already as u64),
        count(done.failed as u64)
    );
    if done.carried_calls > 0 {
        eprintln!(
            "goes on with a run that was broken off: {} calls and {} of its budget were spent by then",
            count(done.carried_calls),
            dollars(Some(done.carried_usd))
        );
    }
    if done.retried > 0 {
        eprintln!("{} tries failed and were made again", count(done.retried));
    }
    if let Some(reason) = done.stopped {
        eprintln!("ended early: {reason}; run it again to continue");
    }
    let known = done
        .floor_half_width
        .map_or_else(String::new, |half| format!(", known to ± {half:.3}"));
    eprintln!(
        "noise floor: {} pairs{known}; {} asked by this run, {} free in the traffic",
        count(done.floor_pairs as u64),
        count(done.floor_asked as u64),
        count(done.floor_free as u64)
    );
    if baseline.is_none() && done.floor_pairs == 0 {
        eprintln!("no key of the baseline is configured (`key_env`); without a noise floor no verdict is `promote`");
    }
    for kind in &replayed.scores {
        eprintln!("{}", of_kind(kind));
    }
    if let Some(judged) = &replayed.judged {
        eprintln!("{}", of_judge(judged));
    }
}

/// A line on what the judge said, and on how far it is to be believed.
fn of_judge(judged: &Judged) -> String {
    let share = |share: Option<f64>| share.map_or("?".to_owned(), |share| format!("{:.0} %", share * 100.0));
    let of_pairs = |count: usize| share((judged.pairs > 0).then(|| count as f64 / judged.pairs as f64));
    format!(
        "judge {}: {} answers, {} better than the recorded one, {} as good, {} worse; {} decided otherwise when swapped, the first \
         place won {} of decisions, {} not readable; where scores are exact it agrees with {} of {}; {} spent",
        judged.judge,
        count(judged.pairs as u64),
        of_pairs(judged.wins),
        of_pairs(judged.ties),
        of_pairs(judged.losses),
        of_pairs(judged.inconsistent),
        share(judged.first_place),
        count(judged.unread as u64),
        share(judged.calibration),
        count(judged.calibrated_on as u64),
        dollars(Some(judged.cost_usd))
    )
}

/// A line on the answers to one kind of recorded answer.
fn of_kind(kind: &KindSummary) -> String {
    let mut words = format!(
        "{}: {} answers, {} valid, {} the same",
        kind.kind, kind.answers, kind.valid, kind.exact
    );
    let figures = [
        ("agreement", kind.agreement),
        ("precision", kind.precision),
        ("recall", kind.recall),
        ("accuracy", kind.accuracy),
        ("kappa", kind.kappa),
        ("chrF++", kind.chrf),
        ("similarity", kind.similarity),
        ("length", kind.length),
    ];
    for (name, figure) in figures {
        if let Some(figure) = figure {
            words.push_str(&format!(", {name} {figure:.3}"));
        }
    }
    let counts = [
        ("refused", kind.refused),
        ("truncated", kind.truncated),
        ("in another language", kind.other_language),
    ];
    for (name, number) in counts.into_iter().filter(|(_, number)| *number > 0) {
        words.push_str(&format!(", {number} {name}"));
    }
    words
}

fn table(replayed: &Replayed) -> comfy_table::Table {
    let done = &replayed.progress;
    let mut table = output::table(&[
        "task",
        "candidate",
        "version",
        ">calls",
        ">asked",
        ">scored before",
        ">failed",
        ">floor asked",
        ">cost",
    ]);
    table.add_row([
        replayed.task.clone(),
        replayed.candidate.clone(),
        replayed.candidate_version.clone(),
        count(done.calls as u64),
        count(done.asked as u64),
        count(done.already as u64),
        count(done.failed as u64),
        count(done.floor_asked as u64),
        spent(done),
    ]);
    table
}

/// The candidate: at `--url`, else an upstream of the config.
fn candidate(place: &Place, arguments: &ReplayArguments) -> Result<UpstreamConfig> {
    if let Some(text) = &arguments.url {
        let url = Url::parse(text).map_err(|error| Wrong(format!("--url: `{text}` is not a URL: {error}")))?;
        let key = match &arguments.key_env {
            Some(name) => Some(std::env::var(name).map_err(|_| Wrong(format!("--key-env: {name} is not set")))?),
            None => None,
        };
        return Ok(UpstreamConfig {
            api: arguments.api.or(Some(Api::OpenaiChat)),
            model: arguments.model.clone(),
            key: key.map(Secret::new),
            ..UpstreamConfig::new(arguments.to.clone(), url)
        });
    }
    if place.config.is_none() {
        return Err(Wrong("say where the candidate is: --config FILE, or --url URL --model MODEL".into()).into());
    }
    let mut candidate = place.upstream("--to", &arguments.to)?.clone();
    candidate.model = arguments.model.clone().or(candidate.model);
    Ok(candidate)
}

/// The judge, where one is asked for: an upstream that is neither arm.
fn judge(
    place: &Place,
    arguments: &ReplayArguments,
    sample: &Sample,
    (url, model): &(Url, Option<String>),
) -> Result<Option<Judge>> {
    let Some(name) = &arguments.judge else { return Ok(None) };
    let upstream = place.upstream("--judge", name)?;
    let default = place.config.as_ref().map_or("", |config| &config.default_upstream);
    let is_baseline = |call: &Drawn| call.upstream.as_deref().unwrap_or(default) == name;
    let own = arguments.judge_model.as_ref().or(upstream.model.as_ref());
    let is_same = upstream.url == *url && own.is_some() && own == model.as_ref();
    if *name == arguments.to || is_same || sample.calls.iter().any(|call| is_baseline(call)) {
        return Err(Wrong(format!(
            "--judge: `{name}` is one of the two that are compared: name a third upstream, with another model"
        ))
        .into());
    }
    let Some(own) = own else {
        return Err(Wrong(format!(
            "which model of {name}? say --judge-model, or `model:` of the upstream"
        ))
        .into());
    };
    Ok(Some(Judge::new(Arc::new(place.open(upstream.clone())?), own.clone())))
}

/// The baseline of most calls of the sample, where it has a key, or is asked for.
fn baseline(place: &Place, arguments: &ReplayArguments, sample: &Sample) -> Result<Option<Arm>> {
    let Some(config) = &place.config else {
        return match arguments.floor {
            true => Err(Wrong("--floor needs --config, which says where the baseline is".into()).into()),
            false => Ok(None),
        };
    };
    let mut by_upstream: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &sample.calls {
        let named = call
            .upstream
            .as_deref()
            .filter(|name| config.upstreams.contains_key(*name));
        *by_upstream
            .entry(named.unwrap_or(&config.default_upstream))
            .or_default() += 1;
    }
    let most = by_upstream.into_iter().max_by_key(|(_, calls)| *calls);
    let found = most.and_then(|(name, _)| config.upstreams.get(name));
    match found {
        Some(upstream) if upstream.name == arguments.to => {
            eprintln!(
                "{} is the baseline itself: its noise floor is not measured",
                upstream.name
            );
            Ok(None)
        }
        Some(upstream) if arguments.floor || upstream.key.is_some() => {
            Ok(Some(Arm::baseline(Arc::new(place.open(upstream.clone())?))))
        }
        _ => Ok(None),
    }
}
