// Package simulation runs the queue and its workers as a whole in one process
// and in virtual time, under faults that a seed chooses, and decides from what
// happened whether the invariants of the guarantees (6.1) held.
//
// Real are the two servers' queue.Service and the worker.Worker of three hosts.
// Simulated is what they stand on: the database is the in-memory model behind
// faults, the network delays, loses and repeats, and the executor keeps attempts
// on disks that survive every process. Two things are left out: staging and
// output files, which are the executor's and the engines' own tests, and a second
// worker on the same directory, which its lock forbids.
//
// All of it is test code; nothing imports this package.
package simulation
