/tmp/w15/fuzz/target/debug/deps/runs-88d3c13f8aedfda5.d: fuzz_targets/runs.rs fuzz_targets/../../tests/common/mod.rs fuzz_targets/../../tests/common/bytes.rs fuzz_targets/../../tests/common/case.rs fuzz_targets/../../tests/common/counting.rs fuzz_targets/../../tests/common/script.rs fuzz_targets/../../tests/common/source.rs fuzz_targets/../../tests/common/waker.rs

/tmp/w15/fuzz/target/debug/deps/libruns-88d3c13f8aedfda5.rmeta: fuzz_targets/runs.rs fuzz_targets/../../tests/common/mod.rs fuzz_targets/../../tests/common/bytes.rs fuzz_targets/../../tests/common/case.rs fuzz_targets/../../tests/common/counting.rs fuzz_targets/../../tests/common/script.rs fuzz_targets/../../tests/common/source.rs fuzz_targets/../../tests/common/waker.rs

fuzz_targets/runs.rs:
fuzz_targets/../../tests/common/mod.rs:
fuzz_targets/../../tests/common/bytes.rs:
fuzz_targets/../../tests/common/case.rs:
fuzz_targets/../../tests/common/counting.rs:
fuzz_targets/../../tests/common/script.rs:
fuzz_targets/../../tests/common/source.rs:
fuzz_targets/../../tests/common/waker.rs:
