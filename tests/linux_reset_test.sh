#!/bin/sh
# A storm of resets: drivers are unbound and bound, and with them devices reset
# and queues torn down, in the middle of transfers.  Nothing may be stuck.
#
# RESETS (100) of each device.
set -eu
# shellcheck source=tests/linux.sh
. "$(dirname "$0")/linux.sh"
resets=${RESETS:-100}

make_guest reset "virtio_pci virtio_blk virtio_net virtio-rng
virtio_console virtio_balloon" "$build/tests/linux/sectors" <<E
echo 8 >/proc/sys/kernel/printk
load() { d=\$(cat /sys/block/vda/dev); rm -f /tmp/d
	mknod /tmp/d b \${d%:*} \${d#*:}
	dd if=/tmp/d of=/dev/null bs=64k count=400 iflag=direct 2>/dev/null
	dd if=/dev/zero of=/tmp/d bs=64k count=200 oflag=direct 2>/dev/null; }
cd /sys/bus/virtio/drivers
for d in */virtio*; do
	case \$d in virtio_rng*|virtio_blk*|virtio_net*|virtio_balloon*|virtio_console*)
		list="\$list \$d" ;; esac
done
echo "test: resetting \$list"
n=0
while [ \$n -lt $resets ]; do
	n=\$((n + 1))
	load & busy=\$!
	dd if=/dev/hwrng of=/dev/null bs=16 count=4 2>/dev/null &
	[ \$((n % 3)) = 0 ] && usleep \$((n * 997 % 5000))
	for d in \$list; do
		echo \${d#*/} >\${d%/*}/unbind
	done
	for d in \$list; do
		echo \${d#*/} >\${d%/*}/bind || echo "test: BAD bind \$d"
	done
	wait \$busy
done
wait
cd /
ls /dev/vda >/dev/null && echo "test: disk is back"
sectors /dev/vda 2 4 4096 3 | sed 's/^/test: /'
ip link set eth0 up && echo "test: net is back"
head -c 100 /dev/hwrng | wc -c | sed 's/^/test: rng gives /'
echo "test: resets \$n"
E
truncate -s 64M "$work/disk.img"
start_vm reset --disk "path=$work/disk.img" --net user --rng --balloon \
	--virtio-console
# What is under way is cut off: those errors are the guest's own doing.
await reset 'test: resets' $((60 + resets * 2)) || :
wait "$vm_pid" || :
! grep 'test: BAD' "$work/reset.out" || fail "a driver did not come back"
! grep -E 'WARNING|BUG:|Oops|Call Trace|stuck|hung' "$work/reset.out" ||
	fail "Linux complains"
says reset "test: resets $resets"
says reset 'test: disk is back'
says reset 'test: sectors: .*errors 0 wrong 0'
says reset 'test: net is back'
says reset 'test: rng gives 100'
exit $failed
