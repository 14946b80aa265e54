//! `keys`: the deployment's keys: which there are, making missing ones, beginning a new generation of one.

use crate::args::KeysCommand;
use crate::keys::{self, TABLE_KEYS, VAULT_KEY};
use crate::place::{Place, Wrong};
use crate::{log, output};
use anyhow::Result;
use comfy_table::Table;
use serde::Serialize;
use serde_json::json;
use understudy_call::keys::Keys;

/// A generation of a key, as it is listed; never its bytes.
#[derive(Debug, Serialize)]
struct Listed {
    key: &'static str,
    id: String,
    current: bool,
    does: &'static str,
}

/// Runs it.
pub(crate) async fn run(command: KeysCommand) -> Result<()> {
    match command {
        KeysCommand::List { format, place } => {
            let source = Place::of(&place)?.key_source();
            let mut listed = Vec::new();
            for name in names() {
                for (at, key) in keys::generations(&source, name)?.iter().enumerate() {
                    listed.push(Listed {
                        key: name,
                        id: key.id(),
                        current: at == 0,
                        does: does(name),
                    });
                }
            }
            output::print(format, &listed, || table(&listed))?;
            eprintln!("in {source}");
            Ok(())
        }
        KeysCommand::Make { keys: wanted, place } => {
            let source = Place::of(&place)?.key_source();
            let wanted = match wanted.is_empty() {
                true => Keys::NAMES.to_vec(),
                false => wanted.iter().map(|name| known(name)).collect::<Result<_>>()?,
            };
            keys::make_missing(&source, &wanted)
        }
        KeysCommand::Rotate { key, place } => {
            let place = Place::of(&place)?;
            let (source, name) = (place.key_source(), known(&key)?);
            // Where nothing was stored yet there is nothing that the old key has made.
            if let Ok(store) = place.existing_store() {
                log::note(&store, "rotate_key", json!({ "key": name })).await?;
            }
            let (old, new) = keys::rotate(&source, name)?;
            eprintln!(
                "{name} is {new} from the next start of each process; {old} stays in {source} to read what it made. {}",
                consequence(name)
            );
            Ok(())
        }
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    Keys::NAMES.into_iter().chain(TABLE_KEYS).chain([VAULT_KEY])
}

fn known(name: &str) -> Result<&'static str> {
    let found = names().find(|known| *known == name);
    let all = || names().collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| Wrong(format!("there is no key `{name}`: the keys are {}", all())).into())
}

fn does(name: &str) -> &'static str {
    match name {
        "spool" => "wraps the data keys of the spool",
        "store" => "keys the digests in records",
        "origin" => "makes the pseudonyms of clients, users, addresses and conversations",
        "surrogate" => "makes what masked values are replaced by",
        VAULT_KEY => "seals what was masked, where there is a vault",
        "content" => "wraps the data keys of content columns",
        _ => "wraps the data keys of all other columns",
    }
}

/// What an operator should know of a rotation.
fn consequence(name: &str) -> &'static str {
    match name {
        "origin" => {
            "A client's pseudonym changes, and a conversation that goes on may get another arm; \
             `erase --client-value-stdin` and `--user-value-stdin` find both."
        }
        "surrogate" => "Values masked from then on do not equal the same values masked before.",
        "store" => "Digests from then on do not equal those before: imports of the same file add its calls again.",
        _ => "Give both files to every replica.",
    }
}

fn table(listed: &[Listed]) -> Table {
    let mut table = output::table(&["key", "id", "generation", "does"]);
    for one in listed {
        let generation = if one.current { "current" } else { "older" };
        table.add_row([one.key, &one.id, generation, one.does]);
    }
    table
}
