#!/bin/sh
# Linux on the software processor with the small virtio devices: entropy,
# balloon, consoles, vsock; and with four processors.
set -eu
# shellcheck source=tests/linux.sh
. "$(dirname "$0")/linux.sh"

# ---- entropy, and PCI without a complaint ----
make_guest rng "virtio_pci virtio-rng" <<'E'
cat /sys/class/misc/hw_random/rng_current | sed 's/^/test: rng /'
dd if=/dev/hwrng bs=2500 count=20 iflag=fullblock 2>/dev/null | base64 |
	sed 's/^/rnd /'
for d in /sys/bus/pci/devices/*; do
	echo "test: pci $(basename $d) $(cat $d/vendor) $(cat $d/device)"
done
dmesg | grep -iE 'pci|acpi' | grep -v 'report a bug' |
	grep -iE 'warn|error|fail|bug|can.t|conflict' |
	sed 's/^/test: complaint: /'
E
start_vm rng --rng
finish_vm rng 60
says rng 'test: rng virtio_rng.0'
says rng 'test: pci 0000:00:01.0 0x1af4 0x1044'
tr -d '\r' <"$work/rng.out" | sed -n 's/^rnd //p' | base64 -d >"$work/random"
[ "$(wc -c <"$work/random")" = 50000 ] || fail "hwrng gave too little"
if command -v rngtest >/dev/null; then
	rngtest -c 18 <"$work/random" >"$work/rngtest" 2>&1 || :
	bad=$(sed -n 's/.*FIPS 140-2 failures: //p' "$work/rngtest")
	[ "${bad:-9}" -le 1 ] || fail "rngtest: $bad of 20 blocks fail"
fi

# ---- the balloon gives memory back ----
shared_kib() { # of the memory of the VM $1's guest RAM, as the host sees it
	broker=$("$vmmctl" ps | awk -v n="$1" '$1 == n { print $2 }')
	awk '/^Pss:/ || /^Rss:/ { if ($1 == "Rss:") s += $2 } END { print s + 0 }' \
		"/proc/$broker/smaps_rollup"
}
make_guest balloon "virtio_pci virtio_balloon" <<'E'
dd if=/dev/zero of=/tmp/fill bs=1M count=200 2>/dev/null; rm /tmp/fill
echo "test: filled $(grep MemFree /proc/meminfo)"
n=0; while [ $n -lt 300 ]; do
	free=$(awk '/MemTotal/ { print $2 }' /proc/meminfo)
	n=$((n + 1)); sleep 0.1
	[ -e /tmp/x ] || [ "$free" -gt 300000 ] || break
done
echo "test: inflated $(grep MemTotal /proc/meminfo)"
n=0; while [ $n -lt 300 ]; do
	free=$(awk '/MemTotal/ { print $2 }' /proc/meminfo)
	n=$((n + 1)); sleep 0.1
	[ "$free" -lt 400000 ] || break
done
echo "test: deflated $(grep MemTotal /proc/meminfo)"
E
start_vm balloon --balloon size=0,id=balloon0
if await balloon 'test: filled' 60; then
	before=$(shared_kib "balloon-$$")
	"$vmmctl" set "balloon-$$" balloon0 size=256M || fail "set size"
	await balloon 'test: inflated' 60 || :
	after=$(shared_kib "balloon-$$")
	[ $((before - after)) -gt 100000 ] ||
		fail "the balloon gave back $((before - after)) KiB of 262144"
	echo "the balloon of 256 MiB gave $((before - after)) KiB back"
	"$vmmctl" set "balloon-$$" balloon0 size=0 || fail "set size"
fi
finish_vm balloon 60
says balloon 'test: deflated'

# ---- vsock, both ways ----
make_guest vsock "virtio_pci vmw_vsock_virtio_transport" \
	"$build/tests/linux/vsock_echo" <<'E'
vsock_echo listen 5000 1 &
echo "test: listens"
wait
vsock_echo connect 2 6000 100000
echo "test: guest to host $?"
E
if [ -x "$build/tests/linux/vsock_echo" ] && command -v socat >/dev/null; then
	start_vm vsock --vsock "cid=3,socket=$work/vsock"
	await vsock 'test: listens' 60 || :
	socat "UNIX-LISTEN:$work/vsock_6000" EXEC:cat &
	pids="$pids $!"
	head -c 100000 /dev/urandom >"$work/sent"
	{
		printf 'CONNECT 5000\n'
		cat "$work/sent"
	} | socat -t 10 - "UNIX-CONNECT:$work/vsock" >"$work/got" || :
	head -n 1 "$work/got" | grep -q '^OK ' || fail "vsock: no OK"
	tail -n +2 "$work/got" | cmp -s - "$work/sent" ||
		fail "vsock: the echo from the guest differs"
	finish_vm vsock 60
	says vsock 'test: guest to host 0'
fi

# ---- the second console ----
make_guest console "virtio_pci virtio_console" <<'E'
for p in /sys/class/virtio-ports/*; do
	echo "test: port $(basename $p) $(cat $p/name)"
done
i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i + 1)); done >/dev/hvc0
echo "test: printed"
E
start_vm console --virtio-console id=con0
await console 'test: printed' 60 || :
finish_vm console 30

# ---- four processors, all busy ----
make_guest smp "virtio_pci" <<'E'
echo "test: processors $(nproc)"
for i in 1 2 3 4; do
	(head -c 20000000 /dev/zero | sha256sum >/tmp/sum$i) &
done
wait
for i in 1 2 3 4; do cat /tmp/sum$i; done | sort -u | wc -l |
	sed 's/^/test: sums /'
for i in 0 1 2 3; do
	awk -v c=cpu$i '$1 == c { print "test: busy", c, ($2 + $4 > 20) }' /proc/stat
done
E
start_vm smp --cpus 4
finish_vm smp 100
says smp 'test: processors 4'
says smp 'test: sums 1'
for i in 0 1 2 3; do
	says smp "test: busy cpu$i 1"
done
exit $failed
