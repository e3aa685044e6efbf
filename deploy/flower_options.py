"""Flower's options, for its `--conf`: whoever knows the login may look, and nobody may do anything.

The login, `user:password`, is in the file that $FIRECREST_FLOWER_LOGIN names.
"""

import os
from pathlib import Path

basic_auth = [Path(os.environ["FIRECREST_FLOWER_LOGIN"]).read_text(encoding="utf-8").strip()]
read_only = True
enable_events = False  # the workers' own option; Flower may not tell them to
auto_refresh = False
persistent = False
max_tasks = 10000
