package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// indexOf returns an index that uses only some bits of the hashes, so that keys share slots, segments and hashes.
func indexOf(bits uint64) *keyIndex {
	x := newKeyIndex()
	x.bits = bits
	return x
}

func TestAKeyIndexIsAMap(t *testing.T) {
	for _, row := range []struct {
		bits uint64
		keys int
	}{{^uint64(0), 100}, {^uint64(0), 3 * splitAt}, {0xfff, 2_000}, {0x3f, 200}, {0, 50}} {
		t.Run(fmt.Sprintf("%x/%d", row.bits, row.keys), func(t *testing.T) {
			dice := rand.New(rand.NewPCG(1, 2))
			x, model := indexOf(row.bits), map[string]*entry{}
			key := func() string { return fmt.Sprint("k.", dice.IntN(row.keys)) }
			for range 10 * row.keys {
				switch k := key(); dice.IntN(5) {
				case 0:
					x.remove(k)
					delete(model, k)
				case 1:
					require.Same(t, model[k], x.find(k))
				default:
					e := &entry{key: k}
					x.put(e)
					model[k] = e
				}
				require.Equal(t, len(model), x.count)
			}
			for i := range row.keys {
				k := fmt.Sprint("k.", i)
				require.Same(t, model[k], x.find(k))
			}
		})
	}
}

func TestAKeyIndexFindsTheKeysOfARequest(t *testing.T) {
	for _, bits := range []uint64{^uint64(0), 0xff, 0} {
		dice := rand.New(rand.NewPCG(3, 4))
		x := indexOf(bits)
		for i := range 100 {
			x.put(&entry{key: fmt.Sprint("k.", i), text: fmt.Sprint(i)[1:]})
		}
		for range 50 {
			messages, noted := make([]Message, 1+dice.IntN(200)), map[string]*lookup{}
			for i := range messages {
				messages[i].Key = fmt.Sprint("k.", dice.IntN(200))
			}
			ls := x.lookUp(messages)
			for i, m := range messages {
				require.Same(t, x.find(m.Key), ls.list[i].entry)
				l, again := ls.note(i)
				require.Equal(t, noted[m.Key] != nil, again)
				if !again {
					require.Same(t, &ls.list[i], l)
					noted[m.Key] = l
				}
				require.Same(t, noted[m.Key], l)
			}
			ls.release()
		}
	}
}

func TestAnIndexGrowsInParts(t *testing.T) {
	x := newKeyIndex()
	for i := range 2 * splitAt {
		x.put(&entry{key: fmt.Sprint("k.", i)})
	}
	require.Len(t, x.segments, mostSegments)
	for _, s := range x.segments {
		require.Less(t, s.count, 3*2*splitAt/mostSegments)
		require.LessOrEqual(t, 4*s.count, 3*len(s.slots))
	}
}

func TestAKeyIndexKeepsNoRequestInMemory(t *testing.T) {
	x := newKeyIndex()
	x.put(&entry{key: "k.1"})
	ls := x.lookUp([]Message{{Key: "k.1"}, {Key: "k.2"}})
	list := ls.list
	ls.release()
	require.Equal(t, make([]lookup, 2), list)
}

func TestAKeyIndexDoesNotGrowWithKeysThatAreGone(t *testing.T) {
	x := newKeyIndex()
	for i := range 10_000 {
		x.put(&entry{key: fmt.Sprint("k.", i)})
		x.remove(fmt.Sprint("k.", i-5))
	}
	require.LessOrEqual(t, len(x.segments[0].slots), 16)
}
