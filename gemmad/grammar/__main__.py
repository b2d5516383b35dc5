"""`python -m gemmad.grammar --fd N`."""

import sys

from gemmad.grammar.process import main

sys.exit(main())
