#!/bin/sh
# SPDX-License-Identifier: MIT
# storm.sh PORT PID [LOGINS_AT_ONCE]: chat at 1000 messages/s over TLS while others log in as fast as they can (SCRAM, TLS); the server is
# running already (couplet-start.sh). Prints what the load generator says of both. XLOAD: the load generator.
set -e
xload=${XLOAD:-$(cd "$(dirname "$0")/../.." && pwd)/build/bench/xload/xload}
"$xload" chat --users 200 --rate 1000 --tls starttls --scram --port "$1" --pid "$2" --duration 8 --warmup 4 --drain 20 > /dev/null &
chat=$!
sleep 3
"$xload" login --offset 1000 --users 64 --conc "${3:-16}" --tls starttls --scram --resource storm --port "$1" --pid "$2" --duration 7 --warmup 2 > /dev/null
wait $chat
