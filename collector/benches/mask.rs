//! How fast text and JSON are masked, in bytes a second on one core.
//!
//! Each case checks its answer before the clock starts. A mask remembers long texts, so each round has a new one, but where
//! a case is of texts that are sent again.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::borrow::Cow;
use std::hint::black_box;
use understudy_collector::mask::{Counts, Dictionary, Kind, Mask, MaskConfig};

/// Prose as agents see it, with numbers that are not sensitive; each sentence differs.
fn prose(bytes: usize) -> String {
    let mut text = String::new();
    for number in 0_u64.. {
        if text.len() >= bytes {
            break;
        }
        text += &format!(
            "The reservation for table {number} was moved to 2026-04-{:02} at 19:30, since the kitchen closes early; order #W{:07} \
             stays as it is. Please check the policy before you cancel: a refund takes 5 to 7 days, and gift cards are refunded \
             at once. Use the tool `find_user_id` first, then `get_order_details`. ",
            number % 28 + 1,
            number.wrapping_mul(2_654_435_761) % 10_000_000,
        );
    }
    text
}

/// A chat request whose messages are that prose.
fn chat(bytes: usize) -> String {
    let messages: Vec<_> = (0..bytes / 1_600)
        .map(|step| serde_json::json!({"role": if step % 2 == 0 { "user" } else { "assistant" }, "content": prose(1_500) + &format!("\nStep {step}.")}))
        .collect();
    serde_json::json!({"model": "gpt-4o", "temperature": 0.0, "messages": messages}).to_string()
}

/// A conversation as agents have them: a long system prompt, tools, and turns with names, addresses and values in them, in
/// prose, arguments and results; about one value in 600 bytes.
fn conversation(bytes: usize) -> String {
    let names = [
        "Anna Kowalski",
        "Tom Murphy",
        "Priya Patel",
        "Chiara Rossi",
        "Ngozi Okafor",
        "Sven Lindqvist",
    ];
    let mut messages = vec![serde_json::json!({"role": "system", "content": prose(6_000)})];
    let mut size = 0;
    for step in 0.. {
        if size >= bytes {
            break;
        }
        let name = names[step % names.len()];
        let mail = format!("{}{step}@post.org", &name[..3].to_lowercase());
        let asked = format!(
            "Hi, my name is {name} and I live at {} Elm Street, Leeds. {}",
            step % 90 + 1,
            prose(500)
        );
        let arguments = serde_json::json!({"name": name, "email": mail, "limit": 10}).to_string();
        let rows: Vec<_> = (0..6)
            .map(|row| {
                serde_json::json!({"order_id": format!("#W{:07}", step * 31 + row), "status": "delivered",
                    "placed": "2026-04-12T19:30:00Z", "items": [{"sku": row * 7_919, "name": "Mechanical Keyboard", "price": 271.89}]})
            })
            .collect();
        let result =
            serde_json::json!({"phone": format!("+44 20 7946 {:04}", step % 10_000), "rows": rows}).to_string();
        size += asked.len() + arguments.len() + result.len();
        messages.push(serde_json::json!({"role": "user", "content": asked}));
        messages.push(
            serde_json::json!({"role": "assistant", "tool_calls": [{"id": format!("call_{step:024}"),
            "type": "function", "function": {"name": "find_orders", "arguments": arguments}}]}),
        );
        messages.push(serde_json::json!({"role": "tool", "content": result}));
    }
    serde_json::json!({"model": "gpt-4o", "temperature": 0.0, "messages": messages}).to_string()
}

fn mask(dictionaries: Vec<Dictionary>) -> Mask {
    Mask::new(
        &MaskConfig {
            dictionaries,
            ..MaskConfig::default()
        },
        &[7; 32],
    )
    .expect("the dictionaries are small")
}

fn masking(criterion: &mut Criterion) {
    let names = Dictionary {
        name: "names".to_owned(),
        kind: Kind::Person,
        entries: (0..10_000).map(|number| format!("Zyx{number} Quell")).collect(),
        ignore_case: true,
    };
    let plain = || mask(Vec::new());
    let with_names = || mask(vec![names.clone()]);
    let text = prose(256 * 1024);
    let json = chat(256 * 1024);
    let agent = conversation(256 * 1024);
    let sensitive = json.replace("the kitchen closes early", "ann@example.org asked from 195.1.2.3");
    let length = |mask: &Mask, source: &str| mask.json(source, &mut Counts::default()).map(|masked| masked.len());

    let mut group = criterion.benchmark_group("mask");
    group.sample_size(20);
    let cases: [(&str, &dyn Fn() -> Mask, &String, bool); 4] = [
        ("json_clean", &plain, &json, true),
        ("json_clean_10k_names", &with_names, &json, true),
        ("json_sensitive", &plain, &sensitive, false),
        ("json_agent", &plain, &agent, false),
    ];
    for (name, new, source, is_clean) in cases {
        let mask = new();
        let masked = mask.json(source, &mut Counts::default()).expect("it is JSON");
        assert_eq!(matches!(masked, Cow::Borrowed(_)), is_clean, "{name}");
        assert!(!masked.contains("Kowalski") && !masked.contains("@post.org"), "{name}");
        group.throughput(Throughput::Bytes(source.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(new, |mask| length(mask, black_box(source)).ok(), BatchSize::LargeInput);
        });
    }
    let mask = plain();
    group.throughput(Throughput::Bytes(agent.len() as u64));
    group.bench_function("json_agent_again", |bencher| {
        bencher.iter(|| length(&mask, black_box(&agent)).ok());
    });
    assert!(mask.find(&text).is_empty());
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("text_clean", |bencher| {
        bencher.iter_batched_ref(plain, |mask| mask.find(black_box(&text)).len(), BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, masking);
criterion_main!(benches);
