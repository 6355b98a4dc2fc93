#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh [GROUP,…] [bench.py options]: Couplet beside the bare relay, tuned Prosody and ejabberd, one run, figures as a table.
# Groups: chat rate muc bigmuc iq login mam mamsql idle bigidle (default: chat,rate,iq,login). MEASURE: the load generator's folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
case "${1:-}" in -h | --help) sed -n '3,4s/^# //p' "$0"; exit 0 ;; esac
groups=${1:-chat,rate,iq,login}
[ $# -gt 0 ] && shift
export MEASURE=${MEASURE:-$source/../shared/measure}
[ -d "$MEASURE" ] || { echo "run.sh: no load generator in $MEASURE; set MEASURE" >&2; exit 1; }
work=${WORK:-$source/build/bench}
mkdir -p "$work"
make -s -C "$MEASURE/xload" BUILD="$work/xload"
make -s -C "$MEASURE/relay" BUILD="$work/relay"
export RELAY=$work/relay/relay PROSODY_GC='mode = "generational"' DATA=$work/data CERTDIR=$work/cert
out=$work/results-$(date +%Y%m%d-%H%M%S).jsonl
servers=("relay=5811=sh $MEASURE/peers/relay-start.sh"
  "couplet-io0=5821=env IO_THREADS=0 sh $here/couplet-start.sh"
  "couplet-io1=5831=env IO_THREADS=1 sh $here/couplet-start.sh")
[ -n "${ONLY_COUPLET:-}" ] || servers+=("prosody=5841=sh $MEASURE/peers/prosody/start.sh" "ejabberd=5851=sh $MEASURE/peers/ejabberd/start.sh")
python3 "$MEASURE/bench.py" --spin --xload "$work/xload/xload" --out "$out" --work "$work" --no-scram relay \
  --only "$groups" "$@" "${servers[@]}"
python3 "$MEASURE/tables.py" "$out"
echo "raw: $out"
