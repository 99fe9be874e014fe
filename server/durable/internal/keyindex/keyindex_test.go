package keyindex

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func keyOf(n int) (h Hash) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	copy(h[:], sum[:])
	return h
}

// naive is a set of entries by key.
type naive map[Hash]Entry

func (n naive) sorted() []Entry {
	all := make([]Entry, 0, len(n))
	for _, e := range n {
		all = append(all, e)
	}
	slices.SortFunc(all, bySeq)
	return all
}

func list(x *Index) (all []Entry) {
	x.Ascend(0, func(e *Entry) bool { all = append(all, *e); return true })
	return all
}

// replaceRandomly gives random keys out of n a new entry, or drops the oldest.
func replaceRandomly(x *Index, want naive, random *rand.Rand, seq *int64, n, times int) {
	for range times {
		if old := x.Oldest(); old != nil && random.IntN(8) == 0 {
			delete(want, old.Key)
			x.Remove(old)
			continue
		}
		key := keyOf(random.IntN(n))
		if old := x.Find(key); old != nil {
			x.Remove(old)
		}
		*seq += 1 + int64(random.IntN(3))
		e := Entry{Key: key, Data: keyOf(int(*seq)), Seq: *seq, Pos: uint64(*seq), InsertedAt: 1, Size: uint32(random.IntN(9))}
		x.Add(e)
		want[key] = e
	}
}

func TestAnIndexHoldsTheNewestEntryOfEachKey(t *testing.T) {
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 3))
		x, want, seq := &Index{}, naive{}, int64(0)
		n := []int{1, 700, 5_000, 50_000}[seed]
		for range 6 {
			replaceRandomly(x, want, random, &seq, n, 4_000)
			all := want.sorted()
			require.Equal(t, all, append([]Entry{}, list(x)...))
			require.Equal(t, len(all), x.Len())
			var bytes int64
			for i, e := range all {
				bytes += int64(e.Size)
				if e != *x.Find(e.Key) || e != *x.At(e.Seq) {
					t.Fatal("not found", e)
				}
				if i%397 == 0 {
					checkAround(t, x, all, i)
				}
			}
			require.Equal(t, bytes, x.Bytes())
			require.Nil(t, x.Find(keyOf(n)))
			requireBuild(t, all, random)
		}
		require.LessOrEqual(t, len(x.order), 2+3*x.Len()/chunkSize, "chunks are merged")
		require.LessOrEqual(t, len(x.chunks), 4+4*n/chunkSize, "numbers are used again")
	}
}

// checkAround lists a few entries in both directions, from a seq that has an entry and from those next to it.
func checkAround(t *testing.T, x *Index, all []Entry, i int) {
	require.Equal(t, len(all)-i, x.CountFrom(all[i].Seq))
	require.Equal(t, len(all)-i-1, x.CountFrom(all[i].Seq+1))
	t.Helper()
	for d := int64(-1); d <= 1; d++ {
		seq := all[i].Seq + d
		at, has := slices.BinarySearchFunc(all, Entry{Seq: seq}, bySeq)
		require.Equal(t, has, x.At(seq) != nil)
		var up, down []Entry
		x.Ascend(seq, func(e *Entry) bool { up = append(up, *e); return len(up) < 3 })
		x.Descend(seq, func(e *Entry) bool { down = append(down, *e); return len(down) < 3 })
		require.Equal(t, all[at:min(at+3, len(all))], append([]Entry{}, up...))
		wantDown := slices.Clone(all[max(0, at-3):at])
		slices.Reverse(wantDown)
		require.Equal(t, wantDown, append([]Entry{}, down...))
	}
}

// requireBuild builds an index from the entries and from older ones of their keys, in any order.
func requireBuild(t *testing.T, all []Entry, random *rand.Rand) {
	t.Helper()
	b, sorted := &Builder{}, &Builder{}
	for _, e := range shuffled(all, random) {
		e.Seq, e.Size = e.Seq+1<<40, 1_000_000
		b.Put(e)
	}
	var bytes int64
	for _, e := range shuffled(all, random) {
		b.Put(e)
		bytes += int64(e.Size)
	}
	for _, e := range all {
		sorted.Put(e)
	}
	for _, x := range []*Index{b.Index(), sorted.Index()} {
		require.Equal(t, all, append([]Entry{}, list(x)...))
		require.Equal(t, bytes, x.Bytes())
		for i, e := range all {
			if e != *x.Find(e.Key) {
				t.Fatal("not found", e)
			}
			if i%3 == 0 {
				x.Remove(x.At(e.Seq))
			}
		}
		require.Equal(t, len(all)-(len(all)+2)/3, x.Len())
	}
}

func bySeq(a, b Entry) int { return int(a.Seq - b.Seq) }

func shuffled(all []Entry, random *rand.Rand) []Entry {
	all = slices.Clone(all)
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func TestAnEmptyIndexHasNothing(t *testing.T) {
	require.Zero(t, new(Index).CountFrom(1))
	x := &Index{}
	require.Nil(t, x.Oldest())
	require.Nil(t, x.At(1))
	require.Nil(t, x.Find(keyOf(1)))
	require.Empty(t, list(x))
	x.Descend(9, func(*Entry) bool { t.Fatal("nothing to list"); return false })
}

func BenchmarkReplace(b *testing.B) {
	const n = 1_000_000
	x := &Index{}
	var seq int64
	for i := range n {
		seq++
		x.Add(Entry{Key: keyOf(i), Seq: seq, Size: 1})
	}
	random := rand.New(rand.NewPCG(1, 1))
	keys := make([]Hash, 4096)
	for i := range keys {
		keys[i] = keyOf(random.IntN(n))
	}
	b.ResetTimer()
	for i := range b.N {
		key := keys[i%len(keys)]
		x.Remove(x.Find(key))
		seq++
		x.Add(Entry{Key: key, Seq: seq, Size: 1})
	}
}
