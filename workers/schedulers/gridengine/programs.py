"""What runs on a system with Grid Engine: constant programs, whose data are their arguments.

Fields are separated by the unit separator: control characters in what Grid Engine prints are replaced.
"""

import shlex
from typing import Final

SEPARATOR: Final = "\x1f"

# The fields of a job, as `jobs` below prints them.
JOB_FIELDS: Final = (
    "state", "stdout", "stderr", "number", "tasks", "owner", "name", "submitted", "start_time",
    "partition", "slots", "hosts", "limit", "reason", "script", "end",
)  # fmt: skip

# Reads qstat -xml, qstat -j -xml and qconf -sq, each element or attribute on a line of its own: of the first the entries, one
# for each host of a parallel job; of the second where the files are; of the third the longest time of each queue.
_AWK: Final = r"""
BEGIN { FS = "[<>]"; count = split(wanted, ids, " ") }
function text(value) {
  gsub(/&lt;|%lt;/, "<", value); gsub(/&gt;/, ">", value); gsub(/&quot;/, "\"", value); gsub(/&apos;/, "\047", value)
  gsub(/&amp;/, "\\&", value); gsub(/[\001-\037\177]/, "?", value)
  return value
}
function seconds(time,   parts, total, i) {
  if (time ~ /INFINITY/) return -1
  for (i = 1; i <= split(time, parts, ":"); i++) total = total * 60 + parts[i]
  return total
}
function holds(tasks, task,   ranges, bounds, i, n) {
  task += 0
  n = split(tasks, ranges, ",")
  for (i = 1; i <= n; i++) {
    if (split(ranges[i], bounds, "[-:]") == 1 && ranges[i] + 0 == task) return 1
    if (bounds[2] != "" && task >= bounds[1] + 0 && task <= bounds[2] + 0 && (task - bounds[1]) % (bounds[3] ? bounds[3] : 1) == 0) return 1
  }
  return 0
}
function is_wanted(number, tasks,   i, parts) {
  for (i = 1; i <= count; i++) {
    split(ids[i], parts, "_")
    if (parts[1] == number && (parts[2] == "" || holds(tasks, parts[2]))) return 1
  }
  return !count
}
function put(where, name, value,   i, done) {
  while (i = index(where, name)) {
    done = done substr(where, 1, i - 1) value
    where = substr(where, i + length(name))
  }
  return done where
}
function absolute(path, number,   folder) {
  if (path == "" || path ~ /^\//) return path
  sub(/^\.\//, "", path)
  folder = path_of[number, "cwd"] == "" ? path_of[number, "home"] : path_of[number, "cwd"]
  return (folder == "/" ? "" : folder) "/" path
}
function file(e, kind, default_name,   path, n) {
  n = number[e]
  path = path_of[n, kind == "e" && merged[n] ? "o" : kind]
  if (path == "") path = default_name
  path = put(put(put(path, "$HOME", path_of[n, "home"]), "$USER", owner[e]), "$JOB_ID", n)
  path = put(put(path, "$JOB_NAME", name[e]), "$HOSTNAME", host[e])
  if (tasks[e] !~ /[-,]/) path = put(path, "$TASK_ID", tasks[e] == "" ? "undefined" : tasks[e])
  return absolute(path, n)
}
function script_of(n,   path) {
  path = path_of[n, "script"]
  if (path == "" || path == "STDIN" || path ~ /^\// || int(type[n] / 64) % 2) return path
  sub(/^\.\//, "", path)
  return path_of[n, "from"] "/" path
}
function close_entry(   key) {
  key = entry["JB_job_number"] " " entry["tasks"] " " (entry["state"] ~ /q/ ? "q" : "")
  split(entry["queue_name"], place, "@")
  if (key in known) {
    if (!((known[key], place[2]) in seen)) hosts[known[key]] = hosts[known[key]] "," place[2]
  } else {
    known[key] = ++last
    number[last] = entry["JB_job_number"]; tasks[last] = entry["tasks"]; state[last] = entry["state"]
    owner[last] = entry["JB_owner"]; name[last] = entry["full_job_name"]; start[last] = entry["JAT_start_time"]
    partition[last] = place[1] == "" ? asked : place[1]; host[last] = hosts[last] = place[2]
    slots[last] = entry["pe"] == "" ? entry["slots"] : entry["pe"]; limit[last] = entry["h_rt"]
    waits[last] = entry["predecessor_jobs"] != ""
  }
  seen[known[key], place[2]] = 1
}
/<detailed_job_info/ { detailed = 1; next }
/^qname[ \t]/ { split($0, words, " "); queue = words[2]; next }
/^h_rt[ \t]/ { split($0, words, " "); split(words[2], first, ","); longest[queue] = seconds(first[1]); next }
!detailed && $2 ~ /^job_list/ { split("", entry); asked = ""; next }
!detailed && $2 == "/job_list" { close_entry(); next }
!detailed && $2 == "hard_req_queue" { asked = asked (asked == "" ? "" : ",") text($3); next }
!detailed && $2 ~ /^hard_request name="h_rt"/ { entry["h_rt"] = seconds($3); next }
!detailed && $2 ~ /^(granted|requested)_pe / { entry["pe"] = $3; next }
!detailed { entry[$2] = text($3); next }
$2 == "JB_job_number" { job = $3; variable = ""; section = "" }
$2 == "JB_submission_time" { submitted[job] = $3 }
$2 == "JB_merge_stderr" { merged[job] = $3 == "true" }
$2 == "JB_stdout_path_list" { section = "o" }
$2 == "JB_stderr_path_list" { section = "e" }
$2 == "PN_path" && section != "" && !((job, section) in path_of) { path_of[job, section] = text($3) }
$2 == "/JB_stdout_path_list" || $2 == "/JB_stderr_path_list" { section = "" }
$2 == "JB_cwd" { path_of[job, "cwd"] = text($3) }
$2 == "JB_script_file" { path_of[job, "script"] = text($3) }
$2 == "JB_type" { type[job] = $3 }
$2 == "VA_variable" { variable = $3 }
$2 == "VA_value" && variable == "__SGE_PREFIX__O_HOME" { path_of[job, "home"] = text($3) }
$2 == "VA_value" && variable == "__SGE_PREFIX__O_WORKDIR" { path_of[job, "from"] = text($3) }
$2 == "QIM_message" { message[job] = text($3) }
END {
  for (e = 1; e <= last; e++) {
    n = number[e]
    if (!is_wanted(n, tasks[e]) || submitted[n] == "") continue
    suffix = n (tasks[e] == "" ? "" : "." (tasks[e] ~ /[-,]/ ? "$TASK_ID" : tasks[e]))
    if (partition[e] in longest && (longest[partition[e]] >= 0 || limit[e] == "")) {
      if (limit[e] == "" || limit[e] < 0 || longest[partition[e]] < limit[e]) limit[e] = longest[partition[e]]
    }
    reason = state[e] ~ /E/ ? message[n] : state[e] ~ /h/ ? (waits[e] ? "Dependency" : "JobHeldUser") : "Resources"
    out = name[e] ".o" suffix; err = name[e] ".e" suffix
    if (merged[n]) err = out
    print file(e, "o", out), out, file(e, "e", err), err, state[e], n, tasks[e], owner[e], name[e], \
      submitted[n], start[e], partition[e], slots[e], hosts[e], limit[e], reason, script_of(n), "."
  }
}
"""

# `jobs OWNER IDS` prints the jobs in the queue of an owner, or of all ("*"), with these ids if there are any: 12, or 12_3 for a task.
_JOBS: Final = (
    f"awk_jobs='{_AWK}'"
    r"""
separator=$(printf '\037')
jobs() {
  listed=$(qstat -u "$1" -g t -r -xml) || return
  {
    printf '%s\n' "$listed"
    printf '%s\n' "$listed" | awk -F '[<>]' -v wanted="$2" '
      BEGIN { count = split(wanted, ids, " "); for (i = 1; i <= count; i++) { sub(/_.*/, "", ids[i]); known[ids[i]] = 1 } }
      $2 == "JB_job_number" && (wanted == "" || $3 in known) && !seen[$3]++ { print $3 }
    ' | xargs -n 1000 | tr ' ' , | while read -r some; do [ -z "$some" ] || qstat -j "$some" -xml 2>/dev/null; done
    qconf -sq '*'
  } | awk -v OFS="$separator" -v wanted="$2" "$awk_jobs" | while IFS=$separator read -r out out_name err err_name state rest; do
    [ ! -d "$out" ] || out=${out%/}/$out_name
    [ ! -d "$err" ] || err=${err%/}/$err_name
    printf "%s$separator" "$state" "$out" "$err"
    printf '%s\n' "$rest"
  done
}
"""
)

# Prints the time, then each job, followed by the ends of its two files where they are asked for, everything with a mark behind it.
QUEUE: Final = (
    _JOBS
    + r"""
mark=$1 user=$2 wanted=$3 single=$4 bytes=$5 from=$6 to=$7
found=$(jobs "$user" "$wanted") || exit
if [ -z "$found" ] && [ -n "$single" ]; then
  qstat -u '*' -s z -xml | grep -q "<JB_job_number>$single</JB_job_number>" || qacct -j "$single" >/dev/null 2>&1 ||
    { echo "Invalid job id specified: Grid Engine knows no job $single" >&2; exit 1; }
fi
end() { [ ! -f "$1" ] || timeout 5 tail -c "$bytes" -- "$1" 2>/dev/null; printf %s "$mark"; }
date +%Y-%m-%dT%H:%M:%S
printf %s "$mark"
count=0
[ -z "$found" ] || printf '%s\n' "$found" | while IFS=$separator read -r state out err rest; do
  printf "%s$separator" "$state" "$out" "$err"
  printf '%s%s' "$rest" "$mark"
  case $state in *q*) shown= ;; *) shown=$bytes ;; esac
  [ "$count" -ge "$from" ] && [ "$count" -lt "$to" ] || shown=
  if [ -n "$shown" ]; then end "$out"; end "$err"; else printf '%s%s' "$mark" "$mark"; fi
  count=$((count + 1))
done
"""
)

_FIRST: Final = r"""jobs "$(id -un)" "$1" | head -n 1"""

# Prints a job as QUEUE does, whoever submitted it a moment ago.
SHOW: Final = f'sh -c {shlex.quote(_JOBS + _FIRST)} sh "$1"'

# Remembers, in the user's home, the jobs that Grid Engine has agreed to delete: of those that waited it keeps no record, and
# of the others none that says so. Prints what qdel says.
CANCEL: Final = (
    _JOBS
    + r"""
ids=$1; shift
trap '' HUP PIPE TERM
kept=$HOME/.firecrest/gridengine-cancelled
found=$(jobs "$(id -un)" "$ids") || exit
said=$(qdel "$@" 2>&1) && code=0 || code=$?
mkdir -p -- "$HOME/.firecrest" && {
  flock -w 10 9
  now=$(date +%s)
  {
    tail -n 2000 -- "$kept" 2>/dev/null
    [ -z "$found" ] || printf '%s\n' "$found" | while IFS= read -r line; do
      number=$(printf '%s' "$line" | cut -d "$separator" -f 4)
      printf '%s\n' "$said" | grep -Eq "has (deleted|registered) .*job(-array task)? $number([. ]|\$)" || continue
      printf '%s\n' "$now$separator$line"
    done
  } >"$kept.new" && mv -- "$kept.new" "$kept"
} 9>"$HOME/.firecrest/gridengine-lock"
printf '%s\n' "$said"
exit "$code"
"""
)

# Fields of accounting(5), behind two of them as local times, as ACCOUNTING prints them.
RECORD_FIELDS: Final = (
    "start_time", "end_time",
    "partition", "host", "owner", "name", "number", "submitted", "start", "end", "failed", "exit", "elapsed", "slots", "task",
)  # fmt: skip

# What is kept of a job when it is cancelled, behind the same time in two forms.
CANCELLED_FIELDS: Final = ("end_time", "_", "cancelled", *JOB_FIELDS)

# Prints, each with a mark behind it: from when and until when, and the time; the records of jobs that have ended; the jobs in
# the queue; the jobs cancelled through us.
ACCOUNTING: Final = (
    _JOBS
    + r"""
mark=$1 wanted=$2 from=$3 to=$4
moment() { case $1 in Y*) date -d "$(date +%Y)${1#Y}" +%s ;; *) date -d "$1" +%s ;; esac; }
with_times() {
  [ -z "$1" ] || printf '%s\n' "$1" | awk -F "$separator" -v one="$2" -v two="$3" '{ print "@" ($one + 0); print "@" ($two + 0) }' |
    date -f - +%Y-%m-%dT%H:%M:%S | paste -d "$separator" - - | paste -d "$separator" - /dev/fd/3 3<<END
$1
END
}
part() { printf '%s\n%s' "$1" "$mark"; }
records=${SGE_ROOT:-/var/lib/gridengine}/${SGE_CELL:-default}/common/accounting
kept=$HOME/.firecrest/gridengine-cancelled
if [ -n "$from" ]; then from=$(moment "$from") || exit; elif [ -n "$wanted" ]; then from=0; else from=$(moment 00:00); fi
if [ -n "$to" ]; then to=$(moment "$to") || exit; else to=$(date +%s); fi
[ "$from" -le "$to" ] || { echo 'The start time requested is after end time' >&2; exit 1; }
if [ -n "$wanted" ]; then owner='*'; else owner=$(id -un); fi
waiting=$(jobs "$owner" "$wanted") || exit
# the queue first: what ends in between is in both, and never in neither
ended=
[ ! -e "$records" ] || ended=$(awk -F : -v OFS="$separator" -v wanted="$wanted" -v owner="$owner" -v from="$from" -v to="$to" '
  BEGIN { count = split(wanted, ids, " "); for (i = 1; i <= count; i++) known[ids[i]] = 1 }
  /^#/ || NF < 36 || $(NF - 3) != "NONE" || $9 > to || $11 && $11 < from { next }
  count ? !($6 in known) && !(($6 "_" $36) in known) : $4 != owner { next }
  { gsub(/[\001-\037\177]/, "?"); print $1, $2, $4, $5, $6, $9, $10, $11, $12, $13, $14, $35, $36 }
' "$records") || exit
cancelled=
[ ! -e "$kept" ] || cancelled=$(cat -- "$kept") || exit
part "$from $to $(date +%Y-%m-%dT%H:%M:%S)"
part "$(with_times "$ended" 7 8)"
part "$waiting"
part "$(with_times "$cancelled" 1 1)"
"""
)

# Goes to the job's folder, takes the variables over, and becomes qsub, found before any of them may change PATH. A value has
# its newlines and backslashes written as printf reads them.
SUBMIT: Final = r"""
cd -- "$1" || exit
__firecrest_variables=$2 __firecrest_qsub=$(command -v qsub) || { echo 'qsub: not found' >&2; exit 127; }
shift 2
if [ -n "$__firecrest_variables" ]; then
  while IFS= read -r __firecrest_name && IFS= read -r __firecrest_value; do
    __firecrest_value=$(printf '%b.' "$__firecrest_value")
    export "$__firecrest_name=${__firecrest_value%.}"
  done <"$__firecrest_variables"
fi
exec "$__firecrest_qsub" "$@"
"""

HOSTS: Final = ("qhost", "-q", "-xml")

RESERVATIONS: Final = r"""
listed=$(qrstat -u '*' -xml) || exit
ids=$(printf '%s\n' "$listed" | sed -n 's:.*<id>\([0-9]*\)</id>.*:\1:p' | paste -s -d , -)
[ -z "$ids" ] || qrstat -ar "$ids" -xml
"""
