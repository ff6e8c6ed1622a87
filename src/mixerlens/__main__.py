"""``python -m mixerlens`` is the ``mixerlens`` command."""

from .cli import main

main()
