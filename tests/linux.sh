# For the tests that boot Linux: a folder to work in, the kernel, an initramfs
# with virtio modules, a virtual machine.  Sourced by tests/linux_*_test.sh.
#
# shellcheck shell=sh
cd "$(dirname "$0")/.."
build=${BULKHEAD_BUILD:-$PWD/o/rel}
vmmctl=$build/vmmctl/vmmctl
work=$(mktemp -d /tmp/bulkhead-linux-XXXXXX)
pids=

skip() {
	echo "skipped: $*"
	exit 77
}
fail() {
	echo "FAILED: $*"
	failed=1
}
# shellcheck disable=SC2317 # called by the trap
cleanup() {
	for p in $pids; do
		kill "$p" 2>/dev/null || :
	done
	for p in $pids; do
		wait "$p" 2>/dev/null || :
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
failed=0

for p in vmmctl/vmmctl vmmd/vmmd devhost/devhost; do
	[ -x "$build/$p" ] || skip "$p is not built"
done
kernel=${BULKHEAD_KERNEL:-$(scripts/fetch-kernel \
	"${BULKHEAD_KERNEL_DIR:-o/kernel}")} || skip "there is no kernel"
kernel_folder=${kernel%/boot/*}

# need PROGRAM...: what the host must have.
need() {
	for p in "$@"; do
		PATH=$PATH:/usr/sbin:/sbin command -v "$p" >/dev/null ||
			skip "$p is not installed"
	done
}

# make_guest NAME MODULES [FILE...] <SCRIPT: an initramfs whose init mounts the
# usual, loads the modules and runs the script, then powers off.
make_guest() {
	name=$1 modules=$2
	shift 2
	{
		echo '#!/bin/sh'
		echo 'mount -t proc proc /proc; mount -t sysfs sys /sys'
		echo 'mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp'
		echo '[ ! -e /modules ] || . /modules'
		echo 'echo "test: runs"'
		cat
		echo 'dmesg | grep -E "WARNING|BUG|Oops|Call Trace|I/O error" |'
		echo '	sed "s/^/test: complaint: /"'
		echo 'echo "test: done"; poweroff -f'
	} >"$work/$name.init"
	files=
	for f in "$@"; do
		files="$files -f $f"
	done
	# shellcheck disable=SC2086 # a list of options
	scripts/make-initramfs -k "$kernel_folder" -m "$modules" $files \
		"$work/$name.init" "$work/$name.gz" ||
		skip "no initramfs can be made"
}

# make_tools: $work/tools.img has fio and the e2fsprogs.
make_tools() {
	need fio mkfs.ext4 e2fsck
	scripts/make-tools-disk "$work/tools.img" fio mkfs.ext4 e2fsck ||
		skip "no disk of tools can be made"
}
# In a guest: mount it from the first disk.
# shellcheck disable=SC2034 # for those who source this
mount_tools='mount -o ro /dev/vda /tools
for d in dev proc sys; do mount --bind /$d /tools/$d; done
mount -t tmpfs tmp /tools/tmp
'

# start_vm NAME OPTION...: a VM in the background, its console in
# $work/NAME.out; sets vm_pid.
start_vm() {
	name=$1
	shift
	"$vmmctl" run --quiet --name "$name-$$" --hypervisor soft \
		--kernel "$kernel" --initrd "$work/$name.gz" --memory 512M \
		--cmdline "console=ttyS0 cryptomgr.notests quiet panic=-1" \
		"$@" >"$work/$name.out" 2>&1 </dev/null &
	vm_pid=$!
	pids="$pids $vm_pid"
}

# await NAME PATTERN SECONDS
await() {
	waited=0
	while ! grep -qs "$2" "$work/$1.out"; do
		sleep 0.1
		waited=$((waited + 1))
		if [ $waited -gt $(($3 * 10)) ] ||
			! kill -0 "$vm_pid" 2>/dev/null; then
			grep -q "$2" "$work/$1.out" && return 0
			fail "$1: no '$2' in its output:"
			tail -n 30 "$work/$1.out"
			return 1
		fi
	done
}

# finish_vm NAME SECONDS: it powers off by itself.
finish_vm() {
	await "$1" 'test: done' "$2" || return 0
	rc=0
	wait "$vm_pid" || rc=$?
	[ $rc = 0 ] || fail "$1: exit code $rc: $(tail -n 3 "$work/$1.out")"
	! grep 'test: complaint:' "$work/$1.out" || fail "$1: Linux complains"
}

# says NAME PATTERN: the guest said so.
says() {
	tr -d '\r' <"$work/$1.out" | grep -q -e "$2" || {
		fail "$1: its output has no '$2':"
		tail -n 40 "$work/$1.out"
	}
}
