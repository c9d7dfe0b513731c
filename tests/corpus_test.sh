#!/bin/sh
# Every input that the fuzzers kept, once more: what was found stays fixed.
set -eu
bad=0 ran=0
for corpus in tests/corpus/*/; do
	name=$(basename "$corpus")
	for replay in "$BULKHEAD_BUILD"/*/"$name"_replay \
		"$BULKHEAD_BUILD"/*/*/"$name"_replay; do
		[ -x "$replay" ] || continue
		ran=$((ran + 1))
		find "$corpus" -type f | sort | xargs "$replay" >"$BULKHEAD_BUILD/$name.replay" 2>&1 || {
			echo "$name: the input named last ends it:"
			tail -n 20 "$BULKHEAD_BUILD/$name.replay"
			bad=1
		}
	done
done
echo "$ran corpora"
[ $bad = 0 ] && [ $ran -gt 0 ]
