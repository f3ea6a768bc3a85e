// Command bench measures what the product may cost, each figure beside its limit and
// beside a peer in the same run, and exits with 1 where a limit is missed. Ratios decide:
// the machine is what it is. `make bench` runs it; a name runs one part.
//
// The scaler is the real binary, in a process of its own. So are the servers that it
// reads, and the Prometheus and the Python that it is compared with. The cost of each is
// what the system accounts for its process.
package main
