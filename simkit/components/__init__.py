"""Contracts of components, one file each: requests and replies of agents, users, tool servers and rewards.

A component stores no conversation. The request contains the branch's state and the reply the new state, so one
component serves any number of branches at once. A component with limits declares `concurrency` (concurrent requests) or
`sessions` (concurrently open conversations), and the runtime observes them; docs/components.md has the rules. States
are immutable values, or objects with a `fork()`; a component whose state is neither sets `forkable = False`, and
searches that branch refuse it before any work is done.

To write one, subclass and implement the abstract methods. `simkit.testing.conformance` checks the contract.
"""
