#!/bin/sh
# What a user does with the gateway, with the unmodified pyfirecrest CLI: `./run demo` starts everything first.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
. ./.site/client.env
PATH=$PWD/.venv/bin:$PATH
COLUMNS=${COLUMNS:-120}
export COLUMNS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

show() { printf '\n$ %s\n' "$*"; "$@"; }
field() { python -c 'import json, sys; data = json.load(sys.stdin); print((data[0] if isinstance(data, list) else data)[sys.argv[1]])' "$1"; }

cat >"$work/job.sh" <<'JOB'
#!/bin/bash
#SBATCH --job-name=demo --partition=normal --nodes=3 --time=00:05:00
echo "job $SLURM_JOB_ID of $(id -un) on $SLURM_JOB_NODELIST"
srun --label sh -c 'echo "this is $SLURMD_NODENAME, task $SLURM_PROCID of $SLURM_NTASKS"'
sleep 3
echo "done at $(date)"
JOB

show firecrest systems
printf '\n$ cat job.sh\n'
cat "$work/job.sh"
printf '\n$ firecrest submit job.sh\n'
firecrest submit "$work/job.sh" >"$work/submitted"
cat "$work/submitted"
job=$(field jobid <"$work/submitted")
output=$(field job_file_out <"$work/submitted")

printf '\n$ firecrest poll %s\n' "$job"
state=
for _ in $(seq 60); do
  now=$(firecrest poll --json "$job" | field state) || now=
  [ "$now" = "$state" ] || printf '%s\n' "${now:-(not in the accounting yet)}"
  state=$now
  case $state in COMPLETED | FAILED | CANCELLED* | TIMEOUT | NODE_FAIL) break ;; esac
  sleep 0.5
done
[ "$state" = COMPLETED ] || { echo "the job did not complete" >&2; exit 1; }
show firecrest poll "$job"
show firecrest head "$output"

fact() { python -c 'import json; print(json.load(open(".site/site.json"))["urls"]["'"$1"'"])'; }
cat <<TEXT

The servers keep running until   ./run stop
  the API and its Swagger UI     $FIRECREST_URL/
  Flower                         $(fact flower)/   login in .site/keys/flower.login
  a second system, Grid Engine   firecrest submit --system ridge job.sh
Use pyfirecrest as the same user, or get a token and use curl:
  . ./.site/client.env; PATH=\$PWD/.venv/bin:\$PATH; firecrest ls /home/fcalice
  TOKEN=\$(curl -s -d grant_type=client_credentials -d client_id=\$FIRECREST_CLIENT_ID -d client_secret=\$FIRECREST_CLIENT_SECRET \\
    \$AUTH_TOKEN_URL | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
  curl -H "Authorization: Bearer \$TOKEN" -H "X-Machine-Name: $FIRECREST_SYSTEM" "\$FIRECREST_URL/utilities/ls?targetPath=/home/fcalice"
TEXT
