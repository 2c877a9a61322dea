// Loaded before the tests. Node does not report a test that never ends: it waits for ever while a timer is
// set, and exits with success if there is none.
const log = console.log;
let ended = false;
console.log = (...line) => {
    ended ||= String(line[0]).includes("test result:");
    log(...line);
};

setTimeout(() => process.exit(1), 60_000).unref();

process.on("exit", () => {
    if (!ended) {
        // The console is not used here, because the tests write to it.
        process.stderr.write("a test did not end within a minute, or not at all\n");
        process.exitCode = 1;
    }
});
