//! `explain`: where a request would go, and why; the same choice that a live call gets, and nothing sent.

use crate::args::{DataArguments, ExplainArguments};
use crate::commands::bypass;
use crate::output;
use crate::place::{Place, Wrong, book};
use anyhow::{Context, Result, bail};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::time::Duration;
use understudy_call::call::Api;
use understudy_call::control::Control;
use understudy_call::keys::Origins;
use understudy_call::wire;
use understudy_collector::control;
use understudy_proxy::accepted::Accepted;
use understudy_proxy::choose::{Asked, Choice, Chosen};
use understudy_proxy::control::{Controls, Standing, standing};
use understudy_proxy::headers::{credential, take_ours};
use understudy_proxy::route::{RouteMatch, ValidRoute, address};
use understudy_proxy::split;

/// The longest request.
const MAX_REQUEST: u64 = 64 << 20;

/// What is said of a request.
#[derive(Serialize)]
struct Explained {
    api: &'static str,
    addressed: String,
    task: Option<String>,
    task_confidence: Option<f64>,
    taskbook_version: Option<i32>,
    route: Option<String>,
    rule: Option<String>,
    affinity_key: Option<String>,
    split: Vec<(String, u32)>,
    weights: Vec<(String, u32)>,
    bucket: Option<String>,
    control: Option<String>,
    frozen: Option<String>,
    upstream: String,
    why: String,
}

/// Prints what would be done with the request.
pub(crate) async fn run(arguments: ExplainArguments) -> Result<()> {
    let body = read(&arguments)?;
    let place = Place::of(&DataArguments {
        data: None,
        config: Some(arguments.config.clone()),
    })?;
    let config = place.config.as_ref().context("a config was just read")?;
    let store = place.store()?;
    let book = book(&store).await?;
    let keys = place.keys()?;
    let mut headers = headers(&arguments.headers)?;
    let told = take_ours(&mut headers);
    let path = arguments.path.as_str();
    let (named, path) = address(path, |name| config.upstreams.contains_key(name));
    let addressed = named.unwrap_or(&config.default_upstream);
    let bare_path = path.split('?').next().unwrap_or_default();
    let api = wire::detect(bare_path);
    let request = wire::parse_request_at(api, bare_path, &body).ok();
    if request.is_none() && api != Api::Other {
        eprintln!(
            "{} is no request of {}: it has no task",
            arguments.request.display(),
            api.as_str()
        );
    }
    let origins = Origins::new(&keys.origin);
    // A client whose key the baseline has accepted before: anyone else is never canaried.
    let client = origins.pseudonym("client", &credential(&headers, path).unwrap_or_default());
    let accepted = Accepted::new(Duration::from_secs(3600));
    accepted.accept(&client);
    let controls = control::newer_than(&store, &BTreeMap::new()).await?;
    let controls: Controls = controls.into_iter().map(|one| (one.route.clone(), one)).collect();
    let choice = Choice {
        routes: &config.routes,
        book: book.as_ref(),
        controls: &controls,
        accepted: &accepted,
        origins: &origins,
        upstream: &|name| config.upstreams.get(name),
        allow_pins: config.allow_pins,
    };
    let chosen = choice.choose(&Asked {
        addressed,
        api,
        path_and_query: path,
        headers: &headers,
        told: &told,
        client_id: Some(&client),
        body: Some(&body),
        request: request.as_ref(),
    });
    // The task is said even where no route asks for it.
    let assignment = match (&chosen.task, &book, &request) {
        (Some(task), _, _) => Some(task.clone()),
        (None, Some(book), Some(request)) => book.assign(request),
        _ => None,
    };
    let route = chosen.route.as_deref().and_then(|id| config.routes.get(id));
    let control = route.and_then(|route| controls.get(&route.id));
    let task = chosen.task.as_ref().map(|task| task.task.as_str());
    if bypass::is_on(&store).await? {
        eprintln!("bypass is on: whatever is said here, the call goes to {addressed} and is not kept");
    }
    let explained = Explained {
        api: api.as_str(),
        addressed: addressed.to_owned(),
        task: assignment.as_ref().map(|assignment| assignment.task.clone()),
        task_confidence: assignment.map(|assignment| assignment.confidence),
        taskbook_version: book.as_ref().map(|book| book.version()),
        route: chosen.route.clone(),
        rule: route.map(|route| rule(&route.matching)),
        affinity_key: chosen.affinity_key.clone(),
        split: route.map_or_else(Vec::new, |route| route.split.clone().into_iter().collect()),
        weights: route.map_or_else(Vec::new, |route| weights(route, control, task)),
        bucket: bucket(&chosen, addressed, route),
        control: control.map(|control| {
            let Control {
                version,
                action,
                why,
                by,
                ..
            } = control;
            format!("{version}, {action} by {by}: {why}")
        }),
        frozen: control.and_then(|control| Some(control.frozen.as_ref()?.why.clone())),
        upstream: chosen.candidate.clone().unwrap_or_else(|| addressed.to_owned()),
        why: why(&chosen, addressed),
    };
    output::print_one(arguments.format, &explained, || text(&explained).unwrap_or_default())
}

fn read(arguments: &ExplainArguments) -> Result<Vec<u8>> {
    let path = &arguments.request;
    let reading = || format!("reading {}", path.display());
    let mut body = Vec::new();
    let file = File::open(path).with_context(reading)?;
    file.take(MAX_REQUEST + 1)
        .read_to_end(&mut body)
        .with_context(reading)?;
    if body.len() as u64 > MAX_REQUEST {
        bail!("{} is longer than {} MiB", path.display(), MAX_REQUEST >> 20);
    }
    Ok(body)
}

fn headers(lines: &[String]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let wrong = || Wrong(format!("--header: `{line}` is not of the form `name: value`"));
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        headers.append(name, HeaderValue::try_from(value.trim()).map_err(|_| wrong())?);
    }
    Ok(headers)
}

/// What a route takes, in words.
fn rule(matching: &RouteMatch) -> String {
    let fields = [
        ("task", &matching.task),
        ("path", &matching.path),
        ("model", &matching.model),
        ("upstream", &matching.upstream),
    ];
    let fields = fields
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key} is {}", value.as_ref()?)));
    let headers = matching
        .header
        .iter()
        .map(|(name, value)| format!("header {name} is {value}"));
    let words: Vec<String> = fields.chain(headers).collect();
    match words.is_empty() {
        true => "all calls".into(),
        false => words.join(", "),
    }
}

/// The weights in force, controls and trips included.
fn weights(route: &ValidRoute, control: Option<&Control>, task: Option<&str>) -> Vec<(String, u32)> {
    let mut rest: u32 = route.arms.iter().map(|arm| arm.weight).sum();
    let mut weights = Vec::new();
    for arm in route.arms.iter().filter(|arm| arm.upstream != route.baseline) {
        let weight = standing(route, control, &arm.upstream, task).weight;
        rest = rest.saturating_sub(weight);
        weights.push((arm.upstream.clone(), weight));
    }
    if !route.arms.is_empty() {
        weights.insert(0, (route.baseline.clone(), rest));
    }
    weights
}

/// Whose part of the split the conversation is in, and from which weight on it goes there.
fn bucket(chosen: &Chosen, addressed: &str, route: Option<&ValidRoute>) -> Option<String> {
    let Some((candidate, Standing { weight, highest, .. })) = &chosen.bucket else {
        return chosen.split.then(|| addressed.to_owned());
    };
    let arm = route.and_then(|route| Some((route, route.arms.iter().find(|arm| arm.upstream == *candidate)?)));
    let from = arm.zip(chosen.affinity_key.as_deref()).and_then(|((route, arm), key)| {
        // A thousand steps tell it well enough where weights are large.
        let step = (arm.weight / 1000).max(1) as usize;
        let mut weights = (1..=arm.weight).step_by(step).chain([arm.weight]);
        weights.find(|weight| split::keeps(arm, *weight, key, &route.id))
    });
    Some(match from {
        Some(from) => format!("{candidate} from a weight of {from} on; it has {weight}, and {highest} at most"),
        None => format!("{candidate}, at a weight of {weight}, {highest} at most"),
    })
}

fn why(chosen: &Chosen, addressed: &str) -> String {
    match (&chosen.candidate, chosen.not_canaried, &chosen.route) {
        (Some(_), _, _) if chosen.split => {
            "its conversation falls to this arm of the split, once the baseline has accepted its client".into()
        }
        (Some(_), _, _) => "the request pins it".into(),
        (None, Some(reason), _) => {
            let reason = reason.replace('_', " ");
            match &chosen.detail {
                Some(detail) => format!("it stays with {addressed}: {reason}: {detail}"),
                None => format!("it stays with {addressed}: {reason}"),
            }
        }
        (None, None, Some(_)) if chosen.bucket.is_some() => {
            format!(
                "it stays with {addressed}: the candidate's weight in force is too low for its conversation (see bucket)"
            )
        }
        (None, None, Some(_)) if chosen.split => format!("its conversation falls to {addressed} in the split"),
        (None, None, Some(_)) => "its route has no split, so it goes where it is addressed".into(),
        (None, None, None) => "no route matches, so it goes where it is addressed".into(),
    }
}

fn text(explained: &Explained) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let none = "none";
    let task = match (&explained.task, explained.task_confidence) {
        (Some(task), Some(confidence)) => format!("{task} (likeness {confidence:.2})"),
        _ => none.to_owned(),
    };
    let book = match explained.taskbook_version {
        Some(version) => format!("task book {version}"),
        None => "no task book yet".into(),
    };
    let told = |weights: &[(String, u32)]| {
        let weights: Vec<String> = weights
            .iter()
            .map(|(name, weight)| format!("{name} {weight}"))
            .collect();
        match weights.is_empty() {
            true => none.to_owned(),
            false => weights.join(", "),
        }
    };
    writeln!(text, "api        {}", explained.api)?;
    writeln!(text, "addressed  {}", explained.addressed)?;
    writeln!(text, "task       {task}, {book}")?;
    writeln!(text, "route      {}", explained.route.as_deref().unwrap_or(none))?;
    writeln!(text, "rule       {}", explained.rule.as_deref().unwrap_or(none))?;
    writeln!(text, "split      {}", told(&explained.split))?;
    writeln!(text, "in force   {}", told(&explained.weights))?;
    writeln!(text, "control    {}", explained.control.as_deref().unwrap_or(none))?;
    if let Some(why) = &explained.frozen {
        writeln!(text, "frozen     {why}")?;
    }
    writeln!(text, "bucket     {}", explained.bucket.as_deref().unwrap_or(none))?;
    writeln!(text, "bucket of  {}", explained.affinity_key.as_deref().unwrap_or(none))?;
    writeln!(text, "upstream   {}", explained.upstream)?;
    writeln!(text, "why        {}", explained.why)?;
    Ok(text)
}
