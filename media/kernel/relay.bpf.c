// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Relays plain RTP of bridged calls before it reaches a socket, and drops what nobody hears. Runs where packets enter (TCX ingress); media/kernel.rs
// loads it and says whose packets it may touch: exact address, port, SSRC and payload type. Whatever else comes goes up
// to its socket as if this were not here. `make bpf` compiles it.

#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define swap16(x) __builtin_bswap16(x)
#define swap32(x) __builtin_bswap32(x)
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little endian"
#endif

// Helpers of the kernel, by their numbers in linux/bpf.h.
static void *(*lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*monotonic_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static long (*l3_csum_replace)(struct __sk_buff *, __u32 at, __u64 from, __u64 to, __u64 flags) =
	(void *)BPF_FUNC_l3_csum_replace;
static long (*l4_csum_replace)(struct __sk_buff *, __u32 at, __u64 from, __u64 to, __u64 flags) =
	(void *)BPF_FUNC_l4_csum_replace;
static __s64 (*csum_diff)(void *from, __u32, void *to, __u32, __u32 seed) = (void *)BPF_FUNC_csum_diff;
static long (*pull_data)(struct __sk_buff *, __u32) = (void *)BPF_FUNC_skb_pull_data;
static long (*clone_redirect)(struct __sk_buff *, __u32 interface, __u64 flags) = (void *)BPF_FUNC_clone_redirect;
static long (*redirect_neigh)(__u32 interface, void *, int, __u64) = (void *)BPF_FUNC_redirect_neigh;

#define TCX_NEXT -1
#define TCX_DROP 2
#define LOOPBACK 1
#define UDP 17
#define ETHERNET 14
// Where the fields of Ethernet, IPv4 without options, UDP and RTP without CSRCs are.
#define IP_CHECK (ETHERNET + 10)
#define UDP_CHECK (ETHERNET + 20 + 6)
#define HEADERS (ETHERNET + 20 + 8 + 12)

#define RTP 0x80
// A version that RTP does not have (shortcut.rs): the packet is a copy for user space, the original has been sent on.
#define COPY 0xc0
// And comes from here, not from the network.
#define OURS 0x7461636f

// As rtp/reception.rs has them: a step ahead of more is another place, one back of more no reordering.
#define MOST_DROPPED 3000
#define MOST_MISORDERED 100
// As rtp/mod.rs has it (`is_jump`): timestamps that are further ahead than the time that passed have a new origin.
#define MOST_STEP_MS 2000
// 250 packets a second, 200 at once (rtp/receiver.rs, `Budget`).
#define PACKET_NS 4000000ull
#define BURST_NS (200 * PACKET_NS)

// Addresses, ports and SSRCs are in network order, all else in the machine's.
struct key {
	__u32 local;
	__u32 remote;
	__u16 local_port;
	__u16 remote_port;
};

struct flow {
	__u32 from;
	__u32 to;
	__u16 from_port;
	// 0: nobody hears it, so it goes no further.
	__u16 to_port;
	__u32 ssrc;
	__u32 ssrc_sent;
	__u32 timestamp_offset;
	// Of the interface that it leaves by; 0: it stays on this machine.
	__u32 interface;
	// Of its `struct count`.
	__u32 place;
	__u16 sequence_offset;
	__u8 audio;
	__u8 audio_sent;
	// 255: none.
	__u8 noise;
	__u8 noise_sent;
	// Of its timestamps in a millisecond.
	__u8 units;
	// User space wants copies.
	__u8 copied;
};

// What came; begins with what user space knew. The rules are rtp/receiver.rs's.
struct count {
	__u64 packets;
	__u64 octets;
	__u64 newest_ns;
	// When the allowance is used up.
	__u64 allowed_ns;
	__u32 highest;
	__u32 gaps;
	__u32 jitter;
	__u32 transit;
	__u32 timestamp;
	// The transit is known.
	__u32 known;
};

struct map {
	__u32 type, key_size, value_size, max_entries, map_flags;
};

// Sizes are set when it is loaded.
struct map SEC("maps") FLOWS = { BPF_MAP_TYPE_HASH, sizeof(struct key), sizeof(struct flow), 1024, BPF_F_NO_PREALLOC };
struct map SEC("maps") COUNTS = { BPF_MAP_TYPE_ARRAY, sizeof(__u32), sizeof(struct count), 1024, 0 };

struct headers {
	__u8 ethernet[ETHERNET];
	__u8 version, tos;
	__u16 length, id, fragment;
	__u8 ttl, protocol;
	__u16 ip_check;
	__u32 source, destination;
	__u16 source_port, destination_port, udp_length, udp_check;
	__u8 rtp_version, payload_type;
	__u16 sequence;
	__u32 timestamp, ssrc;
} __attribute__((packed));

// Finds the headers, if all of them are in the linear part of the packet. The result is not a pointer that may be null:
// without CAP_PERFMON the verifier refuses to compare a packet pointer with anything but the end of the packet.
INLINE int find_headers(struct __sk_buff *skb, struct headers **is)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	if (data + HEADERS > end)
		return 0;
	*is = data;
	return 1;
}

// Whether it may pass, by sequence and rate; what cannot is looked at by user space.
INLINE int note(struct count *count, const struct flow *flow, __u16 sequence, __u32 timestamp, __u32 octets)
{
	__u64 now = monotonic_ns();
	__s16 ahead = sequence - (__u16)count->highest;
	__u64 allowed = count->allowed_ns > now ? count->allowed_ns : now;
	if (ahead > MOST_DROPPED || ahead < -MOST_MISORDERED || allowed - now >= BURST_NS)
		return 0;
	__u32 passed = count->newest_ns ? (now - count->newest_ns) / 1000000 * flow->units : 0;
	__s32 step = timestamp - count->timestamp, limit = MOST_STEP_MS * flow->units;
	if (ahead > 0 && (step < -limit || (step > limit && (__u32)step - passed > (__u32)limit)))
		return 0;
	count->allowed_ns = allowed + PACKET_NS;
	count->newest_ns = now;
	count->packets += 1;
	count->octets += octets;
	if (ahead > 0) {
		count->gaps += ahead > 1;
		count->highest += ahead;
	}
	if (count->known && timestamp == count->timestamp)
		return 1;
	count->timestamp = timestamp;
	__u32 transit = (__u32)(now * flow->units / 1000000) - timestamp;
	__s32 difference = transit - count->transit;
	__u32 distance = difference < 0 ? -difference : difference;
	count->transit = transit;
	if (count->known && distance < flow->units * 5000u) {
		__u32 jitter = count->jitter + distance, less = (count->jitter + 8) >> 4;
		count->jitter = jitter > less ? jitter - less : 0;
	}
	count->known = 1;
	return 1;
}

// Sends a copy up to its socket, which says by its version what it is. 0: there is none. The headers have moved then.
INLINE int copy(struct __sk_buff *skb, struct headers *is)
{
	__u16 *first = (void *)&is->rtp_version, before = *first;
	is->rtp_version = COPY;
	__u16 after = *first;
	__u32 mark = skb->mark;
	l4_csum_replace(skb, UDP_CHECK, before, after, sizeof(after) | BPF_F_MARK_MANGLED_0);
	skb->mark = OURS;
	// What enters anew is routed anew, and on loopback refused then: there it leaves anew.
	long failed = clone_redirect(skb, skb->ifindex, skb->ifindex == LOOPBACK ? 0 : BPF_F_INGRESS);
	skb->mark = mark;
	l4_csum_replace(skb, UDP_CHECK, after, before, sizeof(after) | BPF_F_MARK_MANGLED_0);
	if (!find_headers(skb, &is))
		return 0;
	is->rtp_version = RTP;
	return !failed;
}

SEC("classifier")
int relay(struct __sk_buff *skb)
{
	if (skb->protocol != swap16(0x0800) || skb->vlan_present || skb->gso_size)
		return TCX_NEXT;
	struct headers *is;
	if (!find_headers(skb, &is) && (skb->len < HEADERS || pull_data(skb, HEADERS) || !find_headers(skb, &is)))
		return TCX_NEXT;
	if (is->version != 0x45 || is->protocol != UDP || is->fragment & swap16(0x3fff))
		return TCX_NEXT;
	// The mark stays: other servers' programs hang here as well.
	if (is->rtp_version == COPY && skb->mark == OURS)
		return TCX_NEXT;
	if (is->rtp_version != RTP && is->rtp_version != COPY)
		return TCX_NEXT;
	struct key key = { is->destination, is->source, is->destination_port, is->source_port };
	struct flow *flow = lookup(&FLOWS, &key);
	if (!flow)
		return TCX_NEXT;
	// Somebody else's would be recorded and never heard.
	if (is->rtp_version == COPY)
		return flow->copied ? TCX_DROP : TCX_NEXT;
	__u16 length = swap16(is->length);
	__u32 octets = length - 40;
	if (length <= 40 || length > skb->len - ETHERNET || swap16(is->udp_length) != length - 20 || is->ssrc != flow->ssrc)
		return TCX_NEXT;
	// Whom it is for is on this machine, so it must be where this machine's own packets are; else it goes on elsewhere.
	if (flow->to_port && (flow->interface ? is->ttl < 2 : skb->ifindex != LOOPBACK))
		return TCX_NEXT;
	__u8 type = is->payload_type & 0x7f, sent = flow->audio_sent, noise_sent = flow->noise_sent;
	// Both are read before one is chosen: without CAP_PERFMON the verifier refuses an address that depends on the choice.
	asm volatile("" : "+r"(sent), "+r"(noise_sent));
	if (type == flow->noise)
		sent = noise_sent;
	else if (type != flow->audio)
		return TCX_NEXT;
	__u16 sequence = swap16(is->sequence);
	__u32 timestamp = swap32(is->timestamp), place = flow->place;
	struct count *count = lookup(&COUNTS, &place);
	if (!count || !note(count, flow, sequence, timestamp, octets))
		return TCX_NEXT;
	if (!flow->to_port)
		return TCX_DROP;
	if (flow->copied && (!copy(skb, is) || !find_headers(skb, &is)))
		return TCX_NEXT;

	// Ports, the first half of RTP's header, timestamp, SSRC.
	__u32 *ports = (void *)is + ETHERNET + 20, *first = (void *)is + ETHERNET + 28;
	__u32 before[4] = { *ports, *first, is->timestamp, is->ssrc };
	__u32 addresses_before[2] = { is->source, is->destination };
	is->source = flow->from;
	is->destination = flow->to;
	is->source_port = flow->from_port;
	is->destination_port = flow->to_port;
	is->payload_type = sent | (is->payload_type & 0x80);
	is->sequence = swap16((__u16)(sequence + flow->sequence_offset));
	is->timestamp = swap32(timestamp + flow->timestamp_offset);
	is->ssrc = flow->ssrc_sent;
	__u32 after[4] = { *ports, *first, is->timestamp, is->ssrc };
	__u32 addresses[2] = { flow->from, flow->to };
	__u32 interface = flow->interface;
	if (interface)
		is->ttl -= 1;

	__s64 moved = csum_diff(addresses_before, sizeof(addresses), addresses, sizeof(addresses), 0);
	__s64 patched = csum_diff(before, sizeof(before), after, sizeof(after), 0);
	l3_csum_replace(skb, IP_CHECK, 0, moved, 0);
	if (interface)
		l3_csum_replace(skb, IP_CHECK, 1, 0, 2);
	// A checksum of 0 is none, and stays so.
	l4_csum_replace(skb, UDP_CHECK, 0, moved, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
	l4_csum_replace(skb, UDP_CHECK, 0, patched, BPF_F_MARK_MANGLED_0);
	return interface ? redirect_neigh(interface, 0, 0, 0) : TCX_NEXT;
}

char terms[] SEC("license") = "Dual MIT/GPL";
