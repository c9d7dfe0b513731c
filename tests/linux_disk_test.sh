#!/bin/sh
# Linux on the software processor with virtio disks: file systems, verified
# random writes, discard, qcow2 through qemu-nbd.
set -eu
# shellcheck source=tests/linux.sh
. "$(dirname "$0")/linux.sh"
make_tools

# ---- a file system is made, filled, checked, mounted again ----
truncate -s 256M "$work/data.img"
make_guest ext4 "virtio_pci virtio_blk" <<E
$mount_tools
cat /sys/block/vdb/serial | sed 's/^/test: serial /'
chroot /tools mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt
dd if=/dev/urandom of=/mnt/a bs=64k count=500 2>/dev/null
mkdir /mnt/d; for i in 1 2 3 4 5 6 7 8 9; do cp /bin/busybox /mnt/d/\$i; done
sum=\$(sha256sum </mnt/a)
umount /mnt
chroot /tools e2fsck -f -n /dev/vdb >/tmp/fsck 2>&1
echo "test: e2fsck \$?"
mount /dev/vdb /mnt
[ "\$(sha256sum </mnt/a)" = "\$sum" ] && echo "test: content good"
rm -r /mnt/a /mnt/d
sync
fstrim /mnt && echo "test: trimmed"
umount /mnt
echo 1 2>/dev/null >/dev/vda || echo "test: read-only kept"
E
start_vm ext4 --disk "path=$work/tools.img,readonly=on" \
	--disk "path=$work/data.img,id=data,serial=BULKHEAD1"
await ext4 'test: content good' 120 || :
finish_vm ext4 60
says ext4 'test: e2fsck 0'
says ext4 'test: serial BULKHEAD1'
says ext4 'test: trimmed'
says ext4 'test: read-only kept'
blocks=$(stat -c %b "$work/data.img")
[ "$blocks" -lt 40000 ] ||
	fail "after discarding 32 MB the file still has $blocks blocks"

# ---- verified random writes, and a history of every sector ----
make_guest fio "virtio_pci virtio_blk" "$build/tests/linux/sectors" <<E
$mount_tools
ls /sys/block/vdb/mq | wc -l | sed 's/^/test: queues /'
chroot /tools fio --name=v --filename=/dev/vdb --rw=randwrite --bs=4k \
	--size=16M --verify=crc32c --ioengine=libaio --iodepth=16 --direct=1 \
	--output=/tmp/fio --verify_state_save=0
echo "test: fio \$?"
/bin/sectors /dev/vdc 5 8 4096 7
echo "test: sectors \$?"
E
# One queue, split; two queues, packed.
for queues in 1 2; do
	packed=off
	[ $queues = 1 ] || packed=on
	truncate -s 64M "$work/v.img" "$work/w.img"
	start_vm fio --cpus 2 --disk "path=$work/tools.img,readonly=on" \
		--disk "path=$work/v.img,queues=$queues,packed=$packed" \
		--disk "path=$work/w.img,cache=none,packed=$packed"
	finish_vm fio 120
	says fio "test: queues $queues"
	says fio 'test: fio 0'
	says fio 'test: sectors 0'
	rm "$work/v.img" "$work/w.img"
done

# ---- qcow2, by qemu-nbd ----
if command -v qemu-nbd >/dev/null && [ -x "$build/devhost/devhost-ext" ]; then
	qemu-img create -q -f qcow2 "$work/q.qcow2" 64M
	qemu-nbd -f qcow2 -t -k "$work/nbd.sock" "$work/q.qcow2" &
	pids="$pids $!"
	while [ ! -S "$work/nbd.sock" ]; do sleep 0.05; done
	make_guest qcow2 "virtio_pci virtio_blk" "$build/tests/linux/sectors" <<E
/bin/sectors /dev/vda 3 4 4096 7
echo "test: sectors \$?"
E
	start_vm qcow2 --disk "path=nbd+unix:///?socket=$work/nbd.sock"
	finish_vm qcow2 60
	says qcow2 'test: sectors 0'
fi
exit $failed
