"""The selective scan in C, behind the same functions: an option that needs a C compiler or a prebuilt library.

Nothing is built or loaded at import. The first scan on the CPU that could use it looks for the library; where none can
be had the torch path does the work, and ``status`` says why. ``MIXERLENS_NATIVE=0`` turns it off at any time.
"""

from mixerlens.native.library import SWITCH, Library, Status, library, status, without
from mixerlens.native.scan import Kept, backward, forward, takes

__all__ = ["SWITCH", "Kept", "Library", "Status", "backward", "forward", "library", "status", "takes", "without"]
