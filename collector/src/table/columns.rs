//! The columns of `calls`, `scores` and what jobs give: the records' field names are the columns' names, in this order.
//!
//! Columns are only ever added here, never renamed, retyped or removed.

use super::Table;
use super::cell::{Column, Row, column, time_column};
use crate::job::{Assigned, Digested, Sum};
use understudy_call::call::ToolCall;
use understudy_call::record::{Attempt, CallRecord, MaskedCount, MaskedIn, ScoreRecord};

/// A list of columns, each named as its field is.
macro_rules! columns {
    ($row:ty: $($name:ident),* $(,)?) => {
        vec![$(column(stringify!($name), |row: &$row| &row.$name, |row: &mut $row| &mut row.$name)),*]
    };
}

impl Row for CallRecord {
    fn blank() -> Self {
        CallRecord::default()
    }

    fn columns() -> Vec<Column<Self>> {
        let identity: Vec<Column<Self>> = columns!(CallRecord:
            schema_version, call_id, boot_id, sequence, conversation_id, parent_call_id, step,
            affinity_key, client_id, user_id, address_id, key_id,
        );
        let started_at = time_column(
            "started_at",
            true,
            |row: &CallRecord| row.started_at,
            |row, micros| row.started_at = micros,
        );
        let rest = columns!(CallRecord:
            upstream, api, route, method, path, request_model, response_model,
            task_id, task_confidence, taskbook_version, arm, config_hash,
            outcome, streamed, status, error, finish_reason, partial,
            request_body, response_body, body_note, output_text, tool_calls, tools_offered,
            system_digest, tools_digest,
            input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd, attempts,
            first_chunk_ms, first_token_ms, inter_token_p50_ms, inter_token_p99_ms, longest_stall_ms, duration_ms,
            overhead_us, request_bytes, response_bytes, masked, masked_in, trace_id, external_id, tags,
        );
        identity.into_iter().chain([started_at]).chain(rest).collect()
    }
}

impl Row for ScoreRecord {
    fn blank() -> Self {
        ScoreRecord::default()
    }

    fn columns() -> Vec<Column<Self>> {
        let identity: Vec<Column<Self>> =
            columns!(ScoreRecord: call_id, conversation_id, task_id, candidate, candidate_version);
        let judged_at = time_column(
            "judged_at",
            false,
            |row: &ScoreRecord| Some(row.judged_at),
            |row, micros| row.judged_at = micros.unwrap_or_default(),
        );
        let rest = columns!(ScoreRecord:
            kind, valid, valid_baseline, agreement, floor_agreement, judge,
            input_tokens, output_tokens, cost_usd, first_token_ms, duration_ms, outcome,
            response_body, output_text, tool_calls, reason, source,
        );
        identity.into_iter().chain([judged_at]).chain(rest).collect()
    }
}

impl Row for ToolCall {
    fn blank() -> Self {
        ToolCall {
            id: None,
            name: String::new(),
            arguments: String::new(),
        }
    }

    fn columns() -> Vec<Column<Self>> {
        columns!(ToolCall: id, name, arguments)
    }
}

impl Row for Attempt {
    fn blank() -> Self {
        Attempt::default()
    }

    fn columns() -> Vec<Column<Self>> {
        columns!(Attempt:
            upstream, candidate_version, status, outcome, duration_ms, output_tokens, cost_usd, served, reason,
        )
    }
}

impl Row for MaskedCount {
    fn blank() -> Self {
        MaskedCount {
            kind: String::new(),
            count: 0,
        }
    }

    fn columns() -> Vec<Column<Self>> {
        columns!(MaskedCount: kind, count)
    }
}

impl Row for MaskedIn {
    fn blank() -> Self {
        MaskedIn {
            column: String::new(),
            kind: String::new(),
            count: 0,
        }
    }

    fn columns() -> Vec<Column<Self>> {
        columns!(MaskedIn: column, kind, count)
    }
}

impl Row for Assigned {
    fn blank() -> Self {
        Assigned::default()
    }

    fn columns() -> Vec<Column<Self>> {
        columns!(Assigned: call_id, task_id, task_confidence, taskbook_version)
    }
}

impl Row for Sum {
    fn blank() -> Self {
        Sum::default()
    }

    fn columns() -> Vec<Column<Self>> {
        columns!(Sum: task_id, measure, bucket, value)
    }
}

impl Row for Digested {
    fn blank() -> Self {
        Digested::default()
    }

    fn columns() -> Vec<Column<Self>> {
        columns!(Digested: rows, digest)
    }
}

impl Table for CallRecord {
    fn id(&self) -> &str {
        &self.call_id
    }

    fn text_bytes(&self) -> usize {
        let texts = [&self.request_body, &self.response_body, &self.output_text, &self.error];
        let tags = self.tags.iter().map(|(name, value)| name.len() + value.len());
        texts.into_iter().flatten().map(String::len).chain(tags).sum::<usize>() + bytes_of(&self.tool_calls)
    }
}

impl Table for ScoreRecord {
    fn id(&self) -> &str {
        &self.call_id
    }

    fn text_bytes(&self) -> usize {
        let texts = [&self.response_body, &self.output_text];
        texts.into_iter().flatten().map(String::len).sum::<usize>() + bytes_of(&self.tool_calls)
    }
}

fn bytes_of(calls: &[ToolCall]) -> usize {
    calls.iter().map(|call| call.name.len() + call.arguments.len()).sum()
}

impl Table for Assigned {
    fn id(&self) -> &str {
        &self.call_id
    }

    fn text_bytes(&self) -> usize {
        self.call_id.len() + self.task_id.as_ref().map_or(0, String::len)
    }
}

impl Table for Sum {
    fn id(&self) -> &str {
        &self.measure
    }

    fn text_bytes(&self) -> usize {
        self.measure.len() + self.task_id.as_ref().map_or(0, String::len)
    }
}

impl Table for Digested {
    fn id(&self) -> &str {
        &self.digest
    }

    fn text_bytes(&self) -> usize {
        self.digest.len()
    }
}
