# What the checks run, one recipe each. `.ci/run` does all of it on a fresh machine.

default: check test

# Formatting, lints and documentation, warnings denied.
check:
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

test:
    cargo test

# Writes the samples in README.md and docs/ anew, and checks nothing. docs/clients.md needs the stubs of the examples.
samples:
    UPDATE_GOLDEN=1 CONCORD_EXAMPLES=1 cargo test --test it -- samples::

proto:
    npx --yes @bufbuild/buf@1.75.0 lint
    npx --yes @bufbuild/buf@1.75.0 breaking --against proto/concord/store/v1/frozen.binpb

# Writes the descriptors of `proto/` anew, after a change there and before anything else is built.
descriptors:
    UPDATE_GOLDEN=1 cargo test -p concord-descriptors

licences:
    cargo deny check licenses bans sources

demo:
    cargo run --release -- demo

# How fast it is, as ratios against the limit in one run (docs/performance.md).
bench:
    cargo bench
