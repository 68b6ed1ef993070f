# `make` lists what there is. Recipes use cargo and a POSIX shell; `parity` alone needs Python.

SHELL := /bin/sh
KWS := models/kws_dscnn
TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release/tractlet
VENV := $(TARGET)/venv

# The benchmark pack: models and labelled data that this repository may not carry. Optional.
PACK ?= $(wildcard ../shared/pack)
ifneq ($(PACK),)
export TRACTLET_PACK := $(abspath $(PACK))
endif

.PHONY: help run build dist test test-slim check fmt-check clippy rooms deny fmt bench figures parity pack clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Name the words in the twelve recordings of models/kws_dscnn
	@cargo run --quiet -- run $(KWS)/int8.onnx --input $(KWS)/samples.npy --labels $(KWS)/labels.txt --top 3

build: ## Build target/release/tractlet, the one to use
	cargo build --release

dist: ## Build the smallest and fastest binary (one fat-LTO unit: minutes) and show its size
	cargo build --profile dist
	@ls -l $(TARGET)/dist/tractlet | awk '{ print $$5 " bytes  " $$9 }'

test: ## Run every test; PACK=dir adds those on the benchmark pack
	cargo test --workspace

test-slim: ## Run every test that a build without tract has
	cargo test --workspace --no-default-features

check: fmt-check clippy rooms test deny ## Run everything that has to pass before a commit

fmt-check:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --all-targets --no-default-features -- -D warnings

# ARCHITECTURE.md says who may name what. The compiler cannot hold this line; this does.
rooms:
	@! grep -rnE 'tract_(core|onnx|hir|nnef|linalg|data)|memmap2::' --include='*.rs' src core \
		| grep -vE '^src/(import/|engine/tract\.rs:.*tract_|model/source\.rs:.*memmap2)'

deny:
	@if command -v cargo-deny >/dev/null; then cargo deny check; \
	else echo 'cargo-deny is not installed: licences and advisories are not checked'; fi

fmt: ## Format the sources
	cargo fmt --all

bench: build ## Measure latency on every shipped model
	@for model in models/*/*.onnx; do echo "$$model"; $(RELEASE) bench $$model || exit 1; echo; done

figures: build ## Measure the README's table of figures anew; DATA=dir adds quality
	@scripts/figures.sh $(RELEASE) $(DATA) >$(TARGET)/figures.md
	@sed -i -e '/^<!-- figures/,/^<!-- end/{//!d}' -e '/^<!-- figures/r $(TARGET)/figures.md' README.md
	@cat $(TARGET)/figures.md

parity: pack build $(VENV)/ready ## Compare with ONNX Runtime on whole test sets; needs PACK=dir and Python 3.11; ENGINE=plan
	$(VENV)/bin/python tests/parity/ort_parity.py --tractlet $(RELEASE) --pack $(PACK) --engine $(or $(ENGINE),tract)

pack:
	@test -n '$(PACK)' || { echo 'this needs the benchmark pack: PACK=dir' >&2; exit 1; }

$(VENV)/ready:
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet numpy==2.1.3 onnx==1.23.2 onnxruntime==1.32.0
	@touch $@

clean: ## Remove what was built
	cargo clean
