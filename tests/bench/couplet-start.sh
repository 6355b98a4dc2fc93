#!/bin/sh
# SPDX-License-Identifier: MIT
# couplet-start.sh RUNDIR PORT [nomam|mam|mamsql]: starts Couplet for the load generator (the peers' start scripts do the same).
# Environment: CERTDIR, ACCOUNTS (default 10000), IO_THREADS (default 1), COUPLET (the program), DATA (where accounts are kept; made once,
# which takes some minutes), MEASURE (the load generator's folder)
set -e
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
case ${3:-nomam} in
    nomam) mam= ;;
    mam) mam='"mam",' ;;
    *) exit 3 ;;                # mamsql: our archive is in SQLite anyway
esac
mkdir -p "$1" "${DATA:-$1/data}"
run=$(cd "$1" && pwd)
data=$(cd "${DATA:-$run/data}" && pwd)
port=$2
cert=${CERTDIR:-$run/cert}
measure=${MEASURE:-$source/../shared/measure}
sh "$measure/peers/mkcert.sh" "$cert"
cat > "$run/config.lua" <<END
-- The same modules, accounts and freedoms as the peers get: default module set, no rate limits, plain text allowed.
run_as_root = true
data_path = "$data"
certificates = "$cert"
ssl = { certificate = "$cert/cert.pem", key = "$cert/key.pem" }
plugin_paths = { "$measure/peers/prosody/modules" }
interfaces = { "127.0.0.1" }
c2s_ports = { $port }
c2s_direct_tls_ports = {}
s2s_ports = {}
s2s_direct_tls_ports = {}
io_threads = ${IO_THREADS:-1}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
limits = {}
c2s_max_connections_per_ip = 0
c2s_connection_rate = 0
log = { warn = "$run/couplet.log" }
modules_enabled = { $mam "disco", "roster", "saslauth", "tls", "private", "vcard", "ping", "register", "time", "uptime", "version", "xload_accounts" }
xload_accounts = ${ACCOUNTS:-10000}
archive_expires_after = "never"
VirtualHost "localhost"
Component "conference.localhost" "muc"
END
ulimit -n "$(ulimit -Hn)"
START_NS=$(date +%s%N); export START_NS
nohup "${COUPLET:-$source/build/bin/couplet}" --config "$run/config.lua" > "$run/out.log" 2>&1 &
echo $! > "$run/pids"
python3 "$measure/peers/waitport.py" "$port" 900 &
waiting=$!
while kill -0 $waiting 2> /dev/null; do
    kill -0 "$(cat "$run/pids")" 2> /dev/null || { kill $waiting; cat "$run/out.log" >&2; exit 1; }
    sleep 0.2
done
wait $waiting
