#!/usr/bin/env bash
# Trains on two ranks in two network namespaces, which are to Open MPI two machines: with loss on the network the result is
# that of one process, and when the network fails the run ends, names the lost rank and can be continued.
#
#     tests/two_machines.sh target/release/sedet
#
# Needs root, Open MPI, iproute2 and nftables. The kernel module for delay (netem) is used where it exists.
set -euo pipefail

sedet=$(realpath "$1")
directory=$(mktemp -d)
first=sedet-first-$$ second=sedet-second-$$
unset SEDET_DATA
clean_up() {
    ip netns del "$first" 2>/dev/null || true
    ip netns del "$second" 2>/dev/null || true
    rm -rf "$directory"
}
trap clean_up EXIT

if ! { ip netns add "$first" && ip netns add "$second" &&
    ip link add first netns "$first" type veth peer name second netns "$second"; } 2>/dev/null; then
    echo "NOT TESTED: two machines (network namespaces are not allowed here)"
    exit 0
fi
ip -n "$first" addr add 10.77.0.1/24 dev first
ip -n "$second" addr add 10.77.0.2/24 dev second
for end in first second; do
    namespace=${!end}
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link set "$end" up
    if ! ip netns exec "$namespace" nft -f - 2>/dev/null <<RULES
table ip lossy {
    chain input { type filter hook input priority 0; iif != "lo" numgen random mod 100 < 2 counter drop; }
}
RULES
    then
        echo "NOT TESTED: loss on the network (nftables is not allowed here)"
    fi
    ip netns exec "$namespace" tc qdisc add dev "$end" root netem delay 2ms 2>/dev/null ||
        echo "NOT TESTED: delay on the network (no netem here)"
done

# Open MPI starts its daemon on the second machine by this command: HOST COMMAND...
cat > "$directory/agent" <<AGENT
#!/bin/sh
shift
exec ip netns exec $second sh -c "\$*"
AGENT
chmod +x "$directory/agent"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
on_both() {
    local tcp=10.77.0.0/24
    # Without the last three, mpirun waits for minutes for a machine that it has lost.
    timeout 120 ip netns exec "$first" mpirun -n 2 --host 10.77.0.1:1,10.77.0.2:1 \
        --mca plm_rsh_agent "$directory/agent" --mca btl tcp,self --mca btl_tcp_if_include $tcp \
        --mca oob_tcp_if_include $tcp --mca hwloc_base_binding_policy none \
        --mca oob_tcp_keepalive_time 2 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3 \
        -x RAYON_NUM_THREADS=1 -x SEDET_RANK_TIMEOUT=5 "$sedet" "$@"
}

cd "$directory"
"$sedet" data shapes --output data --train-images 12 --val-images 4 --long-side 96 --quiet
train=(train --dataset data --config shapes --batch-size 2 --device cpu --quiet --set train.log_every=1
    --set input.min_size=64 --set input.max_size=96 --set model.width=0.25)

"$sedet" "${train[@]}" --epochs 2 --set train.accumulate=2 --output one > /dev/null
on_both "${train[@]}" --epochs 2 --output two > /dev/null
cmp one/results/detections.json two/results/detections.json
losses() { grep -o '"loss":[^,}]*' "$1/events.jsonl"; }
[ "$(losses one | wc -l)" -gt 3 ]
diff <(losses one) <(losses two)
echo "two machines: the losses and detections of one process"

lost=lost-$$
on_both "${train[@]}" --epochs 1000 --output $lost > /dev/null 2> lost.txt &
launcher=$!
for _ in $(seq 100); do
    [ -s $lost/checkpoints/last.safetensors ] && break
    sleep 0.2
done
ip -n "$second" link set second down
begun=$SECONDS
if wait $launcher; then
    echo "the run on two machines ended without an error"
    exit 1
fi
grep -E '^error: rank [01]: no answer from rank [01] for 5 s' lost.txt || { cat lost.txt; exit 1; }
taken=$((SECONDS - begun))
[ $taken -lt 60 ] || { echo "the end took $taken s"; exit 1; }
if grep -lsz "^$lost\$" /proc/[0-9]*/cmdline; then
    echo "a rank is still running"
    exit 1
fi
"$sedet" train --resume "$lost" --quiet --device cpu > /dev/null &
resumed=$!
sleep 3
kill -TERM $resumed
wait $resumed && { echo "the resumed run ended early"; exit 1; }
grep -q '^resuming' $lost/log.txt
echo "two machines: the lost rank was named after $taken s, and the run was continued"
