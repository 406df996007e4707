"""The contracts of components, one file each: what an agent, a user, a tool server and a reward are asked, and reply.

A component holds no conversation. The request brings the branch's state, the reply takes the new state back, so one
component serves any number of branches at once. One that cannot declares `concurrency` (requests it serves at once) or
`sessions` (conversations it holds open at once), and the runtime keeps to it; docs/components.md has the rules. States
are immutable values, or objects with a `fork()`; a component whose state is neither sets `forkable = False`, and
searches that branch refuse it before any work is done.

To write one, subclass and implement the abstract methods. `simkit.testing.conformance` checks the contract.
"""
