#!/usr/bin/env bash
# Fuzzes every target:  fuzz/run.sh [SECONDS EACH] [TARGET…]     (60 seconds, all targets)
#
# The same targets run under `cargo fuzz run TARGET`; this needs neither that nor a nightly compiler. What is found new
# stays below target/fuzz; a crash prints its input's file and fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

seconds=${1:-60}
shift || true
if [[ $# -gt 0 ]]; then
    targets=("$@")
else
    targets=(fuzz_targets/*.rs)
    targets=("${targets[@]##*/}")
    targets=("${targets[@]%.rs}")
fi

host=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-$PWD/../target}/fuzz
coverage=(passes=sancov-module llvm-args=-sanitizer-coverage-level=4 llvm-args=-sanitizer-coverage-inline-8bit-counters
    llvm-args=-sanitizer-coverage-pc-table llvm-args=-sanitizer-coverage-trace-compares)
RUSTFLAGS="--cfg fuzzing $(printf -- '-C%s ' "${coverage[@]}")" CARGO_TARGET_DIR=$out \
    cargo build --release --locked --quiet --target "$host"

# one TARGET: fuzzes it and prints a line.
one() {
    local target=$1 log=$out/$1.log
    mkdir -p "$out/corpus/$target" "$out/crashes/$target"
    if "$out/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
        -artifact_prefix="$out/crashes/$target/" "$out/corpus/$target" "corpus/$target" >"$log" 2>&1; then
        printf '%-28s %s\n' "$target" "$(grep -o 'Done .*' "$log"), coverage $(grep -o 'cov: [0-9]*' "$log" | tail -n1)"
    else
        printf '%-28s CRASHED\n' "$target"
        tail -n 30 "$log"
        return 1
    fi
}
export -f one
export out host seconds
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'one {}'
