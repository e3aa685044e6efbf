#!/bin/sh
# A site's own command for reservations: keeps them as files in the folder that is its first argument.
cd "$1" || exit
shift
record() { printf 'ReservationName=%s StartTime=%s EndTime=%s NodeCnt=%s Features=%s Accounts=%s TRES=cpu=2\n' "$@" >"$1"; }
case $7$2 in
  slow*) exec sleep 60 ;;
  forbidden*) echo 'rsvmgmt: Error: only a SystemAdministrator may do this' >&2; exit 1 ;;
  wrong*) echo 'timeout: rsvmgmt: Error: Error in the nodes: too many' >&2; exit 3 ;;
esac
case $1 in
  -l) [ -n "$(ls)" ] || { echo 'No reservations in the system'; exit; }; cat -- * ;;
  -a) record "$7" "$5" "$6" "$3" "$4" "$2" && echo "added $7 for $2" ;;
  -u) [ -f "$2" ] || { echo "rsvmgmt: there is no $2"; exit 1; }; record "$2" "$5" "$6" "$3" "$4" kept && echo "changed $2" ;;
  -d) rm -- "$2" ;;
esac
