#!/bin/sh
# Linux on the software processor: consoles and vsock connections while their
# devices are killed, again and again.  Not a byte may be lost or doubled, and
# no connection may end.
set -eu
# shellcheck source=tests/linux.sh
. "$(dirname "$0")/linux.sh"
need socat
echo=$build/tests/linux/vsock_echo
[ -x "$echo" ] || skip "vsock_echo is not built"

# kill_until NAME PATTERN DEVICE: kill the device until the guest says PATTERN;
# how often it died is in $kills.
kill_until() {
	kills=0
	while ! grep -qs "$2" "$work/$1.out" && kill -0 "$vm_pid" 2>/dev/null; do
		"$vmmctl" kill "$1-$$" "$3" >/dev/null 2>&1 &&
			kills=$((kills + 1))
		sleep 0.05
	done
}

# ---- vsock, both ways ----
make_guest storm "virtio_pci vmw_vsock_virtio_transport" "$echo" <<'E'
vsock_echo listen 5000 1 &
echo "test: listens"
vsock_echo connect 2 6000 8000000
echo "test: guest to host $?"
wait
echo "test: echoed"
E
start_vm storm --vsock "cid=3,socket=$work/vsock,id=vsock0,restarts=100000"
socat "UNIX-LISTEN:$work/vsock_6000,fork" EXEC:cat &
pids="$pids $!"
await storm 'test: listens' 60 || :
head -c 8000000 /dev/urandom >"$work/sent"
(
	{
		printf 'CONNECT 5000\n'
		cat "$work/sent"
	} | socat -t 60 - "UNIX-CONNECT:$work/vsock" >"$work/got"
) &
caller=$!
kill_until storm 'test: echoed' vsock0
finish_vm storm 60
says storm 'test: guest to host 0'
wait $caller || :
head -n 1 "$work/got" | grep -aq '^OK ' || fail "vsock: no OK"
tail -n +2 "$work/got" | cmp - "$work/sent" ||
	fail "vsock: the echo from the guest differs"
[ "$kills" -gt 5 ] || fail "only $kills kills"
echo "16 MB over vsock while the device was killed $kills times"

# ---- a console and a port ----
make_guest ports "virtio_pci virtio_console" <<'E'
p1=/sys/class/virtio-ports/vport?p1
until grep -q . $p1/name 2>/dev/null && [ -e /dev/vport?p1 ]; do sleep 0.1; done
echo "test: port $(basename $p1) $(cat $p1/name)"
cat /dev/vport?p1 >/tmp/in &
echo "test: reads"
i=0
while [ $i -lt 3000 ]; do
	echo "line $i"
	i=$((i + 1))
done >/dev/hvc0
until [ "$(wc -c </tmp/in)" -ge 200000 ]; do sleep 0.1; done
echo "test: sum $(md5sum </tmp/in)"
E
start_vm ports --device \
	virtio-console,id=con0,ports=2,name1=org.test.data,restarts=100000
await ports 'test: reads' 60 || :
# Their ends of input stay open.
mkfifo "$work/hold" "$work/type"
exec 8<>"$work/hold" 9<>"$work/type"
"$vmmctl" console "ports-$$" con0:port0 <&8 >"$work/hvc0" &
pids="$pids $!"
head -c 200000 /dev/urandom | base64 | head -c 200000 >"$work/typed"
sum=$(md5sum <"$work/typed")
"$vmmctl" console "ports-$$" con0:port1 <&9 >/dev/null &
pids="$pids $!"
cat "$work/typed" >&9 &
pids="$pids $!"
kill_until ports 'test: sum' con0
finish_vm ports 60
says ports 'test: port vport[0-9]p1 org.test.data'
says ports "test: sum $sum"
i=0
while [ $i -lt 3000 ]; do
	echo "line $i"
	i=$((i + 1))
done >"$work/want"
tr -d '\r' <"$work/hvc0" | grep '^line' | cmp - "$work/want" ||
	fail "the console lost or doubled something"
[ "$kills" -gt 5 ] || fail "only $kills kills"
echo "3000 lines out, 200 kB in while the console was killed $kills times"
exit $failed
