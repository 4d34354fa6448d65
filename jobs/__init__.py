"""What a job is, and how it trains. Knows no database and no broker."""

import os

# Intel's MKL multiplies some small matrices in another order when they begin at another address, so a job's last
# digits would depend on its place in a pack. This forbids it, at no cost that could be measured. MKL reads it when it
# is first used.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
