#!/bin/sh
# Linux unbinds, removes, resets and finds virtio devices again, while their
# processes are killed.
set -eu
# shellcheck source=tests/linux.sh
. "$(dirname "$0")/linux.sh"

truncate -s 16M "$work/disk.img"
make_guest again \
	"virtio_pci virtio-rng virtio_blk virtio_balloon virtio_console" <<'E'
use() {
	j=0
	while [ ! -b /dev/vda ] && [ $j -lt 100 ]; do
		sleep 0.1
		j=$((j + 1))
	done
	dd if=/dev/vda of=/dev/null bs=64k count=32 2>&1 | grep -c '32+0.*in'
	dd if=/dev/hwrng bs=512 count=2 iflag=fullblock 2>/dev/null | wc -c
}
functions=$(ls -d /sys/bus/pci/devices/0000:00:0[1-4].0)
echo "test: functions" $functions
i=0
while [ $i -lt 8 ]; do
	# Not a write: it would make a file where there is no disk.
	dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2>/dev/null &
	for f in $functions; do
		echo $(basename $f) >/sys/bus/pci/drivers/virtio-pci/unbind
	done
	wait # who has the disk open keeps its name
	for f in $functions; do
		[ $i -lt 4 ] || echo 1 >$f/reset
		echo $(basename $f) >/sys/bus/pci/drivers/virtio-pci/bind
	done
	echo test: bound again $(use)
	i=$((i + 1))
done
i=0
while [ $i -lt 5 ]; do
	for f in $functions; do
		echo 1 >$f/remove
	done
	echo 1 >/sys/bus/pci/rescan
	echo test: found again $(use)
	i=$((i + 1))
done
grep -c virtio /proc/interrupts | sed 's/^/test: interrupts /'
dmesg -r | grep '^<[0-4]>' | grep -v -e 'hrtimer: interrupt took' \
	-e 'Buffer I/O' -e 'clocksource' | sed 's/^/test: complaint: /'
E

# kill_all NAME: the processes of the VM, one after the other, until it ends.
kill_all() {
	await "$1" 'test: functions' 100 || return 0
	kills=0
	while kill -0 "$vm_pid" 2>/dev/null &&
		! grep -q 'test: done' "$work/$1.out"; do
		for d in blk0 rng0 balloon0 console0; do
			! "$vmmctl" kill "$1-$$" $d >/dev/null 2>&1 ||
				kills=$((kills + 1))
		done
		sleep 0.2
	done
	echo "$1: $kills kills"
	[ $kills -ge 20 ] || fail "$1: there were only $kills kills"
}

# run NAME OPTION...: the guest; killed unless NAME is quiet.
run() {
	name=$1
	cp "$work/again.gz" "$work/$name.gz"
	start_vm "$@" --disk "path=$work/disk.img,restarts=100000" \
		--rng=restarts=100000 --balloon=restarts=100000 \
		--virtio-console=restarts=100000
	[ "$name" = quiet ] || kill_all "$name"
	finish_vm "$name" 150
	n=$(grep -c 'test: bound again 1 1024' "$work/$name.out") || :
	[ "$n" = 8 ] || fail "$name: bound again $n times of 8"
	n=$(grep -c 'test: found again 1 1024' "$work/$name.out") || :
	[ "$n" = 5 ] || fail "$name: found again $n times of 5"
}

run quiet
says quiet 'test: interrupts 1[0-9]'
run killed
run smp --cpus 2
exit $failed
