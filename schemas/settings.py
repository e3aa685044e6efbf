"""The deployment, typed and described."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.rights import EVERY_RIGHT, Right

# the S3 API is at the root of a server
_ENDPOINT = "^https?://[^/?#@]+/?$"
_LEAST_SECRET = 16
# So many seconds after its link has expired may a transfer go on.
AFTER_LINK = 86400
# Of Debian and the RHEL family, and of what runs on an HPC system.
SYSTEM_ACCOUNTS = (
    *("root", "toor", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data", "backup"),
    *("list", "irc", "gnats", "nobody", "_*", "systemd-*", "adm", "shutdown", "halt", "operator", "ftp", "dbus", "messagebus"),
    *("polkitd", "sshd", "tss", "sssd", "chrony", "ntp", "rpc", "rpcuser", "nfsnobody", "statd", "postfix", "dnsmasq", "avahi"),
    *("apache", "nginx", "mysql", "postgres", "redis", "ldap", "slapd", "munge", "slurm", "sgeadmin", "ceph", "libvirt", "qemu"),
    *("pcp", "nagios", "prometheus"),
)


class Section(BaseModel):
    """A part of the settings; what it does not know it refuses."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _cannot_be_tampered_with(url: str) -> bool:
    """Whether what comes from a URL is its server's own: by https, or from this machine."""
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname != "localhost":
        try:
            return ip_address(parts.hostname or "").is_loopback
        except ValueError:
            return False
    return parts.scheme in ("https", "http") and bool(parts.hostname)


class Filesystem(Section):
    """A file system that users of a system see."""

    name: str = Field(description="Name shown to users")
    path: str = Field(description="Where it is mounted")
    description: str = Field("", description="What it is for")


AllowedPath = Annotated[str, Field(pattern=r"^/(?:[^\x00-\x1f]*)$")]


class System(Section):
    """An HPC system and how to enter it."""

    name: str = Field(description="Public name, sent by clients in X-Machine-Name")
    host: str = Field(description="Name or address of its SSH server")
    port: int = Field(22, description="Port of its SSH server")
    host_keys: tuple[str, ...] = Field(description="Its public host keys, as in known_hosts; no other is accepted", min_length=1)
    allowed_paths: tuple[AllowedPath, ...] = Field(
        (), description="Directories that operations may touch, `{user}` being the user's name; all paths when empty (operations.md)"
    )
    scheduler: Literal["slurm", "gridengine"] = Field("slurm", description="Its workload manager")
    job_root: str = Field("/home", description="Job folders are <job_root>/<user>/firecrest/<task id>")
    filesystems: tuple[Filesystem, ...] = Field((), description="File systems, for /status")
    probe_user: str = Field(
        "", description="Unprivileged account of the service's own, which probes file systems and scheduler; none when empty"
    )
    reservation_command: tuple[str, ...] = Field(
        (), description="The site's own command for reservations, in words, in place of the scheduler's (operations.md)"
    )
    sbatch_options: tuple[str, ...] = Field((), description="Words put before the script on every sbatch or qsub command line")
    parallel_environment: str = Field("smp", description="Grid Engine's parallel environment that gives a job several slots on one node")
    transfer_system: str = Field("", description="Name of the system that runs the transfer jobs of this one; itself when empty")
    transfer_partition: str = Field("", description="Partition, or queue, of transfer jobs here; the scheduler's own choice when empty")
    transfer_constraint: str = Field("", description="Features that nodes of transfer jobs here must have")
    primary_group_account: bool = Field(
        False, description="Whether transfer jobs here that name no account are charged to the one called like the user's primary group"
    )
    forced_command: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._/-]+)?$",
        description="Where `firecrest-command` is on the system, if every command is to have a certificate of its own; shells when empty",
    )
    forced_environment: dict[str, str] = Field({}, description="Environment of such commands, beside PATH and what says who the user is")
    sessions_per_connection: int = Field(7, ge=1, description="Below the server's MaxSessions, which frees a slot late")
    connections_per_user: int = Field(2, ge=1, description="SSH connections one user may have from one worker process")


Algorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "EdDSA"]


class Issuer(Section):
    """Who signs the tokens of users, and what its tokens are good for. Of several, each needs `issuer` and `users`."""

    issuer: str = Field("", description="Value that `iss` must have; not checked when empty")
    jwks_url: str = Field(description="Where its public keys are: by https, or on this very machine")
    insecure_jwks: bool = Field(
        False, description="Whether `jwks_url` may be http to another machine: only where nobody else is on the way"
    )
    algorithms: tuple[Algorithm, ...] = Field(("RS256",), min_length=1, description="The signature algorithms accepted")
    audience: str = Field("", description="Value that `aud` must hold; not checked when empty")
    scopes: tuple[str, ...] = Field((), description="Scopes that tokens must have, each of them")
    username_claim: str = Field("preferred_username", min_length=1, description="Claim that names the user")
    users: str = Field(
        "",
        description="Regular expression that the whole names of this issuer's users match; any name does when empty, of a single issuer",
    )
    service_account_role: str = Field("firecrest-sa", description="Realm role of tokens whose user is their client's first role")
    client_claim: str = Field("clientId", min_length=1, description="Claim that names the client of a service account")
    clients: dict[str, str] = Field({}, description="Users of service accounts by their client, in place of its first role")
    scope_rights: dict[str, tuple[Right, ...]] = Field({}, description="What scopes allow: `read`, `write`, `submit`, `admin`")
    role_rights: dict[str, tuple[Right, ...]] = Field(
        {}, description="What realm roles allow; every token allows everything when this and `scope_rights` are empty"
    )

    @field_validator("users")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as wrong:
            raise ValueError(f"not a regular expression: {wrong}") from None
        return pattern

    @model_validator(mode="after")
    def _keys_are_its_own(self) -> Self:
        if not self.insecure_jwks and not _cannot_be_tampered_with(self.jwks_url):
            raise ValueError(f"whoever is on the way could change the keys at {self.jwks_url}: https, or insecure_jwks")
        return self

    def rights(self, scopes: frozenset[str], roles: frozenset[str]) -> frozenset[Right]:
        """What a token with these scopes and realm roles allows."""
        if not self.scope_rights and not self.role_rights:
            return EVERY_RIGHT
        given = [rights for name, rights in self.scope_rights.items() if name in scopes]
        given += [rights for name, rights in self.role_rights.items() if name in roles]
        return frozenset().union(*given)


class Permission(Section):
    """Who is asked whether a call may be made, beside the rights of the token."""

    source: Literal["everyone", "opa"] = Field("everyone", description="Nobody: everyone may; or an Open Policy Agent")
    url: str = Field("", description="Where the agent is: by https, or on this very machine")
    insecure: bool = Field(False, description="Whether `url` may be http to another machine: only where nobody else is on the way")
    path: str = Field("v1/data/f7t/authz", description="Path of the document that has `allow`, or of a rule that is true or false")
    seconds: float = Field(2, gt=0, description="How long an answer may take; without one the call is refused with 503")
    cache_seconds: float = Field(5, ge=0, description="How long an answer holds for calls that are just the same")
    local: bool = Field(False, description="Whether calls that touch no system, as of /tasks, are asked about too; without `system`")

    @model_validator(mode="after")
    def _agent_is_known(self) -> Self:
        if self.source == "opa" and not (self.insecure and self.url.startswith("http://")) and not _cannot_be_tampered_with(self.url):
            raise ValueError(f"whoever is on the way could change the answers of {self.url or 'no agent'}: https, or insecure")
        return self


class Broker(Section):
    """Redis, which carries messages and keeps task records."""

    url: str = Field(
        pattern="^rediss?://", description="redis:// or, for TLS, rediss:// URL; without user and password if `passwords` is set"
    )
    passwords: Path | None = Field(
        None, description="Folder in which each process finds the password of its own user of Redis (`python -m broker.redis_users`)"
    )
    ca: Path | None = Field(
        None, description="File with the CAs that may vouch for its certificate, which is always verified; the machine's own when absent"
    )

    @model_validator(mode="after")
    def _certain(self) -> Self:
        if self.passwords and "@" in self.url:
            raise ValueError("the URL has a user or password of its own beside `passwords`")
        if self.ca and not self.url.startswith("rediss:"):
            raise ValueError("a CA is of use only with rediss://")
        return self


class Keys(Section):
    """Folders of key files, made by `python -m broker.keys`."""

    private: Path = Field(description="Holds only the private keys that this process needs")
    public: Path = Field(description="Holds the public keys of all parts")


class Storage(Section):
    """The object store through which large files pass. Its account is best the gateway's own: orphans are swept from its buckets."""

    technology: Literal["s3v4"] = Field("s3v4", description="Kind of object store")
    private_url: str = Field(pattern=_ENDPOINT, description="Where the service reaches it")
    public_url: str = Field(pattern=_ENDPOINT, description="Where clients reach it")
    systems_url: str = Field("", pattern=f"^$|{_ENDPOINT}", description="Where systems reach it; as clients do when empty")
    ca: Path | None = Field(
        None,
        description="File with the CAs that may vouch for its certificate, which is always verified; the machine's own when absent",
    )
    systems_ca: str = Field("", pattern="^(/.*)?$", description="Path on the systems of such a file for curl there; their own when empty")
    region: str = Field("us-east-1", description="S3 region")
    access_key: str = Field(description="S3 access key")
    secret_key: str = Field(description="S3 secret key")
    layout: Literal["per_user", "shared"] = Field(
        "per_user", description="A bucket for every user (the account must be allowed so many), or one with a folder for every user"
    )
    bucket: str = Field("firecrest", pattern="^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", description="Name of the shared bucket")
    bucket_prefix: str = Field("", pattern="^([a-z0-9][a-z0-9-]{0,19})?$", description="Put before the names of users' buckets")
    form: Literal["post", "put"] = Field(
        "post", description="How clients upload: by a form whose policy limits the size, or by a presigned PUT where there are no forms"
    )
    url_seconds: int = Field(604800, ge=60, le=604800, description="How long presigned links are valid, in seconds")
    max_file_size: int = Field(5120, ge=1, description="Largest file, in MB (1024 x 1024 bytes); above 5120, S3's limit, only in parts")
    staged_per_user: int = Field(
        1048576, ge=1, description="What one user may have in the object store, and in transfers under way, in MB (1024 x 1024 bytes)"
    )
    part_size: int = Field(64, ge=5, le=5120, description="Least size of the parts of a file that is sent in parts, in MB")
    max_parts: int = Field(200, ge=1, le=1000, description="Most parts of a file; larger files have larger parts")
    arrival_seconds: float = Field(
        1, gt=0, description="Period of the look for files that clients have put there, unless that is announced"
    )
    notifications_url: str = Field(
        "",
        pattern="^(https?://[^?#@]+)?$",
        description="Where the object store reaches the API's `POST /storage/announcements`, if it can announce files; polled when empty",
    )
    notifications_secret: str = Field("", description="Random text by which the API knows announcements as the object store's")
    heartbeat_seconds: float = Field(5, gt=0, description="Period of the file that shows whether announcements come through")
    unannounced_seconds: float = Field(
        30,
        gt=0,
        description="Least period of the look for lost announcements; it takes a 500th of the time at most, or comes every ten minutes",
    )
    doubt_seconds: float = Field(
        0, ge=0, description="Seconds after which an awaited file is asked for by its name, for listings that lag (Swift's); never when 0"
    )
    retry_seconds: float = Field(3600, gt=0, description="Seconds for which a transfer tries again what may go well later")
    orphan_seconds: float = Field(3600, ge=60, description="Period of the sweep for files whose task is gone, and their least age")
    patience: float = Field(20, gt=0, description="Seconds that the object store may be silent before it counts as not available")

    @model_validator(mode="after")
    def _parts_suffice(self) -> Self:
        if self.max_file_size > self.max_parts * 5120:
            raise ValueError("max_file_size is more than max_parts parts of 5120 MB can hold")
        return self

    @model_validator(mode="after")
    def _announcements_are_known(self) -> Self:
        if self.notifications_url and len(self.notifications_secret) < _LEAST_SECRET:
            raise ValueError(f"notifications_url needs a notifications_secret of at least {_LEAST_SECRET} characters")
        return self


class Api(Section):
    """The API as browsers, and proxies before it, see it."""

    origins: tuple[str, ...] = Field(
        (), description="Origins (`https://portal.example.org`) whose pages may call the API from a browser (CORS); `*` is any"
    )
    proxies: int = Field(
        0,
        ge=0,
        description="Trusted proxies before the API, in a row, that tell in X-Forwarded-For and -Proto who asks and how",
    )


class Limits(Section):
    """What one call or user may take."""

    utilities_max_file_size: int = Field(5, ge=1, description="Largest file of upload, download and view, in MB (1024 x 1024 bytes)")
    utilities_timeout: int = Field(5, ge=1, description="Seconds that a command of utilities may take on the system")
    reservations_timeout: int = Field(10, ge=1, description="Seconds that a command of reservations may take; keep it below `patience`")
    patience: float = Field(15, gt=0, description="Seconds that a waited call may take in all, queueing included")
    command_timeout: int = Field(60, ge=1, description="Seconds that a command of the scheduler may take on the system")
    tail_bytes: int = Field(1000, ge=0, description="Bytes of a job's output shown with the job")
    task_seconds: int = Field(86400, ge=60, description="How long a task record is kept after its last change")
    grant_seconds: int = Field(3600, ge=60, description="How long after a call was accepted a deferred operation may still be started")
    certificate_seconds: int = Field(300, ge=30, le=300, description="Lifetime of SSH user certificates")
    connections: int = Field(200, ge=1, description="SSH connections one worker process keeps open in all")
    idle_seconds: float = Field(120, gt=0, description="Unused SSH connections are closed after this time")
    connect_seconds: float = Field(10, gt=0, description="Time to reach and enter a system")
    waiting_per_user: int = Field(500, ge=1, description="Commands of one user that may wait for a session in one worker process")
    calls_per_second: float = Field(
        30, ge=0, description="Calls a second that one user may go on making, best a share of what the machines carry; no limit when 0"
    )
    calls_burst: int = Field(20, ge=1, description="Calls that a user who was quiet may make beyond that")
    calls_at_once: int = Field(
        8, ge=0, description="Calls of one user that may be under way at once, over all API processes. No limit when 0"
    )
    calls_waiting: int = Field(
        16, ge=0, description="Calls of one user beyond these limits that wait for their turn, in each API process, before there is a 429"
    )
    hold_seconds: float = Field(
        1,
        ge=0,
        le=60,
        description="How long queries of tasks are held that do not say (`Prefer: wait`), until one settles; 0: not at all",
    )
    longest_hold_seconds: int = Field(30, ge=0, le=600, description="Longest `Prefer: wait` of such queries; what is longer is cut to it")
    holds_per_user: int = Field(
        50, ge=0, description="Queries of one user that each API process holds together; one more is answered at once, with what is known"
    )
    form_bytes: int = Field(1048576, ge=1024, description="Largest body of a request that carries no file, in bytes; a larger one is 413")
    open_tasks_per_user: int = Field(1000, ge=1, description="Tasks of one user that may be open; a call that would make one more is 429")
    tasks_at_once: int = Field(16, ge=1, description="Tasks of one user that one worker process has under way; the others wait")
    tasks_page: int = Field(500, ge=1, description="Most tasks in one answer of `GET /tasks`, whatever page is asked for")


class Engine(Section):
    """How work survives the loss of whoever does it."""

    lease_seconds: float = Field(9, gt=0, description="A worker that has not renewed its lease on a task for so long has lost it")
    sweep_seconds: float = Field(2, gt=0, description="Period of the sweep for lost tasks")
    tick_seconds: float = Field(0.2, gt=0, description="Period of the look for tasks whose next step is due")
    attempts: int = Field(5, ge=1, description="How often a task is tried before it ends with an error")


class Probes(Section):
    """How the service watches itself and the systems; all times are in seconds."""

    service_period: float = Field(10, gt=0, description="How often it is seen whether messages get through the queues")
    system_period: float = Field(10, gt=0, description="How often it is seen whether systems can be reached")
    filesystem_period: float = Field(30, gt=0, description="How often file systems are looked into")
    scheduler_period: float = Field(30, gt=0, description="How often schedulers are asked whether they are there")
    storage_period: float = Field(30, gt=0, description="How often the object store is asked whether it is there")
    system_timeout: float = Field(3, gt=0, description="How long a system's SSH server may take to greet")
    filesystem_timeout: int = Field(3, ge=1, description="How long a file system may take to be looked into")
    scheduler_timeout: int = Field(10, ge=1, description="How long a scheduler may take to answer")
    storage_timeout: float = Field(3, gt=0, description="How long the object store may be silent; it is asked once more")


class EnrolledWorker(Section):
    """A worker that certificates are given to: its key is `worker.pub`, if its name is `worker`, or `worker-<name>.pub`."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]{0,62}$", description="Its name")
    source_addresses: tuple[str, ...] = Field((), description="Addresses (CIDR) of it; those of `delegation.source_addresses` when empty")


class CertificateAuthority(Section):
    """Where the private key of the SSH certificate authority is: the one whose public half is `ca.pub`."""

    kind: Literal["file", "agent", "pkcs11"] = Field("file", description="`ca.key` in the folder of private keys, an ssh-agent, or a token")
    agent_socket: str = Field("", description="Socket of the ssh-agent")
    module: str = Field("", description="Library of the token: its PKCS#11 module")
    token: str = Field("", description="Label of the token")
    pin_file: str = Field("", description="File with the PIN of the token, which nobody else may read")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = {"file": (), "agent": ("agent_socket",), "pkcs11": ("module", "token", "pin_file")}[self.kind]
        if missing := [name for name in needed if not getattr(self, name)]:
            raise ValueError(f"the authority of kind {self.kind} needs {', '.join(missing)}")
        return self


class Delegation(Section):
    """Who may be given a certificate."""

    authority: CertificateAuthority = CertificateAuthority()
    source_addresses: tuple[str, ...] = Field((), description="Addresses (CIDR) that certificates may be used from; any when empty")
    workers: tuple[EnrolledWorker, ...] = Field((), description="The workers that are answered; all whose public keys are there when empty")
    denied_users: tuple[str, ...] = Field(
        SYSTEM_ACCOUNTS, description="Users never let in, by name or pattern (`*`, `?`); `root` never is, whatever this says"
    )
    minimum_uid: int = Field(
        0,
        ge=0,
        description="Users of a lower uid, or unknown to the delegation's host, are not let in; not looked up when 0",
    )
    certificates_per_minute: int = Field(600, ge=1, description="Certificates that a user may be given in a minute by a delegation process")
    certificate_log: Path = Field(
        Path("/var/log/firecrest/certificates.log"), description="File in which every certificate is noted before it is given"
    )


class Audit(Section):
    """The audit trail: what every part writes of each thing that it does (operations.md)."""

    file: Path | None = Field(
        None, description="File that the lines are put at the end of, for all parts on a host; absent: standard output of each"
    )
    paths: bool = Field(True, description="Whether lines name the paths that operations were given")


class Settings(Section):
    """Everything that a deployment decides."""

    systems: tuple[System, ...] = Field(min_length=1)
    issuers: tuple[Issuer, ...] = Field(min_length=1)
    broker: Broker
    keys: Keys
    permission: Permission = Permission()
    storage: Storage | None = None
    api: Api = Api()
    limits: Limits = Limits()
    engine: Engine = Engine()
    probes: Probes = Probes()
    delegation: Delegation = Delegation()
    audit: Audit = Audit()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for system in self.systems:
            runner = self.system(system.transfer_system or system.name)
            if runner is None:
                raise ValueError(f"there is no system {system.transfer_system}, which is to run the transfer jobs of {system.name}")
            if runner.allowed_paths != system.allowed_paths:
                raise ValueError(f"{runner.name} runs the transfer jobs of {system.name}, but its allowed_paths are others")
        return self

    @model_validator(mode="after")
    def _issuers_are_told_apart(self) -> Self:
        names = [issuer.issuer for issuer in self.issuers]
        if len(names) > 1 and not all(issuer.issuer and issuer.users for issuer in self.issuers):
            raise ValueError("of several issuers, each needs `issuer`, and `users` that says whose tokens it may sign")
        if len(set(names)) < len(names):
            raise ValueError("two issuers have the same `issuer`")
        return self

    def longest_grant(self) -> int:
        """How many seconds after its call was accepted a grant may still be good."""
        return max(self.limits.grant_seconds, self.storage.url_seconds + AFTER_LINK if self.storage else 0)

    def system(self, name: str) -> System | None:
        """The system of that public name."""
        return next((system for system in self.systems if system.name == name), None)
