use super::*;
use crate::fallback::{Hold, Reason};
use http::HeaderMap;
use understudy_client::Secret;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("u.yaml"), &Overrides::default(), &|name| {
        (name == "KEY").then(|| "sk-1".into())
    })
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

const UPSTREAMS: &str = "default_upstream: openai\nupstreams:\n  openai: { url: https://api.openai.com, key_env: KEY }\n  small: { url: http://127.0.0.1:8080, api: openai_chat, model: m, trusted: true }\n";

#[test]
fn the_default_config_is_that_of_the_design() {
    let config = Config::of_upstream("https://api.openai.com", &Overrides::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:4000");
    assert_eq!(config.default_upstream, "openai");
    assert_eq!(config.capture.wait, Duration::from_millis(20));
    assert_eq!(config.limits.max_routed_body, 8 << 20);
    assert_eq!(config.spool_dir(), Path::new("./understudy-data/spool"));
}

#[test]
fn a_whole_file_is_read() {
    let config = parse(&format!(
        "{UPSTREAMS}routes:\n  - match: {{ task: t-1 }}\n    split: {{ openai: 95, small: 5 }}\ncapture: {{ sample: 50%, wait: 5ms }}\n"
    ))
    .unwrap();
    assert_eq!(config.upstreams["openai"].key, Some(Secret::new("sk-1")));
    assert_eq!(config.capture.sample, 0.5);
    assert_eq!(config.routes.all().len(), 1);
}

#[test]
fn an_unknown_key_is_an_error_with_file_line_and_the_nearest_key() {
    let text = error(&format!("{UPSTREAMS}captur: {{ wait: 5ms }}\n"));
    assert!(
        text.starts_with("u.yaml:5: ") && text.contains("did you mean `capture`"),
        "{text}"
    );
    let text = error(&format!("{UPSTREAMS}capture:\n  wiat: 5ms\n"));
    assert!(
        text.starts_with("u.yaml:6: ") && text.contains("did you mean `wait`"),
        "{text}"
    );
}

#[test]
fn a_key_that_is_cut_short_is_completed() {
    let text = error("upstreams: { openai: { url: https://api.openai.com, key: sk-1 } }\n");
    assert!(text.contains("did you mean `key_env`"), "{text}");
}

#[test]
fn a_level_of_the_log_that_is_none_is_refused() {
    let text = error(&format!("{UPSTREAMS}log: {{ level: loud }}\n"));
    assert!(text.contains("`loud`") && text.contains("debug"), "{text}");
    let parts = parse(&format!("{UPSTREAMS}log: {{ level: 'warn,understudy_proxy=debug' }}\n")).unwrap();
    assert_eq!(parts.log_level, "warn,understudy_proxy=debug");
}

#[test]
fn keys_are_in_a_folder_a_variable_or_a_file() {
    let keys = |text: &str| parse(&format!("{UPSTREAMS}data: /d\n{text}")).unwrap().keys;
    assert_eq!(keys(""), KeySource::Dir("/d/keys".into()));
    assert_eq!(keys("keys: { dir: /k }\n"), KeySource::Dir("/k".into()));
    assert_eq!(keys("keys: { env: K }\n"), KeySource::Env("K".into()));
    assert_eq!(keys("keys: { file: /k.txt }\n"), KeySource::File("/k.txt".into()));
    for wrong in ["{}", "{ env: '' }", "{ dir: /k, env: K }"] {
        let text = error(&format!("{UPSTREAMS}keys: {wrong}\n"));
        assert!(text.contains("keys: give `dir`, `env` or `file`"), "{wrong}: {text}");
    }
}

#[test]
fn a_key_whose_variable_is_not_set_is_told_and_no_error() {
    assert!(parse(UPSTREAMS).unwrap().unset_keys.is_empty());
    let unset = parse(&UPSTREAMS.replace("KEY", "OTHER")).unwrap().unset_keys;
    assert!(
        unset.len() == 1 && unset[0].contains("upstreams.openai.key_env: OTHER"),
        "{unset:?}"
    );
}

#[test]
fn the_mask_takes_patterns_and_what_to_leave_and_a_bad_pattern_is_named_by_its_line() {
    let mask = parse(&format!(
        "{UPSTREAMS}mask:\n  patterns:\n    - {{ name: EMPLOYEE, regex: 'EMP-\\d{{6}}' }}\n  allow: [help@acme.com]\n  surrogates: label\n  \
         surrogate_scope: client\n"
    ))
    .unwrap()
    .mask;
    assert_eq!(
        (mask.patterns[0].name.as_str(), mask.patterns[0].regex.as_str()),
        ("EMPLOYEE", "EMP-\\d{6}")
    );
    assert_eq!(mask.allow, ["help@acme.com"]);
    assert_eq!(
        (mask.surrogates, mask.scope),
        (MaskSurrogates::Label, MaskScope::Client)
    );
    let text = error(&format!(
        "{UPSTREAMS}mask:\n  patterns:\n    - {{ name: x, regex: '(a' }}\n"
    ));
    assert!(
        text.starts_with("u.yaml:7: ") && text.contains("unclosed group"),
        "{text}"
    );
    let text = error(&format!("{UPSTREAMS}mask: {{ surrogates: labels }}\n"));
    assert!(text.starts_with("u.yaml:5: ") && text.contains("label"), "{text}");
}

#[test]
fn guard_and_rollout_are_read_as_the_design_writes_them() {
    let route = "routes:\n  - match: { task: t }\n    split: { openai: 95, small: 5 }\n    \
        rollout: { stepWeight: 5, maxWeight: 50, interval: 10m, minCalls: 200, promote: manual }\n    \
        guard: { error: 2%, invalid: 1%, fallback: 5%, p95_latency: 1.2x, cost: 1.5x, agreement: 5% }\n    when: easy\n    on_drift: rollback\n";
    let config = parse(&format!("{UPSTREAMS}{route}")).unwrap();
    let route_read = &config.routes.all()[0];
    let guard = route_read.guard.unwrap();
    assert_eq!(
        (guard.error, guard.p95_latency, guard.cost),
        (Some(0.02), Some(1.2), Some(1.5))
    );
    let rollout = route_read.rollout.unwrap();
    assert_eq!((rollout.step_weight, rollout.max_weight, rollout.auto), (5, 50, false));
    assert_eq!(route_read.on_drift, crate::route::OnDrift::Rollback);
    for (good, bad, told) in [
        ("2%", "2", "a percentage such as"),
        ("1.2x", "0.9x", "1x or more"),
        ("stepWeight: 5", "stepWeight: 0", "is no step"),
        ("maxWeight: 50", "maxWeight: 4", "less than a step"),
        ("maxWeight", "max_weight", "did you mean `maxWeight`"),
        ("when: easy", "when: hard", "easy"),
    ] {
        let text = error(&format!("{UPSTREAMS}{}", route.replacen(good, bad, 1)));
        assert!(text.contains(told), "{bad}: {text}");
    }
}

#[test]
fn fallback_and_hold_are_read_and_mistakes_in_them_are_told() {
    let route = |more: &str| {
        let text = format!("routes:\n  - match: {{ task: t }}\n    split: {{ openai: 95, small: 5 }}\n    {more}\n");
        parse(&format!("{UPSTREAMS}{text}"))
    };
    let fallback = |more: &str| route(more).unwrap().routes.all()[0].fallback;
    let given =
        fallback("fallback: { on: [error, timeout, truncated], timeout: 4s }\n    hold: { for: 1s, bytes: 1KiB }");
    let time = Duration::from_secs(1);
    assert_eq!(given.hold, Some(Hold { time, bytes: 1024 }));
    assert_eq!(given.time_for(&HeaderMap::new()), Some(Duration::from_secs(4)));
    assert!(given.takes(Reason::Truncated) && !given.takes(Reason::InvalidOutput));
    assert_eq!(fallback("hold: none").hold, None);
    assert_eq!(fallback("hold: { for: 1s }").hold, Some(Hold { time, bytes: 64 << 10 }));
    for (more, words) in [
        (
            "fallback: { on: [eror] }",
            "unknown variant `eror`, expected one of error, timeout, invalid_output",
        ),
        ("fallback: { timeuot: 4s }", "did you mean `timeout`"),
        ("fallback: { timeout: soon }", "is not a duration"),
        (
            "hold: never",
            "expected `none`, or limits as in `{ for: 2s, bytes: 64KiB }`",
        ),
        ("hold: { four: 2s }", "did you mean `for`"),
        (
            "hold: { for: 20s }",
            "routes[0]: hold.for: 20s is longer than fallback.timeout (10s)",
        ),
    ] {
        let error = route(more).unwrap_err().to_string();
        assert!(error.contains(words), "{more}: {error}");
    }
    let error = error(&format!(
        "{UPSTREAMS}routes:\n  - {{ match: {{ model: m }}, fallback: {{ on: [error] }} }}\n"
    ));
    assert!(error.contains("the route has no `split`"), "{error}");
}

#[test]
fn store_encryption_is_on_or_off_and_off_without_a_word() {
    for (text, encrypted) in [("on", true), ("off", false), ("true", true)] {
        let config = parse(&format!("{UPSTREAMS}store: {{ encryption: {text} }}\n")).unwrap();
        assert_eq!(config.encrypt_store, encrypted, "{text}");
    }
    assert!(!parse(UPSTREAMS).unwrap().encrypt_store);
    let text = error(&format!("{UPSTREAMS}store: {{ encryption: maybe }}\n"));
    assert!(text.contains("neither `on` nor `off`"), "{text}");
}

#[test]
fn calls_are_kept_for_ever_or_as_long_as_the_store_or_their_route_says() {
    assert_eq!(parse(UPSTREAMS).unwrap().keep, None);
    let text =
        "store: { keep: 90d }\nroutes:\n  - { name: chat, match: { model: m }, split: { openai: 100 }, keep: 7d }\n";
    let config = parse(&format!("{UPSTREAMS}{text}")).unwrap();
    let days = |days: u64| Duration::from_secs(days * 86400);
    assert_eq!(config.keep, Some(days(90)));
    assert_eq!(config.keep_of_routes["chat"], days(7));
    let nameless = text.replace("name: chat, ", "");
    assert!(error(&format!("{UPSTREAMS}{nameless}")).contains("needs a `name`"));
}

#[test]
fn mistakes_say_what_to_do() {
    let cases = [
        ("upstreams: {}\n", "no upstream"),
        ("upstreams: { a: { url: nonsense } }\n", "is not a URL"),
        ("upstreams: { v1: { url: 'http://h' } }\n", "rename it"),
        (
            "upstreams: { a: { url: 'http://169.254.169.254' } }\n",
            "allow_link_local: true",
        ),
        (
            "upstreams: { a: { url: 'http://h' }, b: { url: 'http://h' } }\n",
            "none named as the default",
        ),
        (
            "upstreams: { a: { url: 'http://h', api: cobol } }\n",
            "use one of openai_chat",
        ),
        (
            "listen: here\nupstreams: { a: { url: 'http://h' } }\n",
            "is not an address",
        ),
        ("admin: 0.0.0.0:1\nupstreams: { a: { url: 'http://h' } }\n", "loopback"),
        (
            "upstreams: { a: { url: 'http://h' } }\ncapture: { wait: soon }\n",
            "`soon` is not a duration",
        ),
        (
            "upstreams: { a: { url: 'http://h' } }\nverdict: { margin: 5 }\n",
            "verdict.margin: it is 5, and must lie between 0.005 and 0.5",
        ),
        (
            "upstreams: { a: { url: 'http://h' } }\nverdict: { alpha: 0 }\n",
            "verdict.alpha",
        ),
        (
            "upstreams: { a: { url: 'http://h' } }\nverdict: { max_age: 0s }\n",
            "verdict.max_age",
        ),
    ];
    for (text, expected) in cases {
        let message = error(text);
        assert!(message.contains(expected), "{text} → {message}");
    }
    let azure = "default_upstream: az\nupstreams: { az: { url: 'https://x.openai.azure.com' }, openai: { url: 'https://api.openai.com' } }\n";
    assert!(error(azure).contains("rename it"));
}

#[test]
fn signing_knows_its_region_from_the_host_or_is_told() {
    let sign = |url: &str, more: &str| parse(&format!("upstreams: {{ a: {{ url: '{url}', {more} }} }}\n"));
    let of = |config: Config| {
        let signing = config.upstreams["a"].sign.clone().unwrap();
        (signing.region, signing.service, signing.credentials.is_some())
    };
    let told = sign("https://bedrock-runtime.eu-west-1.amazonaws.com", "sign: aws").unwrap();
    assert_eq!(of(told), ("eu-west-1".into(), "bedrock".into(), false));
    let given = sign(
        "http://localhost:1",
        "sign: aws, aws: { region: us-east-1, service: bedrock }",
    )
    .unwrap();
    assert_eq!(of(given), ("us-east-1".into(), "bedrock".into(), false));
    let error = |url: &str, more: &str| sign(url, more).unwrap_err().to_string();
    assert!(error("http://localhost:1", "sign: aws").contains("add `aws: {"));
    assert!(error("http://localhost:1", "aws: { region: r }").contains("add `sign: aws`"));
    assert!(error("http://localhost:1", "sign: gcp").contains("expected one of aws"));
}

#[test]
fn usage_is_asked_for_where_config_says_so() {
    let config = parse("upstreams: { a: { url: 'http://h', ask_usage: true } }\n").unwrap();
    assert!(config.upstreams["a"].ask_usage);
    assert!(!parse("upstreams: { a: { url: 'http://h' } }\n").unwrap().upstreams["a"].ask_usage);
}

#[test]
fn a_canary_sees_raw_text_so_its_upstream_must_be_trusted() {
    let text = UPSTREAMS.replace(", trusted: true", "") + "routes:\n  - split: { openai: 95, small: 5 }\n";
    assert!(error(&text).contains("trusted: true"));
}

#[test]
fn answers_are_held_to_a_form_in_rehearsals_and_not_in_splits() {
    let of = |given: &str| {
        let text = UPSTREAMS.replace("model: m,", &format!("model: m, constrain: {given},"));
        parse(&text).map(|config| config.upstreams["small"].constrain)
    };
    assert_eq!(
        (of("schema").unwrap(), of("true").unwrap(), of("false").unwrap()),
        (true, true, false)
    );
    assert!(of("grammar").unwrap_err().to_string().contains("neither `schema`"));
    let split = UPSTREAMS.replace("model: m,", "model: m, constrain: schema,")
        + "routes:\n  - split: { openai: 95, small: 5 }\n";
    assert!(error(&split).contains("rehearsals alone"));
}

#[test]
fn an_operators_prices_are_read_and_a_bad_file_is_told_by_model_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prices.json");
    let config = || parse(&format!("{UPSTREAMS}prices: {}\n", file.display()));
    let missing = config().unwrap_err().to_string();
    assert!(
        missing.starts_with(&format!("u.yaml: prices: {}: ", file.display())),
        "{missing}"
    );
    std::fs::write(&file, r#"{"models": [{"model": "m", "input": 1e-6, "output": -1}]}"#).unwrap();
    let bad = config().unwrap_err().to_string();
    assert!(
        bad.contains("prices.json: model `m`, field `output`: it is -1"),
        "{bad}"
    );
    std::fs::write(&file, r#"{"models": [{"model": "m", "input": 1e-6, "output": 2e-6}]}"#).unwrap();
    let prices = config().unwrap().prices;
    assert_eq!(prices.lookup("m").map(|price| price.input), Some(1e-6));
    assert!(prices.lookup("gpt-4o").is_some(), "the built-in ones stay");
}

#[test]
fn a_judge_of_shadows_is_asked_for_and_bounded() {
    let text = "shadow: [{ to: [small], judge: { by: openai, model: gpt-4o } }]\n";
    let shadow = &parse(&format!("{UPSTREAMS}{text}")).unwrap().shadow[0];
    let judge = shadow.judge.as_ref().unwrap();
    assert_eq!((judge.by.as_str(), judge.model.as_str()), ("openai", "gpt-4o"));
    assert_eq!((judge.budget.calls_per_day, judge.budget.concurrency), (1000, 1));
    let none = &parse(&format!("{UPSTREAMS}shadow: [{{ to: [small] }}]\n"))
        .unwrap()
        .shadow[0];
    assert_eq!(none.judge, None);
}

#[test]
fn a_shadow_names_its_upstreams_and_bounds_what_it_spends() {
    let text = "shadow:\n  - { match: { task: \"*\" }, to: [small], sample: 2%, budget: { calls_per_day: 100, usd_per_day: 1.5, concurrency: 2 } }\n";
    let shadow = &parse(&format!("{UPSTREAMS}{text}")).unwrap().shadow[0];
    assert_eq!(
        (shadow.matching.task.as_deref(), shadow.to[0].as_str()),
        (Some("*"), "small")
    );
    assert_eq!(
        (
            shadow.sample,
            shadow.budget.calls_per_day,
            shadow.budget.usd_per_day,
            shadow.budget.concurrency
        ),
        (0.02, 100, Some(1.5), 2)
    );
    let default = &parse(&format!("{UPSTREAMS}shadow: [{{ to: [small] }}]\n"))
        .unwrap()
        .shadow[0];
    assert_eq!((default.sample, default.budget.calls_per_day), (0.05, 10_000));
    for (text, word) in [
        ("{ to: [other] }", "`other` is not among"),
        ("{ to: [] }", "at least one"),
        ("{ to: [openai], text: raw }", "`trusted: true`"),
        ("{ to: [small], match: { tsak: x } }", "did you mean `task`"),
        ("{ to: [small], budget: { usd_per_day: -1 } }", "0 or more"),
        ("{ to: [small], budget: { concurrency: 0 } }", "1 to 256"),
        (
            "{ to: [small], judge: { by: nobody, model: m } }",
            "judge.by: `nobody` is not among",
        ),
        (
            "{ to: [small], judge: { by: small } }",
            "judge.by: `small` is one of those",
        ),
        (
            "{ to: [small], match: { upstream: openai }, judge: { by: openai, model: m } }",
            "one of those",
        ),
        (
            "{ to: [small], judge: { by: openai } }",
            "judge.model: which model of `openai`",
        ),
        (
            "{ to: [small], judge: { by: openai, model: m, budget: { usd_per_day: -1 } } }",
            "judge.budget.usd_per_day",
        ),
    ] {
        let error = error(&format!("{UPSTREAMS}shadow: [{text}]\n"));
        assert!(error.contains(word), "{text}: {error}");
    }
}
