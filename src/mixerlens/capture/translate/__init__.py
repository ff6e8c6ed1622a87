"""From the arguments of a library's scan function to the arguments of a family, one file a family of scans.

A translation takes the call's arguments by name and what the function returned, and gives the fields of `MixerCall`
that depend on them.
"""
