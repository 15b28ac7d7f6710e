#!/usr/bin/env bash
# A TPU pod of Cloud TPU VMs by queued resources, from creation to the run's end.
#
#   pod.sh create            ask for the pod and wait until it is there
#   pod.sh setup             code and environment onto all of its hosts
#   pod.sh run ARGS..        launch/run.py --multihost ARGS.. on all hosts
#   pod.sh keep ARGS..       all of it, and again after each preemption, until the run succeeds
#   pod.sh once ARGS..       the same, and the pod is given back however it ends
#   pod.sh delete            give the pod back
#
# From the environment: NAME, ZONE, TYPE (for example v5litepod-256), REPOSITORY (a git address that
# the hosts can clone); RUNTIME (default v2-alpha-tpuv5-lite); REVISION (default main); MOUNT (a
# command that makes the run's folders appear on a host); SPOT=1 for preemptible chips; POLL
# (seconds, default 60). Data and work directory must be the same mounted folder on every host.
set -euo pipefail

: "${NAME:?the pod\'s name}" "${ZONE:?its zone}"
POLL=${POLL:-60}

tpu() { gcloud compute tpus "$@" --zone="$ZONE"; }

state() {
  tpu queued-resources describe "$NAME" --format='value(state.state)' 2>/dev/null || echo ABSENT
}

on_all_hosts() { tpu tpu-vm ssh "$NAME" --worker=all --command="$1"; }

create() {
  tpu queued-resources create "$NAME" --node-id="$NAME" \
    --accelerator-type="${TYPE:?the pod\'s type}" \
    --runtime-version="${RUNTIME:-v2-alpha-tpuv5-lite}" ${SPOT:+--spot}
  local now
  until now=$(state) && [[ $now == ACTIVE ]]; do
    case $now in
      FAILED | SUSPENDED | SUSPENDING | ABSENT)
        echo "pod.sh: $NAME is $now" >&2
        return 1
        ;;
    esac
    sleep "$POLL"
  done
}

setup() {
  on_all_hosts "set -e; ${MOUNT:-true}
    [ -d qwenvl ] || git clone $(printf %q "${REPOSITORY:?a git address}") qwenvl
    cd qwenvl && git fetch -q && git checkout -q $(printf %q "${REVISION:-main}")
    python3.11 -m venv .venv && .venv/bin/pip install -q --no-deps -r requirements.txt
    .venv/bin/pip install -q '.[tpu]'"
}

run() {
  on_all_hosts "cd qwenvl && .venv/bin/python launch/run.py --multihost$(printf ' %q' "$@")"
}

delete() { tpu queued-resources delete "$NAME" --force --quiet; }

keep() {
  while true; do
    if [[ $(state) != ACTIVE ]]; then
      [[ $(state) == ABSENT ]] || delete
      create || { sleep "$POLL"; continue; }
    fi
    local code=0
    setup && run "$@" || code=$?
    case $code in
      0) return ;;
      75) continue ;; # asked to end, and saved (qwenvl_jax/endings.py)
    esac
    # A pod that is still there did not lose its run to a preemption: running it again would only
    # fail again. Its state may take a moment to show what happened.
    sleep "$POLL"
    if [[ $(state) == ACTIVE ]]; then
      echo "pod.sh: the run failed on a pod that is still there" >&2
      return 1
    fi
  done
}

once() {
  trap delete EXIT
  keep "$@"
}

case ${1:-} in
  create | setup | run | keep | once | delete) "$@" ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
