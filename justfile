# `just check` is what continuous integration runs, no more and no less.
check:
    .ci/run

# The quick part of it, for every save.
quick:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace --lib

# Outputs that changed on purpose: read the difference before you commit it.
bless:
    VSWITCH_BLESS=1 cargo test --test integration
    git diff --stat

# Every interleaving of the shared table.
loom:
    RUSTFLAGS="--cfg loom" cargo test -p switch --lib --release table::interleavings

# Long transfers and lives, in seconds each.
soak seconds="60":
    VSWITCH_SOAK_SECONDS={{seconds}} cargo test --test integration netns -- --nocapture

# What tracing costs while nobody traces: the program beside one that is built without it.
untraced:
    RUSTFLAGS="--cfg untraced" cargo bench --bench micro --no-run --target-dir target/untraced
    cargo bench --bench micro -- --counts --against "$(ls -t "$PWD"/target/untraced/release/deps/micro-* | grep -v '[.]d$' | head -1)"

bench:
    cargo bench --bench micro
    sudo target/release/vswitch bench --vs bridge,direct
