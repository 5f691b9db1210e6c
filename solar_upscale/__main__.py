"""``python -m solar_upscale`` is the program ``solar-upscale``."""

import sys

from solar_upscale.cli import main

sys.exit(main())
