#!/usr/bin/env bash
# What to do with a cluster that has just started: next-steps.sh NAME PROGRAM.
set -euo pipefail

down="make down"
named=""
if [ "$1" != local ]; then
    down="make down NAME=$1"
    named=" --name $1"
fi
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo "
cat <<END

Next:
  kubectl get nodes
  kubectl create deployment web --image=localhost/ripstop/toolbox:1 --replicas=6
  kubectl get pods -o wide
  $sudo$2 check$named        # proves the network, end to end
  $down                      # takes it all out again
END
if ! command -v kubectl >/dev/null; then
    echo
    echo "There is no kubectl here yet: see https://kubernetes.io/docs/tasks/tools/"
fi
