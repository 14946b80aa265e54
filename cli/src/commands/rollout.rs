//! `rollout`: the splits in force, and how a person moves them.

use crate::args::{DataArguments, RolloutArguments, RolloutCommand, RowFormat};
use crate::commands::bypass;
use crate::log;
use crate::output;
use crate::place::{Place, Wrong, book};
use crate::rollouts::{canaried, controls, judge, note, of_config};
use anyhow::{Context, Result};
use comfy_table::Table;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use understudy_call::control::{Control, Trip};
use understudy_call::taskbook::CompiledBook;
use understudy_collector::rollout::{self, Facts, Move, Route};
use understudy_collector::store::Store;
use understudy_collector::verdict::Verdict;
use understudy_collector::{control, rollout::weight};
use understudy_proxy::config::Config;
use understudy_proxy::guard::unwatched;

/// One candidate of a split.
#[derive(Serialize)]
struct Row {
    route: String,
    candidate: String,
    /// As config gives it, or a rollout begins with.
    configured: u32,
    /// At most.
    highest: u32,
    /// In force, for all tasks that no trip names.
    weight: u32,
    step: Option<u32>,
    step_began_at: Option<i64>,
    calls_in_step: u64,
    verdict: Option<String>,
    frozen: Option<String>,
    /// What its route's guard can't watch, and why.
    unguarded: Option<String>,
    trips: Vec<Trip>,
    control: Option<u32>,
    last: Option<String>,
    next: String,
}

/// What a command works with.
struct Desk {
    config: Config,
    store: Store,
    now: i64,
}

impl Desk {
    fn of(config: &Path) -> Result<Desk> {
        let place = Place::of(&DataArguments {
            data: None,
            config: Some(config.to_owned()),
        })?;
        let store = place.store()?;
        Ok(Desk {
            config: place.config.context("a config was just read")?,
            store,
            now: Timestamp::now().as_microsecond(),
        })
    }

    /// The routes that have a split.
    fn routes(&self) -> Vec<Route> {
        let split = self.config.routes.all().iter().filter(|route| !route.split.is_empty());
        split.map(|route| of_config(&self.config, route)).collect()
    }

    fn route(&self, wanted: Option<&str>) -> Result<Route> {
        let mut routes = self.routes();
        let ids: Vec<String> = routes.iter().map(|route| route.id.clone()).collect();
        let at = match wanted {
            Some(wanted) => ids.iter().position(|id| id == wanted),
            None if ids.len() == 1 => Some(0),
            None => None,
        };
        let Some(at) = at else {
            let told = match wanted {
                Some(wanted) => format!("there is no route `{wanted}` with a split"),
                None => "say which route".to_owned(),
            };
            let known = match ids.is_empty() {
                true => "the config has none with a split".to_owned(),
                false => format!("those of the config: {}", ids.join(", ")),
            };
            return Err(Wrong(format!("{told}; {known}")).into());
        };
        Ok(routes.swap_remove(at))
    }

    /// What the guard of a route can't watch, by candidate.
    fn unguarded(&self, route: &Route, book: Option<&CompiledBook>) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let Some(known) = self.config.routes.get(&route.id) else {
            return BTreeMap::new();
        };
        let found = unwatched(known, &self.config);
        if known.guard.is_some_and(|guard| guard.agreement.is_some()) && book.is_none() {
            let why = "not guarded on agreement: calls are compared by task, and there is no task book yet (`understudy tasks fit`)";
            for candidate in &route.candidates {
                all.entry(candidate.name.clone()).or_default().push(why.to_owned());
            }
        }
        for one in found {
            all.entry(one.candidate).or_default().push(one.why);
        }
        all.into_iter().map(|(name, whys)| (name, whys.join("; "))).collect()
    }

    async fn rows(&self) -> Result<Vec<Row>> {
        let (controls, book) = (controls(&self.store).await?, book(&self.store).await?);
        let mut rows = Vec::new();
        for route in self.routes() {
            let control = controls.get(&route.id);
            let facts = Facts {
                now: self.now,
                ..Facts::default()
            };
            let facts = Facts {
                canaried: canaried(&self.store, &route, control, &facts).await?,
                ..judge(&self.config, &self.store, book.as_ref(), &route, facts).await?
            };
            let unguarded = self.unguarded(&route, book.as_ref());
            rows.extend(of_route(&route, control, &facts).into_iter().map(|row| Row {
                unguarded: unguarded.get(&row.candidate).cloned(),
                ..row
            }));
        }
        Ok(rows)
    }
}

fn of_route(route: &Route, control: Option<&Control>, facts: &Facts) -> Vec<Row> {
    let none = Control::default();
    let known = control.unwrap_or(&none);
    let step = known.step.as_ref().filter(|_| known.stamp == route.stamp);
    let next = match rollout::decide(route, control, facts, false) {
        Move::Stay(why) => why,
        Move::Start => "it begins at the collector's next look".into(),
        Move::Step(candidate, weight) => format!("{candidate} gets {weight} at the collector's next look"),
        Move::Fail(why) => format!("a check fails: {why}"),
        Move::Freeze(why) => format!("it is frozen at the collector's next look: {why}"),
        Move::Rollback(why) => format!("it goes back at the collector's next look: {why}"),
    };
    let row = |candidate: &rollout::Candidate| {
        let trips = known.trips.iter();
        let trips: Vec<Trip> = trips
            .filter(|trip| trip.candidate == candidate.name && trip.stamp == route.stamp)
            .cloned()
            .collect();
        let is_out = trips.iter().any(|trip| trip.task.is_none() || trip.task == route.task);
        let judged = |verdict: &&Verdict| verdict.candidate == candidate.name;
        Row {
            route: route.id.clone(),
            candidate: candidate.name.clone(),
            configured: candidate.begins,
            highest: candidate.highest,
            weight: if is_out { 0 } else { weight(known, route, candidate) },
            step: step.map(|step| step.number),
            step_began_at: step.map(|step| step.began_at),
            calls_in_step: facts.canaried.get(&candidate.name).copied().unwrap_or_default(),
            verdict: facts
                .verdicts
                .iter()
                .find(judged)
                .map(|verdict| verdict.verdict.to_string()),
            frozen: known.frozen.as_ref().map(|frozen| frozen.why.clone()),
            unguarded: None,
            trips,
            control: control.map(|control| control.version),
            last: control.map(|control| format!("{} by {}: {}", control.action, control.by, control.why)),
            next: next.clone(),
        }
    };
    route.candidates.iter().map(row).collect()
}

/// Does what was asked.
pub(crate) async fn run(command: RolloutCommand) -> Result<()> {
    match command {
        RolloutCommand::Status { format, config } => {
            let desk = Desk::of(&config)?;
            let rows = desk.rows().await?;
            if bypass::is_on(&desk.store).await? {
                eprintln!("bypass is on: whatever is in force, every call goes to its baseline");
            }
            if rows.is_empty() {
                eprintln!("no route of {} has a split", config.display());
            }
            print(format, &rows)
        }
        RolloutCommand::Promote(arguments) => promote(arguments).await,
        RolloutCommand::Pause(arguments) => {
            freely(arguments, "paused", |control, route, by, why, now| {
                control.frozen.is_none() && rollout::put(control, route, &Move::Freeze(why.to_owned()), by, now)
            })
            .await
        }
        RolloutCommand::Resume(arguments) => freely(arguments, "resumed", rollout::resume).await,
        RolloutCommand::Rollback(arguments) => {
            freely(arguments, "taken back", |control, route, by, why, now| {
                let is_back =
                    control.weight_is_zero(&route.stamp) && control.weights.values().all(|weight| *weight == 0);
                !is_back && rollout::put(control, route, &Move::Rollback(why.to_owned()), by, now)
            })
            .await
        }
    }
}

async fn promote(arguments: RolloutArguments) -> Result<()> {
    let desk = Desk::of(&arguments.config)?;
    let route = desk.route(arguments.route.as_deref())?;
    let current = control::current(&desk.store, &route.id).await?;
    let facts = Facts {
        now: desk.now,
        ..Facts::default()
    };
    let decided = rollout::decide(&route, current.as_ref(), &facts, true);
    if let Move::Stay(why) = &decided {
        let way = "`understudy rollout resume` ends a freeze, a rollback and trips";
        return Err(Wrong(format!("{} is not promoted: {why} ({way})", route.id)).into());
    }
    let version = current.map_or(0, |control| control.version);
    let by = log::by();
    let in_force = rollout::write(&desk.store, &route, version, &decided, &by, desk.now).await?;
    if in_force.at != desk.now || in_force.by != by {
        anyhow::bail!(
            "{} was changed meanwhile: look at `understudy rollout status`",
            route.id
        );
    }
    note(&desk.store, &route, &in_force).await?;
    eprintln!("{}: {}", route.id, in_force.why);
    print(arguments.format, &desk.rows().await?)
}

/// Changes a route's control, whatever it is by now.
async fn freely(
    arguments: RolloutArguments,
    done: &str,
    change: impl Fn(&mut Control, &Route, &str, &str, i64) -> bool,
) -> Result<()> {
    let desk = Desk::of(&arguments.config)?;
    let route = desk.route(arguments.route.as_deref())?;
    let (by, why) = (log::by(), arguments.why.unwrap_or_else(|| "by hand".into()));
    let mut is_changed = false;
    let in_force = control::change(&desk.store, &route.id, |control| {
        is_changed = change(control, &route, &by, &why, desk.now);
        is_changed
    })
    .await?;
    match is_changed {
        true => {
            note(&desk.store, &route, &in_force).await?;
            eprintln!("{} is {done}: proxies follow within seconds", route.id);
        }
        false => eprintln!("{} is so already: nothing was changed", route.id),
    }
    print(arguments.format, &desk.rows().await?)
}

fn print(format: RowFormat, rows: &[Row]) -> Result<()> {
    output::print_with(format, rows, || table(rows), words)
}

fn table(rows: &[Row]) -> Table {
    let mut table = output::table(&[
        "route",
        "candidate",
        ">configured",
        ">in force",
        ">highest",
        ">step",
        ">calls in it",
        "verdict",
        "frozen",
        "tripped",
    ]);
    for row in rows {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        table.add_row([
            row.route.clone(),
            row.candidate.clone(),
            row.configured.to_string(),
            row.weight.to_string(),
            row.highest.to_string(),
            row.step.map_or_else(|| "-".into(), |step| step.to_string()),
            output::count(row.calls_in_step),
            row.verdict.clone().unwrap_or_else(|| "?".into()),
            yes(row.frozen.is_some()),
            yes(!row.trips.is_empty()),
        ]);
    }
    output::fit(&mut table, &["highest", "calls in it", "configured"]);
    table
}

fn words(row: &Row) -> String {
    let mut words = format!("{}, {}: {}", row.route, row.candidate, row.next);
    if let Some(unguarded) = &row.unguarded {
        words.push_str(&format!("\n  {unguarded}"));
    }
    for Trip { task, metric, why, .. } in &row.trips {
        let of = task.as_ref().map_or_else(String::new, |task| format!(" for {task}"));
        words.push_str(&format!("\n  tripped{of} on {metric}: {why}"));
    }
    words
}
