/tmp/w15/fuzz/target/debug/deps/futures_channel-a9eb3e63ae8a4ee5.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-channel-0.3.34/src/lib.rs

/tmp/w15/fuzz/target/debug/deps/libfutures_channel-a9eb3e63ae8a4ee5.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-channel-0.3.34/src/lib.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/futures-channel-0.3.34/src/lib.rs:
