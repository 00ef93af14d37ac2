# pg_tandem: builds the extension by PGXS and names the commands a person types.
#
#   make demo         the main job on live traffic, in a private temporary cluster (installs what is missing)
#   make test         every test, likewise
#   make test-matrix  the tests on PostgreSQL 15, 17 and 18, each in a clean Debian root
#   make bench        the figures of docs/figures.md, as ratios from one run
#   make stress       many clients on tasks at once, and what must hold afterwards; MODE=full, STRESS="load --tasks 200 --threads 20"
#   make, make install, make installcheck   the extension itself, for PG_CONFIG
#
# The folder is the list: sources and install fragments are globbed, so no list stands twice.

EXTENSION_VERSION := 0.1.0

.DEFAULT_GOAL := all

# --- commands that set up everything themselves; they need no PostgreSQL to be there yet
.PHONY: demo test test-matrix bench stress stress-program stage lint
demo:
	@test/tools/with-deps.sh test/demo/demo.sh
test:
	@test/tools/with-deps.sh test/tools/test.sh
test-matrix:
	@test/tools/matrix.sh
bench:
	@WITH_PEERS=1 test/tools/with-deps.sh test/bench/bench.sh
stress:
	@MODE='$(MODE)' STRESS='$(STRESS)' test/tools/with-deps.sh test/stress/stress.sh
lint:
	@test/tools/with-deps.sh test/tools/lint.sh

PG_CONFIG ?= pg_config

# --- the stress program: a client, of libpq and threads; never installed
STRESS_OBJS = $(patsubst test/stress/%.cpp,build/stress/%.o,$(sort $(wildcard test/stress/*.cpp)))
stress-program: build/tandem_stress
build/tandem_stress: $(STRESS_OBJS)
	$(CXX) -o $@ $^ -L$(shell $(PG_CONFIG) --libdir) -Wl,-rpath,$(shell $(PG_CONFIG) --libdir) -lpq -pthread
build/stress/%.o: test/stress/%.cpp $(wildcard test/stress/*.hpp) Makefile
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O2 -Wall -Wextra -Werror -isystem $(shell $(PG_CONFIG) --includedir) -pthread -c -o $@ $<

# --- the extension
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifneq ($(wildcard $(PGXS)),)
MODULE_big   = pg_tandem
OBJS         = $(patsubst %.cpp,%.o,$(sort $(wildcard src/core/*.cpp src/pg/*.cpp)))
EXTENSION    = control/pg_tandem
INSTALL_SQL  = build/pg_tandem--$(EXTENSION_VERSION).sql
DATA_built   = $(INSTALL_SQL)
DATA         = $(sort $(wildcard control/upgrade/*.sql))
REGRESS      = $(basename $(notdir $(sort $(wildcard sql/*.sql))))
REGRESS_OPTS = --inputdir=.
ISOLATION    = $(basename $(notdir $(sort $(wildcard test/isolation/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test/isolation --outputdir=test/isolation
EXTRA_CLEAN  = build results output_iso test/isolation/output_iso test/isolation/results regression.diffs regression.out

WARNINGS     = -Wall -Wextra
ifdef WERROR
WARNINGS    += -Werror
endif
# PostgreSQL's own headers are not held to our warnings: -isystem. Its plain -I comes later and is then ignored.
PG_CPPFLAGS  = -isystem $(shell $(PG_CONFIG) --includedir-server) -Isrc -DTANDEM_VERSION='"$(EXTENSION_VERSION)"'
PG_CXXFLAGS  = -std=c++20 -O2 -fno-gnu-unique $(WARNINGS)
SHLIB_LINK   = -lstdc++ -Wl,--version-script=src/pg/exports.map
override with_llvm = no

include $(PGXS)

$(INSTALL_SQL): $(sort $(wildcard control/install/*.sql)) control/pg_tandem.control
	@mkdir -p $(@D)
	@! LC_ALL=C grep -n '[^ -~	]' $(filter %.sql,$^) || { echo 'Only ASCII may stand there: the script is read in the encoding of the database. tandem.glyph() has signs for terminals.' >&2; false; }
	@{ printf '%s\n' '\echo Use "CREATE EXTENSION pg_tandem" to load this file. \quit'; cat $(filter %.sql,$^); } > $@

# What other people's tools read of ours: Prometheus's exporters and servers, Grafana, Nagios.
WATCHERS = $(sort $(wildcard control/prometheus/*.yaml control/prometheus/*.yml control/grafana/*.json))
install: install-watchers
uninstall: uninstall-watchers
.PHONY: install-watchers uninstall-watchers
install-watchers:
	@$(MKDIR_P) '$(DESTDIR)$(datadir)/pg_tandem'
	$(INSTALL_DATA) $(WATCHERS) '$(DESTDIR)$(datadir)/pg_tandem/'
	$(INSTALL_SCRIPT) control/nagios/check_pg_tandem '$(DESTDIR)$(datadir)/pg_tandem/'
uninstall-watchers:
	rm -f $(addprefix '$(DESTDIR)$(datadir)/pg_tandem'/, $(notdir $(WATCHERS)) check_pg_tandem)

# Every object depends on every header: a full build takes seconds, a stale object costs hours.
$(OBJS): $(wildcard src/core/*.hpp src/pg/*.hpp) Makefile
$(shlib): src/pg/exports.map

# The guards' own test library. Only private clusters get it (stage); it is never installed. It is built anew with pg_tandem.so.
GUARD_TEST = build/tandem_guard_test.so
$(GUARD_TEST): $(wildcard test/guard/*.cpp) $(shlib)
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -shared -o $@ $(filter %.cpp,$^) $(filter src/core/%,$(OBJS)) $(LDFLAGS) $(SHLIB_LINK)

# Install below build/stage, for private clusters that find it by extension_destdir or extension_control_path.
stage: all $(GUARD_TEST)
	@$(MAKE) --no-print-directory install DESTDIR=$(CURDIR)/build/stage >/dev/null
	@$(INSTALL_SHLIB) $(GUARD_TEST) $(CURDIR)/build/stage$(pkglibdir)/
else
all install installcheck stage:
	@echo "pg_config was not found: install PostgreSQL's server development package (Debian: postgresql-server-dev-NN)," >&2
	@echo "or name it: make PG_CONFIG=/path/to/pg_config. 'make demo' and 'make test' install it themselves." >&2
	@exit 1
clean:
	rm -rf build
endif
