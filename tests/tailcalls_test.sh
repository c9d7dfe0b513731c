#!/bin/sh
# Every instruction's handler of the software processor goes on to the next by
# a jump: a call there grows the host's stack for as long as the guest loops.
set -eu
out=${BULKHEAD_BUILD:-o/rel}
case ${out##*/} in
rel | rel-*) ;;
*)
	echo "skip: tail calls are for release builds"
	exit 77
	;;
esac
command -v objdump >/dev/null || {
	echo "skip: no objdump"
	exit 77
}
set --
for o in "$out"/hypervisor/soft/int_*.o "$out"/hypervisor/soft/fp_*.o \
	"$out"/hypervisor/soft/sys_*.o; do
	case $o in
	*_test.o | *'*'*) ;;
	*) set -- "$@" "$o" ;;
	esac
done
[ $# -gt 0 ] || {
	echo "no objects below $out/hypervisor/soft"
	exit 1
}
# 0x28 is where the row behind an instruction has its handler: a struct insn
# has 40 bytes.  Device ports and the like are called through other offsets.
bad=$(objdump -d "$@" | awk '
	/file format/ { file = $1 }
	/^[0-9a-f]+ <.*>:$/ { fn = $2; via = "" }
	/mov +0x28\(%r[a-z0-9]+\),%r/ { via = $NF; sub(/.*,/, "", via) }
	/call +\*0x28\(/ { print file, fn, $NF }
	/call +\*%r/ && via != "" && $NF == "*" via { print file, fn, $NF }')
if [ -n "$bad" ]; then
	echo "$bad"
	exit 1
fi
jumps=$(objdump -d "$@" | grep -cE 'jmp +\*(0x28\(|%r)')
echo "$jumps jumps from a handler to the next, no calls"
[ "$jumps" -gt 100 ]
