# make demo, make test, make lint: each sets up everything it needs in .venv on a machine with Python 3.11 or 3.12.
PYTHON := $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' >/dev/null 2>&1 && echo $$p && break; done)
RUN := .venv/bin/python
DEMO_DATA := results/synthetic

.PHONY: setup demo app test lint bench audit clean
setup: .venv/ready

.venv/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found on PATH"; exit 2; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --upgrade pip 'setuptools>=78.1.1,<82'
	$(RUN) -m pip install --quiet --editable '.[test]'
	touch $@

demo: setup
	$(RUN) -m recipes.synthetic $(DEMO_DATA) --clips_per_class 60
	$(RUN) train.py hparams/demo_focalnet.yaml --data_folder=$(DEMO_DATA)
	$(RUN) interpret.py hparams/modulation.yaml --experiment=demo_modulation --data_folder=$(DEMO_DATA) \
		--classifier=results/demo_focalnet/1234/classifier --quantile=[0.5,0.7,0.9,0.95]

# the live page on the demo's classifier
app: setup
	$(RUN) -m pip install --quiet --editable '.[app]'
	test -d results/demo_focalnet/1234/classifier || $(MAKE) demo
	$(RUN) -m recipes.app --classifier=results/demo_focalnet/1234/classifier

test: setup lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile  # one core a worker, the scripts that tests start included

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# known advisories of what is installed; says what it could not ask
audit: setup
	-$(RUN) -m pip install --quiet 'pip-audit>=2.9,<3'
	$(RUN) -m tools.audit

bench: setup
	$(RUN) -m tools.bench --out results/bench.json

clean:
	rm -rf .venv results
