"""A study as a SLURM job: the script for sbatch, on one node, on several with Ray inside, or as an array that grows."""

import json
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from record.folders import elsewhere
from record.resources import Resources
from record.study import Study, StudyError

LIMIT = re.compile(r"(?:(\d+)-)?(\d{1,2}):(\d\d):(\d\d)")
NOTICE = 120
"""Most seconds before the time limit at which a job is told to stop; SLURM may do so half a minute earlier."""


def script(
    study: Study, search: Sequence[str], folder: Path, *, nodes: int = 1, array: int = 0, limit: str = "04:00:00"
) -> str:
    """Return the script that runs a study under SLURM, in bash, for sbatch.

    At its time limit the job stops cleanly, goes back into the queue and continues, until the study is done.

    Args:
        study: to run; `resources` says what the job asks for.
        search: the command that runs it: Python, run_search.py, the study file and the overrides.
        folder: where that command is to run; the nodes have to share it, and the run folder.
        nodes: of the job; several, or a study with `measure_on`, run a Ray cluster inside.
        array: tasks of a job array, a node each, that join one Ray cluster as SLURM starts them; 0 is no array.
        limit: of the time of the job, as HH:MM:SS or D-HH:MM:SS.

    Raises:
        StudyError: if the study does not fit such a job.
    """
    resources, shares = study.resources, array or nodes
    if nodes > 1 and array:
        raise StudyError("give one of --nodes, several at once, and --array, as many as there are.")
    if shares > resources.concurrent * resources.workers:
        raise StudyError(f"resources.concurrent={resources.concurrent} leaves nodes idle; set it to {shares} or more.")
    if resources.address is not None:
        raise StudyError(
            f"resources.address={resources.address}: the job brings its own Ray cluster; leave resources.address out."
        )
    clustered = nodes > 1 or array > 0 or bool(resources.measure_on)
    wanted = {"cpus-per-task": cpus(resources, shares), "gpus-per-node": gpus(resources, shares)}
    body = f"cd {shlex.quote(str(folder))} || exit\nsearch=({shlex.join(search)})\n"
    body += f"folder={shlex.quote(str(study.local))}\n{ARRAY_NAMES if array else NAMES}{WAITING}"
    if clustered:
        body += f"{ray(search[0], resources, wanted)}{RAY}"
    body += ARRAY if array else NODES if clustered else NODE
    body += TRAINED_ELSEWHERE if elsewhere(study.runs) else TRAINED
    return f"{header(study.name, nodes, array, limit, wanted)}\n{body}{ENDING.lstrip()}"


def cpus(resources: Resources, shares: int) -> int:
    """Return the CPUs of a node that has its share of the workers."""
    return math.ceil(math.ceil(resources.concurrent * resources.workers / shares) * resources.cpus)


def gpus(resources: Resources, shares: int) -> int:
    """Return the GPUs of a node that has its share of the workers, and of them one that measures."""
    if not resources.gpus:
        return 0
    each = int(1 / resources.gpus + 1e-9)
    return math.ceil(math.ceil(resources.concurrent * resources.workers / shares) / each) + bool(resources.measure_on)


def notice(limit: str) -> int:
    """Return how many seconds before its time limit a job is told to stop: a quarter of it, and two minutes at most.

    Raises:
        StudyError: if that is no time limit.
    """
    found = LIMIT.fullmatch(limit)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0, 0)
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total < 60:
        raise StudyError(f"--time={limit}: give a minute or more as HH:MM:SS or D-HH:MM:SS, such as 04:00:00.")
    return min(NOTICE, total // 4)


def header(name: str, nodes: int, array: int, limit: str, wanted: dict[str, int]) -> str:
    """Return what sbatch reads."""
    options = {
        "job-name": name,
        "output": f"{name}-%{'A_%a' if array else 'j'}.log",
        "open-mode": "append",
        "requeue": "",
        "time": limit,
        "signal": f"B:TERM@{notice(limit)}",
        **({"array": f"0-{array - 1}"} if array else {}),
        "nodes": nodes,
        "ntasks-per-node": 1,
        **{key: value for key, value in wanted.items() if value},
    }
    lines = [f"#SBATCH --{key}={value}" if value != "" else f"#SBATCH --{key}" for key, value in options.items()]
    return "\n".join(["#!/bin/bash", *lines, *TEACHING])


def ray(python: str, resources: Resources, wanted: dict[str, int]) -> str:
    """Return the command that starts Ray on a node, and what the node that measures has besides."""
    start = [python, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    start += ["--min-worker-port=0", "--max-worker-port=0"]  # any: jobs may share a node
    start += [f"--num-cpus={wanted['cpus-per-task']}", f"--num-gpus={wanted['gpus-per-node']}"]
    first = [f"--resources={json.dumps(resources.measure_on)}"] if resources.measure_on else []
    return f"ray=({shlex.join(start)})\nfirst=({shlex.join(first)})\n"


TEACHING = (
    "# Submit it with sbatch. Options given to sbatch count before those above, and a site may need some, such as",
    "#   sbatch --partition=gpu --account=mine --mem=32G --time=12:00:00 FILE",
    "# squeue --me shows the job, and scancel ends it for good. Submitted again, it continues where it was.",
    "# The run folder has to be where every node sees it.",
)

NAMES = "self=$SLURM_JOB_ID\n"
ARRAY_NAMES = "self=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\n"

WAITING = """\
most=5 # starts in a row of which nothing may come

# A line a start since something was last trained.
mkdir -p "$folder" || exit
starts=$folder/slurm-$self.starts
echo >> "$starts"

told=0 code='' child=''
# SLURM tells this shell alone that the time is nearly over; the search, told in turn, puts itself away in seconds.
trap 'told=$((told + 1)); [ -z "$child" ] || kill -TERM "$child" 2> /dev/null' TERM

# Run a command in the background, so that the trap is heard at once, and wait for its end, however often that is told.
run() {
    if [ "$told" -gt 0 ]; then code=143; return; fi
    "$@" &
    child=$!
    until heard=$told; wait "$child"; code=$?; [ "$heard" = "$told" ]; do :; done
    child=''
}
"""

NODE = """
run "${search[@]}"
"""

RAY = """\
# What works without a GPU still sees those of its node.
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0
# A node whose head is gone leaves after so many seconds.
export RAY_gcs_rpc_server_reconnect_timeout_s=15

# Where Ray keeps its logs and sockets, apart from those of other jobs on a node.
scratch=/tmp/repmlp-$SLURM_JOB_ID

# Start the head of a Ray cluster on this node, where SLURM reaches it, and wait until it answers.
lead() {
    host=$(scontrol show node "$SLURMD_NODENAME" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
    host=$(getent ahostsv4 "$host" | awk '{print $1; exit}')
    port=$((20000 + SLURM_JOB_ID % 10000))
    "${ray[@]}" --temp-dir="$scratch" --head "${first[@]}" --include-dashboard=false \\
        --node-ip-address="$host" --port="$port" > /dev/null &
    head=$!
    until (: > "/dev/tcp/$host/$port") 2> /dev/null; do
        kill -0 "$head" 2> /dev/null || { echo 'Ray did not start.' >&2; exit 1; }
        sleep 1
    done
}
"""

NODES = """
lead
others=$((SLURM_JOB_NUM_NODES - 1)) joined=''
there=(srun --nodes="$others" --ntasks="$others" --cpus-per-task="$SLURM_CPUS_PER_TASK" --exclude="$SLURMD_NODENAME")
if [ "$others" -gt 0 ]; then
    "${there[@]}" "${ray[@]}" --temp-dir="$scratch" --address="$host:$port" > /dev/null &
    joined=$!
fi
run "${search[@]}" resources.backend=ray resources.address="$host:$port"
kill -TERM ${joined:+"$joined"} "$head" 2> /dev/null
wait ${joined:+"$joined"} "$head"
[ -z "$joined" ] || "${there[@]}" rm -rf "$scratch"
rm -rf "$scratch"
"""

ARRAY = """
# The task that has the lock leads: it runs the search, and the others work for it. Once it ends, another one leads.
board=$folder/slurm-$SLURM_ARRAY_JOB_ID.head # its address
exec 9>> "$folder/slurm.lock"
until [ -n "$code" ]; do
    if flock --nonblock 9; then
        lead 9>&-
        echo "$host:$port" > "$board"
        run "${search[@]}" resources.backend=ray resources.address="$host:$port" 9>&-
        rm -f "$board"
        kill -TERM "$head" 2> /dev/null
        wait "$head"
        if [ "$code" != 143 ] && [ "$code" != 75 ]; then # nothing is left to do
            squeue --noheader --array --jobs="$SLURM_ARRAY_JOB_ID" --format=%i | grep -vx "$self" | xargs -r scancel
        fi
    else
        [ ! -s "$board" ] || run "${ray[@]}" --temp-dir="$scratch" --address="$(< "$board")" > /dev/null 9>&-
        run sleep 5 9>&-
        if [ "$told" -gt 0 ]; then code=143; else code=''; fi
    fi
    rm -rf "$scratch"
done
"""

TRAINED = """
[ -z "$(find "$folder"/*/ -type f -newer "$starts" -print -quit 2> /dev/null)" ] || : > "$starts" # checkpoints, weights
"""
TRAINED_ELSEWHERE = """
: > "$starts" # what is trained lies elsewhere, and is not looked for
"""
ENDING = """
# 143: told to stop; 75: the disk is full or the storage gone. A job that runs for SLURM even now was told of its time
# limit, or of a preemption to come, and goes back into the queue. One that was cancelled does not, and one that is
# preempted at once, SLURM itself puts back.
if [ "$code" = 143 ] || [ "$code" = 75 ]; then
    if [ "$(squeue --noheader --jobs="$self" --format=%T)" != RUNNING ]; then
        echo 'Ended by SLURM.'
    elif [ "$(wc -l < "$starts")" -ge "$most" ]; then
        echo "Nothing was trained in $most starts: not once more. Its time may be too short for an epoch; see --time."
    elif [ "$code" = 75 ] && [ "$SECONDS" -lt 600 ]; then
        echo "Held; once that is mended: scontrol release $self"
        scontrol requeuehold "$self"
    else
        echo 'Back into the queue.'
        scontrol requeue "$self"
    fi
else
    rm -f "$starts"
fi
exit "$code"
"""
