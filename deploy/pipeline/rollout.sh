#!/bin/sh
# rollout.sh restarts services by a plan, after a release was installed: a canary, an observation with a check, then the rest as fast as the
# budgets allow. It is one step of a pipeline; the cluster does the work, and goes on when the pipeline's machine goes away.
#
#   SERVICES=orders REASON="release 42" CHECK='./errors-are-low' ./rollout.sh
#
# Exit codes: 0 all restarted; 77 the plan failed (a check, a lost instance, the deadline), what is not yet restarted runs the old release;
# 78 somebody cancelled it; 75 this script was interrupted: the plan waits after its canary; anything else as in quiesce help exit-codes.
set -eu

: "${QUIESCE_ADDRS:?addresses of the cluster}"
: "${SERVICES:?services to restart, separated by commas}"
: "${CHECK:?a command that fails when the canary is bad}"
CANARY=${CANARY:-5%}
OBSERVE=${OBSERVE:-20m}
CHECK_EVERY=${CHECK_EVERY:-30s}
CHECK_TIMEOUT=${CHECK_TIMEOUT:-30s}
WAVE=${WAVE:-}              # a number or a percentage at a time; empty: as many as the budget has room for
HALT_AFTER=${HALT_AFTER:-1}
DEADLINE=${DEADLINE:-4h}
REASON=${REASON:-rollout}

set -- --service "$SERVICES" --canary "$CANARY" --observe "$OBSERVE" --halt-after "$HALT_AFTER" --deadline "$DEADLINE" --reason "$REASON"
if [ -n "$WAVE" ]; then
	set -- "$@" --wave "$WAVE"
fi

quiesce plan new "$@" --dry-run

code=0
quiesce plan new "$@" --check "$CHECK" --check-every "$CHECK_EVERY" --check-timeout "$CHECK_TIMEOUT" || code=$?
case $code in
0) echo "rollout.sh: $SERVICES restarted" ;;
77) echo "rollout.sh: stopped; install the old release and run this again to bring back what was restarted" >&2 ;;
esac
exit $code
