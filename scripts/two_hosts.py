"""Two hosts on one machine: network namespaces with addresses of their own, joined by a cable.

    sudo python scripts/two_hosts.py                  # the walk-through of docs/many-machines.md
    sudo python scripts/two_hosts.py --jobs shards    # only its first part

What runs in a namespace sees its own network interface and address, as on a host of its own; the
two share the file system, as hosts do with a network drive. Needs Linux, root and `ip` (iproute2).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = str(ROOT / "examples" / "many_machines.py")
PORT = 29500


@dataclass(frozen=True, kw_only=True)
class Host:
    """A network namespace.

    Attributes:
        name: Of the namespace.
        interface: Its end of the cable.
        address: IPv4.
    """

    name: str
    interface: str
    address: str

    def start(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a command on this host, as the leader of a session of its own."""
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": self.interface,  # the interface that other hosts can reach
        }
        with log.open("ab") as stream:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def bytes_sent(self) -> int:
        """Return how much has gone out over the cable."""
        command = ["ip", "-n", self.name, "-s", "-j", "link", "show", "dev", self.interface]
        shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return int(shown[0]["stats64"]["tx"]["bytes"])


def run(*command: str) -> None:
    """Run a command that has to succeed."""
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make two hosts and a cable between them; take both away at the end."""
    tag = f"mm{os.getpid() % 100000}"
    one = Host(name=f"{tag}-a", interface=f"{tag}a", address="10.83.0.1")
    two = Host(name=f"{tag}-b", interface=f"{tag}b", address="10.83.0.2")
    try:
        for host in (one, two):
            run("ip", "netns", "add", host.name)
        run("ip", "link", "add", one.interface, "netns", one.name, "type", "veth",
            "peer", "name", two.interface, "netns", two.name)  # fmt: skip
        for host in (one, two):
            run("ip", "-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.interface)
            run("ip", "-n", host.name, "link", "set", host.interface, "up")
            run("ip", "-n", host.name, "link", "set", "lo", "up")
        yield one, two
    finally:
        for host in (one, two):
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)


def launch(hosts: list[Host], *job: str, logs: Path) -> list[subprocess.Popen[bytes]]:
    """Start torchrun on each host, one rank on each, that meet at the first one."""
    meet = ["--master-addr", hosts[0].address, "--master-port", str(PORT)]
    started = []
    for number, host in enumerate(hosts):
        ranks = ["--nnodes", str(len(hosts)), "--node-rank", str(number), "--nproc-per-node", "1"]
        command = [sys.executable, "-m", "torch.distributed.run", *ranks, *meet, *job]
        started.append(host.start(*command, log=logs / f"{host.name}.log"))
    return started


def kill(process: subprocess.Popen[bytes]) -> None:
    """Take a host's power away: kill torchrun and what it has started."""
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    for pid in [*map(int, children.stdout.split()), process.pid]:
        with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
            os.kill(pid, signal.SIGKILL)
    process.wait()


def finish(processes: list[subprocess.Popen[bytes]], timeout: float = 300.0) -> list[int]:
    """Wait for all, and return their exit codes; kill what does not end."""
    try:
        return [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                kill(process)


def shards(one: Host, two: Host, out: Path, steps: int) -> None:
    """FSDP2 on both hosts; the second one dies; the first one goes on alone."""
    job = [EXAMPLE, "--out", str(out / "shared"), "--steps", str(steps)]
    both = launch([one, two], *job, logs=out)
    deadline = time.monotonic() + 300
    while not list(out.glob("shared/step-*/.metadata")):
        if any(process.poll() is not None for process in both) or time.monotonic() > deadline:
            for process in both:
                kill(process)
            sys.exit("the run ended before its first checkpoint:\n" + tail(out))
        time.sleep(0.02)
    kill(both[1])
    codes = finish([both[0]])
    print(f"{two.name} is dead, torchrun on {one.name} ends with {codes[0]}")
    print(f"sent over the cable: {one.bytes_sent():,} and {two.bytes_sent():,} bytes")
    if codes[0] == 0:
        sys.exit("the first host has not noticed")
    if finish(launch([one], *job, logs=out)) != [0]:
        sys.exit("the first host could not go on alone:\n" + tail(out))


def replicas(one: Host, two: Host, out: Path, steps: int) -> None:
    """The main job on both hosts, by DistributedDataParallel."""
    job = ["-m", "mirrormask", "train", "--data", "digits", "--model", "mlp", "--epochs", "3"]
    job += ["--batch-size", "64", "--out", str(out / "train")]
    if finish(launch([one, two], *job, logs=out)) != [0, 0]:
        sys.exit("mirrormask train failed:\n" + tail(out))


def tail(out: Path) -> str:
    """Return the last lines of each host's log."""
    return "\n".join("\n".join(log.read_text().splitlines()[-15:]) for log in out.glob("*.log"))


JOBS = {"shards": shards, "replicas": replicas}


def main() -> None:
    """Run the walk-through."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", choices=JOBS, nargs="+", default=list(JOBS))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=None, help="a new folder by default")
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="two-hosts-"))
    out.mkdir(parents=True, exist_ok=True)
    with two_hosts() as (one, two):
        for name in options.jobs:
            JOBS[name](one, two, out, options.steps)
    print((out / f"{one.name}.log").read_text())
    print(f"Folder: {out}")


if __name__ == "__main__":
    main()
