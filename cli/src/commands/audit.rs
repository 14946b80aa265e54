//! `audit`: where every call is, boot by boot.

use crate::args::AuditArguments;
use crate::output::{self, count, counted};
use crate::place::{Place, Wrong};
use anyhow::Result;
use comfy_table::Table;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::process::ExitCode;
use understudy_collector::audit::{BootAudit, State, audit};
use understudy_collector::audit_log::{Entry, verify};
use understudy_collector::store::Store;

/// Columns that a narrow terminal does without, the first first; the other formats have all.
const SPARE: [&str; 6] = ["began", "in flight", "state", "stored", "waiting", "kept"];

/// Prints the boots; 1 where an equation does not hold.
pub(crate) async fn run(arguments: AuditArguments) -> Result<ExitCode> {
    let place = Place::of(&arguments.place)?;
    let store = place.existing_store()?;
    if arguments.log {
        return log(&store, &arguments).await;
    }
    let keys = place.existing_keys()?;
    let mut boots = audit(&store, &place.spool_dir(), &keys.all_of_spool()).await?;
    if let Some(wanted) = &arguments.boot {
        boots.retain(|boot| boot.boot_id == *wanted);
        if boots.is_empty() {
            return Err(Wrong(format!("there is no boot `{wanted}`: `understudy audit` shows them")).into());
        }
    }
    output::print_with(arguments.format, &boots, || table(&boots), notes)?;
    let broken = boots.iter().filter(|boot| !boot.faults.is_empty()).count();
    if broken == 0 {
        let hold = if boots.len() == 1 { "holds" } else { "hold" };
        eprintln!("the account of {} {hold}", counted(boots.len(), "boot"));
        Ok(ExitCode::SUCCESS)
    } else {
        eprintln!(
            "the account of {} of {} does not hold",
            count(broken as u64),
            counted(boots.len(), "boot")
        );
        Ok(ExitCode::FAILURE)
    }
}

/// Prints the audit log; 1 where its chain is broken.
async fn log(store: &Store, arguments: &AuditArguments) -> Result<ExitCode> {
    let mut log = verify(store).await?;
    if let Some(head) = arguments.head.as_ref().filter(|head| !log.hashes.contains(head)) {
        log.faults
            .push(format!("no entry has the hash {head}: entries were changed or cut off"));
    }
    output::print(arguments.format, &log.entries, || entries(&log.entries))?;
    eprintln!(
        "{} entries, head {}",
        count(log.entries.len() as u64),
        log.head.as_deref().unwrap_or("none")
    );
    log.faults.iter().for_each(|fault| eprintln!("broken: {fault}"));
    Ok(match log.faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn entries(entries: &[Entry]) -> Table {
    let mut table = output::table(&[">number", "at", "action", "by", "details"]);
    for entry in entries {
        let at = Timestamp::from_microsecond(entry.at).map_or_else(|_| "?".into(), |at| at.to_string());
        table.add_row([
            entry.number.to_string(),
            at,
            entry.action.clone(),
            entry.by.clone(),
            entry.details.to_string(),
        ]);
    }
    table
}

fn table(boots: &[BootAudit]) -> Table {
    let mut table = output::table(&[
        "boot",
        "began",
        "state",
        ">calls",
        ">in flight",
        ">kept",
        ">dropped",
        ">stored",
        ">waiting",
        ">evicted",
        ">missing",
        "holds",
    ]);
    for boot in boots {
        let known = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), count);
        let sum = |reasons: &BTreeMap<String, u64>| count(reasons.values().sum::<u64>());
        table.add_row([
            boot.boot_id.clone(),
            began(boot.began_at),
            boot.state.as_str().to_owned(),
            known(boot.calls),
            count(boot.in_flight),
            count(boot.kept),
            sum(&boot.dropped),
            count(boot.stored),
            known(boot.waiting),
            sum(&boot.evicted),
            count(boot.missing_count),
            if boot.faults.is_empty() { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    output::fit(&mut table, &SPARE);
    table
}

fn began(micros: Option<i64>) -> String {
    micros
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .map_or_else(|| "?".into(), |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// Reasons, faults, and the numbers that are missing.
fn notes(boot: &BootAudit) -> String {
    let mut words = Vec::new();
    for (what, reasons) in [("dropped", &boot.dropped), ("evicted", &boot.evicted)] {
        let reasons: Vec<String> = reasons
            .iter()
            .map(|(reason, number)| format!("{reason} {}", count(*number)))
            .collect();
        if !reasons.is_empty() {
            words.push(format!("{what}: {}", reasons.join(", ")));
        }
    }
    words.extend(boot.faults.iter().cloned());
    if boot.missing_count > 0 {
        let named = boot.missing.len();
        let among = if named == boot.missing_count { "" } else { " among" };
        words.push(format!("missing{among}: {}", boot.missing));
    }
    if boot.state == State::Crashed && boot.mark > boot.calls {
        words.push(format!(
            "calls above {} may have begun just before the crash, none above {}",
            boot.calls.unwrap_or(0),
            boot.mark.unwrap_or(0)
        ));
    }
    if words.is_empty() {
        String::new()
    } else {
        format!("{}: {}", boot.boot_id, words.join("; "))
    }
}
