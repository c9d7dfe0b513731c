#!/bin/sh
# A storm: a Linux guest writes and reads two disks with an independent history
# of every sector, downloads over TCP, prints on two consoles, echoes on vsock,
# while its devices are killed at random.
#
# STORM_KILLS (200) kills by STORM_SEED (1).  Not killed is the process behind
# the NAT: it holds the TCP connections of the host's side.
set -eu
# shellcheck source=tests/linux.sh
. "$(dirname "$0")/linux.sh"
kills=${STORM_KILLS:-200}
seed=${STORM_SEED:-1}
[ -x "$build/devhost/devhost-ext" ] || skip "devhost-ext is not built"
[ -x "$build/tests/storm" ] || skip "tests/storm is not built"
need socat
busybox=$(command -v busybox) || skip "busybox is not installed"

mkdir "$work/www"
dd if=/dev/urandom of="$work/www/file" bs=1M count=2 2>/dev/null
sum=$(sha256sum <"$work/www/file" | cut -c1-64)
http=$((20000 + $$ % 20000))
"$busybox" httpd -f -p "127.0.0.1:$http" -h "$work/www" &
pids="$pids $!"
make_guest storm "virtio_pci virtio_blk virtio_net virtio_console
virtio-rng virtio_balloon vmw_vsock_virtio_transport" \
	"$build/tests/linux/sectors" "$build/tests/linux/vsock_echo" <<E
until_stop() { while [ ! -e /tmp/stop ]; do "\$@" || echo "test: BAD \$*"; done; }
count() { echo x >>/tmp/n.\$1; }
disk() { sectors \$1 3 4 4096 \$(wc -c </tmp/n.\$2) >/tmp/\$2.log 2>&1 ||
	{ cat /tmp/\$2.log; return 1; }; count \$2; }
download() { [ "\$(wget -q -O - http://10.0.2.2:$http/file | sha256sum |
	cut -c1-64)" = $sum ] && count tcp; }
echoes() { vsock_echo connect 2 6000 300000 >/tmp/vsock.log 2>&1 ||
	{ cat /tmp/vsock.log; return 1; }; count vsock; }
entropy() { dd if=/dev/hwrng of=/dev/null bs=64 count=8 2>/dev/null; count rng
	sleep 0.2; }
lines() { i=0; while [ ! -e /tmp/stop ]; do
	i=\$((i + 1)); echo "line \$i abcdefghijklmnopqrstuvwxyz"; sleep 0.02
	done >\$1; echo "last \$i" >\$1; }
for n in a b tcp vsock rng; do : >/tmp/n.\$n; done
ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0
stty -F /dev/hvc0 raw -echo 2>/dev/null
vsock_echo listen 9 1 >/dev/null && touch /tmp/stop &
until_stop disk /dev/vda a &
until_stop disk /dev/vdb b &
until_stop download &
until_stop echoes &
until_stop entropy &
lines /dev/ttyS0 &
lines /dev/hvc0 &
echo "test: storm begins"
wait
for n in a b tcp vsock rng; do
	echo "test: rounds \$n \$(wc -l </tmp/n.\$n)"
done
E
truncate -s 64M "$work/a.img" "$work/b.img"
often=restarts=100000
start_vm storm --disk "path=$work/a.img,queues=2,$often" \
	--disk "path=$work/b.img,cache=none,$often" --cpus 2 \
	--net "user,id=net0,$often" --rng "$often" --balloon "$often" \
	--vsock "cid=3,socket=$work/vsock,$often" \
	--virtio-console "id=con0,$often" --device "serial,$often" \
	--device "rtc,$often" --device "i8042,$often" \
	--device "acpi-pm,$often" --device "pci-host,$often"
socat "UNIX-LISTEN:$work/vsock_6000,fork" EXEC:cat &
pids="$pids $!"
if await storm 'test: storm begins' 60; then
	"$vmmctl" console "storm-$$" con0 >"$work/hvc0" 2>/dev/null </dev/null &
	console=$!
	net=$("$vmmctl" devices "storm-$$" | awk '$2 == "net-user" { print $1 }')
	# shellcheck disable=SC2086 # no name, or one
	"$build/tests/storm" "storm-$$" "$seed" "$kills" $net ||
		fail "the VM did not live to the end"
	sleep 1
	printf 'CONNECT 9\n' | timeout 10 socat -t 3 - \
		"UNIX-CONNECT:$work/vsock" >/dev/null || :
fi
finish_vm storm 120
wait "${console:-}" 2>/dev/null || :
if grep 'test: BAD' "$work/storm.out"; then
	fail "a guest's work went wrong:"
	grep -aE 'sectors:|vsock_echo:|I/O error' "$work/storm.out" | head -n 40
fi

# check_lines NAME FILE: from the first line there, each once, in order, whole.
check_lines() {
	tr -d '\r' <"$2" | awk -v name="$1" '
	/^line [0-9]+ abcdefghijklmnopqrstuvwxyz$/ {
		if (last && $2 != last + 1)
			bad++
		last = $2
		count++
		next
	}
	/^last [0-9]+$/ { end = $2; next }
	/^line / { bad++ }
	END {
		printf "%s: %d lines, %d wrong\n", name, count, bad
		exit bad > 0 || count == 0 || last != end
	}' || fail "$1: lines are missing, doubled or torn"
}
check_lines ttyS0 "$work/storm.out"
check_lines hvc0 "$work/hvc0"
tr -d '\r' <"$work/storm.out" | grep 'test: rounds' || :
for n in a b tcp vsock rng; do
	says storm "test: rounds $n [1-9]"
done
exit $failed
