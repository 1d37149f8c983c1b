#!/usr/bin/env bash
# revisions.sh OLD NEW PACKAGES BENCHMARKS COUNT compares the benchmarks of two
# git revisions. Their runs alternate, because a shared machine drifts: two runs
# one after the other would compare two hours of the day.
set -euo pipefail
[ $# -eq 5 ] || { echo "usage: $0 OLD NEW PACKAGES BENCHMARKS COUNT" >&2; exit 2; }
old=$1 new=$2 packages=$3 benchmarks=$4 count=$5

root="$(git rev-parse --show-toplevel)"
scratch="$(mktemp -d)"
cleanup() {
	git -C "$root" worktree remove --force "$scratch/old" 2>/dev/null || true
	git -C "$root" worktree remove --force "$scratch/new" 2>/dev/null || true
	rm -rf "$scratch"
}
trap cleanup EXIT

git -C "$root" worktree add --quiet --detach "$scratch/old" "$old"
git -C "$root" worktree add --quiet --detach "$scratch/new" "$new"
for round in $(seq "$count"); do
	for side in old new; do
		echo "round $round of $count: $side" >&2
		# PACKAGES may be several patterns, so it is split on purpose.
		# shellcheck disable=SC2086
		(cd "$scratch/$side" && go test -run '^$' -bench "$benchmarks" -benchmem -count 1 $packages) >>"$scratch/$side.txt"
	done
done
cd "$root"
go tool benchstat "old=$scratch/old.txt" "new=$scratch/new.txt"
