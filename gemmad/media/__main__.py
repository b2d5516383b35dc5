"""`python -m gemmad.media --fd N`."""

import sys

from gemmad.media.process import main

sys.exit(main())
