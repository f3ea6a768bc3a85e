package exposition

import (
	"encoding/binary"
	"math"
)

const (
	wordSize = 8
	// minStride is the stride below which walking lines is cheaper than probing.
	minStride  = 4
	filterBits = 13
	chainBits  = 10
	// spread is 2^64 divided by the golden ratio: the top bits of a product with
	// it depend on every bit of the word.
	spread = 0x9E3779B97F4A7C15
)

// Names is a compiled set of metric names a set of queries selects. It is
// immutable and safe for concurrent use. It takes some 13 KiB: share it among the
// targets that answer the same queries.
type Names struct {
	exact map[string]struct{}
	match func(name string) bool

	// Probing: every stride bytes a body's next word is looked up among all the
	// words of all names. With a stride of the shortest name less seven no name
	// slips through between two probes. Zero: walk lines instead.
	stride int
	// filter holds the hashes of the words, a byte each: the loop over it is what
	// a scrape costs, and bits would make it a third longer.
	filter [1 << filterBits]bool
	// chains and places are a hash table from words to where they stand. Indices
	// into places are plus one, 0 ends a chain.
	chains [1 << chainBits]int32
	places []place
}

// place says that a word stands in name at offset. tail is the last word of name:
// names of one family share their words, but not the last.
type place struct {
	word, tail uint64
	name       string
	offset     int32
	next       int32
}

// NewNames compiles exact sample names, as they stand in a body (x_total,
// x_bucket; unescaped where the body quotes them), and optionally a predicate
// for names known only by a pattern. match may be nil; else it must be pure and
// safe for concurrent use: every Scanner remembers its verdicts.
//
// Exact names of eleven bytes and more, all of them legal without quotes, are
// what is fast, the longer the faster. With one other name, or a predicate, every
// line is looked at, which costs some four times as much.
func NewNames(exact []string, match func(name string) bool) *Names {
	n := &Names{exact: make(map[string]struct{}, len(exact)), match: match}
	for _, name := range exact {
		if name != "" {
			n.exact[name] = struct{}{}
		}
	}
	if n.stride = strideOf(n.exact); n.stride < minStride || match != nil {
		n.stride = 0
		return n
	}
	shared := make(map[uint64]int)
	for name := range n.exact {
		for _, word := range words(name) {
			shared[word]++
		}
	}
	for name := range n.exact {
		ws := words(name)
		from := window(ws, n.stride, shared)
		for i, word := range ws[from : from+n.stride] {
			n.add(place{word: word, tail: ws[len(ws)-1], name: name, offset: int32(from + i)})
		}
	}
	return n
}

// words returns the words of name, one per offset.
func words(name string) []uint64 {
	b := []byte(name)
	ws := make([]uint64, len(b)-wordSize+1)
	for i := range ws {
		ws[i] = binary.LittleEndian.Uint64(b[i:])
	}
	return ws
}

// window returns where the size consecutive words begin by which a name is best
// found: those it shares least with the other names. What several names share,
// such as "_seconds", stands in many unwanted lines as well.
func window(words []uint64, size int, shared map[uint64]int) int {
	sum := 0
	for _, w := range words[:size] {
		sum += shared[w]
	}
	best, from := sum, 0
	for i := size; i < len(words); i++ {
		if sum += shared[words[i]] - shared[words[i-size]]; sum < best {
			best, from = sum, i-size+1
		}
	}
	return from
}

// strideOf returns how far apart probes for names may lie, 0 if probing cannot
// find them all: a name that only stands in quotes may be escaped there.
func strideOf(names map[string]struct{}) int {
	shortest := math.MaxInt
	for name := range names {
		if metricNameEnd([]byte(name), 0) != len(name) {
			return 0
		}
		shortest = min(shortest, len(name))
	}
	if len(names) == 0 || shortest < wordSize {
		return 0
	}
	return shortest - wordSize + 1
}

func (n *Names) add(p place) {
	h := p.word * spread
	n.filter[h>>(64-filterBits)] = true
	chain := &n.chains[h>>(64-chainBits)]
	p.next, *chain = *chain, int32(len(n.places)+1)
	n.places = append(n.places, p)
}

// probe returns the first position from pos on, stride by stride, whose word may
// be one of the names', or -1. Probes do not depend on each other, which is what
// makes them cheaper than one search for a newline per line.
func (n *Names) probe(body []byte, pos int) int {
	filter, stride := &n.filter, n.stride
	for pos >= 0 && pos <= len(body)-wordSize { // as the compiler needs it to check no bounds
		if filter[binary.LittleEndian.Uint64(body[pos:])*spread>>(64-filterBits)] {
			return pos
		}
		pos += stride
	}
	return -1
}

// find returns where in body a name stands of which the word at pos is part, at
// or behind floor, a line start, and its length; 0 if there is none. It is not
// part of a longer name, so no second one can match; nothing else is known of it.
func (n *Names) find(body []byte, floor, pos int) (at, length int) {
	word := binary.LittleEndian.Uint64(body[pos:])
	for i := n.chains[word*spread>>(64-chainBits)]; i != 0; i = n.places[i-1].next {
		p := &n.places[i-1]
		at = pos - int(p.offset)
		end := at + len(p.name)
		if p.word != word || at < floor || end > len(body) || p.tail != binary.LittleEndian.Uint64(body[end-wordSize:]) {
			continue
		}
		if (end == len(body) || !isNameByte(body[end])) && (at == floor || !isNameByte(body[at-1])) &&
			string(body[at:end]) == p.name {
			return at, len(p.name)
		}
	}
	return 0, 0
}
