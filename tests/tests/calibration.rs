//! Verdicts on simulated tasks, in the short form of `calibrate`.

use understudy_tests::calibrate;

#[test]
fn bad_candidates_are_hardly_ever_promoted_however_often_one_looks_and_equal_ones_soon_are() {
    let found = calibrate::run(60, 1200);
    // Of 60 tasks a share of 5 % is three; that seven or more are promoted then is rarer than one in 40.
    let most = 6.0 / 60.0;
    assert!(found.bad.iter().all(|line| line.promoted() <= most), "{found}");
    // The other gates fail at this, or the simulation would show nothing.
    assert!(found.bad[0].promoted_by_fixed_size() > 0.1, "{found}");
    assert!(found.good[..3].iter().all(|line| line.promoted() > 0.7), "{found}");
}
