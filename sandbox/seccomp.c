/* The system-call filter: an allow-list; anything else ends the process. */
#include <errno.h>
#include <seccomp.h>

#include "sandbox/internal.h"

static int
allow(scmp_filter_ctx ctx, const struct sandbox_syscall *s)
{
	struct scmp_arg_cmp cmp[ARRAY_LEN(s->args)];
	int r;

	if (s->nargs > ARRAY_LEN(cmp))
		return -EINVAL;
	for (unsigned i = 0; i < s->nargs; i++) {
		cmp[i] = (struct scmp_arg_cmp){
			.arg = s->args[i].arg,
			.op = s->args[i].op == SANDBOX_EQ ? SCMP_CMP_EQ
							  : SCMP_CMP_MASKED_EQ,
			.datum_a = s->args[i].a,
			.datum_b = s->args[i].b,
		};
	}
	r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, s->nr, s->nargs, cmp);
	/* Two entries of one nr may say the same, or one of them all. */
	return r == -EEXIST ? 0 : r;
}

static int
allow_all(scmp_filter_ctx ctx, const struct sandbox_syscall *s, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = allow(ctx, &s[i]);
	return r;
}

int
sandbox_seccomp(const struct sandbox_policy *p, const char **what)
{
	scmp_filter_ctx ctx;
	int r = sandbox_on_denied(p, what);

	if (r < 0)
		return r;
	/* The call is not made; denied.c says which one it was. */
	ctx = seccomp_init(SCMP_ACT_TRAP);

	*what = "making the filter";
	if (ctx == NULL)
		return -ENOMEM;
	/* The 32-bit and x32 calls of this processor are not ours either. */
	r = seccomp_attr_set(
	    ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* All threads: one that runs already must not be left out. */
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (r == 0)
		r = allow_all(ctx, p->syscalls, p->nsyscalls);
	if (r == 0)
		r = allow_all(
		    ctx, sandbox_sanitizer_group, sandbox_sanitizer_calls);
	if (r == 0) {
		*what = "loading the filter";
		r = seccomp_load(ctx);
	}
	seccomp_release(ctx);
	return r;
}

unsigned
sandbox_count_calls(const struct sandbox_syscall *syscalls, size_t nsyscalls)
{
	unsigned n = 0;

	for (size_t i = 0; i < nsyscalls; i++) {
		size_t j = 0;

		while (syscalls[j].nr != syscalls[i].nr)
			j++;
		n += j == i;
	}
	return n;
}
