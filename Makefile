# What people type. The work is done by cargo and by the scripts in .ci/.

# Where cargo builds, as its environment or its configuration says: target/ in this checkout where they say nothing.
metadata = cargo metadata --no-deps --offline --format-version 1
target = $(or $(CARGO_TARGET_DIR),$(shell $(metadata) | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'))
# The version that `make lint` installs where there is no cargo-deny.
cargo_deny := 0.20.2
# Further arguments for `pgwake demo`, for example: make demo DEMO="--suspend-after 5s"
DEMO ?=

# What `make test-drivers` and `make test-fidelity` run; all of it without, for example: make test-drivers ONLY="--place session psql"
ONLY ?=

# Further arguments for `pgwake-loadtest bench`, for example: make bench BENCH="--size full --only query,connect"
BENCH ?=

.PHONY: help demo setup test test-quick test-drivers test-fidelity test-storms test-demo test-dashboard test-mutants release bench lint clean

help: ## Print this
	@echo "make <target>, where <target> is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## Start pgwake with two sleeping Postgres to try; Ctrl-C ends it, its data stays in .demo/
	@.ci/setup demo
	cargo build --release --locked
	@exec "$(target)/release/pgwake" demo $(DEMO)

setup: ## Install what the tests need and say what that is: a Postgres (as root), .tools/
	@.ci/setup tests

test: setup ## Run all tests (a few minutes; Postgres, psql and drivers are real)
	cargo test --locked --workspace

test-quick: ## Run the tests that need no Postgres
	cargo test --locked --workspace --lib --bins
	cargo test --locked --test main architecture

test-drivers: setup ## Run every driver's suite in full, at Postgres itself and through pgwake (20 minutes)
	CARGO_TARGET_DIR="$(target)/sqlx-suite" cargo build --locked --manifest-path tests/drivers/sqlx/Cargo.toml
	cargo test --locked --test matrix -- drivers $(ONLY)

test-fidelity: ## Run the drivers' and Postgres' own tests, at Postgres itself and through pgwake (long)
	@.ci/setup fidelity
	cargo test --locked --test matrix -- fidelity $(ONLY)

# One after the other, with their figures and seeds.
test-storms: setup ## Run storms over hundreds of sleeping endpoints, races of suspends, and crashes, at full size (20 minutes)
	PGWAKE_STORM=100 PGWAKE_NIGHTLY=300 PGWAKE_ROUNDS=100 PGWAKE_LOAD_SECONDS=300 cargo test --locked --test main -- \
	  --test-threads=1 --nocapture waking::storms waking::interrupted race_with_clients

test-mutants: setup ## Build pgwake with known mistakes, one after another, and expect the tests to find each
	@.ci/mutants

test-demo: ## Run `make demo` as a user would, and look whether it keeps its promises
	@.ci/demo

release: ## Build pgwake for use: by a profile of what it does (PGO), 5 to 10 % less CPU (20 minutes on 2 cores)
	@.ci/setup release
	@.ci/release "$(target)"

bench: release ## Measure that pgwake beside PgBouncer and Postgres itself (under 5 minutes), and write a report
	@.ci/setup bench
	cargo build --release --locked --package pgwake-loadtest
	newer=.tools/pgbouncer/pgbouncer; [ -x $$newer ] || newer=; \
	"$(target)/release/pgwake-loadtest" bench --pgwake "$(target)/pgo/release/pgwake" --out "$(target)/bench" \
	  $${newer:+--newer-pgbouncer "$$newer"} $(BENCH)

test-dashboard: ## Look at the dashboard in a real browser (needs Chromium and npm)
	@CARGO_TARGET_DIR="$(target)" .ci/dashboard

lint: ## Check format, lints, documentation and dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	@cargo deny --version >/dev/null 2>&1 || { echo "Installing cargo-deny $(cargo_deny)"; \
	  cargo install cargo-deny --locked --version $(cargo_deny); }
	cargo deny --locked check bans licenses sources
	@.ci/mutants check

clean: ## Remove what was built; .tools/ and the demo's data stay
	cargo clean
	rm -rf "/tmp/pgwake-tests-$$(id -u)"
