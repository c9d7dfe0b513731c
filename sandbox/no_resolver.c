/*
 * libevent's core refers to the C library's resolver, which in a static
 * program would load shared libraries by name at run time.  No program here
 * resolves a name: these refuse, and keep that code out.
 */
#include <netdb.h>
#include <stddef.h>

#include "proto/base.h"

int
getaddrinfo(const char *node UNUSED, const char *service UNUSED,
    const struct addrinfo *hints UNUSED, struct addrinfo **result)
{
	*result = NULL;
	return EAI_FAIL;
}

void
freeaddrinfo(struct addrinfo *list UNUSED)
{
}

struct servent *
getservbyname(const char *name UNUSED, const char *protocol UNUSED)
{
	return NULL;
}

struct protoent *
getprotobynumber(int number UNUSED)
{
	return NULL;
}
