#!/bin/sh
# roll.sh replaces the pods of a StatefulSet of updateStrategy OnDelete, one ticket after the other: a pod is deleted when its service's budget
# has room and it has begun to drain, so that it leaves the endpoints in its own time. Several may run at once: the budget is the cluster's.
#
#   kubectl set image statefulset/orders orders=orders:42 && ./roll.sh orders "release 42"
set -eu
service=${1:?name of the service and of its StatefulSet}
reason=${2:?reason}
within=${WITHIN:-30m} # for one ticket

for pod in $(kubectl get pods -l "app=$service" -o jsonpath='{.items[*].metadata.name}'); do
	quiesce drain "$service/$pod" --intent restart --reason "$reason" --wait=granted --within "$within"
	kubectl delete pod "$pod" --wait=false
done
# The last one is through when its successor has settled: then no place of the budget is taken.
until quiesce services "$service" -o json | grep -q '"unavailable": 0,'; do
	sleep 2
done
