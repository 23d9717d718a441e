# Runs a server for a test process, and outlives neither it nor the server's purpose.
#
#   sh -c THIS guard DIRECTORY SIGNAL PROGRAM ARGUMENT...
#
# Standard input is a pipe that only the test process holds. A line `kill` kills the server as a
# crash would, `start` starts it again; the end of the pipe, which comes however the test process
# ends, stops the server by SIGNAL, or by KILL after 5 s, and removes DIRECTORY.
#
# DIRECTORY holds `log`, `pid` of the running server and, once it has ended, its status in `ended`.
directory=$1 signal=$2
shift 2
exec 3<&0 0</dev/null

start() {
    rm -f "$directory/ended"
    (
        "$@" 3<&- >>"$directory/log" 2>&1 &
        echo $! >"$directory/pid"
        wait $!
        echo $? >"$directory/ended"
    ) 2>/dev/null &
}

# Sends signal $1 and waits at most 5 s; true when the server has ended.
stop() {
    tries=0
    [ -e "$directory/ended" ] || kill -s "$1" "$(cat "$directory/pid")"
    until [ -e "$directory/ended" ] || [ $tries = 250 ]; do
        tries=$((tries + 1))
        sleep 0.02
    done
    [ -e "$directory/ended" ]
}

start "$@"
while read -r order <&3; do
    case $order in
    kill) stop KILL ;;
    start) start "$@" ;;
    esac
done
stop "$signal" || stop KILL

# What the server left behind in this process group goes too: asked first, so that nothing writes
# into the directory while it is removed.
trap : TERM
kill -s TERM 0
tries=0
until rm -rf "$directory" 2>/dev/null || [ $tries = 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
kill -s KILL 0
