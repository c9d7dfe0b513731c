/* The thinnest guest: a line on the serial port, then power-off. */
#include "tests/guests/guest.h"

void
guest_main(const void *start_info)
{
	guest_print("hello from a guest, start_info at %lx\n",
	    (uint64_t)(uintptr_t)start_info);
}
