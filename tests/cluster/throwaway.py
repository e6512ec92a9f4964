"""A SLURM of one's own on this machine, in a folder, as root: munged, slurmctld, and a slurmd a pretended node."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = "munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "srun"
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
CONFIGURATION = """
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
ReturnToService=2
OverTimeLimit=0
KillWait=10
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=30
PartitionName=abrupt Nodes=ALL PriorityTier=1 GraceTime=0
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""


def lacking() -> str:
    """Return why there can be no such cluster here, or ""."""
    absent = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if absent:
        return f"{', '.join(absent)} are not installed (Debian: apt install slurm-wlm)"
    return "" if os.geteuid() == 0 else "only root can start it here"


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for each in sockets:
        each.close()
    return ports


class Slurm:
    """Its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history: list[str] = []
        """What became of jobs that were waited for, a line a change."""
        self.env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}

    def __call__(self, *command: object, cwd: Path | None = None) -> str:
        line = [str(part) for part in command]
        done = subprocess.run(line, capture_output=True, text=True, env=self.env, timeout=60, cwd=cwd)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """Return what is known of a job, such as JobState and Restarts."""
        return dict(re.findall(r"(\S+?)=(\S*)", self("scontrol", "show", "job", "--oneliner", number)))

    def wait(self, number: str, states: set[str], seconds: float = 150) -> dict[str, str]:
        """Wait until a job is in one of some states, and return what is known of it."""
        end = time.monotonic() + seconds
        while (job := self.job(number))["JobState"] not in states:
            assert time.monotonic() < end, (states, job)
            time.sleep(0.5)
        told = [f"{key}={job[key]}" for key in ("JobId", "JobState", "Reason", "Restarts", "StartTime", "EndTime")]
        self.history.append(" ".join([time.strftime("%T"), *told]))
        return job

    def hurry(self, number: str) -> None:
        """Let a job that was queued again begin in seconds; sooner, its nodes take it for the one that ended."""
        self("scontrol", "update", f"JobId={number}", "StartTime=now+10")


@contextmanager
def throwaway(folder: Path) -> Iterator[Slurm]:
    """Start it, and end it with all of its jobs.

    Raises:
        RuntimeError: if it does not start; with the end of what its daemons said.
    """
    folder.mkdir(mode=0o700)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = CONFIGURATION.format(host=socket.gethostname(), ports=free_ports(3), folder=folder)
    (folder / "slurm.conf").write_text(configuration)
    slurm = Slurm(folder)
    named = [f"--{option}={folder}/munge.{option}" for option in ("socket", "pid-file", "log-file", "seed-file")]
    lines = [["munged", "--foreground", "--force", f"--key-file={key}", *named], ["slurmctld", "-D"]]
    lines += [["slurmd", "-D", "-N", node] for node in ("n1", "n2")]
    said = (folder / "daemons.log").open("w")
    daemons = []
    try:
        for line in lines:
            daemons.append(subprocess.Popen(line, env=slurm.env, stdout=said, stderr=said))
            time.sleep(0.5)
        for _ in range(60):
            time.sleep(0.5)
            shown = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, env=slurm.env).stdout
            if shown.split() and set(shown.split()) == {"idle"}:
                break
        else:
            raise RuntimeError("SLURM does not start: " + (folder / "daemons.log").read_text()[-1000:])
        yield slurm
    finally:
        subprocess.run(["scancel", "--user=root"], env=slurm.env, capture_output=True)
        for _ in range(40):
            if not subprocess.run(["squeue", "-h"], env=slurm.env, capture_output=True).stdout:
                break
            time.sleep(0.5)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(20)
        said.close()
