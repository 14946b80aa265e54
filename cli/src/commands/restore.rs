//! `restore`: values in the place of their surrogates, for who has the vault's key; each use is in the audit log.

use crate::args::RestoreArguments;
use crate::output::Out;
use crate::place::Place;
use crate::{keys, log};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;
use std::collections::HashSet;
use std::io::Read;
use understudy_collector::vault::{Contents, Vault};

/// The most that is read.
const MAX_INPUT: u64 = 1 << 30;

/// A line that says whose it is.
#[derive(Deserialize)]
struct OfCall {
    call_id: String,
}

/// Prints the file with all values that the vault has put back.
pub(crate) async fn run(arguments: RestoreArguments) -> Result<()> {
    let place = Place::of(&arguments.place)?;
    let source = place.key_source();
    let keys = keys::generations(&source, keys::VAULT_KEY)?;
    let Some(vault) = Vault::new(keys) else {
        bail!(
            "there is no vault key in {source}: values can be restored only with the key of a vault (`mask: {{ vault: on }}`)"
        );
    };
    let text = read(&arguments.file)?;
    let named = named(&text);
    let store = place.existing_store()?;
    log::note(
        &store,
        "restore",
        json!({ "file": arguments.file, "bytes": text.len(), "calls": named.as_ref().map(HashSet::len) }),
    )
    .await?;
    let contents = vault.open(&store, named.as_ref()).await?;
    for (key, calls) in &contents.locked {
        eprintln!("{calls} calls are sealed with the vault key {key}, which is not in {source}");
    }
    if contents.calls() == 0 && (named.is_none() || !contents.locked.is_empty()) {
        bail!("the vault holds nothing that these keys open");
    }
    let all = contents.of_all()?;
    let (mut out, mut many) = (Out::new(), 0);
    // One JSON text over several lines, or lines of whatever.
    if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() {
        let (restored, count) = of_line(&contents, &text)?.unwrap_or_else(|| all.restore(&text));
        many += u64::from(count);
        out.line(restored.trim_end_matches('\n'))?;
    } else {
        for line in text.split_inclusive('\n') {
            let line = line.strip_suffix('\n').unwrap_or(line);
            let (restored, count) = of_line(&contents, line)?.unwrap_or_else(|| all.restore(line));
            many += u64::from(count);
            out.line(&restored)?;
        }
    }
    out.finish()?;
    eprintln!("{many} values of {} calls in the vault were put back", contents.calls());
    Ok(())
}

/// The calls that are meant, where every line names one: then no other is opened.
fn named(text: &str) -> Option<HashSet<String>> {
    let id = |line: &str| Some(serde_json::from_str::<OfCall>(line).ok()?.call_id);
    if let Some(id) = id(text) {
        return Some([id].into());
    }
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(id).collect()
}

/// A line that names its call gets back that call's own values: spellings that share a surrogate are told apart.
fn of_line(contents: &Contents, line: &str) -> Result<Option<(String, u32)>> {
    let Ok(OfCall { call_id }) = serde_json::from_str(line) else {
        return Ok(None);
    };
    let restorer = contents.of_call(&call_id)?;
    Ok(restorer.map(|restorer| restorer.restore(line)))
}

fn read(file: &str) -> Result<String> {
    let mut text = String::new();
    let reading: Box<dyn Read> = match file {
        "-" => Box::new(std::io::stdin().lock()),
        path => Box::new(std::fs::File::open(path).with_context(|| format!("opening {path}"))?),
    };
    let bytes = reading.take(MAX_INPUT + 1).read_to_string(&mut text);
    let bytes = bytes.with_context(|| format!("reading {file}, which must be text in UTF-8"))?;
    if bytes as u64 > MAX_INPUT {
        bail!("{file} is over 1 GiB: restore it in parts");
    }
    Ok(text)
}
