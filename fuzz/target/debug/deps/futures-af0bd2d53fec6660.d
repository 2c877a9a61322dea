/tmp/w15/fuzz/target/debug/deps/futures-af0bd2d53fec6660.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-0.3.34/src/lib.rs

/tmp/w15/fuzz/target/debug/deps/libfutures-af0bd2d53fec6660.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-0.3.34/src/lib.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-0.3.34/src/lib.rs:
