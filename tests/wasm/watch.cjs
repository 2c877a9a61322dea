// Loaded before the tests. A test that never ends is no failure to Node: it waits for ever while a
// timer is set, and ends as if all were well when there is none.
const log = console.log;
let ended = false;
console.log = (...line) => {
    ended ||= String(line[0]).includes("test result:");
    log(...line);
};

setTimeout(() => {
    console.error("a test has not ended within a minute");
    process.exit(1);
}, 60_000).unref();

process.on("exit", () => {
    if (!ended) {
        console.error("a test did not end");
        process.exitCode = 1;
    }
});
