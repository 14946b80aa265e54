//! Runs somebody's own trainer: a command line with places for recipe, data and output. Knows nothing of models.

use crate::place::Wrong;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// What may stand in a command line.
const PLACES: [&str; 3] = ["{recipe}", "{data}", "{out}"];
/// Bytes of the last words of a trainer that failed.
const LAST_WORDS: usize = 2000;
/// How long the last words of a trainer that ended are waited for.
const LINGER: Duration = Duration::from_secs(2);

/// Where a training reads and writes.
pub(crate) struct Places<'a> {
    pub(crate) recipe: &'a Path,
    pub(crate) data: &'a Path,
    pub(crate) out: &'a Path,
    pub(crate) log: &'a Path,
}

/// Whether a command line can be a trainer's.
///
/// # Errors
/// It does not say where the model goes, or reads nothing.
pub(crate) fn check(command: &str) -> Result<()> {
    let has = |place: &str| command.contains(place);
    if !has("{out}") || !(has("{recipe}") || has("{data}")) {
        return Err(Wrong(format!(
            "the trainer `{command}` needs `{{out}}`, where the model goes, and `{{recipe}}` or `{{data}}`: these words are \
             replaced by paths"
        ))
        .into());
    }
    Ok(())
}

/// The command line with paths in it, quoted for the shell.
fn filled(command: &str, places: &Places<'_>) -> String {
    let paths = [places.recipe, places.data, places.out];
    let (mut line, mut rest) = (String::new(), command);
    let next = |rest: &str| {
        let all = PLACES.iter().zip(paths);
        all.filter_map(|(place, path)| Some((rest.find(place)?, place.len(), path)))
            .min_by_key(|(at, ..)| *at)
    };
    // From left to right, once: a path may hold such a word itself.
    while let Some((at, length, path)) = next(rest) {
        line.push_str(&rest[..at]);
        line.push_str(&quoted(&path.to_string_lossy()));
        rest = &rest[at + length..];
    }
    line + rest
}

/// A word that the shell takes as it is.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A word for a person to paste into a shell: quoted only where it has to be.
pub(crate) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// Runs it to its end; what it says goes to stderr and into the log, as it comes.
///
/// # Errors
/// It can't be started, another one is at work in the folder, or it fails: with its last words.
pub(crate) fn run(command: &str, places: &Places<'_>) -> Result<()> {
    let log = OpenOptions::new().create(true).read(true).append(true).open(places.log);
    let log = log.with_context(|| format!("opening {}", places.log.display()))?;
    if !is_locked_by_us(&log) {
        bail!("a trainer is at work here already: {} is locked", places.log.display());
    }
    std::fs::create_dir_all(places.out).with_context(|| format!("making {}", places.out.display()))?;
    let line = filled(command, places);
    // One pipe for both: what is said stays in its order.
    let (words, pipe) = std::io::pipe().context("making a pipe")?;
    let mut child = Command::new("sh")
        .args(["-c", &line])
        .stdin(stdin(&log)?)
        .stdout(pipe.try_clone().context("making a pipe")?)
        .stderr(pipe)
        .spawn()
        .with_context(|| format!("starting the trainer: {line}"))?;
    let last = Arc::default();
    let mut sink = Sink {
        log,
        last: Arc::clone(&last),
    };
    let (open, closed) = mpsc::channel::<()>();
    thread::spawn(move || {
        pass_on(words, &mut sink);
        // The lock first: who is told that this ended may begin anew.
        drop(sink);
        drop(open);
    });
    let status = child.wait().context("waiting for the trainer")?;
    // What it left running in the background may hold the pipe for ever.
    let _ = closed.recv_timeout(LINGER);
    if status.success() {
        return Ok(());
    }
    bail!(
        "the trainer {}; {} has all that it said, and this is the end of it:\n{}",
        ending(status),
        places.log.display(),
        last_words(&last)
    );
}

/// Locks the log. Whoever starts a program holds for a moment all that is open, also a lock that was just let go.
fn is_locked_by_us(log: &File) -> bool {
    for _ in 0..20 {
        if log.try_lock().is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    false
}

/// What a trainer reads: nothing. On unix it is the end of the log, whose lock then lives as long as the trainer, which may
/// outlive this program.
fn stdin(log: &File) -> Result<Stdio> {
    if !cfg!(unix) {
        return Ok(Stdio::null());
    }
    let mut log = log.try_clone().context("sharing the log")?;
    // Whatever is written is written at the end, and moves this place with it.
    log.seek(SeekFrom::End(0)).context("seeking the log's end")?;
    Ok(log.into())
}

/// Where a trainer's words go.
struct Sink {
    log: File,
    last: Arc<Mutex<VecDeque<u8>>>,
}

impl Sink {
    fn take(&mut self, bytes: &[u8]) {
        // Neither a full disk nor a closed terminal ends a training of hours.
        let _ = self.log.write_all(bytes);
        let _ = std::io::stderr().write_all(bytes);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.extend(bytes);
        let spare = last.len().saturating_sub(LAST_WORDS);
        last.drain(..spare);
    }
}

fn last_words(last: &Mutex<VecDeque<u8>>) -> String {
    let last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes: Vec<u8> = last.iter().copied().collect();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Piece by piece and not line by line: progress bars end no line.
fn pass_on(mut pipe: impl Read, sink: &mut Sink) {
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => sink.take(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("failed with exit code {code}"),
        // A trainer without memory is killed: its signal says so.
        None => format!("was ended ({status})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_in(folder: &Path, command: &str) -> Result<()> {
        run(
            command,
            &Places {
                recipe: &folder.join("recipe.json"),
                data: &folder.join("its data"),
                out: &folder.join("out"),
                log: &folder.join("train.log"),
            },
        )
    }

    #[test]
    fn paths_are_single_words_whatever_is_in_them() {
        let places = Places {
            recipe: Path::new("/a b/it's.json"),
            data: Path::new("/data; rm -rf x"),
            out: Path::new("/out"),
            log: Path::new("/log"),
        };
        let line = filled("train {recipe} --data={data} {out}", &places);
        assert_eq!(line, r"train '/a b/it'\''s.json' --data='/data; rm -rf x' '/out'");
        let places = Places {
            data: Path::new("/{out} $(x)"),
            ..places
        };
        assert_eq!(filled("{data}{out}{rest}", &places), "'/{out} $(x)''/out'{rest}");
        assert_eq!([word("--as=a/b"), word("a b"), word("")], ["--as=a/b", "'a b'", "''"]);
        assert!(check("train {recipe}").is_err() && check("train {out}").is_err());
        assert!(check("train {data} {out}").is_ok());
    }

    #[test]
    fn a_trainer_that_fails_is_told_by_code_and_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let error = run_in(folder.path(), "echo {data} {out}; echo out of memory >&2; exit 3").unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("exit code 3") && words.ends_with("out of memory"),
            "{words}"
        );
        let error = run_in(folder.path(), "kill -9 $$; : {data} {out}")
            .unwrap_err()
            .to_string();
        assert!(error.contains("signal: 9"), "{error}");
        run_in(folder.path(), "echo done > {out}/weights; : {data}").unwrap();
        let log = std::fs::read_to_string(folder.path().join("train.log")).unwrap();
        assert!(log.contains("its data") && log.contains("out of memory"), "{log}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_left_in_the_background_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let clock = std::time::Instant::now();
        run_in(folder.path(), "sleep 60 & echo $! > {out}/id; echo here; : {data}").unwrap();
        assert!(clock.elapsed() < Duration::from_secs(30));
        end(folder.path());
        let log = std::fs::read_to_string(folder.path().join("train.log")).unwrap();
        assert_eq!(log, "here\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_trainer_reads_nothing_and_holds_the_lock_as_long_as_it_lives() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.log"), "of a run before\n").unwrap();
        // What goes on has nothing of the trainer but its stdin, as a trainer has whose parent was ended.
        let command = "cat; exec 3<&0; sleep 60 <&3 >/dev/null 2>&1 & echo $! > {out}/id; cat; : {data}";
        run_in(folder.path(), command).unwrap();
        let error = run_in(folder.path(), ": {data} {out}").unwrap_err().to_string();
        assert!(error.contains("at work here already"), "{error}");
        end(folder.path());
        let log = std::fs::read_to_string(folder.path().join("train.log")).unwrap();
        assert_eq!(log, "of a run before\n");
    }

    /// Ends what a trainer left, by the id that it wrote.
    #[cfg(unix)]
    fn end(folder: &Path) {
        let id = std::fs::read_to_string(folder.join("out/id")).unwrap();
        assert!(Command::new("kill").arg(id.trim()).status().unwrap().success());
    }

    #[test]
    fn two_trainers_do_not_work_in_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("train.log")).unwrap();
        log.lock().unwrap();
        let error = run_in(folder.path(), ": {data} {out}").unwrap_err().to_string();
        assert!(error.contains("at work here already"), "{error}");
    }
}
