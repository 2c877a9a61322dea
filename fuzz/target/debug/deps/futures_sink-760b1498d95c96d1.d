/tmp/w15/fuzz/target/debug/deps/futures_sink-760b1498d95c96d1.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-sink-0.3.34/src/lib.rs

/tmp/w15/fuzz/target/debug/deps/libfutures_sink-760b1498d95c96d1.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-sink-0.3.34/src/lib.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-sink-0.3.34/src/lib.rs:
