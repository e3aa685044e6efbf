"""What the site leaves for those who use it: the gateway's settings, and variables for clients."""

import shlex

import yaml

from facts import RIDGE, SYSTEM, Deployment, Site, private, write_down
from people import PEOPLE, PROBE_USER, Person
from ssh_server import host_key


def write_documents(site: Site, *, for_tests: bool) -> None:
    """Write site.json, the settings of the gateways, client.env (alice's) and client-bob.env.

    Tests call as often as they can, as a few users.
    """
    limits = {"limits": {"calls_per_second": 0, "calls_at_once": 0}} if for_tests else {}
    write_down(site)
    for gateway in site.gateways:
        private(gateway.settings, yaml.safe_dump(_settings(site, gateway) | limits, sort_keys=False))
    private(site.layout.flower_login, site.flower_login)
    alice, bob = PEOPLE[:2]
    private(site.layout.state / "client.env", _variables(site, alice))
    private(site.layout.state / "client-bob.env", _variables(site, bob))


def _variables(site: Site, person: Person) -> str:
    variables = {
        "FIRECREST_URL": site.gateway.api_url,
        "AUTH_TOKEN_URL": site.token_url,
        "FIRECREST_CLIENT_ID": person.client,
        "FIRECREST_CLIENT_SECRET": site.secrets[person.client],
        "FIRECREST_SYSTEM": SYSTEM,
        "FIRECREST_API_VERSION": "1.16.1",
    }
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _settings(site: Site, gateway: Deployment) -> dict[str, object]:
    keys = site.layout.keys
    filesystems = [
        {"name": "home", "path": "/home", "description": "Home directories"},
        {"name": "scratch", "path": str(site.layout.scratch), "description": "Scratch space"},
    ]
    systems = [
        {
            "name": name,
            "host": "127.0.0.1",
            "port": site.ports[port],
            "host_keys": [host_key(site, key)],
            "scheduler": scheduler,
            "job_root": "/home",
            "filesystems": filesystems,
            "probe_user": PROBE_USER,
            "transfer_partition": partition,
        }
        for name, port, key, scheduler, partition in (
            (SYSTEM, "sshd", "host", "slurm", "xfer"),
            (RIDGE, "ridge", "ridge", "gridengine", ""),
        )
    ]
    return {
        "systems": systems,
        "issuers": [{"issuer": site.issuer, "jwks_url": site.jwks_url, "algorithms": ["RS256"], "audience": "account"}],
        "broker": gateway.broker,
        "keys": {"private": str(keys / "private"), "public": str(keys / "public")},
        "probes": {"service_period": 5, "system_period": 3, "filesystem_period": 5, "scheduler_period": 5, "storage_period": 3},
        "delegation": {
            "source_addresses": ["127.0.0.1/32"],
            "minimum_uid": 1000,
            "certificates_per_minute": 6000,
            "certificate_log": str(site.layout.data / "certificates.log"),
        },
        "storage": site.stores[gateway.store] | site.announcements(gateway),
    }
