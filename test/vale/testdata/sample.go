// Package sample has each phrase that the style refuses, and some that it must
// not refuse.
//
// A report stands for 15 s. It stood. A long-standing stand-in stands in for KEDA.
// The load has grown of
// late. All is known by now. The fleet came to rest. An empty value means nothing.
//
// No room is left; the headroom is 2. Each may have 8 GPUs, and a pod may have ended.
// It lets go of a GPU, and lets no pod in. It lets the kernel choose a port.
//
// There is word of a change, and its own word counts. A word that is late. It ends
// without a word. The last word of a name is an integer. That is news.
//
// A pod tells its load, is told of it, and says of others what it said. It hears
// from a peer and speaks for it. A label tells them apart. The log tells you why.
//
// A report is taken back. The pod is taken apart, or is taken for idle. It takes 15 s.
// The time taken for a scrape is short.
//
// Somebody runs it, as nobody. It looks at all that, and what that is, of which that is one.
//
// This sentence has one and two and three and four and five and six and seven and
// eight and nine and ten and eleven and twelve and thirteen words and then some.
//
// Quoted code is not read: `stands`.
//
//	nor is code that stands on a line of its own
package sample

// Identifiers and strings are not read.
const stands = "it stands, of late"

/* A block stands too. */
var room = `// somebody tells of
	it` // and so stands the end of a line
