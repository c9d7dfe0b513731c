#!/bin/sh
# Linux on the software processor: every device upgraded again and again while
# it is used, and a disk's requests that fail, are slow or kill on purpose.
set -eu
# shellcheck source=tests/linux.sh
. "$(dirname "$0")/linux.sh"

# upgrade_while_it_runs NAME: until the guest is done; prints the pauses.
upgrade_while_it_runs() {
	: >"$work/pauses"
	while ! grep -qs 'test: sectors' "$work/$1.out"; do
		kill -0 "$vm_pid" 2>/dev/null || break
		"$vmmctl" upgrade "$1-$$" --all >"$work/upgrade" \
			2>"$work/upgrade.err" ||
			grep -qs 'test: sectors' "$work/$1.out" ||
			fail "upgrade: $(cat "$work/upgrade.err")"
		sed -n 's/.*paused for \([0-9]*\) us/\1/p' "$work/upgrade" \
			>>"$work/pauses"
		sleep 0.05
	done
	sort -n "$work/pauses" | awk '{ p[NR] = $1 }
		END { if (NR) printf "%d upgrades: p50 %d us, p99 %d us\n",
			NR, p[int((NR + 1) / 2)], p[int(NR * 0.99 + 0.99)] }'
}

# ---- upgrades under load: no request fails, no byte is wrong ----
truncate -s 64M "$work/u.img" "$work/v.img"
make_guest upgrade "virtio_pci virtio_blk virtio_rng virtio_console" \
	"$build/tests/linux/sectors" <<'E'
echo "test: go"
dd if=/dev/hwrng of=/dev/null bs=64 count=2000 2>/dev/null &
/bin/sectors /dev/vda 10 8 4096 7 &
one=$!
/bin/sectors /dev/vdb 10 4 4096 8 || echo "test: second failed"
wait $one
echo "test: sectors $?"
E
start_vm upgrade --cpus 2 --disk "path=$work/u.img" \
	--disk "path=$work/v.img,cache=none" --rng --virtio-console \
	--console serial
if await upgrade 'test: go' 120; then
	upgrade_while_it_runs upgrade
fi
finish_vm upgrade 60
says upgrade 'test: sectors 0'
! grep 'test: second failed' "$work/upgrade.out" || fail "the second disk"
[ "$(wc -l <"$work/pauses")" -ge 10 ] || fail "hardly any upgrade"

# ---- a disk that fails, dies and is slow as it was told to ----
truncate -s 16M "$work/f.img"
make_guest faults "virtio_pci virtio_blk" <<'E'
echo "test: go"
read_one() { dd if=/dev/vda of=/dev/null bs=4k count=1 skip=$1 iflag=direct 2>/dev/null; }
n=0
while [ $n -lt 3000 ] && read_one $n; do n=$((n + 1)); done
[ $n -lt 3000 ] && echo "test: failed once"
sleep 3 # to be asked about it
n=$((n + 1)) bad=0
for i in 1 2 3 4 5 6 7 8; do read_one $((n + i)) || bad=$((bad + 1)); done
echo "test: then $bad failed"
dmesg -c | grep -c 'I/O error' | sed 's/^/test: errors /'
E
start_vm faults --disk "path=$work/f.img"
if await faults 'test: go' 120; then
	"$vmmctl" fault "faults-$$" blk0 kill on=queue after=2 times=3 ||
		fail "kill"
	"$vmmctl" fault "faults-$$" blk0 slow on=queue value=5ms times=5 ||
		fail "slow"
	"$vmmctl" fault "faults-$$" blk0 error after=20 times=1 || fail "error"
	await faults 'test: failed once' 60 || :
	"$vmmctl" fault "faults-$$" blk0 list >"$work/list" || :
	awk '$1 == "kill" && $11 == 3 { n++ } $1 == "slow" && $11 == 5 { n++ }
		$1 == "error" && $11 == 1 { n++ } END { exit n != 3 }' \
		"$work/list" || {
		fail "not all of them fired:"
		cat "$work/list"
	}
fi
finish_vm faults 60
says faults 'test: then 0 failed'
says faults 'test: errors 1'
exit "$failed"
