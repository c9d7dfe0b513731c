/*
 * The parts of virtio-net (virtio 1.2, 5.1): devices/virtio_net.c is the device,
 * net/nic_*.c are its directions and its control queue.
 *
 * Transmit: at most once and in order.  The position of a frame is the link's
 * head; it is noted with the chain before the frame is put, so a chain that is
 * given again is put again only if the head has not passed it.
 *
 * Receive: exactly once, except for a frame that had to be cut for a driver
 * without segmentation offload.  The position of the next frame is in the log;
 * before the buffers are used, the log gets the count of used chains of the
 * queue, and after a death the queue's own recovery says whether it has moved.
 */
#ifndef DEVICES_NET_NIC_H
#define DEVICES_NET_NIC_H

#include <stdatomic.h>

#include "devices/net/frame.h"
#include "devices/virtio/virtio.h"
#include "proto/packet.h"

#define NIC_PAIRS_MAX  8u
#define NIC_QUEUES_MAX (2 * NIC_PAIRS_MAX + 1)
#define NIC_LINK       0u

#define NIC_MACS_MAX   64u /* of each kind; with more, all are let in */
#define NIC_VLANS      4096u
#define NIC_STEER      256u

/* Feature bits; 5.1.3. */
#define NET_F_CSUM		  (1ull << 0)
#define NET_F_GUEST_CSUM	  (1ull << 1)
#define NET_F_CTRL_GUEST_OFFLOADS (1ull << 2)
#define NET_F_MTU		  (1ull << 3)
#define NET_F_MAC		  (1ull << 5)
#define NET_F_GUEST_TSO4	  (1ull << 7)
#define NET_F_GUEST_TSO6	  (1ull << 8)
#define NET_F_GUEST_ECN		  (1ull << 9)
#define NET_F_HOST_TSO4		  (1ull << 11)
#define NET_F_HOST_TSO6		  (1ull << 12)
#define NET_F_HOST_ECN		  (1ull << 13)
#define NET_F_MRG_RXBUF		  (1ull << 15)
#define NET_F_STATUS		  (1ull << 16)
#define NET_F_CTRL_VQ		  (1ull << 17)
#define NET_F_CTRL_RX		  (1ull << 18)
#define NET_F_CTRL_VLAN		  (1ull << 19)
#define NET_F_CTRL_RX_EXTRA	  (1ull << 20)
#define NET_F_GUEST_ANNOUNCE	  (1ull << 21)
#define NET_F_MQ		  (1ull << 22)
#define NET_F_CTRL_MAC_ADDR	  (1ull << 23)

/* Those that the driver may switch off and on while it runs; 5.1.6.5.6. */
#define NIC_GUEST_OFFLOADS                                        \
	(NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | \
	    NET_F_GUEST_ECN)

enum nic_counter {
	NIC_TX_FRAMES,
	NIC_TX_BYTES,
	NIC_TX_MALFORMED, /* of the guest */
	NIC_TX_UNPLUGGED, /* thrown away: no link */
	NIC_RX_FRAMES,
	NIC_RX_BYTES,
	NIC_RX_MALFORMED, /* of the peer */
	NIC_RX_FILTERED, /* not for this guest */
	NIC_RX_UNREADY, /* came while there was no driver */
	NIC_RX_TOO_LONG, /* for the driver's buffers */
	NIC_PEER_BROKEN, /* impossible index of the link */
	NIC_CONTROL,
	NIC_COUNTERS,
};

enum nic_direction {
	NIC_TX,
	NIC_RX,
	NIC_DIRECTIONS,
};

/*
 * A bound on a rate: the time at which the next frame is due.  A frame may go
 * NIC_BURST_NS before that.
 */
#define NIC_BURST_NS 20000000u
struct nic_limit {
	uint64_t per_second; /* bits or frames; 0: none */
	uint64_t due_ns[NIC_DIRECTIONS];
};

/* State; no pointers. */
struct nic {
	struct virtio_state virtio;
	uint64_t offloads; /* NIC_GUEST_OFFLOADS in force */
	struct nic_limit bits, frames;
	uint8_t mac[6]; /* now */
	uint8_t own_mac[6]; /* after a reset */
	uint16_t mtu; /* 0: not told */
	uint8_t pairs_max; /* 1 to NIC_PAIRS_MAX */
	uint8_t pairs; /* in use */
	uint8_t nunicast, nmulticast; /* at most NIC_MACS_MAX */
	bool up; /* the user's word */
	bool announce; /* the driver is asked to announce itself */
	bool promiscuous, all_multicast, all_unicast;
	bool no_multicast, no_unicast, no_broadcast;
	bool many_unicast, many_multicast; /* more than the tables hold */
	bool all_vlans; /* the last of the flags */
	uint8_t pad[5];
	uint8_t unicast[NIC_MACS_MAX][6], multicast[NIC_MACS_MAX][6];
	uint64_t vlan[NIC_VLANS / 64];
};

/* The log behind those of the queues. */
struct nic_log {
	_Atomic uint64_t next; /* frame to be received next */
	/* The queue (+ 1, in the high 16 bits) whose chains are about to be
	 * used for frame `next`, and its count of used chains; else 0. */
	_Atomic uint64_t delivering;
	_Atomic uint64_t frame; /* the position that this was of */
};

struct nic_context {
	struct virtio_context virtio;
	bool resumed; /* the log has been taken up */
	bool rx_blocked; /* no buffers, or over the rate */
	bool tx_blocked; /* no space in the link, or over the rate */
	uint64_t retry_ns; /* when the rate allows more; 0: not limited */
	uint8_t steer[NIC_STEER]; /* queue pair by flow */
	struct vq_chain first, more;
	struct iovec iov[VQ_SEGMENTS_MAX + 1];
	uint16_t id[VQ_SIZE_MAX];
	uint32_t written[VQ_SIZE_MAX];
	bool again[VQ_SIZE_MAX];
	uint8_t frame[FRAME_MAX], segment[FRAME_MAX];
};

#define NIC_LOG_SIZE \
	(VIRTIO_LOG_SIZE(NIC_QUEUES_MAX) + (uint32_t)sizeof(struct nic_log))

struct nic_log *nic_log(struct device *dev);

/* Is there a link, and plugged in? */
bool nic_is_up(struct device *dev);
/* Index of the control queue. */
unsigned nic_control_queue(struct device *dev);

/* Do the rates allow a frame now?  If not, retry_ns says when. */
bool nic_allowed(struct device *dev, enum nic_direction direction);
/* A frame of n bytes has passed. */
void nic_charge(struct device *dev, enum nic_direction direction, size_t n);

/* Work: send what queue q has. */
void nic_transmit(struct device *dev, unsigned q);
/* Work: receive what the link has. */
void nic_receive(struct device *dev);
/* Does the receive filter let this frame in?  n: at least FRAME_ETHERNET. */
bool nic_wants(
    const struct nic *s, const uint8_t *frame, const struct frame_layout *l);
/* Work: commands. */
void nic_control(struct device *dev);

#endif
