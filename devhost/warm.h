/*
 * Make a process that waits ready to act: what it will touch is mapped now, not
 * at the first request after a death.
 */
#ifndef DEVHOST_WARM_H
#define DEVHOST_WARM_H

/*
 * Before the sandbox: map the program's code and data, and touch the stack and
 * the heap.  Where the kernel cannot (before 5.14), nothing is lost but time.
 */
void warm_up(void);

#endif
