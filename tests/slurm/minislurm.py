"""A real Slurm on one machine, from Debian's packages, as plain processes: no systemd, no control groups, no database.

``hosts=False``: several slurmd on 127.0.0.1, which all have the name of this host. ``hosts=True``: every node, and the head, is a host of
its own, by namespaces: own name, own address (10.213.7.x, within the namespaces alone), own /dev/shm; /tmp and the rest are shared.

Daemons run in the foreground as children that get SIGTERM when this process ends, and are ended by their pids.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "libpmix2", "iproute2", "openssh-server")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "sshd")
NETWORK = "10.213.7"
CONFIGURATION = """\
ClusterName=minislurm
SlurmctldHost={head}
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={base}/munge/munge.sock
CredType=cred/munge
StateSaveLocation={base}/ctld
SlurmdSpoolDir={base}/spool.%n
SlurmctldPidFile={base}/run/slurmctld.pid
SlurmdPidFile={base}/run/slurmd.%n.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd.%n.log
TmpFS={base}/tmp.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=5
MailProg=/bin/true
PropagateResourceLimits=NONE
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def install():
    """What is missing, by apt-get. Services of the packages are kept from starting."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    if not all(shutil.which(p, path=path) for p in PROGRAMS):
        policy = Path("/usr/sbin/policy-rc.d")
        mine = not policy.exists()
        if mine:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
            apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
            subprocess.run([*apt, "update"], check=True, env=env)
            subprocess.run([*apt, "install", "-y", "--no-install-recommends", *PACKAGES], check=True, env=env, stdout=subprocess.DEVNULL)
        finally:
            if mine:
                policy.unlink()
    library = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/pmix2/lib")  # Slurm's plugin opens the name that only libpmix-dev has
    if (library / "libpmix.so.2").exists() and not (library / "libpmix.so").exists():
        (library / "libpmix.so").symlink_to("libpmix.so.2")


def can_make_hosts():
    """Whether this machine lets us make namespaces of networks, names and mounts."""
    space = f"ms{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", space], capture_output=True, check=False).returncode == 0
    probe = ["ip", "netns", "exec", space, "unshare", "--uts", "--mount", "--ipc", "--propagation", "private", "true"]
    works = made and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", space], check=False)
    return works


def free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


class MiniSlurm:
    """Use it as a context manager."""

    def __init__(self, *, nodes, cpus, hosts):
        self.hosts, self.cpus = hosts, cpus
        self.names = ["head", *(f"n{i + 1}" for i in range(nodes)), *(["laptop"] if hosts else [])]
        self.nodes = self.names[1 : nodes + 1]
        self.base = Path(tempfile.mkdtemp(prefix="minislurm-"))  # short: Unix sockets live here
        self._prefix = f"ms{os.getpid()}-"
        self._pauses = {}
        self._daemons = []
        self.env = dict(os.environ, SLURM_CONF=str(self.base / "slurm.conf"), PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")

    # -- commands

    def at(self, host, cwd=None):
        """Words before a command by which it runs on a host."""
        if not self.hosts:
            return []
        return ["nsenter", "-t", str(self._pauses[host].pid), "-n", "-u", "-m", "-i", f"--wdns={cwd or Path.cwd()}", "--"]

    def run(self, *argv, host="head", cwd=None, timeout=60, **environment):
        """A command to its end, on a host."""
        return subprocess.run(
            [*self.at(host, cwd), *map(str, argv)],
            env={**self.env, **environment},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *argv, host="head", cwd=None, **options):
        """A command beside the test."""
        return subprocess.Popen([*self.at(host, cwd), *map(str, argv)], cwd=cwd, text=True, **{"env": self.env, **options})

    # -- start

    def _daemon(self, host, *argv):
        with (self.base / "log" / f"{Path(argv[0]).name}.{host}.out").open("w") as log:
            self._daemons.append(
                self.start(
                    "setpriv", "--pdeathsig", "TERM", *argv, host=host, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )
            )  # fmt: skip

    def _ip(self, *argv):
        subprocess.run(["ip", *argv], check=True)

    def _make_hosts(self):
        switch = self._prefix + "sw"
        self._ip("netns", "add", switch)
        self._ip("-n", switch, "link", "add", "br0", "type", "bridge")
        self._ip("-n", switch, "link", "set", "br0", "up")
        known = "127.0.0.1 localhost\n" + "".join(f"{NETWORK}.{10 + i} {name}\n" for i, name in enumerate(self.names))
        for i, name in enumerate(self.names):
            space = self._prefix + name
            self._ip("netns", "add", space)
            self._ip("-n", space, "link", "set", "lo", "up")
            self._ip("-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", "v" + name, "netns", switch)
            self._ip("-n", switch, "link", "set", "v" + name, "master", "br0", "up")
            self._ip("-n", space, "addr", "add", f"{NETWORK}.{10 + i}/24", "dev", "eth0")
            self._ip("-n", space, "link", "set", "eth0", "up")
            etc = Path("/etc/netns") / space
            etc.mkdir(parents=True, exist_ok=True)
            (etc / "hosts").write_text(known)  # `ip netns exec` lays it over /etc/hosts
            ready = self.base / f"ready.{name}"
            script = (
                f"hostname {name} && mount -t tmpfs -o mode=1777 tmpfs /dev/shm && : > {ready}; "
                "exec setpriv --pdeathsig KILL sleep infinity"
            )
            self._pauses[name] = subprocess.Popen(  # keeps the namespaces
                ["ip", "netns", "exec", space, "unshare", "--uts", "--mount", "--ipc", "--propagation", "private", "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._until(lambda: all((self.base / f"ready.{name}").exists() for name in self.names), 10, "namespaces")

    def __enter__(self):
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def _begin(self):
        base = self.base
        base.chmod(0o755)
        for name in ("ctld", "log", "run", "munge", "ssh", *(f"{kind}.{n}" for kind in ("spool", "tmp") for n in self.nodes)):
            (base / name).mkdir()
        (base / "munge").chmod(0o700)
        if self.hosts:
            self._make_hosts()
        here = socket.gethostname().partition(".")[0]
        port, self._ssh_port, *ports = free_ports(len(self.names) + 1)
        shape = f"CPUs={self.cpus} Sockets=1 CoresPerSocket={self.cpus} ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN"
        nodes = [
            f"NodeName={name} {shape}" if self.hosts else f"NodeName={name} NodeHostname={here} NodeAddr=127.0.0.1 Port={at} {shape}"
            for name, at in zip(self.nodes, ports, strict=False)
        ]
        head = "head" if self.hosts else f"{here}(127.0.0.1)"
        (base / "slurm.conf").write_text(CONFIGURATION.format(base=base, head=head, port=port, nodes="\n".join(nodes)))
        (base / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # its default looks for what is not mounted here
        key, door = base / "munge" / "munge.key", base / "munge" / "munge.sock"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = (f"--key-file={key}", f"--socket={door}", f"--log-file={base}/munge/munged.log", f"--pid-file={base}/run/munged.pid")
        self._daemon("head", "munged", "-F", "--force", *files, f"--seed-file={base}/munge/munged.seed")
        self._until(door.exists, 10, "munged")
        self._daemon("head", "slurmctld", "-D", "-c", "-f", base / "slurm.conf")
        self._start_sshd()
        for name in self.nodes:
            self._daemon(name, "slurmd", "-D", *([] if self.hosts else ["-N", name]), "-f", base / "slurm.conf")
        idle = ("sinfo", "-h", "-t", "idle", "-o", "%D")
        self._until(lambda: self.run(*idle, timeout=20).stdout.strip() == str(len(nodes)), 30, "idle nodes")

    def _start_sshd(self):
        """One on the head, and on nodes that are hosts, for `ssh head` with the configuration that `ssh` gives."""
        folder = self.base / "ssh"
        folder.chmod(0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        for name in ["head", *(self.nodes if self.hosts else [])]:
            config = folder / f"sshd_config.{name}"
            config.write_text(
                f"ListenAddress {self._address(name)}:{self._ssh_port}\nHostKey {folder}/host\nUsePAM no\n"
                f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nPermitRootLogin prohibit-password\nPidFile {folder}/pid.{name}\n"
                "AcceptEnv MPICLUSTER_STATE_DIR\n"
            )
            self._daemon(name, shutil.which("sshd", path=self.env["PATH"]), "-D", "-e", "-f", config)

    def _address(self, name):
        return f"{NETWORK}.{10 + self.names.index(name)}" if self.hosts else "127.0.0.1"

    def ssh(self, folder, state):
        """A folder for PATH, in which `ssh` knows the hosts, where the user's clusters are below another folder."""
        config = folder / "ssh_config"
        places = "".join(f"Host {name}\nHostName {self._address(name)}\n" for name in ["head", *(self.nodes if self.hosts else [])])
        config.write_text(
            f"{places}Host *\nPort {self._ssh_port}\nUser root\n"
            f"IdentityFile {self.base}/ssh/user\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n"
            f"LogLevel ERROR\nBatchMode yes\nSetEnv MPICLUSTER_STATE_DIR={state}\n"
        )
        program = folder / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
        program.chmod(0o755)
        return program.parent

    def _until(self, condition, timeout, what):
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"== {p}\n{p.read_text(errors='replace')[-1500:]}" for p in sorted((self.base / "log").glob("*.log")))
                raise TimeoutError(f"no {what} within {timeout} s\n{logs}")
            time.sleep(0.05)

    # -- end

    def clear(self):
        """Cancel all jobs, and wait until they have gone."""
        self.run("scancel", "--quiet", "--full", "--user=root")
        self._until(lambda: not self.run("squeue", "-h").stdout.strip(), 30, "end of all jobs")

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.TimeoutExpired, TimeoutError):
            self.clear()
        self._end()

    def _end(self):
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for name, pause in self._pauses.items():
            pause.send_signal(signal.SIGKILL)
            pause.wait()
            subprocess.run(["ip", "netns", "del", self._prefix + name], check=False)
            shutil.rmtree(f"/etc/netns/{self._prefix}{name}", ignore_errors=True)
        if self._pauses:
            subprocess.run(["ip", "netns", "del", self._prefix + "sw"], check=False)
        shutil.rmtree(self.base, ignore_errors=True)
