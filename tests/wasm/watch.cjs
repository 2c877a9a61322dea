// Loaded before the tests. A test that never ends is no failure to Node: it waits for ever while a
// timer is set, and ends as if all were well when there is none.
const log = console.log;
let ended = false;
console.log = (...line) => {
    ended ||= String(line[0]).includes("test result:");
    log(...line);
};

setTimeout(() => process.exit(1), 60_000).unref();

process.on("exit", () => {
    if (!ended) {
        // Not by the console, which is kept for the tests.
        process.stderr.write("a test did not end, or not within a minute\n");
        process.exitCode = 1;
    }
});
