"""Which kind of transfer it is that passes by way of the object store: of a file, or of a directory."""

from schemas.transfers import StageIn, StageOut
from workers.host import Host
from workers.incoming import Incoming
from workers.outgoing import Outgoing
from workers.performing import Ended, Rest, Step, steps
from workers.tree_transfers import TreeIn, TreeOut


@steps(StageIn)
def stage_in(op: StageIn, host: Host, step: Step) -> Rest | Ended:
    """From a client to the system."""
    return (TreeIn if op.directory else Incoming)(op, host, step).make()


@steps(StageOut)
def stage_out(op: StageOut, host: Host, step: Step) -> Rest | Ended:
    """From the system to a client."""
    return (TreeOut if op.directory else Outgoing)(op, host, step).make()
