# Bulkhead: build, test, measure.  `make help` lists the targets.

MODE ?= rel
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
O := o/$(MODE)$(if $(filter clang%,$(notdir $(CC))),-clang)
PREFIX ?= /usr/local
VERSION := 0.1.0

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wformat=2 \
	-Wnull-dereference -Wimplicit-fallthrough -Wswitch-enum -Wconversion \
	-Wsign-conversion -Werror
ZERO_INIT := -ftrivial-auto-var-init=zero
ifneq ($(filter clang%,$(notdir $(CC))),)
# clang 14 wants to be told twice.
ZERO_INIT += -enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang
endif
HARDEN := -fstack-protector-strong -fstack-clash-protection \
	-fcf-protection $(ZERO_INIT)

# The programs are static where they can be: a device process then has no
# relocated libraries of its own, starts in under a millisecond, and opens
# nothing after exec.  The sanitizers need the dynamic ones.
STATIC := -static-pie
MODE_CFLAGS_rel := -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
MODE_CFLAGS_dbg := -O0 -g3
MODE_CFLAGS_asan := -O1 -g -fsanitize=address,undefined \
	-fno-sanitize-recover=all -fno-omit-frame-pointer -DBULKHEAD_ASAN=1
MODE_CFLAGS_tsan := -O1 -g -fsanitize=thread -Wno-tsan -DBULKHEAD_TSAN=1
MODE_CFLAGS_cov := -O0 -g --coverage -DBULKHEAD_COV=1
MODE_LDFLAGS_asan := -fsanitize=address,undefined
MODE_LDFLAGS_tsan := -fsanitize=thread
MODE_LDFLAGS_cov := --coverage
ifneq ($(filter asan tsan cov,$(MODE)),)
STATIC := -pie
endif
ifeq ($(MODE_CFLAGS_$(MODE)),)
$(error MODE=$(MODE) is unknown: use rel, dbg, asan, tsan or cov)
endif
ifneq ($(filter clang%,$(notdir $(CC))),)
MODE_CFLAGS_tsan := $(filter-out -Wno-tsan,$(MODE_CFLAGS_tsan))
endif

CPPFLAGS := -I. -I$(O)/gen -D_GNU_SOURCE -DBULKHEAD_VERSION='"$(VERSION)"'
CFLAGS = -std=gnu11 $(WARN) $(HARDEN) -fPIE -MMD -MP $(MODE_CFLAGS_$(MODE)) \
	$(EXTRA_CFLAGS)
LDFLAGS := $(MODE_LDFLAGS_$(MODE)) -Wl,-z,relro,-z,now -Wl,-z,noexecstack
# The hot loop of the software CPU is a chain of indirect tail calls: stack
# protectors and branch landing pads there cost a quarter of its speed, and
# guest code never becomes host code.
$(O)/hypervisor/soft/%.o: HARDEN := -fno-stack-protector -fcf-protection=none \
	$(ZERO_INIT)

LIBS_proto := -lprotobuf-c
LIBS_event := -levent_core -levent_pthreads
LIBS_sandbox := -lseccomp -lcap
# What only devhost-ext and vmmctl link.
LIBS_ext := -lslirp -lnbd
LIBS := -luring -ljansson $(LIBS_proto) $(LIBS_event) $(LIBS_sandbox) -lpthread -lm

# Sources by folder.  x_test.c and x_fuzz.c stand beside x.c; a *_main.c holds
# main() of a program.
src = $(filter-out %_test.c %_fuzz.c %_main.c,$(wildcard $(addsuffix /*.c,$(1))))
obj = $(patsubst %.c,$(O)/%.o,$(call src,$(1)))

PROTO_GEN := $(patsubst %.proto,$(O)/gen/%.pb-c.c,$(wildcard proto/*.proto))
PROTO_OBJ := $(call obj,proto) $(PROTO_GEN:.c=.o)
SANDBOX_OBJ := $(call obj,sandbox)
HV_OBJ := $(call obj,hypervisor hypervisor/kvm hypervisor/soft)
# devices/ext/ holds the devices that link parsers of others: they are in a
# program of their own, dynamic, so that no other device process has them.
DEVICE_DIRS := devices $(filter-out devices/ext,$(patsubst %/,%,$(wildcard devices/*/)))
EXT_OBJ := $(call obj,devices/ext)
DEVICES_OBJ := $(call obj,$(DEVICE_DIRS))
DEVHOST_OBJ := $(call obj,devhost)
VMMD_OBJ := $(filter-out $(O)/vmmd/inline.o,$(call obj,vmmd))
INLINE_OBJ := $(VMMD_OBJ) $(patsubst %.c,$(O)/%.o,$(wildcard vmmd/inline.c))
VMMCTL_OBJ := $(call obj,vmmctl)

PROGRAMS := $(foreach p,vmmd devhost vmmctl,$(if $(wildcard $(p)/$(p)_main.c),$(O)/$(p)/$(p))) \
	$(if $(wildcard vmmd/inline.c),$(O)/vmmd/vmmd-inline)
EXT_PROGRAMS := $(if $(wildcard devices/ext/*.c),$(O)/devhost/devhost-ext)

TEST_SRC := $(wildcard */*_test.c */*/*_test.c)
TESTS := $(patsubst %.c,$(O)/%,$(TEST_SRC))
# Helper programs that tests start: tests/<name>_main.c.
TEST_PROGRAMS := $(patsubst %_main.c,$(O)/%,$(wildcard tests/*_main.c))
FUZZERS := $(patsubst %.c,$(O)/%,$(wildcard */*_fuzz.c */*/*_fuzz.c))
# One binary per fuzzer that runs the corpus kept: part of the tests.
REPLAYS := $(FUZZERS:%=%_replay)

.PHONY: all check storm prove prove-broken demo bench lint format fuzz install uninstall clean help \
	tests programs guests fuzzers
all: programs guests ## build the programs and the guest programs of the tests

programs: $(PROGRAMS) $(EXT_PROGRAMS)
tests: $(TESTS) $(TEST_PROGRAMS) $(REPLAYS)
fuzzers: $(FUZZERS)

$(O)/vmmd/vmmd: $(O)/vmmd/vmmd_main.o $(VMMD_OBJ) $(HV_OBJ) $(SANDBOX_OBJ) $(PROTO_OBJ)
$(O)/vmmd/vmmd-inline: $(O)/vmmd/vmmd_main.o $(INLINE_OBJ) $(DEVHOST_OBJ) $(DEVICES_OBJ) $(HV_OBJ) $(SANDBOX_OBJ) $(PROTO_OBJ)
$(O)/devhost/devhost: $(O)/devhost/devhost_main.o $(DEVHOST_OBJ) $(DEVICES_OBJ) $(SANDBOX_OBJ) $(PROTO_OBJ)
$(O)/vmmctl/vmmctl: $(O)/vmmctl/vmmctl_main.o $(VMMCTL_OBJ) $(PROTO_OBJ)

$(O)/devhost/devhost-ext: $(O)/devhost/devhost_main.o $(DEVHOST_OBJ) $(EXT_OBJ) $(call obj,devices/block devices/net devices/virtio devices/pci devices/acpi) $(SANDBOX_OBJ) $(PROTO_OBJ)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ $(LIBS) $(LIBS_ext)

$(PROGRAMS):
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^ $(LIBS)

# Tests and test programs link against everything but the programs' main();
# devices are linked as objects, because a linker set in an archive that
# nobody names would vanish without a word.
TEST_LIB := $(O)/libtest.a
$(TEST_LIB): $(PROTO_OBJ) $(SANDBOX_OBJ) $(HV_OBJ) $(DEVHOST_OBJ) $(VMMD_OBJ) $(VMMCTL_OBJ)
	@rm -f $@ && ar rcs $@ $^
$(O)/devices/ext/%_test: $(O)/devices/ext/%_test.o $(EXT_OBJ) $(DEVICES_OBJ) $(TEST_LIB)
	@echo "  LD    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $(filter %.o,$^) $(TEST_LIB) -lcunit $(LIBS) $(LIBS_ext)
$(O)/%_test: $(O)/%_test.o $(DEVICES_OBJ) $(TEST_LIB)
	@echo "  LD    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $(filter %.o,$^) $(TEST_LIB) -lcunit $(LIBS)
$(TEST_PROGRAMS): $(O)/tests/%: $(O)/tests/%_main.o $(DEVICES_OBJ) $(TEST_LIB)
	@echo "  LD    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $(filter %.o,$^) $(TEST_LIB) $(LIBS)

# The prover's parts; its scenarios enrol themselves, so they are objects.
PROVE_OBJ := $(call obj,tests/prove)
$(O)/tests/prover $(O)/tests/prove_test: $(PROVE_OBJ)

# Made by scripts/run-fuzz, with clang.
$(FUZZERS): %: %.o $(DEVICES_OBJ) $(TEST_LIB)
	@echo "  LD    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -fsanitize=fuzzer -pie -o $@ $(filter %.o,$^) $(TEST_LIB) $(LIBS)
$(REPLAYS): %_replay: %.o $(O)/tests/corpus_replay.o $(DEVICES_OBJ) $(TEST_LIB)
	@echo "  LD    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $(filter %.o,$^) $(TEST_LIB) $(LIBS)

$(O)/%.o: %.c Makefile | $(PROTO_GEN)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
$(O)/gen/%.pb-c.c: %.proto
	@mkdir -p $(O)/gen
	@echo "  GEN   $@"
	@protoc-c --c_out=$(O)/gen $<
$(O)/gen/%.o: WARN := -Wall -Werror
$(O)/gen/%.o: $(O)/gen/%.c
	@$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# Guest programs: tests/guests/NAME.S or NAME.c, linked with the guests' own
# start-up code into ELF images with a PVH note.
-include tests/guests/guests.mk
guests: $(GUESTS)

# Programs for Linux guests: tests/linux/NAME.c, static.
LINUX_PROGRAMS := $(patsubst %.c,$(O)/%,$(wildcard tests/linux/*.c))
$(LINUX_PROGRAMS): $(O)/%: %.c Makefile
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(CPPFLAGS) -std=gnu11 $(WARN) -O2 -static -pthread -o $@ $<
guests: $(LINUX_PROGRAMS)

check: programs guests tests ## run every test; last line: N passed, N failed
	@$(if $(filter cov,$(MODE)),find $(O) -name '*.gcda' -delete)
	@$(if $(filter cov,$(MODE)),rc=0; )scripts/run-tests $(O)$(if $(filter cov,$(MODE)), || rc=$$?; \
		scripts/coverage $(O); exit $$rc)
storm: programs guests tests ## kill devices 10,000 times under a Linux guest's load
	@BULKHEAD_BUILD=$(abspath $(O)) STORM_KILLS=$${STORM_KILLS:-10000} tests/linux_storm_test.sh
prove: $(O)/tests/prover ## kill every device after every instruction, and count
	@$(O)/tests/prover
prove-broken: $(O)/tests/prover programs ## show that the prover finds rules switched off
	@for rule in commit log overlap; do scripts/prove-broken $(O) $$rule || exit; done
demo: programs ## boot a Linux guest, kill its devices, show that nothing was lost
	@scripts/run-demo $(O)
bench: programs guests tests ## measure, beside QEMU; writes o/bench.json
	@scripts/run-bench $(O)
lint: ## formatting, cppcheck, shellcheck, who may include whom
	@scripts/lint
format: ## reformat every C file
	@git ls-files '*.c' '*.h' | xargs clang-format -i
fuzz: ## run each fuzzer for FUZZ_SECONDS (60)
	@scripts/run-fuzz
install: programs ## install below PREFIX (/usr/local)
	@scripts/install $(O) $(DESTDIR)$(PREFIX)
clean: ## remove o/
	rm -rf o
help: ## this list
	@echo "make [MODE=rel|dbg|asan|tsan|cov] [CC=gcc|clang] [TARGET]"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

-include $(shell find $(O) -name '*.d' 2>/dev/null)
.DELETE_ON_ERROR:
.SECONDARY:
