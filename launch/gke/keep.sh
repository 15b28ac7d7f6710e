#!/usr/bin/env bash
# A JobSet from its manifest until it has ended; the exit status is the run's.
#
#   keep.sh MANIFEST.yaml
#
# Given again it goes on with the set that is there; one that failed is deleted and made anew.
# POLL: seconds between two looks (default 60).
set -euo pipefail
manifest=${1:?the manifest of a JobSet}

# Completed or Failed, once it has ended.
conditions() {
  kubectl get -f "$manifest" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}'
}

[[ " $(conditions 2>/dev/null) " != *" Failed "* ]] || kubectl delete -f "$manifest"
kubectl apply -f "$manifest"
while true; do
  case " $(conditions) " in
    *" Completed "*) exit 0 ;;
    *" Failed "*)
      echo "keep.sh: the JobSet of $manifest has failed" >&2
      exit 1
      ;;
  esac
  sleep "${POLL:-60}"
done
