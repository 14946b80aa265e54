//! What is printed: rows on stdout, as a table, JSON, JSON lines or CSV. Words and progress belong on stderr.
//!
//! A reader that goes away is no error; colours only where stdout is a terminal.

use crate::args::RowFormat;
use anyhow::Result;
use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use std::io::{BufWriter, ErrorKind, StdoutLock, Write};

/// Stdout was closed by its reader.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(crate) struct Closed;

/// Stdout, buffered; call [`Out::finish`] at the end.
pub(crate) struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    pub(crate) fn new() -> Out {
        Out(BufWriter::new(std::io::stdout().lock()))
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        told(self.0.write_all(text.as_bytes()).and_then(|()| self.0.write_all(b"\n")))
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        told(self.0.flush())
    }
}

fn told(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        result => Ok(result?),
    }
}

/// Prints rows one by one in a format that is not a table.
pub(crate) struct RowWriter {
    out: Out,
    format: RowFormat,
    rows: usize,
}

impl RowWriter {
    pub(crate) fn new(format: RowFormat) -> RowWriter {
        RowWriter {
            out: Out::new(),
            format,
            rows: 0,
        }
    }

    pub(crate) fn row(&mut self, row: &impl Serialize) -> Result<()> {
        let value = serde_json::to_value(row)?;
        self.rows += 1;
        match self.format {
            RowFormat::Jsonl | RowFormat::Table => self.out.line(&value.to_string()),
            RowFormat::Json if self.rows == 1 => told(write!(self.out.0, "[{value}")),
            RowFormat::Json => told(write!(self.out.0, ",\n {value}")),
            RowFormat::Csv => self.csv(&value),
        }
    }

    fn csv(&mut self, value: &Value) -> Result<()> {
        let Some(fields) = value.as_object() else {
            return self.out.line(&csv_field(value));
        };
        if self.rows == 1 {
            let names: Vec<String> = fields.keys().map(|name| csv_text(name)).collect();
            self.out.line(&names.join(","))?;
        }
        let values: Vec<String> = fields.values().map(csv_field).collect();
        self.out.line(&values.join(","))
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        match (self.format, self.rows) {
            (RowFormat::Json, 0) => self.out.line("[]")?,
            (RowFormat::Json, _) => self.out.line("]")?,
            _ => {}
        }
        self.out.finish()
    }
}

/// Prints all rows: the table where one is asked for, else the rows themselves.
pub(crate) fn print<T: Serialize>(format: RowFormat, rows: &[T], table: impl FnOnce() -> Table) -> Result<()> {
    print_with(format, rows, table, |_| String::new())
}

/// As [`print()`]; each row's note stands below the table, where it has room.
pub(crate) fn print_with<T: Serialize>(
    format: RowFormat,
    rows: &[T],
    table: impl FnOnce() -> Table,
    note: impl Fn(&T) -> String,
) -> Result<()> {
    if format == RowFormat::Table {
        let mut out = Out::new();
        out.line(&table().trim_fmt())?;
        let notes: Vec<String> = rows.iter().map(note).filter(|note| !note.is_empty()).collect();
        if !notes.is_empty() {
            out.line("")?;
        }
        notes.iter().try_for_each(|note| out.line(note))?;
        return out.finish();
    }
    let mut writer = RowWriter::new(format);
    for row in rows {
        writer.row(row)?;
    }
    writer.finish()
}

/// Prints one value: as JSON, where that is asked for, else as the text.
pub(crate) fn print_one(format: RowFormat, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
    let mut out = Out::new();
    match format {
        RowFormat::Table => out.line(text().trim_end())?,
        RowFormat::Json => out.line(&serde_json::to_string_pretty(value)?)?,
        RowFormat::Jsonl | RowFormat::Csv => out.line(&serde_json::to_string(value)?)?,
    }
    out.finish()
}

/// A table with these heads; those that begin with `>` are of numbers, which stand on the right.
pub(crate) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    // Never folded to the terminal's width: an id cut in two can't be copied.
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads.iter().map(|head| {
        let is_number = head.starts_with('>');
        let align = if is_number {
            CellAlignment::Right
        } else {
            CellAlignment::Left
        };
        Cell::new(head.trim_start_matches('>'))
            .set_alignment(align)
            .add_attribute(Attribute::Bold)
    }));
    for (index, head) in heads.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if head.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
}

/// Hides columns of a table, the first named first, until a row fits a line of the terminal, and says which; what is not
/// shown to a terminal stays whole.
pub(crate) fn fit(table: &mut Table, spare: &[&str]) {
    let Some(width) = table.width().map(usize::from) else {
        return;
    };
    let mut hidden = Vec::new();
    for head in spare {
        let widest = table.trim_fmt().lines().map(measured).max().unwrap_or(0);
        if widest <= width {
            break;
        }
        let is_meant = |cell: &Cell| cell.content() == *head;
        let at = table.header().and_then(|row| row.cell_iter().position(is_meant));
        if let Some(column) = at.and_then(|at| table.column_mut(at)) {
            column.set_constraint(ColumnConstraint::Hidden);
            hidden.push(*head);
        }
    }
    if !hidden.is_empty() {
        eprintln!(
            "left out, for want of width: {}; a wider terminal and `--format json` have them",
            hidden.join(", ")
        );
    }
}

/// Characters of a line, without what only colours it.
fn measured(line: &str) -> usize {
    let mut is_code = false;
    let shown = line.chars().filter(|letter| {
        let was_code = is_code;
        is_code = match letter {
            '\u{1b}' => true,
            'm' => false,
            _ => is_code,
        };
        !was_code && !is_code
    });
    shown.count()
}

/// A whole number with its thousands apart.
pub(crate) fn count(number: impl TryInto<i128>) -> String {
    let Ok(number) = number.try_into() else {
        return "?".into();
    };
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if number < 0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of what has this name: `1 route`, `1,234 routes`.
pub(crate) fn counted(number: usize, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {one}{ending}", count(number as u64))
}

/// A number, or `?` where it is not known.
pub(crate) fn known(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "?".into(), |value| format!("{value:.decimals$}"))
}

/// US dollars, or `?`.
pub(crate) fn dollars(value: Option<f64>) -> String {
    match value {
        None => "?".into(),
        Some(value) if value != 0.0 && value.abs() < 0.01 => format!("${value:.5}"),
        Some(value) => format!("${value:.2}"),
    }
}

/// A share in per cent, or `?`.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "?".into(), |share| format!("{:.1} %", 100.0 * share))
}

/// The first characters of a text, on one line.
pub(crate) fn excerpt(text: &str, characters: usize) -> String {
    let line: String = text
        .chars()
        .take(4 * characters)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(characters) {
        Some((at, _)) => format!("{}…", words[..at].trim_end()),
        None => words,
    }
}

/// A progress bar on stderr; hidden where that is no terminal.
pub(crate) fn progress(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

fn csv_field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => csv_text(text),
        other => csv_text(&other.to_string()),
    }
}

fn csv_text(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_and_unknown_is_not_zero() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(
            (count(-1000), count(0), count(999)),
            ("-1,000".into(), "0".into(), "999".into())
        );
        assert_eq!(
            (dollars(None), dollars(Some(0.0)), dollars(Some(0.00012))),
            ("?".into(), "$0.00".into(), "$0.00012".into())
        );
        assert_eq!(
            (counted(1, "route"), counted(1000, "route")),
            ("1 route".into(), "1,000 routes".into())
        );
        assert_eq!((percent(Some(0.5)), known(None, 2)), ("50.0 %".into(), "?".into()));
    }

    #[test]
    fn a_table_that_is_too_wide_for_the_terminal_loses_the_columns_that_can_be_spared() {
        let table_of = |width: Option<u16>| {
            let mut table = table(&["task", "name", ">calls"]);
            table.add_row(["invoice-extract-7f3a", "Read the invoices", "1,234"]);
            width.map(|width| table.set_width(width));
            fit(&mut table, &["name", "calls"]);
            table.trim_fmt()
        };
        assert!(table_of(Some(50)).contains("Read the invoices") && table_of(None).contains("1,234"));
        let narrow = table_of(Some(40));
        assert!(!narrow.contains("Read") && narrow.contains("1,234"), "{narrow}");
        assert!(table_of(Some(5)).contains("invoice-extract-7f3a"));
        assert_eq!(measured("\u{1b}[1mtask\u{1b}[0m  7"), 7);
    }

    #[test]
    fn csv_fields_are_quoted_where_they_must_be() {
        assert_eq!(csv_field(&Value::from("a,\"b\"")), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_field(&Value::Null), "");
        assert_eq!(csv_field(&serde_json::json!(["x", 1])), "\"[\"\"x\"\",1]\"");
    }

    #[test]
    fn an_excerpt_is_one_line_of_whole_characters() {
        assert_eq!(excerpt("a\n\u{1b}[31mb  c", 20), "a [31mb c");
        assert_eq!(excerpt("ééééé", 3), "ééé…");
    }
}
