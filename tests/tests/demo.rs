//! `demo`: one command, and everything has happened once.

use understudy_tests::program::Home;

#[test]
fn the_demo_goes_the_whole_way_and_says_that_its_models_are_simulated() {
    let home = Home::new();
    let dir = home.path().join("demo");
    let output = home.run(&["demo", "--dir", &dir.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for expected in [
        "SIMULATED",
        "promote",
        "hold",
        "slm-good",
        "slm-poor",
        "split:",
        "OPENAI_BASE_URL",
        "serve --upstream",
    ] {
        assert!(said.contains(expected), "`{expected}` is missing in:\n{said}");
    }
    let moved = said
        .split("(simulated) answered ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|n| n.parse::<u32>().ok());
    assert!(moved.is_some_and(|moved| moved > 0), "nothing was canaried:\n{said}");
    assert!(
        dir.join("understudy.yaml").exists() && dir.join("data/calls").exists(),
        "the demo's data are left to look at"
    );
}
