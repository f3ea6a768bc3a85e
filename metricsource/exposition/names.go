package exposition

import (
	"encoding/binary"
	"math"
)

const (
	wordSize = 8
	// minStride is the stride below which a scan line by line is cheaper than probing.
	minStride  = 4
	filterBits = 13
	chainBits  = 10
	// fibonacci is 2^64 divided by the golden ratio, for Fibonacci hashing: the top bits
	// of the product depend on every bit of the word.
	fibonacci = 0x9E3779B97F4A7C15
)

// Names is a compiled set of selected metric names. It is immutable and safe for
// concurrent use. It takes about 13 KiB, so targets of the same queries should share it.
type Names struct {
	exact map[string]struct{}
	match func(name string) bool

	// stride is the number of bytes between two probes. With the length of the shortest
	// name minus 7, every name contains a whole word at a probe. 0 means to scan line by
	// line.
	stride int
	// filter contains the hashes of the words. It uses one byte per hash, because bits
	// make the probe loop, which is most of the cost of a scrape, a third slower.
	filter [1 << filterBits]bool
	// chains and places form a hash table from words to their places in the names. chains
	// and place.next contain indices into places plus 1; 0 ends a chain.
	chains [1 << chainBits]int32
	places []place
}

// place is the position of a word in a name. tail is the last word of the name: names of
// one metric family share most words, but not the last one.
type place struct {
	word, tail uint64
	name       string
	offset     int32
	next       int32
}

// NewNames compiles exact sample names (x_total, x_bucket) in unescaped form, and an
// optional predicate for names that only a pattern describes. A predicate must be pure
// and safe for concurrent use, because every Scanner caches its results.
//
// Probing requires that there is no predicate, and that every exact name is valid without
// quotes and has at least 11 bytes. Longer names make it faster. Otherwise, every line is
// examined, which is about four times slower.
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

// words returns the 8-byte words of name, one per offset.
func words(name string) []uint64 {
	b := []byte(name)
	ws := make([]uint64, len(b)-wordSize+1)
	for i := range ws {
		ws[i] = binary.LittleEndian.Uint64(b[i:])
	}
	return ws
}

// window returns the start of the size consecutive words that a name shares least with
// other names. Shared words, such as "_seconds", also occur in many lines of other
// metrics.
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

// strideOf returns the largest stride that finds all names, or 0 if probing cannot find
// them all. A name that requires quotes can be escaped in the body.
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
	h := p.word * fibonacci
	n.filter[h>>(64-filterBits)] = true
	chain := &n.chains[h>>(64-chainBits)]
	p.next, *chain = *chain, int32(len(n.places)+1)
	n.places = append(n.places, p)
}

// probe returns the first position at or after pos with a word in the filter, or -1.
// It advances by stride. Probes are independent of each other, so the CPU can overlap
// them. They are cheaper than a search for the newline of every line.
func (n *Names) probe(body []byte, pos int) int {
	filter, stride := &n.filter, n.stride
	for pos >= 0 && pos <= len(body)-wordSize { // this form removes the bounds check
		if filter[binary.LittleEndian.Uint64(body[pos:])*fibonacci>>(64-filterBits)] {
			return pos
		}
		pos += stride
	}
	return -1
}

// find returns the position and the length of the name that contains the word at pos. The
// length is 0 if there is none. floor is a line start; the name is not before it, and not
// part of a longer name, so at most one matches. The caller must check the line.
func (n *Names) find(body []byte, floor, pos int) (at, length int) {
	word := binary.LittleEndian.Uint64(body[pos:])
	for i := n.chains[word*fibonacci>>(64-chainBits)]; i != 0; i = n.places[i-1].next {
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
