# The same scripts as continuous integration, under shorter names. `just` is a convenience: each recipe is one
# script of ci/, and ci/README.md says what it promises.

# List the recipes.
default:
    @just --list

# What a change must pass, without root and in a few minutes.
check: scripts tidy fmt deny clippy docs test

# Everything, as CI does: installs what is missing, ends with the runners' summaries.
ci:
    ci/test

# Install what the checks need (root or sudo for Debian packages).
deps *args:
    ci/deps.sh {{args}}

# Formatting of every Rust file.
fmt:
    ci/fmt.sh

# Lints of the whole workspace, warnings are errors.
clippy:
    ci/clippy.sh

# API documentation, warnings are errors.
docs:
    ci/docs.sh

# Unit, property and doc tests; arguments select, e.g. `just test -p mmproxy-codec`.
test *args:
    ci/unit.sh {{args}}

# End-to-end and interop tests in network namespaces; arguments select by name.
e2e *args:
    ci/e2e.sh {{args}}

# Servers in real containers; needs a Docker Engine.
docker:
    ci/docker

# The demo, as root and as an ordinary user.
demo:
    ci/demo.sh

# The systemd units, and what they leave the service.
systemd:
    ci/systemd.sh

# The package and its units under a real systemd; needs root and debootstrap.
boot *suites:
    ci/boot.sh {{suites}}

# How fast, beside the peers: writes docs/benchmarks/DATE; `just bench --quick` for two minutes, `--help` for more.
bench *args:
    ci/bench.sh {{args}}

# Install the peers that the bench compares with.
bench-peers:
    ci/bench-peers.sh

# How much of what a datagram costs is the kernel's.
bench-floor *args:
    ci/bench-floor.sh {{args}}

# What honest clients notice of attacks: `just hostile 20 3` for turns of 20 s, 3 with and 3 without each.
hostile *args:
    ci/hostile.sh {{args}}

# The right clients and every byte, under load.
bench-smoke *args:
    ci/bench-smoke.sh {{args}}

# Dashboard and alerts against the program's metrics.
dashboards:
    ci/dashboards.sh

# Kubernetes manifests, by the published schemas.
manifests:
    ci/manifests.sh

# The status page in a browser; `--picture` draws docs/status-page.png anew.
status-page *args:
    ci/status-page.sh {{args}}

# Draws docs/top.svg anew, from the screen of a real `mmproxy top`.
top-picture:
    cargo build --locked -p mmproxy
    MMPROXY_PICTURE={{justfile_directory()}}/docs/top.svg cargo nextest run --locked -p harness -E 'test(top_has_a_picture)'

# Runnable blocks of the documents.
readme *files:
    ci/readme.sh {{files}}

# Flags, reasons, statuses and messages in the documents against the program.
facts:
    ci/facts.sh

# Licences, sources and duplicates of dependencies; `just deny --advisories` asks for vulnerabilities too.
deny *args:
    ci/deny.sh {{args}}

# Every fuzz target for `seconds`, starting from its corpus.
fuzz seconds="20":
    ci/fuzz-smoke.sh {{seconds}}

# The codec without std and without an allocator.
no-std:
    ci/no-std.sh

# Every interleaving of what threads share.
loom:
    ci/loom.sh

# End-to-end tests with the program under memcheck; arguments select.
valgrind *args:
    ci/valgrind.sh {{args}}

# End-to-end tests with the program under AddressSanitizer; arguments select.
asan *args:
    ci/asan.sh {{args}}

# shellcheck.
scripts:
    ci/scripts.sh

# Machine paths and dead links.
tidy:
    ci/tidy.sh
