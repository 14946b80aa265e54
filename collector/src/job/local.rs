//! A job in this process: an object of calls in, an object of results out, as many at once as there are threads.
//!
//! A plan is put first, so that a job that was cut off goes on with the same objects; what is there already is not made
//! again. Nothing in the store is changed. One object for each thread is in memory, and a few hundred rows unpacked.

use super::digest::Digest;
use super::mask::Remask;
use super::rows::Sum;
use super::stats::Stats;
use super::step::{Assign, Counts, Pipe, Step, StepName, Work};
use crate::compact::{CompactError, hidden};
use crate::erase::Tombstones;
use crate::store::{Store, StoreError};
use crate::table::{Columns, TableError, TableKeys, TableWriter, batches, call_batches};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// Where the sums of single objects are, until they are added up.
const PARTS: &str = "_parts";
/// The folder that objects of calls are in.
const CALLS: &str = "calls/";

/// Why a job stopped. What is done stays done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The store, or where the results go, failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It can't be told which objects are merged.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// An object can't be read, or its results not be written.
    #[error("{key:?}: {source}")]
    Table {
        /// The object.
        key: String,
        /// What is wrong with it.
        source: TableError,
    },
    /// The step broke on an object.
    #[error("{key:?}: the step failed on it")]
    Broke {
        /// The object.
        key: String,
    },
    /// An object of the plan is gone.
    #[error("{0:?} was merged or erased since this job was begun: begin it again in a new folder")]
    Gone(String),
    /// What is made, or a part of it, may hold calls that are erased by now.
    #[error(
        "calls were erased since this job was begun: begin it again in a new folder, and remove {0}, which may hold some"
    )]
    Erased(String),
    /// There is nothing to work on.
    #[error("no call is stored yet")]
    NoCalls,
    /// The folder is another job's.
    #[error("{0} holds a job of other settings: say another folder")]
    OtherJob(String),
    /// A plan, or what a job came to, can't be read.
    #[error("{0:?} can't be read: say another folder")]
    Unreadable(String),
    /// No threads.
    #[error("could not start threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// How a job is run here.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Objects worked on at once.
    pub threads: usize,
    /// What else decides over the results, in short: another folder is asked for where it differs.
    pub settings: String,
}

/// What a job works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// As [`LocalOptions::settings`].
    pub settings: String,
    /// The objects of calls.
    pub inputs: Vec<String>,
    /// What was erased by then: [`Tombstones::digest`].
    #[serde(default)]
    pub erased: String,
}

impl Plan {
    /// Fails where a call was erased since the plan was made. Asked before a job goes on, and before it is done.
    ///
    /// # Errors
    /// Then, and where the store fails.
    pub async fn check(&self, store: &Store, out: &Store, erased: &Tombstones) -> Result<(), JobError> {
        match self.erased != erased.digest() || erased.are_outdated(store).await? {
            true => Err(JobError::Erased(out.location().to_owned())),
            false => Ok(()),
        }
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Objects of calls.
    pub objects: usize,
    /// Those done, by this run or one before.
    pub done: usize,
}

/// What a job came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The step.
    pub job: String,
    /// Objects of calls.
    pub objects: u64,
    /// Rows of results.
    pub rows: u64,
    /// Their digest: the same whichever engine made them, in whatever order.
    pub digest: String,
    /// When, in RFC 3339; unknown of jobs that were done by an older program.
    #[serde(default)]
    pub at: Option<String>,
    /// Whether it was done by a run before this one.
    #[serde(skip)]
    pub is_old: bool,
    /// Rows read by this run.
    #[serde(skip)]
    pub read: Counts,
    /// Objects that were done before.
    #[serde(skip)]
    pub already: u64,
}

impl Done {
    /// What a job came to just now.
    pub fn now(step: StepName, objects: u64, rows: u64, digest: String) -> Done {
        Done {
            job: step.as_str().to_owned(),
            objects,
            rows,
            digest,
            at: Timestamp::from_second(Timestamp::now().as_second())
                .ok()
                .map(|now| now.to_string()),
            is_old: false,
            read: Counts::default(),
            already: 0,
        }
    }

    /// Where it is said that a job is done.
    pub fn key(step: StepName) -> String {
        format!("_commits/{}.json", step.as_str())
    }

    /// What the job in this folder came to, if it is done.
    ///
    /// # Errors
    /// Where it can't be read.
    pub async fn load(out: &Store, step: StepName) -> Result<Option<Done>, JobError> {
        let done: Option<Done> = read_json(out, &Done::key(step)).await?;
        Ok(done.map(|done| Done {
            is_old: true,
            already: done.objects,
            ..done
        }))
    }

    /// Says that the job is done.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn put(&self, out: &Store, step: StepName) -> Result<(), JobError> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        out.create(&Done::key(step), json.into()).await?;
        Ok(())
    }
}

/// The plan of the job in this folder, made now where there is none; `erased` is what was erased by now.
///
/// # Errors
/// Where a store fails, no call is stored, or the folder is another job's.
pub async fn plan(
    store: &Store,
    out: &Store,
    step: StepName,
    settings: &str,
    erased: &Tombstones,
) -> Result<Plan, JobError> {
    let key = format!("_jobs/{}.json", step.as_str());
    let mut found: Option<Plan> = read_json(out, &key).await?;
    if found.is_none() {
        let listed = store.list(CALLS).await?;
        // Asked after the listing: what is merged from now on was listed unmerged.
        let hidden = hidden(store).await?;
        let is_read = |key: &String| key.ends_with(".parquet") && !hidden.contains(key);
        let made = Plan {
            settings: settings.to_owned(),
            inputs: listed.into_iter().map(|object| object.key).filter(is_read).collect(),
            erased: erased.digest(),
        };
        if made.inputs.is_empty() {
            return Err(JobError::NoCalls);
        }
        let json = serde_json::to_vec(&made).unwrap_or_default();
        found = match out.create(&key, json.into()).await? {
            true => Some(made),
            // Another run was quicker.
            false => read_json(out, &key).await?,
        };
    }
    match found {
        Some(plan) if plan.settings == settings => Ok(plan),
        Some(_) => Err(JobError::OtherJob(out.location().to_owned())),
        None => Err(JobError::Unreadable(key)),
    }
}

async fn read_json<T: for<'de> Deserialize<'de>>(out: &Store, key: &str) -> Result<Option<T>, JobError> {
    match out.get(key).await {
        Ok(json) => serde_json::from_slice(&json)
            .map(Some)
            .map_err(|_| JobError::Unreadable(key.into())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Runs a job to its end, or goes on with it.
///
/// # Errors
/// Where a store fails, an object can't be read, or the folder is another job's.
pub async fn run(
    work: &Work,
    store: &Store,
    out: &Store,
    options: &LocalOptions,
    progress: impl FnMut(Progress),
) -> Result<Done, JobError> {
    let step = work.name();
    // Before the plan: what is erased from now on is told by another tombstone.
    let erased = Arc::new(Tombstones::load(store).await?);
    let plan = plan(store, out, step, &options.settings, &erased).await?;
    if let Some(done) = Done::load(out, step).await? {
        return Ok(done);
    }
    plan.check(store, out, &erased).await?;
    let job = Job {
        store,
        out,
        folder: step.folder(),
        inputs: &plan.inputs,
        threads: options.threads.max(1),
        pool: Arc::new(ThreadPoolBuilder::new().num_threads(options.threads.max(1)).build()?),
        erased: erased.clone(),
    };
    let (digest, read, already) = match work.clone() {
        Work::Assign(book) => job.map(Assign(book), progress).await?,
        Work::Mask(mask) => job.map(Remask(mask), progress).await?,
        Work::Stats(book) => job.sum(Stats(book), progress).await?,
    };
    let done = Done {
        read,
        already,
        ..Done::now(step, plan.inputs.len() as u64, digest.rows, digest.to_string())
    };
    plan.check(store, out, &erased).await?;
    done.put(out, step).await?;
    Ok(done)
}

struct Job<'a> {
    store: &'a Store,
    out: &'a Store,
    folder: &'static str,
    inputs: &'a [String],
    threads: usize,
    pool: Arc<ThreadPool>,
    erased: Arc<Tombstones>,
}

impl Job<'_> {
    /// A step whose rows are the results.
    async fn map<S: Step>(&self, step: S, progress: impl FnMut(Progress)) -> Result<(Digest, Counts, u64), JobError> {
        let folder = self.folder;
        let (read, already) = self.parts(step, folder, progress).await?;
        let digests = stream::iter(self.inputs).map(|input| self.digest_of::<S>(part_key(folder, input)));
        let digest = digests.buffer_unordered(self.threads);
        let digest = digest.try_fold(Digest::default(), |mut all, part| async move {
            all.merge(part);
            Ok(all)
        });
        Ok((digest.await?, read, already))
    }

    /// A step whose rows add up.
    async fn sum(&self, step: Stats, progress: impl FnMut(Progress)) -> Result<(Digest, Counts, u64), JobError> {
        let parts = format!("{PARTS}/{}", self.folder);
        let (read, already) = self.parts(step, &parts, progress).await?;
        let mut sums: Vec<Sum> = Vec::new();
        for input in self.inputs {
            add_sums(self.out, &part_key(&parts, input), &mut sums).await?;
        }
        let mut digest = Digest::default();
        sums.iter().for_each(|sum| digest.add(sum));
        let key = format!("{}/all.parquet", self.folder);
        let parquet = parquet_of_sums(&sums, self.out.table_keys()).map_err(at(&key))?;
        self.out.create(&key, parquet).await?;
        Ok((digest, read, already))
    }

    /// Makes the parts that are missing, each from one object of calls.
    async fn parts<S: Step>(
        &self,
        step: S,
        folder: &str,
        mut progress: impl FnMut(Progress),
    ) -> Result<(Counts, u64), JobError> {
        let there: HashSet<String> = self.out.list(folder).await?.into_iter().map(|part| part.key).collect();
        let missing: Vec<&String> = self
            .inputs
            .iter()
            .filter(|input| !there.contains(&part_key(folder, input)))
            .collect();
        let objects = self.inputs.len();
        let already = objects - missing.len();
        let (step, mut counts, mut done) = (Arc::new(step), Counts::default(), already);
        let parts = missing.into_iter().map(|input| self.part(step.clone(), folder, input));
        let mut parts = stream::iter(parts).buffer_unordered(self.threads);
        progress(Progress { objects, done });
        while let Some(part) = parts.next().await {
            counts.merge(part?);
            done += 1;
            progress(Progress { objects, done });
        }
        Ok((counts, already as u64))
    }

    async fn part<S: Step>(&self, step: Arc<S>, folder: &str, input: &str) -> Result<Counts, JobError> {
        let bytes = match self.store.get(input).await {
            Err(error) if error.is_not_found() => return Err(JobError::Gone(input.into())),
            bytes => bytes?,
        };
        let (keys, out_keys) = (self.store.table_keys().clone(), self.out.table_keys().clone());
        let erased = self.erased.clone();
        let made = self.blocking(input, move || part_of(&*step, bytes, &keys, &out_keys, &erased));
        let (parquet, counts) = made.await?;
        self.out.create(&part_key(folder, input), parquet).await?;
        Ok(counts)
    }

    async fn digest_of<S: Step>(&self, key: String) -> Result<Digest, JobError> {
        let (bytes, keys) = (self.out.get(&key).await?, self.out.table_keys().clone());
        self.blocking(&key, move || {
            let mut digest = Digest::default();
            for batch in batches::<S::Out>(bytes, &Columns::All, &keys)? {
                batch?.iter().for_each(|row| digest.add(row));
            }
            Ok(digest)
        })
        .await
    }

    /// Off the runtime's threads, on those of this job alone.
    async fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, JobError> {
        let pool = self.pool.clone();
        let made = tokio::task::spawn_blocking(move || pool.install(make)).await;
        made.map_err(|_| JobError::Broke { key: key.into() })?.map_err(at(key))
    }
}

/// The sums of a job that is done.
///
/// # Errors
/// Where they can't be read.
pub async fn sums(out: &Store) -> Result<Vec<Sum>, JobError> {
    let mut sums = Vec::new();
    for object in out.list(StepName::Stats.folder()).await? {
        if object.key.ends_with(".parquet") {
            add_sums(out, &object.key, &mut sums).await?;
        }
    }
    Ok(sums)
}

async fn add_sums(out: &Store, key: &str, sums: &mut Vec<Sum>) -> Result<(), JobError> {
    for batch in batches::<Sum>(out.get(key).await?, &Columns::All, out.table_keys()).map_err(at(key))? {
        sums.extend(batch.map_err(at(key))?);
    }
    *sums = Stats::gather(std::mem::take(sums));
    Ok(())
}

fn at(key: &str) -> impl Fn(TableError) -> JobError {
    move |source| JobError::Table {
        key: key.to_owned(),
        source,
    }
}

/// The part that is made of an object: at the same place below another folder.
fn part_key(folder: &str, input: &str) -> String {
    format!("{folder}/{}", input.strip_prefix(CALLS).unwrap_or(input))
}

fn part_of<S: Step>(
    step: &S,
    bytes: Bytes,
    keys: &TableKeys,
    out_keys: &TableKeys,
    erased: &Tombstones,
) -> Result<(Bytes, Counts), TableError> {
    let mut pipe = Pipe::new(step, erased);
    let mut writer = TableWriter::<S::Out>::new(out_keys)?;
    for batch in call_batches(bytes, &pipe.columns(), keys)? {
        let rows = pipe.pass(batch?);
        writer.write(&rows.iter().collect::<Vec<_>>())?;
    }
    let counts = pipe.counts;
    let rows = pipe.end();
    writer.write(&rows.iter().collect::<Vec<_>>())?;
    Ok((writer.finish()?, counts))
}

fn parquet_of_sums(sums: &[Sum], keys: &TableKeys) -> Result<Bytes, TableError> {
    let mut writer = TableWriter::<Sum>::new(keys)?;
    writer.write(&sums.iter().collect::<Vec<_>>())?;
    writer.finish()
}
