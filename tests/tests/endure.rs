//! The endurance commands, each in its short form: the same code as the long runs, and no goal of speed.

use understudy_tests::endure::shim::{DiskFault, Shim};
use understudy_tests::endure::{
    clock, crash, disk, guard, hold, leave, origin::Origin, regress, reload, replay, restart, runtime, soak, streams,
    weights,
};
use understudy_tests::eventually;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_request};
use understudy_tests::http::Request;
use understudy_tests::program::Home;
use understudy_tests::upstream::Upstream;

#[test]
fn kill_9_at_random_loses_and_doubles_nothing() {
    crash::run(3, false).assert();
}

#[test]
fn a_disk_that_is_full_broken_read_only_or_hangs_fails_no_call_and_is_counted() {
    disk::run(1.0, None, false).assert();
}

#[test]
fn with_capture_required_a_call_that_cannot_be_kept_is_refused_until_it_can() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let (home, shim) = (Home::new(), Shim::new());
    let config = format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ mode: required, wait: 10s }}\n",
        upstream.url()
    );
    let program = shim.serve(&home, &config);
    let call = || Request::post(CHAT, chat_request("gpt-4o", "How are you?", false)).send(program.listen);
    assert_eq!(call().status(), 200);
    for fault in [DiskFault::Full, DiskFault::Broken, DiskFault::ReadOnly] {
        shim.disk(fault);
        // The first one finds it out.
        eventually("calls are refused", || call().status() == 503);
        let asked = upstream.count();
        let refused = call();
        assert_eq!(
            (refused.status(), refused.head.header("x-should-retry")),
            (503, Some("false"))
        );
        assert_eq!(upstream.count(), asked, "a call that is refused goes nowhere");
        shim.disk(DiskFault::None);
        eventually("calls are taken again", || call().status() == 200);
    }
    assert_eq!(program.scrape_at_rest().unaccounted(), 0.0);
    program.terminate();
}

#[test]
fn reloads_under_load_fail_no_call_and_a_bad_config_keeps_the_old_one() {
    reload::run(4, 100).assert();
}

#[test]
fn a_replay_of_many_calls_at_once_asks_each_once() {
    replay::run(2_000, false).assert();
}

#[test]
fn the_guard_trips_on_what_is_worse_and_on_nothing_else() {
    guard::run(3, 2_000).assert();
}

#[test]
fn a_candidate_that_falls_ill_under_load_is_taken_out_and_no_client_sees_it() {
    regress::run(1, 300, false).assert();
}

#[test]
fn weights_change_under_load_and_no_call_fails() {
    weights::run(4, 100, false).assert();
}

#[test]
fn restarts_with_a_held_socket_fail_no_call_and_cut_no_stream() {
    restart::run(3, 50).assert();
}

#[test]
fn many_streams_at_once_are_whole() {
    let runtime = runtime();
    let origin = Origin::start(runtime.handle());
    streams::run(200, 2, origin.address, false).assert();
}

#[test]
fn mixed_traffic_with_faults_adds_up() {
    soak::run(8, 50).assert();
}

#[test]
fn a_wall_clock_that_jumps_spoils_no_duration_and_no_partition() {
    clock::run(1.0).assert();
}

#[test]
fn clients_that_leave_cancel_their_calls() {
    leave::run(10, false).assert();
}

#[test]
fn held_streams_are_as_whole_as_others() {
    hold::run(1, false).assert();
}
