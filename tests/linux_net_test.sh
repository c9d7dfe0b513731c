#!/bin/sh
# Linux on the software processor with virtio networks: the NAT in both
# directions, against real servers on loopback; two VMs through the switch.
set -eu
# shellcheck source=tests/linux.sh
. "$(dirname "$0")/linux.sh"
[ -x "$build/devhost/devhost-ext" ] || skip "devhost-ext is not built"
busybox=$(command -v busybox) || skip "busybox is not installed"
megabytes=${NET_MEGABYTES:-100}
modules="virtio_pci virtio_net"

# A port of loopback that nothing listens on.
free_port() {
	port=$((20000 + ($$ * 7 + $1) % 20000))
	while grep -q "$(printf ':%04X 0' $port)" /proc/net/tcp; do
		port=$((port + 1))
	done
	echo $port
}

# ---- NAT: DHCP, a download, a forwarded port ----
mkdir "$work/www"
dd if=/dev/urandom of="$work/www/file" bs=1M count="$megabytes" 2>/dev/null
sum=$(sha256sum <"$work/www/file")
http=$(free_port 1)
forward=$(free_port 2)
"$busybox" httpd -f -p "127.0.0.1:$http" -h "$work/www" &
pids="$pids $!"
make_guest nat "$modules" <<E
cat >/tmp/dhcp <<'D'
#!/bin/sh
[ "\$1" = bound ] || exit 0
ip addr add "\$ip/24" dev "\$interface"
ip route add default via "\$router"
echo "test: lease \$ip"
D
chmod +x /tmp/dhcp
ip link set lo up; ip link set eth0 up
udhcpc -q -n -i eth0 -s /tmp/dhcp >/tmp/log 2>&1; grep test: /tmp/log
sum=\$(wget -q -O - http://10.0.2.2:$http/file | sha256sum)
echo "test: sum \$sum"
mkdir /tmp/www; echo "from the guest" >/tmp/www/hello
httpd -p 80 -h /tmp/www
echo "test: serves"
n=0; while [ ! -e /tmp/www/stop ] && [ \$n -lt 300 ]; do
	sleep 0.1; n=\$((n + 1))
	grep -q stop /proc/net/dev && break
	[ "\$(cat /sys/class/net/eth0/carrier)" = 1 ] || break
done
E
start_vm nat --net "user,id=net0,hostfwd=tcp:127.0.0.1:$forward-:80"
await nat 'test: serves' 240 || :
got=$(printf 'GET /hello HTTP/1.0\r\n\r\n' |
	timeout 10 "$busybox" nc 127.0.0.1 "$forward" | tail -n 1 || :)
[ "$got" = "from the guest" ] || fail "the forwarded port said '$got'"
"$vmmctl" set "nat-$$" net0 link=down >/dev/null || fail "link=down"
finish_vm nat 60
says nat 'test: lease 10.0.2.15'
says nat "test: sum $sum"

# ---- two VMs through the switch ----
make_guest left "$modules" <<E
ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0
mkdir /tmp/www; dd if=/dev/urandom of=/tmp/www/file bs=1M count=4 2>/dev/null
echo "test: sum \$(sha256sum </tmp/www/file)"
httpd -p 80 -h /tmp/www
n=0; until ping -c 1 -W 1 10.9.0.3 >/dev/null || [ \$n -gt 60 ]; do
	n=\$((n + 1)); done
E
make_guest right "$modules" <<E
ip link set eth0 up; ip addr add 10.9.0.2/24 dev eth0
n=0; until wget -q -O /tmp/file http://10.9.0.1:80/file || [ \$n -gt 60 ]; do
	n=\$((n + 1)); sleep 0.5; done
echo "test: sum \$(sha256sum </tmp/file)"
ip addr add 10.9.0.3/24 dev eth0
n=0; until ping -c 1 -W 1 10.9.0.1 >/dev/null || [ \$n -gt 3 ]; do
	n=\$((n + 1)); done; sleep 2
E
start_vm left --net "switch:lan-$$"
left_pid=$vm_pid
start_vm right --net "switch:lan-$$"
finish_vm right 120
vm_pid=$left_pid
finish_vm left 60
left=$(tr -d '\r' <"$work/left.out" | grep 'test: sum')
right=$(tr -d '\r' <"$work/right.out" | grep 'test: sum')
if [ -z "$left" ] || [ "$left" != "$right" ]; then
	fail "through the switch: '$left', but '$right' arrived"
fi
exit $failed
