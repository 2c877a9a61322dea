/tmp/w15/fuzz/target/debug/deps/futures_io-f26cc26bb0014cd6.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-io-0.3.34/src/lib.rs

/tmp/w15/fuzz/target/debug/deps/libfutures_io-f26cc26bb0014cd6.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-io-0.3.34/src/lib.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-io-0.3.34/src/lib.rs:
