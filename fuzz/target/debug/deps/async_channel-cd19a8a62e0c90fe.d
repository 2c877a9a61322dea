/tmp/w15/fuzz/target/debug/deps/async_channel-cd19a8a62e0c90fe.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/async-channel-2.5.0/src/lib.rs

/tmp/w15/fuzz/target/debug/deps/libasync_channel-cd19a8a62e0c90fe.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/async-channel-2.5.0/src/lib.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/async-channel-2.5.0/src/lib.rs:
