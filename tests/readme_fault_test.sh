#!/bin/sh
# The README's experiment, as it is written there.
set -eu
cd "$(dirname "$0")/.."
build=${BULKHEAD_BUILD:-$PWD/o/rel}
for file in vmmctl/vmmctl vmmd/vmmd devhost/devhost guests/experiment.elf; do
	if [ ! -e "$build/$file" ]; then
		echo "skipped: $file is not built"
		exit 77
	fi
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The second block of its section.
awk '/^## / { inside = /^## Break it on purpose/; n = 0; next }
	inside && /^```/ { n++; next }
	inside && n == 3' README.md >"$folder/example.sh"
if ! grep -q 'vmmctl scenario' "$folder/example.sh"; then
	echo "the README has no such example"
	exit 1
fi
# What make builds is where it says.
mkdir "$folder/o"
ln -s "$build" "$folder/o/rel"
cd "$folder"
sh -eu ./example.sh
grep -q 'tests="13" failures="0" skipped="0"' experiment.xml
if grep '<failure' experiment.xml; then
	exit 1
fi
