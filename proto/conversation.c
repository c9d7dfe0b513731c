/*
 * The conversation table: who may say what, when, with how many fds.
 *
 * Messages of the two directions cross.  What an end may have sent before it
 * read the last word of the other (finish, ended) is legal after that too.
 */
#include "proto/base.h"
#include "proto/channel.h"

#define BY(role)   (1u << CHANNEL_##role)
#define IN(state)  (1u << CHANNEL_##state)
#define ANY_DEVICE (BY(DEVICE) | BY(LOADER))
#define IN_ANY \
	(IN(NEW) | IN(GREETED) | IN(CONFIGURED) | IN(RUNNING) | IN(FINISHING))
/* A client of a running VM never says create: to it, NEW is as good. */
#define IN_CLIENT (IN(NEW) | IN(CONFIGURED) | IN(RUNNING) | IN(FINISHING))
#define AFTER_RUN (IN(RUNNING) | IN(FINISHING))

#define SMALL	  (4u << 10)
#define MEDIUM	  (16u << 10)
#define LARGE	  CHANNEL_BYTES_MAX

#define ROW(CASE, name, senders, states, next, min_fds, max_fds, max_bytes)   \
	{                                                                     \
		BULKHEAD__ENVELOPE__BODY_##CASE, name, senders, states, next, \
		    min_fds, max_fds, max_bytes                               \
	}
#define KEEP CHANNEL_KEEP

/* clang-format off */
const struct conversation conversation_table[] = {
	/* Device and loader with the broker. */
	ROW(HELLO, "hello", ANY_DEVICE, IN(NEW),
	    CHANNEL_GREETED, 0, 0, MEDIUM),
	ROW(CONFIGURE, "configure", BY(BROKER_TO_DEVICE), IN(GREETED),
	    CHANNEL_CONFIGURED, 3, CHANNEL_FDS_MAX, LARGE),
	ROW(READY, "ready", BY(DEVICE), IN(CONFIGURED),
	    CHANNEL_RUNNING, 0, 0, SMALL),
	ROW(PING, "ping", BY(BROKER_TO_DEVICE), IN(RUNNING),
	    KEEP, 0, 0, SMALL),
	ROW(PONG, "pong", BY(DEVICE), AFTER_RUN,
	    KEEP, 0, 0, SMALL),
	ROW(FINISH, "finish", BY(BROKER_TO_DEVICE), IN(RUNNING),
	    CHANNEL_FINISHING, 0, 0, SMALL),
	ROW(LOG, "log", ANY_DEVICE, IN_ANY,
	    KEEP, 0, 0, SMALL),
	ROW(PLATFORM, "platform", BY(DEVICE), AFTER_RUN,
	    KEEP, 0, 0, SMALL),
	ROW(RECONFIGURE, "reconfigure", BY(BROKER_TO_DEVICE), IN(RUNNING),
	    KEEP, 0, 0, SMALL),
	ROW(RESIZE, "resize", BY(BROKER_TO_DEVICE), IN(RUNNING),
	    KEEP, 0, 0, SMALL),
	ROW(POWER_BUTTON, "power_button", BY(BROKER_TO_DEVICE), IN(RUNNING),
	    KEEP, 0, 0, SMALL),
	ROW(LOAD, "load", BY(BROKER_TO_LOADER), IN(GREETED),
	    CHANNEL_CONFIGURED, 2, 3, LARGE),
	ROW(LOADED, "loaded", BY(LOADER), IN(CONFIGURED),
	    CHANNEL_RUNNING, 0, 0, SMALL),

	/* From any of them, and from the broker to its client. */
	ROW(FAILURE, "failure", ANY_DEVICE | BY(BROKER_TO_CLIENT), IN_ANY,
	    KEEP, 0, 0, SMALL),

	/* Client and broker. */
	ROW(CREATE, "create", BY(CLIENT), IN(NEW),
	    CHANNEL_CONFIGURED, 2, CHANNEL_FDS_MAX, LARGE),
	ROW(STARTED, "started", BY(BROKER_TO_CLIENT), IN(CONFIGURED),
	    CHANNEL_RUNNING, 0, 0, SMALL),
	ROW(DESCRIBE, "describe", BY(CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(DESCRIPTION, "description", BY(BROKER_TO_CLIENT), IN_CLIENT,
	    KEEP, 0, 0, LARGE),
	ROW(KILL, "kill", BY(CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(SHUTDOWN, "shutdown", BY(CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(ATTACH_CONSOLE, "attach_console", BY(CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(CONSOLE, "console", BY(BROKER_TO_CLIENT), IN_CLIENT,
	    KEEP, 6, 6, SMALL),
	ROW(SET_PARAMS, "set_params", BY(CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(CONSOLE_SIZE, "console_size", BY(CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(INJECT_FAULT, "inject_fault", BY(CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(QUERY_FAULTS, "query_faults", BY(CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(FAULTS, "faults", BY(BROKER_TO_CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(UPGRADE, "upgrade", BY(CLIENT), IN_CLIENT,
	    KEEP, 0, 1, SMALL),
	ROW(UPGRADED, "upgraded", BY(BROKER_TO_CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(QUERY_STATS, "query_stats", BY(CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(STATS, "stats", BY(BROKER_TO_CLIENT), IN_CLIENT,
	    KEEP, 0, 0, LARGE),
	ROW(OK, "ok", BY(DEVICE) | BY(BROKER_TO_CLIENT),
	    IN_CLIENT | AFTER_RUN, KEEP, 0, 0, SMALL),
	ROW(EVENT, "event", BY(BROKER_TO_CLIENT), IN_CLIENT,
	    KEEP, 0, 0, SMALL),
	ROW(ENDED, "ended", BY(BROKER_TO_CLIENT),
	    IN(NEW) | IN(CONFIGURED) | IN(RUNNING),
	    CHANNEL_FINISHING, 0, 0, SMALL),
};
/* clang-format on */
const unsigned conversation_rows = ARRAY_LEN(conversation_table);
