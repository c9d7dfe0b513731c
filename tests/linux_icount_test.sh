#!/bin/sh
# Debian's kernel under --icount: from its start to power-off two runs are the
# same, to the instruction, with a timer, the RTC, the serial port and a disk
# that is read and written; one of them beside a load.
set -eu
# shellcheck source=tests/linux.sh
. "$(dirname "$0")/linux.sh"

make_guest same "virtio_pci virtio_blk" <<'E'
date
dd if=/dev/vda of=/dev/null bs=64k 2>/dev/null
i=0
while [ $i -lt 20 ]; do
	dmesg | tail -n $i | dd of=/dev/vda bs=4k seek=$i conv=notrunc 2>/dev/null
	i=$((i + 1))
done
sync
md5sum /dev/vda
sleep 3
grep -E 'timer|LOC|rtc|ttyS|acpi|virtio' /proc/interrupts
cat /proc/uptime
E

# run_counted NAME: what it prints, but for what names the run, in NAME.said.
run_counted() {
	cp "$work/same.gz" "$work/$1.gz"
	truncate -s 8M "$work/$1.img"
	start_vm "$1" --icount --disk "path=$work/$1.img" --verbose
	finish_vm "$1" 300
	says "$1" 'icount: .* hash'
	grep -v 'first instruction\|hypervisor soft' "$work/$1.out" \
		>"$work/$1.said"
}

run_counted alone
sh -c 'while :; do :; done' &
pids="$pids $!"
run_counted loaded
cmp "$work/alone.said" "$work/loaded.said" || {
	fail "two runs are not the same"
	diff "$work/alone.said" "$work/loaded.said" | head -n 20
}
cmp "$work/alone.img" "$work/loaded.img" || fail "the disks are not the same"
grep 'icount:' "$work/alone.out"
[ "$failed" = 0 ] && echo "Linux counts its instructions: ok"
exit "$failed"
