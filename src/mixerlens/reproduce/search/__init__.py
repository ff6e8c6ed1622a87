"""A search with the bench: does a drawn mixer beat the families of the same state size on a stated mix of tasks?"""
