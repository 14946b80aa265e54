//! `erase`: takes the calls of a person, a conversation or an age out of everything that can be reached.

use crate::args::EraseArguments;
use crate::output::{self, count};
use crate::place::{Place, Wrong};
use crate::{drain, exports, keys, log};
use anyhow::{Context, Result, bail};
use comfy_table::Table;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Read;
use understudy_call::keys::Origins;
use understudy_collector::erase::{Aged, Receipt, Wanted, erase, sweep_scores, wait_for_spools};
use understudy_proxy::config::duration;

/// Most bytes read of standard input.
const MAX_VALUES: u64 = 1 << 20;

/// Erases, and prints the receipt.
pub(crate) async fn run(arguments: EraseArguments) -> Result<()> {
    let now = Timestamp::now().as_microsecond();
    let place = Place::of(&arguments.place)?;
    let mut wanted = Wanted {
        clients: arguments.client.iter().cloned().collect(),
        users: arguments.user.iter().cloned().collect(),
        conversations: arguments.conversation.iter().cloned().collect(),
        aged: Vec::new(),
    };
    if let Some(age) = &arguments.older_than {
        let age = duration(age).ok_or_else(|| Wrong(format!("`{age}` is no age: write it like 90d, 12h or 30m")))?;
        wanted.aged.push(Aged {
            before: now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)),
            ..Aged::default()
        });
    }
    if arguments.client_value_stdin {
        let sent = |value: &str| vec![value.to_owned(), format!("Bearer {value}")];
        wanted.clients.extend(pseudonyms(&place, "client", sent)?);
    }
    if arguments.user_value_stdin {
        wanted
            .users
            .extend(pseudonyms(&place, "user", |value| vec![value.to_owned()])?);
    }
    if wanted == Wanted::default() {
        return Err(Wrong(
            "erase what? say --client, --client-value-stdin, --user, --user-value-stdin, --conversation or --older-than"
                .into(),
        )
        .into());
    }
    let wait = duration(&arguments.wait)
        .ok_or_else(|| Wrong(format!("`{}` is no duration: write it like 45s or 0s", arguments.wait)))?;
    let store = place.existing_store()?;
    let what = json!({ "clients": wanted.clients, "users": wanted.users, "conversations": wanted.conversations, "aged": wanted.aged });
    log::note(&store, "erase", what).await?;
    let Some((mut receipt, calls)) = erase(&store, &wanted, now, false).await? else {
        bail!("nothing was erased");
    };
    let (lines, not_reached) = exports::erase(&store, &calls).await?;
    receipt.export_lines = lines;
    receipt.not_reached.extend(not_reached);
    // After the exports: meanwhile collectors have seen the tombstone.
    let here = drain::here(&place, &store, wait).await;
    let words = here.unwrap_or_else(|error| Some(format!("the spool on this machine: {error:#}")));
    receipt.not_reached.extend(words);
    let spools = wait_for_spools(&store, &receipt.erasure, wait).await?;
    if spools.drained.iter().any(|spool| spool.left_out > 0) {
        sweep_scores(&store, &mut receipt.erased).await?;
    }
    receipt.drained = spools.drained;
    receipt.not_reached.extend(spools.not_reached);
    receipt.put(&store).await?;
    output::print(arguments.format, std::slice::from_ref(&receipt), || table(&receipt))?;
    for what in &receipt.not_reached {
        eprintln!("not reached: {what}");
    }
    Ok(())
}

/// The pseudonyms of what stands on standard input, in all forms that it is `sent` in, under all generations of the key.
fn pseudonyms(place: &Place, kind: &str, sent: impl Fn(&str) -> Vec<String>) -> Result<BTreeSet<String>> {
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_VALUES)
        .read_to_string(&mut text)
        .context("reading standard input")?;
    let origins = keys::generations(&place.key_source(), "origin")?;
    if origins.is_empty() {
        bail!("there is no origin key in {}", place.key_source());
    }
    let mut found = BTreeSet::new();
    for value in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        for origins in origins.iter().map(Origins::new) {
            for form in sent(value) {
                found.insert(origins.pseudonym(kind, form.as_bytes()));
            }
        }
    }
    if found.is_empty() {
        return Err(Wrong("standard input held nothing".into()).into());
    }
    Ok(found)
}

fn table(receipt: &Receipt) -> Table {
    let mut table = output::table(&[
        "erasure",
        ">calls",
        ">scores",
        ">examples",
        ">objects rewritten",
        ">objects deleted",
        ">spools drained",
        ">left out there",
    ]);
    table.add_row([
        receipt.erasure.clone(),
        count(receipt.erased.calls),
        count(receipt.erased.scores),
        count(receipt.export_lines),
        count(receipt.erased.rewritten),
        count(receipt.erased.deleted),
        count(receipt.drained.len() as u64),
        count(receipt.drained.iter().map(|spool| spool.left_out).sum::<u64>()),
    ]);
    table
}
