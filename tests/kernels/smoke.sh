#!/bin/sh
# Runs as root inside an emulated machine (`cargo xtask test --kernels`), with busybox, /bin/sidecar and a real `ip`.
# Prints a line for each thing that was tried, and ends with 0 when this kernel can do all of it.
#
# The machine is at 10.77.0.1 and fd77::1. A network namespace `peer`, joined to it by veth, is at 10.77.0.2 and fd77::2.
set -u

# By its path: this shell would take busybox's, which cannot make veth pairs, over any in PATH.
IP=/usr/sbin/ip
ECHO=7
WORK=$(mktemp -d)
LOG=$WORK/access.log
failures=0

# --- What is true or not, and waiting for it ---

# Prints whether a command succeeds.
check() { # WHAT CMD...
    what=$1
    shift
    if "$@"; then
        echo "PASS $what"
        return
    fi
    echo "FAIL $what"
    failures=$((failures + 1))
}

# Ends; after a failure, with what was written down.
finish() {
    [ "$failures" = 0 ] && exit 0
    find "$LOG" "$WORK"/*.err -size +0 -exec tail -v -n 20 {} \; 2>/dev/null | sed 's/^/    /'
    echo "$failures failed"
    exit 1
}

# Waits for a command to succeed: up to 30 s, as the processor is emulated.
eventually() { # CMD...
    tries=300
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

peer() { $IP netns exec peer "$@"; }
listens() { netstat -ltn | grep -q ":$1 "; }
does_not_listen() { ! listens "$1"; }
peer_listens() { peer netstat -ltn | grep -q ":$1 "; }
holds() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }

lacks() { ! grep -q "$2" "$1"; }

# True when one line of a file holds all the words.
line_with() { # FILE WORD...
    lines=$(cat "$1" 2>/dev/null)
    shift
    for word; do lines=$(printf '%s\n' "$lines" | grep -F -e "$word") || return 1; done
}

# Asks a web server of this machine from `peer`.
ask() { # ADDRESS PORT
    printf 'GET / HTTP/1.0\r\n\r\n' | peer nc "$1" "$2" >"$WORK/answer" 2>"$WORK/answer.err"
}

answers() { ask "$@" && grep -q hello "$WORK/answer"; }
refuses() { ! ask "$@" && grep -q 'Connection refused' "$WORK/answer.err"; }

# --- The set-up ---

set_up() {
    mkdir -p /run /www
    echo hello >/www/index.html
    echo ping >"$WORK/ping"
    $IP netns add peer
    $IP link add veth0 type veth peer name veth1 netns peer
    $IP addr add 10.77.0.1/24 dev veth0
    $IP addr add fd77::1/64 dev veth0 nodad
    $IP link set veth0 up
    peer $IP addr add 10.77.0.2/24 dev veth1
    peer $IP addr add fd77::2/64 dev veth1 nodad
    peer $IP link set veth1 up
    peer $IP link set lo up
    # Clients there have ports that nobody here has.
    peer sh -c 'echo 4000 4099 >/proc/sys/net/ipv4/ip_local_port_range'
    nc -ll -p $ECHO -e cat &
    peer nc -ll -p $ECHO -e cat &
    for mode in open closed; do
        cat >"$WORK/$mode.yaml" <<YAML
apiVersion: sidecar.dev/v1alpha1
kind: ProxyConfig
metadata: {name: $mode}
spec:
  interception: {onProxyDown: $mode}
  # Its record is the connection's, with its program.
  protocolDetection: {opaquePorts: [8080]}
  accessLog: {format: json, path: $LOG}
YAML
    done
    eventually listens $ECHO && eventually peer_listens $ECHO
}

# Becomes a sidecar that runs the shell commands of standard input. Their pid goes to NAME.pid, their limit of locked
# memory to NAME.limit.
run_as() { # NAME MODE [PREFIX...]
    name=$1
    config=$WORK/$2.yaml
    shift 2
    { echo "echo \$\$ >$WORK/$name.pid; ulimit -l >$WORK/$name.limit" && cat; } >"$WORK/$name.sh"
    exec "$@" sidecar --log info run --name "$name" --config "$config" -- sh "$WORK/$name.sh" 2>"$WORK/$name.err"
}

# --- What is tried ---

# A program's connection goes through the proxy, which knows where it was meant to go and whose it is.
outbound() { # NAME ADDRESS ADDRESS-IN-LOG [PREFIX...]
    name=$1
    address=$2
    logged=$3
    shift 3
    (run_as "$name" open "$@") <<SH
exec nc $address $ECHO <$WORK/ping >$WORK/$name.answer
SH
    check "$name: the program's status is passed on" [ $? = 0 ]
    check "$name: the program's limits are as without a sidecar" holds "$WORK/$name.limit" "$(ulimit -l)"
    check "$name: the peer answers" holds "$WORK/$name.answer" ping
    check "$name: the access log has the original destination" line_with "$LOG" "\"instance\":\"$name\"" \
        '"direction":"outbound"' "\"originalDestination\":\"$logged:$ECHO\"" '"closeReason":"finished"'
    check "$name: the access log has the program" line_with "$LOG" "\"instance\":\"$name\"" \
        '"comm":"nc"' "\"pid\":$(cat "$WORK/$name.pid")," "/sidecar-$name/app\""
    check "$name: the access log has the bytes" line_with "$LOG" "\"instance\":\"$name\"" \
        '"bytesSent":5,' '"bytesReceived":5,'
}

# What this kernel lacks is said in words, and is what README.md says: all else would pass unseen.
degradations() {
    grep -v 'bypass is off' "$WORK/out4.err" | sed -n 's/.*this kernel has \(no .*\)/degraded: \1/p'
    version=$(uname -r | awk -F '[.-]' '{ print $1 * 1000 + $2 }')
    expected=$(((version < 5015) + (version < 5017) + (version < 6016)))
    check 'this kernel takes the programs of the bypass' lacks "$WORK/out4.err" 'bypass.*load sidecar_'
    check "this kernel lacks what README.md says" [ "$(grep -v 'bypass is off' "$WORK/out4.err" | grep -c 'this kernel has no')" = $expected ]
}

# A program that went to another network namespace finds no proxy there: what it dials is left alone.
elsewhere() {
    (run_as elsewhere open) <<SH
exec $IP netns exec peer nc 10.77.0.1 $ECHO <$WORK/ping >$WORK/elsewhere.answer
SH
    check 'elsewhere: the program is answered' holds "$WORK/elsewhere.answer" ping
    check 'elsewhere: the proxy has no part in it' lacks "$LOG" '"instance":"elsewhere"'
}

# What comes to a program's port goes through the proxy, and the log and the program see the real client.
inbound() {
    run_as in open <<SH &
exec httpd -f -vv -p 8080 -h /www 2>$WORK/httpd.err
SH
    run=$!
    check 'in: the program listens' eventually listens 8080
    from in4 10.77.0.1 10.77.0.2 10.77.0.1 10.77.0.2
    from in6 fd77::1 fd77::2 '[fd77::1]' '[fd77::2]'
    check 'in: detach ends it' sidecar detach in
    wait $run
    check 'in: the program is gone' eventually does_not_listen 8080
}

from() { # NAME ADDRESS CLIENT ADDRESS-IN-LOG CLIENT-IN-LOG
    check "$1: the client is answered" answers "$2" 8080
    # [::ffff:10.77.0.2]:4000: response:200
    port=$(sed -n "s/.*$3]:\(40[0-9][0-9]\): response.*/\1/p" "$WORK/httpd.err" | tail -n 1)
    check "$1: the program sees the client" [ -n "$port" ]
    source="\"source\":\"$5:$port\""
    check "$1: the access log has the client" eventually line_with "$LOG" '"instance":"in"' \
        '"direction":"inbound"' "$source" "\"originalDestination\":\"$4:8080\"" '"closeReason":"finished"'
    check "$1: the access log has the program" line_with "$LOG" "$source" \
        '"comm":"httpd"' "\"pid\":$(cat "$WORK/in.pid"),"
}

# The proxy is killed. Its program goes on, and `onProxyDown` says what becomes of connections.
killed() { # MODE PORT
    mode=$1
    run_as "$mode" "$mode" <<SH &
httpd -p $2 -h /www
until [ -e $WORK/$mode.go ]; do sleep 0.1; done
nc 10.77.0.2 $ECHO <$WORK/ping >$WORK/$mode.answer4 2>$WORK/$mode.nc4
nc fd77::2 $ECHO <$WORK/ping >$WORK/$mode.answer6 2>$WORK/$mode.nc6
touch $WORK/$mode.done
sleep 1000
SH
    run=$!
    check "$mode: the program listens" eventually listens "$2"
    check "$mode: a client is answered before" answers 10.77.0.1 "$2"
    kill -9 $run
    wait $run 2>/dev/null
    touch "$WORK/$mode.go"
    check "$mode: the program goes on" eventually [ -e "$WORK/$mode.done" ]
    after_kill "$mode" "$2"
    check "$mode: detach undoes it" sidecar detach "$mode"
    check "$mode: the program is gone" eventually does_not_listen "$2"
}

after_kill() { # MODE PORT
    for family in 4 6; do
        address=10.77.0.1
        [ $family = 4 ] || address=fd77::1
        if [ "$1" = open ]; then
            check "open: outbound passes (IPv$family)" holds "$WORK/open.answer$family" ping
            check "open: inbound passes (IPv$family)" answers $address "$2"
        else
            check "closed: outbound is refused (IPv$family)" line_with "$WORK/closed.nc$family" 'Connection refused'
            check "closed: inbound is refused (IPv$family)" refuses $address "$2"
        fi
    done
}

# As in a Pod: armed by a process that ends. The proxy has no capability, and asks for what the kernel half counts.
pod() {
    cgroup=/sys/fs/cgroup/pod
    mkdir -p $cgroup/app $cgroup/proxy
    check 'pod: init arms it' sidecar init --name pod --cgroup $cgroup
    echo 'proxy:x:1337:1337:::' >>/etc/passwd
    within $cgroup/proxy start-stop-daemon -S -c proxy -x /bin/sidecar -- proxy --name pod 2>"$WORK/pod.err" &
    proxy=$!
    check 'pod: the proxy listens' eventually listens 15020
    within $cgroup/app nc 10.77.0.2 $ECHO <"$WORK/ping" >"$WORK/pod.answer"
    check 'pod: the peer answers' holds "$WORK/pod.answer" ping
    check 'pod: the proxy knows what was captured' tells 'sidecar_bpf_captured_outbound_total 1'
    # shellcheck disable=SC2046
    kill $(cat $cgroup/proxy/cgroup.procs)
    wait $proxy
    check 'pod: detach undoes it' sidecar detach pod
    check 'pod: its cgroups are empty' rmdir $cgroup/app $cgroup/proxy $cgroup
}

within() { # CGROUP CMD...
    sh -c 'echo $$ >"$0"/cgroup.procs && exec "$@"' "$@"
}

tells() { wget -q -O - http://127.0.0.1:15020/metrics | grep -qx "$1"; }

nothing_is_left() {
    check 'no cgroup is left' [ -z "$(find /sys/fs/cgroup -type d -name 'sidecar-*')" ]
    check 'no instance is left' [ ! -e /run/sidecar ]
    check 'no pin is left' [ -z "$(ls /sys/fs/bpf)" ]
    check 'no mount is left' [ "$(grep -c sidecar /proc/self/mountinfo)" = 0 ]
    check 'other programs are left alone' [ "$(nc 10.77.0.2 $ECHO <"$WORK/ping")" = ping ]
    dmesg | grep -E 'BUG:|WARNING:|Oops' >"$WORK/dmesg.err"
    check 'the kernel complains of nothing' [ ! -s "$WORK/dmesg.err" ]
}

echo "kernel $(uname -r)"
sidecar version
check 'sidecar check finds this kernel fit' sidecar check
check 'the network is up' set_up
[ "$failures" = 0 ] || finish
outbound out4 10.77.0.2 10.77.0.2
degradations
outbound out6 fd77::2 '[fd77::2]'
# There, /sys shows neither the cgroup hierarchy nor bpffs.
outbound netns 10.77.0.1 10.77.0.1 $IP netns exec peer
elsewhere
inbound
killed open 8081
killed closed 8082
pod
nothing_is_left
finish
