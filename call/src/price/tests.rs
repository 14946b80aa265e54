//! Unit tests of prices: classes of tokens, names, and files.

use super::*;

fn usage(input: i64, cached: Option<i64>, cache_write: Option<i64>, output: i64) -> Usage {
    Usage {
        input: Some(input),
        cached,
        cache_write,
        output: Some(output),
        reasoning: None,
    }
}

const PRICE: Price = Price {
    input: 3.0,
    output: 15.0,
    cache_read: Some(0.5),
    cache_write: Some(4.0),
    reasoning: None,
};

/// A table of an operator's rows over the built-in ones.
fn with(rows: &str) -> PriceTable {
    let text = format!("{{\"models\": [{rows}]}}");
    PriceTable::builtin().with_file(&text).unwrap()
}

fn input_price(table: &PriceTable, model: &str) -> Option<f64> {
    table.lookup(model).map(|price| price.input)
}

#[test]
fn cache_reads_and_writes_are_billed_apart_from_the_rest_of_the_input() {
    assert_eq!(
        PRICE.cost(&usage(100, Some(60), Some(30), 2)),
        Some(10.0 * 3.0 + 60.0 * 0.5 + 30.0 * 4.0 + 30.0)
    );
    assert_eq!(PRICE.cost(&usage(100, None, None, 2)), Some(330.0));
    let flat = Price {
        cache_read: None,
        cache_write: None,
        ..PRICE
    };
    assert_eq!(flat.cost(&usage(100, Some(60), Some(30), 0)), Some(300.0));
    // A provider that counts cached tokens apart must not make a negative cost.
    assert_eq!(PRICE.cost(&usage(10, Some(60), Some(30), 0)), Some(5.0));
}

#[test]
fn reasoning_is_billed_as_output_unless_it_has_a_price() {
    let thought = |reasoning| Usage {
        reasoning: Some(reasoning),
        ..usage(0, None, None, 10)
    };
    assert_eq!(PRICE.cost(&thought(4)), Some(150.0));
    let apart = Price {
        reasoning: Some(1.0),
        ..PRICE
    };
    assert_eq!(apart.cost(&thought(4)), Some(6.0 * 15.0 + 4.0));
    assert_eq!(apart.cost(&thought(99)), Some(10.0), "no more than all output");
}

#[test]
fn no_tokens_known_is_no_cost_rather_than_zero() {
    let price = *PriceTable::builtin().lookup("gpt-4o").unwrap();
    let input_alone = Usage {
        input: Some(1),
        ..Usage::default()
    };
    assert_eq!(price.cost(&Usage::default()), None);
    assert_eq!(price.cost(&input_alone), None);
    assert_eq!(price.cost(&usage(0, None, None, 0)), Some(0.0));
    let of_vectors = Price { output: 0.0, ..PRICE };
    assert_eq!(
        of_vectors.cost(&input_alone),
        Some(3.0),
        "output that costs nothing need not be told"
    );
    assert_eq!(of_vectors.cost(&Usage::default()), None);
}

#[test]
fn names_are_found_without_date_provider_and_region() {
    let table = PriceTable::builtin();
    for (written, name) in [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("openrouter/openai/gpt-4o", "gpt-4o"),
        ("claude-opus-5@20261101", "claude-opus-5"),
        ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
        (
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "claude-sonnet-4-5-20250929",
        ),
        ("anthropic.claude-haiku-4-5-20991231-v1:0", "claude-haiku-4-5"),
        ("eu.anthropic.claude-opus-5", "anthropic.claude-opus-5"),
        ("us.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        (
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-2-lite-v1:0",
            "amazon.nova-2-lite-v1:0",
        ),
        ("mistral-small", "mistral/mistral-small"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("google/gemini-2.5-flash", "gemini-2.5-flash"),
        (
            "projects/p/locations/l/publishers/google/models/gemini-2.5-flash",
            "gemini-2.5-flash",
        ),
        ("gemini-3.6-flash", "gemini/gemini-3.6-flash"),
        ("groq/openai/gpt-oss-120b", "groq/openai/gpt-oss-120b"),
    ] {
        assert_eq!(table.lookup(written), table.lists[0].by_name.get(name), "{written}");
        assert!(table.lookup(written).is_some(), "{written}");
    }
}

#[test]
fn what_is_not_certain_is_unknown() {
    let table = PriceTable::builtin();
    for unknown in [
        "",
        "/",
        ".",
        "gpt",
        "gpt-4o-audio-preview",
        "gpt-4o-2024",
        "my-gpt-4o",
        "é-20240101é",
        "-20240101",
        // An older snapshot at another price.
        "gpt-4o-2024-05-13",
        // Fine-tuned.
        "ft:gpt-4o:org::id",
        // Open weights, each host at its own price.
        "gpt-oss-120b",
        "openai/gpt-oss-120b",
        "llama-3.1-8b",
        "meta-llama/llama-3.1-8b",
        "somewhere/kimi-k3",
        // Another's cloud, another's price.
        "azure/o3-pro",
        "us-gov.anthropic.claude-opus-5",
        "us.meta.llama3-2-1b-instruct-v1:0",
    ] {
        assert_eq!(table.lookup(unknown), None, "{unknown}");
    }
    // The government's price is not that of everyone.
    assert_eq!(table.lookup("grok-4.6"), table.lists[0].by_name.get("xai/grok-4.6"));
    assert_ne!(table.lookup("us-gov.xai.grok-4.6"), table.lookup("grok-4.6"));
}

#[test]
fn an_operators_prices_come_before_the_built_in_ones() {
    let table = with(
        r#"{"model": "gpt-4o", "input": 1e-6, "output": 2e-6, "reasoning": 3e-6},
           {"model": "claude-sonnet-4-5", "input": 7e-6, "output": 2e-6},
           {"model": "text-embedding-3-small", "input": 2e-8, "output": 0},
           {"model": "in-house/llama", "input": 0, "output": 0}"#,
    );
    assert_eq!(table.lookup("gpt-4o").and_then(|price| price.reasoning), Some(3e-6));
    for (model, input) in [
        ("gpt-4o-2024-08-06", Some(1e-6)),
        ("openai/gpt-4o", Some(1e-6)),
        // Also where the program knows the dated name, and this file does not.
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Some(7e-6)),
        ("in-house/llama", Some(0.0)),
        ("llama", None),
        ("text-embedding-3-small", Some(2e-8)),
        ("gpt-4o-mini", Some(1.5e-7)),
    ] {
        assert_eq!(input_price(&table, model), input, "{model}");
    }
}

#[test]
fn a_bad_file_is_told_by_model_and_field() {
    let error = |text: &str| PriceTable::builtin().with_file(text).unwrap_err().to_string();
    let row = |row: &str| {
        error(&format!(
            "{{\"models\": [{{\"model\": \"ok\", \"input\": 0, \"output\": 0}}, {row}]}}"
        ))
    };
    for (text, said) in [
        (
            row(r#"{"model": "m", "output": 0}"#),
            "model `m`, field `input`: it is missing",
        ),
        (
            row(r#"{"model": "m", "input": "2e-6", "output": 0}"#),
            "model `m`, field `input`: it is \"2e-6\"",
        ),
        (
            row(r#"{"model": "m", "input": 0, "output": -1}"#),
            "model `m`, field `output`: it is -1",
        ),
        (
            row(r#"{"model": "m", "input": 0, "output": 0, "cache_read": 2.5}"#),
            "model `m`, field `cache_read`: 2.5 US dollars",
        ),
        (
            row(r#"{"model": "m", "input": 0, "output": 0, "cached": 0}"#),
            "model `m`, field `cached`: it is not known: use model, input",
        ),
        (
            row(r#"{"model": "ok", "input": 0, "output": 0}"#),
            "model `ok`, field `model`: it has two rows",
        ),
        (
            row(r#"{"input": 0, "output": 0}"#),
            "model `models[1]`, field `model`: a name is missing",
        ),
        (row("7"), "model `models[1]`, field `model`"),
        (error("{\"model\": []}"), "field `models`: a list is missing"),
        (
            error("{\"units\": \"USD per million tokens\", \"models\": []}"),
            "field `units`",
        ),
        (error("models: []"), "it is not JSON"),
    ] {
        assert!(text.starts_with(said), "{text}");
    }
}
