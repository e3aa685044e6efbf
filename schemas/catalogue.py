"""All operations: whoever imports this finds them in OPERATIONS and INTERNAL."""

import schemas.cluster
import schemas.compute
import schemas.reservations
import schemas.status
import schemas.tasks
import schemas.transfer_jobs
import schemas.transfers
import schemas.utilities  # noqa: F401
