"""Import it before mindcv's commands, and the published weights are those of another table.

The environment variable PUBLISHED is the path of the table, see mindcv/hub/published.yaml.
"""

import os
from pathlib import Path

from mindcv.hub import table

table._TABLE = Path(os.environ["PUBLISHED"])
