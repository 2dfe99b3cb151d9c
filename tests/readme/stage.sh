# Run by tests/readme: sets the stage, then defines `step COMMAND`.
set -u
PATH=$VSWITCH_BIN:$PATH:/usr/sbin:/sbin
for program in ip ping; do
    command -v "$program" >/dev/null || { echo "no program $program"; exit; }
done
# Nothing of this is seen outside: /run, where ip and vswitch keep what they make, is our own.
mount --make-rprivate / && mount -t tmpfs none /run && mkdir /run/netns || exit
mount -t sysfs none /sys || exit
# What steps write is gone with the stage.
cd /run || exit
# The internet: a router with an address that answers.
ip netns add outside &&
    ip link set lo up &&
    ip link add eth0 type veth peer name eth0 netns outside &&
    ip address add 203.0.113.254/24 dev eth0 &&
    ip link set eth0 up &&
    ip route add default via 203.0.113.1 &&
    ip -n outside address add 203.0.113.1/24 dev eth0 &&
    ip -n outside link set eth0 up &&
    ip -n outside link set lo up &&
    ip -n outside address add 1.1.1.1/32 dev lo || exit
[ -c /dev/net/tun ] || { echo "no /dev/net/tun"; exit; }
echo "stage is set"

sudo() { "$@"; }

finish() {
    [ -n "${switch:-}" ] && kill -INT "$switch" 2>/dev/null && wait "$switch"
}
trap finish EXIT

# Waits until the switch has said LAST.
says() {
    for _ in $(seq 100); do
        grep -q "^$1" /run/terminal && return
        sleep 0.1
    done
}

step() {
    printf '\036\n'
    case $1 in
    "sudo vswitch --ports "*)
        ${1#sudo } >/run/terminal 2>&1 &
        switch=$!
        says ready
        cat /run/terminal
        said=$(wc -l </run/terminal)
        ;;
    "^C")
        kill -INT "$switch"
        wait "$switch"
        switch=
        tail -n +$((said + 1)) /run/terminal
        ;;
    *iperf3* | *jq* | *curl* | tshark* | tcpdump*)
        for program in iperf3 jq curl tshark tcpdump; do
            case $1 in *$program*) command -v $program >/dev/null || { echo absent; return; } ;; esac
        done
        eval "$1" 2>&1
        # A server in the background says nothing when it listens, nor when it is ready for the
        # next client.
        case $1 in *iperf3\ -[sc]*) sleep 0.5 ;; esac
        ;;
    *) eval "$1" 2>&1 ;;
    esac
}
