package durable_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/durable/internal/torture"
	"github.com/sequin-go/sequin/server/internal/store"
)

// damages change a file, of which at is a place.
var damages = map[string]func(data []byte, at int) []byte{
	"a flipped bit": func(data []byte, at int) []byte {
		data[at] ^= 1 << (at % 8)
		return data
	},
	"a cut": func(data []byte, at int) []byte { return data[:at] },
	"a sector of zeros": func(data []byte, at int) []byte {
		clear(data[at&^511 : min(at|511, len(data))])
		return data
	},
}

// stored is a store that was closed, and what was done to it.
type stored struct {
	seed   uint64
	fs     *crashfs.FS
	events []torture.Event
	files  []string
}

// newStored runs a load and closes the store.
func newStored(t *testing.T, seed uint64) *stored {
	t.Helper()
	s := &stored{seed: seed, fs: newLoaded(t)}
	st := openStore(t, memoryDir, small(s.fs, durable.SyncAlways, seed))
	var j torture.Journal
	plan := torture.Plan{Seed: seed, Steps: 50, Think: 2 * time.Millisecond}
	require.NoError(t, torture.NewWorkload(st, plan, j.Add).Run(t.Context()))
	require.NoError(t, st.Close())
	s.events = j.Events()
	infos, err := s.fs.List(memoryDir)
	require.NoError(t, err)
	for _, info := range infos {
		if info.Size > 0 {
			s.files = append(s.files, filepath.Join(memoryDir, info.Name))
		}
	}
	return s
}

// requireToldOrWhole opens a copy of the store after damage was done to it. Either the store says that it is damaged, when it
// is opened or when it is read, or everything is there.
func (s *stored) requireToldOrWhole(t *testing.T, what string, damage func(*crashfs.FS)) (told bool) {
	t.Helper()
	fs := s.fs.Crash(1, rand.New(rand.NewPCG(0, 0)))
	damage(fs)
	st, err := durable.Open(memoryDir, small(fs, durable.SyncAlways, s.seed))
	if err != nil {
		require.True(t, errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrVersion), "%s: %v", what, err)
		return true
	}
	faults, err := accountsOf(s.events, false).Compare(t.Context(), st, false)
	require.Empty(t, faults, "%s\n%s", what, strings.Join(faults, "\n"))
	if err != nil {
		require.ErrorIs(t, err, store.ErrDamaged, what)
	}
	_ = st.Close()
	return err != nil
}

// TestDamageIsToldOrWithoutEffect damages each kind of file of stores that were closed.
func TestDamageIsToldOrWithoutEffect(t *testing.T) {
	places := fromEnv("TORTURE_PLACES", 60)
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			s := newStored(t, seed)
			random := rand.New(rand.NewPCG(seed, 6))
			for kind, damage := range damages {
				for _, pattern := range []string{"*.seg", "snap-*", "FORMAT"} {
					told := s.damage(t, kind, damage, pattern, places, random)
					t.Logf("%s in %s: %d of %d told", kind, pattern, told, places)
					if pattern == "*.seg" {
						require.NotZero(t, told) // a snapshot that is damaged is passed over
					}
				}
			}
		})
	}
}

// damage damages files at random places, and returns how often the store tells it.
func (s *stored) damage(t *testing.T, kind string, damage func([]byte, int) []byte, pattern string, places int, random *rand.Rand) (told int) {
	t.Helper()
	var files []string
	for _, file := range s.files {
		if ok, _ := filepath.Match(pattern, filepath.Base(file)); ok {
			files = append(files, file)
		}
	}
	require.NotEmpty(t, files, pattern)
	for range places {
		file, part := files[random.IntN(len(files))], random.Float64()
		what := fmt.Sprintf("%s in %s at %.4f", kind, file, part)
		if s.requireToldOrWhole(t, what, func(fs *crashfs.FS) {
			fs.Edit(file, func(data []byte) []byte { return damage(data, int(part*float64(len(data)))) })
		}) {
			told++
		}
	}
	return told
}

// TestAMissingFileIsToldOrWithoutEffect removes each file, and puts each segment in the place of another.
func TestAMissingFileIsToldOrWithoutEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStored(t, 1)
		for i, file := range s.files {
			s.requireToldOrWhole(t, "without "+file, func(fs *crashfs.FS) { require.NoError(t, fs.Remove(file)) })
			if i > 0 && filepath.Ext(file) == ".seg" {
				other := s.files[i-1]
				s.requireToldOrWhole(t, file+" in the place of "+other, func(fs *crashfs.FS) { require.NoError(t, fs.Rename(file, other)) })
			}
		}
	})
}
