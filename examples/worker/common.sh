# What `run` and `compare` share. They set `here`, `jobs` and `url`.

# Ends the script unless `jobs` is a number from 10 on.
check_jobs() {
    case $jobs in
        *[!0-9]* | 0* | ?)
            echo "error: \`$jobs\` is not a number of jobs from 10 on, such as 1000" >&2
            exit 2
            ;;
    esac
}

# Sets `WORKER` to the path of the program.
build_worker() {
    if [ -z "${WORKER-}" ]; then
        messages=$(cargo build --manifest-path "$here/Cargo.toml" \
            --message-format json-render-diagnostics)
        WORKER=$(printf '%s' "$messages" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
        export WORKER
    fi
}

redis() { "$(command -v redis-cli || command -v valkey-cli)" -u "$url" "$@"; }

# Puts the jobs into a stream, as many of each backend.
put_jobs() {
    awk -v jobs="$jobs" -v stream="$1" 'BEGIN {
        split("mail search archive", backends)
        for (job = 1; job <= jobs; job++)
            print "xadd " stream " * job " job " backend " backends[1 + job % 3]
    }' | redis --pipe >/dev/null
}

say() { printf '%6s  %s\n' "$1" "$2"; }
