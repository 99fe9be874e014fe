package postgres

import (
	"math/rand/v2"
	"slices"

	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// made is a decision about a consumer that was made.
type made struct{ n, tag int64 }

func (d made) maker() int64 { return makerOf(d.tag) }

// makerOf returns what the tags of all decisions of one engine have in common.
func makerOf(tag int64) int64 { return tag >> 32 }

// tags makes the tags of one engine. The high half is the engine's, and the low half counts, from a random number on.
type tags struct{ last int64 }

func newTags() tags { return tags{int64(rand.Uint64())} }

func (g *tags) next() int64 {
	g.last = makerOf(g.last)<<32 | int64(uint32(g.last)+1)
	return g.last
}

// maxMakers is how many makers a state remembers. It is far above the number of replicas that share a consumer.
const maxMakers = 64

// makers has the last decision of each engine that has decided about a consumer. A snapshot has it too. An engine makes no other
// decision before it knows whether the last one was stored, so that it finds out however many the others have made since, and
// also when they are deleted.
type makers struct {
	last []made // by ascending number
	from int64  // whoever has made a decision from this number on is there
}

func (m *makers) add(d made) {
	m.last = slices.DeleteFunc(m.last, func(o made) bool { return o.maker() == d.maker() })
	if len(m.last) == maxMakers {
		m.from = m.last[0].n + 1
		m.last = slices.Delete(m.last, 0, 1)
	}
	m.last = append(m.last, d)
}

// stored reports whether d was stored. Its maker has made no decision since. The error is ErrUnknown when the maker is forgotten.
func (m *makers) stored(d made) (bool, error) {
	i := slices.IndexFunc(m.last, func(o made) bool { return o.maker() == d.maker() })
	// A later decision is that of another engine whose tags have the same high half by chance.
	if d.n < m.from || i >= 0 && m.last[i].n > d.n {
		return false, store.ErrUnknown
	}
	return i >= 0 && m.last[i] == d, nil
}

func (m *makers) appendTo(dst []byte) []byte {
	dst = binary.AppendUint(binary.AppendInt(dst, m.from), uint64(len(m.last)))
	var before int64
	for _, d := range m.last {
		dst = binary.AppendFixed(binary.AppendInt(dst, d.n-before), uint64(d.tag))
		before = d.n
	}
	return dst
}

// readMakers reads what appendTo wrote from the end of the snapshot n. A snapshot of an older program has none.
func readMakers(n int64, in *binary.Reader) makers {
	if len(in.Rest()) == 0 {
		return makers{from: n + 1}
	}
	m := makers{from: in.Int()}
	m.last = make([]made, in.Count(1+8))
	var before int64
	for i := range m.last {
		before += in.Int()
		m.last[i] = made{before, int64(in.Fixed())}
	}
	return m
}
