# Runs a browser that ends when its owner does, in whatever way, and leaves nothing behind.
#
#   sh -c THIS guard FOLDER PROGRAM ARGUMENT...
#
# Standard input is a pipe that only the owner holds; at its end the browser is killed. When the
# browser has ended, the last line that it wrote is printed, what else it started is stopped, and
# FOLDER is removed.
folder=$1
shift
exec 3<&0 0</dev/null
"$@" 3<&- >"$folder/log" 2>&1 &
browser=$!
{
    cat <&3 >/dev/null
    kill -s KILL "$browser"
} >/dev/null 2>&1 &
wait "$browser"
tail -n 1 "$folder/log"
exec >/dev/null 2>&1

# Asked first, so that nothing writes into the folder while it is removed.
trap : TERM
kill -s TERM 0
tries=0
until rm -rf "$folder" || [ $tries = 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
kill -s KILL 0
