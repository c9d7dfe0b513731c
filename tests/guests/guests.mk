# Guest programs: NAME.c with start.S and the library into an ELF image with a
# PVH note, that any VMM with PVH boot runs.  Kernel-mode code of theirs keeps
# to what every KVM can run: no SSE, no x87, no int3.

GUEST_LIB_SRC := $(wildcard tests/guests/lib*.c)
GUEST_SRC := $(filter-out $(GUEST_LIB_SRC),$(wildcard tests/guests/*.c))
GUESTS := $(patsubst tests/guests/%.c,$(O)/guests/%.elf,$(GUEST_SRC))
GUEST_LIB := $(patsubst tests/guests/%.c,$(O)/guests/%.o,$(GUEST_LIB_SRC)) \
	$(patsubst tests/guests/%.S,$(O)/guests/%.o,$(wildcard tests/guests/*.S))
GUEST_CFLAGS := -std=gnu11 -O2 -ffreestanding -fno-pie -fno-stack-protector \
	-fcf-protection=none -mgeneral-regs-only -mno-red-zone -mcmodel=small \
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Werror -I. -MMD -MP

$(O)/guests/%.o: tests/guests/%.c Makefile tests/guests/guests.mk
	@mkdir -p $(@D)
	@$(CC) $(GUEST_CFLAGS) -c -o $@ $<
$(O)/guests/%.o: tests/guests/%.S
	@mkdir -p $(@D)
	@$(CC) -c -o $@ $<
$(O)/guests/%.elf: $(O)/guests/%.o $(GUEST_LIB) tests/guests/guest.ld
	@echo "  GUEST $@"
	@$(CC) -nostdlib -static -Wl,--build-id=none -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments \
		-T tests/guests/guest.ld -o $@ $(filter %.o,$^)
