"""The site as a whole: started in the order of its dependencies, stopped in the opposite one, removed."""

import graphlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import ceph_cluster
import facts
import gateway
import gridengine_cluster
import issuer
import leftovers
import people
import redis_server
import slurm_cluster
import ssh_server
import swift_cluster
from commands import run
from documents import write_documents
from facts import Site
from folders import held, removed
from layout import REPOSITORY, SITES, Layout
from program import Program
from rendering import render
from supervision import ENDED, Supervisor
from trouble import SiteError

PATIENCE = 90  # seconds for one program to answer
Say = Callable[[str], None]


class Centre:
    """One site, and what can be done to it."""

    def __init__(self, layout: Layout, say: Say) -> None:
        """The site of this layout; `say` is told of progress."""
        self._layout = layout
        self._say = say
        self._supervisor = Supervisor(layout)
        self._given_up = threading.Event()

    def start(self, *, with_gateway: bool, with_swift: bool, with_tls: bool, for_tests: bool) -> Site:
        """Start what does not run yet and return when all of it answers; gateways, and Swift, only if asked for."""
        with held(self._layout.state):
            with held(SITES):  # users, and ports not in use yet, are shared with other sites
                people.ensure_users()
                site = self._prepared(for_tests=for_tests)
            servers = _servers(site)
            others = [*([site.gateway_on_swift] if with_swift else []), *([site.gateway_on_tls] if with_tls else [])]
            gateways = [*gateway.programs(site), *(program for one in others for program in gateway.programs_on(one, site))]
            optional = [*(swift_cluster.programs(site) if with_swift else ()), *(gateways if with_gateway else ())]
            self._supervisor.start(_programs(site))
            self._bring_up([*servers, *optional])
        return site

    def stop(self) -> None:
        """Stop everything, jobs and sessions included."""
        if not self._written:
            return
        with held(self._layout.state):
            self._stop(facts.site(self._layout, settled=True))

    def status(self) -> dict[str, str]:
        """The state of every program; empty when nothing runs."""
        return self._supervisor.states() if self._supervisor.runs else {}

    def clean(self) -> None:
        """Stop, and remove all that the site made on this machine."""
        self.stop()
        if not SITES.exists():
            return
        with held(SITES):
            shutil.rmtree(self._layout.state, ignore_errors=True)
            if self._layout.link.is_symlink():
                self._layout.link.unlink()
            if not any(SITES.iterdir()):
                people.remove_users()
                removed(ssh_server.SEPARATION)
                removed(gridengine_cluster.MUNGE)
                SITES.rmdir()

    def rotate_issuer_key(self) -> str:
        """Have the issuer sign with a new key, its earlier ones still published; returns the key's id."""
        if not self._supervisor.runs:
            raise SiteError("the site does not run")
        with held(self._layout.state):
            site = facts.site(self._layout, settled=True)
            name = issuer.add_key(site)
            self._supervisor.stop_program("issuer")
            self._bring_up(issuer.programs(site))
        return name

    @property
    def _written(self) -> bool:
        return (self._layout.state / "site.json").exists()

    def _stop(self, site: Site) -> None:
        watched = leftovers.leftovers(site)
        watched += leftovers.descendants([process.pid for process in watched])
        if self._supervisor.runs:
            self._cancel_jobs(site)
            known = self._supervisor.states()
            self._take_down([program for program in _programs(site) if program.name in known])
            self._supervisor.stop()
        leftovers.end({*watched, *leftovers.leftovers(site)})

    def _prepared(self, *, for_tests: bool) -> Site:
        layout, running = self._layout, self._supervisor.runs
        for folder in (layout.state, layout.etc, layout.run, layout.data, layout.logs, layout.keys):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        layout.scratch.mkdir(exist_ok=True)
        layout.scratch.chmod(0o1777)
        (layout.scratch / "README").write_text("An empty directory would count as a mount point without its file system.\n")
        _link(layout)
        site = facts.site(layout, settled=running)
        if not running:
            leftovers.end(leftovers.leftovers(site))
        facts.write_down(site)
        render(site)
        for name in ("host", "ridge"):
            ssh_server.make_host_key(site, name)
        run(sys.executable, "-m", "broker.keys", str(layout.keys / "private"), str(layout.keys / "public"), directory=REPOSITORY)
        redis_server.make_users(site)
        _make_certificates(site)
        write_documents(site, for_tests=for_tests)
        return site

    def _bring_up(self, programs: Iterable[Program]) -> None:
        by_name = {program.name: program for program in programs}
        before = {name: by_name.keys() & program.after for name, program in by_name.items()}
        _in_order(before, lambda name: self._bring_one_up(by_name[name]))

    def _take_down(self, programs: Sequence[Program]) -> None:
        """Stop in the opposite order: a program goes when all that came after it are gone."""
        before: dict[str, set[str]] = {program.name: set() for program in programs}
        for program in programs:
            for other in before.keys() & program.after:
                before[other].add(program.name)
        _in_order(before, self._supervisor.stop_program)

    def _bring_one_up(self, program: Program) -> None:
        if self._supervisor.state(program.name) != "RUNNING":
            program.prepare()
            self._supervisor.start_program(program.name)
        deadline = time.monotonic() + PATIENCE
        while not (self._runs(program) and program.ready()):
            if time.monotonic() > deadline:
                raise self._failure(program, f"does not answer after {PATIENCE} s")
            if self._given_up.wait(0.05):
                raise SiteError(f"{program.name} was not waited for")
        program.settle()
        self._say(program.name)

    def _runs(self, program: Program) -> bool:
        state = self._supervisor.state(program.name)
        if state in ENDED:
            raise self._failure(program, "ended")
        return state == "RUNNING"

    def _failure(self, program: Program, what: str) -> SiteError:
        self._given_up.set()
        log = self._layout.logs / f"{program.name}.log"
        last = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
        return SiteError("\n  ".join([f"{program.name} {what}; the end of {log}:", *last]))

    def _cancel_jobs(self, site: Site) -> None:
        """Cancel all jobs and wait a little: their steps would outlive the daemons."""
        clusters = {"slurmctld": slurm_cluster, "sge_qmaster": gridengine_cluster}
        states = self._supervisor.states()
        running = [cluster for name, cluster in clusters.items() if states.get(name) == "RUNNING"]
        for cluster in running:
            cluster.cancel_jobs(site)
        deadline = time.monotonic() + 10
        while any(cluster.jobs_left(site) for cluster in running) and time.monotonic() < deadline:
            time.sleep(0.2)


def _programs(site: Site) -> list[Program]:
    """All that can run on this machine."""
    on_swift = (*swift_cluster.programs(site), *gateway.programs_on(site.gateway_on_swift, site)) if swift_cluster.installed() else ()
    return [*_servers(site), *gateway.programs(site), *gateway.programs_on(site.gateway_on_tls, site), *on_swift]


def _servers(site: Site) -> list[Program]:
    modules = (redis_server, ssh_server, issuer, slurm_cluster, gridengine_cluster, ceph_cluster)
    return [program for module in modules for program in module.programs(site)]


def _in_order(before: Mapping[str, AbstractSet[str]], work: Callable[[str], None]) -> None:
    """Do the work for every name, at once wherever the names before it are done; the first failure is raised."""
    order = graphlib.TopologicalSorter(before)
    order.prepare()
    with ThreadPoolExecutor(len(before)) as pool:
        under_way: dict[Future[None], str] = {}
        while order.is_active():
            under_way |= {pool.submit(work, name): name for name in order.get_ready()}
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                future.result()
                order.done(under_way.pop(future))


def _make_certificates(site: Site) -> None:
    owners = {"redis": "redis", "radosgw": "ceph", "api": "root"}
    run(sys.executable, "-m", "deploy.certificates", str(site.layout.tls), *owners, directory=REPOSITORY)
    for name, owner in owners.items():
        shutil.chown(site.layout.tls / f"{name}.key", owner)


def _link(layout: Layout) -> None:
    if layout.link.is_symlink() or not layout.link.exists():
        layout.link.unlink(missing_ok=True)
        layout.link.symlink_to(layout.state)
    else:
        raise SiteError(f"{layout.link} exists and is not the link of a site: left alone")
