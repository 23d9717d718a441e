# Everything a person does with a clone: see `make help`.

CARGO ?= cargo
PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: run test lint clean help

run: ## Start everything on this machine; ARGS="..." goes to `lizards up`
	@echo "1/3 NATS server"
	@$(PYTHON) tools/get nats
	@echo "2/3 building (some minutes the first time, seconds afterwards)"
	@$(CARGO) build --locked --profile quick --no-default-features --bin lizards
	@echo "3/3 starting; Ctrl-C stops everything"
	@exec target/quick/lizards up $(ARGS)

test: ## Run every check and test, against real servers
	@echo "1/3 servers to test against"
	@$(PYTHON) tools/get nats postgres mongodb rabbitmq chromium kosoku
	@echo "2/3 lint"
	@$(MAKE) --no-print-directory lint
	@echo "3/3 tests"
	@$(CARGO) test --locked --workspace

lint: ## Check the format, the lints, and where cargo-deny is installed the dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		echo "$(CARGO) deny check"; $(CARGO) deny --log-level error check; \
	else \
		echo "(cargo-deny is not installed: licences and advisories are not checked)"; \
	fi

clean: ## Remove what was built; downloaded servers (.tools) and data stay
	$(CARGO) clean

help: ## Show this
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):.*## /  \1|/p' Makefile | while IFS='|' read -r target text; do \
		printf '%-8s %s\n' "$$target" "$$text"; done
